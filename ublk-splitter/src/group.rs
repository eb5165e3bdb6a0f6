//! One consistency group on this host: its stream, its volumes, its link and its worker, tied together.
//!
//! Owns what link and worker share. Deliberately decides nothing: the stream orders, `link` talks, `work` works.

use crate::catalog::{Catalog, CatalogError, CleanStop, GroupRow};
use crate::clock::Now;
use crate::dirty_map::Relied;
use crate::events::{Strain, StrainWatch};
use crate::lock::lock;
use crate::outbox::Mode;
use crate::regions::{REGION_SECTORS, Regions};
use crate::stream::direct::Road;
use crate::stream::{Entry, Hold, Stream};
use crate::volume::Volume;
use crate::work::clean::Rounds;
use crate::work::verify::Digests;
use crate::work::{Job, Jobs};
use control::events::{EventKind, News};
use control::size::Size;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use record::conversation::frame::Message as _;
use record::conversation::{Piece, ToAppliance};
use record::geometry::Extent;
use record::ids::{GroupId, Incarnation, JournalId, SplitterId};
use record::op::Op;
use record::position::SplitterIncarnation;
use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// What the appliance said of an extent that a rollback owes: its pieces, or why it cannot be read.
pub type Answered = Result<Vec<Piece>, String>;

/// The sending side of a connection.
pub trait Wire: Send + std::fmt::Debug {
    /// Sends a whole frame.
    fn send(&mut self, frame: &[u8]) -> io::Result<()>;

    /// Sends a whole frame if that needs no waiting; `false`: nothing of it went out.
    fn send_now(&mut self, _frame: &[u8]) -> io::Result<bool> {
        Ok(false)
    }

    /// Ends the connection, in both directions.
    fn cut(&self);
}

impl Wire for UnixStream {
    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        self.write_all(frame)
    }

    fn send_now(&mut self, frame: &[u8]) -> io::Result<bool> {
        match send(self.as_raw_fd(), frame, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL) {
            Ok(sent) if sent == frame.len() => Ok(true),
            // The rest cannot follow without waiting, and nothing else may come between.
            Ok(_) => Err(io::ErrorKind::WriteZero.into()),
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    fn cut(&self) {
        // Not connected any more is fine.
        let _ = self.shutdown(std::net::Shutdown::Both);
    }
}

/// The connection of the moment.
#[derive(Debug, Default)]
struct Link {
    /// How many there were; names the present one.
    count: u64,
    writer: Option<Box<dyn Wire>>,
}

impl Link {
    /// Sends on the link of this number; `false` when it is not the present one any more, it breaks, or `send` says so.
    fn send(&mut self, group: &str, link: u64, send: impl FnOnce(&mut dyn Wire) -> io::Result<bool>) -> bool {
        let Some(writer) = self.writer.as_mut().filter(|_| self.count == link) else {
            return false;
        };
        match send(&mut **writer) {
            Ok(sent) => sent,
            Err(error) => {
                tracing::warn!(group, %error, "the link to the appliance broke");
                // The reader notices, and the link's thread starts anew.
                writer.cut();
                self.writer = None;
                false
            }
        }
    }
}

/// The way to the appliance over the link of the moment, without waiting.
#[derive(Debug)]
struct Present {
    group: String,
    link: Arc<Mutex<Link>>,
    count: u64,
}

impl Road for Present {
    fn send_now(&self, message: &ToAppliance) -> bool {
        let frame = message.encode();
        // Whoever sends may have to wait for the socket.
        let Ok(mut link) = self.link.try_lock() else { return false };
        link.send(&self.group, self.count, |wire| wire.send_now(&frame))
    }
}

/// Which splitter this is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Identity {
    /// Its id, for ever.
    pub id: SplitterId,
    /// What people call it.
    pub name: String,
    /// The life of this process, for fencing.
    pub life: SplitterIncarnation,
}

