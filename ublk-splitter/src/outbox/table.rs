//! The in-flight table: requests that were taken and whose backing write has not succeeded yet (PROTOCOL R1, R5, R9).
//!
//! Owns the entries in the outbox file, which outlive the process, and which of them are free. A predecessor's entries
//! stay where they are until the kernel has brought their requests again, or it is known that it never will; meanwhile
//! nothing of their extents is read for the journal, and none of their regions becomes clean (R3, R4). Deliberately
//! holds nobody up: when every entry is in use the caller is told so.

use super::arena::Arena;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::op::Op;

/// Entries of a table: more requests than a group's devices have tags.
pub const ENTRIES: usize = 16 * 1024;
/// Bytes of an entry: four words.
const ENTRY: usize = 32;
/// Bytes of a table.
pub const TABLE_BYTES: usize = ENTRIES * ENTRY;

/// A request in flight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InFlight {
    /// What it does.
    pub op: Op,
    /// To which volume.
    pub volume: Incarnation,
    /// Where.
    pub extent: Extent,
}

impl InFlight {
    /// Whether `request` is this one brought again, perhaps merged with its neighbours.
    pub fn is_covered_by(&self, request: &Self) -> bool {
        self.volume == request.volume
            && self.op == request.op
            && request.extent.start() <= self.extent.start()
            && self.extent.end() <= request.extent.end()
    }
}

/// Its place in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EntryAt(usize);

/// The table of one outbox. Changed under the group's lock only.
#[derive(Debug)]
pub struct Table {
    at: usize,
    free: Vec<usize>,
}

impl Table {
    /// The table at this place of the file, taking note of what a predecessor left in it.
    pub fn adopt(arena: &Arena, at: usize) -> (Self, Vec<(EntryAt, InFlight)>) {
        let mut table = Self { at, free: Vec::new() };
        let mut left = Vec::new();
        for index in (0..ENTRIES).rev() {
            match table.read(arena, index) {
                Some(entry) => left.push((EntryAt(index), entry)),
                None => table.free.push(index),
            }
        }
        (table, left)
    }

    fn word(&self, index: usize, word: usize) -> usize {
        self.at + index * ENTRY + word * 8
    }

    /// The entry at an index: one whose first word was never stored, or that makes no sense, is none.
    fn read(&self, arena: &Arena, index: usize) -> Option<InFlight> {
        let what = arena.load(self.word(index, 0));
        let op = Op::from_u8((what & 0xff) as u8)?;
        let extent = Extent::new(arena.load(self.word(index, 1)), arena.load(self.word(index, 2)))?;
        Some(InFlight { op, volume: Incarnation::new((what >> 32) as u32), extent })
    }

    /// Enters a request, before its record is laid. `None` when the table is full.
    pub fn enter(&mut self, arena: &Arena, entry: InFlight) -> Option<EntryAt> {
        let index = self.free.pop()?;
        arena.store(self.word(index, 1), entry.extent.start().index());
        arena.store(self.word(index, 2), entry.extent.count().get());
        // Last: a process killed in between has entered nothing, and done nothing yet either.
        arena.store(self.word(index, 0), u64::from(entry.op.to_u8()) | u64::from(entry.volume.get()) << 32);
        Some(EntryAt(index))
    }

    /// Erases a request: its backing write has succeeded, or what is left of it will be read again.
    pub fn erase(&mut self, arena: &Arena, at: EntryAt) {
        arena.store(self.word(at.0, 0), 0);
        self.free.push(at.0);
    }
}
