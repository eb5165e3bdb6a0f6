//! What an operator may set of what the appliance keeps of a group: how much history, what of the older, in how much room,
//! and what when these do not agree.
//!
//! Owns what the appliance's keys of `undisk group set` mean (`control::settings` lists them), and the form that the
//! catalog stores. Deliberately enforces nothing: `group/retention` does.

use control::answer::kept::RetentionPolicy;
use control::error::ControlError;
use control::settings::{self, bytes, one_of, seconds};
use control::size::Size;
use journal::FollowBounds;
use journal::retention::{Grid, Limits, WhenFull};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

pub mod keep;
#[cfg(test)]
mod tests;

/// The window unless told otherwise: 48 hours.
pub const WINDOW_SECONDS: u64 = 48 * 3600;
/// The longest: ten years.
pub const WINDOW_SECONDS_MAX: u64 = 3650 * 86_400;
/// How often all of the journal is read again unless told otherwise: 7 days.
pub const SCRUB_SECONDS: u64 = 7 * 86_400;
/// The shortest.
pub const SCRUB_SECONDS_MIN: u64 = 60;
/// The least bytes that a journal may be told to make do with.
pub const LIMIT_BYTES_MIN: u64 = 4 << 20;
/// The pieces in which a discard is captured and applied: the smallest, and the largest.
pub const PUNCH_SPLIT_MIN: u64 = 64 << 10;
pub const PUNCH_SPLIT_MAX: u64 = 64 << 20;
/// The least bytes of what replicas were before that one may be told to make do with: several pieces.
pub const UNDO_LIMIT_MIN: u64 = 16 << 20;
/// Segments for which a limit must have room: the two newest, which stay, the next, and one that goes.
pub const LIMIT_SEGMENTS_MIN: u64 = 4;

/// What happens when the window does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JournalFull {
    /// The oldest points go early: hosts never wait, and what is written now is kept.
    #[default]
    Shrink,
    /// The journal takes nothing more: the history stays, hosts go on, a gap begins.
    Stop,
    /// The journal takes nothing more, and hosts wait: the history stays, and gets no gap.
    Block,
}

/// How far the replicas go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Distribution {
    /// To the oldest point.
    #[default]
    Lazy,
    /// To the newest: they are plain disks all the time.
    Eager,
}

/// What happens when what replicas were before takes more than it may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum UndoFull {
    /// The replicas wait until there is room again.
    #[default]
    Slow,
    /// The oldest points go early.
    Shrink,
}

/// What is kept of a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Policy {
    /// Every write of so many seconds is a point.
    pub window_seconds: u64,
    /// Which points stay when they are older.
    #[serde(with = "keep")]
    pub keep: Grid,
    /// The most bytes that the journal may take.
    pub journal_limit: Option<u64>,
    /// What happens when the window does not fit.
    pub journal_full: JournalFull,
    /// All of the journal is read again in so many seconds, to find what has rotted; `None`: never.
    pub scrub_seconds: Option<u64>,
    /// How far the replicas go.
    pub distribution: Distribution,
    /// The most bytes that may be held of what replicas were before.
    pub undo_limit: Option<u64>,
    /// What happens when that is more.
    pub undo_full: UndoFull,
    /// A discard is captured and applied in pieces of so many bytes.
    pub punch_split: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            window_seconds: WINDOW_SECONDS,
            keep: Grid::NONE,
            journal_limit: None,
            journal_full: JournalFull::default(),
            scrub_seconds: Some(SCRUB_SECONDS),
            distribution: Distribution::default(),
            undo_limit: None,
            undo_full: UndoFull::default(),
            punch_split: FollowBounds::PUNCH_SPLIT,
        }
    }
}

impl Policy {
    /// This policy with every `KEY=VALUE` applied, or none of them. `segment_bytes` is by how much the journal grows at
    /// once. Errors are of kind `Usage`, one line.
    pub fn with(&self, assignments: &[String], segment_bytes: u64) -> Result<Self, ControlError> {
        if assignments.is_empty() {
            return Err(settings::nothing());
        }
        let mut changed = *self;
        for assignment in assignments {
            let (key, value) = settings::split(assignment)?;
            match key {
                "window" => changed.window_seconds = seconds(key, value, WINDOW_SECONDS_MAX, "3650d")?,
                "keep" => changed.keep = keep::parse(key, value)?,
                "journal-limit" => changed.journal_limit = limit(key, value, segment_bytes)?,
                "journal-full" => {
                    changed.journal_full = one_of(
                        key,
                        value,
                        &[("shrink", JournalFull::Shrink), ("stop", JournalFull::Stop), ("block", JournalFull::Block)],
                    )?;
                }
                "scrub" => changed.scrub_seconds = scrub(key, value)?,
                "distribution" => {
                    changed.distribution =
                        one_of(key, value, &[("lazy", Distribution::Lazy), ("eager", Distribution::Eager)])?;
                }
                "undo-limit" => changed.undo_limit = undo_limit(key, value)?,
                "punch-split" => {
                    changed.punch_split = bytes(key, value, PUNCH_SPLIT_MIN, PUNCH_SPLIT_MAX)?.next_multiple_of(4096);
                }
                "undo-full" => {
                    changed.undo_full = one_of(key, value, &[("slow", UndoFull::Slow), ("shrink", UndoFull::Shrink)])?;
                }
                _ => return Err(settings::unknown(key)),
            }
        }
        Ok(changed)
    }

