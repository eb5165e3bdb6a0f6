//! What wakes a group's link: the one signal between the threads that lay records and the one that sends them.
//!
//! Owns what rang and the sleep until it does. Deliberately knows no record.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Why the link's thread is woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rings {
    /// Records were laid. Wakes nobody who knows of some already.
    pub laid: bool,
    /// Somebody waits for them: a flush, a bookmark.
    pub hurry: bool,
    /// A frame came in, a chunk is full, or an operator asks for something.
    pub other: bool,
}

/// What the link's thread sleeps on.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<Rung>,
    wake: Condvar,
    /// That records were laid has rung, and whoever waits has not taken it yet: when he does, he sees those too that are laid
    /// until then. So every further one of them costs a look at this and no lock.
    laid: AtomicBool,
}

#[derive(Debug, Default)]
struct Rung {
    rings: Rings,
    /// Whoever sleeps knows that records are laid: more of them are no news.
    knows: bool,
    /// Somebody sleeps. To wake somebody costs a system call, whether he sleeps or not.
    sleeps: bool,
}

impl Rung {
    fn wakes(&self) -> bool {
        self.rings.hurry || self.rings.other || (self.rings.laid && !self.knows)
    }
}

impl Bell {
    /// Wakes the link.
    pub fn ring(&self, why: Rings) {
        // What was laid is visible before this looks; `wait` takes what rang before its caller looks.
        fence(Ordering::SeqCst);
        if !why.hurry && !why.other && self.laid.load(Ordering::Relaxed) {
            return;
        }
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let woken = rung.wakes();
        rung.rings.laid |= why.laid;
        rung.rings.hurry |= why.hurry;
        rung.rings.other |= why.other;
        self.laid.store(rung.rings.laid, Ordering::Relaxed);
        // Whoever sleeps was woken by what rang before: a wake-up a write would cost more than the write.
        let news = rung.wakes() && !woken && rung.sleeps;
        drop(rung);
        if news {
            self.wake.notify_one();
        }
    }

    /// Sleeps until something rings or the time is over, and takes what rang. `knows`: the caller gathers records, and
    /// that more of them are laid is no reason to wake.
    pub fn wait(&self, limit: Duration, knows: bool) -> Rings {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        (rung.knows, rung.sleeps) = (knows, true);
        let (mut rung, _) =
            self.wake.wait_timeout_while(rung, limit, |rung| !rung.wakes()).unwrap_or_else(PoisonError::into_inner);
        rung.sleeps = false;
        self.laid.store(false, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        std::mem::take(&mut rung.rings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    const LAID: Rings = Rings { laid: true, hurry: false, other: false };
    const HURRY: Rings = Rings { laid: false, hurry: true, other: false };
    /// Nothing here waits that long.
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn whoever_gathers_is_woken_by_hurry_and_not_by_records() {
        let bell = Bell::default();
        bell.ring(LAID);
        assert_eq!(bell.wait(LONG, false), LAID, "the first record wakes");
        bell.ring(LAID);
        let began = Instant::now();
        assert_eq!(bell.wait(Duration::from_millis(20), true), LAID, "what rang is not lost");
        assert!(began.elapsed() >= Duration::from_millis(20), "and nobody was woken by it");
        bell.ring(LAID);
        bell.ring(HURRY);
        assert_eq!(bell.wait(LONG, true), Rings { laid: true, ..HURRY });
    }

    #[test]
    fn what_rings_while_somebody_sleeps_wakes_him() {
        for (ring, knows) in [(LAID, false), (HURRY, true), (Rings { other: true, ..Rings::default() }, true)] {
            let bell = Bell::default();
            std::thread::scope(|scope| {
                let sleeper = scope.spawn(|| bell.wait(LONG, knows));
                bell.ring(ring);
                assert_eq!(sleeper.join().expect("awake"), ring);
            });
        }
    }
}
