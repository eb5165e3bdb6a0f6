//! A small journal that the engine wrote, what must be in it, and the program to read it with.

use journal::place::SEGMENTS;
use journal::{Create, JoinRequest, Journal};
use kit::Laying;
use record::build::BodyBuilder;
use record::chunk::{Body, Descriptor};
use record::conversation::Continuation;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use record::header::{ChunkHeader, HEADER_BYTES};
use record::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::op::Op;
use record::position::{Label, Session, SplitterIncarnation};
use record::streams::{StreamAt, Streams};
use serde_json::Value;
use std::collections::BTreeMap;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// What the counters of the writes are counted from: found nowhere else in a journal.
pub const COUNTER: u64 = 0x1122_3344_5566_0000;
/// Writes to each of the two volumes.
pub const WRITES: u64 = 5;
/// Sectors of a volume.
pub const SECTORS: usize = 2048;
/// What is in the sectors that were not written since the volume joined.
const JOINED: [usize; 2] = [8, 200];
const JOURNAL: JournalId = JournalId::from_bytes(*b"journal of tests");
const SPLITTER: SplitterId = SplitterId::from_bytes(*b"splitter of test");

pub fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("an extent")
}

/// How a run ended.
#[derive(Debug)]
pub struct Ran {
    pub status: i32,
    pub out: String,
    pub err: String,
    pub bytes: Vec<u8>,
}

/// Runs the program.
pub fn inspect(words: &[&str]) -> Ran {
    let ran = Command::new(env!("CARGO_BIN_EXE_inspect")).args(words).output().expect("run inspect");
    Ran {
        status: ran.status.code().expect("an exit status"),
        out: String::from_utf8_lossy(&ran.stdout).into_owned(),
        err: String::from_utf8_lossy(&ran.stderr).into_owned(),
        bytes: ran.stdout,
    }
}

/// A journal of group `shop` with the volumes `data` and `log`.
#[derive(Debug)]
pub struct Made {
    folder: TempDir,
    dir: String,
    head: u64,
    writes: Vec<u64>,
    joined: BTreeMap<&'static str, u64>,
}

impl Made {
    /// The journal, closed cleanly: both volumes join; five times a block of `data` and then of `log` is written, with
    /// the same counter in front; behind the second time come the bookmark `midway`, a flush and a punch on `data`.
    pub fn new() -> Self {
        Self::ended(|journal| journal.close().expect("close the journal"))
    }

    /// The same, left as a kill leaves it.
    pub fn killed() -> Self {
        Self::ended(drop)
    }

