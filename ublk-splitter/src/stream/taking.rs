//! How a request comes into a group's stream, and how it goes: its place in the in-flight table, its number and its record, its place in
//! the range lock; and who may go on when it gives that back.
//!
//! Owns the one step under the group's lock that fixes the order of a group's requests. Deliberately does not wait for the backing, and
//! knows of the journal only what `answering` says of it.

use super::direct::{Hurry, Tells};
use super::{Entry, State, Stream};
use crate::lock::lock;
use crate::order::Ticket;
use crate::outbox::table::{EntryAt, InFlight};
use crate::policy::SplitMode;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::op::Op;
use record::position::{Session, StreamSeq};
use record::zeros::is_zero;
use std::sync::{Arc, MutexGuard};
use tokio::sync::futures::OwnedNotified;
use tokio::sync::oneshot;

/// A request that was taken: it has its number, and its place in the range lock until `finish`.
#[derive(Debug)]
#[must_use = "a request that is never finished blocks its extent for ever"]
pub struct Taken {
    volume: Incarnation,
    ticket: Ticket,
    turn: Option<oneshot::Receiver<()>>,
    reading: bool,
    /// Its place in the in-flight table; reads have none.
    entry: Option<EntryAt>,
    /// The session of the group when it was taken.
    session: Option<Session>,
    hurried: bool,
    /// Its record's number; `None` when requests get no records.
    pub seq: Option<StreamSeq>,
}

/// What a request's answer may have to wait for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Receipt {
    pub(super) session: Option<Session>,
    pub(super) seq: Option<StreamSeq>,
    /// The link was told when its record was laid that somebody waits for it.
    pub(super) hurried: bool,
}

impl Taken {
    /// What its answer may have to wait for, once it is finished.
    pub fn receipt(&self) -> Receipt {
        Receipt { session: self.session, seq: self.seq, hurried: self.hurried }
    }

    /// Whether an earlier request that overlaps may not be finished yet.
    pub fn waits(&self) -> bool {
        self.turn.is_some()
    }

    /// Waits until every earlier request that overlaps is finished.
    pub async fn turn(&mut self) {
        if let Some(turn) = self.turn.take() {
            // The sender is dropped only with the stream, and then nobody waits any more.
            let _ = turn.await;
        }
    }

    /// The same on a thread that may block.
    pub fn wait_turn(&mut self) {
        if let Some(turn) = self.turn.take() {
            let _ = turn.blocking_recv();
        }
    }
}

impl Stream {
    /// Takes a request that changes an extent: its record (published when this returns), its number and its place in
    /// the range lock. Waits only while the group is held for a rollback, and while the extent is being read back: the
    /// record of such a read is laid after the read, so a number given out meanwhile would lose to older content.
    ///
    /// In `bounded-lag` it also waits while the journal is too far behind, as long as there is a link over which it can
    /// catch up; and, where the group's policy says so, while the journal is full and the outbox half full.
    ///
    /// A write of nothing but zeros is recorded as zeros, without a payload; as a punch where the policy says `reclaim-zeros`.
    ///
    /// `tells`: when the link hears of it, in a `sync` group.
    pub async fn take(&self, entry: Entry, extent: Extent, payload: &[u8], tells: Tells) -> Taken {
        let zeros = is_zeros(entry, payload);
        loop {
            match self.try_take(entry, extent, payload, zeros, tells) {
                Ok(taken) => return taken,
                Err(woken) => woken.await,
            }
        }
    }

    /// The same where nothing has to be waited for, as mostly; else nothing is taken, and this is what to wait for before
    /// asking again.
    pub fn take_at_once(
        &self,
        entry: Entry,
        extent: Extent,
        payload: &[u8],
        tells: Tells,
    ) -> Result<Taken, OwnedNotified> {
        self.try_take(entry, extent, payload, is_zeros(entry, payload), tells)
    }

