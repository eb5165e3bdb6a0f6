//! What wakes a group's link: the one signal between the threads that lay records and the one that sends them.
//!
//! Owns what rang and the sleep until it does. Deliberately knows no record.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Why the link's thread is woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Rings {
    /// Records were laid.
    pub laid: bool,
    /// Somebody waits for them: a flush, a bookmark, a full chunk.
    pub hurry: bool,
    /// A frame came in, or an operator asks for something.
    pub other: bool,
}

/// What the link's thread sleeps on.
#[derive(Debug, Default)]
pub struct Bell {
    rung: Mutex<Rings>,
    wake: Condvar,
}

impl Bell {
    /// Wakes the link.
    pub fn ring(&self, why: Rings) {
        let mut rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let before = *rung;
        rung.laid |= why.laid;
        rung.hurry |= why.hurry;
        rung.other |= why.other;
        // Whoever sleeps was woken by what rang before: a wake-up a write would cost more than the write.
        let news = *rung != before;
        drop(rung);
        if news {
            self.wake.notify_one();
        }
    }

    /// Sleeps until something rings or the time is over, and takes what rang.
    pub fn wait(&self, limit: Duration) -> Rings {
        let rung = self.rung.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut rung, _) = self
            .wake
            .wait_timeout_while(rung, limit, |rung| *rung == Rings::default())
            .unwrap_or_else(PoisonError::into_inner);
        std::mem::take(&mut *rung)
    }
}
