//! What an operator may set of a group: how hosts are answered, what happens when the appliance is lost, how far the
//! journal may lag, how large the outbox is.
//!
//! Owns what the splitter's keys of `undisk group set` mean (`control::settings` lists them), which combinations make sense,
//! and the form that the catalog stores. Deliberately enforces nothing: `stream` does.

use control::error::ControlError;
use control::point::Nanos;
use control::settings::{self, bytes, one_of, seconds};
use control::size::Size;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

use crate::outbox::layout::{PAYLOAD_AREA, SLOTS};

/// Bytes of a group's outbox unless told otherwise.
pub const OUTBOX_BYTES: u64 = 64 << 20;
/// Bytes that the journal may lag in `bounded-lag` unless told otherwise.
pub const LAG_BYTES: u64 = 32 << 20;
/// Seconds that the journal may lag in `bounded-lag` unless told otherwise.
pub const LAG_SECONDS: u64 = 30;
/// Least bytes of lag: less would delay every write.
pub const LAG_BYTES_MIN: u64 = 1 << 20;
/// Longest lag, in seconds: a day.
pub const LAG_SECONDS_MAX: u64 = 86_400;

/// When a host is answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SplitMode {
    /// When the backing is done and the record is in the outbox; never waits for the journal.
    #[default]
    Async,
    /// As `Async`, but not while the journal lags by more than the policy's bytes or seconds.
    BoundedLag,
    /// When the backing is done and the record is durable in the journal.
    Sync,
}

/// What a `sync` group does when the appliance is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SyncLoss {
    /// Hosts are answered without the journal, and that is said.
    Degrade,
    /// Hosts wait until the journal is whole again.
    Stall,
}

/// How a group's hosts are answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// When.
    pub mode: SplitMode,
    /// What a lost appliance leads to in `sync`; `None`: never chosen. Always chosen when the mode is `sync`.
    pub sync_loss: Option<SyncLoss>,
    /// In `bounded-lag`: bytes of host data that are not durable yet, at most; at most half of the outbox.
    pub lag_bytes: u64,
    /// In `bounded-lag`: age of the oldest record that is not durable yet, at most, in seconds.
    pub lag_seconds: u64,
    /// Zeros that hosts write are recorded as punches, so that replicas give the space back.
    pub reclaim_zeros: bool,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            mode: SplitMode::Async,
            sync_loss: None,
            lag_bytes: LAG_BYTES,
            lag_seconds: LAG_SECONDS,
            reclaim_zeros: false,
        }
    }
}

impl Policy {
    /// What a lost appliance leads to; `stall` when nobody chose: it claims nothing.
    pub fn loss(&self) -> SyncLoss {
        self.sync_loss.unwrap_or(SyncLoss::Stall)
    }

    /// The greatest age of a record that is not durable.
    pub const fn lag_time(&self) -> Duration {
        Duration::from_secs(self.lag_seconds)
    }
}

impl fmt::Display for SplitMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Async => "async",
            Self::BoundedLag => "bounded-lag",
            Self::Sync => "sync",
        })
    }
}

impl fmt::Display for SyncLoss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Degrade => "degrade",
            Self::Stall => "stall",
        })
    }
}

impl fmt::Display for Policy {
    /// As it is set: `mode=bounded-lag lag-bytes=32.0 MiB lag-seconds=30s`; only what the mode looks at.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mode={}", self.mode)?;
        match self.mode {
            SplitMode::Async => {}
            SplitMode::BoundedLag => {
                let span = Nanos(self.lag_seconds.saturating_mul(1_000_000_000));
                write!(f, " lag-bytes={} lag-seconds={span}", Size(self.lag_bytes))?;
            }
            SplitMode::Sync => write!(f, " sync-loss={}", self.loss())?,
        }
        if self.reclaim_zeros { f.write_str(" reclaim-zeros=on") } else { Ok(()) }
    }
}

/// Everything that `group set` can change on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How hosts are answered: in force at once.
    pub policy: Policy,
    /// Bytes of the outbox: in force when the group is started next.
    pub outbox_bytes: u64,
}

impl Settings {
    /// These settings with every `KEY=VALUE` applied, or none of them. Errors are of kind `Usage`, one line.
    pub fn with(&self, assignments: &[String]) -> Result<Self, ControlError> {
        if assignments.is_empty() {
            return Err(settings::nothing());
        }
        let mut changed = *self;
        for assignment in assignments {
            let (key, value) = settings::split(assignment)?;
            changed.assign(key, value)?;
        }
        changed.check()?;
        Ok(changed)
    }

    fn assign(&mut self, key: &str, value: &str) -> Result<(), ControlError> {
        match key {
            "mode" => {
                self.policy.mode = one_of(
                    key,
                    value,
                    &[("async", SplitMode::Async), ("bounded-lag", SplitMode::BoundedLag), ("sync", SplitMode::Sync)],
                )?;
            }
            "sync-loss" => {
                self.policy.sync_loss =
                    Some(one_of(key, value, &[("degrade", SyncLoss::Degrade), ("stall", SyncLoss::Stall)])?);
            }
            "lag-bytes" => self.policy.lag_bytes = bytes(key, value, LAG_BYTES_MIN, outbox_bytes_max() / 2)?,
            "lag-seconds" => self.policy.lag_seconds = seconds(key, value, LAG_SECONDS_MAX, "1d")?,
            "reclaim-zeros" => self.policy.reclaim_zeros = one_of(key, value, &[("off", false), ("on", true)])?,
            "outbox" => {
                let asked = bytes(key, value, outbox_bytes_min(), outbox_bytes_max())?;
                // An outbox is made of whole slots.
                self.outbox_bytes = asked.next_multiple_of(PAYLOAD_AREA as u64);
            }
            _ => return Err(settings::unknown(key)),
        }
        Ok(())
    }

    /// Whether it makes sense as a whole.
    fn check(&self) -> Result<(), ControlError> {
        match self.policy.mode {
            SplitMode::BoundedLag if self.policy.lag_bytes > self.outbox_bytes / 2 => {
                Err(ControlError::usage(format!(
                    "lag-bytes={} is more than half of the outbox of {}: the outbox would be full before hosts are delayed",
                    Size(self.policy.lag_bytes),
                    Size(self.outbox_bytes)
                ))
                .hint("choose fewer lag-bytes, or set a larger outbox with it"))
            }
            SplitMode::Sync if self.policy.sync_loss.is_none() => {
                Err(ControlError::usage(
                    "mode=sync needs sync-loss to be chosen: what happens to hosts when the appliance is lost",
                )
                .hint("add sync-loss=degrade (hosts go on, the history gets a gap) or sync-loss=stall (hosts wait)"))
            }
            SplitMode::Async | SplitMode::BoundedLag | SplitMode::Sync => Ok(()),
        }
    }
}

fn outbox_bytes_min() -> u64 {
    (*SLOTS.start() * PAYLOAD_AREA) as u64
}

fn outbox_bytes_max() -> u64 {
    (*SLOTS.end() * PAYLOAD_AREA) as u64
}

#[cfg(test)]
mod tests;
