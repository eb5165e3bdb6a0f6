//! `undisk image close`

use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::Answer;
use control::client::Daemon;
use control::error::ControlError;
use control::request::ApplianceRequest;
use std::path::Path;

/// Close images.
#[derive(Debug, Args)]
pub struct Close {
    /// A device, an id, or GROUP@POINT as given at opening
    #[arg(value_name = "IMAGE", required_unless_present = "all", conflicts_with = "all")]
    which: Option<String>,
    /// All images
    #[arg(long)]
    all: bool,
    /// Even while the device is open or mounted
    #[arg(long)]
    force: bool,
}

impl Close {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let request = ApplianceRequest::ImageClose { which: self.which.as_deref().map(resolved), force: self.force };
        let Answer::Done { outcome, message } = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(Report::done(outcome, message))
    }
}

/// A link to a device (`/dev/undisk/...`) as the device itself, which is what the appliance knows it by.
fn resolved(which: &str) -> String {
    let path = Path::new(which);
    if !path.is_absolute() || !path.is_symlink() {
        return which.to_owned();
    }
    std::fs::canonicalize(path).map_or_else(|_| which.to_owned(), |device| device.display().to_string())
}
