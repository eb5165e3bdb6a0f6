//! A simulated disk: a journal's directory in memory, with what a power cut leaves and what a cruel world does to it.
//!
//! Every file has durable content and the writes since; every folder has durable names and the changes since. A power
//! cut keeps, of writes that were not synced, any subset of their 512-byte sectors, and of name changes any prefix.
//! A killed process leaves all of it, still unsynced. `stop_after` ends the world in the middle of the n-th step. Of
//! several writes under way any is done next, and when the world ends any part of each may be there.

use crate::pages::Pages;
use crate::rng::Rng;
use journal::device::{Access, Disk, DiskFile, Flight, IN_FLIGHT_MAX, Part};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

mod moments;

pub use moments::Moment;
use moments::Moments;

/// The unit in which writes tear.
const SECTOR: usize = 512;

/// A directory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk {
    world: Arc<Mutex<World>>,
}

#[derive(Clone, Default)]
struct World {
    files: Vec<Content>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    /// Name changes that are not durable yet, oldest first.
    changes: Vec<NameChange>,
    folders: BTreeSet<String>,
    locked: bool,
    /// Mutating steps so far.
    steps: u64,
    /// The step in the middle of which the world ends.
    stop_after: Option<u64>,
    stopped: bool,
    /// What the step that was cut off tears with.
    tear: u64,
    faults: Vec<Fault>,
    /// Bytes that all files together may have.
    capacity: Option<u64>,
    /// Every moment since a test wanted them.
    moments: Option<Box<Moments>>,
}

#[derive(Clone)]
struct NameChange {
    folder: String,
    name: String,
    /// The file that has the name now; `None`: nobody.
    file: Option<usize>,
    /// The name that it had before, gone in the same moment.
    from: Option<String>,
}

#[derive(Clone, Default)]
struct Content {
    /// What reads see.
    bytes: Pages,
    durable: Pages,
    /// Since the last sync, oldest first; each write in one sector.
    pending: Vec<Pending>,
}

#[derive(Clone)]
enum Pending {
    Write { at: usize, bytes: Vec<u8> },
    Len(usize),
}

/// What fails, from now on.
#[derive(Clone, Debug)]
struct Fault {
    /// Files whose name has this in it.
    part: String,
    on: On,
    kind: ErrorKind,
    /// How many times it still happens.
    times: u64,
}

/// Which calls fail.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum On {
    /// Reading.
    Read,
    /// Writing.
    Write,
    /// Syncing.
    Sync,
    /// Making a file.
    Create,
}

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("simulated disk")
    }
}

impl Default for SimDisk {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDisk {
    /// An empty disk.
    pub fn new() -> Self {
        Self { world: Arc::default() }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn of(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)) }
    }

    /// The disk for the engine.
    pub fn shared(&self) -> Arc<dyn Disk> {
        Arc::new(self.clone())
    }

    /// A disk with the same content, that goes its own way from here on.
    #[must_use]
    pub fn copy(&self) -> Self {
        Self::of(self.world().clone())
    }

    // ---- ending

    /// How many steps that change something were taken.
    pub fn steps(&self) -> u64 {
        self.world().steps
    }

    /// The world ends in the middle of the `n`-th step from the beginning; `tear` decides how much of it is done.
    pub fn stop_after(&self, n: u64, tear: u64) {
        let mut world = self.world();
        (world.stop_after, world.tear) = (Some(n), tear);
    }

    /// Whether it ended.
    pub fn is_stopped(&self) -> bool {
        self.world().stopped
    }

    /// The process was killed: another one finds all that was written, synced or not, and no lock.
    #[must_use]
    pub fn killed(&self) -> Self {
        let mut world = self.world().clone();
        world.restart();
        Self::of(world)
    }

    /// The power was cut: what was not durable is there in part, or not.
    #[must_use]
    pub fn power_cut(&self, rng: &mut Rng) -> Self {
        let mut world = self.world().clone();
        let keep = if world.changes.is_empty() { 0 } else { rng.index(world.changes.len() + 1) };
        let mut names = world.durable_names.clone();
        for change in &world.changes[..keep] {
            change.apply(&mut names);
        }
        (world.names, world.durable_names) = (names.clone(), names);
        world.changes.clear();
        for file in &mut world.files {
            file.cut(rng);
        }
        world.restart();
        Self::of(world)
    }

    // ---- what a cruel world does

    /// The next `times` calls of this sort on files whose name contains `part` fail.
    pub fn fail(&self, part: &str, on: On, kind: ErrorKind, times: u64) {
        self.world().faults.push(Fault { part: part.to_string(), on, kind, times });
    }

    /// All files together may have so many bytes.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.world().capacity = bytes;
    }

    /// Changes bits of one byte of a file, durably and unseen.
    pub fn flip(&self, name: &str, at: usize, bits: u8) {
        self.with_content(name, |bytes| {
            let mut byte = [0];
            bytes.read(at, &mut byte);
            bytes.write(at, &[byte[0] ^ bits]);
        });
    }

    /// Cuts a file short, durably.
    pub fn truncate(&self, name: &str, len: usize) {
        self.with_content(name, |bytes| bytes.set_len(len));
    }

    /// Overwrites a file's content, durably.
    pub fn put(&self, name: &str, content: &[u8]) {
        self.with_content(name, |bytes| {
            bytes.set_len(0);
            bytes.write(0, content);
        });
    }

    fn with_content(&self, name: &str, change: impl Fn(&mut Pages)) {
        let mut world = self.world();
        let Some(file) = world.names.get(name).copied() else { return };
        let content = &mut world.files[file];
        change(&mut content.bytes);
        content.durable = content.bytes.clone();
        content.pending.clear();
    }

    /// Removes a file, durably.
    pub fn lose(&self, name: &str) {
        let mut world = self.world();
        world.names.remove(name);
        world.durable_names.remove(name);
    }

    /// A file's content.
    pub fn content(&self, name: &str) -> Vec<u8> {
        let world = self.world();
        world.names.get(name).map_or_else(Vec::new, |file| world.files[*file].bytes.to_vec())
    }

    /// All files, by name.
    pub fn names(&self) -> Vec<String> {
        self.world().names.keys().cloned().collect()
    }
}

