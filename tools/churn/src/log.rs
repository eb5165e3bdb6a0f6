//! The history file: what a run did, in the order in which it did it, readable whatever ended the run.
//!
//! ```text
//! header, 128 bytes                          entry, 40 bytes
//! at   bytes                                 at  bytes
//!   0  8  "undchlog"                          0  4  checksum of bytes 4..40
//!   8  4  version, 1                          4  1  what: 1 submitted, 2 completed, 3 failed, 4 ended
//!  12  4  bytes in an entry, 40               5  1  kind of the operation, 1 to 6
//!  16  8  run                                 6  2  lane
//!  24  8  seed                                8  8  operation: 0, 1, 2, ... as submitted
//!  32  8  first sector of the region         16  8  first sector (failed: the errno)
//!  40  8  sectors of the region              24  8  sectors
//!  48  8  longest write that is one request  32  8  wall clock, ns since 1970 UTC
//!  56  8  longest discard that is one request
//!  64  8  longest zeroing that is one request
//!  72  8  discard granularity, sectors
//!  80  8  1: a discarded sector reads zero; 0: it may keep what it had
//! 120  8  checksum of bytes 0..120
//! ```
//! Little-endian. Sectors have 512 bytes.
//!
//! **The order of the entries is the order of events**, whatever the clock did: the entry of an end is appended after
//! the operation came back, and the entry of a beginning is in the file before the operation is submitted. So where A's
//! end stands before B's beginning, A really had completed before B was submitted. A killed process leaves all of that
//! in the page cache; after a power cut of the machine the file is complete if it lies elsewhere (a shared folder of the
//! host) or was opened with `synced`. A torn last entry is no entry.

use crate::sector::{digest, get, put};
use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

/// Bytes of the header.
pub const HEADER: usize = 128;
/// Bytes of an entry.
pub const ENTRY: usize = 40;
const MAGIC: [u8; 8] = *b"undchlog";
const VERSION: u64 = 1;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A write.
    Write,
    /// A write that is durable when it completes.
    Fua,
    /// A discard.
    Discard,
    /// Zeros, and the space stays allocated (NOUNMAP).
    Zero,
    /// Zeros, and the space may be given back.
    Punch,
    /// A flush.
    Flush,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Write, Self::Fua, Self::Discard, Self::Zero, Self::Punch, Self::Flush];

    /// The name in options and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Fua => "fua",
            Self::Discard => "discard",
            Self::Zero => "zero",
            Self::Punch => "punch",
            Self::Flush => "flush",
        }
    }

    /// Whether it leaves data that says what it is.
    pub fn writes(self) -> bool {
        match self {
            Self::Write | Self::Fua => true,
            Self::Discard | Self::Zero | Self::Punch | Self::Flush => false,
        }
    }

    fn code(self) -> u8 {
        match self {
            Self::Write => 1,
            Self::Fua => 2,
            Self::Discard => 3,
            Self::Zero => 4,
            Self::Punch => 5,
            Self::Flush => 6,
        }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The operation is about to be submitted.
    Submitted,
    /// It came back well.
    Completed,
    /// It came back with this errno.
    Failed(i32),
    /// The run ended by itself.
    Ended,
}

/// One entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub event: Event,
    /// To what kind of operation.
    pub kind: Kind,
    /// Of which lane.
    pub lane: u16,
    /// Its number.
    pub operation: u64,
    /// Its first sector.
    pub sector: u64,
    /// Its sectors; none for a flush.
    pub sectors: u64,
    /// The wall clock, nanoseconds since 1970 UTC. It describes; it never orders.
    pub wall_ns: u64,
}

/// What the header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The run: no two have the same.
    pub run: u64,
    /// Where its chance came from.
    pub seed: u64,
    /// First sector of the region that it changes.
    pub first: u64,
    /// Sectors of that region.
    pub sectors: u64,
    /// What the device takes as one request.
    pub limits: Limits,
}

/// How long a request may be and still reach the device in one piece, in sectors; 0 promises nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A write.
    pub write: u64,
    /// A discard.
    pub discard: u64,
    /// A zeroing, of either kind.
    pub zero: u64,
    /// The kernel cuts a discard at the first multiple of this that is inside it.
    pub granularity: u64,
    /// Whether a discarded sector reads zero; otherwise it may keep what it had.
    pub discard_zeroes: bool,
}

