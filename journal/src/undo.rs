//! The UNDO stream: what a replica held before something newer was brought to it (ENGINE 10).
//!
//! Owns, for every volume, a file of captured data at the addresses that it came from, and a map of which sectors are
//! captured, as what: data, zeros or a hole. A captured sector is never read from the replica again until it is dropped
//! here, so a replica may be changed there as soon as the capture is durable, and whoever is cut off in between finds the
//! capture, not the change. Owns also the gate that keeps a reader's look at the map and its read of the replica in one
//! moment. What has to be captured is decided in `journal/following`, which bytes a slot of the map has in `slot`.

mod slot;
pub(crate) mod verify;

use crate::aligned::Aligned;
use crate::device::{Access, Disk, DiskFile};
use crate::lock::{lock, read, write};
use crate::place::UNDO;
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent, SECTOR_BYTES};
use record::ids::{Incarnation, JournalId};
use slot::{REGION_SECTORS, SLOT_BYTES, Slot};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};

/// Most slots that are kept in memory, of 3 KiB each; when there are more, all are read again.
const SLOTS_MAX: usize = 4096;
/// Two copies of a slot, one of which is whole at any time.
const COPIES: u64 = 2;
/// How often a reader of another process looks again when the map changes under it.
const LOOKS_MAX: usize = 100;

/// What a captured sector was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Captured {
    Data,
    Zero,
    Hole,
}

/// What becomes of an extent.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    /// These bytes are what it was.
    Data(Vec<u8>),
    Zero,
    Hole,
    /// The replica is what it was, durably.
    Drop,
}

impl Change {
    fn captured(&self) -> Option<Captured> {
        match self {
            Self::Data(_) => Some(Captured::Data),
            Self::Zero => Some(Captured::Zero),
            Self::Hole => Some(Captured::Hole),
            Self::Drop => None,
        }
    }
}

/// Changes that become durable together with others, or before them.
pub(crate) type Changes = Vec<(Incarnation, Extent, Change)>;

/// Runs of sectors in address order that cover an extent; `None`: the replica is it.
pub(crate) type Kinds = Vec<(Extent, Option<Captured>)>;

type Region = (Incarnation, u64);

/// Blocks of volumes, by region.
type Blocks = BTreeMap<Region, BTreeSet<u64>>;

/// A volume's files.
#[derive(Clone, Debug)]
struct Files {
    data: Arc<dyn DiskFile>,
    map: Arc<dyn DiskFile>,
}

/// The captures of all volumes.
#[derive(Debug)]
pub(crate) struct Undo {
    journal: JournalId,
    disk: Arc<dyn Disk>,
    /// Whether this process is the one that captures.
    writer: bool,
    /// Held for reading from a look at the map to the end of the read that it led to; for writing when the map changes.
    gate: RwLock<()>,
    open: Mutex<BTreeMap<Incarnation, Option<Files>>>,
    slots: Mutex<BTreeMap<Region, Arc<Slot>>>,
}

impl Undo {
    pub(crate) fn new(journal: JournalId, disk: Arc<dyn Disk>, writer: bool) -> Self {
        Self { journal, disk, writer, gate: RwLock::default(), open: Mutex::default(), slots: Mutex::default() }
    }

    // ---- reading

