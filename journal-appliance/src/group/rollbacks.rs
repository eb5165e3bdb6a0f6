//! Carrying out a rollback, and bringing what a committed one owes into the splitter's backing.
//!
//! Owns who waits for it and what it tells them; `crate::rollback` decides, the journal holds what is owed.

use std::sync::mpsc::SyncSender;

use control::answer::{Progress, RollbackPlan, RolledBack};
use control::error::ControlError;
use control::events::{EventKind, News};
use control::name::{Name, ROLLBACK_PREFIX};
use control::server::ProgressSink;
use journal::{ChangedSet, JournalError, MarkKind, RestoreContent};
use record::conversation::{Bytes, CONTENT_BYTES_MAX, Content, Piece, ToSplitter, VolumeExtent};
use record::geometry::Extent;
use record::ids::{Incarnation, SplitterId};
use record::member::RollbackNote;
use record::position::Position;

use super::barriers::Purpose;
use super::{Group, journal_error, point_error};
use crate::rollback::{Action, Input, Rollback};

/// A rollback under way.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) core: Rollback,
    target: Position,
    bookmark: String,
    ticket: u64,
    plan: Option<RollbackPlan>,
    restored_bytes: u64,
    punched_bytes: u64,
    progress: ProgressSink,
    pub(super) answer: Option<SyncSender<Result<RolledBack, ControlError>>>,
    /// Restored, and not yet stored as such: the journal's disk was full.
    unsettled: Vec<(Incarnation, Extent)>,
}

/// Why there is no commit.
#[derive(Debug)]
enum NotCommitted {
    /// Nothing was changed.
    NothingChanged(ControlError),
    /// It may be there: see the error.
    Undecided(ControlError),
}

impl From<ControlError> for NotCommitted {
    fn from(error: ControlError) -> Self {
        Self::NothingChanged(error)
    }
}

/// An order to roll back, its safety checks done.
#[derive(Debug)]
pub struct Order {
    /// Where to.
    pub target: Position,
    /// For the bookmark that undoes it.
    pub ticket: u64,
    /// Where it tells how far it is.
    pub progress: ProgressSink,
    /// Where the answer goes, once.
    pub answer: SyncSender<Result<RolledBack, ControlError>>,
}

impl Group {
    /// Where the rollback that is under way goes back to.
    pub(super) fn rollback_target(&self) -> Option<Position> {
        self.rollback.as_ref().map(|running| running.target)
    }

    /// Begins a rollback. It is finished whether or not the asker waits.
    pub fn roll_back(&mut self, order: Order) -> Result<(), ControlError> {
        let no = |why: String| ControlError::refused(format!("cannot roll back group {}: {why}", self.name));
        if let Some(running) = &self.rollback {
            let (done, total) = running.core.progress();
            return Err(no(format!(
                "another rollback is under way ({done} of {total} bytes are back in the volumes); it finishes by itself"
            )));
        }
        let view = self.view();
        if view.needs_resync {
            return Err(no("writes were lost, the volumes and the journal differ".to_owned())
                .hint(format!("undisk group resync {}", self.name)));
        }
        if view.synchronising > 0 {
            return Err(no("a volume is being synchronised for the first time; wait for it".to_owned()));
        }
        if !view.linked {
            return Err(ControlError::failed(format!(
                "cannot roll back group {}: no splitter is linked, so nobody can hold its hosts; nothing was changed",
                self.name
            ))
            .hint("undisk status (is the splitter running?)"));
        }
        if !self.is_kept(order.target) {
            return Err(no(format!("seq:{} was given up meanwhile: it is older than the window", order.target))
                .hint(format!("undisk point list {}", self.name)));
        }
        // Never one that was tried before: a late word of an earlier try must not be taken for one of this.
        let id = self.journal.next_rollback_id().max(self.rollback_tried + 1);
        self.rollback_tried = id;
        let mut at = self.clock.wall_ns();
        let mut bookmark = Name::before_rollback(at);
        while self.journal.bookmark_exists(bookmark.as_str()) {
            at += 1_000_000;
            bookmark = Name::before_rollback(at);
        }
        let (core, actions) = Rollback::start(id, &self.name, &self.participants, self.now());
        self.rollback = Some(Running {
            core,
            target: order.target,
            bookmark: bookmark.into(),
            ticket: order.ticket,
            plan: None,
            restored_bytes: 0,
            punched_bytes: 0,
            progress: order.progress,
            answer: Some(order.answer),
            unsettled: Vec::new(),
        });
        tracing::info!(group = self.name, id, target = %order.target, "a rollback begins");
        self.tell(EventKind::RollbackBegun, format!("rollback {id} to seq:{} is being prepared", order.target));
        self.report("waiting for the splitter to hold its hosts", 0, 0);
        self.perform_rollback(actions);
        Ok(())
    }

