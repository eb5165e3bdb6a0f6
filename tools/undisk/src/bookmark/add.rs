//! `undisk bookmark add`

use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::{Answer, Outcome};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;
use control::time::local;

/// Name the present moment.
#[derive(Debug, Args)]
pub struct Add {
    /// The group's name
    group: String,
    /// The bookmark's name
    name: String,
}

impl Add {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let group = Name::parse(Named::Group, &self.group)?;
        let request = ApplianceRequest::BookmarkAdd {
            group: group.as_str().into(),
            name: Name::parse_new_bookmark(&self.name)?.into(),
        };
        let Answer::Bookmark { outcome, bookmark } = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        let was = match outcome {
            Outcome::Created => "is",
            Outcome::AlreadySo => "is already",
            Outcome::Changed => "is now",
        };
        let line = format!("{group}@#{} {was} seq:{}, {}", bookmark.name, bookmark.position, local(bookmark.time_ns));
        Ok(Report::new()
            .field("outcome", &outcome)
            .field("group", &group.as_str())
            .field("bookmark", &bookmark)
            .line(line))
    }
}
