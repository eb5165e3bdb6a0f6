//! What is told of how much history is kept: the policy, what it comes to, how it will be, what giving up would free.

use serde::{Deserialize, Serialize};

/// What the appliance keeps of a group, as it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RetentionPolicy {
    /// Every write of so many seconds is a point.
    pub window_seconds: u64,
    /// Which points stay when they are older, shortest span first; empty: none.
    pub keep: Vec<GridLevel>,
    /// The most bytes that the journal may take; `None`: as many as its file system has.
    pub journal_limit: Option<u64>,
    /// `shrink`, `stop` or `block`.
    pub journal_full: String,
    /// How often all of the journal is read again to find what has rotted; `None`: never.
    pub scrub_seconds: Option<u64>,
    /// `lazy` or `eager`.
    pub distribution: String,
    /// The most bytes that may be held of what replicas were before; `None`: as many as there is room for.
    pub undo_limit: Option<u64>,
    /// `slow` or `shrink`.
    pub undo_full: String,
    /// Bytes of the pieces in which a discard is captured and applied.
    pub punch_split: u64,
}

/// Where a group's replicas are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaStatus {
    /// They are plain disks, the volumes as they were at this position; `None`: they are not.
    pub position: Option<u64>,
    /// When that was; 0 without it.
    pub position_ns: u64,
    /// Bytes that are held of what they were before.
    pub undo_bytes: u64,
    /// Of them, bytes that replicas have as holes: held only because of discards.
    pub undo_discard_bytes: u64,
    /// What keeps them from the newest point.
    pub held_back_by: Option<String>,
}

/// How far reading the journal again has come, since the appliance was started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubStatus {
    /// Whether a pass is under way.
    pub under_way: bool,
    /// When the newest one began; 0: none has.
    pub began_ns: u64,
    /// Bytes that it has read, of about so many.
    pub done_bytes: u64,
    pub total_bytes: u64,
    /// When the last one that was whole ended.
    pub ended_ns: Option<u64>,
    /// Places that were found damaged, and had not been known to be.
    pub found: u64,
}

/// Of each minute, hour or day the newest point stays, up to an age.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridLevel {
    /// `minute`, `hour` or `day`.
    pub span: String,
    /// The age, in seconds.
    pub seconds: u64,
}

/// The grid points that there are: points that are older than the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GridStatus {
    /// How many.
    pub points: u64,
    /// The oldest of them.
    pub oldest: u64,
    /// And when it was.
    pub oldest_ns: u64,
}

/// How a journal will be at the present rate of writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forecast {
    /// Bytes by which it grows in a second.
    pub bytes_per_second: u64,
    /// How long the window will be: as long as it is set, or less.
    pub window_seconds: u64,
    /// When the room ends; `None`: it holds the window that is set.
    pub full_in_seconds: Option<u64>,
}

/// What is given up of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trim {
    pub group: String,
    /// The oldest point of the window before.
    pub oldest: u64,
    pub oldest_ns: u64,
    /// And after.
    pub to: u64,
    pub to_ns: u64,
    /// Positions given up.
    pub positions: u64,
    /// Grid points given up.
    pub grid_points: u64,
    /// No point before this position stays but for bookmarks; 0 when grid points go by their age only.
    pub before: u64,
    /// Bytes of the journal before, and once replicas have followed.
    pub bytes: u64,
    pub bytes_after: u64,
    /// Bytes that come free by that only when `bookmarks` are removed.
    pub pinned_bytes: u64,
    /// Bookmarks before the new oldest point: they stay.
    pub bookmarks: Vec<String>,
    /// Whether it gets as small as it was asked to.
    pub reached: bool,
}
