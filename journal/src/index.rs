//! The index: which version a sector has at a position.
//!
//! Owns the trait that every engine's index implements, and its words. `runs` is the index of a journal: sorted `run`s of
//! versions, most of them in files, from which `paint` puts an answer together. `head` knows the newest versions; `headed`
//! puts it in front. `memory` keeps all versions in memory: the first engine, and for ever the model that later ones are compared with. Deliberately knows no file: a version's
//! data is named by its record's position.

pub use crate::path::Path;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::position::Position;
use runs::Later;
use std::fmt;

mod head;
mod headed;
mod memory;
mod paint;
mod run;
mod runs;
mod stamp;

pub use headed::HeadedIndex;
pub use memory::MemoryIndex;
pub(crate) use run::REGION_SECTORS;
pub(crate) use run::RunId;
pub use runs::RunIndex;
pub(crate) use runs::{Run, Shelf, Span};

/// What a record made of its sectors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Content {
    /// The record's payload: its position says which record.
    Data,
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

    /// A volume's live line is another one from here on, without an end.
    fn rolled_back(&mut self, _volume: Incarnation, _line: &Path) {}

    /// The newest version on `path` of every sector of an extent: runs in address order that cover it exactly,
    /// neighbours of one version joined.
    fn resolve(&self, volume: Incarnation, path: &Path, extent: Extent) -> Vec<Resolved>;

    /// The same as `resolve`, as far as it can be told without reading; the rest is read by `Answer::finish`, which needs
    /// no lock.
    fn ask(&self, volume: Incarnation, path: &Path, extent: Extent) -> Answer {
        Answer::known(self.resolve(volume, path, extent))
    }

    /// The sectors that records at these positions changed, in address order, never touching each other.
    fn touched(&self, volume: Incarnation, positions: &Path) -> Vec<Extent>;
}

/// An answer, or what is needed to read it.
#[derive(Debug, Default)]
pub struct Answer(Vec<Part>);

#[derive(Debug)]
enum Part {
    Known(Resolved),
    Later(Box<Later>),
}

/// An answer.
#[derive(Debug, Default)]
pub struct Answered {
    /// Runs in address order that cover the extent exactly, neighbours of one version joined.
    pub runs: Vec<Resolved>,
    /// Stretches of positions of which nobody knows any more what they changed.
    pub lost: Vec<(Position, Position)>,
}

impl Answered {
    /// What lies right behind.
    pub(crate) fn append(&mut self, runs: impl Iterator<Item = Resolved>, lost: &[(Position, Position)]) {
        let mut joined = Joined(std::mem::take(&mut self.runs));
        runs.for_each(|run| joined.push(run));
        self.runs = joined.finish();
        self.lost.extend_from_slice(lost);
    }
}

impl Answer {
    pub(crate) fn known(all: Vec<Resolved>) -> Self {
        Self(all.into_iter().map(Part::Known).collect())
    }

    fn later(later: Later) -> Self {
        Self(vec![Part::Later(Box::new(later))])
    }

    fn push(&mut self, known: Resolved) {
        self.0.push(Part::Known(known));
    }

    /// What lies right behind.
    fn append(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Whether nothing is to be read.
    pub(crate) fn is_known(&self) -> bool {
        self.0.iter().all(|part| matches!(part, Part::Known(_)))
    }

    /// Reads what is to be read.
    pub fn finish(self) -> Answered {
        let (mut joined, mut lost) = (Joined::default(), Vec::new());
        for part in self.0 {
            match part {
                Part::Known(resolved) => joined.push(resolved),
                Part::Later(later) => {
                    let answered = later.finish();
                    answered.runs.into_iter().for_each(|resolved| joined.push(resolved));
                    lost.extend(answered.lost);
                }
            }
        }
        lost.sort_unstable();
        lost.dedup();
        Answered { runs: joined.finish(), lost }
    }
}

/// Runs in address order as they come; neighbours of one version are joined.
#[derive(Debug, Default)]
pub(crate) struct Joined(Vec<Resolved>);

impl Joined {
    /// The next run, right behind the last one.
    pub(crate) fn push(&mut self, next: Resolved) {
        if let Some(last) = self.0.last_mut()
            && last.extent.end() == next.extent.start().index()
            && (last.position, last.home) == (next.position, next.home)
            && let Some(both) = Extent::between(last.extent.start().index(), next.extent.end())
        {
            last.extent = both;
        } else {
            self.0.push(next);
        }
    }

    /// All of them.
    pub(crate) fn finish(self) -> Vec<Resolved> {
        self.0
    }
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
