//! `undisk journal verify`

use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::{Answer, Finding, Verified};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::name::{Name, Named};
use control::request::ApplianceRequest;
use control::size::Size;

/// What to type where no daemon runs.
const OFFLINE: &str = "with no daemon running, a journal's folder is verified by: inspect verify DIR";

/// Check every checksum of a journal. Exit status 1 when anything is damaged.
#[derive(Debug, Args)]
pub struct Verify {
    /// The group's name
    group: String,
}

impl Verify {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if self.group.contains('/') {
            return Err(ControlError::usage(format!(
                "{:?} is a path, and the appliance verifies by group name",
                self.group
            ))
            .hint(OFFLINE));
        }
        let request = ApplianceRequest::JournalVerify { group: Name::parse(Named::Group, &self.group)?.into() };
        let answer = session.ask_appliance(&request, LONG).map_err(|error| match error.kind {
            Kind::Unreachable => {
                let hint =
                    error.hint.as_deref().map_or_else(|| OFFLINE.to_owned(), |hint| format!("{hint}; {OFFLINE}"));
                error.hint(hint)
            }
            Kind::Failed | Kind::Usage | Kind::Degraded | Kind::NotFound | Kind::Refused | Kind::TimedOut => error,
        })?;
        let Answer::Verified(verified) = answer else { return Err(unexpected(Daemon::Appliance)) };
        Ok(told(&verified))
    }
}

fn told(verified: &Verified) -> Report {
    let looked = format!("{} chunks, {} records, {}", verified.chunks, verified.records, Size(verified.bytes));
    let report = Report::new().field("verified", verified).results(verified.findings.iter().map(finding));
    match verified.findings.len() {
        0 => report.line(format!("the journal of group {} is whole: {looked}", verified.group)),
        places => report.line(format!("looked at {looked}")).complaint(
            Kind::Failed,
            format!(
                "the journal of group {} is damaged in {places} {}; points that need it are refused there, all others are right",
                verified.group,
                if places == 1 { "place" } else { "places" }
            ),
        ),
    }
}

/// One damaged place in one line.
fn finding(finding: &Finding) -> String {
    let extents: Vec<_> = finding
        .extents
        .iter()
        .map(|extent| format!("{} sectors {}+{}", extent.volume, extent.sector, extent.sectors))
        .collect();
    format!(
        "segment {} offset {} bytes {} seq:{}..{}: {}: {}",
        finding.segment,
        finding.offset,
        finding.bytes,
        finding.first_position,
        finding.last_position,
        finding.what,
        if extents.is_empty() { "extents unknown".to_owned() } else { extents.join(", ") }
    )
}
