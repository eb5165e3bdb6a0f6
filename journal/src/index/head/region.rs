//! The versions of 2 MiB: one for all of it, or one for each block that differs from the rest.
//!
//! Owns the packing. A region that is not uniform is one allocation:
//!
//! ```text
//! 0 stamp of all other blocks 6    8 for each word behind, how many bits those before it have, 8 x 2
//! 24 which blocks have a stamp of their own, 8 words of 64 bits    88 their stamps, 6 bytes each
//! ```
//!
//! so a look-up counts the bits of one word, and a block costs six bytes whatever the number of blocks.

use crate::index::stamp::{STAMP_BYTES, Stamp};

/// Blocks of a region: 2 MiB.
pub(crate) const REGION_BLOCKS: usize = 512;
const WORDS: usize = REGION_BLOCKS / 64;
const COUNTS_AT: usize = 8;
const BITS_AT: usize = COUNTS_AT + WORDS * 2;
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

    /// Reads some of what `set` will need of a block, and answers with something of it: `depth` 0 only where it is, 1
    /// also which blocks have stamps of their own, 2 also the stamp.
    pub(crate) fn touch(&self, block: usize, depth: u8) -> usize {
        match self {
            Self::Uniform(_) => 0,
            Self::Packed(bytes) if depth == 0 => bytes.len(),
            Self::Packed(bytes) if depth == 1 => {
                usize::from(bytes[BITS_AT]).wrapping_add(usize::from(bytes[STAMPS_AT - 1]))
            }
            Self::Packed(bytes) => {
                let at = STAMPS_AT + rank(bytes, block) * STAMP_BYTES;
                usize::from(bytes.get(at).copied().unwrap_or(0))
            }
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
    if block >= REGION_BLOCKS {
        return (bytes.len() - STAMPS_AT) / STAMP_BYTES;
    }
    let below = (1_u64 << (block % 64)) - 1;
    count(bytes, block / 64) + (word(bytes, block / 64) & below).count_ones() as usize
}

/// How many blocks of the words before this one have a stamp of their own.
fn count(bytes: &[u8], word: usize) -> usize {
    let at = COUNTS_AT + word * 2;
    usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

/// These blocks have stamps of their own.
fn set_bits(bytes: &mut [u8], first: usize, count: usize) {
    for block in first..first + count {
        bytes[BITS_AT + block / 8] |= 1 << (block % 8);
    }
    let mut sum = self::count(bytes, first / 64);
    for index in first / 64 + 1..WORDS {
        sum += word(bytes, index - 1).count_ones() as usize;
        #[expect(clippy::cast_possible_truncation, reason = "at most 512")]
        bytes[COUNTS_AT + index * 2..COUNTS_AT + index * 2 + 2].copy_from_slice(&(sum as u16).to_le_bytes());
    }
}