    fn try_take(
        &self,
        entry: Entry,
        extent: Extent,
        payload: &[u8],
        zeros: bool,
        tells: Tells,
    ) -> Result<Taken, OwnedNotified> {
        // What is waited for is made under the lock: an end of the wait between here and the await is not missed.
        let mut state = lock(&self.state);
        if state.hold.is_some() || state.order.is_being_read(entry.volume, extent) {
            return Err(Arc::clone(&self.resumed).notified_owned());
        }
        if self.lags_too_much(&state) || self.waits_for_room(&state) {
            state.delaying = true;
            return Err(Arc::clone(&self.moved).notified_owned());
        }
        state.delaying = false;
        let record = match (zeros, state.policy.reclaim_zeros) {
            (true, true) => Entry { op: Op::Punch, ..entry },
            (true, false) => Entry { op: Op::Zero, ..entry },
            (false, _) => entry,
        };
        let payload = if zeros { &[] } else { payload };
        Ok(self.take_held(state, entry, record, extent, payload, tells))
    }

    /// `entry` is what the host asked for, `record` what is recorded of it.
    fn take_held(
        &self,
        mut state: MutexGuard<'_, State>,
        entry: Entry,
        record: Entry,
        extent: Extent,
        payload: &[u8],
        tells: Tells,
    ) -> Taken {
        let what = InFlight { op: entry.op, volume: entry.volume, extent };
        // Brought again by the kernel: a new request in every respect, and the old one is no more (PROTOCOL R9).
        while let Some(at) = state.inherited.iter().position(|(_, left)| left.is_covered_by(&what)) {
            let (at, _) = state.inherited.swap_remove(at);
            self.outbox.erase(&mut state.table, at);
        }
        let place = self.outbox.enter(&mut state.table, what);
        if place.is_none() {
            // More requests than a group's devices can have: a successor would not know of this one.
            self.mark_locked(&mut state, "more requests are in flight than the outbox can remember");
        }
        let (ticket, held) = state.order.take(entry.volume, extent);
        let turn = state.turn(ticket, held);
        let session = state.session;
        // Its host waits for the journal as well as for the backing: on their way at the same time, not one behind the other.
        let hurry = Hurry::of_host(state.policy.mode, tells);
        let hurried = hurry != Hurry::No;
        let seq = self.lay_locked(state, Entry { extent: Some(extent), ..record }, payload, hurry);
        Taken { volume: entry.volume, ticket, turn, reading: false, entry: place, session, hurried, seq }
    }

    /// Takes an extent for reading it back, hold or no hold; its record is laid between the read and `finish`
    /// (PROTOCOL R19). Hosts that want to change the extent wait until then.
    pub fn take_reading(&self, volume: Incarnation, extent: Extent) -> Taken {
        let mut state = lock(&self.state);
        let (ticket, held) = state.order.take_reading(volume, extent);
        let turn = state.turn(ticket, held);
        let session = state.session;
        Taken { volume, ticket, turn, reading: true, entry: None, session, hurried: false, seq: None }
    }

    /// Gives a request's extent back and wakes whose turn it is. Called once its backing write has succeeded, or its
    /// failure has been recorded. Whether its answer may have to wait: see [`Self::answerable`].
    #[expect(clippy::needless_pass_by_value, reason = "a request is finished once")]
    pub fn finish(&self, taken: Taken) -> bool {
        let mut state = lock(&self.state);
        // Before the answer, and before anybody else gets the extent: a successor must not wait for what will not come.
        if let Some(entry) = taken.entry {
            self.outbox.erase(&mut state.table, entry);
        }
        let granted = state.order.release(taken.volume, taken.ticket);
        let idle = state.watching > 0 && state.order.in_flight() == 0;
        let waits = state.policy.mode == SplitMode::Sync;
        // Mostly nobody.
        if granted.is_empty() {
            drop(state);
        } else {
            let woken: Vec<_> = granted.iter().filter_map(|ticket| state.waiting.remove(ticket)).collect();
            drop(state);
            for sender in woken {
                // A receiver that is gone belongs to a queue that is gone.
                let _ = sender.send(());
            }
        }
        if taken.reading {
            self.resumed.notify_waiters();
        }
        if idle {
            self.changed.notify_all();
        }
        waits
    }
}

/// Whether it is a write of nothing but zeros. Looked at before anybody waits for the lock, and once; most data differs from
/// zeros at once.
fn is_zeros(entry: Entry, payload: &[u8]) -> bool {
    entry.op == Op::Write && is_zero(payload)
}