    /// Takes up what a former process left owed.
    pub(super) fn resume_rollback(&mut self) {
        let Some(map) = self.journal.pending_restore() else { return };
        let owed = bytes_of(&map.extents);
        let timeline = self.journal.timeline();
        let position = timeline
            .marks
            .iter()
            .rev()
            .find(|mark| matches!(mark.kind, MarkKind::Rollback { id, .. } if id == map.id))
            .map_or(timeline.head.position, |mark| mark.at.position);
        tracing::info!(group = self.name, id = map.id, owed, "a rollback is not in the volumes yet; it goes on");
        self.rollback = Some(Running {
            core: Rollback::resume(map.id, &self.name, position, owed),
            target: map.target,
            bookmark: String::new(),
            ticket: 0,
            plan: None,
            restored_bytes: 0,
            punched_bytes: 0,
            progress: ProgressSink::unread(),
            answer: None,
            unsettled: Vec::new(),
        });
    }

    /// A splitter says something of a rollback.
    pub(super) fn rollback_said(&mut self, splitter: SplitterId, input: Input) {
        if let Input::Ready(_, id) = input
            && self.rollback.as_ref().is_none_or(|running| running.core.id() != id)
        {
            // It became ready after it was given up: its hosts wait for a word.
            tracing::info!(group = self.name, id, "the splitter is ready for a rollback that was given up");
            return self.send(splitter, &ToSplitter::RollbackAbort { id });
        }
        self.rollback_step(input);
    }

    /// Every splitter holds its hosts behind this barrier, which is the bookmark.
    pub(super) fn rollback_held(&mut self, id: u64, barrier: u64) {
        if self.rollback.as_ref().is_none_or(|running| running.core.id() != id || running.core.is_committed()) {
            // Given up meanwhile: nobody else lets the hosts go.
            return self.tell_all(&ToSplitter::Release { barrier });
        }
        let prepare = ToSplitter::RollbackPrepare { id, ticket: 0, name: String::new(), barrier: Some(barrier) };
        self.tell_all(&prepare);
    }

    /// Says something to every splitter whose volumes are in the group.
    fn tell_all(&self, message: &ToSplitter) {
        for splitter in &self.participants {
            self.send(*splitter, message);
        }
    }

    /// A splitter was granted its session.
    pub(super) fn rollback_linked(&mut self, splitter: SplitterId) {
        if self.rollback.is_some() {
            let owed = self.journal.pending_restore().map_or(0, |map| bytes_of(&map.extents));
            self.rollback_step(Input::Linked(splitter, owed));
        }
    }

    /// What a rollback still owes to a splitter's volumes.
    pub(super) fn owed(&self, splitter: SplitterId, id: u64) -> Vec<(Incarnation, Extent)> {
        let Some(map) = self.journal.pending_restore().filter(|map| map.id == id) else { return Vec::new() };
        let members = self.journal.members();
        let own = |volume: Incarnation| members.iter().any(|m| m.incarnation == volume && m.splitter == splitter);
        map.extents.into_iter().filter(|(volume, _)| own(*volume)).collect()
    }

    /// The rollback for which a splitter that links has to keep its hosts held: one that owes it something, or of which
    /// nobody knows yet whether it happened.
    pub(super) fn rollback_of(&self, splitter: SplitterId) -> Option<u64> {
        let core = self.rollback.as_ref().map(|running| &running.core).filter(|core| core.is_committed())?;
        let holds = core.is_undecided() || !self.owed(splitter, core.id()).is_empty();
        holds.then(|| core.id())
    }

    pub(super) fn look_at_rollback(&mut self) {
        self.settle_restored();
        self.rollback_step(Input::Tick);
    }

    pub(super) fn rollback_step(&mut self, input: Input) {
        let now = self.now();
        let Some(running) = &mut self.rollback else { return };
        let actions = running.core.step(now, input);
        self.perform_rollback(actions);
    }

