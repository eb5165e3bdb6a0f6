//! Every moment of a history at which the power could have gone.
//!
//! A disk that keeps its moments notes, at each call that changes something, what is durable, what waits in a cache and
//! which writes are under way. From each, any number of worlds that a power cut may leave can be had: of what is under
//! way any part in any order, in the unit in which the medium tears; of what waits any subset of its sectors; of name
//! changes any prefix.

use super::{SECTOR, SimDisk, Under, World};
use crate::rng::Rng;
use std::fmt;
use std::sync::PoisonError;

/// The moments of a disk.
#[derive(Clone, Default)]
pub(super) struct Moments {
    all: Vec<Moment>,
    /// What the test said last.
    word: u64,
}

/// A moment.
#[derive(Clone)]
pub struct Moment {
    world: Box<World>,
    /// Writes under way: to which file, where, what.
    under_way: Vec<(usize, usize, Vec<u8>)>,
    /// What the test had said of this moment, see [`SimDisk::say`].
    pub word: u64,
}

impl fmt::Debug for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a moment with {} writes under way", self.under_way.len())
    }
}

impl World {
    /// The power could go now, with these writes under way to a file.
    pub(super) fn moment(&mut self, file: usize, under_way: &[Under]) {
        let Some(mut moments) = self.moments.take() else { return };
        let place = |u: &Under| (file, usize::try_from(u.offset).unwrap_or(usize::MAX), u.bytes.clone());
        let under_way = under_way.iter().map(place).collect();
        moments.all.push(Moment { world: Box::new(self.clone()), under_way, word: moments.word });
        self.moments = Some(moments);
    }
}

impl SimDisk {
    /// From now on every moment is kept.
    pub fn keep_moments(&self) {
        self.world().moments = Some(Box::default());
    }

    /// What a test wants to know of the moments that follow.
    pub fn say(&self, word: u64) {
        if let Some(moments) = &mut self.world().moments {
            moments.word = word;
        }
    }

    /// The moments since [`Self::keep_moments`]; none is kept any more.
    pub fn take_moments(&self) -> Vec<Moment> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.moments.take().map_or_else(Vec::new, |moments| moments.all)
    }
}

impl Moment {
    /// How many writes are under way.
    pub fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// What a power cut at this moment may leave. `torn`: by how many bytes the medium tears, a multiple of 512.
    #[must_use]
    pub fn power_cut(&self, rng: &mut Rng, torn: usize) -> SimDisk {
        assert!(torn.is_multiple_of(SECTOR) && torn > 0, "a medium tears by sectors");
        let mut world = (*self.world).clone();
        for (file, at, bytes) in &self.under_way {
            // All of it, none, a part from the front, or any parts: for each write by itself.
            let mood = rng.below(4);
            let units = bytes.len().div_ceil(torn);
            let front = rng.index(units + 1);
            for (n, unit) in bytes.chunks(torn).enumerate() {
                let kept = match mood {
                    0 => true,
                    1 => false,
                    2 => n < front,
                    _ => rng.one_in(2),
                };
                if kept {
                    world.files[*file].write(at + n * torn, unit, true);
                }
            }
        }
        SimDisk::of(world).power_cut(rng)
    }
}
