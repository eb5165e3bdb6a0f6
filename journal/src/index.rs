//! The index: which version a sector has at a position.
//!
//! Owns the trait that every engine's index implements, and its words. `memory` keeps all versions in memory: the
//! first engine, and for ever the model that later ones are compared with. Deliberately knows no file: a version's
//! data is named by where its record stands.

pub use crate::path::Path;
use crate::place::{Place, SegmentNumber};
use record::geometry::{BLOCK_BYTES, Extent};
use record::ids::Incarnation;
use record::position::Position;
use std::fmt;

mod memory;

pub use memory::MemoryIndex;

/// Which record of which chunk, in twelve bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct LogPlace {
    segment: SegmentNumber,
    /// The chunk's offset, in units of 4 KiB.
    block: u32,
    /// The record's place in the chunk.
    record: u16,
}

impl LogPlace {
    /// The `record`-th record of the chunk at `place`; `None` when the numbers are beyond what a segment holds.
    pub fn new(place: Place, record: usize) -> Option<Self> {
        Some(Self {
            segment: place.segment,
            block: u32::try_from(place.offset / BLOCK_BYTES as u64).ok()?,
            record: u16::try_from(record).ok()?,
        })
    }

    /// Where the chunk starts.
    pub fn chunk(self) -> Place {
        Place { segment: self.segment, offset: u64::from(self.block) * BLOCK_BYTES as u64 }
    }

    /// The record's place in the chunk.
    pub fn record(self) -> usize {
        usize::from(self.record)
    }
}

/// What a record made of its sectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Content {
    /// The record's payload.
    Log(LogPlace),
    /// Zeros, allocated.
    Zero,
    /// A hole.
    Hole,
}

/// Where a version's content is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Home {
    /// What a record made.
    Record(Content),
    /// What the volume joined with.
    Base,
}

/// A run of sectors that have one version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Resolved {
    /// Where.
    pub extent: Extent,
    /// Which version: the record's position, the origin for the base.
    pub position: Position,
    /// Where its content is.
    pub home: Home,
}

/// Versions of sectors.
pub trait Index: Send + Sync + fmt::Debug {
    /// A record changed an extent. Positions come in ascending order.
    fn insert(&mut self, volume: Incarnation, extent: Extent, position: Position, content: Content);

    /// The newest version on `path` of every sector of an extent: runs in address order that cover it exactly,
    /// neighbours of one version joined.
    fn resolve(&self, volume: Incarnation, path: &Path, extent: Extent) -> Vec<Resolved>;

    /// The sectors that records at these positions changed, in address order, never touching each other.
    fn touched(&self, volume: Incarnation, positions: &Path) -> Vec<Extent>;
}

/// Extents in address order, overlapping and touching ones joined.
pub(crate) fn normalise(mut extents: Vec<Extent>) -> Vec<Extent> {
    extents.sort_unstable_by_key(|e| e.start());
    let mut out: Vec<Extent> = Vec::with_capacity(extents.len());
    for extent in extents {
        match out.last_mut() {
            Some(last) if extent.start().index() <= last.end() => {
                let end = last.end().max(extent.end());
                *last = Extent::between(last.start().index(), end).unwrap_or(*last);
            }
            Some(_) | None => out.push(extent),
        }
    }
    out
}

/// What of the normalised `extents` is not covered by `taken` (in any order).
pub(crate) fn subtract(extents: &[Extent], taken: &[Extent]) -> Vec<Extent> {
    let taken = normalise(taken.to_vec());
    let mut out = Vec::new();
    for extent in extents {
        let mut start = extent.start().index();
        let first = taken.partition_point(|t| t.end() <= start);
        for cut in taken[first..].iter().take_while(|t| t.start().index() < extent.end()) {
            out.extend(Extent::between(start, cut.start().index()));
            start = start.max(cut.end());
        }
        out.extend(Extent::between(start, extent.end()));
    }
    out
}
