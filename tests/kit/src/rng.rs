//! Randomness that can be had again.
//!
//! SplitMix64 (Steele, Lea, Flood 2014): tiny, good enough to choose test cases, nothing more.

use std::ops::Range;

/// A seeded source of numbers.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The source of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seeds that a randomised test runs: just `SEED` from the environment if that is set, else `count` of them
    /// from `first` on, or `ROUNDS` times as many. The test prints the one that fails.
    pub fn seeds(first: u64, count: u64) -> Range<u64> {
        let number = |name| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
        let rounds = number("ROUNDS").unwrap_or(1);
        number("SEED").map_or(first..first + count * rounds, |seed| seed..seed + 1)
    }

    /// A number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// An index below `bound`, which is at least 1.
    pub fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
