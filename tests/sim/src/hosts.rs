//! Those who use the volumes, and the devices between them and the splitter.
//!
//! Owns what hosts do (a seeded mixture over a few hot places), what the kernel does for a device (a request belongs to
//! the device until it is answered, and is given again to whoever serves the device next), and the telling of all of
//! it to the history.

use crate::content::{Cell, bytes, cells};
use crate::dice::Dice;
use crate::executor::{Executor, Once, Owner};
use crate::history::{Change, History, Outcome, Stamp};
use crate::splitter::Splitter;
use crate::time::{self, MS, US};
use crate::trace::Trace;
use record::geometry::Extent;
use std::cell::{Cell as Slot, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use ublk_device::errno::Errno;
use ublk_device::request::Kind;
use ublk_splitter::group::Group;
use ublk_splitter::volume::Volume;

/// What a host is told: how it went, and for a read the bytes.
type Answer = (Result<(), Errno>, Vec<u8>, Stamp);

struct Waiting {
    kind: Kind,
    data: Vec<u8>,
    answer: Once<Answer>,
}

/// Who serves a device.
type Served = (Splitter, Arc<Group>, Arc<Volume>);

struct Kernel {
    volume: u32,
    sectors: u64,
    requests: RefCell<BTreeMap<u64, Waiting>>,
    next: Slot<u64>,
    served: RefCell<Option<Served>>,
}

/// The device of a volume. Clones are the same one.
#[derive(Clone)]
pub struct Device(Rc<Kernel>);

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "device of volume {}", self.0.volume)
    }
}

impl Device {
    /// The device of a volume of so many sectors; nobody serves it.
    pub fn new(volume: u32, sectors: u64) -> Self {
        Self(Rc::new(Kernel {
            volume,
            sectors,
            requests: RefCell::default(),
            next: Slot::new(0),
            served: RefCell::default(),
        }))
    }

    /// The volume's number.
    pub fn volume(&self) -> u32 {
        self.0.volume
    }

    /// Its size.
    pub fn sectors(&self) -> u64 {
        self.0.sectors
    }

    /// How many requests are not answered.
    pub fn in_flight(&self) -> usize {
        self.0.requests.borrow().len()
    }

    /// A process serves it from now on; what was not answered is given to it again.
    pub fn attach(&self, splitter: &Splitter, group: &Arc<Group>, volume: &Arc<Volume>) {
        *self.0.served.borrow_mut() = Some((splitter.clone(), Arc::clone(group), Arc::clone(volume)));
        let again: Vec<_> = self.0.requests.borrow().keys().copied().collect();
        for request in again {
            splitter.handle(self, group, volume, request, true);
        }
    }

    /// Nobody serves it any more; requests wait.
    pub fn detach(&self) {
        self.0.served.borrow_mut().take();
    }

    /// The machine dies, and all requests with it.
    pub fn power_cut(&self) {
        self.detach();
        self.0.requests.borrow_mut().clear();
    }

    pub(crate) fn request(&self, request: u64) -> Option<(Kind, Vec<u8>)> {
        self.0.requests.borrow().get(&request).map(|waiting| (waiting.kind, waiting.data.clone()))
    }

    pub(crate) fn complete(&self, request: u64, result: Result<(), Errno>, buffer: Vec<u8>, stamp: Stamp) {
        if let Some(waiting) = self.0.requests.borrow_mut().remove(&request) {
            waiting.answer.set((result, buffer, stamp));
        }
    }

    fn submit(&self, kind: Kind, data: Vec<u8>) -> Once<Answer> {
        self.0.next.set(self.0.next.get() + 1);
        let (id, answer) = (self.0.next.get(), Once::default());
        self.0.requests.borrow_mut().insert(id, Waiting { kind, data, answer: answer.clone() });
        let served = self.0.served.borrow().clone();
        if let Some((splitter, group, volume)) = served {
            splitter.handle(self, &group, &volume, id, false);
        }
        answer
    }
}

/// How hosts behave.
#[derive(Clone, Debug)]
pub struct Habits {
    /// Hosts at each volume.
    pub hosts: u64,
    /// Requests of each host.
    pub requests: u64,
    /// Longest pause between two requests of a host, in nanoseconds.
    pub think: u64,
    /// First sectors of places that are used most.
    pub spots: Vec<u64>,
    /// Sectors of such a place.
    pub spot_sectors: u64,
    /// Longest request, in sectors.
    pub longest: u64,
}

/// All hosts. Clones are the same ones.
#[derive(Clone, Debug)]
pub struct Hosts {
    executor: Executor,
    dice: Dice,
    trace: Trace,
    history: Rc<RefCell<History>>,
    habits: Rc<Habits>,
    left: Rc<Slot<u64>>,
    /// Until then nobody asks for anything new.
    rest: Rc<Slot<u64>>,
    wrong: Rc<RefCell<Option<String>>>,
}

impl Hosts {
    /// Hosts of these habits, which have not begun.
    pub fn new(
        executor: &Executor,
        dice: &Dice,
        trace: &Trace,
        history: &Rc<RefCell<History>>,
        habits: Habits,
        volumes: u64,
    ) -> Self {
        let left = habits.hosts * habits.requests * volumes;
        Self {
            executor: executor.clone(),
            dice: dice.clone(),
            trace: trace.clone(),
            history: Rc::clone(history),
            habits: Rc::new(habits),
            left: Rc::new(Slot::new(left)),
            rest: Rc::default(),
            wrong: Rc::default(),
        }
    }

    /// Whether everything they had to ask was asked and answered.
    pub fn are_done(&self) -> bool {
        self.left.get() == 0
    }

