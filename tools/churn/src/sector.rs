//! A sector that says what it is: which run wrote it, by which operation, where it belongs.
//!
//! Owns the 512 bytes and nothing else; what a run did is `history`, whether an image is right is `judge`.
//!
//! ```text
//! at   bytes
//!   0  8   "undchurn"
//!   8  8   run
//!  16  8   operation: its number in the run's log
//!  24  8   sector: where these bytes belong
//!  32  8   the operation's first sector
//!  40  4   the operation's sectors
//!  44  2   lane
//!  46  2   zero
//!  48  456 filler, derived from operation and sector
//! 504  8   digest of bytes 0..504
//! ```
//! Little-endian. The digest changes whenever a single word does, so a torn or rotten sector is told from a right one.

use crate::rng::mix;

/// Bytes in a sector.
pub const SECTOR: usize = 512;
const MAGIC: [u8; 8] = *b"undchurn";
const DIGEST_AT: usize = SECTOR - 8;

/// What the operation that wrote a sector says of itself in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// The run.
    pub run: u64,
    /// Number of the operation in the run's log.
    pub operation: u64,
    /// The operation's first sector.
    pub first: u64,
    /// The operation's sectors.
    pub sectors: u32,
    /// The lane that submitted it.
    pub lane: u16,
}

/// What a sector turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// All zeros.
    Zero,
    /// Written by this operation, and in its place.
    Written(Stamp),
    /// Written by this operation, but for another sector.
    Misplaced {
        /// Who wrote it.
        stamp: Stamp,
        /// Where it belongs.
        belongs: u64,
    },
    /// It begins like one of ours, but its digest is wrong: torn or rotten.
    Damaged,
    /// Not one of ours.
    Foreign,
}

/// Fills `bytes`, one sector, with what `stamp` writes at `sector`.
pub fn fill(bytes: &mut [u8], stamp: &Stamp, sector: u64) {
    bytes[..8].copy_from_slice(&MAGIC);
    put(bytes, 8, stamp.run);
    put(bytes, 16, stamp.operation);
    put(bytes, 24, sector);
    put(bytes, 32, stamp.first);
    put(bytes, 40, u64::from(stamp.sectors) | u64::from(stamp.lane) << 32);
    let mut word = mix(stamp.operation ^ stamp.run) ^ sector;
    for at in (48..DIGEST_AT).step_by(8) {
        word = word.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(0xd1b5_4a32_d192_ed03);
        put(bytes, at, word);
    }
    let digest = digest(&bytes[..DIGEST_AT]);
    put(bytes, DIGEST_AT, digest);
}

/// Reads `bytes`, which were found at `sector`.
pub fn read(bytes: &[u8], sector: u64) -> Content {
    if bytes[..8] != MAGIC {
        return if bytes.iter().all(|byte| *byte == 0) { Content::Zero } else { Content::Foreign };
    }
    if get(bytes, DIGEST_AT) != digest(&bytes[..DIGEST_AT]) {
        return Content::Damaged;
    }
    let shape = get(bytes, 40);
    let stamp = Stamp {
        run: get(bytes, 8),
        operation: get(bytes, 16),
        first: get(bytes, 32),
        sectors: u32::try_from(shape & 0xffff_ffff).unwrap_or(0),
        lane: u16::try_from((shape >> 32) & 0xffff).unwrap_or(0),
    };
    let belongs = get(bytes, 24);
    if belongs == sector { Content::Written(stamp) } else { Content::Misplaced { stamp, belongs } }
}

/// A number that changes whenever one word of `bytes` does.
pub fn digest(bytes: &[u8]) -> u64 {
    let mut sum = 0x2545_f491_4f6c_dd1d_u64;
    for at in (0..bytes.len()).step_by(8) {
        sum = (sum.rotate_left(23) ^ get(bytes, at)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
    mix(sum)
}

/// The number at `at`, of which at most eight bytes are left.
pub fn get(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let end = bytes.len().min(at + 8);
    word[..end - at].copy_from_slice(&bytes[at..end]);
    u64::from_le_bytes(word)
}

/// Puts a number at `at`.
pub fn put(bytes: &mut [u8], at: usize, value: u64) {
    bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp = Stamp { run: 7, operation: 1 << 40, first: 90, sectors: 30, lane: 513 };

    #[test]
    fn a_sector_says_who_wrote_it_and_where_it_belongs() {
        let mut bytes = [0; SECTOR];
        fill(&mut bytes, &STAMP, 100);
        assert_eq!(read(&bytes, 100), Content::Written(STAMP));
        assert_eq!(read(&bytes, 101), Content::Misplaced { stamp: STAMP, belongs: 100 });
    }

    #[test]
    fn every_flipped_bit_is_seen() {
        let mut bytes = [0; SECTOR];
        fill(&mut bytes, &STAMP, 100);
        for bit in 0..SECTOR * 8 {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let found = read(&bytes, 100);
            assert!(matches!(found, Content::Damaged | Content::Foreign), "bit {bit}: {found:?}");
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn zeros_are_zeros_and_anything_else_is_foreign() {
        assert_eq!(read(&[0; SECTOR], 5), Content::Zero);
        assert_eq!(read(&[1; SECTOR], 5), Content::Foreign);
    }
}
