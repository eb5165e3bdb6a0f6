//! What the verbs print with: lines, JSON, times, progress; and errors turned into exit statuses.

use control::error::{ControlError, Kind};
use journal::{JournalError, PointError};
use serde_json::{Value, json};
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Where a verb prints.
pub type Out<'a> = &'a mut dyn Write;

/// Prints a line.
pub fn line(out: Out<'_>, text: impl std::fmt::Display) -> Result<(), ControlError> {
    writeln!(out, "{text}").map_err(|error| failed(&error))
}

/// Standard output cannot be written to.
pub fn failed(error: &io::Error) -> ControlError {
    ControlError::failed(format!("write the answer: {error}"))
}

/// An error of the engine, with its exit status.
pub fn journal_error(error: &JournalError) -> ControlError {
    let kind = match error {
        JournalError::NotAJournal { .. } => Kind::NotFound,
        JournalError::Point(point) => return point_error(point),
        _ => Kind::Failed,
    };
    ControlError::new(kind, error.to_string())
}

/// A point that cannot be offered, with its exit status.
pub fn point_error(error: &PointError) -> ControlError {
    let kind = match error {
        PointError::NoVolume
        | PointError::UnknownBookmark { .. }
        | PointError::OutsideWindow { .. }
        | PointError::Thinned { .. }
        | PointError::BeyondHead { .. } => Kind::NotFound,
        PointError::InsideGap { .. } | PointError::NotABarrier { .. } => Kind::Refused,
    };
    ControlError::new(kind, error.to_string())
}

/// A moment as JSON.
pub fn at_json(at: journal::At) -> Value {
    json!({ "position": at.position.get(), "time": time(at.label) })
}

/// A label as a person reads it.
pub fn time(label: record::position::Label) -> String {
    control::time::rfc3339(label.nanos())
}

/// Says on standard error how far something is that takes longer than a second, once a second.
pub struct Progress {
    doing: &'static str,
    said: Instant,
}

impl Progress {
    /// Starts now.
    pub fn new(doing: &'static str) -> Self {
        Self { doing, said: Instant::now() }
    }

    /// So much of so much is done.
    pub fn tell(&mut self, done: u64, all: u64) {
        if self.said.elapsed() >= Duration::from_secs(1) {
            self.said = Instant::now();
            eprintln!("{}: {}%", self.doing, done.saturating_mul(100).checked_div(all).unwrap_or(100).min(100));
        }
    }
}
