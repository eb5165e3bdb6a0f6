//! Whether requests get records: the stream's mode, and the session it is in.
//!
//! Owns the ways from one mode to another and what each leaves in the outbox before the next request is answered
//! (PROTOCOL R18, R19), and the hold during a rollback. Does not lay records, and decides nothing about when a mode changes.

use super::{Entry, Hold, Hurry, State, Stream};
use crate::bell::Rings;
use crate::clock::LabelClock;
use crate::lag::LagMeter;
use crate::lock::lock;
use crate::outbox::Mode;
use control::events::EventKind;
use record::op::Op;
use record::position::{Label, Session, StreamSeq};
use std::sync::atomic::Ordering;

impl Stream {
    /// The mode, and why when it is marking.
    pub fn mode(&self) -> (Mode, String) {
        let state = lock(&self.state);
        (state.mode, state.reason.clone())
    }

    /// The session that records are laid in.
    pub fn session(&self) -> Option<Session> {
        lock(&self.state).session
    }

    /// Ends recording: stored before the next request is answered without a record (PROTOCOL R18).
    pub fn mark(&self, reason: &str) {
        self.mark_locked(&mut lock(&self.state), reason);
    }

    pub(super) fn mark_locked(&self, state: &mut State, reason: &str) {
        match state.mode {
            Mode::Marking => return,
            Mode::Waiting | Mode::Active | Mode::Resyncing => {}
        }
        self.outbox.set_marking(reason);
        state.mode = Mode::Marking;
        reason.clone_into(&mut state.reason);
        self.changed.notify_all();
        self.moved.notify_waiters();
        self.bell.ring(Rings { other: true, ..Rings::default() });
        self.tell(EventKind::MarkingBegun, reason);
        tracing::error!(
            group = self.group,
            reason,
            "writes are no longer recorded; hosts go on; points after this are refused until what changed has been read again"
        );
    }

    /// Whether host requests wait.
    pub fn hold(&self) -> Option<Hold> {
        lock(&self.state).hold
    }

    /// Lets host requests wait, or go on.
    pub fn set_hold(&self, hold: Option<Hold>) {
        let mut state = lock(&self.state);
        state.hold = hold;
        drop(state);
        // Also when a stricter hold follows: whoever wakes looks again.
        self.resumed.notify_waiters();
    }

    /// Begins a session in an empty outbox, in this mode: nothing is in flight to the appliance. Only the link's
    /// thread calls it. Never active when a write has gone by without a record meanwhile: it marks then.
    pub fn begin(&self, session: Session, mode: Mode, newest: Label) {
        self.begin_with(session, mode, newest, None);
    }

    /// Begins a session whose writes get no records: a resynchronisation is owed, and why.
    pub fn begin_marking(&self, session: Session, newest: Label, why: &str) {
        self.begin_with(session, Mode::Waiting, newest, Some(why));
    }

    fn begin_with(&self, session: Session, mode: Mode, newest: Label, marking: Option<&str>) {
        let mut state = lock(&self.state);
        // Nobody gets a new place while the lock is held; who has one of the session before is copying, and done soon.
        while self.publishing.load(Ordering::Acquire) > 0 {
            std::thread::yield_now();
        }
        // A host may have written since the caller looked, without a record.
        let unrecorded = mode == Mode::Active && state.mode == Mode::Marking;
        let lost = (unrecorded || marking.is_some()).then(|| std::mem::take(&mut state.reason));
        let lost = lost.map(|reason| if reason.is_empty() { marking.unwrap_or_default().to_owned() } else { reason });
        // Stored as marking at once: a kill between here and the mark must not forget it.
        let stored = if lost.is_some() { Mode::Marking } else { mode };
        let mode = if lost.is_some() { Mode::Waiting } else { mode };
        self.outbox.begin(session, stored);
        self.durable.store(StreamSeq::FIRST.get(), Ordering::Release);
        state.session = Some(session);
        state.mode = mode;
        state.reason.clear();
        state.meter = LagMeter::default();
        state.resync_end = None;
        state.clock = LabelClock::new((self.clock)(), state.clock.newest().max(newest));
        if let Some(reason) = lost {
            self.mark_locked(&mut state, &reason);
        }
        self.changed.notify_all();
        // Who waits for a record of the session before has to think again.
        self.moved.notify_waiters();
    }

    /// Raises the labels to come above this one.
    pub fn raise_label(&self, label: Label) {
        lock(&self.state).clock.raise(label);
    }

    /// Ends the resynchronisation of this session: RESYNC_END, then every write is a point again. `false`, and nothing
    /// laid, when records were lost meanwhile or another session has begun: what was read for this one proves nothing
    /// there.
    pub fn end_resync(&self, session: Session) -> bool {
        let state = lock(&self.state);
        if (state.mode, state.session) != (Mode::Resyncing, Some(session)) {
            return false;
        }
        let Some(end) = self.lay_locked(state, Entry::of_group(Op::ResyncEnd), &[], Hurry::Now) else {
            return false;
        };
        let mut state = lock(&self.state);
        state.resync_end = Some((session, end));
        // Its acknowledgement may have been quicker.
        state.note_whole(StreamSeq::new(self.durable.load(Ordering::Acquire)));
        let still = (state.mode, state.session) == (Mode::Resyncing, Some(session));
        if still {
            self.outbox.set_mode(Mode::Active);
            state.mode = Mode::Active;
            self.changed.notify_all();
        }
        still
    }
}
