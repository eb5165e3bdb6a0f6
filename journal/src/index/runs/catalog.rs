//! Which runs there are, and which of them a stretch of history needs.
//!
//! Owns the levels: of each, runs one behind the other from the oldest on; a level holds a beginning of what the level
//! below it holds. Owns the choice (Skippy): the largest runs that lie inside the stretch, and at its ends ever smaller
//! ones. Immutable: a change makes another catalog, so that whoever asks keeps the one he began with.

use crate::checkpoint::{In, Out};
use crate::index::run::{RunData, RunId};
use crate::lock::lock;
use crate::path::Path;
use crate::place::{Place, SegmentNumber};
use record::position::Position;
use std::sync::{Arc, Mutex};

/// Runs that are merged into one of the next level.
pub(crate) const FAN_OUT: usize = 16;

/// A run, wherever it is.
#[derive(Debug)]
pub(crate) struct Run {
    pub id: RunId,
    /// Where the chunks stand that it was made of; of level 0 only.
    pub span: Option<Span>,
    home: Mutex<Home>,
}

/// Chunks that stand one behind the other in a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// The first.
    pub at: Place,
    /// How many.
    pub chunks: u64,
}

/// Where a run is.
#[derive(Clone, Debug)]
pub(crate) enum Home {
    /// In memory, and still to be written to its file.
    Memory(Arc<RunData>),
    /// In its file.
    File,
    /// Its file was there, and is damaged.
    Damaged,
}

impl Run {
    pub(crate) fn new(id: RunId, span: Option<Span>, home: Home) -> Self {
        Self { id, span, home: Mutex::new(home) }
    }

    /// Where it is now.
    pub(crate) fn home(&self) -> Home {
        lock(&self.home).clone()
    }

    /// For a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        let RunId { last, first, level, seal } = self.id;
        out.position(first);
        out.position(last);
        out.u8(level);
        out.u32(seal);
        out.maybe(self.span, |out, span| {
            out.u32(span.at.segment.get());
            out.u64(span.at.offset);
            out.u64(span.chunks);
        });
    }

    /// From a checkpoint: which run, and the chunks that it was made of.
    pub(crate) fn restore(input: &mut In<'_>) -> Option<(RunId, Option<Span>)> {
        let (first, last) = (input.position()?, input.position()?);
        let id = RunId { last, first, level: input.u8()?, seal: input.u32()? };
        let span = input.maybe(|input| {
            let at = Place { segment: SegmentNumber::new(input.u32()?), offset: input.u64()? };
            Some(Span { at, chunks: input.u64()? })
        })?;
        Some((id, span))
    }

    /// It is somewhere else.
    pub(crate) fn moved(&self, home: Home) {
        *lock(&self.home) = home;
    }
}

/// All runs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Catalog {
    /// Of each level, oldest first.
    levels: Vec<Vec<Arc<Run>>>,
}

impl Catalog {
    /// The next run of its level.
    pub(crate) fn push(&mut self, run: Arc<Run>) {
        let level = usize::from(run.id.level);
        while self.levels.len() <= level {
            self.levels.push(Vec::new());
        }
        self.levels[level].push(run);
    }

    /// A level's newest run.
    pub(crate) fn newest_of(&self, level: u8) -> Option<&Arc<Run>> {
        self.levels.get(usize::from(level)).and_then(|runs| runs.last())
    }

    /// Runs that end before this position answer for nothing that is asked any more; answers with them.
    pub(crate) fn forget(&mut self, position: Position) -> Vec<Arc<Run>> {
        let mut gone = Vec::new();
        for level in &mut self.levels {
            let old = level.partition_point(|run| run.id.last < position);
            gone.extend(level.drain(..old));
        }
        gone
    }

    /// Every run, of no particular order.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Arc<Run>> {
        self.levels.iter().flatten()
    }

    /// Runs of one level that are to be merged next, lowest level first; oldest first.
    pub(crate) fn due(&self) -> Option<&[Arc<Run>]> {
        self.levels.iter().enumerate().find_map(|(level, runs)| {
            let merged = self.merged_up_to(level);
            let from = runs.partition_point(|run| run.id.last <= merged);
            runs.get(from..from + FAN_OUT)
        })
    }

    /// The last position of the next level.
    fn merged_up_to(&self, level: usize) -> Position {
        self.levels.get(level + 1).and_then(|above| above.last()).map_or(Position::ORIGIN, |run| run.id.last)
    }

    /// The runs that answer for a path, newest first.
    pub(crate) fn select(&self, path: &Path) -> Vec<Arc<Run>> {
        let mut out: Vec<Arc<Run>> = Vec::new();
        for (first, last) in path.stretches() {
            for level in 0..self.levels.len() {
                let from = self.merged_up_to(level).next().max(*first);
                self.cover(level, from, (*first, *last), &mut out);
            }
        }
        out.dedup_by_key(|run| run.id);
        out
    }

    /// The runs that answer in place of one that cannot be read, newest first; none for one of the lowest level.
    pub(crate) fn children(&self, run: &Run) -> Vec<Arc<Run>> {
        let mut out = Vec::new();
        if let Some(level) = usize::from(run.id.level).checked_sub(1) {
            self.cover(level, run.id.first, (run.id.first, run.id.last), &mut out);
        }
        out
    }

    /// Runs of a level that begin at `from` or later, or reach into it, as far as they are needed for a stretch.
    fn cover(&self, level: usize, from: Position, stretch: (Position, Position), out: &mut Vec<Arc<Run>>) {
        let Some(runs) = self.levels.get(level) else { return };
        let low = runs.partition_point(|run| run.id.last < from);
        let high = runs.partition_point(|run| run.id.first <= stretch.1);
        for run in runs.get(low..high).unwrap_or(&[]).iter().rev() {
            if level == 0 || run.id.within(stretch.0, stretch.1) {
                out.push(run.clone());
            } else {
                let inner = (stretch.0.max(run.id.first), stretch.1.min(run.id.last));
                self.cover(level - 1, inner.0, inner, out);
            }
        }
    }
}
