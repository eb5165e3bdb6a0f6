//! A splitter's part of a barrier (PROTOCOL R27): no request gets a number until it is released, or time is up.
//!
//! Owns that the part is laid only if hosts were held without interruption since that was confirmed, and that they are
//! never held for longer than the appliance said. Requests that have their numbers finish meanwhile.

use super::{Entry, Hold, Hurry, Stream};
use crate::clock::Now;
use crate::lock::lock;
use crate::outbox::Mode;
use record::member::BarrierNote;
use record::op::Op;
use record::position::Label;
use std::time::Duration;

#[cfg(test)]
mod tests;

impl Stream {
    /// Gives no new request a number, for so long at most; answers with the newest label, or why that cannot be.
    pub fn quiesce(&self, barrier: u64, limit: Duration) -> Result<Label, String> {
        let mut state = lock(&self.state);
        match state.hold {
            // A barrier that was given up, or whose end did not reach us.
            None | Some(Hold::Barrier { .. }) => {}
            Some(Hold::Preparing | Hold::Restoring) => return Err("a rollback is under way".to_owned()),
        }
        match state.mode {
            Mode::Active => {}
            Mode::Resyncing => return Err("a resynchronisation is running".to_owned()),
            Mode::Waiting => return Err("no session has begun".to_owned()),
            Mode::Marking => return Err(format!("writes are not recorded: {}", state.reason)),
        }
        let until_ns = (self.clock)().plus(limit).boot_ns;
        state.hold = Some(Hold::Barrier { id: barrier, until_ns });
        Ok(state.clock.newest())
    }

    /// Lays the part of a barrier, above this label; why not, if hosts were let go meanwhile or it cannot be laid.
    pub fn place_barrier(&self, note: &BarrierNote, label: Label) -> Result<(), String> {
        let mut state = lock(&self.state);
        if held(state.hold, (self.clock)()) != Some(note.id) {
            return Err("hosts were let go before the barrier could be placed".to_owned());
        }
        if state.mode != Mode::Active || !state.session.is_some_and(|session| note.sessions.contains(&session)) {
            return Err("the session has ended".to_owned());
        }
        state.clock.raise(label);
        match self.lay_locked(state, Entry::of_group(Op::Barrier), &note.encode(), Hurry::Now) {
            Some(_) => Ok(()),
            None => Err("the outbox is full".to_owned()),
        }
    }

    /// Hosts go on, if they are held for this barrier.
    pub fn release_barrier(&self, barrier: u64) {
        self.release_if(|id, _| id == barrier);
    }

    /// Hosts go on, if they are held for any barrier.
    pub fn release_barriers(&self) {
        self.release_if(|_, _| true);
    }

    /// Hosts go on, if their time is up.
    pub fn expire_barrier(&self) {
        let now = (self.clock)().boot_ns;
        self.release_if(|_, until_ns| until_ns <= now);
    }

    fn release_if(&self, over: impl FnOnce(u64, u64) -> bool) {
        let mut state = lock(&self.state);
        let Some(Hold::Barrier { id, until_ns }) = state.hold else { return };
        if over(id, until_ns) {
            state.hold = None;
            drop(state);
            self.resumed.notify_waiters();
        }
    }

    /// Hosts stay held, for a rollback from now on; `false`, and nothing done, when they are not held for this barrier
    /// any more.
    pub fn keep_for_rollback(&self, barrier: u64) -> bool {
        let mut state = lock(&self.state);
        let keeps = held(state.hold, (self.clock)()) == Some(barrier);
        if keeps {
            state.hold = Some(Hold::Preparing);
        }
        keeps
    }

    /// The barrier for which hosts are held, and for how long still.
    pub fn barrier_left(&self) -> Option<(u64, Duration)> {
        let Some(Hold::Barrier { id, until_ns }) = lock(&self.state).hold else { return None };
        Some((id, Duration::from_nanos(until_ns.saturating_sub((self.clock)().boot_ns))))
    }
}

/// The barrier for which hosts are held, and whose time is not up.
fn held(hold: Option<Hold>, now: Now) -> Option<u64> {
    match hold {
        Some(Hold::Barrier { id, until_ns }) if now.boot_ns < until_ns => Some(id),
        Some(Hold::Barrier { .. } | Hold::Preparing | Hold::Restoring) | None => None,
    }
}
