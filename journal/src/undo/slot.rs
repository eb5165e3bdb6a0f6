//! One slot of a map: which sectors of 2 MiB of a volume are captured, as what, with which checksums.
//!
//! ```text
//! 0 magic u32  4 version u16  8 generation u64  16 region u64  24 incarnation u32
//! 508 crc32c of all the rest, salted
//! 512 512 x u16: two bits a sector, the first in the lowest: 0 not captured, 1 data, 2 zeros, 3 a hole
//! 1536 512 x u32: crc32c of a block's captured data, with zeros in place of the rest, salted; 0 where there is none
//! ```
//!
//! The checksum stands at the end of the first sector: of a slot of which nothing is captured all the others are zeros, as
//! in a file's hole, so that it is there whole or not at all. Owns these bytes, and what can be asked of them.

use super::Captured;
use crate::mark::{u32_at, u64_at};
use crate::superblock::VERSION;
use record::checksum::Salt;
use record::geometry::BLOCK_SECTORS;
use record::ids::{Incarnation, JournalId};
use record::zeros::is_zero;

const MAGIC: u32 = u32::from_le_bytes(*b"UDUN");
const BLOCKS: usize = 512;
/// Sectors that one slot tells of.
pub(super) const REGION_SECTORS: u64 = BLOCKS as u64 * BLOCK_SECTORS;
/// Bytes of a slot.
pub(super) const SLOT_BYTES: usize = 4096;
const SECTOR: usize = 512;
const CRC_AT: usize = SECTOR - 4;
const KINDS_AT: usize = SECTOR;
const CRCS_AT: usize = KINDS_AT + BLOCKS * 2;

/// A slot.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Slot {
    /// 0: never written.
    generation: u64,
    /// Where it is to be written: the copy that the last one is not in, or the other.
    other: bool,
    kinds: Vec<u16>,
    crcs: Vec<u32>,
}

impl Slot {
    /// Nothing is captured, and nothing ever was.
    pub(super) fn new() -> Self {
        Self { generation: 0, other: false, kinds: vec![0; BLOCKS], crcs: vec![0; BLOCKS] }
    }

    pub(super) fn is_new(&self) -> bool {
        self.generation == 0
    }

    /// It is about to be written.
    pub(super) fn next(&mut self) {
        (self.generation, self.other) = (self.generation + 1, false);
    }

    /// The same for the other copy.
    pub(super) fn other(&self) -> Self {
        Self { other: !self.other, ..self.clone() }
    }

    /// Which copy it is.
    pub(super) fn copy(&self) -> u64 {
        (self.generation + u64::from(self.other)) % 2
    }

    /// Runs of sectors of one kind, `to` not included.
    pub(super) fn runs(&self, from: u64, to: u64) -> Vec<(u64, u64, Option<Captured>)> {
        let mut out: Vec<(u64, u64, Option<Captured>)> = Vec::new();
        let mut at = from;
        while at < to {
            let kind = self.kind(at);
            let (block, end) = (index(at / BLOCK_SECTORS), (at / BLOCK_SECTORS + 1) * BLOCK_SECTORS);
            // Whole blocks of one kind are the rule.
            let whole = self.kinds[block] == whole_block(kind);
            let next = if whole { end.min(to) } else { at + 1 };
            match out.last_mut() {
                Some((_, last, same)) if *same == kind => *last = next,
                Some(_) | None => out.push((at, next, kind)),
            }
            at = next;
        }
        out
    }

    fn kind(&self, sector: u64) -> Option<Captured> {
        match self.kinds[index(sector / BLOCK_SECTORS)] >> (sector % BLOCK_SECTORS * 2) & 3 {
            1 => Some(Captured::Data),
            2 => Some(Captured::Zero),
            3 => Some(Captured::Hole),
            _ => None,
        }
    }

    /// Sectors become of another kind.
    pub(super) fn set(&mut self, from: u64, to: u64, kind: Option<Captured>) {
        for sector in from..to {
            let shift = sector % BLOCK_SECTORS * 2;
            let kinds = &mut self.kinds[index(sector / BLOCK_SECTORS)];
            *kinds = *kinds & !(3 << shift) | (bits(kind) << shift);
        }
    }

    /// Whether a block of the volume holds captured data.
    pub(super) fn has_data(&self, block: u64) -> bool {
        let kinds = self.kinds[in_region(block)];
        // The lower bit of a pair without the upper one.
        kinds & !(kinds >> 1) & 0x5555 != 0
    }

