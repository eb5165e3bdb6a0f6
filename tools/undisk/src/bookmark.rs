//! The verbs of `undisk bookmark`.

pub mod add;
pub mod hold;
pub mod list;
pub mod remove;

use crate::report::Report;
use crate::session::Session;
use clap::Subcommand;
use control::error::ControlError;

/// What can be done with bookmarks.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Name the present moment
    Add(add::Add),
    /// Let nobody remove a bookmark before a date
    Hold(hold::Hold),
    /// List the bookmarks of a group
    List(list::List),
    /// Forget a bookmark
    Remove(remove::Remove),
}

impl Verb {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        match self {
            Self::Add(verb) => verb.run(session),
            Self::Hold(verb) => verb.run(session),
            Self::List(verb) => verb.run(session),
            Self::Remove(verb) => verb.run(session),
        }
    }
}
