//! Starting a daemon, or adopting one that runs, and learning of its end.

use super::care::Ending;
use control::error::ControlError;
use control::pid_file;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

/// The daemons' programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Programs {
    /// `journal-appliance`.
    pub appliance: PathBuf,
    /// `ublk-splitter`.
    pub splitter: PathBuf,
}

/// The end of a daemon.
#[derive(Clone, Debug)]
pub struct Ended {
    /// What it means.
    pub ending: Ending,
    /// How, in words.
    pub how: String,
    /// How long it was under our eyes.
    pub lived: Duration,
}

/// Finds the daemons' programs: beside `undisk`, else in `PATH`.
pub fn find_daemons() -> Result<Programs, ControlError> {
    Ok(Programs { appliance: find("journal-appliance")?, splitter: find("ublk-splitter")? })
}

fn find(name: &str) -> Result<PathBuf, ControlError> {
    let beside = std::env::current_exe().ok().and_then(|undisk| Some(undisk.parent()?.to_owned()));
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = beside.iter().cloned().chain(std::env::split_paths(&path));
    places.map(|place| place.join(name)).find(|program| program.is_file()).ok_or_else(|| {
        let beside = beside.map_or_else(String::new, |dir| format!(" in {} or", dir.display()));
        ControlError::failed(format!("cannot find the program {name}{beside} in PATH")).hint("install it beside undisk")
    })
}

/// Adopts the daemon that holds the pid file; starts one when nobody does. `ended` is told of its end, once, from
/// another thread.
pub fn adopt_or_start(
    program: &Path,
    pid_file: &Path,
    log: &Path,
    ended: impl FnOnce(Ended) + Send + 'static,
) -> io::Result<u32> {
    let began = Instant::now();
    if let Some(pid) = pid_file::holder(pid_file)? {
        let pid_file = pid_file.to_owned();
        std::thread::spawn(move || {
            let how = match pid_file::wait_free(&pid_file) {
                Ok(()) => "it was adopted, so its exit status is unknown".to_owned(),
                Err(e) => format!("cannot watch its pid file: {e}"),
            };
            ended(Ended { ending: Ending::Unknown, how, lived: began.elapsed() });
        });
        return Ok(pid);
    }
    let out = super::open_log(log)?;
    let mut child = Command::new(program)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()
        .map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", program.display())))?;
    let pid = child.id();
    std::thread::spawn(move || {
        let (ending, how) = match child.wait() {
            Ok(status) if status.success() => (Ending::Asked, "it was asked to stop".to_owned()),
            Ok(status) => (Ending::Died, in_words(status)),
            Err(e) => (Ending::Died, format!("cannot wait for it: {e}")),
        };
        ended(Ended { ending, how, lived: began.elapsed() });
    });
    Ok(pid)
}

fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => match nix::sys::signal::Signal::try_from(signal) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {signal}"),
        },
        (None, None) => status.to_string(),
    }
}

/// Closes what a shell or script left open for us: a pipe held by a process that never ends would hang its reader.
pub fn close_inherited() {
    let Ok(entries) = std::fs::read_dir("/proc/self/fd") else { return };
    let open: Vec<i32> =
        entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(|fd| *fd > 2).collect();
    for fd in open {
        // The folder's own descriptor is among them, and closed already.
        let _ = nix::unistd::close(fd);
    }
}

/// Last to be killed when memory runs out, and the daemons with it, which inherit this: a host whose splitter is
/// killed waits for its disk. Without the privilege it stays as it is.
pub fn hard_to_kill() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
}
