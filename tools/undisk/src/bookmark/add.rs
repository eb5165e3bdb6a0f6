//! `undisk bookmark add`

use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::{Answer, Bookmark, Outcome};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::point::parse_until;
use control::request::ApplianceRequest;
use control::time::local;

/// Name the present moment.
#[derive(Debug, Args)]
pub struct Add {
    /// The group's name
    group: String,
    /// The bookmark's name
    name: String,
    /// Let nobody remove it before this time: a span from now on as in 30d, a date and time, or @EPOCH
    #[arg(long, value_name = "TIME")]
    hold_until: Option<String>,
}

impl Add {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let group = Name::parse(Named::Group, &self.group)?;
        let request = ApplianceRequest::BookmarkAdd {
            group: group.as_str().into(),
            name: Name::parse_new_bookmark(&self.name)?.into(),
            hold_until_ns: self.hold_until.as_deref().map(parse_until).transpose()?,
        };
        let Answer::Bookmark { outcome, bookmark } = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(told(&group, outcome, &bookmark))
    }
}

/// A bookmark that was added or held, in a line.
pub fn told(group: &Name, outcome: Outcome, bookmark: &Bookmark) -> Report {
    let held = bookmark.hold_until_ns.map_or_else(String::new, |until| format!(", held until {}", local(until)));
    let line = format!("{group}@#{} is seq:{}, {}{held}", bookmark.name, bookmark.position, local(bookmark.time_ns));
    Report::new().field("outcome", &outcome).field("group", &group.as_str()).field("bookmark", bookmark).line(line)
}
