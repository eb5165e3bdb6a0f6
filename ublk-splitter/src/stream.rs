//! A group's one stream of records: the shell around `order`, `clock` and `outbox`.
//!
//! Owns the group's lock, under which a request gets its number, its place in the outbox and its place in the range
//! lock (`taking`); who waits for a turn; and how far the journal has come (whether requests get records: `mode`). Deliberately does
//! no I/O: backings belong to `volume`, the link to `link`.
//!
//! Bounds: as many requests as the devices have tags. When the outbox is full the mode becomes marking, and requests
//! go on without records: the host never waits for the journal.

use crate::bell::{Bell, Rings};
use crate::clock::{LabelClock, Now, Source};
use crate::lag::LagMeter;
use crate::lock::lock;
use crate::order::{Order, Ticket};
use crate::outbox::table::{EntryAt, InFlight, Table};
use crate::outbox::{Adopted, Mode, Outbox, SealedChunk};
use crate::policy::Policy;
use control::events::Events;
use direct::{Hurry, Tells};
use record::chunk::Descriptor;
use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::Incarnation;
use record::op::{Op, OpFlags};
use record::position::{Label, Session, StreamSeq};
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};
use taking::Receipt;
use tokio::sync::{Notify, oneshot};

mod answering;
mod barrier;
pub mod direct;
mod inherited;
mod mode;
pub mod taking;
mod telling;

/// What a record says: everything but its payload, its number and its label.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Entry {
    /// What.
    pub op: Op,
    /// How.
    pub flags: OpFlags,
    /// To which volume.
    pub volume: Incarnation,
    /// Where; `None` for operations without an extent.
    pub extent: Option<Extent>,
}

impl Entry {
    /// A record that concerns no volume.
    pub const fn of_group(op: Op) -> Self {
        Self { op, flags: OpFlags::NONE, volume: Incarnation::NONE, extent: None }
    }
}

/// Why host requests wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Hold {
    /// Writes wait: a rollback is being prepared.
    Preparing,
    /// Reads and writes wait: the backing is being brought to the line rolled back to.
    Restoring,
    /// Writes wait: every splitter of the group is to stand still at once. They go on by themselves after a while.
    Barrier {
        /// Which barrier.
        id: u64,
        /// When they go on, by the clock that never steps.
        until_ns: u64,
    },
}

/// How far records have come; each the number behind the last one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Laid.
    pub laid: StreamSeq,
    /// Durable in the journal.
    pub durable: StreamSeq,
    /// Released from the outbox.
    pub released: StreamSeq,
}

/// The link to the appliance, as far as those who wait for the journal care.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Link {
    /// It stands, with a grant.
    Up,
    /// It does not.
    Down,
    /// It has not for longer than hosts of a `sync` group wait for one.
    Lost,
}

#[derive(Debug)]
struct State {
    order: Order,
    waiting: HashMap<Ticket, oneshot::Sender<()>>,
    /// Who is in flight, for a successor.
    table: Table,
    clock: LabelClock,
    mode: Mode,
    reason: String,
    session: Option<Session>,
    hold: Option<Hold>,
    meter: LagMeter,
    policy: Policy,
    /// Requests of a killed predecessor that have not come again yet.
    inherited: Vec<(EntryAt, InFlight)>,
    /// The RESYNC_END that was laid last, and the newest session whose RESYNC_END is durable.
    resync_end: Option<(Session, StreamSeq)>,
    whole_since: Option<Session>,
    link: Link,
    /// The journal is full, and hosts are to wait until it is not.
    full: bool,
    /// Hosts are being delayed; a `sync` group answers them without the journal.
    delaying: bool,
    degraded: bool,
    /// Threads that wait for `changed`. To signal it costs a system call, whether anybody waits or not.
    watching: usize,
}

impl State {
    /// Everything below `durable` is durable in the present session: perhaps the end of its resynchronisation too.
    fn note_whole(&mut self, durable: StreamSeq) {
        if let Some((session, end)) = self.resync_end
            && self.session == Some(session)
            && durable > end
        {
            self.whole_since = Some(session);
        }
    }

    /// What a request waits on for its turn; nothing when it holds its extent already.
    fn turn(&mut self, ticket: Ticket, held: bool) -> Option<oneshot::Receiver<()>> {
        (!held).then(|| {
            let (sender, receiver) = oneshot::channel();
            self.waiting.insert(ticket, sender);
            receiver
        })
    }
}

