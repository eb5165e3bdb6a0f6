//! Spans of time, spelled as systemd does: `5m`, `1h30m`, `2d 12h`, `250ms`.
//!
//! Owns the units. `m` is minutes, as in systemd; borg and restic users write it for months, so months and years are
//! refused with a word about it.

use crate::error::ControlError;
use std::fmt;

/// Units: spellings, nanoseconds. The first spelling is the canonical one.
const UNITS: [(&[&str], u64); 8] = [
    (&["w", "week", "weeks"], 7 * 86_400 * 1_000_000_000),
    (&["d", "day", "days"], 86_400 * 1_000_000_000),
    (&["h", "hr", "hour", "hours"], 3_600 * 1_000_000_000),
    (&["m", "min", "minute", "minutes"], 60 * 1_000_000_000),
    (&["s", "sec", "second", "seconds"], 1_000_000_000),
    (&["ms", "msec"], 1_000_000),
    (&["us", "usec", "µs"], 1_000),
    (&["ns", "nsec"], 1),
];

/// Reads a span of time as nanoseconds: numbers with units, added up, blanks allowed between them. Every number has a
/// unit. Errors are of kind `Usage`.
pub fn parse_duration(text: &str) -> Result<u64, ControlError> {
    let wrong = |why: String| {
        ControlError::usage(format!("{text:?} is not a span of time: {why}"))
            .hint("a span is numbers with ms, s, m (minutes), h, d or w, as in 1h30m")
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(wrong("it is empty".into()));
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let number_end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_end);
        let after = after.trim_start();
        let unit_end = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        let nanos_each = unit_nanos(unit).map_err(wrong)?;
        let nanos = times(number, nanos_each).ok_or_else(|| wrong(format!("{number:?} is not a number of {unit}")))?;
        total = total.checked_add(nanos).ok_or_else(|| wrong("it is longer than 584 years".into()))?;
        rest = after.trim_start();
    }
    Ok(total)
}

/// Nanoseconds of a unit as written.
fn unit_nanos(unit: &str) -> Result<u64, String> {
    if let Some((_, nanos)) = UNITS.iter().find(|(spellings, _)| spellings.contains(&unit)) {
        return Ok(*nanos);
    }
    Err(match unit {
        "" => "a number has no unit".into(),
        "M" | "mo" | "month" | "months" => {
            format!("{unit:?} would be months, which have no fixed length; m is minutes here, days are d, weeks are w")
        }
        "y" | "year" | "years" => format!("{unit:?} has no fixed length; days are d, weeks are w"),
        _ => format!("{unit:?} is not a unit"),
    })
}

/// A decimal number times a unit, exactly; `None` when it is no number, too large, or not whole nanoseconds.
fn times(number: &str, nanos_each: u64) -> Option<u64> {
    let (whole, fraction) = match number.split_once('.') {
        Some((whole, fraction)) => (whole, Some(fraction)),
        None => (number, None),
    };
    let whole = super::whole_number(whole)?.checked_mul(nanos_each)?;
    let Some(fraction) = fraction else { return Some(whole) };
    if fraction.len() > 15 {
        return None;
    }
    let part = u128::from(super::whole_number(fraction)?) * u128::from(nanos_each);
    let scale = 10u128.pow(u32::try_from(fraction.len()).ok()?);
    (part % scale == 0).then_some(())?;
    whole.checked_add(u64::try_from(part / scale).ok()?)
}

/// A span in nanoseconds; displays canonically (`1d2h3m4s5ms`), and reading that gives the same span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Nanos(pub u64);

impl fmt::Display for Nanos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        if rest == 0 {
            return f.write_str("0s");
        }
        // Weeks are read, never written: nobody counts a fortnight in them.
        for (spellings, nanos) in &UNITS[1..] {
            let count = rest / nanos;
            if count > 0 {
                write!(f, "{count}{}", spellings[0])?;
            }
            rest %= nanos;
        }
        Ok(())
    }
}
