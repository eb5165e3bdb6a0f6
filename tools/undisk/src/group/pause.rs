//! `undisk group pause` and `undisk group resume`

use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::Answer;
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::SplitterRequest;

/// Record no writes of a group for a while.
#[derive(Debug, Args)]
pub struct Pause {
    /// The group's name
    name: String,
}

/// Record them again.
#[derive(Debug, Args)]
pub struct Resume {
    /// The group's name
    name: String,
}

impl Pause {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        ask(session, &self.name, |group| SplitterRequest::GroupPause { group })
    }
}

impl Resume {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        ask(session, &self.name, |group| SplitterRequest::GroupResume { group })
    }
}

fn ask(session: &Session, name: &str, request: fn(String) -> SplitterRequest) -> Result<Report, ControlError> {
    let name = Name::parse(Named::Group, name)?;
    let Answer::Done { outcome, message } = session.ask_splitter(&request(name.into()), LONG)? else {
        return Err(unexpected(Daemon::Splitter));
    };
    Ok(Report::done(outcome, message))
}
