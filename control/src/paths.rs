//! Where everything is: the folders and files that the daemons and the command line share.
//!
//! Owns the names of sockets, pid files and folders, and that folders are made for root alone. Deliberately knows
//! nothing of what is inside the state of either daemon.

use crate::error::ControlError;
use std::env;
use std::ffi::OsString;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// State that outlives a reboot, unless `UNDISK_STATE` says otherwise.
pub const STATE: &str = "/var/lib/undisk";
/// Sockets, pid files, outboxes and logs, gone at a reboot, unless `UNDISK_RUN` says otherwise.
pub const RUN: &str = "/run/undisk";
/// The configuration, unless `UNDISK_CONFIG` says otherwise.
pub const CONFIG: &str = "/etc/undisk/undisk.toml";
/// The control node of the kernel's ublk driver, unless `UNDISK_UBLK_CONTROL` says otherwise (tests do).
pub const UBLK_CONTROL: &str = "/dev/ublk-control";

/// The places of one installation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    state: PathBuf,
    run: PathBuf,
    config: PathBuf,
    ublk_control: PathBuf,
    /// Which splitter is meant, where a host has several; `None`: the host's own.
    splitter: Option<String>,
    /// The control socket of the appliance; `None`: the one of this host.
    appliance: Option<PathBuf>,
}

impl Paths {
    /// The places that the environment names, the usual ones otherwise. A relative path is taken from the working
    /// folder; an empty variable is as good as none.
    pub fn from_env() -> Self {
        Self::from_lookup(|name| env::var_os(name))
    }