    /// Ends the work early: what is on its way is still answered.
    pub fn hurry(&self) {
        self.left.set(0);
        self.rest.set(0);
    }

    /// Until then nobody asks for anything new.
    pub fn rest_until(&self, until: u64) {
        self.rest.set(until);
    }

    /// What was found to be wrong on the way.
    pub fn wrong(&self) -> Option<String> {
        self.wrong.borrow().clone()
    }

    /// They begin, or begin again after a power cut.
    pub fn begin(&self, devices: &[Device]) {
        for device in devices {
            for _ in 0..self.habits.hosts {
                self.executor.spawn(Owner::Hosts, self.clone().work(device.clone()));
            }
        }
    }

    async fn work(self, device: Device) {
        while let Some(left) = self.left.get().checked_sub(1) {
            self.left.set(left);
            if self.dice.one_in(2) {
                self.executor.sleep(self.dice.below(self.habits.think) + US).await;
            }
            while time::now() < self.rest.get() {
                self.executor.sleep(self.rest.get() - time::now() + US).await;
            }
            let result = match self.dice.below(100) {
                0..64 => self.change(&device, Change::Data).await,
                64..76 => self.change(&device, Change::Zeros).await,
                76..84 => self.flush(&device).await,
                _ => self.read(&device).await,
            };
            if let Err(why) = result {
                self.wrong.borrow_mut().get_or_insert(why);
            }
        }
    }

    fn some_extent(&self, device: &Device) -> Extent {
        let habits = &self.habits;
        let count = self.dice.between(1, if self.dice.one_in(24) { habits.longest * 8 } else { habits.longest });
        let count = count.min(device.sectors());
        let near = *self.dice.pick(&habits.spots) + self.dice.below(habits.spot_sectors);
        let start = if self.dice.one_in(10) { self.dice.below(device.sectors()) } else { near };
        let start = start.min(device.sectors() - count);
        Extent::new(start, count).expect("at least a sector, inside the volume")
    }

    async fn change(&self, device: &Device, change: Change) -> Result<(), String> {
        let extent = self.some_extent(device);
        let fua = self.dice.one_in(12);
        let volume = device.volume();
        let (kind, fua) = match change {
            Change::Data => (Kind::Write { extent, fua }, fua),
            Change::Zeros if self.dice.one_in(2) => (Kind::Discard(extent), false),
            Change::Zeros => (Kind::WriteZeroes { extent, nounmap: self.dice.one_in(2), fua }, fua),
        };
        let id = self.history.borrow_mut().submit(volume, extent, change, fua);
        let data = if change == Change::Data { bytes(id, volume, extent) } else { Vec::new() };
        self.trace.note(
            "ask",
            &[id, u64::from(volume), extent.start().index(), extent.count().get(), change as u64, u64::from(fua)],
        );
        let (result, _, stamp) = device.submit(kind, data).get().await;
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.trace.note("answer", &[id, u64::from(result.is_ok()), stamp.session, stamp.laid]);
        self.history.borrow_mut().complete(id, outcome, stamp);
        Ok(())
    }

    async fn flush(&self, device: &Device) -> Result<(), String> {
        let asked = self.history.borrow_mut().tick();
        self.trace.note("flush", &[asked]);
        let (result, _, _) = device.submit(Kind::Flush, Vec::new()).get().await;
        self.trace.note("flushed", &[asked, u64::from(result.is_ok())]);
        if result.is_ok() {
            self.history.borrow_mut().flushes.push((device.volume(), asked));
        }
        Ok(())
    }

    /// A read sees, in every sector, something that was not over before something newer was asked and answered.
    async fn read(&self, device: &Device) -> Result<(), String> {
        let extent = self.some_extent(device);
        let (volume, asked) = (device.volume(), self.history.borrow_mut().tick());
        let room = usize::try_from(extent.bytes()).map_err(|e| e.to_string())?;
        let (result, data, _) = device.submit(Kind::Read(extent), vec![0; room]).get().await;
        if result.is_err() {
            return Ok(());
        }
        let history = self.history.borrow();
        let era = history.eras.len() - 1;
        let base = &history.eras[era].base[volume as usize - 1];
        let first = extent.start().index();
        for (at, cell) in (first..).zip(cells(volume, first, &data)) {
            let here = || history.ops_of(era).iter().filter(|op| op.volume == volume && holds(op.extent, at));
            let newest = here().filter(|op| op.completed < asked && op.outcome == Outcome::Done).map(|op| op.submitted);
            let made = match cell {
                Cell::Zero => here().filter(|op| op.change == Change::Zeros).map(|op| op.completed).max(),
                Cell::Of(id) => here().find(|op| op.id == id).map(|op| op.completed),
                // A read that runs beside a write may see half of it, but whole sectors.
                Cell::Garbage | Cell::Refused => {
                    return Err(format!("a read of volume {volume} sector {at} saw garbage"));
                }
            };
            let began = usize::try_from(at).ok().and_then(|at| base.get(at)) == Some(&cell);
            let made = made.max(began.then_some(0));
            if made.is_none_or(|made| newest.max().is_some_and(|newest| made < newest)) {
                return Err(format!(
                    "a read of volume {volume} sector {at}, asked at {asked}, saw {cell:?}: old, or never written"
                ));
            }
        }
        Ok(())
    }
}

fn holds(extent: Extent, at: u64) -> bool {
    extent.start().index() <= at && at < extent.end()
}

/// A pause of at most so many milliseconds.
pub fn ms(dice: &Dice, most: u64) -> u64 {
    dice.below(most * MS) + US
}
