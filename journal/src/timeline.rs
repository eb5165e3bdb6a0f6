//! What a group's records mean for its points.
//!
//! Owns gaps, grid points, bookmarks and the other marks of a group's history. Which positions are offered and what a
//! person calls them is asked in `offering`; which are points across several splitters is `barriers`', when a position was
//! `labels`'. A pure machine: records go in in order of position, answers come out; no file, no clock.

mod barriers;
mod labels;
mod offering;
mod saving;
mod view;

pub use view::{At, Bookmark, Gap, GapCause, Mark, MarkKind, TimelineView, Window, utc};

use crate::notes::{Change, Event};
use crate::path::Rollback;
use crate::status::OpCounts;
use barriers::Barriers;
pub(crate) use labels::Labels;
use record::chunk::Descriptor;
use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::{Incarnation, SplitterId};
use record::member::BookmarkNote;
use record::op::Op;
use record::position::{Label, Position, Session};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Newest flushes and newest discards after a pause that are kept as marks, each.
const RECENT_MARKS_MAX: usize = 256;
/// How long without a discard makes the next one worth a mark, in nanoseconds.
const PUNCH_PAUSE_NANOS: u64 = 10_000_000_000;

/// Positions that are refused: from `begin`, until `end`, not included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Withheld {
    begin: Position,
    end: Option<Position>,
    cause: GapCause,
}

impl Withheld {
    fn holds(&self, position: Position) -> bool {
        self.begin <= position && self.end.is_none_or(|end| position < end)
    }
}

/// Whose record it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Speaker {
    /// The session of its stream; 0 for the journal's own.
    pub session: Session,
    /// The splitter whose newest session that is.
    pub splitter: Option<SplitterId>,
}

/// What the records of a group mean for its points.
#[derive(Debug)]
pub(crate) struct Timeline {
    labels: Labels,
    /// Positions before it are no points any more, but for grid points and bookmarks.
    horizon: At,
    /// Grid points, and when they were.
    grid: BTreeMap<Position, Label>,
    /// Stretches without consistency, ascending, never overlapping; the last may be open.
    gaps: Vec<Withheld>,
    /// What the open gap still waits for: of each splitter (`None`: any one) a RESYNC_END of this session or a later.
    owed: BTreeMap<Option<SplitterId>, Session>,
    /// The newest position up to which nothing is known to be lost.
    sound: Position,
    /// Stretches with failed writes not yet read again, ascending; the last may be open.
    unsure: Vec<Withheld>,
    /// The extents that are unsure now.
    indeterminate: Vec<(Incarnation, Extent)>,
    /// All INDETERMINATE records there were.
    failures: Vec<(Position, Incarnation, Extent)>,
    /// Points across several splitters.
    barriers: Barriers,
    bookmarks: BTreeMap<String, (Position, u64)>,
    rollbacks: Vec<Rollback>,
    first_joined: Option<Position>,
    flushes: VecDeque<At>,
    punches: VecDeque<At>,
    last_punch: Option<Label>,
    marks: Vec<(Position, MarkKind)>,
    counts: OpCounts,
}

impl Timeline {
    /// Before the first record.
    pub(crate) fn new() -> Self {
        Self {
            labels: Labels::default(),
            horizon: At::ORIGIN,
            grid: BTreeMap::new(),
            gaps: Vec::new(),
            owed: BTreeMap::new(),
            barriers: Barriers::default(),
            sound: Position::ORIGIN,
            unsure: Vec::new(),
            indeterminate: Vec::new(),
            failures: Vec::new(),
            bookmarks: BTreeMap::new(),
            rollbacks: Vec::new(),
            first_joined: None,
            flushes: VecDeque::new(),
            punches: VecDeque::new(),
            last_punch: None,
            marks: Vec::new(),
            counts: OpCounts::default(),
        }
    }

    // ---- records go in

    /// The next record is the first of a chunk.
    pub(crate) fn begin_chunk(&mut self) {
        self.labels.begin_chunk();
    }

    /// The next record, of whatever sort.
    fn came(&mut self, op: Op, label: Label, speaker: Speaker) -> Position {
        let At { position: at, .. } = self.labels.push(label);
        self.counts.add(op);
        self.barriers.spoke(speaker.session, op);
        at
    }