    /// As the planner takes it.
    pub fn limits(&self) -> Limits {
        Limits {
            window_ns: self.window_seconds.saturating_mul(1_000_000_000),
            bytes: self.journal_limit,
            full: match self.journal_full {
                JournalFull::Shrink => WhenFull::Shrink,
                JournalFull::Stop => WhenFull::Stop,
                JournalFull::Block => WhenFull::Block,
            },
        }
    }

    /// How often all of the journal is read again.
    pub fn scrub(&self) -> Option<Duration> {
        self.scrub_seconds.map(Duration::from_secs)
    }

    /// As it is told.
    pub fn answer(&self) -> RetentionPolicy {
        RetentionPolicy {
            window_seconds: self.window_seconds,
            keep: keep::answer(&self.keep),
            journal_limit: self.journal_limit,
            journal_full: self.journal_full.to_string(),
            scrub_seconds: self.scrub_seconds,
            distribution: self.distribution.to_string(),
            undo_limit: self.undo_limit,
            undo_full: self.undo_full.to_string(),
            punch_split: self.punch_split,
        }
    }
}

impl fmt::Display for JournalFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Shrink => "shrink",
            Self::Stop => "stop",
            Self::Block => "block",
        })
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lazy => "lazy",
            Self::Eager => "eager",
        })
    }
}

impl fmt::Display for UndoFull {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Slow => "slow",
            Self::Shrink => "shrink",
        })
    }
}

impl fmt::Display for Policy {
    /// `window=48h keep=none journal-limit=none journal-full=shrink scrub=7d distribution=lazy undo-limit=none undo-full=slow
    /// punch-split=4.0 MiB`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: Option<u64>| bytes.map_or_else(|| "none".to_owned(), |bytes| Size(bytes).to_string());
        let (limit, undo) = (size(self.journal_limit), size(self.undo_limit));
        let (window, keep) = (exact(self.window_seconds), keep::text(&self.keep));
        let scrub = self.scrub_seconds.map_or_else(|| "none".to_owned(), exact);
        write!(
            f,
            "window={window} keep={keep} journal-limit={limit} journal-full={} scrub={scrub}",
            self.journal_full
        )?;
        write!(f, " distribution={} undo-limit={undo} undo-full={}", self.distribution, self.undo_full)?;
        write!(f, " punch-split={}", Size(self.punch_split))
    }
}

/// As people set it: `48h`, `7d`.
fn exact(seconds: u64) -> String {
    match seconds {
        days if days % 86_400 == 0 && days >= 4 * 86_400 => format!("{}d", days / 86_400),
        hours if hours % 3600 == 0 => format!("{}h", hours / 3600),
        minutes if minutes % 60 == 0 => format!("{}m", minutes / 60),
        seconds => format!("{seconds}s"),
    }
}

fn scrub(key: &str, value: &str) -> Result<Option<u64>, ControlError> {
    if value == "none" {
        return Ok(None);
    }
    let every = seconds(key, value, WINDOW_SECONDS_MAX, "3650d")?;
    if every < SCRUB_SECONDS_MIN {
        return Err(ControlError::usage(format!("{key}={value}: it may be from 1m to 3650d, or none")));
    }
    Ok(Some(every))
}

fn undo_limit(key: &str, value: &str) -> Result<Option<u64>, ControlError> {
    if value == "none" { Ok(None) } else { bytes(key, value, UNDO_LIMIT_MIN, u64::MAX).map(Some) }
}

fn limit(key: &str, value: &str, segment_bytes: u64) -> Result<Option<u64>, ControlError> {
    if value == "none" {
        return Ok(None);
    }
    let least = (LIMIT_SEGMENTS_MIN * segment_bytes).max(LIMIT_BYTES_MIN);
    bytes(key, value, least, u64::MAX).map(Some)
}