    /// As [`Paths::from_env`], from another source of variables.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<OsString>) -> Self {
        let place = |name: &str, usual: &str| match lookup(name) {
            Some(given) if !given.is_empty() => {
                let given = PathBuf::from(given);
                std::path::absolute(&given).unwrap_or(given)
            }
            Some(_) | None => PathBuf::from(usual),
        };
        Self {
            state: place("UNDISK_STATE", STATE),
            run: place("UNDISK_RUN", RUN),
            config: place("UNDISK_CONFIG", CONFIG),
            ublk_control: place("UNDISK_UBLK_CONTROL", UBLK_CONTROL),
            splitter: lookup("UNDISK_SPLITTER")
                .filter(|name| !name.is_empty())
                .map(|name| name.to_string_lossy().into_owned()),
            appliance: lookup("UNDISK_APPLIANCE").filter(|path| !path.is_empty()).map(|given| {
                let given = PathBuf::from(given);
                std::path::absolute(&given).unwrap_or(given)
            }),
        }
    }

    /// The same places, with this splitter of the host meant.
    #[must_use]
    pub fn with_splitter(self, name: Option<String>) -> Self {
        Self { splitter: name, ..self }
    }

    /// The same places, with the appliance behind this control socket.
    #[must_use]
    pub fn with_appliance(self, socket: Option<PathBuf>) -> Self {
        Self { appliance: socket, ..self }
    }

    /// Which splitter of the host is meant; `None`: its own.
    pub fn splitter(&self) -> Option<&str> {
        self.splitter.as_deref()
    }

    /// The control socket of the appliance that was named; `None`: the one of this host.
    pub fn appliance(&self) -> Option<&Path> {
        self.appliance.as_deref()
    }

    /// The splitters of this host that have a control socket: its own, then those with a name, by name.
    pub fn splitters(&self) -> Vec<Option<String>> {
        let mut named: Vec<String> = std::fs::read_dir(&self.run)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .filter_map(|file| Some(file.strip_prefix("splitter-")?.strip_suffix(".sock")?.to_owned()))
            .collect();
        named.sort();
        let own = self.splitter_socket(None).exists().then_some(None);
        let mut all: Vec<_> = own.into_iter().chain(named.into_iter().map(Some)).collect();
        if all.is_empty() {
            // Whoever asks it hears that it is not there.
            all.push(None);
        }
        all
    }

    /// These places, whatever the environment says.
    pub fn new(state: impl Into<PathBuf>, run: impl Into<PathBuf>, config: impl Into<PathBuf>) -> Self {
        Self {
            state: state.into(),
            run: run.into(),
            config: config.into(),
            ublk_control: UBLK_CONTROL.into(),
            splitter: None,
            appliance: None,
        }
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// The run-time folder.
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// The configuration file; it need not exist.
    pub fn config(&self) -> &Path {
        &self.config
    }

    /// The control node of the kernel's ublk driver.
    pub fn ublk_control(&self) -> &Path {
        &self.ublk_control
    }

    /// The splitter's own state folder.
    pub fn splitter_state(&self) -> PathBuf {
        self.state.join(self.of_splitter("splitter"))
    }

    /// A name of a file or folder of the splitter that is meant.
    fn of_splitter(&self, name: &str) -> String {
        match &self.splitter {
            None => name.to_owned(),
            Some(splitter) => format!("{name}-{splitter}"),
        }
    }

    /// The appliance's own state folder; journals go below it unless a group says otherwise.
    pub fn appliance_state(&self) -> PathBuf {
        self.state.join("appliance")
    }

    /// The control socket of the host's splitter; of the splitter `name` where a host has several.
    pub fn splitter_socket(&self, name: Option<&str>) -> PathBuf {
        match name {
            None => self.run.join("splitter.sock"),
            Some(name) => self.run.join(format!("splitter-{name}.sock")),
        }
    }

    /// The control socket of the appliance.
    pub fn appliance_socket(&self) -> PathBuf {
        self.appliance.clone().unwrap_or_else(|| self.run.join("appliance.sock"))
    }

    /// The socket on which the appliance takes splitters' streams: beside its control socket.
    pub fn link_socket(&self) -> PathBuf {
        self.appliance_socket().with_file_name("link.sock")
    }

    /// The splitter's pid file; see [`crate::pid_file`].
    pub fn splitter_pid(&self, name: Option<&str>) -> PathBuf {
        match name {
            None => self.run.join("splitter.pid"),
            Some(name) => self.run.join(format!("splitter-{name}.pid")),
        }
    }

    /// The appliance's pid file; see [`crate::pid_file`].
    pub fn appliance_pid(&self) -> PathBuf {
        self.run.join("appliance.pid")
    }

    /// The supervisor's pid file; see [`crate::pid_file`].
    pub fn supervisor_pid(&self) -> PathBuf {
        self.run.join(format!("{}.pid", self.of_splitter("supervisor")))
    }

    /// What the supervisor last knew of its daemons, as one JSON object.
    pub fn supervisor_state(&self) -> PathBuf {
        self.run.join(format!("{}.json", self.of_splitter("supervisor")))
    }

    /// Locked by whoever brings the daemons up or down.
    pub fn change_lock(&self) -> PathBuf {
        self.run.join("change.lock")
    }

    /// Locked by `undisk down` while it stops the daemons: the supervisor restarts nothing meanwhile.
    pub fn stop_lock(&self) -> PathBuf {
        self.run.join("stop.lock")
    }

    /// Folder of the outboxes (on tmpfs: they must not outlive a boot).
    pub fn outboxes(&self) -> PathBuf {
        self.run.join(self.of_splitter("outbox"))
    }

    /// The log of a process that the supervisor starts (`splitter`, `appliance`, `supervisor`).
    pub fn log(&self, process: &str) -> PathBuf {
        let name = if process == "appliance" { process.to_owned() } else { self.of_splitter(process) };
        self.run.join("log").join(format!("{name}.log"))
    }

    /// What udev is to know of `/dev/ublkbN`; written before the device is started, removed after it is gone. Lines
    /// `KEY=VALUE`: `UNDISK_KIND` (`volume` or `image`), `UNDISK_GROUP`, `UNDISK_VOLUME`, `UNDISK_UUID`.
    pub fn device_env(&self, dev_id: u32) -> PathBuf {
        self.run.join("dev").join(format!("ublkb{dev_id}.env"))
    }

    /// Makes the state and run-time folders, for root alone (0700), and the folders below the run-time one.
    pub fn prepare(&self) -> Result<(), ControlError> {
        make_private_dir(&self.state)?;
        make_private_dir(&self.run)?;
        for below in ["dev", "log"] {
            make_private_dir(&self.run.join(below))?;
        }
        make_private_dir(&self.outboxes())
    }
}

/// Makes a folder (and its parents) for its owner alone, 0700; one that is there already is narrowed to that.
/// Refuses a folder of another owner: whoever owns it could replace what we put there.
pub fn make_private_dir(dir: &Path) -> Result<(), ControlError> {
    let failed = |doing: &str, e: &io::Error| ControlError::failed(format!("{doing} {}: {e}", dir.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| failed("cannot make the folder", &e))?;
    let found = std::fs::metadata(dir).map_err(|e| failed("cannot read the folder", &e))?;
    let us = nix::unistd::geteuid().as_raw();
    if found.uid() != us {
        return Err(ControlError::refused(format!(
            "{} belongs to user {}, not to user {us} as which undisk runs",
            dir.display(),
            found.uid()
        )));
    }
    if found.permissions().mode() & 0o777 != 0o700 {
        std::fs::set_permissions(dir, Permissions::from_mode(0o700))
            .map_err(|e| failed("cannot narrow the permissions of", &e))?;
    }
    Ok(())
}
