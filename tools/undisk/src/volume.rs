//! The verbs of `undisk volume`.

pub mod create;
pub mod list;
pub mod remove;
pub mod status;
pub mod verify;

use crate::report::Report;
use crate::session::Session;
use clap::Subcommand;
use control::error::ControlError;

/// What can be done with volumes.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Serve a file or block device as a volume; the last line printed is its device
    Create(create::Create),
    /// List the volumes of this host
    List(list::List),
    /// Show one volume
    Status(status::Status),
    /// Compare a volume with its newest image while hosts write; exit status 3 when they differ
    Verify(verify::Verify),
    /// Stop serving a volume; its backing, journal and history stay
    Remove(remove::Remove),
}

impl Verb {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        match self {
            Self::Create(verb) => verb.run(session),
            Self::List(verb) => verb.run(session),
            Self::Status(verb) => verb.run(session),
            Self::Verify(verb) => verb.run(session),
            Self::Remove(verb) => verb.run(session),
        }
    }
}