    fn perform_rollback(&mut self, actions: Vec<Action>) {
        for action in actions {
            let Some(running) = &self.rollback else { return };
            let id = running.core.id();
            match action {
                Action::SendPrepare => {
                    let (ticket, name) = (running.ticket, running.bookmark.clone());
                    if let [only] = self.participants[..] {
                        self.send(only, &ToSplitter::RollbackPrepare { id, ticket, name, barrier: None });
                    } else {
                        self.want_barrier(Purpose::Rollback { id, ticket, name });
                    }
                }
                Action::SendAbort => self.tell_all(&ToSplitter::RollbackAbort { id }),
                Action::Commit => {
                    let outcome = match self.commit_rollback() {
                        Ok((position, owed)) => Input::Committed(position, owed),
                        Err(NotCommitted::NothingChanged(error)) => Input::NotCommitted(error),
                        Err(NotCommitted::Undecided(error)) => Input::Undecided(error),
                    };
                    self.rollback_step(outcome);
                }
                Action::SendOwed(Some(splitter)) => self.send_owed(splitter, id),
                Action::SendOwed(None) => {
                    for splitter in &self.participants {
                        self.send_owed(*splitter, id);
                    }
                }
                Action::Fail(error) => {
                    tracing::warn!(group = self.name, id, %error, "the rollback failed");
                    self.tell(EventKind::RollbackFailed, format!("rollback {id}: {error}"));
                    let held = running.core.is_committed();
                    let answer = self.rollback.as_mut().and_then(|r| r.answer.take());
                    if !held {
                        self.rollback = None;
                    }
                    if let Some(answer) = answer {
                        let _ = answer.try_send(Err(error));
                    }
                }
                Action::Finish(position) => self.finish_rollback(position),
            }
        }
    }

    /// From "everything before is durable" to the record that commits.
    fn commit_rollback(&mut self) -> Result<(Position, u64), NotCommitted> {
        // The splitter drained before it said that it is ready, so nothing more can be on its way.
        self.append_now();
        let Some(running) = &self.rollback else {
            return Err(ControlError::failed("the rollback is over").into());
        };
        let (id, target, bookmark) = (running.core.id(), running.target, running.bookmark.clone());
        let doing = format!("roll back group {} to seq:{target}", self.name);
        if !self.journal.bookmark_exists(&bookmark) {
            return Err(ControlError::failed(format!(
                "cannot {doing}: the bookmark {bookmark} that would undo it is not in the journal; nothing was changed"
            ))
            .into());
        }
        self.report("comparing the two moments", 0, 0);
        let changed = self.journal.changed_set(target).map_err(|e| point_error(&doing, &e))?;
        let plan = rollback_plan(&self.name, &self.journal, &changed, Vec::new());
        self.journal.store_restore_map(id, &changed).map_err(|e| journal_error(&doing, &e))?;
        let position = match self.journal.rollback(RollbackNote { target, id }, self.label()) {
            Ok(position) => position,
            // The record may be on disk all the same: only opening the journal again tells, and then the map is needed.
            Err(error @ JournalError::Poisoned { .. }) => {
                let why = format!(
                    "{doing}: the journal failed while it wrote that down ({error}); the hosts wait, and the next start \
                     of the appliance finds out whether it happened and finishes it"
                );
                return Err(NotCommitted::Undecided(ControlError::failed(why).hint("undisk down, then undisk up")));
            }
            Err(error) => {
                if let Err(error) = self.journal.discard_restore_map(id) {
                    // Without its record it means nothing; the next opening discards it.
                    tracing::warn!(group = self.name, id, %error, "a restore map stays behind");
                }
                return Err(journal_error(&doing, &error).into());
            }
        };
        tracing::info!(group = self.name, id, %position, %target, bytes = changed.bytes, "the rollback is committed");
        let undone = self.undoes(target);
        let (kind, of) = match &undone {
            Some(bookmark) => (EventKind::RollbackUndone, format!(", to {bookmark}, undoes an earlier one and")),
            None => (EventKind::RollbackCommitted, String::new()),
        };
        let text = format!("rollback {id} to seq:{target}{of} is committed as seq:{position}; #{bookmark} undoes it");
        self.events.tell(News::new(kind, text).group(&self.name).bytes(changed.bytes));
        self.commit_own();
        if let Some(running) = &mut self.rollback {
            running.plan = Some(plan);
        }
        let owed = self.journal.pending_restore().map_or(0, |map| bytes_of(&map.extents));
        Ok((position, owed))
    }

    /// The bookmark of an earlier rollback, if this target is where one began.
    fn undoes(&self, target: Position) -> Option<String> {
        let bookmarks = self.journal.reader().bookmarks();
        let of_rollback = |b: &&journal::Bookmark| b.at.position == target && b.name.starts_with(ROLLBACK_PREFIX);
        bookmarks.iter().find(of_rollback).map(|b| format!("#{}", b.name))
    }

