//! All versions in memory.
//!
//! Small records lie under each 4 KiB block that they touch, with a mask of its eight sectors. A record of more than
//! 4 MiB goes into a list of its own, so that a discard of a terabyte costs one entry.

use super::{Content, Home, Index, Resolved, normalise};
use crate::path::Path;
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent};
use record::ids::Incarnation;
use record::position::Position;
use std::collections::{BTreeMap, HashMap};

/// Longest record that is entered block by block, in sectors (4 MiB).
const NARROW_SECTORS_MAX: u64 = 8192;
/// Bits of a mask.
const SECTORS_OF_BLOCK: usize = BLOCK_BYTES / 512;

/// The index of a journal.
#[derive(Debug, Default)]
pub struct MemoryIndex {
    volumes: HashMap<Incarnation, Versions>,
}

#[derive(Debug, Default)]
struct Versions {
    /// By block number; each list in order of position.
    narrow: BTreeMap<u64, Vec<Narrow>>,
    /// In order of position.
    wide: Vec<Wide>,
}

#[derive(Debug, Clone, Copy)]
struct Narrow {
    position: Position,
    content: Content,
    /// Bit n: sector n of the block.
    mask: u8,
}

#[derive(Debug, Clone, Copy)]
struct Wide {
    position: Position,
    content: Content,
    extent: Extent,
}

/// A run while it is being put together.
#[derive(Clone, Copy)]
struct Run {
    start: u64,
    end: u64,
    position: Position,
    home: Home,
}

impl Index for MemoryIndex {
    fn insert(&mut self, volume: Incarnation, extent: Extent, position: Position, content: Content) {
        let versions = self.volumes.entry(volume).or_default();
        if extent.count().get() > NARROW_SECTORS_MAX {
            versions.wide.push(Wide { position, content, extent });
            return;
        }
        for block in extent.start().index() / BLOCK_SECTORS..=(extent.end() - 1) / BLOCK_SECTORS {
            let mask = mask(block, extent);
            versions.narrow.entry(block).or_default().push(Narrow { position, content, mask });
        }
    }

    fn resolve(&self, volume: Incarnation, path: &Path, extent: Extent) -> Vec<Resolved> {
        let mut runs = Runs::default();
        let (start, end) = (extent.start().index(), extent.end());
        let base = Run { start, end, position: Position::ORIGIN, home: Home::Base };
        let Some(versions) = self.volumes.get(&volume) else {
            runs.push(base);
            return runs.finish();
        };
        let background = versions.background(path, base);
        let mut behind = background.iter().copied().peekable();
        let mut at = start;
        // The background up to `to`, from where the last call ended.
        let mut fill = |runs: &mut Runs, at: u64, to: u64| {
            let mut at = at;
            while at < to {
                let Some(run) = behind.peek().copied() else { break };
                let until = run.end.min(to);
                runs.push(Run { start: at, end: until, ..run });
                at = until;
                if run.end <= to {
                    behind.next();
                }
            }
        };
        for (block, entries) in versions.narrow.range(start / BLOCK_SECTORS..=(end - 1) / BLOCK_SECTORS) {
            for (sector, newest) in newest_by_sector(*block, entries, path, extent) {
                fill(&mut runs, at, sector);
                let under = background[background.partition_point(|run| run.end <= sector)];
                if newest.position > under.position {
                    let home = Home::Record(newest.content);
                    // The background's cursor passes the sector too.
                    fill(&mut Runs::default(), sector, sector + 1);
                    runs.push(Run { start: sector, end: sector + 1, position: newest.position, home });
                } else {
                    fill(&mut runs, sector, sector + 1);
                }
                at = sector + 1;
            }
        }
        fill(&mut runs, at, end);
        runs.finish()
    }

