//! The verbs of `undisk group`.

pub mod create;
pub mod list;
pub mod pause;
pub mod remove;
pub mod resync;
pub mod set;
pub mod side;
pub mod status;

use crate::report::Report;
use crate::session::Session;
use clap::Subcommand;
use control::error::ControlError;

/// What can be done with consistency groups.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make a group with a journal of its own
    Create(create::Create),
    /// List the groups
    List(list::List),
    /// Show one group
    Status(status::Status),
    /// Delete a group without volumes, with its journal and all history
    Remove(remove::Remove),
    /// Change how a group is protected, as in mode=sync sync-loss=stall
    Set(set::Set),
    /// Record no writes of a group until it is resumed; what they touch is remembered
    Pause(pause::Pause),
    /// Record them again, and read what was written meanwhile
    Resume(pause::Resume),
    /// Read again what the journal lacks of a group, and make its history whole
    Resync(resync::Resync),
}

impl Verb {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        match self {
            Self::Create(verb) => verb.run(session),
            Self::List(verb) => verb.run(session),
            Self::Status(verb) => verb.run(session),
            Self::Remove(verb) => verb.run(session),
            Self::Set(verb) => verb.run(session),
            Self::Pause(verb) => verb.run(session),
            Self::Resume(verb) => verb.run(session),
            Self::Resync(verb) => verb.run(session),
        }
    }
}
