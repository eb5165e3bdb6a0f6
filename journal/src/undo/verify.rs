//! Reading all that was captured, to see whether it still is what it was.
//!
//! Owns that walk; of a journal that is open it may be under way while more is captured, so what looks damaged is looked at again.

use super::slot::{self, REGION_SECTORS, SLOT_BYTES};
use super::{COPIES, data_name, found, map_name, slot_at};
use crate::aligned::Aligned;
use crate::device::{Access, Disk, DiskFile};
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent};
use record::ids::{Incarnation, JournalId};
use std::io;

const COPIES_BYTES: usize = SLOT_BYTES * 2;
/// How often a slot that changes is looked at.
const LOOKS_MAX: usize = 100;
const REGION_BLOCKS: u64 = REGION_SECTORS / BLOCK_SECTORS;

/// A damaged place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Rotten {
    pub file: String,
    pub offset: u64,
    pub bytes: u64,
    pub volume: Incarnation,
    /// What is not known of the volume.
    pub extent: Extent,
}

/// Reads everything.
pub(crate) fn rotten(disk: &dyn Disk, journal: JournalId) -> io::Result<Vec<Rotten>> {
    let mut rotten = Vec::new();
    for volume in super::volumes(disk)? {
        let opened = |name: &str| found(disk, name, Access::Read);
        // Both may be removed meanwhile, the map first.
        let (map, data) = (opened(&map_name(volume))?, opened(&data_name(volume))?);
        let Some(map) = map else { continue };
        let Some(data) = data else {
            if let Some(extent) = opened(&map_name(volume))?.and(Extent::new(0, REGION_SECTORS)) {
                rotten.push(Rotten { file: data_name(volume), offset: 0, bytes: 0, volume, extent });
            }
            continue;
        };
        for region in 0..map.len()?.div_ceil(COPIES * SLOT_BYTES as u64) {
            look(map.as_ref(), data.as_ref(), (journal, volume, region), &mut rotten)?;
        }
    }
    Ok(rotten)
}

fn look(
    map: &dyn DiskFile,
    data: &dyn DiskFile,
    (journal, volume, region): (JournalId, Incarnation, u64),
    rotten: &mut Vec<Rotten>,
) -> io::Result<()> {
    let copies = || -> io::Result<Aligned> {
        let mut copies = Aligned::zeroed(COPIES_BYTES);
        let _ = map.read_at(&mut copies, slot_at(region, 0))?;
        Ok(copies)
    };
    // While it changes under us it says nothing; what is damaged stays so.
    for _ in 0..LOOKS_MAX {
        let before = copies()?;
        let mut bad = Vec::new();
        if let Some(slot) = slot::newer(&before, journal, volume, region) {
            for block in (0..REGION_BLOCKS).filter(|block| slot.has_data(*block)) {
                let at = region * REGION_BLOCKS + block;
                let mut content = Aligned::zeroed(BLOCK_BYTES);
                let _ = data.read_at(&mut content, at * BLOCK_BYTES as u64)?;
                if !slot.is_sound(journal, volume, at, &mut content) {
                    let (offset, bytes) = (at * BLOCK_BYTES as u64, BLOCK_BYTES as u64);
                    let extent = Extent::new(at * BLOCK_SECTORS, BLOCK_SECTORS);
                    bad.extend(extent.map(|extent| Rotten { file: data_name(volume), offset, bytes, volume, extent }));
                }
            }
        } else {
            let (offset, bytes) = (slot_at(region, 0), COPIES_BYTES as u64);
            let extent = Extent::new(region * REGION_SECTORS, REGION_SECTORS);
            bad.extend(extent.map(|extent| Rotten { file: map_name(volume), offset, bytes, volume, extent }));
        }
        if bad.is_empty() || copies()?[..] == before[..] {
            rotten.append(&mut bad);
            return Ok(());
        }
    }
    Ok(())
}
