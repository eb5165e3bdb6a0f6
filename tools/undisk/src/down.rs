//! `undisk down`: stops the splitter, then the appliance, then the supervisor.
//!
//! The splitter first: it drains into the appliance. Refused while a device is open or mounted. Repeating it is
//! harmless.

use crate::in_use;
use crate::progress::Meter;
use crate::report::Report;
use crate::session::Session;
use crate::up;
use clap::Args;
use control::answer::{Image, Outcome};
use control::client::Client;
use control::error::{ControlError, Kind};
use control::pid_file;
use control::request::{ApplianceRequest, SplitterRequest};
use nix::sys::signal::Signal;
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long draining and closing may take in all.
const PATIENCE: Duration = Duration::from_secs(5 * 60);
/// How long a daemon that is being restarted may take until it can be asked to stop.
const RESTART: Duration = Duration::from_secs(15);
/// Time between two looks.
const PACE: Duration = Duration::from_millis(20);

/// Stop both daemons.
#[derive(Debug, Args)]
pub struct Down {
    /// Even while devices are open or mounted: whoever uses them gets I/O errors
    #[arg(long)]
    force: bool,
}

impl Down {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let paths = &session.paths;
        let mut named = Report::new();
        if !session.splitter_only() {
            // Those with a name drain into the appliance too.
            for name in paths.splitters().into_iter().flatten() {
                let paths = paths.clone().with_splitter(Some(name.clone()));
                if up::held(&paths.splitter_pid(Some(&name)))? {
                    let down = Self { force: self.force }.stop_all(&session.at(paths))?;
                    named = named.line(format!("splitter {name}:")).with(down);
                }
            }
        }
        Ok(named.with(self.stop_all(session)?))
    }

    /// Stops what belongs together: a splitter alone, or both daemons.
    fn stop_all(self, session: &Session) -> Result<Report, ControlError> {
        let paths = &session.paths;
        let mut parts = vec![paths.splitter_pid(paths.splitter()), paths.supervisor_pid()];
        if !session.splitter_only() {
            parts.push(paths.appliance_pid());
        }
        if !paths.run().exists() || !any_held(&parts)? {
            return Ok(already_down(session));
        }
        let deadline = Instant::now() + session.patience(PATIENCE);
        let _turn = up::turn(session, deadline)?;
        let _meter = Meter::start("stopping", session.progress);
        settle(session, deadline)?;
        // From here on the supervisor restarts nothing, as long as this process lives.
        let stop_lock = paths.stop_lock();
        let _stopping = pid_file::lock_until(&stop_lock, deadline)
            .map_err(|e| ControlError::failed(format!("cannot lock {}: {e}", stop_lock.display())))?
            .ok_or_else(|| ControlError::new(Kind::TimedOut, "another undisk down is still at work"))?;
        if !self.force {
            in_use::refuse("stop", devices(session).iter().map(PathBuf::as_path))?;
        }
        let force = self.force;
        let pid = paths.splitter_pid(paths.splitter());
        let mut stopped = vec![stop(&session.splitter(), &SplitterRequest::Stop { force }, &pid, deadline)?];
        if !session.splitter_only() {
            let request = ApplianceRequest::Stop { force };
            stopped.push(stop(&session.appliance(), &request, &paths.appliance_pid(), deadline)?);
        }
        if let Some(pid) = up::supervisor(session)? {
            // Gone already is what we want.
            let _ = up::signal(pid, Signal::SIGTERM);
            gone("supervisor", &paths.supervisor_pid(), deadline)?;
        }
        let mut report = Report::new().field("outcome", &Outcome::Changed).line("down");
        if let Some(left) = left_devices(session) {
            report = report.complaint(Kind::Degraded, left);
        }
        for complaint in stopped.into_iter().flatten() {
            report = report.complaint(complaint.kind, complaint.message);
        }
        Ok(report)
    }
}

