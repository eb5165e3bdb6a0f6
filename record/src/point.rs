//! Which moment: a point as a person names it, before a journal resolves it to a position.
//!
//! Owns the kinds of points; their spelling (`latest`, `#name`, `seq:N`, `-5m`, RFC 3339) belongs to `control`,
//! their meaning to the journal's timeline.

use crate::position::{Label, Position};

/// A moment, as asked for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Point {
    /// The newest position that may be offered.
    Latest,
    /// The oldest position that may be offered.
    Oldest,
    /// A bookmark, by name.
    Bookmark(String),
    /// Exactly this position.
    Seq(Position),
    /// The last position whose label is not after this time.
    Time(Label),
    /// So many nanoseconds back from the newest label.
    Ago(u64),
}
