//! What time it is, for a group.
//!
//! Owns the two questions that a group asks: how long it has been running, and what a person would call this moment.

use std::time::Instant;

use crate::intake::session::Millis;

/// The time, for a group.
pub trait Clock: Send + Sync + std::fmt::Debug {
    /// Milliseconds of a clock that never goes back.
    fn elapsed_ms(&self) -> Millis;
    /// Nanoseconds since 1970 UTC. May step either way.
    fn wall_ns(&self) -> u64;
}

/// The system's clocks.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    began: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { began: Instant::now() }
    }
}

impl Clock for SystemClock {
    fn elapsed_ms(&self) -> Millis {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn wall_ns(&self) -> u64 {
        control::time::now()
    }
}
