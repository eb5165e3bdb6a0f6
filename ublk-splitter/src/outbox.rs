//! The outbox: a bounded arena of chunks in a file on tmpfs, which outlives the process.
//!
//! Owns the slots and what is in them: reserving a record's place, publishing it, sealing a chunk, releasing what the
//! journal has committed, and taking over from a dead predecessor without losing or inventing a record. Deliberately
//! does not decide when to seal or what to do when it is full: `stream` and `link` do.
//!
//! When it is full, `reserve` answers `None` and nothing has changed; the group then stops recording (`stream`).

mod adopting;
pub mod arena;
pub mod layout;
pub mod table;

use crate::lock::lock;
use arena::Arena;
use layout::{HEADER_AREA, PAGE, PAYLOAD_AREA, RECORDS_MAX, Reserved};
use record::checksum::{Salt, crc32c};
use record::chunk::{BodyHeader, CRC_BYTES, DESCRIPTOR_BYTES, Descriptor, FIXED_BYTES, block_crc, header_len};
use record::conversation::ToAppliance;
use record::fault::{Bug, bug};
use record::geometry::{BLOCK_BYTES, Extent};
use record::ids::{BootId, GroupId, Incarnation, JournalId};
use record::position::{Label, Session, StreamSeq};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use table::{EntryAt, InFlight, Table};

/// Whether a group's writes get records. Stored in the outbox before the first request that acts on it is answered
/// (PROTOCOL V10). The numbers stand in the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// No session has been granted yet and nothing was written since a clean stop.
    Waiting = 0,
    /// Every request gets a record.
    Active = 1,
    /// As active; a resynchronisation runs.
    Resyncing = 2,
    /// Records were lost; requests get none until a resynchronisation begins.
    Marking = 3,
}

impl Mode {
    fn from_word(word: u64) -> Option<Self> {
        Some(match word {
            0 => Self::Waiting,
            1 => Self::Active,
            2 => Self::Resyncing,
            3 => Self::Marking,
            _ => return None,
        })
    }
}

/// Whom an outbox belongs to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Owner {
    /// This life of the host's memory.
    pub boot: BootId,
    /// The group.
    pub group: GroupId,
    /// Its journal.
    pub journal: JournalId,
}

/// The states of a slot. The numbers stand in the file.
const FREE: u64 = 0;
const OPEN: u64 = 1;
const CLOSED: u64 = 2;
const SEALED: u64 = 3;

/// No slot is open.
const NO_SLOT: usize = usize::MAX;

/// A place for one record, reserved and not yet published.
#[derive(Debug)]
#[must_use = "a reserved place that is never published blocks the stream"]
pub struct Place {
    slot: usize,
    index: usize,
    first: StreamSeq,
    payload_at: usize,
    crcs_at: usize,
    /// The record's number.
    pub seq: StreamSeq,
}

impl Place {
    /// Whether it is the first of its chunk.
    pub fn begins_a_chunk(&self) -> bool {
        self.index == 0
    }

    /// Whether no record in front of it in its chunk has a payload.
    pub fn has_first_payload(&self) -> bool {
        self.payload_at == 0
    }
}

/// A sealed chunk, ready to be sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SealedChunk {
    /// The number of its first record.
    pub first: StreamSeq,
    /// The number behind its last record.
    pub next: StreamSeq,
    /// Where its areas lie in the file, in bytes.
    pub header_at: u64,
    /// Bytes of the header area.
    pub header_len: u32,
    /// Where the payload area lies.
    pub payload_at: u64,
    /// Bytes of the payload area.
    pub payload_len: u32,
}

impl SealedChunk {
    /// What the appliance is told of it.
    pub fn message(&self, session: Session) -> ToAppliance {
        let Self { first, next: _, header_at, header_len, payload_at, payload_len } = *self;
        ToAppliance::Chunk { session, first, header_at, header_len, payload_at, payload_len }
    }
}

