//! Time labels: the group's hybrid logical clock (PROTOCOL R28).
//!
//! Owns the arithmetic from two clocks to a strictly rising label. A label follows the boot-time clock from an anchor
//! that is the wall time when the session opened; towards the wall clock it is slewed, never stepped. Pure: both
//! clocks are arguments. `of_host` reads the real ones.

use record::position::Label;
use std::cell::Cell;

/// The largest part of elapsed time by which a label's clock is slewed towards the wall clock: one in twenty.
const SLEW_DIVISOR: u64 = 20;

/// What two clocks say at one moment, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// `CLOCK_BOOTTIME`: never steps.
    pub boot_ns: u64,
    /// `CLOCK_REALTIME`: may step.
    pub wall_ns: u64,
}

impl Now {
    /// So much later.
    #[must_use]
    pub fn plus(self, span: std::time::Duration) -> Self {
        let nanos = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self { boot_ns: self.boot_ns.saturating_add(nanos), wall_ns: self.wall_ns.saturating_add(nanos) }
    }

    /// How long ago `earlier` was, by the clock that never steps.
    pub fn since(self, earlier: Self) -> std::time::Duration {
        std::time::Duration::from_nanos(self.boot_ns.saturating_sub(earlier.boot_ns))
    }
}

/// Where the present comes from: the host's clocks, or those of a simulated world.
pub type Source = fn() -> Now;

/// For how long the wall clock is taken to run as the other one does: half of what is said of it, a millisecond. To read it
/// for each record would be half of what a label costs.
const WALL_FOR_NS: u64 = 500_000;

/// When a thread reads the clocks again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reads {
    /// Whenever it is asked.
    Always,
    /// When it is asked first in this turn.
    Once,
    /// It has in this turn.
    Has,
}

thread_local! {
    /// The clock that never steps, and the wall clock, when this thread last read the latter.
    static WALL: Cell<(u64, u64)> = const { Cell::new((0, 0)) };
    /// What it was told last.
    static READ: Cell<Now> = const { Cell::new(Now { boot_ns: 0, wall_ns: 0 }) };
    static READS: Cell<Reads> = const { Cell::new(Reads::Always) };
}

/// This thread works in turns, each on what has come in before it, and a new one begins: until the next, [`of_host`] answers with
/// what it said first. So a request of a turn counts as taken after it came in and not after it was answered, as ever; only
/// where in the turn is not told: a turn copies and checksums what came in, which for large writes takes milliseconds.
pub fn new_turn() {
    READS.set(Reads::Once);
}

/// The clocks of this host, now. That the wall clock was set shows within half a millisecond, to a thread that works in turns in the
/// turn behind that.
pub fn of_host() -> Now {
    match READS.get() {
        Reads::Has => return READ.get(),
        Reads::Once => READS.set(Reads::Has),
        Reads::Always => {}
    }
    let nanos = |clock: nix::time::ClockId| {
        // Both clocks exist since Linux 2.6.39; there is no error that a caller could act on.
        clock.now().map_or(0, |t| {
            u64::try_from(t.tv_sec()).unwrap_or(0) * 1_000_000_000 + u64::try_from(t.tv_nsec()).unwrap_or(0)
        })
    };
    let (boot_ns, (wall_boot_ns, wall_ns)) = (nanos(nix::time::ClockId::CLOCK_BOOTTIME), WALL.get());
    let since = boot_ns.saturating_sub(wall_boot_ns);
    let wall_ns = if since < WALL_FOR_NS && wall_ns > 0 {
        wall_ns + since
    } else {
        let wall_ns = nanos(nix::time::ClockId::CLOCK_REALTIME);
        WALL.set((boot_ns, wall_ns));
        wall_ns
    };
    let now = Now { boot_ns, wall_ns };
    READ.set(now);
    now
}

/// The clock of one group.
#[derive(Clone, Copy, Debug)]
pub struct LabelClock {
    boot_ns: u64,
    clock_ns: u64,
    last: Label,
}

impl LabelClock {
    /// A clock anchored at this moment, whose labels lie above `largest`, the newest label known.
    pub fn new(now: Now, largest: Label) -> Self {
        Self { boot_ns: now.boot_ns, clock_ns: now.wall_ns, last: largest }
    }

    /// Takes note of a label that another stream gave out: later ones lie above it.
    pub fn raise(&mut self, label: Label) {
        self.last = self.last.max(label);
    }

    /// The newest label given out or taken note of.
    pub fn newest(&self) -> Label {
        self.last
    }

    /// The label of a record taken now, and the wall clock minus it in milliseconds.
    pub fn take(&mut self, now: Now) -> (Label, i32) {
        let elapsed = now.boot_ns.saturating_sub(self.boot_ns);
        self.boot_ns = self.boot_ns.max(now.boot_ns);
        self.clock_ns += elapsed;
        let most = elapsed / SLEW_DIVISOR;
        if now.wall_ns >= self.clock_ns {
            self.clock_ns += (now.wall_ns - self.clock_ns).min(most);
        } else {
            self.clock_ns -= (self.clock_ns - now.wall_ns).min(most);
        }
        self.last = self.last.advance(Label::from_nanos(self.clock_ns));
        let millis = |nanos: u64| i32::try_from(nanos / 1_000_000).unwrap_or(i32::MAX);
        let (wall, label) = (now.wall_ns, self.last.nanos());
        (self.last, if wall >= label { millis(wall - label) } else { -millis(label - wall) })
    }
}

#[cfg(test)]
mod tests;
