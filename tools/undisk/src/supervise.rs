//! The supervisor that `undisk up` leaves behind: it restarts what dies.
//!
//! Owns the daemons' lives (both, or a splitter's alone) and their log files, nothing else: it serves nothing, opens no device, and lives in the
//! root folder and the host's mount namespace, so that it never keeps anything busy. Killing it harms nobody: the
//! daemons live on, and the next `undisk up` starts another one, which adopts them by their pid files.
//!
//! `care` decides, purely; here are the processes, signals and files.

mod care;
mod known;
mod launch;
mod log;

use crate::down;
use crate::report::Report;
use crate::session::Session;
use care::{Action, Care, Event};
use control::client::Daemon;
use control::error::ControlError;
use control::paths::Paths;
use control::pid_file;
use control::request::{ApplianceRequest, SplitterRequest};
use launch::Ended;
use nix::unistd::setsid;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::signal::unix::{SignalKind, signal};

pub use known::Known;
pub use launch::find_daemons;
pub use log::{last_line, open_log};

/// Longest time between two looks at pauses and logs.
const PACE: Duration = Duration::from_millis(50);
/// How long a stop that SIGTERM asked for may take.
const STOP_PATIENCE: Duration = Duration::from_secs(5 * 60);
/// Time between two looks at the size of the logs.
const LOG_PACE: Duration = Duration::from_secs(5);

/// What the supervisor wakes up for.
enum Message {
    /// SIGTERM or SIGINT: stop everything in good order.
    Stop,
    /// SIGUSR1: start whatever does not run, now.
    Poke,
    /// A daemon ended.
    Ended(Daemon, Ended),
    /// The good order came to its end, or was refused.
    Stopped(Result<(), ControlError>),
}

/// Runs until it is asked to stop and its daemons are gone.
pub fn run(session: &Session) -> Result<Report, ControlError> {
    launch::close_inherited();
    // Fails for a process that leads a group already, which then has what it wants: no terminal can reach it.
    let _ = setsid();
    launch::hard_to_kill();
    let paths = &session.paths;
    paths.prepare()?;
    let _part = pid_file::take(&paths.supervisor_pid())?;
    let (sender, messages) = channel();
    listen_for_signals(sender.clone())?;
    Supervisor::new(session.clone(), sender, find_daemons()?).run(&messages);
    Ok(Report::new())
}
/// One daemon under care.
struct Ward {
    daemon: Daemon,
    program: PathBuf,
    care: Care,
}

struct Supervisor {
    session: Session,
    sender: Sender<Message>,
    /// The appliance first, so that the splitter finds it. Of a splitter that runs by itself, only that.
    wards: Vec<Ward>,
    known: Known,
    began: Instant,
    logs_seen: Instant,
    stopping: bool,
}

impl Supervisor {
    fn new(session: Session, sender: Sender<Message>, programs: launch::Programs) -> Self {
        let ward = |daemon, program| Ward { daemon, program, care: Care::new() };
        let appliance = (!session.splitter_only()).then(|| ward(Daemon::Appliance, programs.appliance));
        let wards = appliance.into_iter().chain([ward(Daemon::Splitter, programs.splitter)]).collect();
        Self {
            session,
            sender,
            wards,
            known: Known::new(),
            began: Instant::now(),
            logs_seen: Instant::now(),
            stopping: false,
        }
    }

    fn run(mut self, messages: &Receiver<Message>) {
        log::note("supervisor started");
        loop {
            match messages.recv_timeout(PACE) {
                Ok(message) => self.hear(message),
                Err(RecvTimeoutError::Timeout) => {}
                // We hold a sender ourselves.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.tick();
            if self.stopping && self.wards.iter().all(|ward| ward.care.is_stopped()) {
                log::note("supervisor ends: what it kept is gone");
                return;
            }
        }
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Stop if self.stopping => {}
            Message::Stop => {
                log::note("asked to stop");
                self.stopping = true;
                self.tell_all(Event::Stopping);
                stop_in_order(&self.session, self.sender.clone());
            }
            Message::Poke => self.tell_all(Event::Poked),
            Message::Ended(daemon, ended) => {
                log::note(&format!("the {daemon} ended: {}", ended.how));
                let event = Event::Ended { ending: ended.ending, lived: ended.lived };
                self.tell(daemon, event);
                let deaths = self.deaths(daemon);
                self.known.ended(daemon, ended.how, deaths);
                self.remember();
            }
            Message::Stopped(Ok(())) => {}
            Message::Stopped(Err(error)) => {
                log::note(&format!("not stopped: {error}"));
                self.stopping = false;
                self.tell_all(Event::Resumed);
            }
        }
    }

