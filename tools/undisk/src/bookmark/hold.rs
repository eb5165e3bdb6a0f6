//! `undisk bookmark hold`

use super::add::told;
use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use clap::Args;
use control::answer::Answer;
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::point::parse_until;
use control::request::ApplianceRequest;

/// Let nobody remove a bookmark before a date. A hold can be made longer, never shorter.
#[derive(Debug, Args)]
pub struct Hold {
    /// The group's name
    group: String,
    /// The bookmark's name
    name: String,
    /// Until when: a span from now on as in 30d, a date and time, or @EPOCH
    #[arg(long, value_name = "TIME")]
    until: String,
}

impl Hold {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let group = Name::parse(Named::Group, &self.group)?;
        let request = ApplianceRequest::BookmarkHold {
            group: group.as_str().into(),
            name: Name::parse(Named::Bookmark, &self.name)?.into(),
            until_ns: parse_until(&self.until)?,
        };
        let Answer::Bookmark { outcome, bookmark } = session.ask_appliance(&request, QUICK)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(told(&group, outcome, &bookmark))
    }
}
