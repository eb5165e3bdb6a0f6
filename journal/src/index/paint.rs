//! From runs to an answer: the newest version of every sector of an extent.
//!
//! Owns the rule of reading (ENGINE 31): newest first, until nothing is missing, sector by sector within a region; wide
//! records and the base lie behind. Knows no file: whoever fails to read is named, and asked for another one.

use super::head::REGION_BLOCKS;
use super::run::{Entry, Groups, REGION_SECTORS};
use super::{Content, Home, Joined, Resolved};
use crate::path::Path;
use record::geometry::{BLOCK_SECTORS, Extent};
use record::ids::Incarnation;
use record::position::Position;
use std::io;
use std::ops::RangeInclusive;
use std::sync::Arc;

/// What is asked.
#[derive(Clone, Debug)]
pub(crate) struct Question {
    pub volume: Incarnation,
    pub path: Path,
    pub extent: Extent,
}

/// A source could not be read.
#[derive(Debug)]
pub(crate) struct Failed {
    /// Which of the sources.
    pub source: usize,
    pub error: io::Error,
}

impl Question {
    /// The regions that the extent touches; those behind 2^32 have only wide records.
    pub(crate) fn regions(&self) -> RangeInclusive<u32> {
        let region = |sector: u64| u32::try_from(sector / REGION_SECTORS).unwrap_or(u32::MAX);
        region(self.extent.start().index())..=region(self.extent.end() - 1)
    }

    /// The newest versions on the path; `sources` are newest first, and all that the path needs.
    pub(crate) fn answer(&self, sources: &[Arc<dyn Groups>]) -> Result<Vec<Resolved>, Failed> {
        let background = self.background(sources);
        let mut regions = Vec::new();
        for (source, groups) in sources.iter().enumerate() {
            let read = groups.regions(self.volume, &self.regions(), &mut regions);
            read.map_err(|error| Failed { source, error })?;
        }
        regions.sort_unstable();
        regions.dedup();
        let mut out = Laid { background: &background, at: 0, joined: Joined::default() };
        let mut next = self.extent.start().index();
        for region in regions {
            let start = u64::from(region) * REGION_SECTORS;
            let Some(part) = Extent::new(start, REGION_SECTORS).and_then(|all| all.intersection(self.extent)) else {
                continue;
            };
            out.lay(next, part.start().index(), None);
            self.lay_region(region, part, sources, &mut out)?;
            next = part.end();
        }
        out.lay(next, self.extent.end(), None);
        Ok(out.joined.finish())
    }

    /// The sectors that records on the path changed, in no order.
    pub(crate) fn touched(&self, sources: &[Arc<dyn Groups>]) -> Result<Vec<Extent>, Failed> {
        let mut out = Vec::new();
        let (mut regions, mut entries) = (Vec::new(), Vec::new());
        for (source, groups) in sources.iter().enumerate() {
            let failed = |error| Failed { source, error };
            let wide = groups.wide().iter().filter(|w| w.volume == self.volume && self.path.contains(w.position));
            out.extend(wide.filter_map(|wide| wide.extent.intersection(self.extent)));
            regions.clear();
            groups.regions(self.volume, &self.regions(), &mut regions).map_err(failed)?;
            let first = groups.id().first;
            for region in &regions {
                entries.clear();
                groups.entries(self.volume, *region, &mut entries).map_err(failed)?;
                let start = u64::from(*region) * REGION_SECTORS;
                for entry in entries.iter().filter(|entry| self.path.contains(first.plus(entry.delta()))) {
                    entry.extents(start, &mut out);
                }
            }
        }
        Ok(out)
    }

