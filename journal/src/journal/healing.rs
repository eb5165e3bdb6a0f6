//! Putting data back that the journal's disk has lost, where somebody still has it.
//!
//! Owns the proof: content is taken only where it has the very checksum that the record's description has of the block that is
//! damaged, so it does not matter who offers it, nor whether it was read in a quiet moment. A block that is written again is what it
//! was; torn meanwhile, it is as damaged as before. Whom to ask is the caller's.

use super::Journal;
use crate::chunks::Kept;
use crate::device::Access;
use crate::error::JournalError;
use crate::lock::{lock, read, write};
use crate::open;
use crate::recovery::{Damage, DamageKind};
use crate::scan::{self, RecordDamage};
use record::checksum::Salt;
use record::chunk::{Body, block_crc};
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use std::io::{self, IoSlice};
use std::sync::Arc;

/// What was put back.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Healed {
    /// Bytes.
    pub bytes: u64,
    /// Damage that is none any more.
    pub places: Vec<Damage>,
}

/// A damaged chunk as it is now.
struct Patient {
    damage: Damage,
    chunk: Kept,
    body: Arc<Body>,
    records: Vec<RecordDamage>,
}

impl Journal {
    /// Sectors of volumes whose data is known to be damaged, as far as it can be put back; in no order.
    pub fn ailing(&self) -> Vec<(Incarnation, Extent)> {
        let mut out = Vec::new();
        for patient in self.patients(|_| true) {
            for ill in &patient.records {
                let record = &patient.body.records[ill.record];
                let extents = open::damaged_extents(record, &ill.ranges);
                out.extend(extents);
            }
        }
        out
    }

    /// Puts data back that an extent of a volume had, wherever this content is it.
    pub fn heal(&self, volume: Incarnation, extent: Extent, content: &[u8]) -> Result<Healed, JournalError> {
        // No segment is replaced, or leaves the journal, meanwhile.
        let _compaction = lock(&self.compaction);
        let _moving = lock(&self.moving);
        let core = &self.reader.core;
        let mut healed = Healed::default();
        // All others would be read again for nothing.
        let concerned = |damage: &Damage| damage.extents.iter().any(|(of, bad)| *of == volume && bad.overlaps(extent));
        for patient in self.patients(concerned) {
            let bytes =
                patient.heal(self, volume, extent, content).map_err(|source| core.io("put data back", source))?;
            healed.bytes += bytes;
            if bytes > 0 && self.look_again(&patient) {
                healed.places.push(patient.damage);
            }
        }
        // Others that were known of the same chunks are cured with them.
        let sound = self.patients(concerned).into_iter().filter(|patient| patient.records.is_empty());
        healed.places.extend(sound.filter(|patient| self.look_again(patient)).map(|patient| patient.damage));
        Ok(healed)
    }

    /// The same with what the replicas hold now.
    pub fn heal_from_replicas(&self) -> Result<Healed, JournalError> {
        let mut healed = Healed::default();
        for (volume, extent) in self.ailing() {
            let Some(base) = self.reader.core.base(volume) else { continue };
            let mut content = vec![0; usize::try_from(extent.bytes()).unwrap_or(0)];
            // Whoever cannot be read has nothing to offer.
            if base.read(extent, &mut content).is_ok() {
                let more = self.heal(volume, extent, &content)?;
                healed.bytes += more.bytes;
                healed.places.extend(more.places);
            }
        }
        Ok(healed)
    }

    /// Of what is known to be damaged these, read again.
    fn patients(&self, which: impl Fn(&Damage) -> bool) -> Vec<Patient> {
        let core = &self.reader.core;
        let known: Vec<(Damage, Kept)> = {
            let state = read(&core.state);
            let chunk = |damage: &Damage| state.chunks().holding(damage.positions?.0).map(|(chunk, _)| chunk);
            let ill = state.damage().0.iter().filter(|damage| damage.kind == DamageKind::Payload && which(damage));
            ill.filter_map(|damage| Some((damage.clone(), chunk(damage)?))).collect()
        };
        let examine = |(damage, chunk): (Damage, Kept)| {
            let file = core.files.segment(chunk.place.segment).ok()?;
            let body = core.bodies.read(&core.files, &chunk).ok()?;
            let whole = |record: usize| {
                let all = 0..body.records[record].descriptor.payload_bytes as usize;
                RecordDamage { record, ranges: Vec::from([all]) }
            };
            // What cannot be read at all is written as a whole.
            let records = scan::payload_damage(file.as_ref(), chunk.place, &body)
                .unwrap_or_else(|_| (0..body.records.len()).map(whole).collect());
            Some(Patient { damage, chunk, body, records })
        };
        known.into_iter().filter_map(examine).collect()
    }

    /// Whether a chunk is sound now; what is left of its damage is known from here on.
    fn look_again(&self, patient: &Patient) -> bool {
        let core = &self.reader.core;
        let Ok(file) = core.files.segment(patient.chunk.place.segment) else { return false };
        let found = scan::payload_damage(file.as_ref(), patient.chunk.place, &patient.body);
        let left = open::payload_damage(patient.chunk.place, patient.chunk.first, &patient.body, found);
        let cured = left.is_none();
        write(&core.state).healed(&patient.damage, left);
        cured
    }
}

impl Patient {
    fn heal(&self, journal: &Journal, volume: Incarnation, extent: Extent, content: &[u8]) -> io::Result<u64> {
        let core = &journal.reader.core;
        let (chunk, salt) = (&self.chunk, Salt::of(core.id));
        let mut healed = 0;
        let mut file = None;
        for ill in &self.records {
            let record = &self.body.records[ill.record];
            let of = &record.descriptor;
            let Some(written) = of.extent.filter(|_| of.volume == volume) else { continue };
            let start = written.start().index();
            for at in ill.ranges.iter().flat_map(|range| range.clone().step_by(BLOCK_BYTES)) {
                let index = at / BLOCK_BYTES;
                let from = start + index as u64 * BLOCK_SECTORS;
                let Some(sectors) = Extent::between(from, (from + BLOCK_SECTORS).min(written.end())) else { continue };
                if !extent.contains(sectors) {
                    continue;
                }
                let skip = usize::try_from((from - extent.start().index()) * SECTOR_BYTES).map_err(io::Error::other)?;
                let len = usize::try_from(sectors.bytes()).map_err(io::Error::other)?;
                let Some(block) = content.get(skip..skip + len) else { continue };
                if record.crcs.get(index) != Some(&block_crc(salt, block, volume, start, index, chunk.session)) {
                    continue;
                }
                let offset = chunk.payload_at().offset + u64::from(of.payload_offset) + at as u64;
                let segment = core.files.segment(chunk.place.segment)?;
                // What was cut off with the file's end is not put back: nobody knows what else was.
                let there = |place: &u64| segment.stored().is_ok_and(|stored| place + len as u64 <= stored);
                let Some(place) = segment.place(offset..offset + len as u64).filter(there) else { continue };
                // Through the page cache: a part of a block may belong to another record.
                let open = || core.files.disk().open(&chunk.place.segment.file(), Access::Buffered);
                let file = match &mut file {
                    Some(file) => file,
                    none @ None => none.insert(open()?),
                };
                file.write_at(&[IoSlice::new(block)], place)?;
                healed += len as u64;
            }
        }
        if let Some(file) = file {
            file.sync()?;
        }
        Ok(healed)
    }
}
