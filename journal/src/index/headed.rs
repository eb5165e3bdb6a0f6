//! An index with a head map for each volume in front of it.
//!
//! Owns the line that is live for each volume, and the rule when the head map may answer: a newest version on the live
//! line that is not behind a position of that line is the version at that position too. Everything else is asked of the
//! index behind.

use super::head::HeadMap;
use super::{Answer, Content, Home, Index, Resolved};
use crate::path::Path;
use record::geometry::{Extent, Sector};
use record::ids::Incarnation;
use record::position::Position;
use std::collections::BTreeMap;

/// Most questions to the index behind for one answer.
const ASKED_MAX: u32 = 4;

/// An index that knows the newest versions by heart.
#[derive(Debug, Default)]
pub struct HeadedIndex<I> {
    behind: I,
    volumes: BTreeMap<Incarnation, Live>,
    /// Of what `expect` read.
    touched: usize,
}

#[derive(Debug)]
struct Live {
    map: HeadMap,
    /// The live line, without an end.
    line: Path,
}

impl Live {
    fn new() -> Self {
        Self { map: HeadMap::new(), line: Path::endless() }
    }
}

impl<I> HeadedIndex<I> {
    /// In front of an index without a record.
    pub fn of(behind: I) -> Self {
        Self { behind, volumes: BTreeMap::new(), touched: 0 }
    }

    /// The index behind.
    pub fn behind(&self) -> &I {
        &self.behind
    }

    /// The index behind.
    pub fn behind_mut(&mut self) -> &mut I {
        &mut self.behind
    }

    /// The newest version of the block that a sector is in, on the live line; `None` where the head map does not know, or
    /// the block's sectors have several.
    pub fn newest(&self, volume: Incarnation, sector: Sector) -> Option<(Position, Home)> {
        self.volumes.get(&volume)?.map.block(sector.index())
    }

    /// These records come next: what inserting them will need of memory is asked for at once. Changes nothing.
    pub fn expect(&mut self, records: &(impl Iterator<Item = (Incarnation, Sector)> + Clone)) {
        if self.volumes.values().all(|live| live.map.is_small()) {
            return;
        }
        for depth in 0..3 {
            let mut live: Option<(Incarnation, &Live)> = None;
            let mut read = 0_usize;
            for (volume, sector) in records.clone() {
                if live.is_none_or(|(of, _)| of != volume) {
                    live = self.volumes.get(&volume).map(|live| (volume, live));
                }
                if let Some((_, live)) = live {
                    read = read.wrapping_add(live.map.touch(sector.index(), depth));
                }
            }
            // Kept, so that the reads are done.
            self.touched = read;
        }
    }

    /// Bytes that the head maps have on the heap, those of blocks with several versions left out.
    pub fn heap_bytes(&self) -> usize {
        self.volumes.values().map(|live| live.map.heap_bytes()).sum()
    }
}

impl<I: Index> Index for HeadedIndex<I> {
    fn insert(&mut self, volume: Incarnation, extent: Extent, position: Position, content: Content) {
        self.behind.insert(volume, extent, position, content);
        // There already, but for the first record: looking costs less than `entry`, which is ready to put it in.
        let live = match self.volumes.get_mut(&volume) {
            Some(live) => live,
            None => self.volumes.entry(volume).or_insert_with(Live::new),
        };
        live.map.insert(extent, position, content);
    }

    fn rolled_back(&mut self, volume: Incarnation, line: &Path) {
        self.behind.rolled_back(volume, line);
        let live = self.volumes.entry(volume).or_insert_with(Live::new);
        live.map.forget();
        live.line = line.clone();
    }

    fn resolve(&self, volume: Incarnation, path: &Path, extent: Extent) -> Vec<Resolved> {
        self.ask(volume, path, extent).finish().runs
    }

    fn ask(&self, volume: Incarnation, path: &Path, extent: Extent) -> Answer {
        let Some((live, top)) = self.volumes.get(&volume).zip(path.newest()).filter(|(l, top)| l.line.contains(*top))
        else {
            return self.behind.ask(volume, path, extent);
        };
        let mut answer = Answer::default();
        let mut unknown: Option<Extent> = None;
        let mut asked = 0;
        let mut ask = |answer: &mut Answer, unknown: &mut Option<Extent>| {
            if let Some(part) = unknown.take() {
                asked += 1;
                answer.append(self.behind.ask(volume, path, part));
            }
        };
        live.map.resolve(extent, |part, version| match version {
            Some((position, home)) if position <= top => {
                ask(&mut answer, &mut unknown);
                answer.push(Resolved { extent: part, position, home });
            }
            Some(_) | None => {
                let from = unknown.map_or(part.start(), Extent::start).index();
                unknown = Extent::between(from, part.end());
            }
        });
        ask(&mut answer, &mut unknown);
        // In pieces that are too small it is quicker to ask for all of it at once.
        if asked > ASKED_MAX { self.behind.ask(volume, path, extent) } else { answer }
    }

    fn touched(&self, volume: Incarnation, positions: &Path) -> Vec<Extent> {
        self.behind.touched(volume, positions)
    }
}

#[cfg(test)]
mod tests;