impl NameChange {
    fn apply(&self, names: &mut BTreeMap<String, usize>) {
        match self.file {
            Some(file) => names.insert(self.name.clone(), file),
            None => names.remove(&self.name),
        };
        if let Some(from) = &self.from {
            names.remove(from);
        }
    }
}

impl Content {
    /// Writes; on a `durable` file these bytes, and no others, are durable then.
    fn write(&mut self, at: usize, bytes: &[u8], durable: bool) {
        self.bytes.write(at, bytes);
        if durable {
            self.durable.write(at, bytes);
            // What waited in a cache for these sectors is older.
            self.pending.retain(|pending| match pending {
                Pending::Write { at: of, .. } => *of < at || *of >= at + bytes.len(),
                Pending::Len(_) => true,
            });
            return;
        }
        let mut start = 0;
        while start < bytes.len() {
            let end = ((at + start) / SECTOR * SECTOR + SECTOR - at).min(bytes.len());
            self.pending.push(Pending::Write { at: at + start, bytes: bytes[start..end].to_vec() });
            start = end;
        }
    }

    fn set_len(&mut self, len: usize) {
        self.bytes.set_len(len);
        self.pending.push(Pending::Len(len));
    }

    fn sync(&mut self) {
        self.durable.clone_from(&self.bytes);
        self.pending.clear();
    }

    /// Keeps any subset of the sectors that were not synced.
    fn cut(&mut self, rng: &mut Rng) {
        // Often all or nothing survives; both are worth many of the cases.
        let mood = rng.below(4);
        let keeps = |rng: &mut Rng| match mood {
            0 => false,
            1 => true,
            _ => rng.one_in(2),
        };
        for pending in std::mem::take(&mut self.pending) {
            if keeps(rng) {
                match pending {
                    Pending::Len(len) => self.durable.set_len(len),
                    Pending::Write { at, bytes } => self.durable.write(at, &bytes),
                }
            }
        }
        self.bytes.clone_from(&self.durable);
    }
}

impl World {
    fn restart(&mut self) {
        (self.locked, self.stopped, self.stop_after) = (false, false, None);
        self.faults.clear();
    }

    /// A step that changes something. `Ok(true)`: the world ends in the middle of it.
    fn step(&mut self) -> io::Result<bool> {
        self.alive()?;
        self.steps += 1;
        let last = self.stop_after.is_some_and(|n| self.steps >= n);
        self.stopped |= last;
        Ok(last)
    }

    fn alive(&self) -> io::Result<()> {
        if self.stopped { Err(stopped()) } else { Ok(()) }
    }

    fn fault(&mut self, name: &str, on: On) -> io::Result<()> {
        let hit = self.faults.iter_mut().find(|f| f.times > 0 && f.on == on && name.contains(&f.part));
        match hit {
            Some(fault) => {
                fault.times -= 1;
                Err(fault.kind.into())
            }
            None => Ok(()),
        }
    }

    fn used(&self) -> u64 {
        self.names.values().map(|file| self.files[*file].bytes.len() as u64).sum()
    }