    /// While it is held, nothing that is not captured is changed in a replica.
    pub(crate) fn hold(&self) -> RwLockReadGuard<'_, ()> {
        read(&self.gate)
    }

    /// What of an extent is captured. The caller holds the gate for as long as it relies on that.
    pub(crate) fn kinds(&self, volume: Incarnation, extent: Extent) -> io::Result<Kinds> {
        let mut out: Kinds = Vec::new();
        if self.files(volume, false)?.is_none() {
            return Ok(vec![(extent, None)]);
        }
        for part in regions(extent) {
            let slot = self.slot((volume, region_of(part)))?;
            let base = region_of(part) * REGION_SECTORS;
            for (from, to, kind) in slot.runs(part.start().index() - base, part.end() - base) {
                let (from, to) = (base + from, base + to);
                match out.last_mut() {
                    Some((last, same)) if *same == kind => {
                        *last = Extent::between(last.start().index(), to).unwrap_or(*last);
                    }
                    Some(_) | None => out.extend(Extent::between(from, to).map(|run| (run, kind))),
                }
            }
        }
        Ok(out)
    }

    /// The bytes of captured data; every sector of the extent is that. An error where they are not what was captured.
    pub(crate) fn read(&self, volume: Incarnation, extent: Extent, buffer: &mut [u8]) -> io::Result<()> {
        let files = self.files(volume, false)?.ok_or_else(|| damaged(volume, extent))?;
        for part in regions(extent) {
            let slot = self.slot((volume, region_of(part)))?;
            let at = bytes_of(part.start().index() - extent.start().index());
            let out = &mut buffer[at..at + bytes_of(part.count().get())];
            self.read_blocks(&files, &slot, volume, part, out)?;
        }
        Ok(())
    }

    fn read_blocks(
        &self,
        files: &Files,
        slot: &Slot,
        volume: Incarnation,
        part: Extent,
        out: &mut [u8],
    ) -> io::Result<()> {
        let (first, end) = (part.start().index() / BLOCK_SECTORS, part.end().div_ceil(BLOCK_SECTORS));
        let mut bytes = Aligned::zeroed(bytes_of((end - first) * BLOCK_SECTORS));
        // Behind the end of the file nothing was captured: then it does not check.
        let _ = files.data.read_at(&mut bytes, first * BLOCK_SECTORS * SECTOR_BYTES)?;
        for (block, content) in (first..end).zip(bytes.chunks_exact_mut(BLOCK_BYTES)) {
            if !slot.is_sound(self.journal, volume, block, content) {
                return Err(damaged(volume, part));
            }
        }
        let skipped = bytes_of(part.start().index() - first * BLOCK_SECTORS);
        out.copy_from_slice(&bytes[skipped..skipped + out.len()]);
        Ok(())
    }

    /// What of an extent is captured, for whoever changes replicas: nobody else does.
    pub(crate) fn kinds_now(&self, volume: Incarnation, extent: Extent) -> io::Result<Kinds> {
        let _gate = self.hold();
        self.kinds(volume, extent)
    }

    /// Asks until the map was the same before and behind `look`: for whoever reads while another process captures.
    pub(crate) fn steadily<T>(
        &self,
        volume: Incarnation,
        extent: Extent,
        mut look: impl FnMut(&Kinds) -> io::Result<T>,
    ) -> io::Result<T> {
        let _gate = self.hold();
        for _ in 0..LOOKS_MAX {
            let kinds = self.kinds(volume, extent)?;
            let looked = look(&kinds);
            if self.writer || self.kinds(volume, extent)? == kinds {
                return looked;
            }
        }
        Err(io::Error::new(ErrorKind::WouldBlock, "the replica is being changed; read it again"))
    }

    // ---- changing

    /// Makes all of it durable. A replica may be changed where something was captured when this returns; where it fails
    /// nothing that was captured before is lost. One at a time.
    pub(crate) fn commit(&self, changes: &[(Incarnation, Extent, Change)]) -> io::Result<()> {
        let mut slots: BTreeMap<Region, Slot> = BTreeMap::new();
        for (volume, extent, change) in changes {
            if self.files(*volume, *change != Change::Drop)?.is_none() {
                continue;
            }
            for part in regions(*extent) {
                let region = (*volume, region_of(part));
                if let Entry::Vacant(vacant) = slots.entry(region) {
                    vacant.insert(Slot::clone(&*self.slot(region)?));
                }
            }
        }
        self.prepare(changes, &mut slots)?;
        let touched = self.write_data(changes, &slots)?;
        self.lay(changes, &touched, &mut slots)?;
        self.write_slots(&mut slots)?;
        self.give_back(changes, &slots)
    }

    /// Slots that never were get their marks, so that one that is torn is told from one that rotted; and what is about to be
    /// written over is not looked at from here on: its neighbours in the same block must still check if we are cut off.
    fn prepare(&self, changes: &[(Incarnation, Extent, Change)], slots: &mut BTreeMap<Region, Slot>) -> io::Result<()> {
        let mut first: BTreeMap<Region, Slot> = BTreeMap::new();
        for (region, slot) in slots.iter_mut().filter(|(_, slot)| slot.is_new()) {
            slot.next();
            first.insert(*region, slot.clone());
        }
        if !first.is_empty() {
            self.write_slots_as_they_are(&first)?;
            self.sync(first.keys(), |files| &files.map)?;
            self.write_slots_as_they_are(&first.into_iter().map(|(region, slot)| (region, slot.other())).collect())?;
        }
        let mut runs: Vec<(Region, u64, u64)> = Vec::new();
        let mut over = Blocks::new();
        for (volume, extent, _) in changes.iter().filter(|(_, _, change)| matches!(change, Change::Data(_))) {
            for part in regions(*extent) {
                let region = (*volume, region_of(part));
                let Some(slot) = slots.get(&region) else { continue };
                let base = region.1 * REGION_SECTORS;
                for (from, to, kind) in slot.runs(part.start().index() - base, part.end() - base) {
                    if kind == Some(Captured::Data) {
                        over.entry(region).or_default().extend(blocks(base + from, base + to));
                        runs.push((region, from, to));
                    }
                }
            }
        }
        if over.is_empty() {
            return Ok(());
        }
        self.checked(&over, slots)?;
        for (region, from, to) in runs {
            if let Some(slot) = slots.get_mut(&region) {
                slot.set(from, to, Some(Captured::Zero));
            }
        }
        self.seal(&over, slots)?;
        let mut only: BTreeMap<Region, Slot> = over.keys().filter_map(|r| Some((*r, slots.get(r)?.clone()))).collect();
        self.write_slots(&mut only)?;
        slots.extend(only);
        Ok(())
    }

    /// Writes what was captured, and answers with the blocks that it lies in.
    fn write_data(
        &self,
        changes: &[(Incarnation, Extent, Change)],
        slots: &BTreeMap<Region, Slot>,
    ) -> io::Result<Blocks> {
        let mut touched = Blocks::new();
        for (volume, extent, _) in changes {
            for part in regions(*extent) {
                let region = (*volume, region_of(part));
                touched.entry(region).or_default().extend(blocks(part.start().index(), part.end()));
            }
        }
        // What is there must be sound before it gets a new checksum together with what comes.
        self.checked(&touched, slots)?;
        let mut written: BTreeSet<Incarnation> = BTreeSet::new();
        for (volume, extent, change) in changes {
            if let Change::Data(bytes) = change {
                let files = self.opened(*volume)?;
                files.data.write_at(&[IoSlice::new(bytes)], extent.start().byte_offset())?;
                written.insert(*volume);
            }
        }
        for volume in written {
            self.opened(volume)?.data.sync()?;
        }
        Ok(touched)
    }

    /// An error where something that was captured in these blocks is damaged.
    fn checked(&self, all: &Blocks, slots: &BTreeMap<Region, Slot>) -> io::Result<()> {
        for (region, blocks) in all {
            let Some(slot) = slots.get(region) else { continue };
            for block in blocks.iter().filter(|block| slot.has_data(**block)) {
                let mut content = self.block(region.0, *block)?;
                if !slot.is_sound(self.journal, region.0, *block, &mut content) {
                    let extent = Extent::new(block * BLOCK_SECTORS, BLOCK_SECTORS);
                    return Err(
                        extent.map_or_else(|| ErrorKind::InvalidData.into(), |extent| damaged(region.0, extent))
                    );
                }
            }
        }
        Ok(())
    }

    fn block(&self, volume: Incarnation, block: u64) -> io::Result<Aligned> {
        let mut content = Aligned::zeroed(BLOCK_BYTES);
        let _ = self.opened(volume)?.data.read_at(&mut content, block * BLOCK_BYTES as u64)?;
        Ok(content)
    }

    /// Puts what changes into the slots.
    fn lay(
        &self,
        changes: &[(Incarnation, Extent, Change)],
        touched: &Blocks,
        slots: &mut BTreeMap<Region, Slot>,
    ) -> io::Result<()> {
        for (volume, extent, change) in changes {
            for part in regions(*extent) {
                let base = region_of(part) * REGION_SECTORS;
                if let Some(slot) = slots.get_mut(&(*volume, region_of(part))) {
                    slot.set(part.start().index() - base, part.end() - base, change.captured());
                }
            }
        }
        self.seal(touched, slots)
    }

    /// The checksums of these blocks are what their content says now.
    fn seal(&self, touched: &Blocks, slots: &mut BTreeMap<Region, Slot>) -> io::Result<()> {
        for (region, all) in touched {
            let Some(slot) = slots.get_mut(region) else { continue };
            for block in all {
                let crc = if slot.has_data(*block) {
                    let mut content = self.block(region.0, *block)?;
                    slot.mask(*block, &mut content);
                    slot::block_crc(self.journal, region.0, *block, &content)
                } else {
                    0
                };
                slot.set_crc(*block, crc);
            }
        }
        Ok(())
    }

    /// Makes slots durable, and then true.
    fn write_slots(&self, slots: &mut BTreeMap<Region, Slot>) -> io::Result<()> {
        for slot in slots.values_mut() {
            slot.next();
        }
        self.write_slots_as_they_are(slots)?;
        self.sync(slots.keys(), |files| &files.map)?;
        {
            // Whoever reads by the old ones ends first.
            let _gate = write(&self.gate);
            let mut known = lock(&self.slots);
            if known.len() + slots.len() > SLOTS_MAX {
                known.clear();
            }
            known.extend(slots.iter().map(|(region, slot)| (*region, Arc::new(slot.clone()))));
        }
        // The other copy follows in its own time: if this one rots, it is not an older one that serves.
        self.write_slots_as_they_are(&slots.iter().map(|(region, slot)| (*region, slot.other())).collect())
    }

    fn write_slots_as_they_are(&self, slots: &BTreeMap<Region, Slot>) -> io::Result<()> {
        for (region, slot) in slots {
            let bytes = slot.encode(self.journal, region.0, region.1);
            self.opened(region.0)?.map.write_at(&[IoSlice::new(&bytes)], slot_at(region.1, slot.copy()))?;
        }
        Ok(())
    }

    fn sync<'r>(
        &self,
        regions: impl Iterator<Item = &'r Region>,
        which: fn(&Files) -> &Arc<dyn DiskFile>,
    ) -> io::Result<()> {
        let volumes: BTreeSet<Incarnation> = regions.map(|region| region.0).collect();
        volumes.into_iter().try_for_each(|volume| which(&self.opened(volume)?).sync())
    }

    /// Blocks that hold no captured data any more take no room.
    fn give_back(&self, changes: &[(Incarnation, Extent, Change)], slots: &BTreeMap<Region, Slot>) -> io::Result<()> {
        for (volume, extent, change) in changes {
            if matches!(change, Change::Data(_)) {
                continue;
            }
            let files = self.opened(*volume)?;
            let len = files.data.len()?;
            for part in regions(*extent) {
                let Some(slot) = slots.get(&(*volume, region_of(part))) else { continue };
                let empty = |block: &u64| !slot.has_data(*block) && *block * (BLOCK_BYTES as u64) < len;
                let all: Vec<u64> = blocks(part.start().index(), part.end()).filter(empty).collect();
                for run in all.chunk_by(|a, b| a + 1 == *b) {
                    let from = run[0] * BLOCK_BYTES as u64;
                    files.data.punch(from..(from + run.len() as u64 * BLOCK_BYTES as u64).min(len))?;
                }
            }
        }
        Ok(())
    }

    // ---- files

    /// The volumes of which something may be captured.
    pub(crate) fn volumes(&self) -> io::Result<Vec<Incarnation>> {
        volumes(self.disk.as_ref())
    }

    /// Bytes that the captures take.
    pub(crate) fn bytes(&self) -> u64 {
        let open = lock(&self.open);
        let taken = |file: &Arc<dyn DiskFile>| file.allocated().unwrap_or(0);
        open.values().flatten().map(|files| taken(&files.data) + taken(&files.map)).sum()
    }

    /// Opens what there is. What a killed process wrote is seen, but may not be durable: from here on it is, since a
    /// replica is changed where something is captured.
    pub(crate) fn find(&self) -> io::Result<()> {
        for volume in self.volumes()? {
            if let Some(files) = self.files(volume, false)? {
                files.data.sync()?;
                files.map.sync()?;
            }
            self.disk.sync_folder(UNDO)?;
            self.disk.sync_folder("")?;
        }
        Ok(())
    }

    /// Nothing of this volume is captured any more: its replica is what it was, or nobody asks.
    pub(crate) fn remove(&self, volume: Incarnation) -> io::Result<()> {
        let _gate = write(&self.gate);
        lock(&self.open).remove(&volume);
        lock(&self.slots).retain(|(of, _), _| *of != volume);
        // The map goes first: without it nothing is captured.
        for name in [map_name(volume), data_name(volume)] {
            match self.disk.remove(&name) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            self.disk.sync_folder(UNDO)?;
        }
        Ok(())
    }

    fn opened(&self, volume: Incarnation) -> io::Result<Files> {
        self.files(volume, false)?.ok_or_else(|| io::Error::new(ErrorKind::NotFound, "the captures were removed"))
    }

    /// A volume's files; made if `make`.
    fn files(&self, volume: Incarnation, make: bool) -> io::Result<Option<Files>> {
        let mut open = lock(&self.open);
        match open.get(&volume) {
            // Another process may have removed them and made others.
            _ if !self.writer => {}
            Some(Some(files)) => return Ok(Some(files.clone())),
            Some(None) if !make => return Ok(None),
            Some(None) | None => {}
        }
        let access = if self.writer { Access::Buffered } else { Access::Read };
        let disk = self.disk.as_ref();
        let (map, data) = (found(disk, &map_name(volume), access)?, found(disk, &data_name(volume), access)?);
        let files = match (map, data) {
            (Some(map), Some(data)) => Some(Files { data, map }),
            (map, data) if make => {
                self.disk.make_folder(UNDO)?;
                let make = |name: &str| self.disk.create(name, 0, Access::Buffered);
                // The map, which says that there is something, comes last.
                let data = data.map_or_else(|| make(&data_name(volume)), Ok)?;
                let map = map.map_or_else(|| make(&map_name(volume)), Ok)?;
                data.sync()?;
                map.sync()?;
                self.disk.sync_folder(UNDO)?;
                self.disk.sync_folder("")?;
                Some(Files { data, map })
            }
            (Some(_), None) => {
                return Err(io::Error::new(
                    ErrorKind::InvalidData,
                    format!(
                        "{} is lost: what the replica of volume {volume} held before is not known",
                        data_name(volume)
                    ),
                ));
            }
            (None, _) => None,
        };
        open.insert(volume, files.clone());
        Ok(files)
    }

    fn slot(&self, region: Region) -> io::Result<Arc<Slot>> {
        if self.writer
            && let Some(slot) = lock(&self.slots).get(&region)
        {
            return Ok(slot.clone());
        }
        let files = self.opened(region.0)?;
        let mut bytes = Aligned::zeroed(SLOT_BYTES * 2);
        let _ = files.map.read_at(&mut bytes, slot_at(region.1, 0))?;
        let slot = slot::newer(&bytes, self.journal, region.0, region.1).ok_or_else(|| {
            let all = Extent::new(region.1 * REGION_SECTORS, REGION_SECTORS);
            all.map_or_else(|| ErrorKind::InvalidData.into(), |all| damaged(region.0, all))
        })?;
        let slot = Arc::new(slot);
        if self.writer {
            let mut known = lock(&self.slots);
            if known.len() >= SLOTS_MAX {
                known.clear();
            }
            known.entry(region).or_insert_with(|| slot.clone());
        }
        Ok(slot)
    }
}

