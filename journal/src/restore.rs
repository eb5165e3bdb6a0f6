//! What a committed rollback still owes the volumes' backing: the restore map.
//!
//! ```text
//! 0 magic u32  4 version u16  8 journal 16  24 id u64  32 target u64  40 count u64
//! 48 count x { incarnation u32, 0 u32, start u64, sectors u64 }     then crc32c, salted, over all before it
//! ```
//!
//! Owns its file. Written, whole and durable, before the ROLLBACK record that commits it; a map whose rollback the
//! journal lacks is discarded, and the one before it counts again (ENGINE 18). A smaller map replaces it as the
//! restore goes on; none means that nothing is owed.

use crate::device::Disk;
use crate::mark::{u32_at, u64_at};
use crate::open::by_volume;
use crate::place::RESTORE;
use crate::superblock::VERSION;
use crate::whole;
use record::checksum::Salt;
use record::geometry::Extent;
use record::ids::{Incarnation, JournalId};
use record::position::Position;
use std::io::{self, ErrorKind};

const MAGIC: u32 = u32::from_le_bytes(*b"UDRM");
const ENTRIES_AT: usize = 48;
const ENTRY_BYTES: usize = 24;
const SUFFIX: &str = ".map";

/// Extents whose content in the backing is not the live content yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestoreMap {
    /// The rollback.
    pub id: u64,
    /// Its target.
    pub target: Position,
    /// What is owed, by volume, in address order, never overlapping.
    pub extents: Vec<(Incarnation, Extent)>,
}

impl RestoreMap {
    /// What is left once these extents are done.
    pub(crate) fn without(&self, done: &[(Incarnation, Extent)]) -> Self {
        let mut extents = Vec::with_capacity(self.extents.len());
        for group in self.extents.chunk_by(|a, b| a.0 == b.0) {
            let volume = group[0].0;
            let owed: Vec<Extent> = group.iter().map(|(_, e)| *e).collect();
            let gone: Vec<Extent> = done.iter().filter(|(v, _)| *v == volume).map(|(_, e)| *e).collect();
            extents.extend(crate::index::subtract(&owed, &gone).into_iter().map(|e| (volume, e)));
        }
        Self { extents, ..*self }
    }

    fn encode(&self, journal: JournalId) -> Vec<u8> {
        let mut out = vec![0u8; ENTRIES_AT];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&journal.to_bytes());
        out[24..32].copy_from_slice(&self.id.to_le_bytes());
        out[32..40].copy_from_slice(&self.target.get().to_le_bytes());
        out[40..48].copy_from_slice(&(self.extents.len() as u64).to_le_bytes());
        for (volume, extent) in &self.extents {
            out.extend_from_slice(&volume.get().to_le_bytes());
            out.extend_from_slice(&[0; 4]);
            out.extend_from_slice(&extent.start().index().to_le_bytes());
            out.extend_from_slice(&extent.count().get().to_le_bytes());
        }
        let crc = Salt::of(journal).header(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8], journal: JournalId) -> Option<Self> {
        let (body, crc) = bytes.split_last_chunk::<4>()?;
        if body.len() < ENTRIES_AT
            || u32_at(body, 0) != MAGIC
            || body[4..6] != VERSION.to_le_bytes()
            || body[8..24] != journal.to_bytes()
            || Salt::of(journal).header(body) != u32::from_le_bytes(*crc)
        {
            return None;
        }
        let entries = &body[ENTRIES_AT..];
        if entries.len() as u64 != u64_at(body, 40).checked_mul(ENTRY_BYTES as u64)? {
            return None;
        }
        let entry = |e: &[u8]| Some((Incarnation::new(u32_at(e, 0)), Extent::new(u64_at(e, 8), u64_at(e, 16))?));
        Some(Self {
            id: u64_at(body, 24),
            target: Position::new(u64_at(body, 32)),
            extents: entries.chunks_exact(ENTRY_BYTES).map(entry).collect::<Option<_>>()?,
        })
    }
}

/// The name of a rollback's map in the journal's directory.
pub(crate) fn file_of(id: u64) -> String {
    format!("{RESTORE}/{id:016x}{SUFFIX}")
}

fn id_of(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 16).then(|| u64::from_str_radix(digits, 16).ok())?
}

/// Stores a map, replacing the one of the same id; durable when it returns.
pub(crate) fn store(disk: &dyn Disk, journal: JournalId, map: &RestoreMap) -> io::Result<()> {
    disk.make_folder(RESTORE)?;
    write(disk, journal, &file_of(map.id), map)?;
    disk.sync_folder(RESTORE)
}

/// Writes a map to a file, replacing what has its name: durable, but for the name, when it returns.
pub(crate) fn write(disk: &dyn Disk, journal: JournalId, name: &str, map: &RestoreMap) -> io::Result<()> {
    whole::write(disk, name, &map.encode(journal))
}

/// Reads a map from a file.
pub(crate) fn read(disk: &dyn Disk, journal: JournalId, name: &str) -> io::Result<RestoreMap> {
    let bytes = whole::read(disk, name)?;
    RestoreMap::decode(&bytes, journal).ok_or_else(|| io::Error::new(ErrorKind::InvalidData, "it is damaged"))
}

/// Removes a map, durably; fine when there is none.
pub(crate) fn remove(disk: &dyn Disk, id: u64) -> io::Result<()> {
    match disk.remove(&file_of(id)) {
        Ok(()) => disk.sync_folder(RESTORE),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// A map that was found: by id, and what it says, if it can be read.
pub(crate) type FoundMap = (u64, Option<RestoreMap>);

/// All maps there are, by id.
pub(crate) fn load_all(disk: &dyn Disk, journal: JournalId) -> io::Result<Vec<FoundMap>> {
    let names = match disk.list(RESTORE) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error),
    };
    let mut maps = Vec::new();
    for id in names.iter().filter_map(|name| id_of(name)) {
        let bytes = whole::read(disk, &file_of(id))?;
        let map = RestoreMap::decode(&bytes, journal).filter(|map| map.id == id);
        maps.push((id, map));
    }
    maps.sort_by_key(|(id, _)| *id);
    Ok(maps)
}

/// A map of these extents, put in order.
pub(crate) fn map_of(id: u64, target: Position, extents: Vec<(Incarnation, Extent)>) -> RestoreMap {
    RestoreMap { id, target, extents: by_volume(extents) }
}
