//! The splitter's process: the product's group, volumes, conversation and jobs, on disks of this world.
//!
//! Owns starting it in the order in which `serve` does, the loops that the product's threads run around `Talk` and
//! `work`, and what a kill leaves: requests in flight stay with the device, which gives them to the next process.
//! Decides nothing of order, recovery or resynchronisation.

use crate::dice::Dice;
use crate::disks::{Disks, Kind};
use crate::executor::{Executor, Owner, either};
use crate::history::{History, Stamp};
use crate::hosts::Device;
use crate::links::{Held, Links, SplitterEnd};
use crate::time::{self, MS, S, US};
use crate::trace::Trace;
use crate::world::{GROUP, JOURNAL, SPLITTER};
use record::geometry::{LogicalBlock, SectorCount};
use record::ids::{BootId, Incarnation, VolumeId};
use record::position::{Session, SplitterIncarnation};
use std::cell::{Cell, RefCell};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use ublk_splitter::backing::Backing;
use ublk_splitter::begin::{Left, begin};
use ublk_splitter::bell::Rings;
use ublk_splitter::catalog::{Catalog, GroupRow};
use ublk_splitter::dirty_map::{DirtyMap, Missing};
use ublk_splitter::group::{Group, Identity};
use ublk_splitter::link::talk::{Parting, Talk};
use ublk_splitter::outbox::{Mode, Outbox, Owner as OutboxOwner};
use ublk_splitter::policy::Policy;
use ublk_splitter::ring_io::RingIo;
use ublk_splitter::volume::{Counts, Synchronisation, Volume};
use ublk_splitter::work::{self, Hands, Job, Jobs};

/// How long a start waits for the appliance before it serves hosts without it.
const GRANT_PATIENCE: u64 = 10 * S;
/// Between two attempts to connect.
const RETRY: u64 = 200 * MS;
/// Between two attempts after a refusal for good.
const RETRY_REFUSED: u64 = 5 * S;
/// Within this a device usually brings the requests of a killed process again: its queues come back one after the other.
const REDELIVERY: u64 = 60 * MS;

/// What outlives the process.
#[derive(Debug)]
pub struct Remains {
    /// Where files are.
    pub folder: PathBuf,
    /// The catalog; its commits are atomic and durable.
    pub catalog: Arc<Catalog>,
    /// The row of the group.
    pub row: GroupRow,
    /// The host's memory of this boot.
    pub boot: Cell<u64>,
    /// The slots of the outbox.
    pub slots: usize,
    /// Backings that are taken for devices: all of each is data.
    pub device_like: bool,
    /// Nobody has started yet: the volumes are new.
    pub fresh: Cell<bool>,
}

impl Remains {
    /// A group's row in a new catalog, in this folder.
    pub fn new(folder: &Path, slots: usize, device_like: bool, policy: Policy) -> Result<Self, String> {
        let catalog = Catalog::open(folder).map_err(|e| e.to_string())?;
        let row = GroupRow {
            id: GROUP.to_string(),
            name: "g".into(),
            journal: JOURNAL.to_string(),
            outbox_bytes: (slots << 20) as u64,
            clean: None,
            rollback: None,
            marking: None,
            policy,
            paused: false,
            look_first: false,
        };
        catalog.put_group(&row).map_err(|e| e.to_string())?;
        Ok(Self {
            folder: folder.into(),
            catalog: Arc::new(catalog),
            row,
            boot: Cell::new(1),
            slots,
            device_like,
            fresh: Cell::new(true),
        })
    }

    /// Where the outbox is.
    pub fn outbox(&self) -> PathBuf {
        self.folder.join("g.outbox")
    }

    /// Where a backing is.
    pub fn backing(&self, volume: u32) -> PathBuf {
        self.folder.join(format!("v{volume}.img"))
    }

    /// Where a dirty map is.
    pub fn map(&self, volume: u32) -> PathBuf {
        self.folder.join("maps").join(format!("v{volume}.map"))
    }

    fn row(&self) -> Result<GroupRow, String> {
        let rows = self.catalog.groups().map_err(|e| e.to_string())?;
        rows.into_iter().next().ok_or_else(|| "the group's row is gone".to_owned())
    }
}

