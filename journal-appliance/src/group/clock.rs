//! What time it is, for a group.
//!
//! Owns the two questions that a group asks: how long it has been running, and what a person would call this moment.

use nix::time::{ClockId, clock_gettime};

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
    began: Millis,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { began: monotonic_ms() }
    }
}

/// The clock that never goes back. Asked several times for each chunk, so without the detours of `Instant`.
fn monotonic_ms() -> Millis {
    // There has always been this clock, and there is no error that a caller could act on.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |time| {
        let (seconds, nanos) = (u64::try_from(time.tv_sec()), u64::try_from(time.tv_nsec()));
        seconds.unwrap_or(0) * 1000 + nanos.unwrap_or(0) / 1_000_000
    })
}

impl Clock for SystemClock {
    fn elapsed_ms(&self) -> Millis {
        monotonic_ms().saturating_sub(self.began)
    }

    fn wall_ns(&self) -> u64 {
        control::time::now()
    }
}
