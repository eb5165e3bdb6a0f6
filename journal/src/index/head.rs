//! The head map of a volume: from a place to its newest version on the live line.
//!
//! Owns three levels - tracts of 1 GiB, regions of 2 MiB, blocks of 4 KiB - each of which is one version where all of it
//! is: a discard of a terabyte is a thousand changed pointers, and what they pointed to is freed a tract with each change
//! that follows. It answers for the newest version only, and may say that it does not know: what it lacks is found in the
//! history of versions, so that losing it, or parts of it, costs time and nothing else. Knows no file and no path.

mod pages;
mod region;

pub(crate) use region::REGION_BLOCKS;

use super::stamp::{Said, Stamp};
use super::{Content, Home};
use pages::Pages;
use record::geometry::{BLOCK_SECTORS, Extent};
use record::position::Position;
use region::{Arena, Region};
use std::collections::BTreeMap;

/// Regions of a tract.
const TRACT_REGIONS: usize = 512;
/// Blocks of a tract: 1 GiB.
const TRACT_BLOCKS: u64 = (TRACT_REGIONS * REGION_BLOCKS) as u64;
/// Most tracts: a pebibyte. What lies behind is not known here.
const TRACTS_MAX: u64 = 1 << 20;
/// About what a processor has of second-level cache.
const SMALL_BYTES: usize = 1 << 20;
/// All sectors of a block.
const WHOLE: u8 = 0xff;

/// A head map.
#[derive(Debug)]
pub(crate) struct HeadMap {
    tracts: Vec<Tract>,
    /// The stamp of every tract that is not there yet.
    blank: Stamp,
    /// What was let go and is still to be freed.
    dying: Vec<Detail>,
    /// The memory of all tracts.
    pages: Pages,
}

#[derive(Debug)]
enum Tract {
    Uniform(Stamp),
    Detailed(Box<Detail>),
}

#[derive(Debug)]
struct Detail {
    /// `TRACT_REGIONS` of them.
    regions: Vec<Region>,
    /// Where those that are packed lie.
    arena: Arena,
    /// The parts of blocks that are `MIXED`, by block of the tract. Of other blocks there may be old entries.
    parts: BTreeMap<u32, Vec<Part>>,
}

/// Some sectors of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Part {
    /// Bit n: sector n.
    mask: u8,
    stamp: Stamp,
}

impl HeadMap {
    /// Of a volume that has only what it joined with.
    pub(crate) fn new() -> Self {
        Self { tracts: Vec::new(), blank: Stamp::BASE, dying: Vec::new(), pages: Pages::default() }
    }

    /// From here on nothing is known but what is put in.
    pub(crate) fn forget(&mut self) {
        for tract in self.tracts.drain(..) {
            if let Tract::Detailed(detail) = tract {
                self.dying.push(*detail);
            }
        }
        self.blank = Stamp::UNKNOWN;
    }

    /// A record changed an extent.
    pub(crate) fn insert(&mut self, extent: Extent, position: Position, content: Content) {
        // One tract of what earlier changes have let go.
        if let Some(dead) = self.dying.pop() {
            dead.arena.end(&mut self.pages);
        }
        match Stamp::of(position, content) {
            Some(stamp) => self.put(extent, stamp),
            None => self.forget(),
        }
    }

    /// Whether it is so small that its memory is in the caches anyhow.
    pub(crate) fn is_small(&self) -> bool {
        self.pages.bytes() <= SMALL_BYTES
    }

    /// Reads what a change at a sector will need: memory is slow, and waits for many places at once as long as for one.
    /// `depth` as `Region::touch` has it: each needs what the one before it read.
    pub(crate) fn touch(&self, sector: u64, depth: u8) -> usize {
        let block = sector / BLOCK_SECTORS;
        match self.tracts.get(index(block / TRACT_BLOCKS)) {
            None | Some(Tract::Uniform(_)) => 0,
            Some(Tract::Detailed(detail)) => {
                let into = index(block % TRACT_BLOCKS);
                detail.regions[into / REGION_BLOCKS].touch(&self.pages, &detail.arena, into % REGION_BLOCKS, depth)
            }
        }
    }

