//! The appliance's process: the product's group over the product's journal, on a disk of `kit`.
//!
//! Owns starting it, its turns, and what a kill or a power cut leaves of it. A turn is the product's
//! [`Group::turn`]; it is cut off in the middle by ending the journal's disk at one of its steps. What it then still
//! says is never heard. Decides nothing.

use crate::dice::Dice;
use crate::executor::{Executor, Owner, either};
use crate::history::{History, Sighting, Stamp};
use crate::links::{Links, Listener, Mailbox, Promises};
use crate::replica::Replica;
use crate::rot::{self, Rotten};
use crate::time::{self, ApplianceClock, MS, US};
use crate::trace::Trace;
use crate::world::{GROUP, JOURNAL, SPLITTER};
use journal::{Create, JoinRequest, Journal, JournalError};
use journal_appliance::group::Group;
use kit::SimDisk;
use record::geometry::{LogicalBlock, SectorCount};
use record::ids::{Incarnation, VolumeId};
use record::position::{Label, Position};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

/// What outlives the process.
#[derive(Debug)]
pub struct Remains {
    /// The journal's disk.
    pub disk: SimDisk,
    /// The replicas, by number from 1.
    pub replicas: Vec<Arc<Replica>>,
}

/// The appliance, running or not. Clones are the same one.
#[derive(Clone)]
pub struct Appliance {
    executor: Executor,
    dice: Dice,
    trace: Trace,
    links: Links,
    history: Rc<RefCell<History>>,
    remains: Rc<RefCell<Remains>>,
    running: Rc<RefCell<Option<Running>>>,
    promises: Promises,
    /// It does nothing before then.
    stopped_until: Rc<Cell<u64>>,
    /// What has gone bad of the journal: anything, and the newest chunk since the process ended.
    rotten: Rc<Cell<(bool, bool)>>,
    /// What must never be, once it was.
    wrong: Rc<RefCell<Option<String>>>,
}

impl std::fmt::Debug for Appliance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_running() { "an appliance" } else { "no appliance" })
    }
}

struct Running {
    journal: Arc<Journal>,
    alive: Arc<AtomicBool>,
}

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum End {
    /// Killed: what it wrote is there, synced or not.
    Kill,
    /// The power went.
    PowerCut,
}

impl Appliance {
    /// A journal with volumes of these sizes that are about to join; nobody runs yet.
    pub fn new(
        executor: &Executor,
        dice: &Dice,
        trace: &Trace,
        links: &Links,
        history: &Rc<RefCell<History>>,
        sectors: &[u64],
    ) -> Result<Self, JournalError> {
        let disk = SimDisk::new();
        let create = Create {
            journal: JOURNAL,
            group: GROUP,
            group_name: "g".into(),
            now: Label::from_nanos(1),
            segment_bytes: Create::SEGMENT_BYTES_MIN,
        };
        Journal::create_on(&disk, &create)?;
        let journal = Journal::open_on(disk.shared())?.journal;
        for (n, sectors) in (1u8..).zip(sectors) {
            let request = JoinRequest {
                volume: VolumeId::from_bytes([n; 16]),
                name: format!("v{n}"),
                size: SectorCount::new(*sectors).ok_or_else(|| JournalError::Refused("no sectors".into()))?,
                block: LogicalBlock::SECTOR,
                splitter: SPLITTER,
            };
            journal.join(&request, Label::from_nanos(2))?;
        }
        journal.close()?;
        let replicas = sectors.iter().map(|sectors| Arc::new(Replica::new(*sectors))).collect();
        Ok(Self {
            executor: executor.clone(),
            dice: dice.clone(),
            trace: trace.clone(),
            links: links.clone(),
            history: Rc::clone(history),
            remains: Rc::new(RefCell::new(Remains { disk: disk.killed(), replicas })),
            running: Rc::default(),
            promises: Promises::default(),
            stopped_until: Rc::default(),
            rotten: Rc::default(),
            wrong: Rc::default(),
        })
    }

