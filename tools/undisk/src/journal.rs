//! The verbs of `undisk journal`.

pub mod status;
pub mod trim;
pub mod verify;

use crate::report::Report;
use crate::session::Session;
use clap::Subcommand;
use control::error::ControlError;

/// What can be done with journals.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what journals hold
    Status(status::Status),
    /// Check every checksum of a journal
    Verify(verify::Verify),
    /// Give up the oldest points of a group now
    Trim(trim::Trim),
}

impl Verb {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        match self {
            Self::Status(verb) => verb.run(session),
            Self::Verify(verb) => verb.run(session),
            Self::Trim(verb) => verb.run(session),
        }
    }
}
