//! The versions of 2 MiB: one for all of it, or one for each block that differs from the rest.
//!
//! Owns the packing. A region that is not uniform is one allocation:
//!
//! ```text
//! 0 stamp of all other blocks 6   6 two bytes of zeros   8 which blocks have a stamp of their own, 512 bits   72 their stamps, 6 bytes each
//! ```
//!
//! so a look-up is a count of bits, and a block costs six bytes whatever the number of blocks.

use crate::index::stamp::{STAMP_BYTES, Stamp};

/// Blocks of a region: 2 MiB.
pub(crate) const REGION_BLOCKS: usize = 512;
const WORDS: usize = REGION_BLOCKS / 64;
const BITS_AT: usize = 8;
const STAMPS_AT: usize = BITS_AT + WORDS * 8;

/// A region.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// All blocks have this stamp.
    Uniform(Stamp),
    /// See the module.
    Packed(Vec<u8>),
}

impl Region {
    /// The stamp of a block, which is below `REGION_BLOCKS`.
    #[inline]
    pub(crate) fn get(&self, block: usize) -> Stamp {
        match self {
            Self::Uniform(stamp) => *stamp,
            Self::Packed(bytes) => {
                let at = if is_set(bytes, block) { STAMPS_AT + rank(bytes, block) * STAMP_BYTES } else { 0 };
                stamp_at(bytes, at)
            }
        }
    }

    /// Gives blocks a stamp. `first + count` is at most `REGION_BLOCKS`.
    pub(crate) fn set(&mut self, first: usize, count: usize, stamp: Stamp) {
        if count >= REGION_BLOCKS {
            *self = Self::Uniform(stamp);
            return;
        }
        let bytes = match self {
            Self::Uniform(all) if *all == stamp => return,
            Self::Uniform(all) => {
                let mut bytes = Vec::new();
                bytes.reserve_exact(STAMPS_AT + (count + 3) * STAMP_BYTES);
                bytes.extend_from_slice(&all.to_bytes());
                bytes.resize(STAMPS_AT, 0);
                *self = Self::Packed(bytes);
                let Self::Packed(bytes) = self else { return };
                bytes
            }
            Self::Packed(bytes) => bytes,
        };
        let at = STAMPS_AT + rank(bytes, first) * STAMP_BYTES;
        let end = STAMPS_AT + rank(bytes, first + count) * STAMP_BYTES;
        let needed = count * STAMP_BYTES;
        let more = needed - (end - at);
        if more > 0 {
            make_room(bytes, end, more);
            set_bits(bytes, first, count);
        }
        let stamp = stamp.to_bytes();
        for slot in bytes[at..at + needed].chunks_exact_mut(STAMP_BYTES) {
            slot.copy_from_slice(&stamp);
        }
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Self::Uniform(_) => 0,
            Self::Packed(bytes) => bytes.capacity(),
        }
    }
}

/// Opens a gap of `more` bytes at `at`. Grows by an eighth: regions are many, and half empty ones would cost as much as
/// what they hold.
fn make_room(bytes: &mut Vec<u8>, at: usize, more: usize) {
    let len = bytes.len();
    if bytes.capacity() - len < more {
        bytes.reserve_exact(more.max(len / 8));
    }
    bytes.resize(len + more, 0);
    bytes.copy_within(at..len, at + more);
}

fn stamp_at(bytes: &[u8], at: usize) -> Stamp {
    let mut stamp = [0; STAMP_BYTES];
    stamp.copy_from_slice(&bytes[at..at + STAMP_BYTES]);
    Stamp::from_bytes(stamp)
}

fn word(bytes: &[u8], index: usize) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[BITS_AT + index * 8..BITS_AT + index * 8 + 8]);
    u64::from_le_bytes(word)
}

fn is_set(bytes: &[u8], block: usize) -> bool {
    word(bytes, block / 64) >> (block % 64) & 1 == 1
}

/// How many blocks below this one have a stamp of their own.
#[inline]
fn rank(bytes: &[u8], block: usize) -> usize {
    let full = block / 64;
    let mut count = 0;
    for index in 0..full {
        count += word(bytes, index).count_ones();
    }
    if !block.is_multiple_of(64) {
        count += (word(bytes, full) & ((1 << (block % 64)) - 1)).count_ones();
    }
    count as usize
}

fn set_bits(bytes: &mut [u8], first: usize, count: usize) {
    for block in first..first + count {
        bytes[BITS_AT + block / 8] |= 1 << (block % 8);
    }
}