    fn touched(&self, volume: Incarnation, positions: &Path) -> Vec<Extent> {
        let Some(versions) = self.volumes.get(&volume) else { return Vec::new() };
        let wide = versions.wide.iter().filter(|w| positions.contains(w.position)).map(|w| w.extent);
        let mut touched: Vec<Extent> = wide.collect();
        for (block, entries) in &versions.narrow {
            let mask = entries.iter().filter(|n| positions.contains(n.position)).fold(0, |mask, n| mask | n.mask);
            touched.extend(extents_of(*block, mask));
        }
        normalise(touched)
    }
}

impl Versions {
    /// The wide records over the base: runs in address order that cover `base` exactly.
    fn background(&self, path: &Path, base: Run) -> Vec<Run> {
        let mut runs = vec![base];
        let Some(all) = Extent::between(base.start, base.end) else { return runs };
        for wide in self.wide.iter().filter(|w| path.contains(w.position)) {
            if let Some(part) = wide.extent.intersection(all) {
                let home = Home::Record(wide.content);
                paint(&mut runs, Run { start: part.start().index(), end: part.end(), position: wide.position, home });
            }
        }
        runs
    }
}

/// Puts a run over others.
fn paint(runs: &mut Vec<Run>, new: Run) {
    let first = runs.partition_point(|run| run.end <= new.start);
    let last = runs.partition_point(|run| run.start < new.end);
    let mut pieces = Vec::with_capacity(3);
    if runs[first].start < new.start {
        pieces.push(Run { end: new.start, ..runs[first] });
    }
    pieces.push(new);
    if runs[last - 1].end > new.end {
        pieces.push(Run { start: new.end, ..runs[last - 1] });
    }
    runs.splice(first..last, pieces);
}

/// The newest version on the path of each sector of a block that has one and lies in the extent, in order.
fn newest_by_sector(
    block: u64,
    entries: &[Narrow],
    path: &Path,
    extent: Extent,
) -> impl Iterator<Item = (u64, Narrow)> {
    let mut missing = mask(block, extent);
    let mut newest: [Option<Narrow>; SECTORS_OF_BLOCK] = [None; SECTORS_OF_BLOCK];
    for entry in entries.iter().rev() {
        if missing == 0 {
            break;
        }
        let hit = entry.mask & missing;
        if hit != 0 && path.contains(entry.position) {
            for (bit, slot) in newest.iter_mut().enumerate() {
                if hit & (1 << bit) != 0 {
                    *slot = Some(*entry);
                }
            }
            missing &= !hit;
        }
    }
    (block * BLOCK_SECTORS..).zip(newest).filter_map(|(sector, entry)| Some((sector, entry?)))
}

/// Which sectors of a block an extent covers.
fn mask(block: u64, extent: Extent) -> u8 {
    let first = block * BLOCK_SECTORS;
    (0..BLOCK_SECTORS)
        .filter(|bit| (extent.start().index()..extent.end()).contains(&(first + bit)))
        .fold(0, |mask, bit| mask | (1 << bit))
}

/// The extents of a block's mask.
fn extents_of(block: u64, mask: u8) -> impl Iterator<Item = Extent> {
    (0..BLOCK_SECTORS)
        .filter(move |bit| mask & (1 << bit) != 0)
        .filter_map(move |bit| Extent::new(block * BLOCK_SECTORS + bit, 1))
}

/// Runs in address order; neighbours of one version are joined.
#[derive(Default)]
struct Runs(Vec<Run>);

impl Runs {
    fn push(&mut self, run: Run) {
        match self.0.last_mut() {
            Some(last) if last.end == run.start && last.position == run.position && last.home == run.home => {
                last.end = run.end;
            }
            Some(_) | None => self.0.push(run),
        }
    }

    fn finish(self) -> Vec<Resolved> {
        let resolved = |run: Run| {
            let extent = Extent::between(run.start, run.end)?;
            Some(Resolved { extent, position: run.position, home: run.home })
        };
        self.0.into_iter().filter_map(resolved).collect()
    }
}

#[cfg(test)]
mod tests;