    /// Whether the process lives.
    pub fn is_running(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// The journal, to be read as images are; `None` while nobody runs.
    pub fn journal(&self) -> Option<Arc<Journal>> {
        self.running.borrow().as_ref().map(|running| Arc::clone(&running.journal))
    }

    /// What was found to be wrong on the way.
    pub fn wrong(&self) -> Option<String> {
        self.wrong.borrow().clone()
    }

    fn blame(&self, why: String) {
        self.wrong.borrow_mut().get_or_insert(why);
    }

    /// The journal's disk at present.
    pub fn disk(&self) -> SimDisk {
        self.remains.borrow().disk.clone()
    }

    /// It does nothing before then, as after SIGSTOP; what it is sent waits.
    pub fn stop_until(&self, until: u64) {
        self.stopped_until.set(until);
    }

    /// Starts the process, if none runs.
    pub fn start(&self) {
        if self.is_running() {
            return;
        }
        self.stopped_until.set(0);
        let (journal, kept) = match Journal::open_on(self.disk().shared()) {
            Ok(opened) => {
                let report = &opened.report;
                let kept = report.recovered;
                self.trace.note("appliance starts", &[u64::from(report.clean), report.epoch.get()]);
                let (rotten, _) = self.rotten.get();
                if let Some(alarm) = report.alarms.first().filter(|_| !rotten) {
                    self.blame(format!("the journal's recovery raises an alarm: {alarm}"));
                }
                if !report.damage.is_empty() && !rotten {
                    self.blame(format!("the journal's recovery finds damage: {:?}", report.damage));
                }
                (Arc::new(opened.journal), kept)
            }
            Err(error) => {
                self.blame(format!("the journal cannot be opened: {error}"));
                return;
            }
        };
        for (n, replica) in (1..).zip(&self.remains.borrow().replicas) {
            if let Err(error) = journal.attach_base_device(Incarnation::new(n), Arc::clone(replica) as _) {
                self.blame(format!("a replica cannot be attached: {error}"));
            }
        }
        self.check_promises(&journal, kept);
        let alive = Arc::new(AtomicBool::new(true));
        let mailbox = Mailbox::default();
        let group = Group::new("g", &journal, Arc::new(ApplianceClock::start()));
        *self.running.borrow_mut() = Some(Running { journal: Arc::clone(&journal), alive: Arc::clone(&alive) });
        self.sight(&journal);
        self.links.listen(Some(Listener {
            mailbox: mailbox.clone(),
            disk: self.disk(),
            alive,
            promises: Arc::clone(&self.promises),
            stopped_until: Rc::clone(&self.stopped_until),
        }));
        self.executor.spawn(Owner::Appliance, self.clone().turns(group, journal, mailbox));
    }

    /// What was called durable is there, whatever happened since.
    fn check_promises(&self, journal: &Journal, kept: Position) {
        let Some(marks) = journal.status().watermarks.first().copied() else { return };
        let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((newest, _)) = promises.last_key_value()
            && *newest > marks.session.get()
        {
            self.blame(format!("session {newest} was acknowledged, and is not known any more"));
        }
        let (anything, newest_chunk) = self.rotten.get();
        let of_session = promises.entry(marks.session.get()).or_default();
        if newest_chunk {
            // The newest chunk was durable and has gone bad since. Only what was committed must outlive that, and the
            // splitter still has the rest.
            of_session.0 = of_session.1;
            self.history.borrow_mut().sightings.retain(|s| s.head <= kept);
            self.rotten.set((anything, false));
        }
        let promised = of_session.0;
        if marks.durable.get() < promised {
            self.blame(format!(
                "record {promised} of session {} was called durable, and the journal ends at {}",
                marks.session, marks.durable
            ));
        }
    }

    async fn turns(self, mut group: Group, journal: Arc<Journal>, mailbox: Mailbox) {
        loop {
            let patience = group.patience_ms() * MS;
            if mailbox.is_empty() && patience > 0 {
                let arrived = mailbox.arrived.wait();
                either(self.executor.sleep(patience), arrived).await;
            }
            self.executor.sleep(self.dice.between(5, 300) * US).await;
            let stopped = self.stopped_until.get();
            if time::now() < stopped {
                self.executor.sleep(stopped - time::now()).await;
            }
            // Whatever has come by now and is looked at in this turn; the rest waits for the next.
            let mut budget = self.dice.between(1, 8);
            let turn = group.turn(|| {
                budget = budget.checked_sub(1)?;
                mailbox.pop()
            });
            if self.disk().is_stopped() {
                // The process died in the middle of that turn: whoever drives the world buries it.
                self.silence();
                return std::future::pending().await;
            }
            self.sight(&journal);
            if turn.is_break() {
                return;
            }
        }
    }

    /// Nothing that the process says is heard any more.
    fn silence(&self) {
        if let Some(running) = &*self.running.borrow() {
            running.alive.store(false, Ordering::Relaxed);
        }
    }

    /// Whether its disk was ended under it.
    pub fn is_cut_off(&self) -> bool {
        self.is_running() && self.disk().is_stopped()
    }

    /// Ends the process at the `n`-th step of its disk from now on, in the middle of it.
    pub fn end_after(&self, n: u64) {
        let disk = self.disk();
        disk.stop_after(disk.steps() + n, self.dice.number());
        self.trace.note("appliance ends soon", &[n]);
    }

    /// It does not end at a later step of its disk any more.
    pub fn end_no_more(&self) {
        self.disk().stop_after(u64::MAX, 0);
    }

    /// Ends the process, now.
    pub fn end(&self, how: End) {
        self.silence();
        self.executor.kill(Owner::Appliance);
        if let Some(running) = self.running.borrow_mut().take() {
            assert_eq!(Arc::strong_count(&running.journal), 1, "a dead process holds nothing");
        }
        self.links.listen(None);
        let mut remains = self.remains.borrow_mut();
        remains.disk = match how {
            End::Kill => remains.disk.killed(),
            End::PowerCut => remains.disk.power_cut(&mut self.dice.fork()),
        };
        if how == End::PowerCut {
            for replica in &remains.replicas {
                replica.power_cut(self.dice.one_in(2));
            }
        }
    }

    /// While no process runs, a part of the journal goes bad; whether there was something that could.
    pub fn spoil(&self, what: Rotten) -> bool {
        assert!(!self.is_running(), "what is being written does not rot");
        let spoilt = rot::spoil(&self.disk(), &self.dice, what);
        let (anything, newest) = self.rotten.get();
        self.rotten.set((anything || spoilt, newest || (spoilt && what == Rotten::Newest)));
        self.trace.note("rot", &[u64::from(spoilt), u64::from(what == Rotten::Newest)]);
        spoilt
    }

    /// Whether anything has gone bad.
    pub fn is_rotten(&self) -> bool {
        self.rotten.get().0
    }

    /// Looks at what is durable.
    fn sight(&self, journal: &Journal) {
        let status = journal.status();
        let marks = status.watermarks.first().copied();
        let mut history = self.history.borrow_mut();
        let stamp =
            marks.map_or(Stamp { session: 0, laid: 0 }, |m| Stamp { session: m.session.get(), laid: m.durable.get() });
        history.found(status.head.position, stamp.session);
        let newest = history.sightings.last().copied();
        if newest.is_some_and(|n| (n.head, n.stamp) == (status.head.position, stamp)) {
            return;
        }
        let sighting =
            Sighting { tick: history.tick(), head: status.head.position, label: status.head.label.nanos(), stamp };
        if let Some(newest) = newest {
            if sighting.label < newest.label {
                self.blame(format!("labels go back: {} behind {}", sighting.label, newest.label));
            }
            if sighting.stamp.session < newest.stamp.session || sighting.head < newest.head {
                self.blame(format!("the journal goes back: {sighting:?} behind {newest:?}"));
            }
        }
        self.trace.note("journal", &[sighting.head.get(), stamp.session, stamp.laid, sighting.label]);
        history.sightings.push(sighting);
    }
}
