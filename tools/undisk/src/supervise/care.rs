//! When to start a daemon again. Pure: no clock, no process.

use std::time::Duration;

#[cfg(test)]
mod tests;

/// A daemon that lived so long did not fail at starting: it is started again at once.
const SETTLED: Duration = Duration::from_secs(10);
/// The pause after the first short life; it doubles with each further one.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
/// Longest pause: hosts hang while their splitter is away.
const PAUSE_MAX: Duration = Duration::from_secs(2);

/// How a daemon ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With exit status 0: it was asked to stop, and that is to be respected.
    Asked,
    /// Otherwise.
    Died,
    /// It was adopted, so nobody told us.
    Unknown,
}

/// What happens to a daemon under care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// It ended after living so long.
    Ended {
        /// How.
        ending: Ending,
        /// How long it lived.
        lived: Duration,
    },
    /// Time passed. While `undisk down` is at work, nothing is started.
    Tick {
        /// Whether it is.
        down_at_work: bool,
    },
    /// `undisk up` wants everything to run.
    Poked,
    /// The supervisor was asked to stop.
    Stopping,
    /// The stop was refused.
    Resumed,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Start it; an `Ended` follows some day.
    Start,
    /// It would be started now, were `undisk down` not at work. Said once for each end of it.
    LeaveToDown,
    /// Nothing.
    Nothing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stance {
    Running,
    Resting {
        until: Duration,
    },
    /// As resting, its time come, and said so.
    LeftToDown,
    Stopped,
}

/// The care for one daemon.
#[derive(Clone, Copy, Debug)]
pub struct Care {
    stance: Stance,
    deaths: u32,
    stopping: bool,
}

impl Care {
    /// It does not run yet and is started at the next tick.
    pub fn new() -> Self {
        Self { stance: Stance::Resting { until: Duration::ZERO }, deaths: 0, stopping: false }
    }

    /// Whether it does not run and is not meant to.
    pub fn is_stopped(&self) -> bool {
        self.stance == Stance::Stopped
    }

    /// Short lives in a row.
    pub fn deaths(&self) -> u32 {
        self.deaths
    }

    /// Takes an event at this time (since any fixed moment).
    pub fn step(&mut self, now: Duration, event: Event) -> Action {
        match event {
            Event::Ended { ending: Ending::Asked, .. } => self.stance = Stance::Stopped,
            Event::Ended { ending, lived } => self.died(now, ending, lived),
            Event::Tick { down_at_work } => return self.tick(now, down_at_work),
            Event::Poked => self.wake(now),
            Event::Stopping => {
                self.stopping = true;
                if self.stance != Stance::Running {
                    self.stance = Stance::Stopped;
                }
            }
            Event::Resumed => {
                self.stopping = false;
                self.wake(now);
            }
        }
        Action::Nothing
    }

    fn tick(&mut self, now: Duration, down_at_work: bool) -> Action {
        let due = match self.stance {
            Stance::Resting { until } => until <= now,
            Stance::LeftToDown => !down_at_work,
            Stance::Running | Stance::Stopped => false,
        };
        if !due {
            return Action::Nothing;
        }
        let (stance, action) =
            if down_at_work { (Stance::LeftToDown, Action::LeaveToDown) } else { (Stance::Running, Action::Start) };
        self.stance = stance;
        action
    }

    fn died(&mut self, now: Duration, ending: Ending, lived: Duration) {
        // Of an adopted one nobody knows how long it lived; that it was there to be adopted speaks for it.
        self.deaths = if lived >= SETTLED || ending == Ending::Unknown { 0 } else { self.deaths.saturating_add(1) };
        self.stance = if self.stopping {
            Stance::Stopped
        } else {
            Stance::Resting { until: now.saturating_add(pause(self.deaths)) }
        };
    }

    fn wake(&mut self, now: Duration) {
        self.deaths = 0;
        if self.stance != Stance::Running && !self.stopping {
            self.stance = Stance::Resting { until: now };
        }
    }
}

/// The pause after so many short lives in a row.
fn pause(deaths: u32) -> Duration {
    match deaths {
        0 => Duration::ZERO,
        n => PAUSE_FIRST.saturating_mul(1 << (n - 1).min(10)).min(PAUSE_MAX),
    }
}