    /// What is not captured data of a block becomes zeros.
    pub(super) fn mask(&self, block: u64, content: &mut [u8]) {
        let kinds = self.kinds[in_region(block)];
        for (sector, bytes) in content.chunks_exact_mut(SECTOR).enumerate() {
            if kinds >> (sector * 2) & 3 != 1 {
                bytes.fill(0);
            }
        }
    }

    /// Whether a block is what was captured; what is not captured data of it becomes zeros.
    pub(super) fn is_sound(&self, journal: JournalId, volume: Incarnation, block: u64, content: &mut [u8]) -> bool {
        self.mask(block, content);
        self.crcs[in_region(block)] == block_crc(journal, volume, block, content)
    }

    pub(super) fn set_crc(&mut self, block: u64, crc: u32) {
        self.crcs[in_region(block)] = crc;
    }

    pub(super) fn encode(&self, journal: JournalId, volume: Incarnation, region: u64) -> [u8; SLOT_BYTES] {
        let mut out = [0u8; SLOT_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..16].copy_from_slice(&self.generation.to_le_bytes());
        out[16..24].copy_from_slice(&region.to_le_bytes());
        out[24..28].copy_from_slice(&volume.get().to_le_bytes());
        for (kinds, bytes) in self.kinds.iter().zip(out[KINDS_AT..CRCS_AT].chunks_exact_mut(2)) {
            bytes.copy_from_slice(&kinds.to_le_bytes());
        }
        for (crc, bytes) in self.crcs.iter().zip(out[CRCS_AT..].chunks_exact_mut(4)) {
            bytes.copy_from_slice(&crc.to_le_bytes());
        }
        let crc = Salt::of(journal).header(&out);
        out[CRC_AT..SECTOR].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `None` where it is not what was written there.
    pub(super) fn decode(bytes: &[u8], journal: JournalId, volume: Incarnation, region: u64) -> Option<Self> {
        let mut all: [u8; SLOT_BYTES] = bytes.try_into().ok()?;
        let crc = u32_at(&all, CRC_AT);
        all[CRC_AT..SECTOR].fill(0);
        let fits = u32_at(&all, 0) == MAGIC
            && all[4..6] == VERSION.to_le_bytes()
            && u64_at(&all, 16) == region
            && u32_at(&all, 24) == volume.get()
            && Salt::of(journal).header(&all) == crc;
        fits.then(|| Self {
            generation: u64_at(&all, 8),
            other: false,
            kinds: all[KINDS_AT..CRCS_AT].chunks_exact(2).map(|b| u16::from_le_bytes([b[0], b[1]])).collect(),
            crcs: all[CRCS_AT..CRCS_AT + BLOCKS * 4].chunks_exact(4).map(|b| u32_at(b, 0)).collect(),
        })
    }
}

/// The newer of two copies that lie side by side; `None` where both are damaged.
pub(super) fn newer(copies: &[u8], journal: JournalId, volume: Incarnation, region: u64) -> Option<Slot> {
    let decode = |bytes| Slot::decode(bytes, journal, volume, region);
    let (first, second) = copies.split_at_checked(SLOT_BYTES)?;
    match (decode(first), decode(second)) {
        (Some(a), Some(b)) => Some(if a.generation >= b.generation { a } else { b }),
        (Some(one), None) | (None, Some(one)) => Some(one),
        (None, None) => is_zero(copies).then(Slot::new),
    }
}

/// The checksum of a block of which only captured data is left.
pub(super) fn block_crc(journal: JournalId, volume: Incarnation, block: u64, masked: &[u8]) -> u32 {
    let mut seed = [0u8; 12];
    seed[..4].copy_from_slice(&volume.get().to_le_bytes());
    seed[4..].copy_from_slice(&block.to_le_bytes());
    Salt::of(journal).header(masked) ^ record::checksum::crc32c(&seed)
}

fn bits(kind: Option<Captured>) -> u16 {
    match kind {
        None => 0,
        Some(Captured::Data) => 1,
        Some(Captured::Zero) => 2,
        Some(Captured::Hole) => 3,
    }
}

/// All sectors of a block of one kind.
fn whole_block(kind: Option<Captured>) -> u16 {
    bits(kind) * 0x5555
}

fn in_region(block: u64) -> usize {
    index(block % BLOCKS as u64)
}

/// Below 512.
fn index(block: u64) -> usize {
    usize::try_from(block).unwrap_or(usize::MAX)
}
