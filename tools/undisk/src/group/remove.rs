//! `undisk group remove`: the one verb that destroys history.

use crate::confirm::{confirm, somebody_to_ask};
use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::Answer;
use control::client::Daemon;
use control::error::ControlError;
use control::request::ApplianceRequest;
use control::size::Size;

/// Delete a group without volumes.
#[derive(Debug, Args)]
pub struct Remove {
    /// The group's name
    name: String,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Remove {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let group = super::status::find(session, &self.name)?;
        if let Some(volume) = group.volumes.first() {
            return Err(ControlError::refused(format!(
                "will not remove group {}: volume {} is in it",
                group.name, volume.name
            ))
            .hint(format!("undisk volume remove {}", volume.name)));
        }
        let lost = format!(
            "removes group {}, its journal of {} in {} and all points with it; this cannot be undone",
            group.name,
            Size(group.journal_bytes),
            group.journal.display()
        );
        if !(session.json || session.quiet) || (!self.yes && somebody_to_ask()) {
            session.say(&lost);
        }
        confirm(&format!("remove group {}", group.name), &group.name, self.yes)?;
        let request = ApplianceRequest::GroupRemove { name: group.name };
        let Answer::Done { outcome, message } = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(Report::done(outcome, message))
    }
}