impl Limits {
    /// Whether the request reaches the device in one piece.
    pub fn is_one_request(&self, kind: Kind, sector: u64, sectors: u64) -> bool {
        match kind {
            Kind::Write | Kind::Fua => sectors <= self.write,
            Kind::Zero | Kind::Punch => sectors <= self.zero,
            Kind::Discard => {
                let aligned = sector.next_multiple_of(self.granularity.max(1));
                sectors <= self.discard && (aligned == sector || sector + sectors <= aligned)
            }
            Kind::Flush => true,
        }
    }
}

impl Header {
    fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        put(&mut bytes, 8, VERSION | (ENTRY as u64) << 32);
        let limits = &self.limits;
        let words = [self.run, self.seed, self.first, self.sectors, limits.write, limits.discard, limits.zero];
        let more = [limits.granularity, u64::from(limits.discard_zeroes)];
        for (at, word) in (16..).step_by(8).zip(words.into_iter().chain(more)) {
            put(&mut bytes, at, word);
        }
        let sum = digest(&bytes[..120]);
        put(&mut bytes, 120, sum);
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Self> {
        if bytes.len() < HEADER || bytes[..8] != MAGIC {
            bail!("it is not a log of churn");
        }
        if get(bytes, 8) != VERSION | (ENTRY as u64) << 32 {
            bail!("it was written by another version of churn");
        }
        if get(bytes, 120) != digest(&bytes[..120]) {
            bail!("its header is damaged");
        }
        let limits = Limits {
            write: get(bytes, 48),
            discard: get(bytes, 56),
            zero: get(bytes, 64),
            granularity: get(bytes, 72),
            discard_zeroes: get(bytes, 80) != 0,
        };
        Ok(Self { run: get(bytes, 16), seed: get(bytes, 24), first: get(bytes, 32), sectors: get(bytes, 40), limits })
    }
}

impl Entry {
    fn bytes(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        let (what, sector) = match self.event {
            Event::Submitted => (1, self.sector),
            Event::Completed => (2, self.sector),
            Event::Failed(errno) => (3, u64::from(errno.unsigned_abs())),
            Event::Ended => (4, self.sector),
        };
        bytes[4] = what;
        bytes[5] = self.kind.code();
        bytes[6..8].copy_from_slice(&self.lane.to_le_bytes());
        for (at, word) in [(8, self.operation), (16, sector), (24, self.sectors), (32, self.wall_ns)] {
            put(&mut bytes, at, word);
        }
        let sum = short(&bytes[4..]);
        bytes[..4].copy_from_slice(&sum);
        bytes
    }

    /// `None` when these bytes are no whole entry.
    fn read(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < ENTRY || bytes[..4] != short(&bytes[4..ENTRY]) {
            return None;
        }
        let event = match bytes[4] {
            1 => Event::Submitted,
            2 => Event::Completed,
            3 => Event::Failed(i32::try_from(get(bytes, 16)).ok()?),
            4 => Event::Ended,
            _ => return None,
        };
        let kind = Kind::ALL.into_iter().find(|kind| kind.code() == bytes[5])?;
        let lane = u16::from_le_bytes([bytes[6], bytes[7]]);
        let (operation, sector, sectors) = (get(bytes, 8), get(bytes, 16), get(bytes, 24));
        Some(Self { event, kind, lane, operation, sector, sectors, wall_ns: get(bytes, 32) })
    }
}

fn short(bytes: &[u8]) -> [u8; 4] {
    let sum = digest(bytes).to_le_bytes();
    [sum[0], sum[1], sum[2], sum[3]]
}

/// A log that is being written, by many threads.
#[derive(Debug)]
pub struct Writer {
    synced: bool,
    file: Mutex<File>,
    tail: Mutex<Tail>,
    written: Condvar,
}

/// Bounded by the number of lanes: each waits until its beginning is in the file.
#[derive(Debug, Default)]
struct Tail {
    waiting: Vec<u8>,
    /// Operations submitted so far.
    operations: u64,
    /// Bytes appended, and of them in the file.
    appended: u64,
    in_file: u64,
    writing: bool,
    broken: Option<String>,
}

