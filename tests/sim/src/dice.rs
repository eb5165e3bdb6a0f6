//! Everything that is left to chance, from one seed.
//!
//! Owns the one stream of numbers of a world; whoever asks takes the next. Nothing else in a world is random, so the
//! same seed meets the same fate.

use kit::Rng;
use std::cell::RefCell;
use std::rc::Rc;

/// The dice of a world. Clones throw the same dice.
#[derive(Clone, Debug)]
pub struct Dice(Rc<RefCell<Rng>>);

impl Dice {
    /// The dice of this seed.
    pub fn new(seed: u64) -> Self {
        Self(Rc::new(RefCell::new(Rng::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x5eed))))
    }

    /// A number.
    pub fn number(&self) -> u64 {
        self.0.borrow_mut().number()
    }

    /// A number below `bound`, which is at least 1.
    pub fn below(&self, bound: u64) -> u64 {
        self.0.borrow_mut().below(bound)
    }

    /// An index below `bound`, which is at least 1.
    pub fn index(&self, bound: usize) -> usize {
        self.0.borrow_mut().index(bound)
    }

    /// A number from `from` to `to`, both included.
    pub fn between(&self, from: u64, to: u64) -> u64 {
        from + self.below(to - from + 1)
    }

    /// True once in `n` times.
    pub fn one_in(&self, n: u64) -> bool {
        self.0.borrow_mut().one_in(n)
    }

    /// True so many times in a hundred.
    pub fn percent(&self, chance: u64) -> bool {
        self.below(100) < chance
    }

    /// One of these.
    pub fn pick<'a, T>(&self, from: &'a [T]) -> &'a T {
        &from[self.index(from.len())]
    }

    /// A source of its own, for code that wants one.
    pub fn fork(&self) -> Rng {
        Rng::new(self.number())
    }
}