    fn put(&mut self, extent: Extent, stamp: Stamp) {
        let (start, end) = (extent.start().index(), extent.end().min(TRACTS_MAX * TRACT_BLOCKS * BLOCK_SECTORS));
        if start >= end {
            return;
        }
        let (mut first, last) = (start / BLOCK_SECTORS, end / BLOCK_SECTORS);
        let mask_from = |sector: u64| WHOLE << (sector % BLOCK_SECTORS);
        // What most writes are.
        if let (Some(Tract::Detailed(detail)), true) = (
            self.tracts.get_mut(index(first / TRACT_BLOCKS)),
            start.is_multiple_of(BLOCK_SECTORS) && end - start == BLOCK_SECTORS,
        ) {
            return detail.put(&mut self.pages, index(first % TRACT_BLOCKS), 1, stamp);
        }
        if first == last {
            return self.put_part(first, mask_from(start) & !mask_from(end), stamp);
        }
        if !start.is_multiple_of(BLOCK_SECTORS) {
            self.put_part(first, mask_from(start), stamp);
            first += 1;
        }
        self.put_blocks(first, last, stamp);
        if !end.is_multiple_of(BLOCK_SECTORS) {
            self.put_part(last, !mask_from(end), stamp);
        }
    }

    /// Whole blocks, `last` not included.
    fn put_blocks(&mut self, first: u64, last: u64, stamp: Stamp) {
        let mut at = first;
        while at < last {
            let (tract, into) = (at / TRACT_BLOCKS, index(at % TRACT_BLOCKS));
            let until = last.min((tract + 1) * TRACT_BLOCKS);
            let count = index(until - at);
            self.grow(tract);
            let slot = &mut self.tracts[index(tract)];
            if count as u64 == TRACT_BLOCKS {
                if let Tract::Detailed(detail) = std::mem::replace(slot, Tract::Uniform(stamp)) {
                    self.dying.push(*detail);
                }
            } else {
                slot.detail().put(&mut self.pages, into, count, stamp);
            }
            at = until;
        }
    }

    fn put_part(&mut self, block: u64, mask: u8, stamp: Stamp) {
        let (tract, into) = (block / TRACT_BLOCKS, index(block % TRACT_BLOCKS));
        self.grow(tract);
        self.tracts[index(tract)].detail().put_part(&mut self.pages, into, mask, stamp);
    }

    fn grow(&mut self, tract: u64) {
        let blank = self.blank;
        while self.tracts.len() as u64 <= tract {
            self.tracts.push(Tract::Uniform(blank));
        }
    }

    // ---- asking

    /// The newest version of the block that a sector is in; `None` where it is not known, or there are several.
    #[inline]
    pub(crate) fn block(&self, sector: u64) -> Option<(Position, Home)> {
        let block = sector / BLOCK_SECTORS;
        let stamp = match self.tracts.get(index(block / TRACT_BLOCKS)) {
            None => self.blank,
            Some(Tract::Uniform(stamp)) => *stamp,
            Some(Tract::Detailed(detail)) => detail.get(&self.pages, index(block % TRACT_BLOCKS)),
        };
        match stamp.said() {
            Said::Version(position, home) => Some((position, home)),
            Said::Mixed | Said::Unknown => None,
        }
    }

    /// The newest versions of an extent, in address order, without a gap; `None` where nothing is known. Neighbours may
    /// have the same version.
    pub(crate) fn resolve(&self, extent: Extent, mut told: impl FnMut(Extent, Option<(Position, Home)>)) {
        let mut tell = |start: u64, end: u64, stamp: Stamp| {
            let version = match stamp.said() {
                Said::Version(position, home) => Some((position, home)),
                Said::Mixed | Said::Unknown => None,
            };
            let part = Extent::between(start.max(extent.start().index()), end.min(extent.end()));
            if let Some(part) = part {
                told(part, version);
            }
        };
        let sectors = |block: u64| block * BLOCK_SECTORS;
        let (mut at, last) = (extent.start().index() / BLOCK_SECTORS, extent.end().div_ceil(BLOCK_SECTORS));
        while at < last {
            let tract = at / TRACT_BLOCKS;
            let until = last.min((tract + 1) * TRACT_BLOCKS);
            match self.tracts.get(index(tract)) {
                None if tract >= TRACTS_MAX => tell(sectors(at), sectors(until), Stamp::UNKNOWN),
                None => tell(sectors(at), sectors(until), self.blank),
                Some(Tract::Uniform(stamp)) => tell(sectors(at), sectors(until), *stamp),
                Some(Tract::Detailed(detail)) => {
                    let base = tract * TRACT_BLOCKS;
                    detail.resolve(&self.pages, index(at - base), index(until - base), |start, end, stamp| {
                        tell(sectors(base) + start, sectors(base) + end, stamp);
                    });
                }
            }
            at = until;
        }
    }

