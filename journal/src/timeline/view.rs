//! What a timeline tells: positions with their times, windows, gaps, bookmarks, marks.
//!
//! Owns these words and how they read; what they are is decided in `timeline`.

use crate::status::OpCounts;
use record::position::{Label, Position};
use std::fmt;

/// A position and when it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    /// The position.
    pub position: Position,
    /// Its label.
    pub label: Label,
}

impl At {
    /// Before the first record.
    pub const ORIGIN: Self = Self { position: Position::ORIGIN, label: Label::from_nanos(0) };
}

impl Default for At {
    fn default() -> Self {
        Self::ORIGIN
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seq:{} ({})", self.position, utc(self.label))
    }
}

/// The positions that can be opened, gaps aside.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Window {
    /// The oldest point.
    pub oldest: At,
    /// The newest point.
    pub newest: At,
}

/// Positions that cannot be opened: `begin` is the first of them, `end` the first that can be opened again.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Gap {
    /// The first position that is refused.
    pub begin: At,
    /// The first position behind it that can be opened; `None` while it is open.
    pub end: Option<At>,
    /// Why.
    pub cause: GapCause,
}

/// Why positions cannot be opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GapCause {
    /// The splitter lost records, or could not show that it lost none.
    RecordsLost,
    /// A resynchronisation was under way.
    Resync,
    /// A write failed on the backing and was not read again yet.
    FailedWrite,
    /// Records of the journal are damaged, and what they said about consistency is not known.
    Damage,
}

impl fmt::Display for GapCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::RecordsLost => "writes were not recorded",
            Self::Resync => "a resynchronisation was under way",
            Self::FailedWrite => "a write failed on the backing",
            Self::Damage => "records of the journal are damaged",
        })
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.end {
            Some(end) => write!(f, "from {} until {}: {}", self.begin, end, self.cause),
            None => write!(f, "from {}, not closed yet: {}", self.begin, self.cause),
        }
    }
}

/// A named point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Bookmark {
    /// Its name.
    pub name: String,
    /// Where it is.
    pub at: At,
    /// The request that it answers, 0 for none.
    pub ticket: u64,
}

/// Something worth a line in a timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mark {
    /// Where.
    pub at: At,
    /// What.
    pub kind: MarkKind,
}

/// What is worth a line in a timeline.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MarkKind {
    /// A flush of the backing succeeded.
    Flush,
    /// A moment at which every splitter of the group stood still: a point across all of them.
    Barrier,
    /// The first discard after ten seconds or more without one: often the moment behind a deletion.
    PunchAfterPause,
    /// A volume joined.
    Joined {
        /// Its name.
        volume: String,
    },
    /// A volume left.
    Left {
        /// Its name.
        volume: String,
    },
    /// The group was rolled back.
    Rollback {
        /// To here.
        target: Position,
        /// Which rollback.
        id: u64,
    },
    /// The journal was opened; `clean`: after a clean close.
    Recovery {
        /// Whether the close before was clean.
        clean: bool,
    },
}

/// All that a group's timeline says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimelineView {
    /// What can be opened; `None` before the first volume has joined.
    pub window: Option<Window>,
    /// The newest position, point or not.
    pub head: At,
    /// Whether several splitters serve the group now: only barriers are points across them.
    pub barriers_only: bool,
    /// What cannot, oldest first.
    pub gaps: Vec<Gap>,
    /// Bookmarks, oldest first.
    pub bookmarks: Vec<Bookmark>,
    /// Grid points that are older than the window, oldest first.
    pub grid: Vec<At>,
    /// Other marks, oldest first; of flushes and discards only the newest few.
    pub marks: Vec<Mark>,
    /// How many records of each kind.
    pub counts: OpCounts,
}

/// A label as a person reads it: RFC 3339, UTC, microseconds.
pub fn utc(label: Label) -> String {
    let (seconds, nanos) = (label.nanos() / 1_000_000_000, label.nanos() % 1_000_000_000);
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    // Days to a date of the proleptic Gregorian calendar: H. Hinnant, "chrono-Compatible Low-Level Date Algorithms".
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        rest / 3600,
        rest / 60 % 60,
        rest % 60,
        nanos / 1000
    )
}
