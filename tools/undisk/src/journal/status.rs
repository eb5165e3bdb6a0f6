//! `undisk journal status`

use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use crate::table::{Cell, Column, ListArgs};
use clap::Args;
use control::answer::{Answer, JournalStatus};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;

/// Show what journals hold.
#[derive(Debug, Args)]
pub struct Status {
    /// The group's name; without it, all groups
    group: Option<String>,
    #[command(flatten)]
    list: ListArgs,
}

const COLUMNS: &[Column<JournalStatus>] = &[
    Column { name: "group", about: "consistency group", usual: true, cell: |j| Cell::Text(j.group.clone()) },
    Column { name: "head", about: "newest position", usual: true, cell: |j| Cell::Count(j.head) },
    Column { name: "durable", about: "newest position that is durable", usual: true, cell: |j| Cell::Count(j.durable) },
    Column { name: "segments", about: "segment files", usual: true, cell: |j| Cell::Count(j.segments) },
    Column { name: "disk", about: "bytes on disk", usual: true, cell: |j| Cell::Bytes(j.disk_bytes) },
    Column { name: "used", about: "bytes of them in use", usual: true, cell: |j| Cell::Bytes(j.used_bytes) },
    Column {
        name: "payload",
        about: "bytes of host data in them",
        usual: true,
        cell: |j| Cell::Bytes(j.payload_bytes),
    },
    Column { name: "damage", about: "damaged places known", usual: true, cell: |j| Cell::Count(j.damage.len() as u64) },
    Column {
        name: "trouble",
        about: "why it takes no more records",
        usual: true,
        cell: |j| Cell::Text(j.trouble.clone().unwrap_or_default()),
    },
    Column { name: "path", about: "where it is", usual: false, cell: |j| Cell::Text(j.path.display().to_string()) },
    Column { name: "epoch", about: "lives of its tail", usual: false, cell: |j| Cell::Count(j.epoch) },
    Column { name: "id", about: "id", usual: false, cell: |j| Cell::Text(j.id.clone()) },
    Column { name: "records", about: "records of each kind", usual: false, cell: |j| Cell::Text(records(j)) },
];

impl Status {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if let Some(help) = self.list.help(COLUMNS)? {
            return Ok(help);
        }
        let group = self.group.map(|group| Name::parse(Named::Group, &group)).transpose()?.map(String::from);
        let request = ApplianceRequest::JournalStatus { group };
        let Answer::Journals { journals } = session.ask_appliance(&request, QUICK)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(Report::new().field("journals", &journals).results(self.list.lines(COLUMNS, &journals)?))
    }
}

fn records(journal: &JournalStatus) -> String {
    journal.counts.iter().map(|(kind, count)| format!("{kind}={count}")).collect::<Vec<_>>().join(",")
}
