//! An index with a head map for each volume in front of it.
//!
//! Owns the line that is live for each volume, and the rule when the head map may answer: a newest version on the live
//! line that is not behind a position of that line is the version at that position too. Everything else is asked of the
//! index behind.

use super::head::HeadMap;
use super::{Content, Home, Index, Joined, Resolved};
use crate::path::Path;
use record::geometry::{Extent, Sector};
use record::ids::Incarnation;
use record::position::Position;
use std::collections::HashMap;

/// An index that knows the newest versions by heart.
#[derive(Debug, Default)]
pub struct HeadedIndex<I> {
    behind: I,
    volumes: HashMap<Incarnation, Live>,
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
    /// The newest version of the block that a sector is in, on the live line; `None` where the head map does not know, or
    /// the block's sectors have several.
    pub fn newest(&self, volume: Incarnation, sector: Sector) -> Option<(Position, Home)> {
        self.volumes.get(&volume)?.map.block(sector.index())
    }

    /// Bytes that the head maps have on the heap, those of blocks with several versions left out.
    pub fn heap_bytes(&self) -> usize {
        self.volumes.values().map(|live| live.map.heap_bytes()).sum()
    }
}

impl<I: Index> Index for HeadedIndex<I> {
    fn insert(&mut self, volume: Incarnation, extent: Extent, position: Position, content: Content) {
        self.behind.insert(volume, extent, position, content);
        self.volumes.entry(volume).or_insert_with(Live::new).map.insert(extent, position, content);
    }

    fn rolled_back(&mut self, volume: Incarnation, line: &Path) {
        self.behind.rolled_back(volume, line);
        let live = self.volumes.entry(volume).or_insert_with(Live::new);
        live.map.forget();
        live.line = line.clone();
    }

    fn resolve(&self, volume: Incarnation, path: &Path, extent: Extent) -> Vec<Resolved> {
        let Some((live, top)) = self.volumes.get(&volume).zip(path.newest()).filter(|(l, top)| l.line.contains(*top))
        else {
            return self.behind.resolve(volume, path, extent);
        };
        let mut joined = Joined::default();
        let mut unknown: Option<Extent> = None;
        let ask = |joined: &mut Joined, unknown: &mut Option<Extent>| {
            if let Some(part) = unknown.take() {
                for resolved in self.behind.resolve(volume, path, part) {
                    joined.push(resolved);
                }
            }
        };
        live.map.resolve(extent, |part, version| match version {
            Some((position, home)) if position <= top => {
                ask(&mut joined, &mut unknown);
                joined.push(Resolved { extent: part, position, home });
            }
            Some(_) | None => {
                let from = unknown.map_or(part.start(), Extent::start).index();
                unknown = Extent::between(from, part.end());
            }
        });
        ask(&mut joined, &mut unknown);
        joined.finish()
    }

    fn touched(&self, volume: Incarnation, positions: &Path) -> Vec<Extent> {
        self.behind.touched(volume, positions)
    }
}

#[cfg(test)]
mod tests;
