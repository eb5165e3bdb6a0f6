//! `undisk volume create`

use crate::progress::Meter;
use crate::report::Report;
use crate::session::{LONG, QUICK, Session, absolute, unexpected};
use clap::Args;
use control::answer::{Answer, Outcome, VolumePlan, VolumeStatus};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::name::{Name, Named};
use control::request::{SplitterRequest, VolumeCreate};
use control::size::{self, Size};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A backing is a whole number of these: the journal's payloads are aligned so.
const SIZE_UNIT: u64 = 4096;
/// Time between two looks at a synchronisation.
const PACE: Duration = Duration::from_millis(200);

/// Serve a file or block device as a volume.
#[derive(Debug, Args)]
pub struct Create {
    /// The volume's name
    name: String,
    /// File or block device that holds the content
    #[arg(long, value_name = "PATH")]
    backing: PathBuf,
    /// Make the backing file, sparse, of this size
    #[arg(long = "create", requires = "size")]
    make: bool,
    /// Size of the backing to make, as in 10G
    #[arg(long, value_name = "SIZE", requires = "make")]
    size: Option<String>,
    /// The group to join; without it the volume gets a group of its own, with its name
    #[arg(long)]
    group: Option<String>,
    /// File or block device for the replica; without it, among the group's files
    #[arg(long, value_name = "PATH")]
    replica: Option<PathBuf>,
    /// The N of /dev/ublkbN; without it, the lowest free one
    #[arg(long, value_name = "N")]
    dev_id: Option<u32>,
    /// Hardware queues
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    queues: Option<u16>,
    /// Check everything, make nothing, and print the bytes that replica and journal will take
    #[arg(long)]
    dry_run: bool,
    /// Wait until the first synchronisation is complete
    #[arg(long, conflicts_with = "dry_run")]
    wait: bool,
}

impl Create {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let wait = self.wait;
        let answer = session.ask_splitter(&SplitterRequest::VolumeCreate(self.request()?), LONG)?;
        match answer {
            Answer::Volume { outcome, mut volume } => {
                if wait {
                    volume = joined(session, volume)?;
                }
                Ok(created(outcome, &volume))
            }
            Answer::VolumePlan(plan) => Ok(planned(&plan)),
            _ => Err(unexpected(Daemon::Splitter)),
        }
    }

    fn request(self) -> Result<VolumeCreate, ControlError> {
        let create_bytes = self.size.as_deref().map(size::parse).transpose()?;
        if let Some(bytes) = create_bytes.filter(|bytes| *bytes == 0 || bytes % SIZE_UNIT != 0) {
            return Err(ControlError::usage(format!(
                "a volume cannot have {bytes} bytes: its size is a whole number of {SIZE_UNIT}"
            ))
            .hint(format!("the next size that fits is {}", (bytes / SIZE_UNIT + 1).saturating_mul(SIZE_UNIT))));
        }
        Ok(VolumeCreate {
            name: Name::parse(Named::Volume, &self.name)?.into(),
            backing: absolute(&self.backing)?,
            create_bytes,
            group: self.group.map(|group| Name::parse(Named::Group, &group)).transpose()?.map(String::from),
            replica: self.replica.as_deref().map(absolute).transpose()?,
            dev_id: self.dev_id,
            queues: self.queues,
            dry_run: self.dry_run,
        })
    }
}

fn created(outcome: Outcome, volume: &VolumeStatus) -> Report {
    let verb = match outcome {
        Outcome::Created => "serves",
        Outcome::AlreadySo => "serves already",
        Outcome::Changed => "now serves",
    };
    let mut report = Report::new()
        .field("outcome", &outcome)
        .field("volume", volume)
        .line(format!(
            "volume {} {verb} {} ({}) in group {}",
            volume.name,
            volume.backing.display(),
            Size(volume.bytes),
            volume.group
        ))
        .result(volume.device.display().to_string());
    for warning in &volume.warnings {
        report = report.complaint(Kind::Degraded, format!("volume {}: {warning}", volume.name));
    }
    report
}

fn planned(plan: &VolumePlan) -> Report {
    Report::new().field("plan", plan).results([
        format!(
            "volume {} of {} bytes in group {}, blocks of {} bytes",
            plan.name, plan.bytes, plan.group, plan.block_bytes
        ),
        format!(
            "replica {} bytes at first, {} at most, in {}",
            plan.replica_bytes,
            plan.replica_bytes_max,
            plan.replica.display()
        ),
        format!("journal {} bytes at first, in {}", plan.journal_bytes, plan.journal.display()),
    ])
}

/// Waits for the first synchronisation.
fn joined(session: &Session, volume: VolumeStatus) -> Result<VolumeStatus, ControlError> {
    let meter = Meter::start(&format!("synchronising volume {}", volume.name), session.progress);
    let deadline = Instant::now() + session.patience(LONG);
    let mut now = volume;
    while let Some(progress) = &now.sync {
        meter.show(progress);
        if Instant::now() >= deadline {
            return Err(ControlError::new(
                Kind::TimedOut,
                format!("volume {} is served as {}, but its synchronisation goes on", now.name, now.device.display()),
            )
            .hint(format!("undisk volume status {}", now.name)));
        }
        std::thread::sleep(PACE);
        now = super::status::find(session, QUICK, &now.name)?;
    }
    Ok(now)
}