    fn room_for(&self, more: u64) -> io::Result<()> {
        match self.capacity {
            Some(capacity) if more > 0 && self.used() + more > capacity => Err(ErrorKind::StorageFull.into()),
            Some(_) | None => Ok(()),
        }
    }

    fn change_name(&mut self, name: &str, file: Option<usize>, from: Option<&str>) {
        let folder = folder_of(name).to_string();
        let change = NameChange { folder, name: name.to_string(), file, from: from.map(str::to_string) };
        change.apply(&mut self.names);
        self.changes.push(change);
    }
}

fn stopped() -> io::Error {
    io::Error::other("the simulated world has ended")
}

fn folder_of(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(folder, _)| folder)
}

struct Lock(Arc<Mutex<World>>);

impl Drop for Lock {
    fn drop(&mut self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).locked = false;
    }
}

impl Disk for SimDisk {
    fn describe(&self) -> String {
        "sim".into()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let mut world = self.world();
        if std::mem::replace(&mut world.locked, true) {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(Lock(self.world.clone())))
    }

    fn wait_for_writers(&self, name: &str) -> io::Result<()> {
        // What a killed process had under way has happened by then, or never will: it is a step like any other.
        let world = self.world();
        if world.names.contains_key(name) { Ok(()) } else { Err(ErrorKind::NotFound.into()) }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let world = self.world();
        if !folder.is_empty() && !world.folders.contains(folder) {
            return Err(ErrorKind::NotFound.into());
        }
        let inside = world.names.keys().filter(|name| folder_of(name) == folder);
        Ok(inside.map(|name| name[folder.len()..].trim_start_matches('/').to_string()).collect())
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world();
        world.alive()?;
        world.folders.insert(folder.to_string());
        Ok(())
    }