/// A group on this host.
#[derive(Debug)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: GroupId,
    /// Its journal.
    pub journal: JournalId,
    /// The splitter that this process is.
    pub me: Identity,
    /// Its stream.
    pub stream: Arc<Stream>,
    /// Its worker's jobs.
    pub jobs: Jobs,
    /// What the clean stop before left, until a session has been granted.
    pub clean: Mutex<Option<CleanStop>>,
    /// A resynchronisation in a session of its own is wanted: by an operator, or because nothing is known any more.
    pub resync_wanted: AtomicBool,
    /// An operator wants everything read again: until that has begun.
    pub full_wanted: AtomicBool,
    /// The journal has lost what was relied on, and not every region is dirty yet.
    pub forgetting: AtomicBool,
    /// An operator paused the group's protection: writes only mark.
    pub paused: AtomicBool,
    /// An operator has to look before the group is resynchronised: a backing was touched behind our back.
    pub look_first: AtomicBool,
    /// Bytes that the last resynchronisation has read, or has read so far.
    pub resynced: AtomicU64,
    /// Rounds of clearing that are under way.
    pub rounds: Mutex<Rounds>,
    /// What was told of hosts that feel the journal.
    strain: Mutex<StrainWatch>,
    /// What the appliance says its images hold.
    pub digests: Digests,
    catalog: Arc<Catalog>,
    volumes: Mutex<BTreeMap<Incarnation, Arc<Volume>>>,
    link: Arc<Mutex<Link>>,
    granted: AtomicBool,
    sync_acks: Mutex<BTreeMap<Incarnation, u64>>,
    contents: Mutex<Vec<(Incarnation, Extent, Answered)>>,
    quit: Mutex<bool>,
    /// Signalled at the end, at a grant, and when an answer came.
    woken: Condvar,
    rollback: AtomicU64,
    /// Since when the devices of the volumes at the start have been up.
    up_since: Mutex<Option<Now>>,
    /// Volumes of the catalog that are not served.
    absent: Mutex<Vec<String>>,
    /// Since when there has been no link with a grant.
    unlinked_since: Mutex<Option<Now>>,
    /// Before this no resynchronisation begins by itself.
    not_before: Mutex<Option<Now>>,
}

/// How long hosts of a `sync` group wait for a link before it counts as lost.
const LINK_PATIENCE: Duration = Duration::from_secs(5);
/// Between the beginnings of two resynchronisations that nobody asked for.
const RESYNC_PAUSE: Duration = Duration::from_secs(1);
/// No rollback is under way.
const NO_ROLLBACK: u64 = u64::MAX;

impl Group {
    /// A group whose stream is ready and whose threads are not running yet.
    #[expect(clippy::too_many_arguments, reason = "made in one place, from what the catalog holds")]
    pub fn new(
        name: &str,
        id: GroupId,
        journal: JournalId,
        me: Identity,
        stream: Stream,
        clean: Option<CleanStop>,
        rollback: Option<u64>,
        catalog: Arc<Catalog>,
    ) -> Self {
        let now = stream.now();
        Self {
            name: name.to_owned(),
            id,
            journal,
            me,
            stream: Arc::new(stream),
            jobs: Jobs::default(),
            clean: Mutex::new(clean),
            resync_wanted: AtomicBool::new(false),
            full_wanted: AtomicBool::new(false),
            forgetting: AtomicBool::new(false),
            paused: AtomicBool::new(false),
            look_first: AtomicBool::new(false),
            resynced: AtomicU64::new(0),
            rounds: Mutex::default(),
            strain: Mutex::default(),
            digests: Digests::default(),
            catalog,
            volumes: Mutex::default(),
            link: Arc::default(),
            granted: AtomicBool::new(false),
            sync_acks: Mutex::default(),
            contents: Mutex::default(),
            quit: Mutex::new(false),
            woken: Condvar::new(),
            rollback: AtomicU64::new(rollback.unwrap_or(NO_ROLLBACK)),
            up_since: Mutex::default(),
            absent: Mutex::default(),
            unlinked_since: Mutex::new(Some(now)),
            not_before: Mutex::default(),
        }
    }