/// The stream of one group.
#[derive(Debug)]
pub struct Stream {
    group: String,
    clock: Source,
    outbox: Outbox,
    state: Mutex<State>,
    /// Signalled when nothing is in flight, when the mode changes and when `durable` moves.
    changed: Condvar,
    /// Wakes requests that wait for the end of a hold, or of a read of their extent.
    resumed: Arc<Notify>,
    /// Wakes requests that wait for the journal: `durable` has moved, or there is no use in waiting any more.
    moved: Arc<Notify>,
    /// Wakes the link's thread.
    pub bell: Bell,
    events: OnceLock<Events>,
    durable: AtomicU64,
    /// Records that have a place and are being copied to it.
    publishing: AtomicUsize,
    /// The right to send, while the link's thread rests.
    sending: direct::Sending,
}

impl Stream {
    /// The stream over an outbox: as the predecessor left it, or empty.
    pub fn new(
        group: &str,
        outbox: Outbox,
        adopted: Option<&Adopted>,
        fresh: Mode,
        hold: Option<Hold>,
        clock: Source,
    ) -> Self {
        let label = adopted.map_or(Label::default(), |a| a.label);
        let state = State {
            order: Order::default(),
            waiting: HashMap::new(),
            table: outbox.table(),
            clock: LabelClock::new(clock(), label),
            mode: adopted.map_or(fresh, |a| a.mode),
            reason: adopted.map_or(String::new(), |a| a.reason.clone()),
            session: adopted.and_then(|a| a.session),
            hold,
            meter: LagMeter::default(),
            policy: Policy::default(),
            inherited: adopted.filter(|_| !bug(Bug::ForgetInherited)).map(|a| a.in_flight.clone()).unwrap_or_default(),
            resync_end: None,
            whole_since: None,
            link: Link::Down,
            full: false,
            delaying: false,
            degraded: false,
            watching: 0,
        };
        let durable = AtomicU64::new(outbox.released().get());
        Self {
            group: group.to_owned(),
            clock,
            outbox,
            state: Mutex::new(state),
            changed: Condvar::new(),
            resumed: Arc::new(Notify::new()),
            moved: Arc::new(Notify::new()),
            bell: Bell::default(),
            events: OnceLock::new(),
            durable,
            publishing: AtomicUsize::new(0),
            sending: direct::Sending::default(),
        }
    }

    /// The group's name, for logs and errors.
    pub fn group(&self) -> &str {
        &self.group
    }

    /// The outbox's file, for the appliance.
    pub fn outbox_path(&self) -> &std::path::Path {
        self.outbox.path()
    }

    /// Bytes of the outbox in use and in all.
    pub fn outbox_usage(&self) -> (u64, u64) {
        self.outbox.usage()
    }

    /// Whether background reading should wait for the journal: more than half of the outbox is in use.
    pub fn is_crowded(&self) -> bool {
        self.outbox.is_crowded()
    }

    /// How far records have come.
    pub fn marks(&self) -> Marks {
        Marks {
            laid: self.outbox.laid(),
            durable: StreamSeq::new(self.durable.load(Ordering::Acquire)),
            released: self.outbox.released(),
        }
    }

    /// Lays the record of a flush that has succeeded. Where its host waits, the link hears of it when `tells` says.
    pub fn lay_flush(&self, volume: Incarnation, tells: Tells) -> Receipt {
        let state = lock(&self.state);
        let session = state.session;
        let hurry = match Hurry::of_host(state.policy.mode, tells) {
            // What was written in front of it should be on its way.
            Hurry::No | Hurry::Now => Hurry::Now,
            Hurry::PutOff => Hurry::PutOff,
        };
        let seq = self.lay_locked(state, Entry { volume, ..Entry::of_group(Op::Flush) }, &[], hurry);
        Receipt { session, seq, hurried: true }
    }

    /// Lays a record outside the range lock: notes, and what the holder of an extent has to say of it. `None` when
    /// requests get no records.
    pub fn lay(&self, entry: Entry, payload: &[u8]) -> Option<StreamSeq> {
        self.lay_locked(lock(&self.state), entry, payload, Hurry::of(entry.op))
    }

    /// The same, in this session or not at all.
    pub fn lay_in(&self, session: Session, entry: Entry, payload: &[u8]) -> Option<StreamSeq> {
        let state = lock(&self.state);
        if state.session != Some(session) {
            return None;
        }
        self.lay_locked(state, entry, payload, Hurry::of(entry.op))
    }