    /// Bytes on the heap, those of mixed blocks left out.
    pub(crate) fn heap_bytes(&self) -> usize {
        let details = self.tracts.iter().filter_map(|tract| match tract {
            Tract::Uniform(_) => None,
            Tract::Detailed(detail) => Some(&**detail),
        });
        let of_detail = |detail: &Detail| {
            size_of::<Detail>() + detail.regions.capacity() * size_of::<Region>() + detail.arena.heap_bytes()
        };
        self.tracts.capacity() * size_of::<Tract>() + details.chain(&self.dying).map(of_detail).sum::<usize>()
    }
}

impl Tract {
    fn detail(&mut self) -> &mut Detail {
        if let Self::Uniform(stamp) = self {
            let regions = vec![Region::Uniform(*stamp); TRACT_REGIONS];
            *self = Self::Detailed(Box::new(Detail { regions, arena: Arena::default(), parts: BTreeMap::new() }));
        }
        match self {
            Self::Detailed(detail) => detail,
            Self::Uniform(_) => unreachable!("it was made detailed right above"),
        }
    }
}

impl Detail {
    fn get(&self, pages: &Pages, block: usize) -> Stamp {
        self.regions[block / REGION_BLOCKS].get(pages, &self.arena, block % REGION_BLOCKS)
    }

    fn put(&mut self, pages: &mut Pages, first: usize, count: usize, stamp: Stamp) {
        let (mut at, end) = (first, first + count);
        while at < end {
            let region = at / REGION_BLOCKS;
            let until = end.min((region + 1) * REGION_BLOCKS);
            self.regions[region].set(pages, &mut self.arena, at % REGION_BLOCKS, until - at, stamp);
            at = until;
        }
        if self.arena.is_wasteful() {
            self.arena.pack(pages, &mut self.regions);
        }
    }

    /// Some sectors of a block get a stamp, the others keep theirs.
    fn put_part(&mut self, pages: &mut Pages, block: usize, mask: u8, stamp: Stamp) {
        let key = key(block);
        let before = self.get(pages, block);
        let mut parts = match before {
            Stamp::MIXED => self.parts.remove(&key).unwrap_or_default(),
            whole => vec![Part { mask: WHOLE, stamp: whole }],
        };
        for part in &mut parts {
            part.mask &= !mask;
        }
        parts.retain(|part| part.mask != 0);
        parts.push(Part { mask, stamp });
        if parts.len() == 1 {
            self.put(pages, block, 1, stamp);
        } else {
            self.parts.insert(key, parts);
            self.put(pages, block, 1, Stamp::MIXED);
        }
    }

    /// Tells runs of sectors of blocks, `last` not included, counted from the tract's start.
    fn resolve(&self, pages: &Pages, first: usize, last: usize, mut tell: impl FnMut(u64, u64, Stamp)) {
        let sectors = |block: usize| block as u64 * BLOCK_SECTORS;
        let mut at = first;
        while at < last {
            let region = at / REGION_BLOCKS;
            let until = last.min((region + 1) * REGION_BLOCKS);
            if let Region::Uniform(stamp) = &self.regions[region]
                && *stamp != Stamp::MIXED
            {
                tell(sectors(at), sectors(until), *stamp);
            } else {
                for block in at..until {
                    match self.get(pages, block) {
                        Stamp::MIXED => self.resolve_parts(block, &mut tell),
                        stamp => tell(sectors(block), sectors(block + 1), stamp),
                    }
                }
            }
            at = until;
        }
    }

    fn resolve_parts(&self, block: usize, mut tell: impl FnMut(u64, u64, Stamp)) {
        let parts = self.parts.get(&key(block)).map_or(&[][..], Vec::as_slice);
        for sector in 0..BLOCK_SECTORS {
            let stamp = parts.iter().find(|part| part.mask & (1 << sector) != 0).map_or(Stamp::UNKNOWN, |p| p.stamp);
            let at = block as u64 * BLOCK_SECTORS + sector;
            tell(at, at + 1, stamp);
        }
    }
}

/// A block's key in `parts`.
fn key(block: usize) -> u32 {
    u32::try_from(block).unwrap_or(u32::MAX)
}

/// Numbers here are below the number of tracts, or of blocks of a tract.
fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