    /// A splitter asks what belongs into an extent of the backing.
    pub(super) fn restore_read(&mut self, splitter: SplitterId, volume: Incarnation, extent: Extent) {
        let mut trouble = String::new();
        let mut pieces = Vec::new();
        match self.journal.restore_pieces(volume, extent, CONTENT_BYTES_MAX as u64) {
            Ok(found) => {
                pieces = found.into_iter().map(|piece| self.count_piece(piece.extent, piece.content)).collect();
            }
            Err(error) => {
                tracing::error!(group = self.name, %volume, %extent, %error, "cannot read what a rollback restores");
                trouble = error.to_string();
            }
        }
        let end = pieces.last().map_or(extent.end(), |last: &Piece| last.extent.end());
        let extent = Extent::between(extent.start().index(), end).unwrap_or(extent);
        self.send(splitter, &ToSplitter::RestoreData { volume, extent, pieces, trouble });
    }

    fn count_piece(&mut self, extent: Extent, content: RestoreContent) -> Piece {
        let (restored, punched, content) = match content {
            RestoreContent::Data(bytes) => (extent.bytes(), 0, Content::Data { bytes: Bytes(bytes) }),
            RestoreContent::Zero => (0, extent.bytes(), Content::Zero {}),
            RestoreContent::Hole => (0, extent.bytes(), Content::Hole {}),
        };
        if let Some(running) = &mut self.rollback {
            running.restored_bytes += restored;
            running.punched_bytes += punched;
        }
        Piece { extent, content }
    }

    /// A splitter has brought extents into the backing, durably.
    pub(super) fn restore_done(&mut self, id: u64, extents: &[VolumeExtent]) {
        if self.rollback.as_ref().is_none_or(|r| r.core.id() != id) {
            return;
        }
        if let Some(running) = &mut self.rollback {
            running.unsettled.extend(extents.iter().map(|e| (e.volume, e.extent)));
        }
        self.settle_restored();
    }

    /// Stores what was restored. Until that is done the hosts wait: it is tried again at every look.
    fn settle_restored(&mut self) {
        let Some(running) = self.rollback.as_mut().filter(|running| !running.unsettled.is_empty()) else { return };
        let (id, done) = (running.core.id(), std::mem::take(&mut running.unsettled));
        if let Err(error) = self.journal.restore_done(id, &done) {
            if let Some(running) = &mut self.rollback {
                running.unsettled = done;
            }
            self.journal_failed(&error);
            return;
        }
        let last = self.journal.pending_restore().is_none();
        self.rollback_step(Input::Restored { bytes: bytes_of(&done), last });
        if let Some(running) = &self.rollback {
            let (done, total) = running.core.progress();
            self.report("restoring the volumes", done, total);
        }
    }

    fn finish_rollback(&mut self, position: Position) {
        let Some(running) = self.rollback.take() else { return };
        let id = running.core.id();
        tracing::info!(group = self.name, id, %position, "the rollback is in the volumes");
        let text = format!("rollback {id} is in the volumes; hosts go on");
        let bytes = running.restored_bytes + running.punched_bytes;
        self.events.tell(News::new(EventKind::RollbackEnded, text).group(&self.name).bytes(bytes));
        if let (Some(answer), Some(plan)) = (running.answer, running.plan) {
            let _ = answer.try_send(Ok(RolledBack {
                plan,
                position: position.get(),
                undo_bookmark: running.bookmark,
                restored_bytes: running.restored_bytes,
                punched_bytes: running.punched_bytes,
            }));
        }
    }

    fn report(&self, what: &str, done: u64, total: u64) {
        if let Some(running) = &self.rollback {
            running.progress.report(Progress { what: what.to_owned(), done, total });
        }
    }
}

/// What a rollback would do, for an operator.
pub fn rollback_plan(
    group: &str,
    journal: &journal::Journal,
    changed: &ChangedSet,
    devices: Vec<std::path::PathBuf>,
) -> RollbackPlan {
    let head = journal.timeline().head;
    let target_ns = journal.image(changed.target).map_or(0, |image| image.at().label.nanos());
    let members = journal.members();
    let name = |volume: &Incarnation| members.iter().find(|m| m.incarnation == *volume).map(|m| m.name.clone());
    RollbackPlan {
        group: group.to_owned(),
        target: changed.target.get(),
        target_ns,
        head: changed.head.get(),
        head_ns: head.label.nanos(),
        changed_bytes: changed.bytes,
        changed_extents: changed.extents.len() as u64,
        writes_given_up: changed.writes,
        bytes_given_up: changed.written_bytes,
        punches_given_up: changed.punches,
        bookmarks_given_up: changed.bookmarks.clone(),
        untouched: changed.untouched.iter().filter_map(name).collect(),
        devices,
    }
}

fn bytes_of(extents: &[(Incarnation, Extent)]) -> u64 {
    extents.iter().map(|(_, extent)| extent.bytes()).sum()
}
