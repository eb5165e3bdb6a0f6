//! The files of runs.
//!
//! Owns the folder `runs`: writing a run, opening one, and making one again from the segment that it was made of. What is
//! here is a copy: nothing of it is synced, and whatever cannot be read is made anew.

use super::catalog::{Home, Run, Span};
use crate::compacted;
use crate::device::{Access, Disk, DiskFile};
use crate::index::Content;
use crate::index::run::bytes::{self, RunFile, RunWriter};
use crate::index::run::{Log, RunData, RunId};
use crate::lately::Lately;
use crate::lock::lock;
use crate::notes::Change;
use crate::place::{RUNS, UNFINISHED};
use crate::scan::{self, Window};
use record::ids::JournalId;
use record::position::Position;
use std::collections::HashSet;
use std::io;
use std::sync::{Arc, Mutex};

/// Most runs that are open at once; beyond it the one that was asked longest ago is closed.
const OPEN_MAX: usize = 192;

/// The folder.
#[derive(Debug)]
pub(crate) struct Shelf {
    disk: Arc<dyn Disk>,
    journal: JournalId,
    writes: bool,
    /// The runs that there were at open, and are.
    found: Mutex<HashSet<RunId>>,
    open: Mutex<Lately<RunId, Arc<RunFile>, OPEN_MAX>>,
    /// Runs that are in memory and to be written.
    unsaved: Mutex<Vec<Arc<Run>>>,
}

/// The name of a run's file in the journal's directory.
pub(crate) fn file_of(id: RunId) -> String {
    format!("{RUNS}/{:02}-{:016x}-{:016x}-{:08x}.run", id.level, id.first.get(), id.last.get(), id.seal)
}

fn id_of(name: &str) -> Option<RunId> {
    let mut parts = name.strip_suffix(".run")?.split('-');
    let level = parts.next()?.parse().ok()?;
    let mut number = || u64::from_str_radix(parts.next()?, 16).ok();
    let (first, last, seal) = (Position::new(number()?), Position::new(number()?), u32::try_from(number()?).ok()?);
    let id = RunId { last, first, level, seal };
    (parts.next().is_none() && file_of(id).ends_with(name)).then_some(id)
}

/// A run that was made again.
#[derive(Debug)]
pub(crate) struct Rebuilt {
    pub run: RunData,
    /// Stretches of it that could not be read in the segment either.
    pub lost: Vec<(Position, Position)>,
}

impl Shelf {
    /// The runs of a journal. `writes`: for its one writer.
    pub(crate) fn new(disk: Arc<dyn Disk>, journal: JournalId, writes: bool) -> Self {
        let found = disk.list(RUNS).unwrap_or_default().iter().filter_map(|name| id_of(name)).collect();
        let found = Mutex::new(found);
        Self { disk, journal, writes, found, open: Mutex::default(), unsaved: Mutex::default() }
    }

    /// Whether runs are to be written here.
    pub(crate) fn writes(&self) -> bool {
        self.writes
    }

    /// Whether a file of this run was there at open, and was not removed since as none of this history.
    pub(crate) fn has(&self, id: RunId) -> bool {
        lock(&self.found).contains(&id)
    }

    /// A run is to be written when there is time.
    pub(crate) fn save_later(&self, run: Arc<Run>) {
        if self.writes {
            lock(&self.unsaved).push(run);
        }
    }

    /// Writes what is to be written.
    pub(crate) fn save_all(&self) -> io::Result<()> {
        loop {
            let Some(run) = lock(&self.unsaved).pop() else { return Ok(()) };
            if let Home::Memory(data) = run.home() {
                if let Err(error) = self.save(&data) {
                    lock(&self.unsaved).push(run);
                    return Err(error);
                }
                run.moved(Home::File);
            }
        }
    }

