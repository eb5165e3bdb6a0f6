//! `undisk up`: both daemons, and a supervisor that keeps them.
//!
//! Repeating it repairs: it starts what is missing and leaves alone what runs. When it fails, nothing that it started
//! stays behind; what ran before it, keeps running.

use crate::config;
use crate::problems;
use crate::progress::Meter;
use crate::report::Report;
use crate::session::{Session, absolute};
use crate::supervise::{self, Known};
use crate::systemd;
use control::answer::{ApplianceStatus, Health, Outcome, SplitterStatus, VolumeState};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::pid_file;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long both daemons may take to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one question for the status may take while waiting.
const LOOK: Duration = Duration::from_secs(2);
/// Time between two looks.
const PACE: Duration = Duration::from_millis(50);
/// How long links may take to stand once all else does; longer than a splitter that was refused waits.
const LINKING: Duration = Duration::from_secs(8);
/// A daemon that dies so often without ever answering will not come up.
const DEATHS_MAX: u32 = 3;
/// How long what was started may take to go away again after a failure.
const CLEARING: Duration = Duration::from_secs(30);

/// Both daemons, answering.
struct Answers {
    splitter: SplitterStatus,
    appliance: ApplianceStatus,
}

/// Start both daemons on this host, or what is missing of them; with --splitter or --appliance, a splitter alone.
#[derive(Debug, clap::Args)]
pub struct Up {
    /// Let the splitter talk to the appliance behind this control socket, instead of starting one
    #[arg(long, value_name = "SOCKET")]
    appliance: Option<PathBuf>,
}

impl Up {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let Some(socket) = self.appliance else { return run(session) };
        let paths = session.paths.clone().with_appliance(Some(absolute(&socket)?));
        run(&session.at(paths))
    }
}

/// Starts what is missing.
fn run(session: &Session) -> Result<Report, ControlError> {
    let paths = &session.paths;
    // Before anything is made.
    config::check(paths.config())?;
    let programs = supervise::find_daemons();
    if session.splitter_only() {
        appliance_answers(session)?;
    }
    if !held(&splitter_pid(session))? {
        driver_is_there(paths.ublk_control())?;
        programs?;
    }
    paths.prepare()?;
    let deadline = Instant::now() + session.patience(PATIENCE);
    let _turn = turn(session, deadline)?;
    if !session.splitter_only() && systemd::runs_the_daemons(paths) {
        let answers = look(session).ok_or_else(|| {
            ControlError::new(
                Kind::Unreachable,
                "systemd runs the daemons on this host, and one of them does not answer",
            )
            .hint("systemctl start undisk.target; systemctl status 'undisk-*'")
        })?;
        return Ok(told(Outcome::AlreadySo, &answers));
    }
    let supervised = supervisor(session)?.is_some();
    if let (true, Some(answers)) = (supervised, look(session).filter(Answers::are_complete)) {
        return Ok(told(Outcome::AlreadySo, &answers));
    }
    let served_before = held(&splitter_pid(session))? || (!session.splitter_only() && held(&paths.appliance_pid())?);
    // What it says is of the time before this run.
    let _ = std::fs::remove_file(paths.supervisor_state());
    if let Some(pid) = supervisor(session)? {
        // It may have given a daemon up, or be pausing between two tries.
        poke(pid);
    }
    let mut started = None;
    match wait(session, &mut started, deadline) {
        Ok(answers) => {
            let outcome = if supervised || served_before { Outcome::Changed } else { Outcome::Created };
            Ok(told(outcome, &answers))
        }
        Err(error) => {
            // Daemons that served before this run are not taken down by its failure.
            if let (Some(mut child), false) = (started, served_before) {
                clear(&mut child);
            }
            Err(error)
        }
    }
}

/// The pid file of the splitter that is meant.
fn splitter_pid(session: &Session) -> PathBuf {
    session.paths.splitter_pid(session.paths.splitter())
}

/// A splitter alone needs an appliance that is up: its volumes' journals are there.
fn appliance_answers(session: &Session) -> Result<(), ControlError> {
    let socket = session.paths.appliance_socket();
    session.appliance_status_within(LOOK).map(drop).map_err(|error| {
        let why = format!("no appliance answers on {}: {}", socket.display(), error.message);
        ControlError::new(error.kind, why)
            .hint("start it first (undisk up), or name its control socket: --appliance SOCKET")
    })
}