    /// Every volume of the start is there. What the predecessor was resynchronising is read from the beginning: what it
    /// had read may have changed hands since (PROTOCOL R3).
    pub fn begin(&self) {
        if self.stream.mode().0 == Mode::Resyncing {
            self.begin_resync();
        }
    }

    /// Lays RESYNC_BEGIN and has every dirty region read.
    pub fn begin_resync(&self) {
        let Some(session) = self.stream.session() else { return };
        for volume in self.volumes() {
            volume.map.regions().begin_resync(session);
        }
        self.resynced.store(0, Ordering::Relaxed);
        self.pause_resync();
        self.full_wanted.store(false, Ordering::Release);
        let bytes = self.unread_bytes();
        let text = format!("{} of the volumes are being read again", Size(bytes));
        self.stream.events().tell(News::new(EventKind::ResyncBegun, text).group(&self.name).bytes(bytes));
        self.stream.lay(Entry::of_group(Op::ResyncBegin), &[]);
        self.jobs.push(Job::Resynchronise);
    }

    /// Bytes of the volumes that a resynchronisation under way has still to read.
    pub fn unread_bytes(&self) -> u64 {
        let session = self.stream.session();
        self.bytes_of(|regions| session.and_then(|session| regions.unread(session)).unwrap_or(0))
    }

    /// Bytes of the volumes that the journal may lack.
    pub fn dirty_bytes(&self) -> u64 {
        self.bytes_of(Regions::dirty)
    }

    fn bytes_of(&self, regions: impl Fn(&Regions) -> u64) -> u64 {
        // The last region of a volume may reach beyond its end.
        let of = |volume: &Arc<Volume>| {
            let bytes = regions(&volume.map.regions()) * REGION_SECTORS * 512;
            bytes.min(volume.backing.size().bytes())
        };
        self.volumes().iter().map(of).sum()
    }

    /// What the catalog says of it.
    pub(crate) fn row(&self) -> Result<GroupRow, CatalogError> {
        self.catalog.group(self.id)
    }

    /// Changes what the catalog says of it.
    pub(crate) fn change_row(&self, change: impl FnOnce(&mut GroupRow)) -> Result<(), CatalogError> {
        self.catalog.change_group(self.id, change)
    }

    /// Whether a resynchronisation may begin by itself: whenever what is missing is known and can be read.
    pub fn may_resync(&self) -> bool {
        !self.paused.load(Ordering::Acquire)
            && !self.look_first.load(Ordering::Acquire)
            && self.rollback().is_none()
            && self.absent().is_none()
    }

    /// The next one begins a little later.
    pub fn pause_resync(&self) {
        let soon = self.stream.now().plus(RESYNC_PAUSE);
        *lock(&self.not_before) = Some(soon);
    }

    /// Whether it may begin now: one that fails at once must not begin again and again.
    pub fn resync_is_due(&self) -> bool {
        let not_before = *lock(&self.not_before);
        self.may_resync() && not_before.is_none_or(|moment| moment.boot_ns <= self.stream.now().boot_ns)
    }

    /// Everything has been read: whatever an operator was to look at is in the journal.
    pub fn looked_at(&self) {
        if let Err(error) = self.catalog.change_group(self.id, |group| group.look_first = false) {
            tracing::warn!(group = self.name, %error, "cannot store that the group has been read again");
        }
    }

    /// What the dirty maps of the volumes rely on being in the journal.
    pub fn relied(&self) -> Option<Relied> {
        self.volumes().iter().filter_map(|volume| volume.map.relied()).max()
    }

    /// Notices that there has been no link for too long.
    pub fn look_for_link(&self) {
        let since = *lock(&self.unlinked_since);
        if since.is_some_and(|since| self.stream.now().since(since) >= LINK_PATIENCE) {
            self.stream.set_lost();
        }
    }

