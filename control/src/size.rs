//! Sizes as people write and read them.
//!
//! Owns the spelling: `10G` is 10 GiB whatever the case, as lvm has it; `10GB`, written just so, is 10 times 10^9; no
//! suffix means bytes.

use crate::error::ControlError;
use std::fmt;

#[cfg(test)]
mod tests;

/// Binary units from the largest: letter, bytes.
const UNITS: [(char, u64); 6] =
    [('E', 1 << 60), ('P', 1 << 50), ('T', 1 << 40), ('G', 1 << 30), ('M', 1 << 20), ('K', 1 << 10)];

/// Reads a size in bytes: `4096`, `512K`, `1.5G`, `10GiB`, `10GB`. Refuses what is not a whole number of bytes, more
/// than 2^64-1, and the ambiguous `10gb`. Errors are of kind `Usage`.
pub fn parse(text: &str) -> Result<u64, ControlError> {
    let wrong = |why: &str| {
        ControlError::usage(format!("{text:?} is not a size: {why}"))
            .hint("a size is bytes, or a number with K M G T P (or KiB, MiB, ...: powers of 1024), or KB MB GB TB PB (powers of 1000)")
    };
    let split = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || number.ends_with('.') || fraction.contains('.') {
        return Err(wrong(if text.is_empty() { "it is empty" } else { "it does not start with a number" }));
    }
    let unit = unit_bytes(suffix.trim_start()).map_err(wrong)?;
    let too_large = || wrong("it is larger than 16 EiB");
    let whole: u128 = whole.parse().map_err(|_| too_large())?;
    // At most 19 digits behind the point, so that digits * unit stays far below 2^128.
    if fraction.len() > 19 {
        return Err(wrong("too many digits behind the point"));
    }
    let (digits, scale) = match fraction {
        "" => (0, 1),
        some => (some.parse::<u128>().map_err(|_| too_large())?, 10u128.pow(u32::try_from(some.len()).unwrap_or(19))),
    };
    let part = digits * u128::from(unit);
    if part % scale != 0 {
        return Err(wrong("it is not a whole number of bytes"));
    }
    whole
        .checked_mul(u128::from(unit))
        .and_then(|bytes| bytes.checked_add(part / scale))
        .and_then(|bytes| u64::try_from(bytes).ok())
        .ok_or_else(too_large)
}

/// Bytes of a unit as written.
fn unit_bytes(suffix: &str) -> Result<u64, &'static str> {
    let mut letters = suffix.chars();
    let Some(first) = letters.next() else { return Ok(1) };
    let rest = letters.as_str();
    if first.eq_ignore_ascii_case(&'b') && rest.is_empty() {
        return Ok(1);
    }
    let place = UNITS.iter().position(|(letter, _)| first.eq_ignore_ascii_case(letter)).ok_or("unknown unit")?;
    let (_, binary) = UNITS[place];
    if rest.is_empty() || rest.eq_ignore_ascii_case("i") || rest.eq_ignore_ascii_case("ib") {
        return Ok(binary);
    }
    if !rest.eq_ignore_ascii_case("b") {
        return Err("unknown unit");
    }
    let decimal_as_written = first.is_ascii_uppercase() || first == 'k';
    if rest == "B" && decimal_as_written {
        return Ok(1000u64.pow(u32::try_from(UNITS.len() - place).unwrap_or(0)));
    }
    Err("GB (1000^3) or GiB (1024^3)? Write it out")
}

/// A size for people: `10.0 GiB`, `512 B`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (letter, unit) in UNITS {
            if self.0 >= unit {
                // Tenths in integers, rounded to nearest: a float would print 16 EiB - 1 as 16.0 by luck only.
                let tenths = (u128::from(self.0) * 10 + u128::from(unit) / 2) / u128::from(unit);
                return f.pad(&format!("{}.{} {letter}iB", tenths / 10, tenths % 10));
            }
        }
        f.pad(&format!("{} B", self.0))
    }
}