    /// The next record, which changes a volume.
    pub(crate) fn changed(&mut self, descriptor: &Descriptor, extent: Extent, change: Change, speaker: Speaker) {
        let at = self.came(descriptor.op, descriptor.label, speaker);
        self.determined(descriptor.volume, extent, at);
        self.sound = at;
        match change {
            Change::Punch => self.punched(),
            Change::Write | Change::Zero => {}
        }
    }

    /// The next record, which changes no volume. `name` is the volume's, for JOINED and LEAVE.
    pub(crate) fn apply(&mut self, op: Op, label: Label, event: &Event, speaker: Speaker, volume_name: Option<&str>) {
        let at = self.came(op, label, speaker);
        let name = || volume_name.unwrap_or_default().to_string();
        if means_something(event) {
            self.labels.note(at);
        }
        match event {
            Event::Flush => {
                self.sound = at;
                push_recent(&mut self.flushes, self.labels.head());
            }
            Event::Bookmark(BookmarkNote { ticket, name }) => {
                self.sound = at;
                // The first of a name keeps it: scripts rely on what a name once meant.
                self.bookmarks.entry(name.clone()).or_insert((at, *ticket));
            }
            Event::Noop => self.sound = at,
            Event::Indeterminate(volume, extent) => {
                self.sound = at;
                self.failures.push((at, *volume, *extent));
                if self.indeterminate.is_empty() && !bug(Bug::IndeterminateIgnored) {
                    self.unsure.push(Withheld { begin: at, end: None, cause: GapCause::FailedWrite });
                }
                self.indeterminate.push((*volume, *extent));
            }
            Event::ResyncBegin => self.open_gap(at, GapCause::Resync, speaker.splitter, Session::new(0)),
            Event::ResyncEnd => self.resynced(speaker),
            // What the unreadable note of a session may have said is seen to by whoever knows the splitters.
            Event::Join(_) | Event::Commit | Event::Unreadable(_) => {}
            Event::Barrier(note) => {
                self.sound = at;
                if self.barriers.placed(speaker.session, note, at) && !note.name.is_empty() {
                    self.bookmarks.entry(note.name.clone()).or_insert((at, note.ticket));
                }
            }
            Event::Joined(_) => {
                self.sound = at;
                self.first_joined.get_or_insert(at);
                self.marks.push((at, MarkKind::Joined { volume: name() }));
            }
            Event::Leave(volume) => {
                self.marks.push((at, MarkKind::Left { volume: name() }));
                self.indeterminate.retain(|(of, _)| of != volume);
                self.close_unsure(at);
            }
            Event::Rollback(note) => {
                self.sound = at;
                self.rollbacks.push(Rollback { at, target: note.target, id: note.id });
                self.marks.push((at, MarkKind::Rollback { target: note.target, id: note.id }));
                // Every splitter held its hosts for it.
                self.barriers.stands_still(at);
                // The target was a point, so nothing on its line is unsure; the restore sees to the backing.
                self.indeterminate.clear();
                self.close_unsure(at);
            }
            Event::BookmarkRemoved(name) => {
                self.bookmarks.remove(name);
            }
            Event::Recovery(note) => self.marks.push((at, MarkKind::Recovery { clean: note.clean })),
            Event::SessionGranted(note) => {
                if note.clean {
                    self.sound = at;
                } else {
                    self.open_gap(self.sound.next(), GapCause::RecordsLost, Some(note.splitter), note.session);
                }
            }
            Event::SessionLost(note) => {
                let next = note.session.next();
                self.open_gap(self.sound.next(), GapCause::RecordsLost, Some(note.splitter), next);
            }
        }
    }

    /// A session's RESYNC_END: the gap ends there, if nothing else is owed.
    fn resynced(&mut self, speaker: Speaker) {
        self.owed.retain(|of, session| (of.is_some() && *of != speaker.splitter) || speaker.session < *session);
        self.close_gap();
    }

    /// A splitter's last volume has left: what it lost is nobody's any more.
    pub(crate) fn serves_nothing(&mut self, splitter: SplitterId) {
        if self.owed.remove(&Some(splitter)).is_some() {
            self.close_gap();
        }
    }

    /// Volumes of more than one splitter are shown from the last record on, or not any more.
    pub(crate) fn set_shared(&mut self, shared: bool) {
        let at = self.head().position;
        if let Some(before) = at.previous() {
            self.labels.note(before);
        }
        self.barriers.set_shared(at, shared);
    }