    fn lay_locked(
        &self,
        mut state: MutexGuard<'_, State>,
        entry: Entry,
        payload: &[u8],
        hurry: Hurry,
    ) -> Option<StreamSeq> {
        let session = match (state.mode, state.session) {
            (Mode::Active | Mode::Resyncing, Some(session)) => session,
            (Mode::Active | Mode::Resyncing | Mode::Waiting, _) => {
                let why = "a host wrote before the appliance had answered";
                self.mark_locked(&mut state, why);
                return None;
            }
            (Mode::Marking, _) => return None,
        };
        let Some(place) = self.outbox.reserve(payload.len()) else {
            let (_, bytes) = self.outbox.usage();
            let why = format!("the outbox of {} MiB was full: the appliance was too slow or away", bytes >> 20);
            self.mark_locked(&mut state, &why);
            return None;
        };
        let now = (self.clock)();
        let (label, wall_minus_label_ms) = state.clock.take(now);
        state.meter.laid(place.seq, payload.len(), now);
        self.publishing.fetch_add(1, Ordering::AcqRel);
        drop(state);
        let seq = place.seq;
        // A record that begins a chunk: the one in front of it is full. The first payload in one: it is held for less long.
        let other = place.begins_a_chunk() || (!payload.is_empty() && place.has_first_payload());
        let mut descriptor = Descriptor::bare(entry.op, entry.volume, entry.extent, label);
        descriptor.flags = entry.flags;
        descriptor.wall_minus_label_ms = wall_minus_label_ms;
        self.outbox.publish(place, session, descriptor, payload);
        self.publishing.fetch_sub(1, Ordering::AcqRel);
        match hurry {
            Hurry::No => self.bell.ring(Rings { laid: true, hurry: false, other }),
            Hurry::Now => self.bell.ring(Rings { laid: true, hurry: true, other }),
            Hurry::PutOff => self.sending.put_off(),
        }
        Some(seq)
    }

    /// Waits while reads must not see the backing.
    pub async fn readable(&self) {
        loop {
            let resumed = {
                let state = lock(&self.state);
                match state.hold {
                    Some(Hold::Restoring) => Arc::clone(&self.resumed).notified_owned(),
                    Some(Hold::Preparing | Hold::Barrier { .. }) | None => return,
                }
            };
            resumed.await;
        }
    }

    /// The present.
    pub fn now(&self) -> Now {
        (self.clock)()
    }

    /// Whether no request is in flight.
    pub fn is_idle(&self) -> bool {
        lock(&self.state).order.in_flight() == 0
    }

    /// Somebody waits for what was laid: it is sent at once.
    pub fn hurry(&self) {
        self.bell.ring(Rings { hurry: true, ..Rings::default() });
    }

    /// Waits until no request is in flight; `false` when the time is over first.
    pub fn wait_idle(&self, limit: Duration) -> bool {
        let mut state = lock(&self.state);
        state.watching += 1;
        let (mut state, _) = self
            .changed
            .wait_timeout_while(state, limit, |state| state.order.in_flight() > 0)
            .unwrap_or_else(PoisonError::into_inner);
        state.watching -= 1;
        state.order.in_flight() == 0
    }

    /// Waits until everything below `seq` is durable in the journal; `false` when the time is over first, or requests
    /// get no records any more.
    pub fn wait_durable(&self, seq: StreamSeq, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        self.hurry();
        let mut state = lock(&self.state);
        loop {
            if self.durable.load(Ordering::Acquire) >= seq.get() {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() || state.mode == Mode::Marking {
                return false;
            }
            state.watching += 1;
            (state, _) = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
            state.watching -= 1;
        }
    }

    /// The journal's word on how far it is. Acks of other sessions are not for us (PROTOCOL R17).
    pub fn acknowledged(&self, session: Session, durable: StreamSeq, committed: StreamSeq) {
        let mut state = lock(&self.state);
        if state.session != Some(session) {
            return;
        }
        let before = self.durable.fetch_max(durable.get(), Ordering::AcqRel);
        self.outbox.release(committed, state.clock.newest());
        state.meter.durable(durable);
        state.note_whole(durable);
        let watched = state.watching > 0;
        drop(state);
        if watched {
            self.changed.notify_all();
        }
        if durable.get() > before {
            self.moved.notify_waiters();
        }
    }

    /// The chunk from `from` on; with `close`, the open one counts too. Only who has the right to send asks.
    pub fn chunk_from(&self, from: StreamSeq, close: bool) -> Option<SealedChunk> {
        if let Some(chunk) = self.outbox.sealed_from(from) {
            return Some(chunk);
        }
        if !close {
            return None;
        }
        {
            let _state = lock(&self.state);
            if !self.outbox.has_open_records() {
                return None;
            }
            self.outbox.close_open();
        }
        self.outbox.sealed_from(from)
    }

    /// Whether no record in the open chunk has a payload.
    pub fn is_bare(&self) -> bool {
        let _state = lock(&self.state);
        self.outbox.is_bare()
    }

    /// Whether records wait in a chunk that is not closed.
    pub fn has_open_records(&self) -> bool {
        let _state = lock(&self.state);
        self.outbox.has_open_records()
    }
}

#[cfg(test)]
mod tests;
