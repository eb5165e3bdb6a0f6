//! The index of a journal: what came since the newest run, and runs.
//!
//! Owns when a run is made - at the end of a segment, or of 65536 entries - and when runs are merged: a bounded piece of
//! work with each append, so that nothing ever waits for all of it. An answer is put together outside of any lock: `ask`
//! takes what it needs, `Answer::finish` reads.

mod catalog;
mod shelf;

pub(crate) use shelf::Shelf;

use super::paint::{Failed, Question};
use super::run::bytes::RunWriter;
use super::run::merge::{Cursor, MemoryCursor, Merge};
use super::run::{Building, Groups, Log, RunData, RunId, SPAN_MAX};
use super::{Answer, Answered, Content, Index, normalise};
use crate::checkpoint::Out;
use crate::device::RealDisk;
use crate::path::Path;
use crate::place::Place;
#[cfg(test)]
use catalog::FAN_OUT;
use catalog::{Catalog, Home};
pub(crate) use catalog::{Run, Span};
use record::checksum::crc32c;
use record::geometry::Extent;
use record::ids::{Incarnation, JournalId};
use record::position::Position;
use std::io;
use std::sync::Arc;

/// Entries after which a run is made even if the segment goes on.
const RUN_ENTRIES: usize = 1 << 16;
/// Entries of merging for each entry that came in: more than there are levels.
const MERGED_FOR_EACH: usize = 8;
/// Entries of merging with each append, whatever came in.
const MERGED_AT_LEAST: usize = 512;

/// Appends without another try after one that failed.
const RESTED: u32 = 1000;

/// The index.
#[derive(Debug, Default)]
pub struct RunIndex {
    log: Option<Log>,
    /// The chunks that `log` is of, and the checksum over them.
    span: Option<Span>,
    seal: u32,
    catalog: Arc<Catalog>,
    /// Runs that no checkpoint has yet, in the order in which they came.
    adopted: Vec<Arc<Run>>,
    /// `None`: runs stay in memory.
    shelf: Option<Arc<Shelf>>,
    merging: Option<Merging>,
    /// Entries that came in since the last `tend`.
    came: usize,
    /// Appends until the next try, after one that failed.
    rest: u32,
}

#[derive(Debug)]
struct Merging {
    merge: Merge,
    into: Into,
}

#[derive(Debug)]
enum Into {
    Memory(Building),
    File(Box<RunWriter>),
}

/// An answer that is still to be read.
#[derive(Debug)]
pub(crate) struct Later {
    question: Question,
    /// What came since the newest run.
    recent: Arc<RunData>,
    catalog: Arc<Catalog>,
    shelf: Option<Arc<Shelf>>,
}

impl RunIndex {
    /// With runs in files.
    pub(crate) fn on(shelf: Shelf) -> Self {
        Self { shelf: Some(Arc::new(shelf)), ..Self::default() }
    }

    /// With runs in files of a journal's directory, for its one writer.
    pub fn in_directory(directory: &std::path::Path, journal: JournalId) -> Self {
        Self::on(Shelf::new(Arc::new(RealDisk::new(directory)), journal, true))
    }

    /// A chunk begins here; its first record has this position, its body this digest.
    pub fn chunk(&mut self, place: Place, first: Position, digest: u32) {
        let other = self.span.is_some_and(|span| span.at.segment != place.segment);
        let full = self.log.as_ref().is_some_and(|log| log.entries.len() >= RUN_ENTRIES);
        let far = self.log.as_ref().is_some_and(|log| first.get() - log.first.get() >= SPAN_MAX / 2);
        if other || full || far {
            self.end_run(first);
        }
        if self.span.is_none() {
            self.log.get_or_insert_with(|| Log::from(first));
            self.seal = 0;
        }
        self.span.get_or_insert(Span { at: place, chunks: 0 }).chunks += 1;
        let mut said = [0; 16];
        said[..8].copy_from_slice(&first.get().to_le_bytes());
        said[8..12].copy_from_slice(&digest.to_le_bytes());
        said[12..].copy_from_slice(&self.seal.to_le_bytes());
        self.seal = crc32c(&said);
    }

