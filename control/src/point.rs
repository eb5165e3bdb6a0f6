//! How a point is spelled: `latest`, `oldest`, `#BOOKMARK`, `seq:N`, `-5m`, a date and time, `@EPOCH`.
//!
//! Owns the spelling, both ways, and `GROUP@POINT`. Deliberately does not know which points exist: the journal does.

mod duration;

use crate::error::ControlError;
use crate::name::{Name, Named};
use crate::time::local_zone;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use record::point::Point;
use record::position::{Label, Position};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub use duration::{Nanos, parse_duration};

#[cfg(test)]
mod tests;

/// A moment, as asked for; the journal turns it into a position.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "point", rename_all = "kebab-case")]
pub enum PointSpec {
    /// The newest position that can be opened.
    Latest,
    /// The oldest position that can be opened.
    Oldest,
    /// A bookmark.
    Bookmark {
        /// Its name.
        name: String,
    },
    /// Exactly this position.
    Seq {
        /// The position.
        position: u64,
    },
    /// The last position not after this time.
    Time {
        /// Nanoseconds since 1970 UTC.
        nanos: u64,
    },
    /// So far back from the newest label.
    Ago {
        /// Nanoseconds.
        nanos: u64,
    },
}

/// All spellings, for messages.
const SPELLINGS: &str =
    "a point is latest, oldest, #BOOKMARK, seq:N, -5m, 2026-11-22T10:00[:SS[.frac]][Z|+hh:mm] or @EPOCH";

const NANOS_PER_SECOND: u64 = 1_000_000_000;

impl PointSpec {
    /// Reads a point; a date and time without a zone is taken in `zone`. Errors are of kind `Usage`.
    pub fn parse_in(text: &str, zone: &TimeZone) -> Result<Self, ControlError> {
        let Some(first) = text.chars().next() else {
            return Err(ControlError::usage("the point is empty").hint(SPELLINGS));
        };
        if let Some(name) = text.strip_prefix('#') {
            return Ok(Self::Bookmark { name: Name::parse(Named::Bookmark, name)?.into() });
        }
        if let Some(position) = text.strip_prefix("seq:") {
            let position = whole_number(position)
                .ok_or_else(|| ControlError::usage(format!("{text:?} is not a point: a position is a whole number")))?;
            return Ok(Self::Seq { position });
        }
        if let Some(back) = text.strip_prefix('-') {
            return Ok(Self::Ago { nanos: parse_duration(back)? });
        }
        if let Some(epoch) = text.strip_prefix('@') {
            let nanos = epoch_nanos(epoch)
                .map_err(|why| ControlError::usage(format!("{text:?} is not a point: {why}")).hint(SPELLINGS))?;
            return Ok(Self::Time { nanos });
        }
        match text {
            "latest" => Ok(Self::Latest),
            "oldest" => Ok(Self::Oldest),
            _ if first.is_ascii_digit() => Ok(Self::Time { nanos: parse_time(text, zone)? }),
            _ => Err(ControlError::usage(format!("{text:?} is not a point")).hint(SPELLINGS)),
        }
    }
}

impl FromStr for PointSpec {
    type Err = ControlError;

    /// As [`PointSpec::parse_in`], in the zone of this machine.
    fn from_str(text: &str) -> Result<Self, ControlError> {
        Self::parse_in(text, &local_zone())
    }
}

/// The canonical spelling; reading it again gives the same point. Times are in UTC, to the nanosecond.
impl fmt::Display for PointSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Latest => f.write_str("latest"),
            Self::Oldest => f.write_str("oldest"),
            Self::Bookmark { name } => write!(f, "#{name}"),
            Self::Seq { position } => write!(f, "seq:{position}"),
            Self::Time { nanos } => f.write_str(&crate::time::rfc3339(*nanos)),
            Self::Ago { nanos } => write!(f, "-{}", Nanos(*nanos)),
        }
    }
}

