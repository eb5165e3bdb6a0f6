//! `undisk volume status`

use super::list::{state, sync};
use crate::report::Report;
use crate::session::{QUICK, Session};
use crate::table::labelled;
use clap::Args;
use control::answer::{VolumeState, VolumeStatus};
use control::error::ControlError;
use control::size::Size;
use std::time::Duration;

/// Show one volume.
#[derive(Debug, Args)]
pub struct Status {
    /// The volume's name
    name: String,
}

impl Status {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let volume = find(session, QUICK, &self.name)?;
        Ok(Report::new().field("volume", &volume).results(labelled(&told(&volume))))
    }
}

/// The volume of this name.
pub fn find(session: &Session, patience: Duration, name: &str) -> Result<VolumeStatus, ControlError> {
    let volumes = session.splitter_status(patience)?.volumes;
    volumes.into_iter().find(|volume| volume.name == name).ok_or_else(|| {
        ControlError::not_found(format!("there is no volume {name:?} on this host")).hint("undisk volume list")
    })
}

fn told(volume: &VolumeStatus) -> Vec<(&'static str, String)> {
    let counts = &volume.counts;
    let state = match &volume.state {
        VolumeState::Starting | VolumeState::Live | VolumeState::Restoring => state(volume).to_owned(),
        VolumeState::Down { reason } => format!("{}: {reason}", state(volume)),
    };
    let mut told = vec![
        ("volume", volume.name.clone()),
        ("device", volume.device.display().to_string()),
        ("state", state),
        ("group", volume.group.clone()),
        ("sync", sync(volume)),
        ("size", format!("{} ({} bytes), blocks of {} bytes", Size(volume.bytes), volume.bytes, volume.block_bytes)),
        ("backing", volume.backing.display().to_string()),
        ("discard", if volume.punches { "frees space in the backing" } else { "writes zeros to the backing" }.into()),
        ("queues", volume.queues.to_string()),
        ("reads", format!("{}, {}", counts.reads, Size(counts.read_bytes))),
        ("writes", format!("{}, {}", counts.writes, Size(counts.written_bytes))),
        ("punches", format!("{}, {}", counts.punches, Size(counts.punched_bytes))),
        ("zeroes", format!("{}, {}", counts.zeroes, Size(counts.zeroed_bytes))),
        ("flushes", counts.flushes.to_string()),
        ("errors", counts.errors.to_string()),
        ("id", volume.id.clone()),
    ];
    told.extend(volume.warnings.iter().map(|warning| ("warning", warning.clone())));
    told
}