    /// Opens a run.
    pub(crate) fn open(&self, id: RunId) -> io::Result<Arc<RunFile>> {
        let mut opened = lock(&self.open);
        if let Some(file) = opened.find(id) {
            return Ok(file);
        }
        let file = Arc::new(RunFile::open(self.disk.open(&file_of(id), Access::Buffered)?, self.journal)?);
        if crate::index::run::Groups::id(file.as_ref()) != id {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "another run lies under this name"));
        }
        opened.keep(id, file.clone());
        Ok(file)
    }

    /// Begins a run's file.
    pub(crate) fn begin(&self, id: RunId) -> io::Result<RunWriter> {
        Ok(RunWriter::new(self.unfinished(id)?, self.journal, id))
    }

    fn unfinished(&self, id: RunId) -> io::Result<Arc<dyn DiskFile>> {
        let name = format!("{}{UNFINISHED}", file_of(id));
        match self.disk.create(&name, 0, Access::Buffered) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.make_folder(RUNS)?;
                self.disk.create(&name, 0, Access::Buffered)
            }
            made => made,
        }
    }

    /// A run's file is complete.
    pub(crate) fn finish(&self, id: RunId) -> io::Result<()> {
        self.disk.rename(&format!("{}{UNFINISHED}", file_of(id)), &file_of(id))
    }

    /// A run's file will not be complete.
    pub(crate) fn give_up(&self, id: RunId) {
        let _ = self.disk.remove(&format!("{}{UNFINISHED}", file_of(id)));
    }

    /// Writes a run.
    fn save(&self, run: &RunData) -> io::Result<()> {
        bytes::write(self.unfinished(run.id)?, self.journal, run)?;
        self.finish(run.id)
    }

    /// A run's file is damaged: nobody is to come across it again.
    pub(crate) fn discard(&self, run: &Run, error: &io::Error) {
        let id = run.id;
        tracing::warn!(
            "journal {}: the index of seq:{} to seq:{} cannot be read ({error}): it is made again from what it was made of",
            self.disk.describe(),
            id.first,
            id.last
        );
        run.moved(Home::Damaged);
        lock(&self.open).drop_one(id);
        if self.writes {
            let _ = self.disk.remove(&file_of(id));
        }
    }

    /// Nobody asks this run any more.
    pub(crate) fn remove(&self, id: RunId) {
        lock(&self.open).drop_one(id);
        lock(&self.unsaved).retain(|run| run.id != id);
        if self.writes {
            // What stays behind is removed at the next open.
            let _ = self.disk.remove(&file_of(id));
        }
    }

    /// Removes the files of runs that are none of this history.
    pub(crate) fn tidy(&self, used: &HashSet<RunId>) {
        if !self.writes {
            return;
        }
        for name in self.disk.list(RUNS).unwrap_or_default() {
            if !id_of(&name).is_some_and(|id| used.contains(&id)) {
                let _ = self.disk.remove(&format!("{RUNS}/{name}"));
            }
        }
        lock(&self.found).retain(|id| used.contains(id));
    }

    /// Makes a run of the lowest level again, from the descriptions in its segment.
    pub(crate) fn rebuild(&self, run: &Run) -> Rebuilt {
        let mut log = Log::from(run.id.first);
        let mut lost = Vec::new();
        let read = run.span.map(|span| self.reread(run.id, span, &mut log, &mut lost));
        if !matches!(read, Some(Ok(()))) {
            lost.push((run.id.first, run.id.last));
        }
        Rebuilt { run: log.seal(run.id.last, run.id.seal), lost }
    }

    fn reread(&self, id: RunId, span: Span, log: &mut Log, lost: &mut Vec<(Position, Position)>) -> io::Result<()> {
        let segment = span.at.segment;
        let file = compacted::open(self.disk.as_ref(), segment);
        let mut copies = Vec::new();
        let mut window = match &file {
            Ok(file) => Some(Window::new(file.as_ref(), file.len()?)),
            Err(_) => None,
        };
        let (mut at, mut next) = (span.at, id.first);
        for _ in 0..span.chunks {
            let here = window.as_mut().and_then(|window| scan::sighting(window, self.journal, at));
            let whole = here.filter(|sighting| sighting.body.is_some());
            let sighting = whole.or_else(|| {
                if let (true, Ok(file)) = (copies.is_empty(), &file) {
                    scan::read_footer(file.as_ref(), self.journal, segment, &mut copies);
                }
                copies.iter().position(|copy| copy.seen.place == at).map(|found| copies.swap_remove(found))
            });
            let Some(sighting) = sighting.filter(|sighting| sighting.seen.header.first_position >= next) else {
                lost.push((next, id.last));
                return Ok(());
            };
            let header = &sighting.seen.header;
            for (position, record) in (header.first_position.get()..).zip(sighting.body.iter().flat_map(|b| &b.records))
            {
                if let Some((extent, change)) = Change::of(&record.descriptor) {
                    log.push(record.descriptor.volume, extent, Position::new(position), Content::of(change));
                }
            }
            next = header.next_position;
            at.offset += header.disk_bytes();
        }
        Ok(())
    }
}

impl Content {
    /// What a change makes of its sectors.
    pub(crate) fn of(change: Change) -> Self {
        match change {
            Change::Write => Self::Data,
            Change::Punch => Self::Hole,
            Change::Zero => Self::Zero,
        }
    }
}
