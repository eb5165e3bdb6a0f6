//! Where things lie in a dirty map's file (`docs/formats/dirty-map.md`).
//!
//! ```text
//! page 0, 1     header, written in turns: the valid one with the higher generation counts
//! page 2..      bits, 4 KiB a page: eight sectors of 504 bytes of bits, their CRC-32C, four zero bytes
//! ```
//!
//! A sector of 512 bytes is what a disk writes whole, so a torn page has old and new sectors, each of which is true: a
//! bit that was to be set is not relied on before the write has returned, and one that was to be cleared may stay. Pure.

use super::Relied;
use crate::regions::{PAGE_REGIONS, REGION_SECTORS};
use record::checksum::crc32c;
use record::ids::{JournalId, VolumeId};
use record::position::{Session, StreamSeq};

/// Bytes of a page of the file.
pub const PAGE: usize = 4096;
/// First bytes of a header.
const MAGIC: u32 = u32::from_le_bytes(*b"UDDM");
/// Version of the layout. 1: the first.
pub const VERSION: u32 = 1;
/// Bytes of a header that its checksum, which follows, covers.
const HEADER_BYTES: usize = 96;
const SECTOR: usize = 512;
/// Bytes of bits in a sector.
const BITS: usize = 504;

/// Bytes of a map of so many pages of bits.
pub const fn file_bytes(pages: u64) -> u64 {
    (2 + pages) * PAGE as u64
}

/// Where the header of a generation goes.
pub const fn header_at(generation: u64) -> u64 {
    generation % 2 * PAGE as u64
}

/// Where a page of bits stands.
pub const fn page_at(page: u64) -> u64 {
    (2 + page) * PAGE as u64
}

/// What a map says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Whose map.
    pub volume: VolumeId,
    /// How many regions it has.
    pub regions: u64,
    /// The journal that its clearings rely on.
    pub journal: JournalId,
    /// What they rely on.
    pub relied: Option<Relied>,
    /// Rises with every header written.
    pub generation: u64,
    /// A page could not be written: the bits on disk are not to be believed.
    pub distrusted: bool,
}

impl Header {
    /// Of a map that nothing was cleared in.
    pub const fn new(volume: VolumeId, regions: u64, journal: JournalId) -> Self {
        Self { volume, regions, journal, relied: None, generation: 0, distrusted: false }
    }

    /// Its bytes, checksum and all.
    pub fn encode(&self) -> Vec<u8> {
        let (session, next) = self.relied.map_or((0, 0), |r| (r.session.get(), r.next.get()));
        let mut out = Vec::with_capacity(HEADER_BYTES + 4);
        out.extend_from_slice(&MAGIC.to_le_bytes());
        out.extend_from_slice(&VERSION.to_le_bytes());
        out.extend_from_slice(&self.volume.to_bytes());
        out.extend_from_slice(&self.journal.to_bytes());
        for word in [self.regions, REGION_SECTORS, session, next, self.generation, u64::from(self.distrusted)] {
            out.extend_from_slice(&word.to_le_bytes());
        }
        out.resize(HEADER_BYTES, 0);
        let crc = crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a header; `None` when it is none of this version, or damaged.
    pub fn decode(page: &[u8]) -> Option<Self> {
        let (head, rest) = page.split_at_checked(HEADER_BYTES)?;
        let crc = u32::from_le_bytes(*rest.first_chunk()?);
        let half = |at: usize| head.get(at..)?.first_chunk().map(|b| u32::from_le_bytes(*b));
        let word = |at: usize| head.get(at..)?.first_chunk().map(|b| u64::from_le_bytes(*b));
        let id = |at: usize| head.get(at..)?.first_chunk::<16>().copied();
        let ours = crc == crc32c(head) && half(0)? == MAGIC && half(4)? == VERSION && word(48)? == REGION_SECTORS;
        if !ours {
            return None;
        }
        let session = Session::new(word(56)?);
        let relied = (session.get() != 0).then_some(Relied { session, next: StreamSeq::new(word(64)?) });
        Some(Self {
            volume: VolumeId::from_bytes(id(8)?),
            journal: JournalId::from_bytes(id(24)?),
            regions: word(40)?,
            relied,
            generation: word(72)?,
            distrusted: word(80)? != 0,
        })
    }
}

fn sector_crc(page: u64, sector: usize, bits: &[u8]) -> u32 {
    let mut place = [0u8; 16];
    place[..8].copy_from_slice(&page.to_le_bytes());
    place[8..].copy_from_slice(&(sector as u64).to_le_bytes());
    crc32c(bits) ^ crc32c(&place)
}

/// Fills a page with bits.
pub fn encode_page(page: u64, bits: impl Iterator<Item = bool>, out: &mut [u8]) {
    out.fill(0);
    for (i, bit) in bits.enumerate() {
        if bit {
            let (sector, at) = (i / (BITS * 8), i % (BITS * 8));
            out[sector * SECTOR + at / 8] |= 1 << (at % 8);
        }
    }
    for sector in 0..PAGE / SECTOR {
        let at = sector * SECTOR;
        let crc = sector_crc(page, sector, &out[at..at + BITS]);
        out[at + BITS..at + BITS + 4].copy_from_slice(&crc.to_le_bytes());
    }
}

/// The bits of a page. A sector that does not check, and a page that could not be read, is all ones.
pub fn decode_page(page: u64, bytes: Option<&[u8]>) -> Vec<bool> {
    let mut bits = Vec::with_capacity(usize::try_from(PAGE_REGIONS).unwrap_or(0));
    for sector in 0..PAGE / SECTOR {
        let body = bytes.and_then(|bytes| bytes.get(sector * SECTOR..(sector + 1) * SECTOR));
        let good = body.filter(|body| body[BITS..BITS + 4] == sector_crc(page, sector, &body[..BITS]).to_le_bytes());
        for i in 0..BITS * 8 {
            bits.push(good.is_none_or(|body| body[i / 8] >> (i % 8) & 1 == 1));
        }
    }
    bits
}