    /// Wide records over the base: pieces in address order that cover the extent exactly.
    fn background(&self, sources: &[Arc<dyn Groups>]) -> Vec<Resolved> {
        let mut pieces = vec![Resolved { extent: self.extent, position: Position::ORIGIN, home: Home::Base }];
        for wide in sources.iter().rev().flat_map(|source| source.wide().iter().rev()) {
            if wide.volume != self.volume || !self.path.contains(wide.position) {
                continue;
            }
            let Some(part) = wide.extent.intersection(self.extent) else { continue };
            let first = pieces.partition_point(|piece| piece.extent.end() <= part.start().index());
            let last = pieces.partition_point(|piece| piece.extent.start().index() < part.end());
            let before = pieces.get(first).and_then(|piece| {
                Some(Resolved {
                    extent: Extent::between(piece.extent.start().index(), part.start().index())?,
                    ..*piece
                })
            });
            let behind = last.checked_sub(1).and_then(|last| pieces.get(last)).and_then(|piece| {
                Some(Resolved { extent: Extent::between(part.end(), piece.extent.end())?, ..*piece })
            });
            let new = Resolved { extent: part, position: wide.position, home: Home::Record(wide.content) };
            pieces.splice(first..last, before.into_iter().chain([new]).chain(behind));
        }
        pieces
    }

    fn lay_region(
        &self,
        region: u32,
        part: Extent,
        sources: &[Arc<dyn Groups>],
        out: &mut Laid<'_>,
    ) -> Result<(), Failed> {
        let start = u64::from(region) * REGION_SECTORS;
        let (from, to) = (sector(part.start().index() - start), sector(part.end() - start));
        let mut missing = [0_u8; REGION_BLOCKS];
        let mut left = 0;
        for at in from..to {
            missing[at / SECTORS] |= 1 << (at % SECTORS);
            left += 1;
        }
        let mut newest: Vec<Option<(Position, Content)>> = vec![None; REGION_BLOCKS * SECTORS];
        let mut entries: Vec<Entry> = Vec::new();
        for (source, groups) in sources.iter().enumerate() {
            if left == 0 {
                break;
            }
            entries.clear();
            let failed = |error| Failed { source, error };
            groups.entries(self.volume, region, &mut entries).map_err(failed)?;
            let first = groups.id().first;
            for entry in &entries {
                let position = first.plus(entry.delta());
                let hits = missing[entry.blocks()].iter().any(|missing| missing & entry.mask() != 0);
                if !hits || !self.path.contains(position) {
                    continue;
                }
                let unknown = || failed(io::Error::new(io::ErrorKind::InvalidData, "an entry of no known kind"));
                let content = entry.content().ok_or_else(unknown)?;
                for block in entry.blocks() {
                    let hit = missing[block] & entry.mask();
                    missing[block] &= !hit;
                    left -= hit.count_ones();
                    for bit in (0..SECTORS).filter(|bit| hit & (1 << bit) != 0) {
                        newest[block * SECTORS + bit] = Some((position, content));
                    }
                }
            }
        }
        let mut at = from;
        while at < to {
            let same = newest[at..to].iter().take_while(|one| **one == newest[at]).count();
            out.lay(start + at as u64, start + (at + same) as u64, newest[at]);
            at += same;
        }
        Ok(())
    }
}

/// Sectors of a block.
#[expect(clippy::cast_possible_truncation, reason = "eight")]
const SECTORS: usize = BLOCK_SECTORS as usize;

/// A sector of a region.
fn sector(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// The answer while it grows.
struct Laid<'a> {
    background: &'a [Resolved],
    /// The piece of the background that was reached.
    at: usize,
    joined: Joined,
}

impl Laid<'_> {
    /// The next sectors, `end` not included: this version, where the background has nothing newer.
    fn lay(&mut self, start: u64, end: u64, version: Option<(Position, Content)>) {
        let mut start = start;
        while start < end {
            let Some(behind) = self.background.get(self.at) else { return };
            let until = end.min(behind.extent.end());
            let (position, home) = match version {
                Some((position, content)) if position > behind.position => (position, Home::Record(content)),
                Some(_) | None => (behind.position, behind.home),
            };
            if let Some(extent) = Extent::between(start, until) {
                self.joined.push(Resolved { extent, position, home });
            }
            if behind.extent.end() <= end {
                self.at += 1;
            }
            start = until;
        }
    }
}