    /// Ends the open gap at the last record, if nothing is owed.
    fn close_gap(&mut self) {
        let at = self.head().position;
        if let Some(gap) = self.gaps.last_mut().filter(|gap| gap.end.is_none())
            && self.owed.is_empty()
        {
            gap.end = Some(at);
            self.labels.note(at);
            self.sound = at;
            self.gaps.retain(|gap| gap.end != Some(gap.begin));
        }
    }

    /// Records up to `last` are lost.
    pub(crate) fn lost(&mut self, last: Position) {
        self.labels.lost(last);
    }

    /// What lost records said about consistency cannot be known: points are refused from the last sound one on,
    /// until a resync of that splitter (`None`: of any) in `session` or a later one.
    pub(crate) fn consistency_unknown(&mut self, splitter: Option<SplitterId>, session: Session) {
        self.open_gap(self.sound.next(), GapCause::Damage, splitter, session);
    }

    fn open_gap(&mut self, begin: Position, cause: GapCause, splitter: Option<SplitterId>, closes_with: Session) {
        let owed = self.owed.entry(splitter).or_insert(closes_with);
        *owed = closes_with.max(*owed);
        if self.gap_is_open() || bug(Bug::PointInsideResync) {
            return;
        }
        // What was withheld before stays so: the new stretch begins behind it.
        let begin = self.gaps.last().and_then(|gap| gap.end).map_or(begin, |end| begin.max(end));
        self.labels.note(begin);
        if let Some(before) = begin.previous() {
            self.labels.note(before);
        }
        self.gaps.push(Withheld { begin, end: None, cause });
    }

    fn determined(&mut self, volume: Incarnation, extent: Extent, at: Position) {
        if self.indeterminate.is_empty() {
            return;
        }
        let open = std::mem::take(&mut self.indeterminate);
        for (of, unsure) in open {
            if of == volume {
                let left = crate::index::subtract(&[unsure], &[extent]);
                self.indeterminate.extend(left.into_iter().map(|part| (of, part)));
            } else {
                self.indeterminate.push((of, unsure));
            }
        }
        self.close_unsure(at);
    }

    fn close_unsure(&mut self, at: Position) {
        if self.indeterminate.is_empty()
            && let Some(unsure) = self.unsure.last_mut().filter(|unsure| unsure.end.is_none())
        {
            unsure.end = Some(at);
            self.labels.note(at);
        }
    }

    /// Positions before it are no points any more, but for bookmarks.
    pub(crate) fn set_horizon(&mut self, horizon: At) {
        self.horizon = horizon;
        self.labels.note_as(horizon);
    }

    /// Positions before it are no points any more, but for bookmarks.
    pub(crate) fn horizon(&self) -> At {
        self.horizon
    }

    /// From now on these stay points whatever the horizon.
    pub(crate) fn set_grid(&mut self, points: &[At]) {
        for at in points {
            self.labels.note_as(*at);
        }
        self.grid = points.iter().map(|at| (at.position, at.label)).collect();
    }

    /// Grid points, oldest first, those of the window included.
    pub(crate) fn grid(&self) -> impl Iterator<Item = At> {
        self.grid.iter().map(|(position, label)| At { position: *position, label: *label })
    }

    /// Nothing in front of this position is ever asked again: what only concerns that goes.
    pub(crate) fn forget(&mut self, position: Position) {
        let over = |stretch: &Withheld| stretch.end.is_some_and(|end| end < position);
        self.gaps.retain(|stretch| !over(stretch));
        self.unsure.retain(|stretch| !over(stretch));
        self.failures.retain(|(at, ..)| *at >= position);
        self.flushes.retain(|at| at.position >= position);
        self.punches.retain(|at| at.position >= position);
        self.marks.retain(|(at, _)| *at >= position);
        // The last record in front of it may be a bookmark's, or the horizon.
        self.barriers.forget(position.previous().unwrap_or(position));
        self.labels.forget_chunks(position);
        let (first, horizon, sound) = (self.first_joined, self.horizon.position, self.sound);
        let mut kept: BTreeSet<Position> = self.bookmarks.values().map(|(at, _)| *at).collect();
        kept.extend(self.grid.keys());
        let stays = |at: Position| Some(at) == first || at == horizon || at == sound || kept.contains(&at);
        self.labels.forget_notes(position, stays);
    }