    /// What came so far becomes a run; the next begins at `next`.
    fn end_run(&mut self, next: Position) {
        let (span, log) = (self.span.take(), self.log.take());
        let Some((log, last)) = log.zip(next.previous()) else { return };
        if log.entries.is_empty() && log.wide.is_empty() {
            return;
        }
        let id = RunId { first: log.first, last, level: 0, seal: self.seal };
        if self.has(id) {
            self.adopt(Run::new(id, span, Home::File));
        } else {
            let run = self.adopt(Run::new(id, span, Home::Memory(Arc::new(log.seal(last, self.seal)))));
            if let Some(shelf) = &self.shelf {
                shelf.save_later(run);
            }
        }
        // Of what was merged before a restart, nothing is merged again.
        self.adopt_merged();
    }

    /// Takes over larger runs that are due and have their files: they were merged before a restart.
    fn adopt_merged(&mut self) {
        while let Some(id) = self.due().filter(|id| self.has(*id)) {
            // Otherwise it would be there twice when that merge is done.
            if self.merging.as_ref().is_some_and(|merging| merging.merge.id() == id) {
                self.give_up();
            }
            self.adopt(Run::new(id, None, Home::File));
        }
    }

    // ---- checkpoints

    /// What came so far becomes a run, so that all of it is one: the next chunk begins at `next`.
    pub(crate) fn end_here(&mut self, next: Position) {
        self.end_run(next);
    }

    /// The runs that no checkpoint has yet, for one; answers with how many they are.
    pub(crate) fn save(&self, out: &mut Out) -> usize {
        out.list(self.adopted.iter(), |out, run| run.save(out));
        self.adopted.len()
    }

    /// A checkpoint has the first so many of them.
    pub(crate) fn saved(&mut self, count: usize) {
        self.adopted.drain(..count.min(self.adopted.len()));
    }

    /// Takes back what a checkpoint knows, in order; `false` when it is none that runs can be in.
    pub(crate) fn restore(&mut self, runs: Vec<(RunId, Option<Span>)>) -> bool {
        for (id, span) in runs {
            // An earlier release could note a run in two checkpoints.
            if self.catalog.newest_of(id.level).is_some_and(|run| run.id == id) {
                continue;
            }
            if id.last < id.first || self.catalog.newest_of(id.level).is_some_and(|run| id.first <= run.id.last) {
                return false;
            }
            // One whose file is not there is made again when it is asked for.
            let home = if self.has(id) { Home::File } else { Home::Damaged };
            self.adopt(Run::new(id, span, home));
        }
        self.adopted.clear();
        true
    }

    /// Runs that end before this position are not there any more.
    pub(crate) fn forget(&mut self, position: Position) {
        let gone = Arc::make_mut(&mut self.catalog).forget(position);
        // A merge of one that is gone ends in a run that nobody asks; it is begun anew without it.
        if self.merging.as_ref().is_some_and(|merging| merging.merge.id().first < position) {
            self.give_up();
        }
        if let Some(shelf) = &self.shelf {
            for run in gone {
                shelf.remove(run.id);
            }
        }
    }

    fn has(&self, id: RunId) -> bool {
        self.shelf.as_ref().is_some_and(|shelf| shelf.has(id))
    }

    fn adopt(&mut self, run: Run) -> Arc<Run> {
        let run = Arc::new(run);
        Arc::make_mut(&mut self.catalog).push(run.clone());
        self.adopted.push(run.clone());
        run
    }

    /// The run that is to be made by merging next.
    fn due(&self) -> Option<RunId> {
        let runs = self.catalog.due()?;
        let (first, last) = (runs.first()?.id, runs.last()?.id);
        let seals: Vec<u8> = runs.iter().flat_map(|run| run.id.seal.to_le_bytes()).collect();
        let level = first.level.checked_add(1)?;
        let fits = last.last.get() - first.first.get() < SPAN_MAX;
        fits.then(|| RunId { first: first.first, last: last.last, level, seal: crc32c(&seals) })
    }

