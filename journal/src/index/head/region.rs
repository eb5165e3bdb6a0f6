//! The versions of 2 MiB: one for all of it, or one for each block that differs from the rest.
//!
//! Owns the packing. A region that is not uniform is a stretch of its tract's arena:
//!
//! ```text
//! 0 stamp of all other blocks 6    8 for each word behind, how many bits those before it have, 8 x 2
//! 24 which blocks have a stamp of their own, 8 words of 64 bits    88 their stamps, 6 bytes each
//! ```
//!
//! so a look-up counts the bits of one word, and a block costs six bytes whatever the number of blocks. An arena of pages of
//! one size, since half a million allocations that grow all the time leave a third as much between them as they hold; the
//! pages themselves are the whole map's (`pages`).

use super::pages::{PAGE_BYTES, PageNumber, Pages};
use crate::index::stamp::{STAMP_BYTES, Stamp};

/// Blocks of a region: 2 MiB.
pub(crate) const REGION_BLOCKS: usize = 512;
const WORDS: usize = REGION_BLOCKS / 64;
const COUNTS_AT: usize = 8;
const BITS_AT: usize = COUNTS_AT + WORDS * 2;
/// 1 as the count of each word.
const ONE_IN_EACH: u128 = u128::MAX / 0xffff;
const STAMPS_AT: usize = BITS_AT + WORDS * 8;

/// A region.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// All blocks have this stamp.
    Uniform(Stamp),
    /// See the module.
    Packed(Stretch),
}

/// A stretch of an arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stretch {
    at: u32,
    /// Bytes in use.
    len: u16,
    /// Bytes that it may grow to where it is.
    room: u16,
}

/// Where the packed regions of a tract lie.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    /// No stretch crosses from one into the next.
    pages: Vec<PageNumber>,
    /// Bytes given out of the last page.
    used: usize,
    /// Bytes that no region has any more.
    waste: usize,
}

impl Stretch {
    fn page(self) -> usize {
        self.at as usize / PAGE_BYTES
    }

    /// In its page.
    fn range(self) -> std::ops::Range<usize> {
        let start = self.at as usize % PAGE_BYTES;
        start..start + usize::from(self.len)
    }
}

/// Room for so many bytes, and a sixteenth more to grow.
fn room_for(len: usize) -> usize {
    len + (len / 16).max(3 * STAMP_BYTES)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "a region has at most 3357 bytes with its room, a tract 512 of them"
)]
fn stretch(at: usize, len: usize, room: usize) -> Stretch {
    Stretch { at: at as u32, len: len as u16, room: room as u16 }
}

impl Arena {
    #[inline]
    fn of<'p>(&self, pages: &'p Pages, stretch: Stretch) -> &'p [u8] {
        &pages.page(self.pages[stretch.page()])[stretch.range()]
    }

    #[inline]
    fn of_mut<'p>(&self, pages: &'p mut Pages, stretch: Stretch) -> &'p mut [u8] {
        &mut pages.page_mut(self.pages[stretch.page()])[stretch.range()]
    }

    /// A stretch, so many bytes of it in use; what stands there is yet to be written.
    fn begin(&mut self, pages: &mut Pages, len: usize) -> Stretch {
        let room = room_for(len);
        if self.pages.is_empty() || PAGE_BYTES - self.used < room {
            if !self.pages.is_empty() {
                self.waste += PAGE_BYTES - self.used;
            }
            self.pages.push(pages.take());
            self.used = 0;
        }
        let at = (self.pages.len() - 1) * PAGE_BYTES + self.used;
        self.used += room;
        stretch(at, len, room)
    }

    /// The same bytes with `more` behind them, which are yet to be written.
    fn longer(&mut self, pages: &mut Pages, old: Stretch, more: usize) -> Stretch {
        let len = usize::from(old.len) + more;
        if len <= usize::from(old.room) {
            return stretch(old.at as usize, len, usize::from(old.room));
        }
        let new = self.begin(pages, len);
        pages.copy((self.pages[old.page()], old.range()), (self.pages[new.page()], new.range().start));
        self.waste += usize::from(old.room);
        new
    }

    /// Whether packing the regions closer would be worth it.
    pub(crate) fn is_wasteful(&self) -> bool {
        self.waste > PAGE_BYTES / 4 && self.waste > self.pages.len() * PAGE_BYTES / 7
    }

    /// Packs all of its regions closer.
    pub(crate) fn pack(&mut self, pages: &mut Pages, regions: &mut [Region]) {
        let mut packed = Self::default();
        for region in regions {
            if let Region::Packed(old) = region {
                let new = packed.begin(pages, usize::from(old.len));
                pages.copy((self.pages[old.page()], old.range()), (packed.pages[new.page()], new.range().start));
                *old = new;
            }
        }
        // What is left at the ends of pages cannot be had back.
        packed.waste = 0;
        std::mem::replace(self, packed).end(pages);
    }

    /// Its pages are nobody's any more.
    pub(crate) fn end(self, pages: &mut Pages) {
        pages.give_back(&self.pages);
    }

    /// Bytes on the heap.
    pub(crate) fn heap_bytes(&self) -> usize {
        self.pages.len() * PAGE_BYTES
    }
}