fn driver_is_there(control: &Path) -> Result<(), ControlError> {
    if control.exists() {
        return Ok(());
    }
    Err(ControlError::failed(format!(
        "cannot serve block devices: this kernel has no ublk driver loaded (no {})",
        control.display()
    ))
    .hint("modprobe ublk_drv; it needs Linux 6.0 or later with CONFIG_BLK_DEV_UBLK"))
}

/// Waits for its turn: one `up` or `down` at a time.
pub fn turn(session: &Session, deadline: Instant) -> Result<pid_file::PidFile, ControlError> {
    let path = session.paths.change_lock();
    let lock = pid_file::lock_until(&path, deadline)
        .map_err(|e| ControlError::failed(format!("cannot lock {}: {e}", path.display())))?;
    lock.ok_or_else(|| {
        ControlError::new(Kind::TimedOut, "another undisk up or undisk down is still at work").hint("try again later")
    })
}

/// The supervisor's pid, if one runs.
pub fn supervisor(session: &Session) -> Result<Option<u32>, ControlError> {
    holder(&session.paths.supervisor_pid())
}

/// Whether somebody plays the part of this pid file.
pub fn held(path: &Path) -> Result<bool, ControlError> {
    Ok(holder(path)?.is_some())
}

fn holder(path: &Path) -> Result<Option<u32>, ControlError> {
    pid_file::holder(path).map_err(|e| ControlError::failed(format!("cannot read {}: {e}", path.display())))
}

fn look(session: &Session) -> Option<Answers> {
    let appliance = session.appliance_status_within(LOOK).ok()?;
    let splitter = session.splitter_status_within(LOOK).ok()?;
    Some(Answers { splitter, appliance })
}

impl Answers {
    /// What is still to come: a splitter answers before it has brought its devices up. Volumes of a group that the
    /// splitter does not serve yet, and volumes whose device is not there yet.
    fn awaited(&self) -> Vec<&str> {
        let members = self.appliance.groups.iter().flat_map(|group| &group.volumes);
        let unknown = members
            .filter(|member| member.splitter_id == self.splitter.id)
            .map(|member| member.name.as_str())
            .filter(|name| !self.splitter.volumes.iter().any(|volume| volume.name == *name));
        let coming = self.splitter.volumes.iter().filter(|volume| match volume.state {
            VolumeState::Starting => true,
            VolumeState::Live | VolumeState::Restoring => !volume.device.exists(),
            VolumeState::Down { .. } => false,
        });
        unknown.chain(coming.map(|volume| volume.name.as_str())).collect()
    }

    /// Whether volumes and links are all there, but for links to groups in trouble: those may never be.
    fn are_complete(&self) -> bool {
        let ill = |name: &str| {
            let groups = &self.appliance.groups;
            groups.iter().any(|group| group.name == name && matches!(group.health, Health::Trouble { .. }))
        };
        self.awaited().is_empty() && self.splitter.groups.iter().all(|group| group.linked || ill(&group.name))
    }
}

fn poke(supervisor: u32) {
    // It may have died this instant; the wait that follows sees that.
    let _ = signal(supervisor, Signal::SIGUSR1);
}

/// Signals a process whose pid file is locked, so that the pid is its own.
pub fn signal(pid: u32, signal: Signal) -> nix::Result<()> {
    // 0 would be our own process group.
    let pid = i32::try_from(pid).ok().filter(|pid| *pid > 0).ok_or(nix::errno::Errno::ESRCH)?;
    kill(Pid::from_raw(pid), signal)
}

