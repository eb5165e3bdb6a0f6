//! `undisk bookmark remove`

use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use clap::Args;
use control::answer::Answer;
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;

/// Forget a bookmark; the moment stays as long as the window does.
#[derive(Debug, Args)]
pub struct Remove {
    /// The group's name
    group: String,
    /// The bookmark's name
    name: String,
}

impl Remove {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let request = ApplianceRequest::BookmarkRemove {
            group: Name::parse(Named::Group, &self.group)?.into(),
            name: Name::parse(Named::Bookmark, &self.name)?.into(),
        };
        let Answer::Done { outcome, message } = session.ask_appliance(&request, QUICK)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(Report::done(outcome, message))
    }
}