/// The volumes that have a map.
fn volumes(disk: &dyn Disk) -> io::Result<Vec<Incarnation>> {
    let names = match disk.list(UNDO) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let number = |name: &String| name.strip_suffix(".map")?.parse().ok().map(Incarnation::new);
    Ok(names.iter().filter_map(number).collect())
}

/// A file, if it is there.
fn found(disk: &dyn Disk, name: &str, access: Access) -> io::Result<Option<Arc<dyn DiskFile>>> {
    match disk.open(name, access) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn damaged(volume: Incarnation, extent: Extent) -> io::Error {
    let why = format!("what was captured of {extent} of volume {volume} is damaged in the journal's folder {UNDO}");
    io::Error::new(ErrorKind::InvalidData, why)
}

fn map_name(volume: Incarnation) -> String {
    format!("{UNDO}/{}.map", volume.get())
}

fn data_name(volume: Incarnation) -> String {
    format!("{UNDO}/{}.data", volume.get())
}

fn slot_at(region: u64, copy: u64) -> u64 {
    (region * COPIES + copy) * SLOT_BYTES as u64
}

fn region_of(part: Extent) -> u64 {
    part.start().index() / REGION_SECTORS
}

/// An extent, cut where regions meet.
fn regions(extent: Extent) -> impl Iterator<Item = Extent> {
    let (first, end) = (extent.start().index() / REGION_SECTORS, extent.end().div_ceil(REGION_SECTORS));
    let part = move |region: u64| Extent::new(region * REGION_SECTORS, REGION_SECTORS)?.intersection(extent);
    (first..end).filter_map(part)
}

/// The blocks that sectors lie in.
fn blocks(from: u64, to: u64) -> std::ops::Range<u64> {
    from / BLOCK_SECTORS..to.div_ceil(BLOCK_SECTORS)
}

/// Sectors inside one read as bytes, which fit memory.
fn bytes_of(sectors: u64) -> usize {
    usize::try_from(sectors * SECTOR_BYTES).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