fn start_supervisor(session: &Session) -> Result<Child, ControlError> {
    let paths = &session.paths;
    let failed = |e: std::io::Error| ControlError::failed(format!("cannot start the supervisor: {e}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = Command::new(program);
    match paths.splitter() {
        Some(name) => command.env("UNDISK_SPLITTER", name),
        None => command.env_remove("UNDISK_SPLITTER"),
    };
    match paths.appliance() {
        Some(socket) => command.env("UNDISK_APPLIANCE", socket),
        None => command.env_remove("UNDISK_APPLIANCE"),
    };
    command
        .arg("supervise")
        // Absolute, because the supervisor works in the root folder.
        .env("UNDISK_STATE", paths.state())
        .env("UNDISK_RUN", paths.run())
        .env("UNDISK_CONFIG", paths.config())
        .env("UNDISK_UBLK_CONTROL", paths.ublk_control())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(supervise::open_log(&paths.log("supervisor")).map_err(failed)?)
        .spawn()
        .map_err(failed)
}

/// Waits until both daemons answer under a supervisor, and the volumes are there (at the deadline, without those); starts one when there is none, or when the one that there was
/// ends (it was asked to stop before this run).
fn wait(session: &Session, started: &mut Option<Child>, deadline: Instant) -> Result<Answers, ControlError> {
    let _meter = Meter::start("waiting for the daemons", session.progress);
    let mut answers;
    let mut volumes_there = None;
    loop {
        answers = None;
        match (supervisor(session)?, &started) {
            (None, None) => *started = Some(start_supervisor(session)?),
            (Some(_), _) => {
                answers = look(session);
                let since = match &answers {
                    Some(answers) if answers.awaited().is_empty() => *volumes_there.get_or_insert_with(Instant::now),
                    Some(_) | None => Instant::now(),
                };
                if let Some(enough) = answers.take_if(|answers| answers.are_complete() || since.elapsed() >= LINKING) {
                    return Ok(enough);
                }
            }
            // It has not got so far yet, or has ended, which is seen below.
            (None, Some(_)) => {}
        }
        if let Some(Ok(Some(status))) = started.as_mut().map(Child::try_wait) {
            return Err(does_not_start(session, "supervisor", &format!("it ended with {status}")));
        }
        let known = Known::read(&session.paths.supervisor_state());
        for (name, daemon) in known.iter().flat_map(Known::daemons) {
            if daemon.deaths >= DEATHS_MAX {
                let how = daemon.ended.as_deref().unwrap_or("it died");
                return Err(does_not_start(session, name, how));
            }
        }
        if Instant::now() >= deadline {
            if let Some(incomplete) = answers {
                return Ok(incomplete);
            }
            let silent = match (session.appliance_status_within(LOOK), session.splitter_status_within(LOOK)) {
                (Ok(_), _) => Daemon::Splitter,
                (Err(_), _) => Daemon::Appliance,
            };
            let mut error = does_not_start(session, &silent.to_string(), "it does not answer");
            error.kind = Kind::TimedOut;
            return Err(error);
        }
        std::thread::sleep(PACE);
    }
}

/// One line: who, how, and the last thing that it wrote.
fn does_not_start(session: &Session, name: &str, how: &str) -> ControlError {
    let log = session.paths.log(name);
    let said = supervise::last_line(&log).map_or_else(String::new, |line| format!("; its last words: {line}"));
    ControlError::failed(format!("the {name} does not start: {how}{said}")).hint(format!("see {}", log.display()))
}

/// Takes back what this run started.
fn clear(supervisor: &mut Child) {
    let _ = signal(supervisor.id(), Signal::SIGTERM);
    let deadline = Instant::now() + CLEARING;
    while Instant::now() < deadline {
        match supervisor.try_wait() {
            Ok(None) => std::thread::sleep(PACE),
            Ok(Some(_)) | Err(_) => return,
        }
    }
    let _ = supervisor.kill();
    let _ = supervisor.wait();
}

fn told(outcome: Outcome, answers: &Answers) -> Report {
    let word = match outcome {
        Outcome::Created => "up",
        Outcome::AlreadySo => "already up",
        Outcome::Changed => "up again",
    };
    let (splitter, appliance) = (&answers.splitter, &answers.appliance);
    let mut report = Report::new()
        .field("outcome", &outcome)
        .field("splitter_pid", &splitter.pid)
        .field("appliance_pid", &appliance.pid)
        .line(format!(
            "{word}: splitter pid {} with {} volumes, appliance pid {} with {} groups",
            splitter.pid,
            splitter.volumes.len(),
            appliance.pid,
            appliance.groups.len()
        ));
    let mut problems: Vec<String> =
        answers.awaited().into_iter().map(|name| format!("volume {name} is not served yet")).collect();
    problems.extend(problems::of_splitter(splitter, true));
    problems.extend(problems::of_appliance(appliance));
    report = report.field("problems", &problems);
    for problem in problems {
        report = report.complaint(Kind::Degraded, problem);
    }
    report
}
