//! Times as they are printed: nanoseconds since 1970 UTC turned into text.
//!
//! Owns three spellings: exact (for `--json` and scripts, and read back), local (for people), compact (for names).
//! Reading what people type is [`crate::point`]'s.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::{env, fs};

#[cfg(test)]
mod tests;

/// The instant, or the last one that can be written when it lies beyond year 9999.
fn instant(nanos: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::MAX)
}

/// RFC 3339, UTC, always nine digits: `2026-11-22T10:00:00.123456789Z`.
pub fn rfc3339(nanos: u64) -> String {
    format!("{:.9}", instant(nanos))
}

/// Reads what [`rfc3339`] wrote.
pub fn read_rfc3339(text: &str) -> Option<u64> {
    text.parse::<Timestamp>().ok().and_then(|time| u64::try_from(time.as_nanosecond()).ok())
}

/// For people, in the local zone, to the millisecond, with the offset: `2026-11-22 11:00:00.123 +01:00`.
pub fn local(nanos: u64) -> String {
    in_zone(nanos, local_zone())
}

/// The zone that this machine's people live in. `TZ` goes first, then `/etc/localtime`, read as it is: looking it up by its
/// name would read all of the database of zones first, hundreds of files, in every command that prints or takes a time.
pub fn local_zone() -> TimeZone {
    let file = || fs::read("/etc/localtime").ok().filter(|_| env::var_os("TZ").is_none());
    let zone = file().and_then(|bytes| TimeZone::tzif("Local", &bytes).ok());
    zone.unwrap_or_else(TimeZone::system)
}

/// As [`local`], in this zone.
pub fn in_zone(nanos: u64, zone: TimeZone) -> String {
    instant(nanos).to_zoned(zone).strftime("%Y-%m-%d %H:%M:%S.%3f %:z").to_string()
}

/// For names, UTC, to the millisecond: `20261122T100000.123Z`.
pub fn compact(nanos: u64) -> String {
    instant(nanos).strftime("%Y%m%dT%H%M%S.%3fZ").to_string()
}

/// A span for people, no more exact than it is long: `90s`, `45 min`, `31 h`, `12 d`; whole days and hours as they are set.
pub fn span(seconds: u64) -> String {
    const TIMES: [(&str, u64, u64); 3] = [(" d", 86_400, 4 * 86_400), (" h", 3_600, 7_200), (" min", 60, 300)];
    TIMES
        .iter()
        .find(|(_, _, from)| seconds >= *from)
        .map_or_else(|| format!("{seconds} s"), |(unit, each, _)| format!("{}{unit}", (seconds + each / 2) / each))
}

/// The present, in nanoseconds since 1970 UTC.
pub fn now() -> u64 {
    u64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(0)
}
