//! When a host may go on, as far as the journal has a say in it: `bounded-lag` and `sync` (PROTOCOL R11).
//!
//! Owns the waits that a group's policy asks for and what is said of them. In `async`, the default, nothing here waits.

use super::taking::Receipt;
use super::{Link, State, Stream};
use crate::lag::Lag;
use crate::lock::lock;
use crate::outbox::Mode;
use crate::policy::{Policy, SplitMode, SyncLoss};
use record::fault::{Bug, bug};
use record::position::StreamSeq;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[cfg(test)]
mod tests;

impl Stream {
    pub(super) fn lags_too_much(&self, state: &State) -> bool {
        match (state.policy.mode, state.mode) {
            (SplitMode::BoundedLag, Mode::Active | Mode::Resyncing) if state.link == Link::Up => {
                let lag = self.lag_of(state);
                lag.bytes >= state.policy.lag_bytes || lag.age >= state.policy.lag_time()
            }
            (SplitMode::Async | SplitMode::Sync | SplitMode::BoundedLag, _) => false,
        }
    }

    /// Whether hosts have to wait because the journal is full. Half of the outbox is left: for what hosts do not wait with, and
    /// for the time until the journal has said so.
    pub(super) fn waits_for_room(&self, state: &State) -> bool {
        let lays = matches!(state.mode, Mode::Active | Mode::Resyncing);
        state.full && lays && state.link != Link::Lost && self.outbox.is_crowded()
    }

    /// The journal is full and hosts are to wait, or not any more.
    pub fn set_full(&self, full: bool) {
        lock(&self.state).full = full;
        self.moved.notify_waiters();
    }

    fn lag_of(&self, state: &State) -> Lag {
        let durable = StreamSeq::new(self.durable.load(Ordering::Acquire));
        state.meter.lag(durable, self.outbox.laid(), (self.clock)())
    }

    /// Waits until a host may be answered for a finished request: at once, but in a `sync` group once its record is
    /// durable, or, when the session ended meanwhile, as the policy says (PROTOCOL R11).
    pub async fn answerable(&self, receipt: Receipt) {
        let mut hurried = receipt.hurried;
        loop {
            let moved = {
                let mut state = lock(&self.state);
                if state.policy.mode != SplitMode::Sync || bug(Bug::SyncAnswersEarly) {
                    return;
                }
                let goes_on = receipt.session.is_some() && receipt.session == state.session;
                let durable = StreamSeq::new(self.durable.load(Ordering::Acquire));
                if goes_on && receipt.seq.is_some_and(|seq| durable > seq) {
                    state.degraded = false;
                    return;
                }
                // Read again, after this write, by a resynchronisation that is complete and durable.
                if state.whole_since > receipt.session {
                    return;
                }
                let hopeless =
                    !goes_on || receipt.seq.is_none() || state.mode == Mode::Marking || state.link == Link::Lost;
                if hopeless && state.policy.loss() == SyncLoss::Degrade {
                    state.degraded = true;
                    return;
                }
                Arc::clone(&self.moved).notified_owned()
            };
            if !hurried {
                hurried = true;
                self.hurry();
            }
            moved.await;
        }
    }

    /// Sets how hosts are answered, from now on and for those who wait.
    pub fn set_policy(&self, policy: Policy) {
        lock(&self.state).policy = policy;
        self.moved.notify_waiters();
    }

    /// Whether zeros are to give space back.
    pub fn reclaims_zeros(&self) -> bool {
        lock(&self.state).policy.reclaim_zeros
    }

    /// There is a link with a grant, or there is none any more.
    pub fn set_linked(&self, linked: bool) {
        let mut state = lock(&self.state);
        // Said anew on a new link, if it is so still.
        state.full &= !linked;
        state.link = match (linked, state.link) {
            (true, Link::Up | Link::Down | Link::Lost) => Link::Up,
            (false, Link::Lost) => Link::Lost,
            (false, Link::Up | Link::Down) => Link::Down,
        };
        drop(state);
        self.moved.notify_waiters();
    }

    /// There has been no link for longer than hosts of a `sync` group wait for one.
    pub fn set_lost(&self) {
        let mut state = lock(&self.state);
        let news = state.link != Link::Lost;
        (state.link, state.full) = (Link::Lost, false);
        drop(state);
        if news {
            self.moved.notify_waiters();
        }
    }

    /// How far the journal is behind.
    pub fn lag(&self) -> Lag {
        self.lag_of(&lock(&self.state))
    }

    /// Whether hosts of a `sync` group wait until the appliance is back and the history is whole (`sync-loss=stall`).
    pub fn stalls(&self) -> bool {
        let state = lock(&self.state);
        let lost = state.mode == Mode::Marking || state.link == Link::Lost;
        state.policy.mode == SplitMode::Sync && state.policy.loss() == SyncLoss::Stall && lost
    }

    /// Whether hosts are being delayed by `bounded-lag`, and whether a `sync` group answers them
    /// without the journal.
    pub fn strain(&self) -> (bool, bool) {
        let state = lock(&self.state);
        (state.delaying && self.lags_too_much(&state), state.degraded)
    }

    /// Whether hosts wait because the journal is full.
    pub fn waits(&self) -> bool {
        let state = lock(&self.state);
        state.delaying && self.waits_for_room(&state)
    }
}
