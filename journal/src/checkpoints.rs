//! The checkpoints of a journal: from which state a restart goes on, and when the next one is due.
//!
//! Owns the folder `state`, and the chain: each checkpoint's piece begins where the one before ended. A restart takes all
//! that follow one another without a hole; behind the first that is missing or damaged it reads the segments again. What
//! was forgotten cannot be read again: the checkpoint in front of the oldest segment stays, though the ones behind it
//! say all that it says, so that a damaged one costs time only. Deliberately knows nothing of what a state is made of.

use crate::checkpoint::{Checkpoint, In, Out};
use crate::device::Disk;
use crate::error::JournalError;
use crate::index::RunIndex;
use crate::mark::TailMark;
use crate::place::{STATE, SegmentNumber};
use crate::scan::Scan;
use crate::state::{State, Stretch};
use crate::superblock::{Retained, Superblock};
use crate::whole;
use record::ids::JournalId;
use record::position::Position;
use std::fmt;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

const SUFFIX: &str = ".state";
/// A checkpoint is due after one segment in so many that there are,
const ONE_IN: u64 = 64;
/// but after so many at the latest: they are what a restart has to read, and what comes free at once.
const SEGMENTS_MAX: u64 = 2;

/// The name of a checkpoint's file in the journal's directory.
pub(crate) fn file_of(segment: SegmentNumber) -> String {
    format!("{STATE}/{:08}{SUFFIX}", segment.get())
}

fn segment_of(name: &str) -> Option<SegmentNumber> {
    let number = SegmentNumber::new(name.strip_suffix(SUFFIX)?.parse().ok()?);
    file_of(number).ends_with(name).then_some(number)
}

/// From where the segments are read.
#[derive(Debug)]
pub(crate) struct Start {
    /// The first segment to be read.
    pub segment: SegmentNumber,
    /// The tail in front of it.
    pub mark: TailMark,
    /// What the records in front of it have led to.
    pub state: State,
    /// The checkpoints that there are and can be read, oldest first, with the position in front of which each is.
    pub known: Vec<(SegmentNumber, Position)>,
    /// Files that cannot be read as checkpoints of this journal.
    pub unreadable: Vec<String>,
}

impl Start {
    /// Whether it is of the same history as the segment that it is in front of, as far as that can be read.
    pub(crate) fn fits(&self, scan: &Scan) -> bool {
        let header = scan.segment(self.segment).and_then(|segment| segment.header.as_ref().ok());
        let ends = |mark: &TailMark| (mark.next_chunk, mark.next_position, mark.previous);
        header.is_none_or(|header| ends(&header.mark) == ends(&self.mark))
    }
}

/// How much of the segments is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum From {
    /// As little as can be.
    Newest,
    /// All there are.
    Oldest,
}

/// Reads what the checkpoints know. Where that does not go together, as little of it as can be.
pub(crate) fn start(
    disk: &dyn Disk,
    superblock: &Superblock,
    from: From,
    index: impl Fn() -> RunIndex,
) -> Result<Start, JournalError> {
    let start = start_from(disk, superblock, from, index());
    match (start, from) {
        (Err(JournalError::StateLost { .. }), From::Newest) => start_from(disk, superblock, From::Oldest, index()),
        (start, _) => start,
    }
}

fn start_from(disk: &dyn Disk, superblock: &Superblock, from: From, index: RunIndex) -> Result<Start, JournalError> {
    let Retained { first_segment, first_position, .. } = superblock.retained;
    let mut unreadable = Vec::new();
    let mut chain: Vec<Checkpoint> = Vec::new();
    let mut in_front: Option<Checkpoint> = None;
    let mut known = Vec::new();
    let mut at = first_position;
    for segment in listed(disk)? {
        let checkpoint = whole::read(disk, &file_of(segment)).ok();
        let checkpoint = checkpoint.and_then(|bytes| Checkpoint::decode(&bytes, superblock.journal));
        let Some(checkpoint) = checkpoint.filter(|checkpoint| checkpoint.segment == segment) else {
            unreadable.push(file_of(segment));
            continue;
        };
        let ends = checkpoint.mark.next_position;
        if segment == first_segment && ends == first_position {
            known.push((segment, ends));
            in_front = Some(checkpoint);
        } else if checkpoint.from == at && ends >= at && segment > first_segment {
            known.push((segment, ends));
            at = ends;
            chain.push(checkpoint);
        }
        // Any other is behind a hole, or of a time before what is kept.
    }
    // Where the one in front of the oldest segment is lost, those behind it are all there is.
    if from == From::Oldest && (in_front.is_some() || first_segment == SegmentNumber::FIRST) {
        // What is replayed stands in the next one's piece: none of these may stand in front of it.
        chain.clear();
        known.retain(|(segment, _)| *segment == first_segment);
    }
    let base = chain.last().or(in_front.as_ref()).map(|checkpoint| (checkpoint.segment, checkpoint.mark));
    let state = match (chain.last().or(in_front.as_ref()), first_segment == SegmentNumber::FIRST) {
        (Some(newest), _) => {
            let pieces: Option<Vec<Stretch>> = chain.iter().map(|c| Stretch::restore(&mut In::of(&c.piece))).collect();
            let mut input = In::of(&newest.state);
            pieces.and_then(|pieces| State::restore(&mut input, pieces, first_segment, first_position, index))
        }
        (None, true) => Some(State::new(index)),
        (None, false) => None,
    };
    let state = state.ok_or_else(|| JournalError::StateLost { journal: disk.describe() })?;
    let (segment, mark) = base.unwrap_or((SegmentNumber::FIRST, TailMark::START));
    Ok(Start { segment, mark, state, known, unreadable })
}

