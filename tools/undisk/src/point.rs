//! The verbs of `undisk point`.

pub mod list;

use crate::report::Report;
use crate::session::Session;
use clap::Subcommand;
use control::error::ControlError;

/// What can be done with points.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show the timeline of a group: window, gaps, bookmarks, marks
    List(list::List),
}

impl Verb {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        match self {
            Self::List(verb) => verb.run(session),
        }
    }
}
