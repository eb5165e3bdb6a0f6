//! Splitter and appliance over a real socket and a real outbox, the appliance being a model that remembers.
//!
//! Goal: whatever threads write at the same time, and however often the link is cut, replaying the records in order
//! gives the very bytes of the backing, and the numbers are dense. Method: several threads write, punch and zero
//! overlapping extents of one volume; the model drops the connection at random and asks again from what it has.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use record::chunk::Body;
use record::conversation::frame::{FRAME_HEAD_BYTES, Message as _, frame_head};
use record::conversation::{Continuation, Member, ToAppliance, ToSplitter};
use record::geometry::Extent;
use record::ids::{BootId, GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::op::Op;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use ublk_device::request::Kind;
use ublk_splitter::backing::{AlignedBuffer, Backing};
use ublk_splitter::catalog::{Catalog, GroupRow};
use ublk_splitter::dirty_map::{DirtyMap, Missing};
use ublk_splitter::group::{Group, Identity};
use ublk_splitter::outbox::{Mode, Outbox, Owner};
use ublk_splitter::ring_io::{Blocking, RingIo, block_on};
use ublk_splitter::stream::Stream;
use ublk_splitter::volume::{Counts, Synchronisation, Volume};

const GROUP: GroupId = GroupId::from_bytes([2; 16]);
const JOURNAL: JournalId = JournalId::from_bytes([3; 16]);
const V: Incarnation = Incarnation::new(1);
const BYTES: usize = 2 << 20;

/// A backing whose writes take their time, each another one: without the range lock they would overtake each other.
struct Tardy(std::cell::Cell<u64>);

impl Tardy {
    fn dawdle(&self) {
        let n = self.0.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        self.0.set(n);
        std::thread::sleep(Duration::from_micros(n >> 55));
    }
}

impl RingIo for Tardy {
    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Blocking.read(file, offset, buf).await
    }
    async fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        self.dawdle();
        Blocking.write(file, offset, buf, dsync).await
    }
    async fn sync(&self, file: &File) -> io::Result<()> {
        Blocking.sync(file).await
    }
    async fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        self.dawdle();
        Blocking.fallocate(file, mode, offset, len).await
    }
}

/// The volume that simply remembers everything, fed by the link.
struct Model {
    next: StreamSeq,
    content: Vec<u8>,
    connections: u32,
}

fn receive(stream: &mut UnixStream) -> Option<ToAppliance> {
    let mut head = [0u8; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).ok()?;
    let (len, crc) = frame_head(head).unwrap();
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    Some(ToAppliance::decode(&body, crc).unwrap())
}

fn apply(model: &mut Model, body: &Body, payload: &[u8]) {
    for record in &body.records {
        if record.seq < model.next {
            continue;
        }
        assert_eq!(record.seq, model.next, "numbers are dense");
        model.next = model.next.next();
        let d = &record.descriptor;
        let Some(extent) = d.extent else { continue };
        let at = usize::try_from(extent.start().byte_offset()).unwrap();
        let len = usize::try_from(extent.bytes()).unwrap();
        match d.op {
            Op::Write => {
                let from = d.payload_offset as usize;
                assert!(body.damaged_blocks(record, &payload[from..from + len]).is_empty());
                model.content[at..at + len].copy_from_slice(&payload[from..from + len]);
            }
            Op::Punch | Op::Zero => model.content[at..at + len].fill(0),
            other => panic!("{other} was not expected"),
        }
    }
}

/// Serves one connection; cuts it after `chunks` of them.
fn serve(mut stream: UnixStream, model: &Mutex<Model>, chunks: usize) {
    let mut outbox = None;
    let mut left = chunks;
    while let Some(message) = receive(&mut stream) {
        let answer = match message {
            ToAppliance::Open { continuation, outbox: path, group, .. } => {
                assert_eq!(group, GROUP);
                outbox = Some(File::open(Path::new(&path)).unwrap());
                let mut model = model.lock().unwrap();
                model.connections += 1;
                match continuation {
                    Continuation::Lost { .. } => assert_eq!(model.connections, 1, "only the first is a new session"),
                    Continuation::Same { session, .. } => assert_eq!(session, Session::new(1)),
                    Continuation::CleanAfter { .. } => panic!("there was no clean stop"),
                }
                ToSplitter::Granted {
                    journal: JOURNAL,
                    session: Session::new(1),
                    expected: model.next,
                    consistent: true,
                    label: Label::default(),
                    members: vec![Member { id: VolumeId::from_bytes([4; 16]), volume: V, joined: true }],
                    indeterminate: vec![],
                    restoring: None,
                }
            }
            ToAppliance::Chunk { header_at, header_len, payload_at, payload_len, .. } => {
                let file = outbox.as_ref().unwrap();
                let (mut header, mut payload) = (vec![0; header_len as usize], vec![0; payload_len as usize]);
                file.read_exact_at(&mut header, header_at).unwrap();
                file.read_exact_at(&mut payload, payload_at).unwrap();
                let body = Body::decode(&header, JOURNAL).unwrap();
                if left == 0 {
                    return;
                }
                left -= 1;
                let mut model = model.lock().unwrap();
                apply(&mut model, &body, &payload);
                let next = model.next;
                ToSplitter::Ack { session: Session::new(1), received: next, durable: next, committed: next }
            }
            _ => ToSplitter::Alive {},
        };
        if stream.write_all(&answer.encode()).is_err() {
            return;
        }
    }
}

