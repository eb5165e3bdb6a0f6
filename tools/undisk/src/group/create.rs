//! `undisk group create`

use crate::report::Report;
use crate::session::{LONG, Session, absolute, unexpected};
use clap::Args;
use control::answer::{Answer, Outcome};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;
use std::path::PathBuf;

/// Make a group.
#[derive(Debug, Args)]
pub struct Create {
    /// The group's name
    name: String,
    /// Folder for its journal; without it, among the appliance's state
    #[arg(long, value_name = "DIR")]
    journal: Option<PathBuf>,
}

impl Create {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let request = ApplianceRequest::GroupCreate {
            name: Name::parse(Named::Group, &self.name)?.into(),
            journal: self.journal.as_deref().map(absolute).transpose()?,
        };
        let Answer::Group { outcome, group } = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        let was = match outcome {
            Outcome::Created => "made",
            Outcome::AlreadySo => "is there already",
            Outcome::Changed => "changed",
        };
        let line = format!("group {} {was}, journal in {}", group.name, group.journal.display());
        Ok(Report::new().field("outcome", &outcome).field("group", &group).line(line))
    }
}
