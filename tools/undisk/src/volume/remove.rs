//! `undisk volume remove`

use crate::in_use;
use crate::report::Report;
use crate::session::{LONG, QUICK, Session, unexpected};
use clap::Args;
use control::answer::Answer;
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::SplitterRequest;

/// Stop serving a volume.
#[derive(Debug, Args)]
pub struct Remove {
    /// The volume's name
    name: String,
    /// Even while the device is open or mounted
    #[arg(long)]
    force: bool,
}

impl Remove {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let name = Name::parse(Named::Volume, &self.name)?;
        if !self.force {
            let volume = super::status::find(session, QUICK, name.as_str())?;
            in_use::refuse(&format!("remove volume {name}"), [volume.device.as_path()])?;
        }
        let request = SplitterRequest::VolumeRemove { name: name.into(), force: self.force };
        let Answer::Done { outcome, message } = session.ask_splitter(&request, LONG)? else {
            return Err(unexpected(Daemon::Splitter));
        };
        Ok(Report::done(outcome, message))
    }
}
