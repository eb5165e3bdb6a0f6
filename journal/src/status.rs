//! What a journal tells of itself.
//!
//! Owns the report types; the numbers are filled in where they are known.

use crate::checkpoint::{In, Out};
use crate::place::Place;
use crate::recovery::Damage;
use crate::session::Watermarks;
use crate::timeline::At;
use record::op::{Op, RESERVED};
use record::position::{ChunkNumber, JournalEpoch, Position};

/// How many records of each operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpCounts {
    /// By the operation's number.
    counts: [u64; OPS],
}

/// More than the largest number of an operation.
const OPS: usize = 64;
const _: () = {
    assert!((Op::Barrier.to_u8() as usize) < OPS, "the largest number has its place");
    let mut at = 0;
    while at < RESERVED.len() {
        assert!((RESERVED[at] as usize) < OPS, "those of later releases too");
        at += 1;
    }
};

impl Default for OpCounts {
    fn default() -> Self {
        Self { counts: [0; OPS] }
    }
}

impl OpCounts {
    /// One more of `op`.
    pub(crate) fn add(&mut self, op: Op) {
        self.counts[usize::from(op.to_u8())] += 1;
    }

    /// For a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        out.list(self.iter().collect::<Vec<_>>().into_iter(), |out, (op, count)| {
            out.u8(op.to_u8());
            out.u64(count);
        });
    }

    /// From a checkpoint.
    pub(crate) fn restore(input: &mut In<'_>) -> Option<Self> {
        let mut counts = [0; OPS];
        let listed: Vec<(Op, u64)> = input.list(|input| Some((Op::from_u8(input.u8()?)?, input.u64()?)))?;
        for (op, count) in listed {
            counts[usize::from(op.to_u8())] = count;
        }
        Some(Self { counts })
    }

    /// How many of `op`.
    pub fn of(&self, op: Op) -> u64 {
        self.counts[usize::from(op.to_u8())]
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Every operation that occurred, with its count, in order of its number on disk.
    pub fn iter(&self) -> impl Iterator<Item = (Op, u64)> + '_ {
        let counted = self.counts.iter().enumerate().filter(|(_, count)| **count > 0);
        counted.filter_map(|(number, count)| Some((Op::from_u8(u8::try_from(number).ok()?)?, *count)))
    }
}

/// The state of a journal.
#[derive(Clone, Debug)]
pub struct Status {
    /// The newest position; everything up to it is durable.
    pub head: At,
    /// The life of its tail.
    pub epoch: JournalEpoch,
    /// How far the newest session of each splitter is.
    pub watermarks: Vec<Watermarks>,
    /// Segments on disk.
    pub segments: u64,
    /// Bytes of their files, without the one that is made ahead once the newest is half full, and without the few of
    /// retired ones that are kept for segments to come.
    pub disk_bytes: u64,
    /// Bytes of chunks in them.
    pub used_bytes: u64,
    /// Bytes of payload in the chunks.
    pub payload_bytes: u64,
    /// Chunks.
    pub chunks: u64,
    /// Records of each kind.
    pub counts: OpCounts,
    /// What is known to be damaged, found at open or by reading since; at most 1024 places are kept.
    pub damage: Vec<Damage>,
    /// How many damaged places were found in all.
    pub damage_count: u64,
    /// Why it takes no more records, if it does not.
    pub poisoned: Option<String>,
    /// Whether points are refused until a resynchronisation is complete.
    pub needs_resync: bool,
    /// Whether a segment's footer could not be written since the journal was opened: the journal goes on, but a restart
    /// reads that segment chunk by chunk, and damage in it may not be nameable.
    pub footer_missing: bool,
    /// Open images.
    pub images: u64,
}

/// What opening a journal found.
#[derive(Clone, Debug)]
pub struct RecoveryReport {
    /// Whether the last close was clean, and nothing was lost since.
    pub clean: bool,
    /// The life that begins now.
    pub epoch: JournalEpoch,
    /// The newest position before it.
    pub recovered: Position,
    /// Where unfinished writes were cut off; `None` when there were none.
    pub cut: Option<Place>,
    /// The last chunk that was known to be committed.
    pub committed: ChunkNumber,
    /// Damage at or below it: named, kept, everything else is served.
    pub damage: Vec<Damage>,
    /// Something that must not happen on honest hardware: what was once said to be durable is gone. For a log at
    /// ERROR, and for the status.
    pub alarms: Vec<String>,
    /// A restore map that the journal does not know was discarded: a rollback was prepared and never committed.
    pub discarded_restore_maps: Vec<u64>,
}
