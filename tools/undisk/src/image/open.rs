//! `undisk image open`

use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::Answer;
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::point::GroupPoint;
use control::request::ApplianceRequest;
use control::time::local;

/// Open a past moment as block devices.
#[derive(Debug, Args)]
pub struct Open {
    /// The moment: G@latest, G@#BOOKMARK, G@-5m, G@2026-11-22T10:00, G@seq:N, G@@EPOCH
    #[arg(value_name = "GROUP@POINT")]
    point: String,
    /// Writable, over a throw-away overlay: the journal and the volume stay as they are
    #[arg(long)]
    rw: bool,
    /// Also a moment that is no barrier, of a group that several splitters serve: what their volumes then show together
    /// is of no one moment
    #[arg(long)]
    any_point: bool,
    /// Only this volume of the group
    #[arg(long, value_name = "V")]
    volume: Option<String>,
}

impl Open {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let asked: GroupPoint = self.point.parse()?;
        let request = ApplianceRequest::ImageOpen {
            group: asked.group.into(),
            point: asked.point,
            rw: self.rw,
            any_point: self.any_point,
            volume: self.volume.map(|volume| Name::parse(Named::Volume, &volume)).transpose()?.map(String::from),
        };
        let Answer::Images { images } = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        let mut report = Report::new().field("images", &images);
        for image in &images {
            report = report.line(format!(
                "volume {} as it was at seq:{}, {}, {}, opened in {} ms",
                image.volume,
                image.position,
                local(image.time_ns),
                if image.rw { "writable" } else { "read-only" },
                image.open_ms
            ));
        }
        Ok(report.results(images.iter().map(|image| image.device.display().to_string())))
    }
}
