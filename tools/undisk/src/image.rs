//! The verbs of `undisk image`.

pub mod close;
pub mod list;
pub mod open;

use crate::report::Report;
use crate::session::Session;
use clap::Subcommand;
use control::error::ControlError;

/// What can be done with images.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Open a past moment; the last lines printed are its devices
    Open(open::Open),
    /// List the open images
    List(list::List),
    /// Close one image, or all
    Close(close::Close),
}

impl Verb {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        match self {
            Self::Open(verb) => verb.run(session),
            Self::List(verb) => verb.run(session),
            Self::Close(verb) => verb.run(session),
        }
    }
}