/// The ring and the patience of a process.
#[derive(Clone, Debug)]
pub struct Ring {
    disks: Disks,
    executor: Executor,
    dice: Dice,
}

impl RingIo for Ring {
    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self.disks.read(file, offset, buf).await
    }

    async fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        self.disks.write(file, offset, buf, dsync).await
    }

    async fn sync(&self, file: &File) -> io::Result<()> {
        self.disks.sync(file).await
    }

    async fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        self.disks.fallocate(file, mode, offset, len).await
    }
}

impl Hands for Ring {
    async fn pause(&self, group: &Group, limit: Duration) -> bool {
        let limit = u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX).max(US);
        self.executor.sleep(self.dice.between(US, limit)).await;
        group.quits()
    }

    async fn next_job(&self, jobs: &Jobs, limit: Duration) -> Option<Job> {
        let until = time::now() + u64::try_from(limit.as_nanos()).unwrap_or(u64::MAX);
        loop {
            if let Some(job) = jobs.try_next() {
                return Some(job);
            }
            if time::now() >= until {
                return None;
            }
            self.executor.sleep(self.dice.between(100 * US, 20 * MS)).await;
        }
    }
}

/// The splitter, running or not. Clones are the same one.
#[derive(Clone)]
pub struct Splitter {
    executor: Executor,
    dice: Dice,
    trace: Trace,
    links: Links,
    ring: Ring,
    history: Rc<RefCell<History>>,
    remains: Rc<Remains>,
    devices: Rc<Vec<Device>>,
    running: Rc<RefCell<Option<Arc<Group>>>>,
    starting: Rc<Cell<bool>>,
    /// The session whose resynchronisation was seen to begin, and how many regions were dirty then.
    resyncing: Rc<Cell<(u64, u64)>>,
    /// How long a device may take to bring the requests of a killed process again.
    redelivery: Rc<Cell<u64>>,
    wrong: Rc<RefCell<Option<String>>>,
}

impl std::fmt::Debug for Splitter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.is_running() { "a splitter" } else { "no splitter" })
    }
}

impl Splitter {
    /// No process yet.
    #[expect(clippy::too_many_arguments, reason = "everything of the world that a host touches")]
    pub fn new(
        executor: &Executor,
        dice: &Dice,
        trace: &Trace,
        links: &Links,
        disks: &Disks,
        history: &Rc<RefCell<History>>,
        remains: Remains,
        devices: Vec<Device>,
    ) -> Self {
        Self {
            executor: executor.clone(),
            dice: dice.clone(),
            trace: trace.clone(),
            links: links.clone(),
            ring: Ring { disks: disks.clone(), executor: executor.clone(), dice: dice.clone() },
            history: Rc::clone(history),
            remains: Rc::new(remains),
            devices: Rc::new(devices),
            running: Rc::default(),
            starting: Rc::default(),
            resyncing: Rc::default(),
            redelivery: Rc::new(Cell::new(REDELIVERY)),
            wrong: Rc::default(),
        }
    }

    /// What outlives the process.
    pub fn remains(&self) -> &Remains {
        &self.remains
    }

    /// The devices of its volumes.
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// Whether the process lives.
    pub fn is_running(&self) -> bool {
        self.running.borrow().is_some()
    }

    /// The group, while a process runs.
    pub fn group(&self) -> Option<Arc<Group>> {
        self.running.borrow().clone()
    }

    /// What was found to be wrong on the way.
    pub fn wrong(&self) -> Option<String> {
        self.wrong.borrow().clone()
    }

    /// Starts a process, if none runs: it gets its locks once what a dead one had in flight is over (PROTOCOL R2).
    pub fn start(&self) {
        if self.is_running() {
            return;
        }
        if self.starting.replace(true) {
            return;
        }
        let its = self.clone();
        self.executor.spawn(Owner::Splitter, async move {
            while its.ring.disks.busy() {
                its.executor.sleep(100 * US).await;
            }
            its.begin_or_blame();
            its.starting.set(false);
        });
    }

    fn begin_or_blame(&self) {
        if let Err(error) = self.begin() {
            self.wrong.borrow_mut().get_or_insert(format!("the splitter cannot start: {error}"));
        }
    }

