//! `undisk image list`

use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use crate::table::{Cell, Column, ListArgs};
use clap::Args;
use control::answer::{Answer, Image};
use control::client::Daemon;
use control::error::ControlError;
use control::request::ApplianceRequest;

/// List the open images.
#[derive(Debug, Args)]
pub struct List {
    #[command(flatten)]
    list: ListArgs,
}

const COLUMNS: &[Column<Image>] = &[
    Column { name: "device", about: "block device", usual: true, cell: |i| Cell::Text(i.device.display().to_string()) },
    Column { name: "group", about: "consistency group", usual: true, cell: |i| Cell::Text(i.group.clone()) },
    Column { name: "volume", about: "volume", usual: true, cell: |i| Cell::Text(i.volume.clone()) },
    Column { name: "seq", about: "position", usual: true, cell: |i| Cell::Count(i.position) },
    Column { name: "time", about: "time of that position", usual: true, cell: |i| Cell::Time(i.time_ns) },
    Column {
        name: "mode",
        about: "ro or rw",
        usual: true,
        cell: |i| Cell::Text(if i.rw { "rw" } else { "ro" }.into()),
    },
    Column {
        name: "asked",
        about: "the point as it was asked for",
        usual: true,
        cell: |i| Cell::Text(i.asked.clone()),
    },
    Column { name: "id", about: "id", usual: false, cell: |i| Cell::Text(i.id.clone()) },
    Column { name: "overlay", about: "bytes written over it", usual: false, cell: |i| Cell::Bytes(i.overlay_used) },
    Column {
        name: "overlay-max",
        about: "bytes that may be written over it",
        usual: false,
        cell: |i| Cell::Bytes(i.overlay_max),
    },
];

impl List {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if let Some(help) = self.list.help(COLUMNS)? {
            return Ok(help);
        }
        let Answer::Images { images } = session.ask_appliance(&ApplianceRequest::ImageList, QUICK)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(Report::new().field("images", &images).results(lines(&self.list, &images)?))
    }
}

/// The list as lines.
pub fn lines(list: &ListArgs, images: &[Image]) -> Result<Vec<String>, ControlError> {
    list.lines(COLUMNS, images)
}