/// What a successor found in an outbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adopted {
    /// The mode.
    pub mode: Mode,
    /// The session, if one was granted.
    pub session: Option<Session>,
    /// The number behind the last record laid.
    pub laid: StreamSeq,
    /// The newest label.
    pub label: Label,
    /// Numbers whose record was never completed and is a NOOP now.
    pub noops: u64,
    /// Why the mode is marking.
    pub reason: String,
    /// Extents that records in the outbox call unknown: whoever was to read them again was killed.
    pub failed: Vec<(Incarnation, Extent)>,
    /// Requests that it had taken and not finished.
    pub in_flight: Vec<(EntryAt, InFlight)>,
}

/// The outbox of one group. Its mutating calls are made under the group's lock, except `publish`, which each request
/// does for its own place.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    arena: Arena,
    owner: Owner,
    salt: Salt,
    slots: usize,
    /// The number of the next record, and the slot it goes to: what the words of the slots say, kept at hand so that
    /// a write does not read them all. Changed under the group's lock only.
    next: AtomicU64,
    open: AtomicUsize,
    /// The slots in use, oldest first, kept at hand likewise.
    used: Mutex<VecDeque<usize>>,
    /// Where a header area is put together: zeros behind so many bytes.
    scratch: Mutex<(Vec<u8>, usize)>,
    // Kept open: the descriptor holds the file's lock, so that two splitters never share an outbox.
    _file: File,
}

