//! `undisk status`: the truth on one screen.
//!
//! Shows what can be known even when a daemon does not answer. Exit status 6 when one does not, 3 when anything is
//! degraded, else 0.

use crate::problems;
use crate::report::Report;
use crate::session::Session;
use crate::systemd;
use crate::table::{ListArgs, labelled};
use crate::{group, image, volume};
use control::answer::{ApplianceStatus, SplitterStatus};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::pid_file;
use serde::Serialize;
use std::time::Duration;

/// A daemon that is well answers a status at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who restarts what dies.
#[derive(Clone, Copy, Debug)]
enum Guard {
    Supervisor(u32),
    Systemd,
    Nobody,
}

impl Guard {
    fn pid(self) -> Option<u32> {
        match self {
            Self::Supervisor(pid) => Some(pid),
            Self::Systemd | Self::Nobody => None,
        }
    }

    fn line(self) -> String {
        match self {
            Self::Supervisor(pid) => format!("up, pid {pid}"),
            Self::Systemd => "systemd".into(),
            Self::Nobody => "none: what dies is not restarted".into(),
        }
    }
}

/// The whole in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Judgement {
    Ok,
    Degraded,
    Unreachable,
}

/// Shows how everything is.
pub fn run(session: &Session) -> Result<Report, ControlError> {
    let splitter = session.splitter_status(PATIENCE);
    let appliance = session.appliance_status(PATIENCE);
    let others = if session.splitter_only() { Vec::new() } else { others(session) };
    let supervisor = pid_file::holder(&session.paths.supervisor_pid()).ok().flatten();
    // Not being allowed to ask is no news about the daemons.
    for error in [splitter.as_ref().err(), appliance.as_ref().err()].into_iter().flatten() {
        if error.kind == Kind::Failed {
            return Err(error.clone());
        }
    }
    let guard = match supervisor {
        Some(pid) => Guard::Supervisor(pid),
        None if systemd::runs_the_daemons(&session.paths) => Guard::Systemd,
        None => Guard::Nobody,
    };
    tell(splitter.as_ref(), appliance.as_ref(), guard, &others)
}

/// The splitters of this host that have names, each with its answer.
fn others(session: &Session) -> Vec<(String, Result<SplitterStatus, ControlError>)> {
    let named = session.paths.splitters().into_iter().flatten();
    let ask = |name: String| {
        let paths = session.paths.clone().with_splitter(Some(name.clone()));
        let answer = session.at(paths).splitter_status(PATIENCE);
        (name, answer)
    };
    named.map(ask).collect()
}

fn tell(
    splitter: Result<&SplitterStatus, &ControlError>,
    appliance: Result<&ApplianceStatus, &ControlError>,
    guard: Guard,
    others: &[(String, Result<SplitterStatus, ControlError>)],
) -> Result<Report, ControlError> {
    let of_others = || others.iter().filter_map(|(_, answer)| answer.as_ref().ok());
    let unreachable: Vec<String> = [splitter.err(), appliance.err()]
        .into_iter()
        .flatten()
        .chain(others.iter().filter_map(|(_, answer)| answer.as_ref().err()))
        .map(|e| e.message.clone())
        .collect();
    let mut degraded = Vec::new();
    let appliance_answers = appliance.is_ok();
    degraded.extend(splitter.ok().into_iter().flat_map(|status| problems::of_splitter(status, appliance_answers)));
    degraded.extend(of_others().flat_map(|status| problems::of_splitter(status, appliance_answers)));
    degraded.extend(appliance.ok().into_iter().flat_map(problems::of_appliance));
    let judgement = match (unreachable.is_empty(), degraded.is_empty()) {
        (false, _) => Judgement::Unreachable,
        (true, false) => Judgement::Degraded,
        (true, true) => Judgement::Ok,
    };
    let problems: Vec<&String> = unreachable.iter().chain(&degraded).collect();
    let mut daemons =
        vec![("splitter".to_owned(), splitter_line(splitter)), ("appliance".to_owned(), appliance_line(appliance))];
    for (name, answer) in others {
        daemons.push((format!("splitter {name}"), splitter_line(answer.as_ref())));
    }
    daemons.push(("supervisor".to_owned(), guard.line()));
    let daemons: Vec<(&str, String)> = daemons.iter().map(|(name, line)| (name.as_str(), line.clone())).collect();
    let mut report = Report::new()
        .field("status", &judgement)
        .field("problems", &problems)
        .field("supervisor_pid", &guard.pid())
        .field("splitter", &splitter.ok())
        .field("appliance", &appliance.ok())
        .field("named_splitters", &of_others().collect::<Vec<_>>())
        .lines(labelled(&daemons));
    let list = ListArgs::default();
    let volumes: Vec<_> = splitter.ok().into_iter().chain(of_others()).flat_map(|s| s.volumes.clone()).collect();
    if !volumes.is_empty() {
        report = report.line("").lines(volume::list::lines(&list, &volumes)?);
    }
    if let Some(status) = splitter.ok().filter(|status| !status.groups.is_empty()) {
        report = report.line("").lines(group::side::lines(&list, &status.groups)?);
    }
    if let Some(status) = appliance.ok().filter(|status| !status.groups.is_empty()) {
        report = report.line("").lines(group::list::lines(&list, &status.groups)?);
    }
    if let Some(status) = appliance.ok().filter(|status| !status.images.is_empty()) {
        report = report.line("").lines(image::list::lines(&list, &status.images)?);
    }
    if judgement == Judgement::Ok {
        return Ok(report.line("").line("all is well"));
    }
    for line in &unreachable {
        report = report.complaint(Kind::Unreachable, line.clone());
    }
    for line in &degraded {
        report = report.complaint(Kind::Degraded, line.clone());
    }
    Ok(report)
}

fn splitter_line(status: Result<&SplitterStatus, &ControlError>) -> String {
    match status {
        Ok(status) => {
            format!("up, pid {}, release {}, {}", status.pid, status.version, count(status.volumes.len(), "volume"))
        }
        Err(error) => absent(Daemon::Splitter, error),
    }
}

fn appliance_line(status: Result<&ApplianceStatus, &ControlError>) -> String {
    match status {
        Ok(status) => format!(
            "up, pid {}, release {}, {}, {} open",
            status.pid,
            status.version,
            count(status.groups.len(), "group"),
            count(status.images.len(), "image")
        ),
        Err(error) => absent(Daemon::Appliance, error),
    }
}

fn absent(daemon: Daemon, error: &ControlError) -> String {
    let costs = match daemon {
        Daemon::Splitter => "volumes are not served",
        Daemon::Appliance => "images and history are out of reach, and writes wait in the outbox",
    };
    match error.kind {
        Kind::TimedOut => "does not answer".into(),
        Kind::Unreachable | Kind::Failed | Kind::Usage | Kind::Degraded | Kind::NotFound | Kind::Refused => {
            format!("down: {costs} (undisk up)")
        }
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}