    /// Tells when hosts begin to feel the journal.
    pub fn look_at_strain(&self) {
        let (delayed, degraded) = self.stream.strain();
        let strain = Strain { delayed, stalled: self.stream.stalls(), full: self.stream.waits(), degraded };
        for felt in lock(&self.strain).look(strain, self.stream.now()) {
            let lag = self.stream.lag();
            let (kind, text) = felt.told(&format!("{} writes and {}", lag.writes, Size(lag.bytes)));
            self.stream.tell(kind, text);
        }
    }

    /// Adds a volume that is being served from now on.
    pub fn add_volume(&self, volume: Arc<Volume>) {
        lock(&self.volumes).insert(volume.incarnation, volume);
    }

    /// Forgets a volume; answers whether others are left.
    pub fn remove_volume(&self, volume: Incarnation) -> bool {
        let mut volumes = lock(&self.volumes);
        volumes.remove(&volume);
        !volumes.is_empty()
    }

    /// The volume of this number.
    pub fn volume(&self, volume: Incarnation) -> Option<Arc<Volume>> {
        lock(&self.volumes).get(&volume).cloned()
    }

    /// All volumes.
    pub fn volumes(&self) -> Vec<Arc<Volume>> {
        lock(&self.volumes).values().cloned().collect()
    }

    /// The devices that there are to bring up are up.
    pub fn set_devices_up(&self) {
        *lock(&self.up_since) = Some(self.stream.now());
        self.wake();
    }

    /// Whether the devices have been up for so long.
    pub fn devices_are_up_for(&self, span: Duration) -> bool {
        lock(&self.up_since).is_some_and(|since| self.stream.now().since(since) >= span)
    }

    /// Whether the devices are up.
    pub fn devices_are_up(&self) -> bool {
        lock(&self.up_since).is_some()
    }

    /// A volume of the group is not served.
    pub fn add_absent(&self, name: &str) {
        lock(&self.absent).push(name.to_owned());
    }

    /// A volume was removed.
    pub fn forget_absent(&self, name: &str) {
        lock(&self.absent).retain(|absent| absent != name);
    }

    /// A volume of the group that is not served, if there is one.
    pub fn absent(&self) -> Option<String> {
        lock(&self.absent).first().cloned()
    }

    /// Names the present link.
    pub fn link_count(&self) -> u64 {
        lock(&self.link).count
    }

    /// Whether the appliance has granted a session on the present link.
    pub fn is_linked(&self) -> bool {
        self.granted.load(Ordering::Acquire)
    }

    /// A link stands, or (`None`) there is none any more.
    pub fn set_link(&self, writer: Option<Box<dyn Wire>>) -> u64 {
        let mut link = lock(&self.link);
        link.count += 1;
        link.writer = writer;
        self.granted.store(false, Ordering::Release);
        // Whoever would release it is not heard any more.
        self.stream.release_barriers();
        lock(&self.unlinked_since).get_or_insert_with(|| self.stream.now());
        self.stream.set_linked(false);
        link.count
    }

    /// The present link was granted.
    pub fn set_granted(&self) {
        self.granted.store(true, Ordering::Release);
        *lock(&self.unlinked_since) = None;
        self.stream.set_linked(true);
        let _quit = lock(&self.quit);
        self.woken.notify_all();
    }

    /// Waits until a session is granted; `false` when the time is over first.
    pub fn wait_granted(&self, limit: Duration) -> bool {
        let quit = lock(&self.quit);
        let (_quit, _) = self
            .woken
            .wait_timeout_while(quit, limit, |quit| !*quit && !self.is_linked())
            .unwrap_or_else(PoisonError::into_inner);
        self.is_linked()
    }

    /// Sends a message on this link; `false` when it is not the present one any more, or it breaks.
    pub fn send(&self, link: u64, message: &ToAppliance) -> bool {
        let frame = message.encode();
        lock(&self.link).send(&self.name, link, |wire| wire.send(&frame).map(|()| true))
    }

    /// The way to the appliance for threads that must not wait, for as long as the present link stands.
    pub fn road(&self) -> Box<dyn Road> {
        Box::new(Present { group: self.name.clone(), link: Arc::clone(&self.link), count: self.link_count() })
    }

