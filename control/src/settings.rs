//! The keys of `undisk group set`: which daemon each belongs to, and how its values are spelled.
//!
//! Owns the list, its one line, and the parsers that both daemons share. What a value means, and which combinations make
//! sense, each daemon decides for its own.

use crate::client::Daemon;
use crate::error::ControlError;
use crate::point::parse_duration;
use crate::size::{self, Size};

#[cfg(test)]
mod tests;

/// A key, with its values in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// As it is typed.
    pub name: &'static str,
    /// What may follow it.
    pub values: &'static str,
    /// Whose it is.
    pub owner: Daemon,
}

const fn key(owner: Daemon, name: &'static str, values: &'static str) -> Key {
    Key { name, values, owner }
}

/// All of them.
pub const KEYS: &[Key] = &[
    key(Daemon::Splitter, "mode", "async, bounded-lag or sync"),
    key(Daemon::Splitter, "sync-loss", "degrade or stall"),
    key(Daemon::Splitter, "lag-bytes", "a size, as in 32MiB"),
    key(Daemon::Splitter, "lag-seconds", "seconds, or a span as in 5m"),
    key(Daemon::Splitter, "outbox", "a size, as in 64MiB"),
    key(Daemon::Splitter, "reclaim-zeros", "off or on"),
    key(Daemon::Appliance, "window", "a span, as in 48h"),
    key(
        Daemon::Appliance,
        "keep",
        "the newest point of each span up to an age, as in minute:7d,hour:30d,day:365d, or none",
    ),
    key(Daemon::Appliance, "journal-limit", "a size, as in 500GiB, or none"),
    key(Daemon::Appliance, "journal-full", "shrink, stop or block"),
    key(Daemon::Appliance, "scrub", "a span of 1m or more, as in 7d, or none"),
    key(Daemon::Appliance, "distribution", "lazy or eager"),
    key(Daemon::Appliance, "undo-limit", "a size, as in 50GiB, or none"),
    key(Daemon::Appliance, "undo-full", "slow or shrink"),
    key(Daemon::Appliance, "punch-split", "a size, as in 4MiB"),
];

/// All keys in one line, for a hint.
pub fn known() -> String {
    let keys: Vec<_> = KEYS.iter().map(|key| format!("{} ({})", key.name, key.values)).collect();
    format!("settings are {}", keys.join("; "))
}

/// The two sides of `KEY=VALUE`.
pub fn split(assignment: &str) -> Result<(&str, &str), ControlError> {
    let (key, value) = assignment
        .split_once('=')
        .ok_or_else(|| ControlError::usage(format!("{assignment:?} is not KEY=VALUE")).hint(known()))?;
    Ok((key.trim(), value.trim()))
}

/// There is no key of this name.
pub fn unknown(key: &str) -> ControlError {
    ControlError::usage(format!("there is no setting {key:?}")).hint(known())
}

/// Nothing was given to be set.
pub fn nothing() -> ControlError {
    ControlError::usage("nothing to set: KEY=VALUE is missing").hint(known())
}

/// Whose setting this is.
pub fn owner(assignment: &str) -> Result<Daemon, ControlError> {
    let (key, _) = split(assignment)?;
    KEYS.iter().find(|known| known.name == key).map(|known| known.owner).ok_or_else(|| unknown(key))
}

/// One of several words.
pub fn one_of<T: Copy>(key: &str, value: &str, values: &[(&str, T)]) -> Result<T, ControlError> {
    values.iter().find(|(name, _)| *name == value).map(|(_, it)| *it).ok_or_else(|| {
        let names: Vec<_> = values.iter().map(|(name, _)| *name).collect();
        let (last, others) = names.split_last().unwrap_or((&"", &[]));
        ControlError::usage(format!("{key}={value}: {key} is {} or {last}", others.join(", ")))
    })
}

/// A size in these bounds.
pub fn bytes(key: &str, value: &str, min: u64, max: u64) -> Result<u64, ControlError> {
    let bytes = size::parse(value).map_err(|error| of_key(key, error))?;
    if (min..=max).contains(&bytes) {
        return Ok(bytes);
    }
    Err(ControlError::usage(format!("{key}={value}: it may be from {} to {}", Size(min), Size(max))))
}

/// Whole seconds, at least one: `90`, `90s`, `5m`. `longest` is `max` in words.
pub fn seconds(key: &str, value: &str, max: u64, longest: &str) -> Result<u64, ControlError> {
    let nanos = if !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit()) {
        parse_duration(&format!("{value}s"))
    } else {
        parse_duration(value)
    }
    .map_err(|error| of_key(key, error))?;
    let seconds = nanos / 1_000_000_000;
    if nanos % 1_000_000_000 != 0 || !(1..=max).contains(&seconds) {
        return Err(ControlError::usage(format!("{key}={value}: it may be from 1s to {longest}, in whole seconds")));
    }
    Ok(seconds)
}

fn of_key(key: &str, error: ControlError) -> ControlError {
    ControlError { message: format!("{key}: {}", error.message), ..error }
}