impl Outbox {
    /// Opens the outbox at `path`, taking over what a predecessor of the same boot, group and journal left, or making
    /// an empty one in the mode `fresh`. The second value is `None` for an empty one.
    pub fn open(path: &Path, owner: Owner, slots: usize, fresh: Mode) -> io::Result<(Self, Option<Adopted>)> {
        assert!(layout::SLOTS.contains(&slots), "the number of slots is checked where it is parsed");
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)?;
        file.try_lock()?;
        let len = usize::try_from(file.metadata()?.len()).map_err(io::Error::other)?;
        if let Some(slots) = Self::slots_in(&file, len, owner)? {
            let outbox = Self::over(path, Arena::map(&file)?, owner, slots, file);
            if let Some(adopted) = outbox.adopt() {
                return Ok((outbox, Some(adopted)));
            }
            drop(outbox);
            return Self::fresh(path, owner, slots, fresh).map(|o| (o, None));
        }
        drop(file);
        Self::fresh(path, owner, slots, fresh).map(|o| (o, None))
    }

    fn over(path: &Path, arena: Arena, owner: Owner, slots: usize, file: File) -> Self {
        let (next, open) = (AtomicU64::new(StreamSeq::FIRST.get()), AtomicUsize::new(NO_SLOT));
        let salt = Salt::of(owner.journal);
        let scratch = Mutex::new((vec![0; HEADER_AREA], 0));
        Self { path: path.into(), arena, scratch, owner, salt, slots, next, open, used: Mutex::default(), _file: file }
    }

    fn fresh(path: &Path, owner: Owner, slots: usize, mode: Mode) -> io::Result<Self> {
        // A new file, so that an appliance that still maps the old one keeps reading the old bytes.
        match std::fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)?;
        file.try_lock()?;
        let bytes = layout::file_bytes(slots);
        file.set_len(bytes as u64)?;
        // Every page is allocated now: a full tmpfs is an error here, and not a fatal signal in a write later.
        nix::fcntl::fallocate(
            &file,
            nix::fcntl::FallocateFlags::empty(),
            0,
            i64::try_from(bytes).map_err(io::Error::other)?,
        )?;
        let arena = Arena::map(&file)?;
        arena.settle();
        let outbox = Self::over(path, arena, owner, slots, file);
        outbox.arena.store(layout::MODE_AT, mode as u64);
        outbox.arena.store(layout::RELEASED_AT, StreamSeq::FIRST.get());
        let head = static_part(owner, slots);
        outbox.arena.write(0, &head);
        outbox.arena.write(layout::STATIC_CRC_AT, &crc32c(&head).to_le_bytes());
        Ok(outbox)
    }

    /// The file that the appliance maps.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of payload area in use and in all.
    pub fn usage(&self) -> (u64, u64) {
        let used = lock(&self.used).len() * PAYLOAD_AREA;
        (used as u64, (self.slots * PAYLOAD_AREA) as u64)
    }

    /// Whether more than half of the slots are in use: what reads in the background waits then.
    pub fn is_crowded(&self) -> bool {
        lock(&self.used).len() * 2 > self.slots
    }

    /// Starts a session in an empty outbox: whatever was in it is dropped first. A process killed at any place in here
    /// leaves an outbox that says that records are missing, or one of the new session.
    pub fn begin(&self, session: Session, mode: Mode) {
        self.arena.store(layout::MODE_AT, Mode::Marking as u64);
        // Everything laid counts as released before the first slot is free: what is left then is a dense run.
        self.arena.store(layout::RELEASED_AT, self.laid().get());
        for slot in 0..self.slots {
            self.set_state(slot, FREE);
        }
        lock(&self.used).clear();
        self.next.store(StreamSeq::FIRST.get(), Ordering::Relaxed);
        self.open.store(NO_SLOT, Ordering::Relaxed);
        self.arena.store(layout::SESSION_AT, session.get());
        self.arena.store(layout::RELEASED_AT, StreamSeq::FIRST.get());
        self.arena.store(layout::MODE_AT, mode as u64);
    }

    /// The in-flight table, for whoever holds the group's lock: it is under that one, and has none of its own. To be asked for
    /// once: two would give out the same entries.
    pub fn table(&self) -> Table {
        Table::adopt(&self.arena, layout::table_at(self.slots)).0
    }

    /// Enters a request into the in-flight table. `None` when it is full.
    pub fn enter(&self, table: &mut Table, entry: InFlight) -> Option<EntryAt> {
        table.enter(&self.arena, entry)
    }

    /// Erases a request from it.
    pub fn erase(&self, table: &mut Table, at: EntryAt) {
        table.erase(&self.arena, at);
    }

    /// Stores the mode.
    pub fn set_mode(&self, mode: Mode) {
        self.arena.store(layout::MODE_AT, mode as u64);
    }

    /// Stores mode = marking and why, before the next request is answered without a record.
    pub fn set_marking(&self, reason: &str) {
        let mut end = reason.len().min(layout::REASON_MAX);
        while !reason.is_char_boundary(end) {
            end -= 1;
        }
        let text = &reason.as_bytes()[..end];
        let mut bytes = Vec::with_capacity(1 + text.len());
        bytes.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        bytes.extend_from_slice(text);
        self.arena.write(layout::REASON_AT, &bytes);
        if !bug(Bug::MarkingNotStored) {
            self.arena.store(layout::MODE_AT, Mode::Marking as u64);
        }
    }

    fn reason(&self) -> String {
        let len = usize::from(self.arena.read(layout::REASON_AT, 1)[0]);
        String::from_utf8_lossy(&self.arena.read(layout::REASON_AT + 1, len)).into_owned()
    }

    /// The number behind the last one reserved.
    pub fn laid(&self) -> StreamSeq {
        StreamSeq::new(self.next.load(Ordering::Relaxed))
    }

    /// Everything below this number has been released.
    pub fn released(&self) -> StreamSeq {
        StreamSeq::new(self.arena.load(layout::RELEASED_AT))
    }

    /// Reserves the place of the next record, with room for its payload. `None`, and nothing changed, when the outbox
    /// is full.
    pub fn reserve(&self, payload_bytes: usize) -> Option<Place> {
        assert!(payload_bytes <= PAYLOAD_AREA, "a device's requests are smaller than a slot");
        let next = self.laid();
        if let Some(slot) = self.open_slot() {
            let reserved = self.reserved(slot);
            if let Some((at, with)) = reserved.with(payload_bytes) {
                return Some(self.take_place(slot, reserved, with, at));
            }
            self.close_open();
        }
        // The lowest: while the journal keeps up it is always the same few, which are in the caches.
        let slot = (0..self.slots).find(|slot| self.state(*slot) == FREE)?;
        let (at, with) = Reserved::default().with(payload_bytes)?;
        let control = layout::control_at(slot);
        // Nobody looks at them before the slot is open.
        self.arena.write(publish_at(slot, 0), &UNPUBLISHED);
        self.arena.store(control + layout::FIRST_AT, next.get());
        self.arena.store(control + layout::RESERVED_AT, 0);
        self.arena.store(control + layout::SEALED_AT, 0);
        self.set_state(slot, OPEN);
        self.open.store(slot, Ordering::Relaxed);
        lock(&self.used).push_back(slot);
        Some(self.take_place(slot, Reserved::default(), with, at))
    }

    fn take_place(&self, slot: usize, before: Reserved, with: Reserved, payload_at: usize) -> Place {
        self.arena.store(layout::control_at(slot) + layout::RESERVED_AT, with.pack());
        let first = self.first(slot);
        self.next.store(first.plus(with.records as u64).get(), Ordering::Relaxed);
        Place {
            slot,
            index: before.records,
            first,
            payload_at,
            crcs_at: before.crcs,
            seq: first.plus(before.records as u64),
        }
    }

    /// Completes a record at its place. From here its bytes never change (PROTOCOL R7).
    #[expect(clippy::needless_pass_by_value, reason = "a place is published once")]
    pub fn publish(&self, place: Place, session: Session, mut descriptor: Descriptor, payload: &[u8]) {
        let salt = self.salt;
        let start = descriptor.extent.map_or(0, |e| e.start().index());
        let crcs_at = layout::control_at(place.slot) + PAGE + place.crcs_at * CRC_BYTES;
        for (i, block) in payload.chunks(BLOCK_BYTES).enumerate() {
            let crc = block_crc(salt, block, descriptor.volume, start, i, session);
            self.arena.write(crcs_at + i * CRC_BYTES, &crc.to_le_bytes());
        }
        if payload.is_empty() {
            (descriptor.payload_offset, descriptor.payload_bytes) = (0, 0);
        } else {
            self.arena.write(layout::payload_at(place.slot, self.slots) + place.payload_at, payload);
            #[expect(clippy::cast_possible_truncation, reason = "both are below a slot's 1 MiB")]
            {
                descriptor.payload_offset = place.payload_at as u32;
                descriptor.payload_bytes = payload.len() as u32;
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "at most RECORDS_MAX")]
        let bytes = descriptor.encode(salt, session, place.first, place.index as u32);
        self.arena.write(self.descriptor_at(place.slot, place.index), &bytes);
        #[expect(clippy::cast_possible_truncation, reason = "at most CRCS_MAX")]
        self.arena.store_half(publish_at(place.slot, place.index), 1 + place.crcs_at as u32);
    }

    /// Whether the open slot holds a record.
    pub fn has_open_records(&self) -> bool {
        self.open_slot().is_some_and(|slot| self.reserved(slot).records > 0)
    }

    /// Whether no record in the open slot has a payload.
    pub fn is_bare(&self) -> bool {
        self.open_slot().is_some_and(|slot| self.reserved(slot).payload == 0)
    }

    /// Lets the open slot take no more records, so that it can be sealed.
    pub fn close_open(&self) {
        if let Some(slot) = self.open_slot() {
            self.set_state(slot, CLOSED);
            self.open.store(NO_SLOT, Ordering::Relaxed);
        }
    }

    /// The chunk that holds `from`, or the first one above it, sealed; `None` when no closed slot has it. A record
    /// of it that is still being published is waited for: its writer is running and copies at most one request.
    pub fn sealed_from(&self, from: StreamSeq) -> Option<SealedChunk> {
        let behind = |slot: &usize| self.first(*slot).plus(self.reserved(*slot).records as u64);
        let slot = lock(&self.used).iter().copied().find(|slot| behind(slot) > from)?;
        let first = self.first(slot);
        match self.state(slot) {
            CLOSED => self.seal(slot),
            SEALED => {}
            _ => return None,
        }
        let sealed = self.arena.load(layout::control_at(slot) + layout::SEALED_AT);
        #[expect(clippy::cast_possible_truncation, reason = "two u32 packed into one word")]
        let (header_len, payload_len) = (sealed as u32, (sealed >> 32) as u32);
        Some(SealedChunk {
            first,
            next: first.plus(self.reserved(slot).records as u64),
            header_at: layout::header_at(slot, self.slots) as u64,
            header_len,
            payload_at: layout::payload_at(slot, self.slots) as u64,
            payload_len,
        })
    }

    fn seal(&self, slot: usize) {
        let reserved = self.reserved(slot);
        let mut scratch = lock(&self.scratch);
        let (area, before) = &mut *scratch;
        let table = FIXED_BYTES + reserved.records * DESCRIPTOR_BYTES;
        for index in 0..reserved.records {
            while self.arena.load_half(publish_at(slot, index)) == 0 {
                std::thread::yield_now();
            }
        }
        self.arena.read_into(self.descriptor_at(slot, 0), &mut area[FIXED_BYTES..table]);
        let crcs = self.read_crcs(slot, area, reserved.records);
        let at = table + crcs * CRC_BYTES;
        // What the chunk before left behind there; the rest is zeros still.
        area[at..at.max(*before)].fill(0);
        *before = at;
        let header = header_len(reserved.records, crcs);
        let area = &mut area[..header];
        let payload_len = reserved.payload.next_multiple_of(PAGE);
        // Nothing of an earlier life of the slot may travel with this chunk.
        if payload_len > reserved.payload {
            let tail = vec![0; payload_len - reserved.payload];
            self.arena.write(layout::payload_at(slot, self.slots) + reserved.payload, &tail);
        }
        #[expect(clippy::cast_possible_truncation, reason = "a slot's areas are far below 4 GiB")]
        let fixed = BodyHeader {
            journal: self.owner.journal,
            session: Session::new(self.arena.load(layout::SESSION_AT)),
            first_seq: self.first(slot),
            records: reserved.records as u32,
            crcs: crcs as u32,
            header_len: header as u32,
            payload_len: payload_len as u32,
        };
        fixed.seal(area);
        // The descriptors between the two are there already.
        let (at, behind) = (layout::header_at(slot, self.slots), FIXED_BYTES + reserved.records * DESCRIPTOR_BYTES);
        self.arena.write(at, &area[..FIXED_BYTES]);
        self.arena.write(at + behind, &area[behind..]);
        self.arena.store(
            layout::control_at(slot) + layout::SEALED_AT,
            u64::from(fixed.header_len) | u64::from(fixed.payload_len) << 32,
        );
        // Stored before the first byte is sent (PROTOCOL R15, V16).
        self.set_state(slot, SEALED);
    }

    /// Reads the payload checksums of a slot's records, all of them published, to behind their descriptors in `area`; answers
    /// with how many there are.
    fn read_crcs(&self, slot: usize, area: &mut [u8], records: usize) -> usize {
        let table = FIXED_BYTES + records * DESCRIPTOR_BYTES;
        let (mut run, mut read) = (0..0, 0);
        let take = |run: &std::ops::Range<usize>, read: usize, area: &mut [u8]| {
            let from = layout::control_at(slot) + PAGE + run.start * CRC_BYTES;
            self.arena.read_into(from, &mut area[table + read * CRC_BYTES..][..run.len() * CRC_BYTES]);
        };
        for index in 0..records {
            let payload = FIXED_BYTES + index * DESCRIPTOR_BYTES + 36;
            let payload = u32::from_le_bytes([0, 1, 2, 3].map(|byte| area[payload + byte])) as usize;
            let crcs = payload.div_ceil(BLOCK_BYTES);
            // One behind the other, but where a record was never completed and has none.
            let from = self.arena.load_half(publish_at(slot, index)) as usize - 1;
            if crcs > 0 && from != run.end {
                take(&run, read, area);
                read += run.len();
                run = from..from;
            }
            run.end += crcs;
        }
        take(&run, read, area);
        read + run.len()
    }

    /// Frees every sealed chunk that lies wholly below `committed`; answers whether any was freed.
    pub fn release(&self, committed: StreamSeq, label: Label) -> bool {
        let mut freed = false;
        let mut used = lock(&self.used);
        while let Some(slot) = used.front().copied() {
            let next = self.first(slot).plus(self.reserved(slot).records as u64);
            if self.state(slot) != SEALED || next > committed {
                break;
            }
            self.arena.store(layout::LABEL_AT, self.arena.load(layout::LABEL_AT).max(label.nanos()));
            self.arena.store(layout::RELEASED_AT, next.get());
            self.set_state(slot, FREE);
            used.pop_front();
            freed = true;
        }
        freed
    }

    fn state(&self, slot: usize) -> u64 {
        self.arena.load(layout::control_at(slot) + layout::STATE_AT)
    }

    fn set_state(&self, slot: usize, state: u64) {
        self.arena.store(layout::control_at(slot) + layout::STATE_AT, state);
    }

    fn first(&self, slot: usize) -> StreamSeq {
        StreamSeq::new(self.arena.load(layout::control_at(slot) + layout::FIRST_AT))
    }

    fn reserved(&self, slot: usize) -> Reserved {
        Reserved::unpack(self.arena.load(layout::control_at(slot) + layout::RESERVED_AT))
    }

    fn open_slot(&self) -> Option<usize> {
        let slot = self.open.load(Ordering::Relaxed);
        (slot != NO_SLOT).then_some(slot)
    }

    fn descriptor_at(&self, slot: usize, index: usize) -> usize {
        layout::header_at(slot, self.slots) + FIXED_BYTES + index * DESCRIPTOR_BYTES
    }

    /// Reads a sealed chunk back as the appliance would, for tests.
    #[cfg(test)]
    pub fn bytes_of(&self, chunk: &SealedChunk) -> (Vec<u8>, Vec<u8>) {
        let at = |n: u64| usize::try_from(n).unwrap();
        (
            self.arena.read(at(chunk.header_at), chunk.header_len as usize),
            self.arena.read(at(chunk.payload_at), chunk.payload_len as usize),
        )
    }
}

/// The publish words of a slot in which nothing is published.
static UNPUBLISHED: [u8; RECORDS_MAX * 4] = [0; RECORDS_MAX * 4];

fn publish_at(slot: usize, index: usize) -> usize {
    layout::control_at(slot) + layout::PUBLISH_AT + index * 4
}

fn static_part(owner: Owner, slots: usize) -> [u8; layout::STATIC_BYTES] {
    let mut head = [0u8; layout::STATIC_BYTES];
    head[0..4].copy_from_slice(&layout::MAGIC.to_le_bytes());
    head[4..8].copy_from_slice(&layout::VERSION.to_le_bytes());
    head[8..24].copy_from_slice(&owner.boot.to_bytes());
    head[24..40].copy_from_slice(&owner.group.to_bytes());
    head[40..56].copy_from_slice(&owner.journal.to_bytes());
    head[56..60].copy_from_slice(&u32::try_from(slots).unwrap_or(0).to_le_bytes());
    head
}

#[cfg(test)]
mod tests;
