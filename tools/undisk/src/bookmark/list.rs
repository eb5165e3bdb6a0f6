//! `undisk bookmark list`

use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use crate::table::{Cell, Column, ListArgs};
use clap::Args;
use control::answer::{Answer, Bookmark};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;

/// List the bookmarks of a group, oldest first.
#[derive(Debug, Args)]
pub struct List {
    /// The group's name
    #[arg(required_unless_present = "columns")]
    group: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

const COLUMNS: &[Column<Bookmark>] = &[
    Column { name: "name", about: "name", usual: true, cell: |b| Cell::Text(b.name.clone()) },
    Column { name: "seq", about: "position", usual: true, cell: |b| Cell::Count(b.position) },
    Column { name: "time", about: "when", usual: true, cell: |b| Cell::Time(b.time_ns) },
    Column {
        name: "held-until",
        about: "nobody may remove it before",
        usual: true,
        cell: |b| Cell::Time(b.hold_until_ns.unwrap_or(0)),
    },
];

impl List {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if let Some(help) = self.list.help(COLUMNS)? {
            return Ok(help);
        }
        let group = Name::parse(Named::Group, &self.group.unwrap_or_default())?;
        let request = ApplianceRequest::BookmarkList { group: group.as_str().into() };
        let Answer::Bookmarks { bookmarks } = session.ask_appliance(&request, QUICK)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        let report = Report::new().field("group", &group.as_str()).field("bookmarks", &bookmarks);
        Ok(report.results(self.list.lines(COLUMNS, &bookmarks)?))
    }
}
