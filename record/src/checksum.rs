//! Checksums: CRC-32C, salted.
//!
//! Every checksum is mixed with where and by whom the bytes were written, so that a block in the wrong place, of
//! another volume, another session or another journal is as wrong as a flipped bit, and host data that happens to
//! look like a chunk is never taken for one. CRC-32C is the Castagnoli polynomial of RFC 3720 (iSCSI).

use crate::geometry::{BLOCK_BYTES, Sector};
use crate::ids::{Incarnation, JournalId};
use crate::position::Session;

/// CRC-32C of some bytes, unsalted.
pub fn crc32c(bytes: &[u8]) -> u32 {
    castagnoli::crc32c(bytes)
}

/// What the checksums of one journal are mixed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Salt(u32);

impl Salt {
    /// The salt of a journal.
    pub fn of(journal: JournalId) -> Self {
        Self(crc32c(&journal.to_bytes()))
    }

    /// The checksum of a header: its bytes, with the field that holds the checksum left out by the caller.
    pub fn header(self, bytes: &[u8]) -> u32 {
        crc32c(bytes) ^ self.0
    }

    /// The same, of bytes behind which there are so many zeros.
    pub(crate) fn header_before_zeros(self, bytes: &[u8], zeros: usize) -> u32 {
        castagnoli::crc32c_of(&[bytes], zeros) ^ self.0
    }

    /// The checksum of a header area that holds its own checksum in the four bytes at `hole`: they count as zeros,
    /// as they were when it was taken. Behind the bytes come so many zeros.
    pub(crate) fn header_around(self, bytes: &[u8], hole: usize, zeros: usize) -> u32 {
        castagnoli::crc32c_of(&[&bytes[..hole], &[0; 4], &bytes[hole + 4..]], zeros) ^ self.0
    }

    /// The checksum of one record's description; `place` is its index in the chunk and `first` the chunk's first
    /// sequence number, so that a description in another place does not check.
    pub fn record(self, bytes: &[u8], session: Session, first: u64, place: u32) -> u32 {
        let mut seed = [0u8; 20];
        seed[..8].copy_from_slice(&session.get().to_le_bytes());
        seed[8..16].copy_from_slice(&first.to_le_bytes());
        seed[16..].copy_from_slice(&place.to_le_bytes());
        castagnoli::crc32c_seeded(bytes, &seed) ^ self.0
    }

    /// The checksum of one block (at most 4 KiB) of a record's payload that belongs at `sector` of a volume.
    pub fn block(self, data: &[u8], volume: Incarnation, sector: Sector, session: Session) -> u32 {
        debug_assert!(data.len() <= BLOCK_BYTES);
        let mut seed = [0u8; 20];
        seed[..4].copy_from_slice(&volume.get().to_le_bytes());
        seed[4..12].copy_from_slice(&sector.index().to_le_bytes());
        seed[12..].copy_from_slice(&session.get().to_le_bytes());
        castagnoli::crc32c_seeded(data, &seed) ^ self.0
    }
}