    fn ended(end: impl FnOnce(Journal)) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("journal");
        let now = Label::from_nanos(1_795_341_600_000_000_000);
        let create = Create {
            journal: JOURNAL,
            group: GroupId::from_bytes([7; 16]),
            group_name: "shop".into(),
            now,
            segment_bytes: Create::SEGMENT_BYTES_MIN,
        };
        Journal::create(&path, &create).expect("make a journal");
        let journal = Journal::open(&path).expect("open it").journal;
        let mut joined = BTreeMap::new();
        let mut volumes = Vec::new();
        for (name, seed) in [("data", 1), ("log", 2)] {
            let request = JoinRequest {
                volume: VolumeId::from_bytes([seed; 16]),
                name: name.into(),
                size: SectorCount::new(SECTORS as u64).expect("a size"),
                block: LogicalBlock::SECTOR,
                splitter: SPLITTER,
            };
            let volume = journal.join(&request, now).expect("join");
            let replica = folder.path().join(format!("{name}.replica"));
            std::fs::write(&replica, as_joined(name)).expect("the replica");
            journal.attach_base(volume, &replica).expect("attach it");
            joined.insert(name, journal.joined(volume, now).expect("joined").get());
            volumes.push(volume);
        }
        let granted = journal
            .grant(SPLITTER, SplitterIncarnation::FIRST, &Continuation::Lost { reason: "the first session".into() })
            .expect("a session");
        let mut laying = Laying::new(JOURNAL, granted.session, granted.expected, granted.label);
        let mut writes = Vec::new();
        for n in 1..=WRITES {
            for (volume, name) in volumes.iter().zip(["data", "log"]) {
                laying.write(*volume, extent(64, 8), block(name, n));
                append(&journal, granted.session, &mut laying);
                if name == "data" {
                    writes.push(journal.reader().timeline().head.position.get());
                }
            }
            if n == 2 {
                laying.bookmark("midway");
                laying.mark(Op::Flush);
                laying.change(Op::Punch, volumes[0], extent(192, 16));
                append(&journal, granted.session, &mut laying);
            }
        }
        let head = journal.reader().timeline().head.position.get();
        end(journal);
        let dir = path.to_str().expect("UTF-8").to_owned();
        Self { folder, dir, head, writes, joined }
    }

    /// The journal's directory.
    pub fn dir(&self) -> &str {
        &self.dir
    }

    pub fn path(&self) -> &Path {
        Path::new(&self.dir)
    }

    /// A folder to put files in; gone with the journal.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The newest position.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// The position of the `n`-th write to `data`.
    pub fn position_of_write(&self, n: u64) -> u64 {
        self.writes[usize::try_from(n - 1).expect("small")]
    }

    /// The position from which a volume is in images.
    pub fn joined(&self, name: &str) -> u64 {
        self.joined[name]
    }

    /// The path of a volume's replica.
    pub fn replica(&self, name: &str) -> String {
        self.folder.path().join(format!("{name}.replica")).to_str().expect("UTF-8").to_owned()
    }

    /// All of a volume behind its `n`-th write.
    pub fn expected(name: &str, n: u64) -> Vec<u8> {
        let mut bytes = as_joined(name);
        bytes[64 * 512..72 * 512].copy_from_slice(&block(name, n));
        if name == "data" && n > 2 {
            bytes[192 * 512..208 * 512].fill(0);
        }
        bytes
    }

    /// Where the journal holds the `n`-th write to `data`: the file, relative to the directory, and the offset in it.
    pub fn find_write(&self, n: u64) -> (String, u64) {
        let wanted = block("data", n);
        let found: Vec<(String, u64)> = self
            .contents()
            .into_iter()
            .filter_map(|(name, bytes)| {
                let at = bytes.chunks_exact(512).position(|sector| *sector == wanted[..512])?;
                Some((name, at as u64 * 512))
            })
            .collect();
        assert_eq!(found.len(), 1, "{found:?}");
        found.into_iter().next().expect("one place")
    }

    /// Flips a bit.
    pub fn flip(&self, file: &str, offset: u64) {
        let file = std::fs::File::options().read(true).write(true).open(self.path().join(file)).expect("open it");
        let mut byte = [0];
        file.read_exact_at(&mut byte, offset).expect("read it");
        file.write_all_at(&[byte[0] ^ 0x10], offset).expect("write it");
        file.sync_all().expect("sync it");
    }

    /// What `dump` says of the record at a position.
    pub fn record(&self, position: u64) -> Value {
        let position = position.to_string();
        let ran = inspect(&["dump", self.dir(), "--from", &position, "--to", &position, "--json"]);
        serde_json::from_str(&ran.out).expect("one record")
    }

    /// Puts the front of a chunk behind the last one, as a power cut leaves it.
    pub fn tear_tail(&self) {
        let last = self.record(self.head);
        let path = self.path().join(last["file"].as_str().expect("a file"));
        let file = std::fs::File::options().read(true).write(true).open(path).expect("open it");
        let at = last["offset"].as_u64().expect("an offset");
        let mut head = [0; HEADER_BYTES];
        file.read_exact_at(&mut head, at).expect("read it");
        let (before, previous) = ChunkHeader::decode(&head, JOURNAL).expect("the last chunk's header");
        let stream = *before.streams.iter().next().expect("the splitter's stream");
        let mut builder = BodyBuilder::new(JOURNAL, stream.session, stream.next);
        let write = Descriptor::bare(Op::Write, Incarnation::new(1), Some(extent(64, 64)), before.label);
        assert!(builder.push(write, &vec![0x5a; 64 * 512]));
        let body = builder.finish();
        let decoded = Body::decode(&body.header, JOURNAL).expect("a body");
        let header = ChunkHeader {
            number: before.number.next(),
            first_position: before.next_position,
            next_position: before.next_position.plus(1),
            committed: before.number,
            previous,
            body_header_len: decoded.header.header_len,
            payload_len: decoded.header.payload_len,
            body_digest: decoded.digest,
            streams: Streams::one(StreamAt { next: stream.next.plus(1), ..stream }),
            offset: at + before.disk_bytes(),
            ..before
        };
        let torn = [header.encode().0.to_vec(), body.header, body.payload[..8192].to_vec()].concat();
        file.write_all_at(&torn, at + before.disk_bytes()).expect("write it");
        file.sync_all().expect("sync it");
    }

    /// Every file of the journal, by its name relative to the directory.
    pub fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for folder in ["", SEGMENTS] {
            for entry in std::fs::read_dir(self.path().join(folder)).expect("a folder") {
                let path: PathBuf = entry.expect("an entry").path();
                if path.is_file() {
                    let name = path.strip_prefix(self.path()).expect("within").to_str().expect("UTF-8").to_owned();
                    files.insert(name, std::fs::read(&path).expect("read it"));
                }
            }
        }
        files
    }
}

fn as_joined(name: &str) -> Vec<u8> {
    let mut bytes = vec![0; SECTORS * 512];
    for sector in JOINED {
        bytes[sector * 512..(sector + 1) * 512].fill(name.as_bytes()[0]);
    }
    bytes
}

/// A block that starts with a counter, and goes on with the volume's letter.
fn block(name: &str, n: u64) -> Vec<u8> {
    let mut block = vec![name.as_bytes()[0]; 4096];
    block[..8].copy_from_slice(&(COUNTER + n).to_le_bytes());
    block
}

fn append(journal: &Journal, session: Session, laying: &mut Laying) {
    let chunk = laying.seal().expect("a chunk");
    journal.append_many(session, &[(&chunk.header, &chunk.payload)]).expect("append it");
}