    /// A synchronisation starts: nothing of it is acknowledged.
    pub fn reset_sync_acks(&self, volume: Incarnation) {
        lock(&self.sync_acks).insert(volume, 0);
    }

    /// The appliance has so many bytes of a synchronisation.
    pub fn set_sync_acked(&self, volume: Incarnation, bytes: u64) {
        lock(&self.sync_acks).insert(volume, bytes);
        self.wake();
    }

    /// Bytes of a synchronisation that the appliance has.
    pub fn sync_acked(&self, volume: Incarnation) -> u64 {
        lock(&self.sync_acks).get(&volume).copied().unwrap_or(0)
    }

    /// Asks for the content of an extent that a rollback owes.
    pub fn ask_content(&self, link: u64, volume: Incarnation, extent: Extent) {
        lock(&self.contents).retain(|(v, e, _)| (*v, e.start()) != (volume, extent.start()));
        self.send(link, &ToAppliance::RestoreRead { volume, extent });
    }

    /// The appliance's answer has come.
    pub fn put_content(&self, volume: Incarnation, extent: Extent, answer: Answered) {
        lock(&self.contents).push((volume, extent, answer));
        self.wake();
    }

    /// The answer for an extent, or a front part of it, once.
    pub fn take_content(&self, volume: Incarnation, extent: Extent) -> Option<Answered> {
        let mut contents = lock(&self.contents);
        let at = contents.iter().position(|(v, e, _)| (*v, e.start()) == (volume, extent.start()))?;
        Some(contents.swap_remove(at).2)
    }

    /// Wakes whoever waits for something of the group.
    pub(crate) fn wake(&self) {
        let _quit = lock(&self.quit);
        self.woken.notify_all();
    }

    /// Sleeps until something comes, the time is over, or the group quits: `true` then.
    pub fn wait_quit(&self, limit: Duration) -> bool {
        let quit = lock(&self.quit);
        if *quit {
            return true;
        }
        let (quit, _) = self.woken.wait_timeout(quit, limit).unwrap_or_else(PoisonError::into_inner);
        *quit
    }

    /// Whether the group quits.
    pub fn quits(&self) -> bool {
        *lock(&self.quit)
    }

    /// Ends link and worker.
    pub fn quit(&self) {
        *lock(&self.quit) = true;
        self.woken.notify_all();
        self.jobs.push_first(Job::Quit);
        self.stream.bell.ring(crate::bell::Rings { other: true, ..Default::default() });
        if let Some(writer) = &lock(&self.link).writer {
            // The reader ends with it; whoever still writes gets an error and tells nobody.
            writer.cut();
        }
    }

    /// The rollback that was being prepared or brought in, if any.
    pub fn rollback(&self) -> Option<u64> {
        let id = self.rollback.load(Ordering::Acquire);
        (id != NO_ROLLBACK).then_some(id)
    }

    /// Stores which rollback is under way, durably.
    pub fn store_rollback(&self, id: Option<u64>) -> Result<(), CatalogError> {
        self.catalog.change_group(self.id, |group| group.rollback = id)?;
        self.rollback.store(id.unwrap_or(NO_ROLLBACK), Ordering::Release);
        Ok(())
    }

    /// Lets hosts go on.
    pub fn release_hold(&self) {
        self.stream.set_hold(None);
    }

    /// The appliance gave this rollback up before it was committed.
    pub fn abort_rollback(&self, id: u64) {
        if self.rollback() == Some(id) {
            self.no_rollback();
        }
    }

    /// The appliance says that no rollback is committed: whatever was being prepared is off.
    pub fn no_rollback(&self) {
        if self.rollback().is_some() {
            if let Err(error) = self.store_rollback(None) {
                tracing::error!(group = self.name, %error, "cannot store that no rollback is under way");
                return;
            }
            tracing::info!(group = self.name, "a rollback that was being prepared did not happen; hosts go on");
        }
        if self.stream.hold() == Some(Hold::Restoring) {
            self.release_hold();
        }
    }
}