    fn punched(&mut self) {
        let At { label, .. } = self.head();
        let paused = self.last_punch.is_none_or(|last| label.nanos() - last.nanos() >= PUNCH_PAUSE_NANOS);
        self.last_punch = Some(label);
        if paused {
            push_recent(&mut self.punches, self.labels.head());
        }
    }

    // ---- answers come out

    /// The newest position, with its label; the origin when there is none.
    pub(crate) fn head(&self) -> At {
        self.labels.head()
    }

    /// When positions were.
    pub(crate) fn labels(&self) -> &Labels {
        &self.labels
    }

    /// A position with its label; of one that means nothing the label may be a chunk older, see `Labels`.
    pub(crate) fn at(&self, position: Position) -> At {
        self.labels.at(position)
    }

    /// Rollbacks, oldest first.
    pub(crate) fn rollbacks(&self) -> &[Rollback] {
        &self.rollbacks
    }

    /// Whether points are refused until a resync.
    pub(crate) fn gap_is_open(&self) -> bool {
        self.gaps.last().is_some_and(|gap| gap.end.is_none())
    }

    /// Extents whose content is unknown until they are read again.
    pub(crate) fn indeterminate(&self) -> &[(Incarnation, Extent)] {
        &self.indeterminate
    }

    /// All INDETERMINATE records there were.
    pub(crate) fn failures(&self) -> &[(Position, Incarnation, Extent)] {
        &self.failures
    }

    /// How many records of each kind.
    pub(crate) fn counts(&self) -> &OpCounts {
        &self.counts
    }

    /// Whether a bookmark of that name exists.
    pub(crate) fn bookmark(&self, name: &str) -> Option<Position> {
        self.bookmarks.get(name).map(|(at, _)| *at)
    }

    /// The newest point across splitters.
    pub(crate) fn last_barrier(&self) -> Option<Position> {
        self.barriers.last()
    }

    /// The newest barrier of which every part is there.
    pub(crate) fn whole_barrier(&self) -> Option<u64> {
        self.barriers.whole()
    }

    /// Bookmarks, oldest first.
    pub(crate) fn bookmarks(&self) -> Vec<Bookmark> {
        let mut all: Vec<Bookmark> = self
            .bookmarks
            .iter()
            .map(|(name, (at, ticket))| Bookmark { name: name.clone(), at: self.at(*at), ticket: *ticket })
            .collect();
        all.sort_by_key(|bookmark| bookmark.at.position);
        all
    }

    /// All of it.
    pub(crate) fn view(&self) -> TimelineView {
        let mut marks: Vec<Mark> = self
            .flushes
            .iter()
            .map(|at| (*at, MarkKind::Flush))
            .chain(self.punches.iter().map(|at| (*at, MarkKind::PunchAfterPause)))
            .chain(self.barriers.newest(RECENT_MARKS_MAX).map(|at| (self.at(at), MarkKind::Barrier)))
            .chain(self.marks.iter().map(|(at, kind)| (self.at(*at), kind.clone())))
            .map(|(at, kind)| Mark { at, kind })
            .collect();
        marks.sort_by_key(|mark| mark.at.position);
        let mut gaps: Vec<Gap> = self.gaps.iter().chain(&self.unsure).map(|withheld| self.gap(withheld)).collect();
        gaps.sort_by_key(|gap| gap.begin.position);
        TimelineView {
            window: self.window().ok(),
            head: self.head(),
            barriers_only: self.barriers.are_shared(),
            gaps,
            bookmarks: self.bookmarks(),
            grid: self.grid().filter(|at| at.position < self.horizon.position).collect(),
            marks,
            counts: self.counts.clone(),
        }
    }
}

/// Whether a person may be told when it was.
fn means_something(event: &Event) -> bool {
    match event {
        Event::Flush | Event::Noop | Event::Commit => false,
        Event::Bookmark(_)
        | Event::Indeterminate(..)
        | Event::ResyncBegin
        | Event::ResyncEnd
        | Event::Join(_)
        | Event::Joined(_)
        | Event::Leave(_)
        | Event::Rollback(_)
        | Event::BookmarkRemoved(_)
        | Event::Recovery(_)
        | Event::SessionGranted(_)
        | Event::SessionLost(_)
        | Event::Barrier(_)
        | Event::Unreadable(_) => true,
    }
}

fn push_recent(recent: &mut VecDeque<At>, at: At) {
    if recent.len() == RECENT_MARKS_MAX {
        recent.pop_front();
    }
    recent.push_back(at);
}