    // ---- tending

    /// Writes what is to be written and merges a bit. Never fails: what cannot be written stays in memory.
    pub fn tend(&mut self) {
        let budget = std::mem::take(&mut self.came) * MERGED_FOR_EACH + MERGED_AT_LEAST;
        if self.rest > 0 {
            self.rest -= 1;
            return;
        }
        let saved = match &self.shelf {
            Some(shelf) if !shelf.writes() => return,
            Some(shelf) => shelf.save_all(),
            None => Ok(()),
        };
        if let Err(error) = saved.and_then(|()| self.merge(budget)) {
            tracing::warn!("the index cannot be written ({error}): it stays in memory, nothing else is concerned");
            self.give_up();
            self.rest = RESTED;
        }
    }

    fn merge(&mut self, budget: usize) -> io::Result<()> {
        let Some(merging) = &mut self.merging else {
            return self.begin_merge();
        };
        let done = match &mut merging.into {
            Into::Memory(building) => merging.merge.step(budget, building)?,
            Into::File(writer) => merging.merge.step(budget, writer.as_mut())?,
        };
        if !done {
            return Ok(());
        }
        let Some(Merging { merge, into }) = self.merging.take() else { return Ok(()) };
        let (id, wide) = (merge.id(), merge.wide());
        let home = match into {
            Into::Memory(building) => Home::Memory(Arc::new(building.finish(wide))),
            Into::File(writer) => {
                writer.finish(&wide)?;
                if let Some(shelf) = &self.shelf {
                    shelf.finish(id)?;
                }
                Home::File
            }
        };
        self.adopt(Run::new(id, None, home));
        self.begin_merge()
    }

    fn begin_merge(&mut self) -> io::Result<()> {
        self.adopt_merged();
        let Some((id, runs)) = self.due().zip(self.catalog.due()) else { return Ok(()) };
        let mut children: Vec<Box<dyn Cursor>> = Vec::new();
        for run in runs {
            children.push(match (run.home(), &self.shelf) {
                (Home::Memory(data), _) => Box::new(MemoryCursor::new(data)),
                (Home::File, Some(shelf)) => Box::new(shelf.open(run.id)?.cursor()?),
                // Larger runs wait until somebody needed this one, and it was made again.
                (Home::Damaged | Home::File, _) => return Ok(()),
            });
        }
        let into = match &self.shelf {
            Some(shelf) => Into::File(Box::new(shelf.begin(id)?)),
            None => Into::Memory(Building::new(id)),
        };
        self.merging = Some(Merging { merge: Merge::new(id, children), into });
        Ok(())
    }

    /// What is being merged is left; a file that was begun goes.
    fn give_up(&mut self) {
        if let (Some(merging), Some(shelf)) = (self.merging.take(), &self.shelf) {
            shelf.give_up(merging.merge.id());
        }
    }

    /// Removes files of runs that are none of this history: for a writer that has taken in all of it.
    pub(crate) fn tidy(&mut self) {
        self.adopt_merged();
        if let Some(shelf) = &self.shelf {
            shelf.tidy(&self.catalog.all().map(|run| run.id).collect());
        }
    }

    // ---- asking

    /// The same as `touched`, to be read without a lock.
    pub(crate) fn touched_later(&self, volume: Incarnation, positions: &Path) -> impl FnOnce() -> Vec<Extent> + use<> {
        let all = Extent::new(0, u64::MAX / 512);
        let later = all.map(|extent| self.later(Question { volume, path: positions.clone(), extent }));
        move || later.map_or_else(Vec::new, |later| normalise(later.touched()))
    }