impl Writer {
    /// Makes the file; one that is there already is refused, since it is somebody's history. `synced` has every
    /// beginning on disk before the operation is submitted.
    pub fn create(path: &Path, header: &Header, synced: bool) -> Result<Self> {
        let mut file = File::create_new(path).with_context(|| format!("create the log {}", path.display()))?;
        file.write_all(&header.bytes()).with_context(|| format!("write the log {}", path.display()))?;
        Ok(Self { synced, file: Mutex::new(file), tail: Mutex::default(), written: Condvar::new() })
    }

    /// Numbers an operation that is about to be submitted; returns when its entry is in the file.
    pub fn submitted(&self, kind: Kind, lane: u16, sector: u64, sectors: u64) -> Result<u64> {
        let mut tail = lock(&self.tail);
        let operation = tail.operations;
        tail.operations += 1;
        append(&mut tail, Event::Submitted, kind, lane, (operation, sector, sectors));
        self.wait_written(tail)?;
        Ok(operation)
    }

    /// Notes how an operation came back. The entry is in the file at the latest before the lane's next beginning.
    pub fn came_back(&self, event: Event, kind: Kind, lane: u16, operation: u64, sector: u64, sectors: u64) {
        append(&mut lock(&self.tail), event, kind, lane, (operation, sector, sectors));
    }

    /// Notes that the run ended by itself.
    pub fn ended(&self) -> Result<()> {
        let mut tail = lock(&self.tail);
        let operations = tail.operations;
        append(&mut tail, Event::Ended, Kind::Flush, 0, (operations, 0, 0));
        self.wait_written(tail)
    }

    /// Waits until all that was appended so far is in the file. Whoever finds nobody writing writes for all.
    fn wait_written<'a>(&'a self, mut tail: MutexGuard<'a, Tail>) -> Result<()> {
        let end = tail.appended;
        loop {
            if let Some(broken) = &tail.broken {
                bail!("the log cannot be written: {broken}");
            }
            if tail.in_file >= end {
                return Ok(());
            }
            if tail.writing {
                tail = self.written.wait(tail).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            tail.writing = true;
            let bytes = std::mem::take(&mut tail.waiting);
            let target = tail.appended;
            drop(tail);
            let done = self.write(&bytes);
            tail = lock(&self.tail);
            tail.writing = false;
            match done {
                Ok(()) => tail.in_file = target,
                Err(error) => tail.broken = Some(error.to_string()),
            }
            self.written.notify_all();
        }
    }

    fn write(&self, bytes: &[u8]) -> std::io::Result<()> {
        let mut file = lock(&self.file);
        file.write_all(bytes)?;
        if self.synced { file.sync_data() } else { Ok(()) }
    }
}

fn append(tail: &mut Tail, event: Event, kind: Kind, lane: u16, place: (u64, u64, u64)) {
    // Read under the lock, so that the labels rise with the entries as long as the clock does.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let wall_ns = u64::try_from(now).unwrap_or(u64::MAX);
    let (operation, sector, sectors) = place;
    let entry = Entry { event, kind, lane, operation, sector, sectors, wall_ns };
    tail.waiting.extend_from_slice(&entry.bytes());
    tail.appended += ENTRY as u64;
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads a log, a living one too: entries that come later are not seen, a torn last one is none.
pub fn read(path: &Path) -> Result<(Header, Vec<Entry>)> {
    let mut bytes = Vec::new();
    let file = File::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
    file.with_context(|| format!("read the log {}", path.display()))?;
    parse(&bytes).with_context(|| format!("read the log {}", path.display()))
}

fn parse(bytes: &[u8]) -> Result<(Header, Vec<Entry>)> {
    let header = Header::read(bytes)?;
    let mut entries = Vec::with_capacity(bytes.len() / ENTRY);
    let mut pieces = bytes[HEADER..].chunks_exact(ENTRY);
    for piece in pieces.by_ref() {
        match Entry::read(piece) {
            Some(entry) => entries.push(entry),
            None => break,
        }
    }
    // Only the very end may be torn: an entry in the middle that cannot be read would silently shorten the history.
    let lost = pieces.filter(|piece| Entry::read(piece).is_some()).count();
    if lost > 0 {
        bail!("entry {} is damaged, and {lost} good ones follow it", entries.len());
    }
    Ok((header, entries))
}

#[cfg(test)]
#[path = "log_tests.rs"]
mod tests;
