//! When hosts begin and cease to feel the journal, as events.
//!
//! Owns how often that is told: a journal that is now behind and now not would fill the file with nothing else. Pure: the
//! moment and what is so are arguments.

use crate::clock::Now;
use control::events::EventKind;
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Between two events of the same kind.
const PAUSE: Duration = Duration::from_secs(60);

/// How hosts feel the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "each is felt by itself")]
pub struct Strain {
    /// `bounded-lag` delays them.
    pub delayed: bool,
    /// `sync-loss=stall` lets them wait.
    pub stalled: bool,
    /// `journal-full=block` lets them wait.
    pub full: bool,
    /// `sync-loss=degrade` answers them without the journal.
    pub degraded: bool,
}

/// What is to be told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Felt {
    /// Hosts are delayed.
    Delayed,
    /// Hosts wait.
    Stalled,
    /// Hosts wait for room.
    Full,
    /// Hosts are answered without the journal.
    Degraded,
}

impl Felt {
    /// The event of it, for a journal that is so far behind.
    pub fn told(self, behind: &str) -> (EventKind, String) {
        match self {
            Self::Delayed => (EventKind::HostDelayed, format!("hosts are delayed: the journal is {behind} behind")),
            Self::Stalled => {
                (EventKind::HostStalled, "hosts wait until the appliance is back and the history is whole".to_owned())
            }
            Self::Full => (
                EventKind::HostStalled,
                "hosts wait: the journal is full, and journal-full=block says so; undisk journal trim, or undisk group set".to_owned(),
            ),
            Self::Degraded => {
                (EventKind::SyncDegraded, format!("hosts are answered without the journal, which is {behind} behind"))
            }
        }
    }
}

/// What was told last.
#[derive(Clone, Copy, Debug, Default)]
pub struct StrainWatch {
    delayed: Option<Now>,
    stalled: Option<Now>,
    full: Option<Now>,
    degraded: Option<Now>,
}

impl StrainWatch {
    /// What is to be told now.
    pub fn look(&mut self, strain: Strain, now: Now) -> Vec<Felt> {
        let news = [
            (strain.delayed, &mut self.delayed, Felt::Delayed),
            (strain.stalled, &mut self.stalled, Felt::Stalled),
            (strain.full, &mut self.full, Felt::Full),
            (strain.degraded, &mut self.degraded, Felt::Degraded),
        ];
        let due = |told: Option<Now>| told.is_none_or(|told| now.since(told) >= PAUSE);
        let mut kinds = Vec::new();
        for (is_so, told, kind) in news {
            if is_so && due(*told) {
                *told = Some(now);
                kinds.push(kind);
            }
        }
        kinds
    }
}