    fn later(&self, question: Question) -> Later {
        let mut recent = Log::from(self.log.as_ref().map_or(Position::FIRST, |log| log.first));
        if let Some(log) = &self.log {
            recent.take_for(log, question.volume, &question.regions());
        }
        let last = recent.first.plus(SPAN_MAX - 1);
        let recent = Arc::new(recent.seal(last, 0));
        Later { question, recent, catalog: self.catalog.clone(), shelf: self.shelf.clone() }
    }
}

impl Index for RunIndex {
    fn insert(&mut self, volume: Incarnation, extent: Extent, position: Position, content: Content) {
        let log = self.log.get_or_insert_with(|| Log::from(position));
        let before = log.entries.len();
        log.push(volume, extent, position, content);
        self.came += log.entries.len() - before;
    }

    fn resolve(&self, volume: Incarnation, path: &Path, extent: Extent) -> Vec<super::Resolved> {
        self.ask(volume, path, extent).finish().runs
    }

    fn ask(&self, volume: Incarnation, path: &Path, extent: Extent) -> Answer {
        Answer::later(self.later(Question { volume, path: path.clone(), extent }))
    }

    fn touched(&self, volume: Incarnation, positions: &Path) -> Vec<Extent> {
        self.touched_later(volume, positions)()
    }
}

/// What a question is answered from.
#[derive(Default)]
struct Sources {
    /// Newest first.
    all: Vec<Arc<dyn Groups>>,
    /// Which run each of them is; `None` for what came since.
    runs: Vec<Option<Arc<Run>>>,
    /// Stretches that nobody can read.
    lost: Vec<(Position, Position)>,
}

impl Later {
    /// Reads. What cannot be read is made again; what cannot be made again is lost, and said to be.
    pub(crate) fn finish(self) -> Answered {
        let (runs, lost) = self.ask(|sources| self.question.answer(sources));
        Answered { runs, lost }
    }

    /// The sectors that records on the path changed; all there are where that cannot be told.
    fn touched(&self) -> Vec<Extent> {
        let (touched, lost) = self.ask(|sources| self.question.touched(sources));
        if lost.is_empty() { touched } else { vec![self.question.extent] }
    }

    /// Asks until every source could be read: each time there is one run less to be read from a file.
    fn ask<T>(&self, question: impl Fn(&[Arc<dyn Groups>]) -> Result<T, Failed>) -> (T, Vec<(Position, Position)>) {
        loop {
            let Sources { all, runs, lost } = self.sources();
            match question(&all) {
                Ok(found) => return (found, lost),
                Err(failed) => {
                    if let (Some(Some(run)), Some(shelf)) = (runs.get(failed.source), &self.shelf) {
                        shelf.discard(run, &failed.error);
                    }
                }
            }
        }
    }

    fn sources(&self) -> Sources {
        let mut sources = Sources { all: vec![self.recent.clone()], runs: vec![None], lost: Vec::new() };
        let mut wanted = self.catalog.select(&self.question.path);
        // The next one is the last.
        wanted.reverse();
        while let Some(run) = wanted.pop() {
            let source: Arc<dyn Groups> = match (run.home(), &self.shelf) {
                (Home::Memory(data), _) => data,
                (Home::File, Some(shelf)) => match shelf.open(run.id) {
                    Ok(file) => file,
                    Err(error) => {
                        shelf.discard(&run, &error);
                        wanted.push(run);
                        continue;
                    }
                },
                (Home::Damaged | Home::File, _) if run.id.level > 0 => {
                    wanted.extend(self.catalog.children(&run).into_iter().rev());
                    continue;
                }
                (Home::Damaged, Some(shelf)) => {
                    let rebuilt = shelf.rebuild(&run);
                    let data = Arc::new(rebuilt.run);
                    if rebuilt.lost.is_empty() {
                        run.moved(Home::Memory(data.clone()));
                        shelf.save_later(run.clone());
                    }
                    sources.lost.extend(rebuilt.lost);
                    data
                }
                // Without files every run is in memory.
                (Home::Damaged | Home::File, None) => continue,
            };
            sources.all.push(source);
            sources.runs.push(Some(run));
        }
        sources
    }
}

#[cfg(test)]
mod tests;