/// A few overlapping requests, by a random number that is a function of `seed`.
fn write_some(volume: &Volume, seed: u64) {
    let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = move |below: u64| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random % below
    };
    let ring = Tardy(std::cell::Cell::new(seed));
    for _ in 0..5 {
        let extent = Extent::new(next(64), 1 + next(64)).unwrap();
        let kind = match next(4) {
            0 => Kind::Discard(extent),
            1 => Kind::WriteZeroes { extent, nounmap: true, fua: false },
            _ => Kind::Write { extent, fua: false },
        };
        let mut buffer = AlignedBuffer::new(usize::try_from(extent.bytes()).unwrap());
        buffer.bytes_mut().fill(u8::try_from(1 + next(255)).unwrap());
        block_on(volume.serve(kind, buffer.bytes_mut(), &ring)).unwrap();
    }
}

fn map(dir: &Path) -> DirtyMap {
    let size = record::geometry::SectorCount::from_bytes(BYTES as u64).unwrap();
    DirtyMap::open(&dir.join("v.map"), VolumeId::from_bytes([4; 16]), size, JOURNAL, Missing::Clean).unwrap()
}

#[test]
fn replaying_the_records_gives_the_backing_however_often_the_link_is_cut() {
    let seed: u64 = std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    println!("SEED={seed}");
    let dir = tempfile::tempdir().unwrap();
    let backing_path = dir.path().join("backing");
    File::create(&backing_path).unwrap().set_len(BYTES as u64).unwrap();
    let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
    let row = GroupRow {
        id: GROUP.to_string(),
        name: "g".into(),
        journal: JOURNAL.to_string(),
        outbox_bytes: 0,
        clean: None,
        rollback: None,
        marking: None,
        policy: ublk_splitter::policy::Policy::default(),
        look_first: false,
        paused: false,
    };
    catalog.put_group(&row).unwrap();
    let owner = Owner { boot: BootId::from_bytes([1; 16]), group: GROUP, journal: JOURNAL };
    let (outbox, _) = Outbox::open(&dir.path().join("box"), owner, 32, Mode::Waiting).unwrap();
    let stream = Stream::new("g", outbox, None, Mode::Waiting, None, ublk_splitter::clock::of_host);
    let me =
        Identity { id: SplitterId::from_bytes([9; 16]), name: "main".to_owned(), life: SplitterIncarnation::new(1) };
    let group = Arc::new(Group::new("g", GROUP, JOURNAL, me, stream, None, None, catalog));
    let volume = Arc::new(Volume {
        name: "v".into(),
        id: VolumeId::from_bytes([4; 16]),
        incarnation: V,
        backing: Backing::open(&backing_path, None).unwrap(),
        map: map(dir.path()),
        stream: Arc::clone(&group.stream),
        jobs: group.jobs.clone(),
        counts: Counts::default(),
        sync: Synchronisation::default(),
    });
    group.add_volume(Arc::clone(&volume));

    let socket = dir.path().join("link.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let model = Arc::new(Mutex::new(Model { next: StreamSeq::FIRST, content: vec![0; BYTES], connections: 0 }));
    let calm = Arc::new(AtomicBool::new(false));
    let appliance = {
        let (model, calm, group) = (Arc::clone(&model), Arc::clone(&calm), Arc::clone(&group));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if group.quits() {
                    return;
                }
                let chunks = if calm.load(Ordering::Acquire) { usize::MAX } else { 3 };
                serve(stream.unwrap(), &model, chunks);
            }
        })
    };
    let link = {
        let (group, socket) = (Arc::clone(&group), socket.clone());
        std::thread::spawn(move || ublk_splitter::link::run(&group, &socket))
    };
    assert!(group.wait_granted(Duration::from_secs(10)));

    for burst in 0..60u64 {
        calm.store(burst == 59, Ordering::Release);
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let volume = &volume;
                scope.spawn(move || write_some(volume, seed * 1_000_003 + burst * 4 + thread));
            }
        });
        let laid = group.stream.marks().laid;
        assert_eq!(laid.get(), 1 + (burst + 1) * 4 * 5, "every request has a record");
        let deadline = Instant::now() + Duration::from_secs(60);
        while !group.stream.wait_durable(laid, Duration::from_secs(1)) {
            assert!(Instant::now() < deadline, "everything arrives once the link stands: {:?}", group.stream.marks());
        }
        let on_disk = std::fs::read(&backing_path).unwrap();
        let model = model.lock().unwrap();
        assert_eq!(model.next, laid);
        assert!(model.content == on_disk, "the history up to {laid} ends in the backing's bytes");
    }
    assert!(model.lock().unwrap().connections > 1, "the link was cut at least once");
    group.quit();
    link.join().unwrap();
    drop(UnixStream::connect(&socket));
    appliance.join().unwrap();
}
