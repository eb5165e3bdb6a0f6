//! `undisk volume list`

use crate::report::Report;
use crate::session::{QUICK, Session};
use crate::table::{Cell, Column, ListArgs};
use clap::Args;
use control::answer::{VolumeState, VolumeStatus};
use control::error::ControlError;

/// List the volumes of this host.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    list: ListArgs,
}

const COLUMNS: &[Column<VolumeStatus>] = &[
    Column { name: "name", about: "name", usual: true, cell: |v| Cell::Text(v.name.clone()) },
    Column { name: "device", about: "block device", usual: true, cell: |v| Cell::Text(v.device.display().to_string()) },
    Column { name: "size", about: "size", usual: true, cell: |v| Cell::Bytes(v.bytes) },
    Column { name: "group", about: "consistency group", usual: true, cell: |v| Cell::Text(v.group.clone()) },
    Column { name: "state", about: "live, restoring or down", usual: true, cell: |v| Cell::Text(state(v).into()) },
    Column { name: "sync", about: "how far the first synchronisation is", usual: true, cell: |v| Cell::Text(sync(v)) },
    Column {
        name: "backing",
        about: "file or device with the content",
        usual: true,
        cell: |v| Cell::Text(v.backing.display().to_string()),
    },
    Column { name: "id", about: "id", usual: false, cell: |v| Cell::Text(v.id.clone()) },
    Column { name: "block", about: "logical block size", usual: false, cell: |v| Cell::Count(v.block_bytes.into()) },
    Column { name: "queues", about: "hardware queues", usual: false, cell: |v| Cell::Count(v.queues.into()) },
    Column { name: "reads", about: "read requests since start", usual: false, cell: |v| Cell::Count(v.counts.reads) },
    Column {
        name: "writes",
        about: "write requests since start",
        usual: false,
        cell: |v| Cell::Count(v.counts.writes),
    },
    Column { name: "punches", about: "discards since start", usual: false, cell: |v| Cell::Count(v.counts.punches) },
    Column {
        name: "errors",
        about: "failed requests since start",
        usual: false,
        cell: |v| Cell::Count(v.counts.errors),
    },
    Column {
        name: "warnings",
        about: "what an administrator should know",
        usual: false,
        cell: |v| Cell::Text(v.warnings.join("; ")),
    },
];

impl List {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if let Some(help) = self.list.help(COLUMNS)? {
            return Ok(help);
        }
        let volumes = session.splitter_status(QUICK)?.volumes;
        Ok(Report::new().field("volumes", &volumes).results(lines(&self.list, &volumes)?))
    }
}

/// The list as lines.
pub fn lines(list: &ListArgs, volumes: &[VolumeStatus]) -> Result<Vec<String>, ControlError> {
    list.lines(COLUMNS, volumes)
}

/// The state in a word.
pub fn state(volume: &VolumeStatus) -> &'static str {
    match volume.state {
        VolumeState::Starting => "starting",
        VolumeState::Live => "live",
        VolumeState::Restoring => "restoring",
        VolumeState::Down { .. } => "down",
    }
}

/// How far the first synchronisation is; `joined` when it is over.
pub fn sync(volume: &VolumeStatus) -> String {
    match &volume.sync {
        None => "joined".into(),
        Some(progress) if progress.total == 0 => "synchronising".into(),
        Some(progress) => {
            format!("{}%", u128::from(progress.done.min(progress.total)) * 100 / u128::from(progress.total))
        }
    }
}
