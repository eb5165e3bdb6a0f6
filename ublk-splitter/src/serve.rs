//! Everything that one splitter process serves: from the catalog to live devices.
//!
//! Owns the table of what is served and the order of a start (PROTOCOL R3): locks on the backings, then the outboxes, then
//! the links, then the devices. Deliberately answers no operator itself: `operate` does, through the methods here; making
//! a volume is in `create`, taking everything down again in `stop`, what an operator sees of it in `status`.

use crate::backing::Backing;
use crate::begin::Left;
use crate::catalog::{Catalog, CatalogError, GroupRow, VolumeRow};
use crate::dirty_map::{DirtyMap, Missing};
use crate::group::{Group, Identity};
use crate::lock::lock;
use crate::outbox::{Mode, Outbox, Owner, layout};
use crate::ring_io::{Blocking, block_on};
use crate::volume::{Counts, Synchronisation, Volume, VolumeService};
use crate::{begin, clock, link, work};
use control::error::ControlError;
use control::events::{EventKind, Events, News};
use control::paths::Paths;
use record::ids::{BootId, GroupId, Incarnation, JournalId, VolumeId};
use record::position::SplitterIncarnation;
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use ublk_device::spec::{DeviceId, DeviceSpec};

/// How long a start waits for the appliance before it serves hosts without it. Nobody waits in I/O meanwhile: the
/// devices are not there yet.
const GRANT_PATIENCE: Duration = Duration::from_secs(10);
/// How long a start waits for a dead predecessor's I/O to drain.
const DRAIN_PATIENCE: Duration = Duration::from_secs(300);
/// What the host's own splitter is called: one that has no name.
const OWN_NAME: &str = "main";
/// Requests that one queue can hold.
const DEPTH: u16 = 64;

/// A volume of the catalog, served or not.
#[derive(Debug)]
pub(crate) struct Serving {
    pub(crate) row: VolumeRow,
    pub(crate) volume: Option<Arc<Volume>>,
    pub(crate) device: Option<ublk_device::device::Device>,
    pub(crate) down: Option<String>,
    pub(crate) warnings: Vec<String>,
}

impl Serving {
    fn starting(row: VolumeRow) -> Self {
        Self { row, volume: None, device: None, down: None, warnings: Vec::new() }
    }

    fn take_device(&mut self, device: Result<ublk_device::device::Device, String>) {
        match device {
            Ok(device) => (self.device, self.down) = (Some(device), None),
            Err(why) => {
                tracing::error!(volume = self.row.name, why, "cannot serve the device");
                self.down = Some(why);
            }
        }
    }
}

/// A group whose threads run.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) group: Arc<Group>,
    pub(crate) threads: Vec<JoinHandle<()>>,
}

/// What is being served.
#[derive(Debug, Default)]
pub(crate) struct Table {
    pub(crate) volumes: BTreeMap<String, Serving>,
    pub(crate) groups: BTreeMap<GroupId, Running>,
}

/// A splitter process.
#[derive(Debug)]
pub struct Splitter {
    pub(crate) paths: Paths,
    pub(crate) appliance: PathBuf,
    link_socket: PathBuf,
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) events: Events,
    boot: BootId,
    pub(crate) me: Identity,
    pub(crate) table: Mutex<Table>,
    /// Held by whoever changes what is served: one change at a time.
    change: Mutex<()>,
}

/// This life of the host's memory.
fn boot_id() -> io::Result<BootId> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
    BootId::parse(text.trim()).ok_or_else(|| io::Error::other("the kernel's boot id is not a UUID"))
}

impl Splitter {
    /// A splitter over its state folder; nothing is served yet, and every volume of the catalog says so.
    pub fn open(paths: Paths) -> anyhow::Result<Arc<Self>> {
        let state = paths.splitter_state();
        control::paths::make_private_dir(&state)?;
        let catalog = Catalog::open(&state)?;
        let me = Identity {
            id: catalog.splitter_id()?,
            name: paths.splitter().unwrap_or(OWN_NAME).to_owned(),
            life: SplitterIncarnation::new(catalog.next_life()?),
        };
        let events = Events::open(&state, "splitter");
        events.tell(News::new(EventKind::Started, format!("release {} started", env!("CARGO_PKG_VERSION"))));
        let mut table = Table::default();
        for row in catalog.volumes()?.into_iter().filter(|row| row.pending.is_none()) {
            table.volumes.insert(row.name.clone(), Serving::starting(row));
        }
        Ok(Arc::new(Self {
            appliance: paths.appliance_socket(),
            link_socket: paths.link_socket(),
            catalog: Arc::new(catalog),
            events,
            boot: boot_id()?,
            me,
            table: Mutex::new(table),
            change: Mutex::new(()),
            paths,
        }))
    }

