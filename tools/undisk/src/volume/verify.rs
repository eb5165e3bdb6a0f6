//! `undisk volume verify`

use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::{Answer, SectorRun, UnreadableRun, VolumeVerified};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::name::{Name, Named};
use control::request::SplitterRequest;
use control::size::Size;

/// Compare a volume with its newest image. Exit status 3 when they differ.
#[derive(Debug, Args)]
pub struct Verify {
    /// The volume's name
    name: String,
    /// Record the volume's content again where they differ: the volume is right, whatever the journal has
    #[arg(long)]
    repair: bool,
}

impl Verify {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let name = Name::parse(Named::Volume, &self.name)?;
        let request = SplitterRequest::VolumeVerify { name: name.into(), repair: self.repair };
        let Answer::VolumeVerified(found) = session.ask_splitter(&request, LONG)? else {
            return Err(unexpected(Daemon::Splitter));
        };
        Ok(told(&found))
    }
}

fn told(found: &VolumeVerified) -> Report {
    let volume = &found.volume;
    let report = Report::new()
        .field("verified", found)
        .results(found.differing.iter().map(differing))
        .results(found.unreadable.iter().map(unreadable));
    let whole = found.differing.is_empty() && found.unreadable.is_empty();
    if whole {
        return report.line(format!("volume {volume} and its newest image are the same: {}", Size(found.bytes)));
    }
    let mut wrong = Vec::new();
    if !found.differing.is_empty() {
        let places = count(found.differing.len());
        wrong.push(format!(
            "volume {volume} and its newest image differ in {places}, {}: {}",
            Size(found.differing_bytes),
            if found.repaired {
                "the volume's content was recorded again, points from now on are right".to_owned()
            } else {
                format!("undisk volume verify {volume} --repair records the volume's content again")
            }
        ));
    }
    if !found.unreadable.is_empty() {
        let places = count(found.unreadable.len());
        wrong.push(format!(
            "the newest image of volume {volume} cannot be read in {places}: undisk journal verify {}",
            found.group
        ));
    }
    report.line(format!("compared {}", Size(found.bytes))).complaint(Kind::Degraded, wrong.join("; "))
}

fn count(places: usize) -> String {
    format!("{places} {}", if places == 1 { "place" } else { "places" })
}

fn differing(run: &SectorRun) -> String {
    format!("sectors {}+{} differ", run.sector, run.sectors)
}

fn unreadable(run: &UnreadableRun) -> String {
    format!("sectors {}+{} cannot be read: {}", run.sector, run.sectors, run.reason)
}