    fn begin(&self) -> Result<(), String> {
        let remains = &self.remains;
        let text = |e: &dyn std::fmt::Display| e.to_string();
        let row = remains.row()?;
        let life = SplitterIncarnation::new(remains.catalog.next_life().map_err(|e| text(&e))?);
        let boot = BootId::from_bytes(u128::from(remains.boot.get()).to_le_bytes());
        let owner = OutboxOwner { boot, group: GROUP, journal: JOURNAL };
        let mut backings = Vec::new();
        for (n, device) in (1..).zip(self.devices.iter()) {
            backings.push((n, self.open_backing(n, device.sectors())?));
        }
        let outbox = Outbox::open(&remains.outbox(), owner, remains.slots, Mode::Waiting).map_err(|e| text(&e))?;
        let catalog = Arc::clone(&remains.catalog);
        let me = Identity { id: SPLITTER, name: "simulated".to_owned(), life };
        let group = Arc::new(begin(&row, GROUP, JOURNAL, me, outbox, Left::default(), catalog, time::of_host));
        let adopted = group.stream.session().is_some();
        self.trace.note("splitter starts", &[life.get(), u64::from(adopted)]);
        let missing = if remains.fresh.replace(false) { Missing::Clean } else { Missing::Dirty };
        for (n, backing) in backings {
            let id = VolumeId::from_bytes([u8::try_from(n).unwrap_or(0); 16]);
            let path = remains.map(n);
            let map = DirtyMap::open(&path, id, backing.size(), JOURNAL, missing).map_err(|e| text(&e))?;
            // What opening it wrote was written through.
            self.ring.disks.adopt(&path, Kind::Map).map_err(|e| text(&e))?;
            group.add_volume(Arc::new(Volume {
                name: format!("v{n}"),
                id,
                incarnation: Incarnation::new(n),
                backing,
                map,
                stream: Arc::clone(&group.stream),
                jobs: group.jobs.clone(),
                counts: Counts::default(),
                sync: Synchronisation::default(),
            }));
        }
        self.resyncing.set((0, 0));
        group.begin();
        self.look_at_resync(&group);
        *self.running.borrow_mut() = Some(Arc::clone(&group));
        self.executor.spawn(Owner::Splitter, self.clone().link(Arc::clone(&group)));
        let (ring, worked) = (self.ring.clone(), Arc::clone(&group));
        self.executor.spawn(Owner::Splitter, async move { work::run(&worked, &ring).await });
        self.executor.spawn(Owner::Splitter, self.clone().serve(group, adopted));
        Ok(())
    }

    fn open_backing(&self, volume: u32, sectors: u64) -> Result<Backing, String> {
        let path = self.remains.backing(volume);
        if !self.remains.device_like {
            return Backing::open(&path, Some(Duration::ZERO)).map_err(|e| e.to_string());
        }
        let file = OpenOptions::new().read(true).write(true).open(&path).map_err(|e| e.to_string())?;
        file.try_lock().map_err(|e| e.to_string())?;
        let size = SectorCount::new(sectors).ok_or("no sectors")?;
        Ok(Backing::over(&path, file, size, LogicalBlock::SECTOR))
    }

    /// Brings the devices up, as `serve` does: at once over an outbox that goes on, else once the appliance answered.
    async fn serve(self, group: Arc<Group>, adopted: bool) {
        let patience = time::now() + GRANT_PATIENCE;
        while !adopted && !group.is_linked() && time::now() < patience {
            self.executor.sleep(self.dice.between(MS, 5 * MS)).await;
        }
        for (device, volume) in self.devices.iter().zip(group.volumes()) {
            device.attach(&self, &group, &volume);
        }
        group.set_devices_up();
    }

