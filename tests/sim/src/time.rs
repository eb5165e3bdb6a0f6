//! What time it is in a world.
//!
//! Owns the clocks that the product is handed: one that never steps, and the wall's, which steps when fate says so. The
//! product asks for the time by a plain function, so the clocks of the world that runs on this thread stand in the
//! thread; a world that begins sets them anew.

use journal_appliance::group::clock::Clock;
use std::cell::Cell;
use ublk_splitter::clock::Now;

/// Nanoseconds in a microsecond.
pub const US: u64 = 1_000;
/// Nanoseconds in a millisecond.
pub const MS: u64 = 1_000_000;
/// Nanoseconds in a second.
pub const S: u64 = 1_000_000_000;

/// Wall time at the beginning of every world: in the year 2033.
const BEGINNING: u64 = 2_000_000_000 * S;

thread_local! {
    static NOW: Cell<u64> = const { Cell::new(0) };
    static BOOTED: Cell<u64> = const { Cell::new(0) };
    static STEPPED: Cell<i64> = const { Cell::new(0) };
}

/// A world begins.
pub fn begin() {
    NOW.set(0);
    BOOTED.set(0);
    STEPPED.set(0);
}

/// Nanoseconds since the world began.
pub fn now() -> u64 {
    NOW.get()
}

/// Time goes on.
pub fn advance_to(ns: u64) {
    NOW.set(NOW.get().max(ns));
}

/// The host's memory begins anew.
pub fn boot() {
    BOOTED.set(NOW.get());
}

/// The wall clock steps by so many nanoseconds.
pub fn step_wall(ns: i64) {
    STEPPED.set(STEPPED.get() + ns);
}

fn wall() -> u64 {
    (BEGINNING + NOW.get()).saturating_add_signed(STEPPED.get())
}

/// The clocks, for a splitter.
pub fn of_host() -> Now {
    Now { boot_ns: NOW.get() - BOOTED.get() + S, wall_ns: wall() }
}

/// The clocks, for the appliance.
#[derive(Clone, Copy, Debug)]
pub struct ApplianceClock {
    began: u64,
}

impl ApplianceClock {
    /// Of a process that starts now.
    pub fn start() -> Self {
        Self { began: now() }
    }
}

impl Clock for ApplianceClock {
    fn elapsed_ms(&self) -> u64 {
        (now() - self.began) / MS
    }

    fn wall_ns(&self) -> u64 {
        wall()
    }
}
