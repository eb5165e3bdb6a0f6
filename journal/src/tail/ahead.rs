//! Room of a young segment that small chunks will be written to, written once before.
//!
//! A durable write into room that was never written makes the file system commit that it is in use now: that costs more
//! than a small chunk itself. So where small chunks come one after the other, one of them takes zeros behind it along, in the
//! same write, and those that follow are written over them. What stands there is what was read there before: zeros. Nothing may be under
//! way behind a write that brings zeros. Large chunks pay for their own room, which is little beside them. Owns how much;
//! pure.

/// A larger chunk takes no zeros along.
const SMALL_MAX: u64 = 64 << 10;
/// So many small chunks come before one takes zeros along: a burst of large ones begins and ends with small ones, and has no
/// use for them.
const SMALL_BEFORE: u8 = 4;
/// Most bytes of zeros behind a chunk: room for some forty of the smallest.
pub(super) const ZEROS_MAX: u64 = 512 << 10;

/// Up to where the room of a segment's file has been written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ahead {
    written: u64,
    /// Small chunks since the last large one.
    small: u8,
}

impl Ahead {
    /// Of a file that nothing was written to from here on.
    pub(super) const fn young(from: u64) -> Self {
        Self { written: from, small: 0 }
    }

    /// Of one that was a segment before.
    pub(super) const fn used() -> Self {
        Self::young(u64::MAX)
    }

    /// A chunk is to be written that ends at `end`, and nothing is to be written from `limit` on but a footer: how many
    /// bytes of zeros it takes along.
    pub(super) fn zeros(&mut self, bytes: u64, end: u64, limit: u64) -> u64 {
        self.small = if bytes <= SMALL_MAX { self.small.saturating_add(1) } else { 0 };
        if end <= self.written {
            return 0;
        }
        let takes = self.small > SMALL_BEFORE;
        let zeros = if takes { ZEROS_MAX.min(limit.saturating_sub(end)) } else { 0 };
        self.written = end + zeros;
        zeros
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHUNK: u64 = 12288;

    /// After as many small chunks as must come first: where the next one begins.
    fn begun(ahead: &mut Ahead) -> u64 {
        let mut at = 8192;
        for _ in 0..SMALL_BEFORE {
            assert_eq!(ahead.zeros(CHUNK, at + CHUNK, 1 << 30), 0, "it may be the only one");
            at += CHUNK;
        }
        at
    }

    #[test]
    fn where_small_chunks_come_one_takes_zeros_along_and_those_behind_it_none() {
        let mut ahead = Ahead::young(8192);
        let mut end = begun(&mut ahead) + CHUNK;
        assert_eq!(ahead.zeros(CHUNK, end, 1 << 30), ZEROS_MAX);
        let until = end + ZEROS_MAX;
        end += CHUNK;
        while end <= until {
            assert_eq!(ahead.zeros(CHUNK, end, 1 << 30), 0, "its room was written");
            end += CHUNK;
        }
        assert_eq!(ahead.zeros(CHUNK, end, 1 << 30), ZEROS_MAX, "it reaches beyond");
    }

    #[test]
    fn large_chunks_take_none_nor_do_the_first_small_ones_behind_them() {
        let mut ahead = Ahead::young(8192);
        let at = begun(&mut ahead);
        let end = at + (1 << 20);
        assert_eq!(ahead.zeros(1 << 20, end, 1 << 30), 0);
        assert_eq!(ahead.zeros(CHUNK, end + CHUNK, 1 << 30), 0);
        assert_eq!(Ahead::used().zeros(CHUNK, 1 << 20, 1 << 30), 0, "a file used again");
    }

    #[test]
    fn nothing_reaches_a_footer() {
        let mut ahead = Ahead::young(8192);
        let end = begun(&mut ahead) + CHUNK;
        assert_eq!(ahead.zeros(CHUNK, end, end + 4096), 4096, "up to the footer");
        assert_eq!(ahead.zeros(CHUNK, end + CHUNK, end + 4096), 0, "one that takes the footer's own room");
    }
}