fn any_held(parts: &[PathBuf]) -> Result<bool, ControlError> {
    for part in parts {
        if up::held(part)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Nothing runs.
fn already_down(session: &Session) -> Report {
    let report = Report::new().field("outcome", &Outcome::AlreadySo).line("already down");
    match left_devices(session) {
        None => report,
        Some(left) => report.complaint(Kind::Degraded, left),
    }
}

/// Devices of a splitter that was killed may still be there (those that have a file for udev, and exist); only a
/// splitter can take them away.
fn left_devices(session: &Session) -> Option<String> {
    // A splitter that runs by itself is one of several: what is there may be another's, which serves it.
    if session.splitter_only() {
        return None;
    }
    let dir = session.paths.run().join("dev");
    let names = std::fs::read_dir(dir).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut left: Vec<String> =
        names.filter_map(|name| name.strip_suffix(".env").map(|device| format!("/dev/{device}"))).collect();
    left.retain(|device| Path::new(device).exists());
    left.sort();
    (!left.is_empty()).then(|| {
        format!("devices of a daemon that was killed are left: {} (undisk up, then undisk down)", left.join(" "))
    })
}

/// With a supervisor, a daemon that has just died is back in a moment: let it, so that it can stop in good order.
fn settle(session: &Session, deadline: Instant) -> Result<(), ControlError> {
    let until = deadline.min(Instant::now() + RESTART);
    while up::supervisor(session)?.is_some() && Instant::now() < until {
        let answers =
            session.splitter_status_within(RESTART).is_ok() && session.appliance_status_within(RESTART).is_ok();
        if answers {
            return Ok(());
        }
        std::thread::sleep(PACE);
    }
    Ok(())
}

/// All devices that either daemon serves.
fn devices(session: &Session) -> Vec<PathBuf> {
    let splitter = session.splitter_status_within(RESTART).map(|status| status.volumes).unwrap_or_default();
    let images = if session.splitter_only() { Ok(Vec::new()) } else { images(session) };
    let appliance = images.unwrap_or_default();
    splitter.into_iter().map(|volume| volume.device).chain(appliance.into_iter().map(|image| image.device)).collect()
}

fn images(session: &Session) -> Result<Vec<Image>, ControlError> {
    session.appliance_status_within(RESTART).map(|status| status.images)
}

/// Asks a daemon to stop and waits until it is gone; nothing to do when it is gone already. What it could not bring
/// to an end in good order comes back as a complaint.
pub fn stop<R: Serialize>(
    client: &Client,
    request: &R,
    pid_file: &Path,
    deadline: Instant,
) -> Result<Option<ControlError>, ControlError> {
    if !up::held(pid_file)? {
        return Ok(None);
    }
    let left = deadline.saturating_duration_since(Instant::now());
    let mut complaint = None;
    match client.ask(request, left, |_| {}) {
        Ok(_) => {}
        // It stops all the same.
        Err(error) if error.kind == Kind::Degraded => complaint = Some(error),
        // It may have ended between the two questions, or before its answer was out.
        Err(error) if error.kind == Kind::Unreachable => {
            if !ends(pid_file, deadline.min(Instant::now() + RESTART))? {
                return Err(error);
            }
        }
        Err(error) => return Err(error),
    }
    gone(&client.daemon().to_string(), pid_file, deadline)?;
    Ok(complaint)
}

/// Waits until nobody holds this pid file, and its process is gone.
fn gone(name: &str, pid_file: &Path, deadline: Instant) -> Result<(), ControlError> {
    if ends(pid_file, deadline)? {
        return Ok(());
    }
    Err(ControlError::new(Kind::TimedOut, format!("the {name} was asked to stop and is still at it"))
        .hint("undisk status; undisk down again"))
}

fn ends(pid_file: &Path, deadline: Instant) -> Result<bool, ControlError> {
    while up::held(pid_file)? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        std::thread::sleep(PACE);
    }
    Ok(true)
}
