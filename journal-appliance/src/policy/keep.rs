//! The thinning grid as people write it, and as the catalog stores it: `minute:7d,hour:30d,day:365d`, or `none`.
//!
//! Owns the spelling. Which grids there are, `journal::retention` says.

use control::answer::kept::GridLevel;
use control::error::ControlError;
use control::settings::seconds;
use journal::retention::{AGE_SECONDS_MAX, Grid, Span};
use serde::{Deserialize, Deserializer, Serializer, de::Error};

/// The grid of this text. Errors are of kind `Usage`, one line.
pub fn parse(key: &str, text: &str) -> Result<Grid, ControlError> {
    let odd = |why: &dyn std::fmt::Display| ControlError::usage(format!("{key}={text}: {why}"));
    if text == "none" {
        return Ok(Grid::NONE);
    }
    let mut ages = [None; 3];
    let mut next = 0;
    for level in text.split(',').map(str::trim) {
        let Some((word, age)) = level.split_once(':') else {
            return Err(odd(&format!("{level:?} is not LEVEL:AGE, as in hour:30d")));
        };
        let Some(at) = Span::ALL.iter().position(|span| span.word() == word) else {
            return Err(odd(&format!("there is no level {word:?}, only minute, hour and day")));
        };
        if at < next {
            return Err(odd(&"each level may be given once: minute first, then hour, then day"));
        }
        next = at + 1;
        let age = seconds(word, age, AGE_SECONDS_MAX.into(), "3650d").map_err(|error| odd(&error.message))?;
        ages[at] = u32::try_from(age).ok();
    }
    Grid::new(ages).map_err(|error| odd(&error))
}

/// As it is set.
pub fn text(grid: &Grid) -> String {
    let levels: Vec<_> =
        grid.levels().map(|(span, age)| format!("{}:{}", span.word(), super::exact(u64::from(age)))).collect();
    if levels.is_empty() { "none".to_owned() } else { levels.join(",") }
}

/// As it is told.
pub fn answer(grid: &Grid) -> Vec<GridLevel> {
    let level = |(span, age): (Span, u32)| GridLevel { span: span.word().to_owned(), seconds: age.into() };
    grid.levels().map(level).collect()
}

pub(super) fn serialize<S: Serializer>(grid: &Grid, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&text(grid))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Grid, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse("keep", &text).map_err(|error| D::Error::custom(error.message))
}
