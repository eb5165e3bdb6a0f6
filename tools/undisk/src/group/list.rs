//! `undisk group list`

use crate::report::Report;
use crate::session::{QUICK, Session};
use crate::table::{Cell, Column, ListArgs};
use clap::Args;
use control::answer::{GroupStatus, Health};
use control::error::ControlError;
use control::time::span;

/// List the groups.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    list: ListArgs,
}

const COLUMNS: &[Column<GroupStatus>] = &[
    Column { name: "name", about: "name", usual: true, cell: |g| Cell::Text(g.name.clone()) },
    Column {
        name: "health",
        about: "protected, synchronising, unlinked, needs-resync or trouble",
        usual: true,
        cell: |g| Cell::Text(health(&g.health).into()),
    },
    Column { name: "volumes", about: "names of its volumes", usual: true, cell: |g| Cell::Text(volumes(g)) },
    Column { name: "head", about: "newest position", usual: true, cell: |g| Cell::Count(g.head) },
    Column {
        name: "oldest",
        about: "time of the oldest point that can be opened",
        usual: true,
        cell: |g| Cell::Time(g.window.map_or(0, |w| w.oldest_ns)),
    },
    Column {
        name: "newest",
        about: "time of the newest point that can be opened",
        usual: true,
        cell: |g| Cell::Time(g.window.map_or(0, |w| w.newest_ns)),
    },
    Column {
        name: "journal-size",
        about: "bytes of the journal on disk",
        usual: true,
        cell: |g| Cell::Bytes(g.journal_bytes),
    },
    Column {
        name: "keeps",
        about: "of how long every write is kept",
        usual: true,
        cell: |g| Cell::Text(span(g.retention.window_seconds)),
    },
    Column {
        name: "forecast",
        about: "how long the window will be at the present rate",
        usual: false,
        cell: |g| Cell::Text(g.forecast.map_or_else(String::new, |forecast| span(forecast.window_seconds))),
    },
    Column {
        name: "linked",
        about: "whether a splitter is linked",
        usual: false,
        cell: |g| Cell::Text(if g.linked { "yes" } else { "no" }.into()),
    },
    Column {
        name: "journal",
        about: "where the journal is",
        usual: false,
        cell: |g| Cell::Text(g.journal.display().to_string()),
    },
    Column { name: "gaps", about: "stretches that cannot be opened", usual: false, cell: |g| Cell::Count(g.gaps) },
    Column { name: "id", about: "id", usual: false, cell: |g| Cell::Text(g.id.clone()) },
    Column {
        name: "reason",
        about: "why the health is what it is",
        usual: false,
        cell: |g| Cell::Text(reason(&g.health).unwrap_or_default().into()),
    },
];

impl List {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if let Some(help) = self.list.help(COLUMNS)? {
            return Ok(help);
        }
        let groups = session.appliance_status(QUICK)?.groups;
        Ok(Report::new().field("groups", &groups).results(lines(&self.list, &groups)?))
    }
}

/// The list as lines.
pub fn lines(list: &ListArgs, groups: &[GroupStatus]) -> Result<Vec<String>, ControlError> {
    list.lines(COLUMNS, groups)
}

/// The health in a word.
pub fn health(health: &Health) -> &'static str {
    match health {
        Health::Protected => "protected",
        Health::Synchronising => "synchronising",
        Health::Unlinked => "unlinked",
        Health::NeedsResync { .. } => "needs-resync",
        Health::Trouble { .. } => "trouble",
    }
}

/// Why it is so.
pub fn reason(health: &Health) -> Option<&str> {
    match health {
        Health::Protected | Health::Synchronising | Health::Unlinked => None,
        Health::NeedsResync { reason } | Health::Trouble { reason } => Some(reason),
    }
}

fn volumes(group: &GroupStatus) -> String {
    group.volumes.iter().map(|volume| volume.name.as_str()).collect::<Vec<_>>().join(",")
}
