//! What every verb needs: where the daemons are, how to ask them, and how much to say.

use crate::grammar::Common;
use crate::progress::Meter;
use control::answer::{Answer, ApplianceStatus, SplitterStatus};
use control::client::{Client, Daemon};
use control::error::ControlError;
use control::name::{Name, Named};
use control::paths::Paths;
use control::point::parse_duration;
use control::request::{ApplianceRequest, SplitterRequest};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Enough for a question that is answered from memory.
pub const QUICK: Duration = Duration::from_secs(30);
/// Enough for anything that reads or writes volumes.
pub const LONG: Duration = Duration::from_secs(24 * 3600);

/// One run of the command line.
#[derive(Clone, Debug)]
pub struct Session {
    /// Where everything is.
    pub paths: Paths,
    /// One JSON object instead of text.
    pub json: bool,
    /// Only results.
    pub quiet: bool,
    /// Progress although stderr is no terminal.
    pub progress: bool,
    timeout: Option<Duration>,
}

impl Session {
    /// A run with these options. Refuses other users than root, unless they brought a run-time folder of their own.
    pub fn new(common: &Common) -> Result<Self, ControlError> {
        let timeout = common.timeout.as_deref().map(parse_duration).transpose()?.map(Duration::from_nanos);
        let own_place = std::env::var_os("UNDISK_RUN").is_some_and(|place| !place.is_empty());
        if !nix::unistd::geteuid().is_root() && !own_place {
            return Err(ControlError::failed("only root may use undisk: its devices and sockets are root's")
                .hint("run it as root, as in: sudo undisk ..."));
        }
        let mut paths = Paths::from_env();
        let splitter = common.splitter.as_deref().or_else(|| paths.splitter());
        if let Some(name) = splitter.map(splitter_name).transpose()? {
            paths = paths.with_splitter(Some(name));
        }
        Ok(Self { paths, json: common.json, quiet: common.quiet, progress: common.progress, timeout })
    }

    /// The time limit that was given, or this one.
    pub fn patience(&self, usual: Duration) -> Duration {
        self.timeout.unwrap_or(usual)
    }

    /// The same run at other places.
    #[must_use]
    pub fn at(&self, paths: Paths) -> Self {
        Self { paths, ..self.clone() }
    }

    /// Whether the splitter that is meant runs by itself: the appliance is somebody else's to start and to stop.
    pub fn splitter_only(&self) -> bool {
        self.paths.splitter().is_some() || self.paths.appliance().is_some()
    }

    /// The splitter of this host that is meant.
    pub fn splitter(&self) -> Client {
        Client::new(Daemon::Splitter, self.paths.splitter_socket(self.paths.splitter()))
    }

    /// The appliance of this host.
    pub fn appliance(&self) -> Client {
        Client::new(Daemon::Appliance, self.paths.appliance_socket())
    }

    /// Asks the splitter, with progress.
    pub fn ask_splitter(&self, request: &SplitterRequest, usual: Duration) -> Result<Answer, ControlError> {
        self.ask(&self.splitter(), request, usual)
    }

    /// Asks the appliance, with progress.
    pub fn ask_appliance(&self, request: &ApplianceRequest, usual: Duration) -> Result<Answer, ControlError> {
        self.ask(&self.appliance(), request, usual)
    }

    fn ask<R: Serialize>(&self, client: &Client, request: &R, usual: Duration) -> Result<Answer, ControlError> {
        let meter = Meter::start(&format!("waiting for the {}", client.daemon()), self.progress);
        client.ask(request, self.patience(usual), |progress| meter.show(progress))
    }

    /// How the splitter is.
    pub fn splitter_status(&self, usual: Duration) -> Result<SplitterStatus, ControlError> {
        let answer = self.ask_splitter(&SplitterRequest::Status, usual)?;
        let Answer::Splitter(status) = answer else { return Err(unexpected(Daemon::Splitter)) };
        Ok(status)
    }

    /// How the appliance is.
    pub fn appliance_status(&self, usual: Duration) -> Result<ApplianceStatus, ControlError> {
        let answer = self.ask_appliance(&ApplianceRequest::Status, usual)?;
        let Answer::Appliance(status) = answer else { return Err(unexpected(Daemon::Appliance)) };
        Ok(status)
    }

    /// How the splitter is; without progress, within this time whatever `--timeout` says.
    pub fn splitter_status_within(&self, patience: Duration) -> Result<SplitterStatus, ControlError> {
        let Answer::Splitter(status) = self.splitter().ask(&SplitterRequest::Status, patience, |_| {})? else {
            return Err(unexpected(Daemon::Splitter));
        };
        Ok(status)
    }

    /// How the appliance is; without progress, within this time whatever `--timeout` says.
    pub fn appliance_status_within(&self, patience: Duration) -> Result<ApplianceStatus, ControlError> {
        let Answer::Appliance(status) = self.appliance().ask(&ApplianceRequest::Status, patience, |_| {})? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(status)
    }

    /// Says a line now, before the end: to people on stdout; with `--json` or `--quiet`, stdout is not for that.
    pub fn say(&self, line: &str) {
        let _ = if self.json || self.quiet {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
    }
}

/// A splitter's name; `main` is the host's own, which is meant when no name is given.
fn splitter_name(name: &str) -> Result<String, ControlError> {
    let name = Name::parse(Named::Splitter, name)?;
    if name.as_str() == "main" {
        return Err(ControlError::usage("the host's own splitter is main: no other can have that name")
            .hint("leave --splitter out"));
    }
    Ok(name.into())
}

/// An answer that does not belong to the question.
pub fn unexpected(daemon: Daemon) -> ControlError {
    ControlError::failed(format!("the {daemon} answered something else than was asked"))
        .hint("daemon and command line may be of different releases: undisk down, then undisk up")
}

/// A path as given on the command line, absolute: the daemons have another working folder.
pub fn absolute(path: &Path) -> Result<PathBuf, ControlError> {
    std::path::absolute(path).map_err(|e| ControlError::usage(format!("\"{}\" is not a path: {e}", path.display())))
}