impl Region {
    /// The stamp of a block, which is below `REGION_BLOCKS`.
    #[inline]
    pub(crate) fn get(self, pages: &Pages, arena: &Arena, block: usize) -> Stamp {
        match self {
            Self::Uniform(stamp) => stamp,
            Self::Packed(stretch) => {
                let bytes = arena.of(pages, stretch);
                let at = if is_set(bytes, block) { STAMPS_AT + rank(bytes, block) * STAMP_BYTES } else { 0 };
                stamp_at(bytes, at)
            }
        }
    }

    /// Gives blocks a stamp. `first + count` is at most `REGION_BLOCKS`.
    pub(crate) fn set(&mut self, pages: &mut Pages, arena: &mut Arena, first: usize, count: usize, stamp: Stamp) {
        let before = match *self {
            Self::Packed(stretch) if count >= REGION_BLOCKS => {
                arena.waste += usize::from(stretch.room);
                *self = Self::Uniform(stamp);
                return;
            }
            Self::Uniform(_) if count >= REGION_BLOCKS => {
                *self = Self::Uniform(stamp);
                return;
            }
            Self::Uniform(all) if all == stamp => return,
            Self::Uniform(all) => {
                let stretch = arena.begin(pages, STAMPS_AT);
                let bytes = arena.of_mut(pages, stretch);
                bytes.fill(0);
                bytes[..STAMP_BYTES].copy_from_slice(&all.to_bytes());
                stretch
            }
            // What most writes do: a block that has a stamp of its own gets another.
            Self::Packed(stretch) if count == 1 => {
                let bytes = arena.of_mut(pages, stretch);
                if is_set(bytes, first) {
                    let at = STAMPS_AT + rank(bytes, first) * STAMP_BYTES;
                    bytes[at..at + STAMP_BYTES].copy_from_slice(&stamp.to_bytes());
                    return;
                }
                stretch
            }
            Self::Packed(stretch) => stretch,
        };
        let bytes = arena.of(pages, before);
        let at = STAMPS_AT + rank(bytes, first) * STAMP_BYTES;
        let end = match count {
            // It has none.
            1 => at,
            _ => STAMPS_AT + rank(bytes, first + count) * STAMP_BYTES,
        };
        let needed = count * STAMP_BYTES;
        let more = needed - (end - at);
        let after = arena.longer(pages, before, more);
        let bytes = arena.of_mut(pages, after);
        if more > 0 {
            bytes.copy_within(end..usize::from(before.len), end + more);
            match count {
                1 => set_bit(bytes, first),
                _ => set_bits(bytes, first, count),
            }
        }
        let stamp = stamp.to_bytes();
        for slot in bytes[at..at + needed].chunks_exact_mut(STAMP_BYTES) {
            slot.copy_from_slice(&stamp);
        }
        *self = Self::Packed(after);
    }

    /// Reads some of what `set` will need of a block, and answers with something of it: `depth` 0 only where it is, 1
    /// also which blocks have stamps of their own, 2 also the stamp.
    pub(crate) fn touch(self, pages: &Pages, arena: &Arena, block: usize, depth: u8) -> usize {
        match self {
            Self::Uniform(_) => 0,
            Self::Packed(stretch) if depth == 0 => usize::from(stretch.len),
            Self::Packed(stretch) => {
                let bytes = arena.of(pages, stretch);
                if depth == 1 {
                    return usize::from(bytes[BITS_AT]).wrapping_add(usize::from(bytes[STAMPS_AT - 1]));
                }
                let at = STAMPS_AT + rank(bytes, block) * STAMP_BYTES;
                usize::from(bytes.get(at).copied().unwrap_or(0))
            }
        }
    }
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

/// This block, which had none, has a stamp of its own.
fn set_bit(bytes: &mut [u8], block: usize) {
    bytes[BITS_AT + block / 8] |= 1 << (block % 8);
    // The counts of all words behind at once, each in 16 bits of its own: none is larger than 512, so nothing is carried.
    let counts = &mut bytes[COUNTS_AT..BITS_AT];
    let one_in_each = ONE_IN_EACH << 16 << (block / 64 * 16);
    let mut before = [0; WORDS * 2];
    before.copy_from_slice(counts);
    counts.copy_from_slice(&(u128::from_le_bytes(before) + one_in_each).to_le_bytes());
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
