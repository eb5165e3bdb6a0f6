//! A splitter that does exactly what a test tells it, over the real socket, with a plain file for an outbox.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use record::build::BodyBuilder;
use record::chunk::Descriptor;
use record::conversation::frame::{FRAME_HEAD_BYTES, Message, frame_head};
use record::conversation::{Bytes, Continuation, Member, ToAppliance, ToSplitter, VERSION, VolumeExtent};
use record::geometry::Extent;
use record::ids::{GroupId, Incarnation, JournalId, SplitterId};
use record::member::BookmarkNote;
use record::op::Op;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};

/// Every splitter of these tests.
pub const SPLITTER: SplitterId = SplitterId::from_bytes(*b"splitter of test");

/// How long an answer may take before a test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What `Granted` said.
#[derive(Clone, Debug)]
pub struct Grant {
    pub journal: JournalId,
    pub session: Session,
    pub expected: StreamSeq,
    pub consistent: bool,
    pub members: Vec<Member>,
    pub restoring: Option<u64>,
}

/// One record to be laid.
#[derive(Clone, Debug)]
pub struct Rec {
    pub op: Op,
    pub volume: Incarnation,
    pub extent: Option<Extent>,
    pub payload: Vec<u8>,
}

pub fn ext(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("extent")
}

pub fn write(volume: Incarnation, start: u64, data: Vec<u8>) -> Rec {
    let extent = ext(start, data.len() as u64 / 512);
    Rec { op: Op::Write, volume, extent: Some(extent), payload: data }
}

pub fn punch(volume: Incarnation, start: u64, count: u64) -> Rec {
    Rec { op: Op::Punch, volume, extent: Some(ext(start, count)), payload: Vec::new() }
}

pub fn bare(op: Op) -> Rec {
    Rec { op, volume: Incarnation::NONE, extent: None, payload: Vec::new() }
}

pub fn bookmark(ticket: u64, name: &str) -> Rec {
    let payload = BookmarkNote { ticket, name: name.to_owned() }.encode();
    Rec { payload, ..bare(Op::Bookmark) }
}

/// The outbox: a file that outlives connections, and the chunks that lie in it.
pub struct Outbox {
    pub path: PathBuf,
    file: File,
    end: u64,
    label: u64,
}

impl Outbox {
    pub fn new(path: &Path) -> Self {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).expect("outbox");
        file.set_len(16 << 20).expect("length");
        Self { path: path.to_owned(), file, end: 0, label: control::time::now() }
    }

    /// Lays a sealed chunk; the frame that announces it.
    pub fn lay(&mut self, grant: &Grant, first: u64, records: &[Rec]) -> ToAppliance {
        let mut body = BodyBuilder::new(grant.journal, grant.session, StreamSeq::new(first));
        for record in records {
            self.label = (self.label + 1).max(control::time::now());
            let descriptor = Descriptor::bare(record.op, record.volume, record.extent, Label::from_nanos(self.label));
            assert!(body.push(descriptor, &record.payload), "the chunk is full");
        }
        let body = body.finish();
        let (header_at, payload_at) = (self.end, self.end + body.header.len() as u64);
        self.file.write_all_at(&body.header, header_at).expect("lay");
        self.file.write_all_at(&body.payload, payload_at).expect("lay");
        self.end = payload_at + body.payload.len() as u64;
        ToAppliance::Chunk {
            session: grant.session,
            first: StreamSeq::new(first),
            header_at,
            header_len: u32::try_from(body.header.len()).expect("small"),
            payload_at,
            payload_len: u32::try_from(body.payload.len()).expect("small"),
        }
    }
}

/// One connection.
pub struct Link {
    stream: UnixStream,
}

impl Link {
    pub fn connect(socket: &Path) -> Self {
        let stream = UnixStream::connect(socket).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        Self { stream }
    }

    pub fn say(&mut self, message: &ToAppliance) {
        self.stream.write_all(&message.encode()).expect("send");
    }

    /// The next frame that is no sign of life; `None` at the end of the connection.
    pub fn hear(&mut self) -> Option<ToSplitter> {
        loop {
            let mut head = [0; FRAME_HEAD_BYTES];
            self.stream.read_exact(&mut head).ok()?;
            let (len, crc) = frame_head(head).expect("frame");
            let mut body = vec![0; len];
            self.stream.read_exact(&mut body).ok()?;
            match ToSplitter::decode(&body, crc).expect("message") {
                ToSplitter::Alive {} => {}
                message => return Some(message),
            }
        }
    }

    pub fn expect(&mut self) -> ToSplitter {
        self.hear().expect("the connection ended")
    }

    /// The next frame that is no ACK: those come whenever the committed mark moves.
    pub fn word(&mut self) -> ToSplitter {
        loop {
            match self.expect() {
                ToSplitter::Ack { .. } => {}
                other => return other,
            }
        }
    }

    /// Hears the rest of what was on its way, and the end.
    pub fn ended(&mut self) {
        while self.hear().is_some() {}
    }

    pub fn open(&mut self, group: GroupId, splitter: u64, continuation: Continuation, outbox: &Path) {
        self.say(&ToAppliance::Open {
            version: VERSION,
            group,
            splitter: SPLITTER,
            name: "main".to_owned(),
            life: SplitterIncarnation::new(splitter),
            continuation,
            outbox: outbox.to_string_lossy().into_owned(),
            relied: None,
        });
    }

    pub fn granted(&mut self) -> Grant {
        match self.expect() {
            ToSplitter::Granted { journal, session, expected, consistent, members, restoring, .. } => {
                Grant { journal, session, expected, consistent, members, restoring }
            }
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Waits until everything below `next` is durable, and committed if asked; the last ACK.
    pub fn acked(&mut self, next: u64, committed: bool) -> (u64, u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < until, "no ACK of {next}");
            match self.expect() {
                ToSplitter::Ack { durable, committed: mark, .. } => {
                    if durable.get() >= next && (!committed || mark.get() >= next) {
                        return (durable.get(), mark.get());
                    }
                }
                other => panic!("not an ACK: {other:?}"),
            }
        }
    }

    /// Brings the whole content of a volume into the replica and waits until it has joined.
    pub fn synchronise(&mut self, volume: Incarnation, content: &[u8]) {
        self.say(&ToAppliance::SyncBegin { volume });
        assert_eq!(self.word(), ToSplitter::SyncAck { volume, bytes: 0 });
        let extent = ext(0, content.len() as u64 / 512);
        self.say(&ToAppliance::SyncData { volume, extent, content: Bytes(content.to_vec()) });
        assert_eq!(self.word(), ToSplitter::SyncAck { volume, bytes: content.len() as u64 });
        self.say(&ToAppliance::SyncEnd { volume });
        loop {
            match self.expect() {
                ToSplitter::Joined { volume: joined } => return assert_eq!(joined, volume),
                ToSplitter::Ack { .. } => {}
                other => panic!("not joined: {other:?}"),
            }
        }
    }

    /// The extents that a rollback owes.
    pub fn owed(&mut self, id: u64) -> Vec<VolumeExtent> {
        let mut owed = Vec::new();
        loop {
            match self.expect() {
                ToSplitter::Restore { id: which, extents, last } => {
                    assert_eq!(which, id);
                    owed.extend(extents);
                    if last {
                        return owed;
                    }
                }
                ToSplitter::Ack { .. } => {}
                other => panic!("not RESTORE: {other:?}"),
            }
        }
    }
}