    /// Serves one request of a device.
    pub(crate) fn handle(&self, device: &Device, group: &Arc<Group>, volume: &Arc<Volume>, request: u64, again: bool) {
        let Some((kind, mut buffer)) = device.request(request) else { return };
        let (its, device, group, volume) = (self.clone(), device.clone(), Arc::clone(group), Arc::clone(volume));
        self.executor.spawn(Owner::Splitter, async move {
            if again {
                its.executor.sleep(its.dice.below(its.redelivery.get())).await;
            }
            let result = volume.serve(kind, &mut buffer, &its.ring).await;
            let laid = match group.stream.mode().0 {
                Mode::Active | Mode::Resyncing => group.stream.marks().laid.get(),
                Mode::Waiting | Mode::Marking => u64::MAX,
            };
            let newest = its.history.borrow().sightings.last().map_or(0, |s| s.stamp.session);
            let session = group.stream.session().map_or(newest, Session::get);
            device.complete(request, result, buffer, Stamp { session, laid });
        });
    }

    /// What the link's thread does: connects, talks, connects again.
    async fn link(self, group: Arc<Group>) {
        while !group.quits() {
            let pause = match self.links.connect() {
                Ok(end) => {
                    let held = Held(end);
                    let parting = self.converse(&group, &held.0).await;
                    group.set_link(None);
                    drop(held);
                    match parting {
                        Ok(Parting::Again) => 0,
                        Ok(Parting::Refused) => RETRY_REFUSED,
                        Err(_) => RETRY,
                    }
                }
                Err(_) => RETRY,
            };
            self.executor.sleep(pause).await;
        }
    }

    async fn converse(&self, group: &Group, end: &SplitterEnd) -> io::Result<Parting> {
        let link = group.set_link(Some(end.wire()));
        let mut talk = Talk::open(group, link)?;
        let mut idle = 0;
        loop {
            let (frames, ended) = end.take();
            for frame in frames {
                idle = 0;
                let parting = talk.take(frame)?;
                self.look_at_resync(group);
                if let Some(parting) = parting {
                    return Ok(parting);
                }
            }
            if let Some(why) = ended {
                return Err(io::Error::other(why));
            }
            if let Some(parting) = talk.turn()? {
                return Ok(parting);
            }
            // The bell wakes a thread; here it is looked at now and then, more seldom the longer it was still.
            let most = ((50 * US) << idle.min(7)).min(u64::try_from(talk.patience().as_nanos()).unwrap_or(u64::MAX));
            let arrived = end.arrived.wait();
            either(self.executor.sleep(self.dice.between(10 * US, most.max(11 * US))), arrived).await;
            let rings = group.stream.bell.wait(Duration::ZERO, false);
            idle = if rings == Rings::default() { idle + 1 } else { 0 };
            talk.rung(rings);
        }
    }

    /// Notes how much is dirty when a resynchronisation begins.
    fn look_at_resync(&self, group: &Group) {
        let session = group.stream.session().map_or(0, Session::get);
        if group.stream.mode().0 == Mode::Resyncing && self.resyncing.get().0 != session {
            let dirty = group.volumes().iter().map(|volume| volume.map.regions().dirty()).sum();
            self.resyncing.set((session, dirty));
            self.trace.note("resynchronises", &[session, dirty]);
        }
    }

    /// How many regions the last resynchronisation of this process had to read.
    pub fn to_resync(&self) -> u64 {
        self.resyncing.get().1
    }

    /// How long devices may take from now on to bring requests again; none is the usual.
    pub fn set_redelivery(&self, most: Option<u64>) {
        self.redelivery.set(most.unwrap_or(REDELIVERY));
    }

    /// The process is killed.
    pub fn kill(&self) {
        self.trace.note("splitter killed", &[]);
        self.executor.kill(Owner::Splitter);
        self.starting.set(false);
        self.ring.disks.abandon();
        #[cfg(feature = "faults")]
        record::fault::cut_off_after(None);
        self.devices.iter().for_each(Device::detach);
        if let Some(group) = self.running.borrow_mut().take() {
            assert_eq!(Arc::strong_count(&group), 1, "a dead process holds nothing");
        }
    }

    /// An operator asks for everything to be read again.
    pub fn ask_resync(&self) {
        if let Some(group) = self.group() {
            group.resync_wanted.store(true, Ordering::Release);
            group.stream.bell.ring(Rings { other: true, ..Rings::default() });
        }
    }

    /// Waits for something of the group, a moment at a time.
    pub fn pause(&self) -> impl Future<Output = ()> + use<> {
        self.executor.sleep(self.dice.between(MS, 20 * MS))
    }
}
