//! What a journal tells of itself.
//!
//! Owns the report types; the numbers are filled in where they are known.

use crate::checkpoint::{In, Out};
use crate::place::Place;
use crate::recovery::Damage;
use crate::session::Watermarks;
use crate::timeline::At;
use record::op::Op;
use record::position::{ChunkNumber, JournalEpoch, Position};
use std::collections::BTreeMap;

/// How many records of each operation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OpCounts(BTreeMap<Op, u64>);

impl OpCounts {
    /// One more of `op`.
    pub(crate) fn add(&mut self, op: Op) {
        *self.0.entry(op).or_default() += 1;
    }

    /// For a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        out.list(self.0.iter(), |out, (op, count)| {
            out.u8(op.to_u8());
            out.u64(*count);
        });
    }

    /// From a checkpoint.
    pub(crate) fn restore(input: &mut In<'_>) -> Option<Self> {
        input.list(|input| Some((Op::from_u8(input.u8()?)?, input.u64()?))).map(Self)
    }

    /// How many of `op`.
    pub fn of(&self, op: Op) -> u64 {
        self.0.get(&op).copied().unwrap_or(0)
    }

    /// How many in all.
    pub fn total(&self) -> u64 {
        self.0.values().sum()
    }

    /// Every operation that occurred, with its count, in order of its number on disk.
    pub fn iter(&self) -> impl Iterator<Item = (Op, u64)> + '_ {
        self.0.iter().map(|(op, n)| (*op, *n))
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
