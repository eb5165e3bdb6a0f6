//! Room of a young segment that small chunks will be written to, written once before.
//!
//! A durable write into room that was never written makes the file system commit that it is in use now: that costs more
//! than a small chunk itself. So the first small chunk in such room takes zeros behind it along, in the same write, and
//! those that follow are written over them. What stands there is what was read there before: zeros. Nothing may be under
//! way behind a write that brings zeros. Large chunks pay for their own room, which is little beside them. Owns how much;
//! pure.

/// A larger chunk takes no zeros along.
const SMALL_MAX: u64 = 64 << 10;
/// Most bytes of zeros behind a chunk: room for some forty of the smallest.
pub(super) const ZEROS_MAX: u64 = 512 << 10;

/// Up to where the room of a segment's file has been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ahead(u64);

impl Ahead {
    /// Of a file that nothing was written to from here on.
    pub(super) const fn young(from: u64) -> Self {
        Self(from)
    }

    /// Of one that was a segment before.
    pub(super) const fn used() -> Self {
        Self(u64::MAX)
    }

    /// A chunk is to be written that ends at `end`, and nothing is to be written from `limit` on but a footer: how many
    /// bytes of zeros it takes along.
    pub(super) fn zeros(&mut self, bytes: u64, end: u64, limit: u64) -> u64 {
        if end <= self.0 {
            return 0;
        }
        let zeros = if bytes <= SMALL_MAX { ZEROS_MAX.min(limit.saturating_sub(end)) } else { 0 };
        self.0 = end + zeros;
        zeros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_small_chunk_in_young_room_takes_zeros_along_and_those_behind_it_none() {
        let mut ahead = Ahead::young(8192);
        assert_eq!(ahead.zeros(12288, 8192 + 12288, 1 << 30), ZEROS_MAX);
        let until = 8192 + 12288 + ZEROS_MAX;
        let mut end = 8192 + 2 * 12288;
        while end <= until {
            assert_eq!(ahead.zeros(12288, end, 1 << 30), 0, "its room was written");
            end += 12288;
        }
        assert_eq!(ahead.zeros(12288, end, 1 << 30), ZEROS_MAX, "it reaches beyond");
    }

    #[test]
    fn large_chunks_take_none_and_nothing_reaches_a_footer() {
        let mut ahead = Ahead::young(8192);
        assert_eq!(ahead.zeros(1 << 20, 8192 + (1 << 20), 1 << 30), 0);
        assert_eq!(ahead.zeros(8192, 16384 + (1 << 20), (1 << 20) + 20480), 4096, "up to the footer");
        assert_eq!(ahead.zeros(8192, 24576 + (1 << 20), (1 << 20) + 20480), 0, "one that takes the footer's own room");
        assert_eq!(Ahead::used().zeros(8192, 1 << 20, 1 << 30), 0, "a file used again");
    }
}