    fn create(&self, name: &str, bytes: u64, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut world = self.world();
        let stops = world.step()?;
        world.fault(name, On::Create)?;
        let folder = folder_of(name);
        if !folder.is_empty() && !world.folders.contains(folder) {
            return Err(ErrorKind::NotFound.into());
        }
        world.room_for(bytes)?;
        let file = world.files.len();
        world.files.push(Content::default());
        world.change_name(name, Some(file), None);
        if stops {
            return Err(stopped());
        }
        world.moment(file, &[]);
        world.files[file].set_len(usize::try_from(bytes).unwrap_or(usize::MAX));
        world.moment(file, &[]);
        Ok(Arc::new(SimFile { world: self.world.clone(), name: name.to_string(), file, access }))
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let world = self.world();
        world.alive()?;
        let file = *world.names.get(name).ok_or(ErrorKind::NotFound)?;
        Ok(Arc::new(SimFile { world: self.world.clone(), name: name.to_string(), file, access }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut world = self.world();
        let stops = world.step()?;
        let file = *world.names.get(from).ok_or(ErrorKind::NotFound)?;
        if stops && world.tear.is_multiple_of(2) {
            return Err(stopped());
        }
        // One change of the directory, as a journaling file system makes it: both names or neither.
        world.change_name(to, Some(file), Some(from));
        world.moment(file, &[]);
        if stops { Err(stopped()) } else { Ok(()) }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut world = self.world();
        let stops = world.step()?;
        if !world.names.contains_key(name) {
            return Err(ErrorKind::NotFound.into());
        }
        world.change_name(name, None, None);
        world.moment(0, &[]);
        if stops { Err(stopped()) } else { Ok(()) }
    }

    fn aside(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        work();
        Ok(())
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        let mut world = self.world();
        let stops = world.step()?;
        if stops {
            return Err(stopped());
        }
        world.fault(folder, On::Sync)?;
        let (synced, rest) =
            std::mem::take(&mut world.changes).into_iter().partition(|c: &NameChange| c.folder == folder);
        world.changes = rest;
        let synced: Vec<NameChange> = synced;
        let mut names = std::mem::take(&mut world.durable_names);
        for change in synced {
            change.apply(&mut names);
        }
        world.durable_names = names;
        world.moment(0, &[]);
        Ok(())
    }
}

struct SimFile {
    world: Arc<Mutex<World>>,
    name: String,
    file: usize,
    access: Access,
}

impl fmt::Debug for SimFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl SimFile {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What direct I/O demands of a call.
    fn check_alignment(&self, address: *const u8, offset: u64, len: usize) {
        if self.access != Access::Buffered {
            let aligned = address.align_offset(4096) == 0 && offset.is_multiple_of(4096) && len.is_multiple_of(4096);
            assert!(aligned, "direct I/O on {} must be aligned: offset {offset}, {len} bytes", self.name);
        }
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        let world = self.world();
        world.alive()?;
        Ok(world.files[self.file].bytes.len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_alignment(buffer.as_ptr(), offset, buffer.len());
        let mut world = self.world();
        world.alive()?;
        world.fault(&self.name, On::Read)?;
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        Ok(world.files[self.file].bytes.read(from, buffer))
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        for slice in slices {
            self.check_alignment(slice.as_ptr(), offset, slice.len());
        }
        let bytes = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        let one = [Under { ticket: 0, bytes, offset }];
        self.world().moment(self.file, &one);
        let [Under { bytes, .. }] = one;
        self.write(bytes, offset, &[])
    }

    fn fly<'b>(&self, _alone: bool, steps: &mut dyn FnMut(&mut dyn Flight<'b>)) {
        let mut flight = SimFlight { file: self, begun: 0, under_way: Vec::new() };
        steps(&mut flight);
        while flight.wait().is_some() {}
    }

    fn sync(&self) -> io::Result<()> {
        let mut world = self.world();
        let stops = world.step()?;
        if stops {
            return Err(stopped());
        }
        world.fault(&self.name, On::Sync)?;
        world.files[self.file].sync();
        world.moment(self.file, &[]);
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        let mut world = self.world();
        let stops = world.step()?;
        let len = usize::try_from(bytes).unwrap_or(usize::MAX);
        world.files[self.file].set_len(len);
        world.moment(self.file, &[]);
        if stops { Err(stopped()) } else { Ok(()) }
    }
}

impl SimFile {
    /// One write. When the world ends in it, any of `beside` may be there in part too.
    fn write(&self, mut bytes: Vec<u8>, offset: u64, beside: &[Under]) -> io::Result<()> {
        assert!(self.access != Access::Read, "{} is open for reading", self.name);
        let mut world = self.world();
        let stops = world.step()?;
        world.fault(&self.name, On::Write)?;
        let at = usize::try_from(offset).unwrap_or(usize::MAX);
        let growth = (at + bytes.len()).saturating_sub(world.files[self.file].bytes.len());
        world.room_for(growth as u64)?;
        if stops {
            // Part of it reaches the disk, by whole sectors from the front; a power cut takes any subset of those.
            let sectors = bytes.len().div_ceil(SECTOR) as u64 + 1;
            let kept = usize::try_from(world.tear % sectors).unwrap_or(0) * SECTOR;
            bytes.truncate(kept);
        }
        world.files[self.file].write(at, &bytes, self.access == Access::Durable && !stops);
        if !stops {
            world.moment(self.file, beside);
            return Ok(());
        }
        let mut rng = Rng::new(world.tear);
        for other in beside {
            let at = usize::try_from(other.offset).unwrap_or(usize::MAX);
            let mood = rng.below(3);
            for (n, sector) in other.bytes.chunks(SECTOR).enumerate() {
                if mood == 0 || (mood == 1 && rng.one_in(2)) {
                    world.files[self.file].write(at + n * SECTOR, sector, false);
                }
            }
        }
        Err(stopped())
    }
}

/// A write under way.
struct Under {
    ticket: usize,
    bytes: Vec<u8>,
    offset: u64,
}

struct SimFlight<'f> {
    file: &'f SimFile,
    begun: usize,
    under_way: Vec<Under>,
}

impl<'b> Flight<'b> for SimFlight<'_> {
    fn begin(&mut self, parts: Vec<Part<'b>>, offset: u64) {
        for part in &parts {
            self.file.check_alignment(part.bytes().as_ptr(), offset, part.bytes().len());
        }
        assert!(self.under_way.len() < IN_FLIGHT_MAX, "at most {IN_FLIGHT_MAX} writes are under way");
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes().iter().copied()).collect();
        let end = offset + bytes.len() as u64;
        let apart = |other: &Under| end <= other.offset || other.offset + other.bytes.len() as u64 <= offset;
        assert!(
            self.under_way.iter().all(apart),
            "which of two writes that overlap wins is chance: {}",
            self.file.name
        );
        self.under_way.push(Under { ticket: self.begun, bytes, offset });
        self.file.world().moment(self.file.file, &self.under_way);
        self.begun += 1;
    }

    fn wait(&mut self) -> Option<(usize, io::Result<()>)> {
        if self.under_way.is_empty() {
            return None;
        }
        // Any of them is the next one to be done, the same one whenever a history is played again.
        let steps = self.file.world().steps;
        let next = Rng::new(steps).index(self.under_way.len());
        let Under { ticket, bytes, offset } = self.under_way.remove(next);
        let outcome = self.file.write(bytes, offset, &self.under_way);
        Some((ticket, outcome))
    }
}