    /// One change at a time.
    pub(crate) fn changing(&self) -> MutexGuard<'_, ()> {
        lock(&self.change)
    }

    /// Serves everything in the catalog. A volume that cannot be served is down, with its reason; the others are not
    /// held up by it.
    pub fn start(self: &Arc<Self>) -> Result<(), CatalogError> {
        let _changing = self.changing();
        let deadline = Instant::now() + GRANT_PATIENCE;
        // The appliance may be starting as well.
        while !self.undo_half_made()? && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(200));
        }
        // One that is still half made is nobody's volume: it is undone when the appliance answers.
        let rows: Vec<_> = self.catalog.volumes()?.into_iter().filter(|row| row.pending.is_none()).collect();
        // Side by side: a group whose backing is still held, or whose journal does not answer, holds up no other.
        std::thread::scope(|scope| {
            let mut starting = Vec::new();
            for group_row in self.catalog.groups()? {
                let members: Vec<_> = rows.iter().filter(|row| row.group == group_row.id).cloned().collect();
                if !members.is_empty() {
                    starting.push(scope.spawn(move || self.start_group(&group_row, members)));
                }
            }
            for group in starting {
                group.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
            }
            Ok(())
        })
    }

    fn start_group(self: &Arc<Self>, row: &GroupRow, members: Vec<VolumeRow>) -> Result<(), CatalogError> {
        let mut servings = Vec::new();
        let (mut touched, mut absent) = (None, None);
        for member in members {
            let backing = Backing::open(&member.backing, Some(DRAIN_PATIENCE));
            let mut serving = Serving::starting(member);
            let backing = match backing.map(|b| (b.size().get() == serving.row.sectors, b)) {
                Ok((true, backing)) => Some(backing),
                Ok((false, backing)) => {
                    serving.down = Some(format!(
                        "its backing {} has {} bytes now, it had {}: put it back to that size",
                        backing.path().display(),
                        backing.size().bytes(),
                        serving.row.sectors * 512
                    ));
                    None
                }
                Err(error) => {
                    serving.down = Some(error.to_string());
                    None
                }
            };
            match (&serving.down, &backing) {
                (Some(why), _) => {
                    tracing::error!(volume = serving.row.name, why, "cannot serve the volume");
                    self.tell_of(EventKind::DeviceDown, &row.name, &serving.row.name, why);
                    absent = Some(format!("volume {} could not be served: {why}", serving.row.name));
                }
                (None, Some(backing)) => {
                    if let Some(warning) = touched_since(&serving.row, backing) {
                        tracing::error!(volume = serving.row.name, warning, "the backing was touched");
                        self.tell_of(EventKind::Alarm, &row.name, &serving.row.name, &warning);
                        serving.warnings.push(warning.clone());
                        touched = Some(warning);
                    }
                }
                (None, None) => {}
            }
            servings.push((serving, backing));
        }
        let left = Left { touched: touched.clone(), absent };
        let group = match self.open_group(row, left) {
            Ok(group) => group,
            Err(error) => {
                for (mut serving, _) in servings {
                    serving.down = Some(format!("the outbox of group {} cannot be used: {error}", row.name));
                    lock(&self.table).volumes.insert(serving.row.name.clone(), serving);
                }
                return Ok(());
            }
        };
        // From here on the stop before is no longer a clean one, whatever happens: stored before any host can write.
        let look_first = row.look_first || touched.is_some();
        self.catalog.change_group(group.id, |g| (g.clean, g.marking, g.look_first) = (None, None, look_first))?;
        let mut to_check = Vec::new();
        for (mut serving, backing) in servings {
            let served = backing.map(|backing| self.make_volume(&serving.row, backing, &group, Missing::Dirty));
            let volume = match served {
                Some(Ok(volume)) => {
                    // All of it is dirty before a host can write: whatever happens from here on, it will be read.
                    let marked =
                        if serving.warnings.is_empty() { Ok(()) } else { block_on(volume.map.forget(&Blocking)) };
                    marked.map(|()| volume).map_err(|error| no_map(&serving.row, &error))
                }
                Some(Err(why)) => Err(why),
                None => Err(serving.down.clone().unwrap_or_default()),
            };
            match volume {
                Ok(volume) => {
                    group.add_volume(Arc::clone(&volume));
                    serving.volume = Some(volume);
                    serving.row.fingerprint = None;
                    if !std::mem::take(&mut serving.row.at_rest) {
                        to_check.push(serving.row.clone());
                    }
                    self.catalog.put_volume(&serving.row)?;
                }
                // One that is not served now is compared when it comes back.
                Err(why) => {
                    group.add_absent(&serving.row.name);
                    group.stream.mark(&format!("volume {} could not be served: {why}", serving.row.name));
                    serving.down = Some(why);
                }
            }
            lock(&self.table).volumes.insert(serving.row.name.clone(), serving);
        }
        for row in &to_check {
            Self::check_device(row, &group);
        }
        group.begin();
        self.run_group(&group).map_err(|e| CatalogError::NoRow(self.catalog.path().into(), e.to_string()))?;
        let adopted = group.stream.session().is_some();
        if !adopted && !group.wait_granted(GRANT_PATIENCE) {
            tracing::warn!(
                group = group.name,
                "serving hosts without the appliance; their writes will not be recorded until it answers"
            );
        }
        for volume in group.volumes() {
            self.serve_device(&group.name, &volume);
        }
        group.set_devices_up();
        Ok(())
    }

    /// Brings the device of a volume in the table to life. Not under the table's lock: a device whose hosts are held takes
    /// its time, and `status` must not.
    pub(crate) fn serve_device(&self, group: &str, volume: &Arc<Volume>) {
        let row = lock(&self.table).volumes.get(&volume.name).map(|serving| serving.row.clone());
        let Some(row) = row else { return };
        let device = self.bring_up(group, &row, volume);
        if let Some(serving) = lock(&self.table).volumes.get_mut(&volume.name) {
            serving.take_device(device);
            self.tell_device(group, serving);
        }
    }

    /// Tells whether a volume's device is being served.
    fn tell_device(&self, group: &str, serving: &Serving) {
        let device = DeviceId(serving.row.dev_id).path();
        let (kind, text) = match &serving.down {
            None => (EventKind::DeviceUp, format!("{} is being served", device.display())),
            Some(why) => (EventKind::DeviceDown, format!("{} cannot be served: {why}", device.display())),
        };
        self.tell_of(kind, group, &serving.row.name, &text);
    }

    fn tell_of(&self, kind: EventKind, group: &str, volume: &str, text: &str) {
        self.events.tell(News::new(kind, text).group(group).volume(volume));
    }

    /// A predecessor that was killed left requests in flight. When its device is gone they will not come again, though
    /// records of them may be on their way to the journal (PROTOCOL R4): what the backing holds is read.
    fn check_device(row: &VolumeRow, group: &Group) {
        if !group.stream.has_inherited() {
            return;
        }
        let devices = ublk_device::inventory::list().unwrap_or_default();
        let waits = devices.iter().any(|device| {
            device.id == DeviceId(row.dev_id)
                && device.recoverable
                && device.state != ublk_device::inventory::State::Dead
        });
        if !waits {
            tracing::warn!(
                group = group.name,
                volume = row.name,
                "the device was removed after its splitter had been killed, and requests with it"
            );
            work::resync::give_up(group, Some(Incarnation::new(row.incarnation)));
        }
    }

    /// The group of a row: its outbox taken over or made anew, its threads not running yet.
    pub(crate) fn open_group(&self, row: &GroupRow, left: Left) -> io::Result<Arc<Group>> {
        let (Some(id), Some(journal)) = (GroupId::parse(&row.id), JournalId::parse(&row.journal)) else {
            return Err(io::Error::other("the catalog's ids of the group are not UUIDs"));
        };
        let owner = Owner { boot: self.boot, group: id, journal };
        let slots = usize::try_from(row.outbox_bytes).map_err(io::Error::other)? / layout::PAYLOAD_AREA;
        let slots = slots.clamp(*layout::SLOTS.start(), *layout::SLOTS.end());
        let outbox = Outbox::open(&self.outbox_path(id), owner, slots, Mode::Waiting)?;
        let catalog = Arc::clone(&self.catalog);
        let group = begin::begin(row, id, journal, self.me.clone(), outbox, left, catalog, clock::of_host);
        group.stream.set_events(self.events.clone());
        if let (Mode::Marking, why) = group.stream.mode() {
            group.stream.tell(EventKind::MarkingBegun, format!("since the start: {why}"));
        }
        Ok(Arc::new(group))
    }

    pub(crate) fn outbox_path(&self, group: GroupId) -> PathBuf {
        self.paths.outboxes().join(format!("{group}.outbox"))
    }

    /// Starts a group's threads.
    pub(crate) fn run_group(&self, group: &Arc<Group>) -> io::Result<()> {
        let spawn = |name: String, run: Box<dyn FnOnce() + Send>| {
            std::thread::Builder::new().name(name).spawn(move || {
                if let Err(error) = ublk_device::process::io_flusher() {
                    tracing::warn!(%error, "cannot mark a thread of the write path as I/O flusher");
                }
                run();
            })
        };
        let (linked, socket) = (Arc::clone(group), self.link_socket.clone());
        let worked = Arc::clone(group);
        let threads = vec![
            spawn(format!("link {}", group.name), Box::new(move || link::run(&linked, &socket)))?,
            spawn(format!("work {}", group.name), Box::new(move || block_on(work::run(&worked, &Blocking))))?,
        ];
        lock(&self.table).groups.insert(group.id, Running { group: Arc::clone(group), threads });
        Ok(())
    }

    /// Brings a volume's device to life: recovered if a predecessor left it, started if not.
    pub(crate) fn start_device(&self, group: &str, serving: &mut Serving) {
        let Some(volume) = &serving.volume else {
            return;
        };
        let device = self.bring_up(group, &serving.row, volume);
        serving.take_device(device);
        self.tell_device(group, serving);
    }

    fn bring_up(
        &self,
        group: &str,
        row: &VolumeRow,
        volume: &Arc<Volume>,
    ) -> Result<ublk_device::device::Device, String> {
        let id = DeviceId(row.dev_id);
        let mut spec = DeviceSpec::volume(id, &row.name, volume.backing.size());
        (spec.queues, spec.depth, spec.block) = (row.queues, DEPTH, volume.backing.block());
        let env =
            format!("UNDISK_KIND=volume\nUNDISK_GROUP={group}\nUNDISK_VOLUME={}\nUNDISK_UUID={}\n", row.name, row.id);
        // udev reads it when the device appears: a missing name link must not keep a volume down.
        if let Err(error) = std::fs::write(self.paths.device_env(row.dev_id), env) {
            tracing::warn!(volume = row.name, %error, "cannot write what udev is to know of the device");
        }
        let left = ublk_device::inventory::list().map_err(|e| e.to_string())?.into_iter().find(|d| d.id == id);
        let service = Arc::new(VolumeService(Arc::clone(volume)));
        let device = match left {
            None => ublk_device::device::start(&spec, service),
            Some(left) if left.recoverable && left.state != ublk_device::inventory::State::Dead => {
                ublk_device::device::recover(&spec, service)
            }
            Some(_) => {
                ublk_device::inventory::delete(id).map_err(|e| e.to_string())?;
                ublk_device::device::start(&spec, service)
            }
        };
        device.map_err(|e| e.to_string())
    }

    /// A volume over its backing, with its dirty map, or why there is none.
    pub(crate) fn make_volume(
        &self,
        row: &VolumeRow,
        backing: Backing,
        group: &Arc<Group>,
        missing: Missing,
    ) -> Result<Arc<Volume>, String> {
        let id = VolumeId::parse(&row.id).ok_or("the volume's id is not a UUID")?;
        let map = DirtyMap::open(&self.map_path(row), id, backing.size(), group.journal, missing)
            .map_err(|error| no_map(row, &error))?;
        Ok(Arc::new(Volume {
            name: row.name.clone(),
            id,
            incarnation: Incarnation::new(row.incarnation),
            backing,
            map,
            stream: Arc::clone(&group.stream),
            jobs: group.jobs.clone(),
            counts: Counts::default(),
            sync: Synchronisation::default(),
        }))
    }

    /// Where the dirty map of a volume is.
    pub(crate) fn map_path(&self, row: &VolumeRow) -> PathBuf {
        self.paths.splitter_state().join("maps").join(format!("{}.map", row.id))
    }

    /// Who uses a device of ours.
    pub(crate) fn device_uses(dev_id: u32) -> Result<Option<String>, ControlError> {
        let device = DeviceId(dev_id).path();
        let uses = control::device_use::uses_of(&device)
            .map_err(|e| ControlError::failed(format!("cannot tell who uses {}: {e}", device.display())))?;
        Ok((!uses.is_empty()).then(|| control::device_use::describe(&uses)))
    }
}

fn touched_since(row: &VolumeRow, backing: &Backing) -> Option<String> {
    let before = row.fingerprint.as_ref()?;
    let path = backing.path().display();
    match backing.fingerprint() {
        Ok(now) if now == *before => None,
        Ok(_) => Some(format!("the backing {path} of volume {} was written while undisk did not serve it", row.name)),
        Err(error) => Some(format!("the backing {path} of volume {} cannot be compared: {error}", row.name)),
    }
}

fn no_map(row: &VolumeRow, error: &io::Error) -> String {
    format!("the dirty map of volume {} cannot be used: {error}", row.name)
}
