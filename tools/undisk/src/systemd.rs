//! Whether systemd runs the daemons on this host: then it restarts what dies, and a supervisor of ours would only get
//! in its way.

use control::paths::Paths;
use control::pid_file;

#[cfg(test)]
mod tests;

/// The units in `dist/`.
const UNITS: [&str; 2] = ["undisk-splitter.service", "undisk-appliance.service"];

/// Whether a daemon that runs here belongs to one of our units.
pub fn runs_the_daemons(paths: &Paths) -> bool {
    [paths.splitter_pid(None), paths.appliance_pid()]
        .iter()
        .filter_map(|part| pid_file::holder(part).ok().flatten())
        .any(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).is_ok_and(|text| is_unit(&text)))
}

/// Whether a `/proc/PID/cgroup` text names one of our units.
fn is_unit(cgroup: &str) -> bool {
    cgroup.lines().any(|line| UNITS.iter().any(|unit| line.split('/').any(|part| part == *unit)))
}
