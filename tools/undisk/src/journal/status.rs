//! `undisk journal status`

use crate::group::set::retention;
use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use crate::table::{Cell, Column, ListArgs};
use clap::Args;
use control::answer::{Answer, JournalStatus};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;
use control::size::Size;
use control::time::span;

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
    Column {
        name: "oldest",
        about: "time of the oldest point",
        usual: true,
        cell: |j| Cell::Time(j.window.map_or(0, |window| window.oldest_ns)),
    },
    Column { name: "points", about: "points in the window", usual: true, cell: |j| Cell::Count(j.points) },
    Column {
        name: "reclaimable",
        about: "bytes that come free when replicas have followed the oldest point",
        usual: true,
        cell: |j| Cell::Bytes(j.reclaimable_bytes),
    },
    Column {
        name: "forecast",
        about: "how long the window will be at the present rate",
        usual: true,
        cell: |j| Cell::Text(j.forecast.map_or_else(String::new, |forecast| span(forecast.window_seconds))),
    },
    Column {
        name: "grid",
        about: "grid points: those that are older than the window",
        usual: false,
        cell: |j| Cell::Count(j.grid.map_or(0, |grid| grid.points)),
    },
    Column {
        name: "grid-oldest",
        about: "time of the oldest grid point",
        usual: false,
        cell: |j| Cell::Time(j.grid.map_or(0, |grid| grid.oldest_ns)),
    },
    Column { name: "keeps", about: "what is kept", usual: false, cell: |j| Cell::Text(retention(&j.retention)) },
    Column {
        name: "full-in",
        about: "when the room is used up, at the present rate",
        usual: false,
        cell: |j| {
            let full = j.forecast.and_then(|forecast| forecast.full_in_seconds);
            Cell::Text(full.map_or_else(String::new, span))
        },
    },
    Column {
        name: "distributed",
        about: "position up to which replicas have followed",
        usual: false,
        cell: |j| Cell::Count(j.distributed),
    },
    Column {
        name: "held-by",
        about: "what keeps them from following further",
        usual: false,
        cell: |j| Cell::Text(j.held_back_by.clone().unwrap_or_default()),
    },
    Column {
        name: "scrubbed",
        about: "when the last reading of all of it ended",
        usual: false,
        cell: |j| Cell::Time(j.scrub.ended_ns.unwrap_or(0)),
    },
    Column { name: "scrub", about: "how far the present one is", usual: false, cell: |j| Cell::Text(scrub(j)) },
    Column {
        name: "replica",
        about: "position at which replicas are plain disks",
        usual: false,
        cell: |j| j.replica.position.map_or(Cell::Text(String::new()), Cell::Count),
    },
    Column {
        name: "undo",
        about: "bytes held of what replicas were before",
        usual: false,
        cell: |j| Cell::Bytes(j.replica.undo_bytes),
    },
    Column {
        name: "discarded",
        about: "of them, bytes held only because of discards",
        usual: false,
        cell: |j| Cell::Bytes(j.replica.undo_discard_bytes),
    },
    Column {
        name: "behind-by",
        about: "what keeps replicas from the newest point",
        usual: false,
        cell: |j| Cell::Text(j.replica.held_back_by.clone().unwrap_or_default()),
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

fn scrub(journal: &JournalStatus) -> String {
    let scrub = &journal.scrub;
    let part = scrub.done_bytes.min(scrub.total_bytes).saturating_mul(100) / scrub.total_bytes.max(1);
    if scrub.under_way { format!("{part}% of {}", Size(scrub.total_bytes)) } else { String::new() }
}

fn records(journal: &JournalStatus) -> String {
    journal.counts.iter().map(|(kind, count)| format!("{kind}={count}")).collect::<Vec<_>>().join(",")
}
