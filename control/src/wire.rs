//! The frames on a control socket: one JSON value a line.

use crate::answer::{Answer, Progress};
use crate::error::ControlError;
use serde::{Deserialize, Serialize};

/// Longest line that an asker reads, in bytes: a longer one ends the connection.
pub const LINE_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Longest request that a daemon reads, in bytes, with its line end.
pub const REQUEST_BYTES_MAX: usize = 1024 * 1024;

/// A line from a daemon: any number of `Progress`, then one `Answer` or `Error`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "line", rename_all = "kebab-case")]
pub enum Line {
    /// How far it is.
    Progress(Progress),
    /// The end: done.
    Answer(Box<Answer>),
    /// The end: not done.
    Error(ControlError),
}