impl From<PointSpec> for Point {
    fn from(spec: PointSpec) -> Self {
        match spec {
            PointSpec::Latest => Self::Latest,
            PointSpec::Oldest => Self::Oldest,
            PointSpec::Bookmark { name } => Self::Bookmark(name),
            PointSpec::Seq { position } => Self::Seq(Position::new(position)),
            PointSpec::Time { nanos } => Self::Time(Label::from_nanos(nanos)),
            PointSpec::Ago { nanos } => Self::Ago(nanos),
        }
    }
}

impl From<Point> for PointSpec {
    fn from(point: Point) -> Self {
        match point {
            Point::Latest => Self::Latest,
            Point::Oldest => Self::Oldest,
            Point::Bookmark(name) => Self::Bookmark { name },
            Point::Seq(position) => Self::Seq { position: position.get() },
            Point::Time(label) => Self::Time { nanos: label.nanos() },
            Point::Ago(nanos) => Self::Ago { nanos },
        }
    }
}

/// `GROUP@POINT`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupPoint {
    /// The group.
    pub group: Name,
    /// The moment.
    pub point: PointSpec,
}

impl GroupPoint {
    /// Reads `GROUP@POINT`, split at the first `@` (so `G@@1795341600` is an epoch time); a date and time without a
    /// zone is taken in `zone`. Errors are of kind `Usage`.
    pub fn parse_in(text: &str, zone: &TimeZone) -> Result<Self, ControlError> {
        let Some((group, point)) = text.split_once('@') else {
            return Err(ControlError::usage(format!(
                "{text:?} names no point: write GROUP@POINT, as in {text}@latest"
            ))
            .hint(SPELLINGS));
        };
        Ok(Self { group: Name::parse(Named::Group, group)?, point: PointSpec::parse_in(point, zone)? })
    }
}

impl FromStr for GroupPoint {
    type Err = ControlError;

    fn from_str(text: &str) -> Result<Self, ControlError> {
        Self::parse_in(text, &local_zone())
    }
}

impl fmt::Display for GroupPoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.group, self.point)
    }
}

/// A time to come, in nanoseconds since 1970 UTC: a date and time, `@EPOCH`, or a span from now on as in `30d`. Errors
/// are of kind `Usage`.
pub fn parse_until(text: &str) -> Result<u64, ControlError> {
    parse_until_in(text, &local_zone(), crate::time::now())
}

/// As [`parse_until`], in this zone, at this time.
pub fn parse_until_in(text: &str, zone: &TimeZone, now: u64) -> Result<u64, ControlError> {
    const UNTIL: &str = "a time is a span from now on as in 30d, 2027-01-31T10:00[:SS][Z|+hh:mm], or @EPOCH";
    let until = match text.strip_prefix('@') {
        Some(epoch) => epoch_nanos(epoch).map_err(str::to_owned),
        None if text.len() > 4 && text.as_bytes()[4] == b'-' => parse_time(text, zone).map_err(|error| {
            let (_, why) = error.message.split_once("is not a point: ").unwrap_or(("", &error.message));
            why.to_owned()
        }),
        None => parse_duration(text)
            .map(|span| now.saturating_add(span))
            .map_err(|_| "it is neither a span, a date nor @EPOCH".to_owned()),
    };
    let until = until.map_err(|why| ControlError::usage(format!("{text:?} is not a time: {why}")).hint(UNTIL))?;
    if until <= now {
        return Err(
            ControlError::usage(format!("{text:?} is over already: {}", crate::time::rfc3339(until))).hint(UNTIL)
        );
    }
    Ok(until)
}

/// Digits only: no sign, no blank, not empty.
fn whole_number(text: &str) -> Option<u64> {
    (!text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok()).flatten()
}

/// Digits behind a decimal point as nanoseconds.
fn fraction_nanos(digits: &str) -> Option<u64> {
    if digits.len() > 9 {
        return None;
    }
    let scale = 10u64.pow(9 - u32::try_from(digits.len()).ok()?);
    Some(whole_number(digits)? * scale)
}