    fn tick(&mut self) {
        let down_at_work = pid_file::holder(&self.session.paths.stop_lock()).is_ok_and(|who| who.is_some());
        let now = self.began.elapsed();
        for i in 0..self.wards.len() {
            match self.wards[i].care.step(now, Event::Tick { down_at_work }) {
                Action::Start => self.start(i),
                Action::LeaveToDown => {
                    log::note(&format!("the {} stays down: undisk down is at work", self.wards[i].daemon));
                }
                Action::Nothing => {}
            }
        }
        if self.logs_seen.elapsed() >= LOG_PACE {
            self.logs_seen = Instant::now();
            for name in ["supervisor", "splitter", "appliance"] {
                log::bound(&self.session.paths.log(name));
            }
        }
    }

    fn start(&mut self, i: usize) {
        let ward = &self.wards[i];
        let daemon = ward.daemon;
        let paths = &self.session.paths;
        let sender = self.sender.clone();
        let ended = move |ended| {
            // The supervisor may have ended meanwhile.
            let _ = sender.send(Message::Ended(daemon, ended));
        };
        match launch::adopt_or_start(&ward.program, &pid_path(paths, daemon), &paths.log(&daemon.to_string()), ended) {
            Ok(pid) => {
                log::note(&format!("the {daemon} runs as process {pid}"));
                self.known.started(daemon, pid);
            }
            Err(error) => {
                log::note(&format!("cannot start the {daemon}: {error}"));
                let event = Event::Ended { ending: care::Ending::Died, lived: Duration::ZERO };
                self.tell(daemon, event);
                let deaths = self.deaths(daemon);
                self.known.ended(daemon, error.to_string(), deaths);
            }
        }
        self.remember();
    }

    fn deaths(&self, daemon: Daemon) -> u32 {
        self.wards.iter().find(|ward| ward.daemon == daemon).map_or(0, |ward| ward.care.deaths())
    }

    fn tell(&mut self, daemon: Daemon, event: Event) {
        let now = self.began.elapsed();
        for ward in self.wards.iter_mut().filter(|ward| ward.daemon == daemon) {
            // Only ticks start anything; one follows at once.
            let _ = ward.care.step(now, event);
        }
    }

    fn tell_all(&mut self, event: Event) {
        self.tell(Daemon::Appliance, event);
        self.tell(Daemon::Splitter, event);
    }

    fn remember(&self) {
        if let Err(e) = self.known.write(&self.session.paths.supervisor_state()) {
            log::note(&format!("cannot write down what runs: {e}"));
        }
    }
}

/// The pid file that a daemon holds.
fn pid_path(paths: &Paths, daemon: Daemon) -> PathBuf {
    match daemon {
        Daemon::Splitter => paths.splitter_pid(paths.splitter()),
        Daemon::Appliance => paths.appliance_pid(),
    }
}

/// Stops the splitter, which drains into the appliance, then the appliance; says so at the end.
fn stop_in_order(session: &Session, sender: Sender<Message>) {
    let session = session.clone();
    std::thread::spawn(move || {
        let deadline = Instant::now() + STOP_PATIENCE;
        let paths = &session.paths;
        let splitter = SplitterRequest::Stop { force: false };
        let appliance = ApplianceRequest::Stop { force: false };
        let done = (|| {
            let pid = paths.splitter_pid(paths.splitter());
            let mut left = vec![down::stop(&session.splitter(), &splitter, &pid, deadline)?];
            if !session.splitter_only() {
                left.push(down::stop(&session.appliance(), &appliance, &paths.appliance_pid(), deadline)?);
            }
            left.iter().flatten().for_each(|complaint| log::note(&complaint.message));
            Ok(())
        })();
        let _ = sender.send(Message::Stopped(done));
    });
}

/// Turns signals into messages, on a thread of its own. Handlers, not blocked signals: a blocked signal would be
/// blocked in the daemons as well.
fn listen_for_signals(sender: Sender<Message>) -> Result<(), ControlError> {
    let failed = |e: std::io::Error| ControlError::failed(format!("cannot listen for signals: {e}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let entered = runtime.enter();
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut poke = signal(SignalKind::user_defined1()).map_err(failed)?;
    // Heard and not heeded: the terminal it was started from may close.
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    drop(entered);
    std::thread::spawn(move || {
        runtime.block_on(async move {
            loop {
                let message = tokio::select! {
                    _ = terminate.recv() => Message::Stop,
                    _ = interrupt.recv() => Message::Stop,
                    _ = poke.recv() => Message::Poke,
                    _ = hangup.recv() => continue,
                };
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
    });
    Ok(())
}