/// Removes the files of checkpoints that are not among those that follow one another: for the one writer.
pub(crate) fn remove_others(disk: &dyn Disk, known: &[(SegmentNumber, Position)]) -> Result<(), JournalError> {
    for segment in listed(disk)?.into_iter().filter(|segment| !known.iter().any(|(of, _)| of == segment)) {
        let name = file_of(segment);
        let failed = |source| JournalError::Io { journal: disk.describe(), doing: format!("remove {name}"), source };
        disk.remove(&name).map_err(failed)?;
    }
    Ok(())
}

/// The segments in front of which there are checkpoints, ascending.
fn listed(disk: &dyn Disk) -> Result<Vec<SegmentNumber>, JournalError> {
    let names = match disk.list(STATE) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            return Err(JournalError::Io { journal: disk.describe(), doing: "list checkpoints".into(), source });
        }
    };
    let mut all: Vec<SegmentNumber> = names.iter().filter_map(|name| segment_of(name)).collect();
    all.sort_unstable();
    Ok(all)
}

/// The checkpoints of a journal that is open for writing.
pub(crate) struct Checkpoints {
    disk: Arc<dyn Disk>,
    journal: JournalId,
    /// Those that are durable and follow one another, oldest first, with the position in front of which each is.
    known: Vec<(SegmentNumber, Position)>,
    /// The one that is being written.
    writing: Option<Writing>,
}

struct Writing {
    segment: SegmentNumber,
    ends: Position,
    runs: usize,
    done: Receiver<io::Result<()>>,
}

impl fmt::Debug for Checkpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} checkpoints", self.known.len())
    }
}

impl Checkpoints {
    pub(crate) fn new(disk: Arc<dyn Disk>, journal: JournalId, known: Vec<(SegmentNumber, Position)>) -> Self {
        Self { disk, journal, known, writing: None }
    }

    /// Whether one is due in front of this segment, when there are so many segments in all.
    pub(crate) fn is_due(&self, segment: SegmentNumber, segments: u64) -> bool {
        let last = self.known.last().map_or(1, |(segment, _)| segment.get());
        let since = u64::from(segment.get().saturating_sub(last));
        self.writing.is_none() && since >= (segments / ONE_IN).clamp(1, SEGMENTS_MAX)
    }

    /// Writes what the state is in front of this segment, beside.
    pub(crate) fn write(&mut self, segment: SegmentNumber, mark: &TailMark, first: Position, state: &mut State) {
        let from = self.known.last().map_or(first, |(_, ends)| *ends);
        let (mut piece, mut rest) = (Out::default(), Out::default());
        state.end_run();
        let runs = state.save_piece(from, &mut piece);
        state.save(&mut rest);
        let checkpoint = Checkpoint { segment, from, mark: *mark, piece: piece.finish(), state: rest.finish() };
        let (tell, done) = sync_channel(1);
        let (disk, journal) = (self.disk.clone(), self.journal);
        let work = move || {
            // Nobody listens any more when the journal is gone.
            let _ = tell.send(store(disk.as_ref(), journal, &checkpoint));
        };
        match self.disk.aside(Box::new(work)) {
            Ok(()) => self.writing = Some(Writing { segment, ends: mark.next_position, runs, done }),
            Err(error) => self.failed(segment, &error),
        }
    }

    /// Takes notice of one that was written meanwhile.
    pub(crate) fn look(&mut self, state: &mut State) {
        let Some(Writing { segment, ends, runs, done }) = self.writing.take() else { return };
        match done.try_recv() {
            Ok(Ok(())) => {
                state.saved(runs);
                self.known.push((segment, ends));
            }
            Ok(Err(error)) => self.failed(segment, &error),
            Err(TryRecvError::Empty) => self.writing = Some(Writing { segment, ends, runs, done }),
            Err(TryRecvError::Disconnected) => self.failed(segment, &ErrorKind::BrokenPipe.into()),
        }
    }

    fn failed(&self, segment: SegmentNumber, error: &io::Error) {
        tracing::warn!(
            "journal {}: the checkpoint in front of segment {segment} cannot be written ({error}); nothing is lost, a restart \
             takes longer, and nothing older can be given back until one is written",
            self.disk.describe()
        );
    }

    /// Those that are durable, oldest first, with the position in front of which each is.
    pub(crate) fn known(&self) -> &[(SegmentNumber, Position)] {
        &self.known
    }

    /// What is in front of this segment is not there any more: neither are checkpoints in front of it.
    pub(crate) fn forget(&mut self, segment: SegmentNumber) -> io::Result<()> {
        for gone in listed(self.disk.as_ref()).map_err(io::Error::other)?.into_iter().filter(|s| *s < segment) {
            self.disk.remove(&file_of(gone))?;
        }
        self.known.retain(|(of, _)| *of >= segment);
        Ok(())
    }

    /// Waits until none is being written.
    pub(crate) fn finish(&mut self) {
        if let Some(writing) = self.writing.take() {
            // Whether it could be written shows at the next open.
            let _ = writing.done.recv();
        }
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        self.finish();
    }
}

/// Writes a checkpoint: it has its name only when it is durable.
fn store(disk: &dyn Disk, journal: JournalId, checkpoint: &Checkpoint) -> io::Result<()> {
    let (name, bytes) = (file_of(checkpoint.segment), checkpoint.encode(journal));
    match whole::write(disk, &name, &bytes) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            disk.make_folder(STATE)?;
            disk.sync_folder("")?;
            whole::write(disk, &name, &bytes)?;
        }
        written => written?,
    }
    disk.sync_folder(STATE)
}
