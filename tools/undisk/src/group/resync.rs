//! `undisk group resync`

use super::status::find;
use crate::progress::Meter;
use crate::report::Report;
use crate::session::{LONG, QUICK, Session, unexpected};
use clap::Args;
use control::answer::{Answer, GroupMode, Health, Progress, SplitterStatus};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::name::{Name, Named};
use control::request::SplitterRequest;
use std::time::{Duration, Instant};

/// Time between two looks at it.
const PACE: Duration = Duration::from_millis(200);

/// Read again what the journal lacks of a group.
#[derive(Debug, Args)]
pub struct Resync {
    /// The group's name
    name: String,
    /// Read everything, not only what is known to be missing
    #[arg(long)]
    full: bool,
    /// Wait until it is complete
    #[arg(long)]
    wait: bool,
}

impl Resync {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let name = Name::parse(Named::Group, &self.name)?;
        let request = SplitterRequest::GroupResync { group: name.as_str().into(), full: self.full };
        let Answer::Done { outcome, message } = session.ask_splitter(&request, LONG)? else {
            return Err(unexpected(Daemon::Splitter));
        };
        let report = Report::done(outcome, message);
        if !self.wait {
            return Ok(report);
        }
        wait(session, name.as_str())?;
        Ok(report.line(format!("group {name} is resynchronised: points from now on can be opened")))
    }
}

/// Waits until both sides say that it is over.
fn wait(session: &Session, name: &str) -> Result<(), ControlError> {
    let meter = Meter::start(&format!("resynchronising group {name}"), session.progress);
    let deadline = Instant::now() + session.patience(LONG);
    loop {
        let splitter = session.splitter_status(QUICK)?;
        let side = splitter.groups.iter().find(|side| side.name == name);
        let done = match side.map(|side| side.mode) {
            None => return Err(super::status::no_group(name)),
            Some(GroupMode::Resyncing) => false,
            Some(GroupMode::Active) => match find(session, name)?.health {
                Health::Protected => true,
                Health::Synchronising | Health::Unlinked | Health::NeedsResync { .. } => false,
                Health::Trouble { reason } => {
                    return Err(ControlError::failed(format!("the journal of group {name} is in trouble: {reason}"))
                        .hint(format!("undisk journal verify {name}")));
                }
            },
            Some(GroupMode::Paused) => {
                return Err(ControlError::refused(format!(
                    "group {name} was paused, and its resynchronisation with it"
                ))
                .hint(format!("undisk group resume {name}")));
            }
            Some(GroupMode::Marking) => {
                let reason = side.and_then(|side| side.reason.as_deref()).unwrap_or("records were lost again");
                return Err(ControlError::failed(format!("the resynchronisation of group {name} broke off: {reason}"))
                    .hint(format!("undisk group resync {name}")));
            }
        };
        if done {
            return Ok(());
        }
        if let Some(progress) = progress_of(&splitter, name) {
            meter.show(&progress);
        }
        if Instant::now() >= deadline {
            return Err(ControlError::new(Kind::TimedOut, format!("the resynchronisation of group {name} goes on"))
                .hint(format!("undisk group status {name}")));
        }
        std::thread::sleep(PACE);
    }
}

/// How far the volumes of the group are, together.
fn progress_of(splitter: &SplitterStatus, name: &str) -> Option<Progress> {
    let parts: Vec<_> = splitter
        .volumes
        .iter()
        .filter(|volume| volume.group == name)
        .filter_map(|volume| volume.sync.as_ref())
        .collect();
    let sum = |of: fn(&Progress) -> u64| parts.iter().map(|part| of(part)).fold(0, u64::saturating_add);
    (!parts.is_empty()).then(|| Progress {
        what: format!("resynchronising group {name}"),
        done: sum(|part| part.done),
        total: sum(|part| part.total),
    })
}