/// `SECONDS[.fraction]` since 1970 UTC as nanoseconds.
fn epoch_nanos(text: &str) -> Result<u64, &'static str> {
    let (seconds, fraction) = match text.split_once('.') {
        Some((seconds, digits)) => {
            (seconds, fraction_nanos(digits).ok_or("a fraction of a second has one to nine digits")?)
        }
        None => (text, 0),
    };
    let seconds = whole_number(seconds).ok_or("an epoch time is @ and seconds since 1970")?;
    seconds
        .checked_mul(NANOS_PER_SECOND)
        .and_then(|n| n.checked_add(fraction))
        .ok_or("it lies beyond the year 2554, where times end here")
}

/// A date and time, with or without a zone, as nanoseconds since 1970 UTC.
fn parse_time(text: &str, zone: &TimeZone) -> Result<u64, ControlError> {
    let wrong = |why: &str| ControlError::usage(format!("{text:?} is not a point: {why}")).hint(SPELLINGS);
    if text.contains('[') {
        return Err(wrong("a zone is not given by its name: write the offset from UTC, as in 2026-11-22T10:00-05:00"));
    }
    let (local, offset_seconds) = split_offset(text).map_err(wrong)?;
    let (date, clock) =
        local.split_once(['T', 't', ' ']).ok_or_else(|| wrong("a date needs a time of day, as in 2026-11-22T10:00"))?;
    if let Some((_, digits)) = clock.split_once('.')
        && fraction_nanos(digits).is_none()
    {
        return Err(wrong("a fraction of a second has one to nine digits"));
    }
    if date.len() != 10 || clock.len() < 5 {
        return Err(wrong("a date is YYYY-MM-DD and a time of day is HH:MM or HH:MM:SS"));
    }
    let civil: DateTime = format!("{date}T{clock}").parse().map_err(|_| wrong("there is no such date and time"))?;
    let instant = match offset_seconds {
        Some(seconds) => {
            let offset = jiff::tz::Offset::from_seconds(seconds).map_err(|_| wrong("there is no such offset"))?;
            offset.to_timestamp(civil).map_err(|_| wrong("there is no such time"))?
        }
        None => local_instant(civil, zone).map_err(|why| {
            wrong(why).hint("write the offset from UTC as well, as in 2026-10-25T02:30+02:00 (or Z for UTC)")
        })?,
    };
    u64::try_from(instant.as_nanosecond()).map_err(|_| wrong("it lies before 1970 or beyond 2554"))
}

/// The one instant at which clocks of this zone show this time; none or two around a change of the clocks.
fn local_instant(civil: DateTime, zone: &TimeZone) -> Result<Timestamp, &'static str> {
    let ambiguous = zone.to_ambiguous_timestamp(civil);
    let why = match ambiguous.offset() {
        jiff::tz::AmbiguousOffset::Unambiguous { .. } => "there is no such time",
        jiff::tz::AmbiguousOffset::Gap { .. } => "local clocks were put forward over it, so it never was",
        jiff::tz::AmbiguousOffset::Fold { .. } => "local clocks were put back over it, so it was twice",
    };
    ambiguous.unambiguous().map_err(|_| why)
}

/// Splits `Z` or `+hh:mm` off the end; the offset in seconds east of UTC.
fn split_offset(text: &str) -> Result<(&str, Option<i32>), &'static str> {
    if let Some(local) = text.strip_suffix(['Z', 'z']) {
        return Ok((local, Some(0)));
    }
    // Signs within the first ten bytes are the date's own.
    let Some(at) = text.rfind(['+', '-']).filter(|at| *at > 10) else {
        return Ok((text, None));
    };
    let (local, offset) = text.split_at(at);
    let bad = "an offset is Z or +hh:mm";
    let (hours, minutes) = offset[1..].split_once(':').ok_or(bad)?;
    let two_digits = |part: &str| (part.len() == 2).then(|| whole_number(part)).flatten().ok_or(bad);
    let (hours, minutes) = (two_digits(hours)?, two_digits(minutes)?);
    if hours > 23 || minutes > 59 {
        return Err("there is no such offset");
    }
    let seconds = i32::try_from(hours * 3600 + minutes * 60).map_err(|_| bad)?;
    Ok((local, Some(if offset.starts_with('-') { -seconds } else { seconds })))
}
