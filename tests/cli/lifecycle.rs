//! `up`, `down` and the supervisor, with the real supervisor and daemons that are shells around the real sockets and
//! pid files. Nothing here needs root or ublk.
//!
//! A fake daemon is this test program again, started under the daemon's name with `UNDISK_FAKE` set; it obeys a few
//! files in the run-time folder.

use crate::fake::{Place, copy_program, write_script};
use crate::json::check_up;
use control::answer::{Answer, ApplianceStatus, Outcome, SplitterStatus, VolumeState, VolumeStatus};
use control::client::{Client, Daemon};
use control::error::{ControlError, Kind};
use control::paths::Paths;
use control::pid_file;
use control::request::{ApplianceRequest, SplitterRequest};
use control::server::{ControlListener, ProgressSink, serve};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt::Write;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tokio::sync::watch;

const PATIENCE: Duration = Duration::from_secs(60);

// ---- the fake daemons ----

/// Not a test of anything: the entry of a fake daemon, harmless without `UNDISK_FAKE`.
#[test]
fn fake_daemon() {
    let Some(part) = std::env::var_os("UNDISK_FAKE") else { return };
    let paths = Paths::from_env();
    if paths.run().join("die-at-start").exists() {
        eprintln!("cannot open the catalog: it is made of cheese");
        std::process::exit(1);
    }
    match part.to_str() {
        Some("splitter") => daemon(Daemon::Splitter, &paths, splitter),
        Some("appliance") => daemon(Daemon::Appliance, &paths, appliance),
        _ => std::process::exit(2),
    }
    std::process::exit(0);
}

fn daemon<R>(part: Daemon, paths: &Paths, answer: fn(&R, &Paths) -> Result<Answer, ControlError>)
where
    R: DeserializeOwned + Send + 'static,
{
    let (pid, socket) = match part {
        Daemon::Splitter => (paths.splitter_pid(None), paths.splitter_socket(None)),
        Daemon::Appliance => (paths.appliance_pid(), paths.appliance_socket()),
    };
    let _part = pid_file::take(&pid).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = ControlListener::bind(&socket).unwrap();
        let (stop, mut stopped) = watch::channel(false);
        let places = paths.clone();
        let handler = move |request: R, _: ProgressSink| {
            let done = answer(&request, &places);
            let (stop, linger) = (stop.clone(), places.run().join("linger"));
            async move {
                if matches!(&done, Ok(Answer::Done { .. })) {
                    while part == Daemon::Appliance && linger.exists() {
                        tokio::time::sleep(Duration::from_millis(5)).await;
                    }
                    stop.send_replace(true);
                }
                done
            }
        };
        serve(listener, handler, async move { drop(stopped.wait_for(|stop| *stop).await) }).await;
    });
    // The order in which daemons end is part of the contract.
    let mut order = std::fs::OpenOptions::new().append(true).create(true).open(paths.run().join("ended")).unwrap();
    writeln!(order, "{part}").unwrap();
}

fn splitter(request: &SplitterRequest, paths: &Paths) -> Result<Answer, ControlError> {
    match request {
        SplitterRequest::Status => {
            let device = std::fs::read_to_string(paths.run().join("device")).ok();
            Ok(Answer::Splitter(SplitterStatus {
                pid: std::process::id(),
                version: "0".into(),
                id: String::new(),
                name: "main".into(),
                volumes: device.iter().map(|device| volume(device)).collect(),
                groups: Vec::new(),
            }))
        }
        SplitterRequest::Stop { .. } if paths.run().join("refuse").exists() => {
            Err(ControlError::refused("cannot take volume web down: /dev/ublkb0 is mounted at /mnt").hint("unmount it"))
        }
        SplitterRequest::Stop { .. } => Ok(stopped("the splitter")),
        SplitterRequest::VolumeCreate(_)
        | SplitterRequest::VolumeRemove { .. }
        | SplitterRequest::GroupResync { .. }
        | SplitterRequest::GroupSet { .. }
        | SplitterRequest::GroupPause { .. }
        | SplitterRequest::GroupResume { .. }
        | SplitterRequest::VolumeVerify { .. }
        | SplitterRequest::Events(_) => Err(ControlError::failed("not in this play")),
    }
}

fn appliance(request: &ApplianceRequest, _: &Paths) -> Result<Answer, ControlError> {
    match request {
        ApplianceRequest::Status => Ok(Answer::Appliance(ApplianceStatus {
            pid: std::process::id(),
            version: "0".into(),
            groups: Vec::new(),
            images: Vec::new(),
        })),
        ApplianceRequest::Stop { .. } => Ok(stopped("the appliance")),
        _ => Err(ControlError::failed("not in this play")),
    }
}

fn stopped(who: &str) -> Answer {
    Answer::Done { outcome: Outcome::Changed, message: format!("{who} stops") }
}

fn volume(device: &str) -> VolumeStatus {
    VolumeStatus {
        name: "web".into(),
        id: "0".into(),
        group: "web".into(),
        device: device.trim().into(),
        backing: "/srv/web.img".into(),
        bytes: 4096,
        block_bytes: 512,
        queues: 1,
        state: VolumeState::Live,
        sync: None,
        punches: true,
        warnings: Vec::new(),
        counts: control::answer::IoCounts::default(),
    }
}

// ---- the stage ----

/// An installation with `undisk` and fake daemons in a folder of its own.
struct Stage {
    place: Place,
    bin: tempfile::TempDir,
}

impl Stage {
    fn new() -> Self {
        let stage = Self { place: Place::new(), bin: tempfile::tempdir().unwrap() };
        copy_program(Path::new(env!("CARGO_BIN_EXE_undisk")), &stage.program("undisk"));
        let us = std::env::current_exe().unwrap();
        for (name, part) in [("ublk-splitter", "splitter"), ("journal-appliance", "appliance")] {
            let mut script = String::from("#!/bin/sh\n");
            writeln!(script, "export UNDISK_FAKE={part}").unwrap();
            writeln!(script, "exec '{}' --exact lifecycle::fake_daemon --nocapture", us.display()).unwrap();
            write_script(&stage.program(name), &script);
        }
        stage
    }

    fn program(&self, name: &str) -> PathBuf {
        self.bin.path().join(name)
    }

    fn paths(&self) -> &Paths {
        &self.place.paths
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.program("undisk"));
        self.place.dress(&mut command);
        command.env("UNDISK_UBLK_CONTROL", "/dev/null").args(words);
        command
    }

    fn run(&self, words: &[&str]) -> Output {
        self.command(words).output().unwrap()
    }

    /// Runs it; its stdout, when the exit status is this one.
    fn expect(&self, status: i32, words: &[&str]) -> String {
        let output = self.run(words);
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(status), "{words:?}\n{out}{err}\n{}", self.logs());
        if status == 0 { out } else { out + &err }
    }

    /// A file in the run-time folder that fake daemons obey.
    fn order(&self, name: &str, text: &str) {
        std::fs::write(self.paths().run().join(name), text).unwrap();
    }

    fn revoke(&self, name: &str) {
        std::fs::remove_file(self.paths().run().join(name)).unwrap();
    }

    fn pid(&self, part: &str) -> Option<u32> {
        pid_file::holder(&self.paths().run().join(format!("{part}.pid"))).unwrap().filter(|pid| *pid != 0)
    }

    fn logs(&self) -> String {
        let log = |name: &str| std::fs::read_to_string(self.paths().log(name)).unwrap_or_default();
        ["supervisor", "splitter", "appliance"].map(|name| format!("{name}:\n{}", log(name))).concat()
    }

    /// Kills a part with signal 9 and waits until it answers as another process; its pid.
    fn kill_and_await(&self, part: &str) -> u32 {
        let old = self.pid(part).unwrap();
        hit(old, Signal::SIGKILL);
        self.until(&format!("{part} is another process"), || self.pid(part).is_some_and(|pid| pid != old));
        self.pid(part).unwrap()
    }

    fn until(&self, what: &str, mut holds: impl FnMut() -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !holds() {
            assert!(Instant::now() < deadline, "never: {what}\n{}", self.logs());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn all_gone(&self) -> bool {
        ["supervisor", "splitter", "appliance"].iter().all(|part| self.pid(part).is_none())
    }

    fn answers(&self) -> bool {
        let look = Duration::from_secs(1);
        let splitter = Client::new(Daemon::Splitter, self.paths().splitter_socket(None));
        let appliance = Client::new(Daemon::Appliance, self.paths().appliance_socket());
        splitter.ask(&SplitterRequest::Status, look, |_| {}).is_ok()
            && appliance.ask(&ApplianceRequest::Status, look, |_| {}).is_ok()
    }
}

/// Whatever a test left behind ends here: processes that this test started, by their pids.
impl Drop for Stage {
    fn drop(&mut self) {
        for part in ["supervisor", "splitter", "appliance"] {
            if let Some(pid) = self.pid(part) {
                hit(pid, Signal::SIGKILL);
            }
        }
    }
}

fn hit(pid: u32, signal: Signal) {
    let _ = kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal);
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

// ---- the tests ----

#[test]
fn up_and_down_can_be_repeated_and_say_so() {
    let stage = Stage::new();
    assert!(stage.expect(0, &["up"]).starts_with("up: splitter pid "));
    let parts = ["supervisor", "splitter", "appliance"].map(|part| stage.pid(part));
    let again = stage.run(&["up", "--json"]);
    assert_eq!(again.status.code(), Some(0));
    check_up(&text(&again.stdout));
    let again: Value = serde_json::from_slice(&again.stdout).unwrap();
    assert_eq!(again["outcome"], "already-so");
    assert_eq!(again["splitter_pid"].as_u64(), stage.pid("splitter").map(u64::from));
    assert_eq!(["supervisor", "splitter", "appliance"].map(|part| stage.pid(part)), parts, "nothing was restarted");
    assert!(stage.expect(0, &["status"]).ends_with("all is well\n"));
    assert_eq!(stage.expect(0, &["down"]), "down\n");
    assert!(stage.all_gone());
    assert_eq!(stage.expect(0, &["down"]), "already down\n");
    assert_eq!(std::fs::read_to_string(stage.paths().run().join("ended")).unwrap(), "splitter\nappliance\n");
    stage.expect(6, &["status"]);
    stage.expect(0, &["up"]);
    stage.expect(0, &["down"]);
}

#[test]
fn what_is_killed_comes_back() {
    let stage = Stage::new();
    stage.expect(0, &["up"]);
    for part in ["splitter", "appliance", "splitter"] {
        stage.kill_and_await(part);
    }
    stage.until("both answer", || stage.answers());
    assert!(stage.expect(0, &["up"]).starts_with("already up"));
    stage.expect(0, &["down"]);
}

#[test]
fn a_killed_supervisor_harms_nobody_and_its_successor_adopts_the_daemons() {
    let stage = Stage::new();
    stage.expect(0, &["up"]);
    let (splitter, appliance) = (stage.pid("splitter"), stage.pid("appliance"));
    let old = stage.pid("supervisor").unwrap();
    hit(old, Signal::SIGKILL);
    stage.until("the supervisor is gone", || stage.pid("supervisor").is_none());
    assert!(stage.expect(0, &["status"]).contains("none: what dies is not restarted"));
    assert!(stage.expect(0, &["up"]).starts_with("up again"));
    assert_eq!((stage.pid("splitter"), stage.pid("appliance")), (splitter, appliance), "adopted, not restarted");
    stage.kill_and_await("splitter");
    stage.until("both answer", || stage.answers());
    stage.expect(0, &["down"]);
    assert!(stage.all_gone());
}

#[test]
fn sigterm_to_the_supervisor_stops_both_in_order() {
    let stage = Stage::new();
    stage.expect(0, &["up"]);
    hit(stage.pid("supervisor").unwrap(), Signal::SIGTERM);
    stage.until("all are gone", || stage.all_gone());
    assert_eq!(std::fs::read_to_string(stage.paths().run().join("ended")).unwrap(), "splitter\nappliance\n");
}

#[test]
fn a_hangup_of_the_terminal_is_survived() {
    let stage = Stage::new();
    stage.expect(0, &["up"]);
    let supervisor = stage.pid("supervisor").unwrap();
    hit(supervisor, Signal::SIGHUP);
    stage.kill_and_await("appliance");
    assert_eq!(stage.pid("supervisor"), Some(supervisor));
    stage.expect(0, &["down"]);
}

#[test]
fn a_refused_down_leaves_everything_supervised() {
    let stage = Stage::new();
    stage.expect(0, &["up"]);
    stage.order("refuse", "");
    let said = stage.expect(5, &["down"]);
    assert_eq!(said, "undisk: cannot take volume web down: /dev/ublkb0 is mounted at /mnt\nhint: unmount it\n");
    stage.kill_and_await("appliance");
    // The supervisor's own stop is refused as well, and it stays.
    let supervisor = stage.pid("supervisor").unwrap();
    hit(supervisor, Signal::SIGTERM);
    stage.until("the refusal is in the log", || stage.logs().contains("not stopped: cannot take volume web down"));
    stage.kill_and_await("appliance");
    assert_eq!(stage.pid("supervisor"), Some(supervisor));
    stage.revoke("refuse");
    stage.expect(0, &["down"]);
    assert!(stage.all_gone());
}

#[test]
fn down_is_refused_while_somebody_has_a_device_open() {
    let stage = Stage::new();
    let Some(device) = a_block_device() else {
        // Only where there is no block device at all, or none that this user may open.
        eprintln!("no block device can be opened here: refusing is tested in control::device_use only");
        return;
    };
    stage.order("device", device.to_str().unwrap());
    stage.expect(0, &["up"]);
    let open = std::fs::File::open(&device).unwrap();
    let said = stage.expect(5, &["down"]);
    assert!(said.starts_with("undisk: will not stop: "), "{said}");
    assert!(said.contains(device.to_str().unwrap()), "{said}");
    assert!(stage.answers(), "nothing was stopped");
    drop(open);
    stage.expect(0, &["down"]);
}

/// A block device that nobody uses and that can be opened.
fn a_block_device() -> Option<PathBuf> {
    let names = std::fs::read_dir("/sys/block").ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut devices: Vec<_> = names.map(|name| Path::new("/dev").join(name)).collect();
    devices.sort();
    devices.into_iter().find(|device| {
        std::fs::File::open(device).is_ok() && control::device_use::uses_of(device).is_ok_and(|uses| uses.is_empty())
    })
}

#[test]
fn daemons_that_die_at_start_fail_the_up_with_their_last_words_and_nothing_stays() {
    let stage = Stage::new();
    stage.order("die-at-start", "");
    let said = stage.expect(1, &["up"]);
    assert!(said.starts_with("undisk: the "), "{said}");
    assert!(
        said.contains(
            " does not start: exit status 1; its last words: cannot open the catalog: it is made of cheese\n"
        ),
        "{said}"
    );
    assert!(said.contains("\nhint: see "), "{said}");
    assert!(stage.all_gone(), "{}", stage.logs());
    stage.revoke("die-at-start");
    stage.expect(0, &["up"]);
    stage.expect(0, &["down"]);
}

#[test]
fn a_daemon_that_was_asked_to_stop_stays_stopped_until_up() {
    let stage = Stage::new();
    stage.expect(0, &["up"]);
    let client = Client::new(Daemon::Appliance, stage.paths().appliance_socket());
    client.ask(&ApplianceRequest::Stop { force: false }, PATIENCE, |_| {}).unwrap();
    stage.until("the supervisor has noticed", || stage.logs().contains("the appliance ended: it was asked to stop"));
    assert_eq!(stage.pid("appliance"), None);
    let error = client.ask(&ApplianceRequest::Status, PATIENCE, |_| {}).unwrap_err();
    assert_eq!(error.kind, Kind::Unreachable);
    stage.expect(6, &["status"]);
    assert!(stage.expect(0, &["up"]).starts_with("up again"));
    stage.expect(0, &["down"]);
}

#[test]
fn up_takes_over_from_stale_sockets_and_a_stale_pid_file() {
    let stage = Stage::new();
    drop(std::os::unix::net::UnixListener::bind(stage.paths().splitter_socket(None)).unwrap());
    drop(std::os::unix::net::UnixListener::bind(stage.paths().appliance_socket()).unwrap());
    // Our own pid: a process that lives, and is none of these.
    for part in ["supervisor", "splitter", "appliance"] {
        stage.order(&format!("{part}.pid"), &format!("{}\n", std::process::id()));
    }
    stage.expect(0, &["up"]);
    stage.expect(0, &["down"]);
}

#[test]
fn nothing_that_was_open_at_up_is_kept_open_by_what_it_leaves() {
    let stage = Stage::new();
    let mut shell = Command::new("sh");
    stage.place.dress(&mut shell);
    shell.env("UNDISK_UBLK_CONTROL", "/dev/null");
    // `cat` ends when nobody holds the pipe any more, as descriptor 1, 2 or 7.
    let said = stage.bin.path().join("said");
    let line = format!("'{}' up 7>&1 2>&1 | cat > '{}'", stage.program("undisk").display(), said.display());
    let mut shell = shell.arg("-c").arg(line).spawn().unwrap();
    stage.until("the pipe is closed", || shell.try_wait().unwrap().is_some());
    let said = std::fs::read_to_string(said).unwrap();
    assert!(said.starts_with("up: "), "{said}");
    stage.expect(0, &["down"]);
}

/// Of a daemon that it adopted the supervisor learns no exit status: only `down`'s lock tells it that the end was
/// wanted.
#[test]
fn an_adopted_daemon_is_not_restarted_while_down_is_at_work() {
    let stage = Stage::new();
    stage.expect(0, &["up"]);
    hit(stage.pid("supervisor").unwrap(), Signal::SIGKILL);
    stage.until("the supervisor is gone", || stage.pid("supervisor").is_none());
    stage.expect(0, &["up"]);
    stage.order("linger", "");
    let mut down = stage.command(&["down", "-q", "--timeout", "30s"]).spawn().unwrap();
    stage.until("the supervisor has looked again", || stage.logs().contains("the splitter stays down"));
    assert_eq!(stage.pid("splitter"), None);
    stage.revoke("linger");
    assert!(down.wait().unwrap().success());
    assert!(stage.all_gone());
}

#[test]
fn two_ups_at_once_make_one_of_each() {
    let stage = Stage::new();
    let mut children: Vec<_> = (0..3).map(|_| stage.command(&["up", "-q"]).spawn().unwrap()).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success(), "{}", stage.logs());
    }
    assert_eq!(stage.logs().matches("supervisor started").count(), 1);
    stage.expect(0, &["down"]);
}

#[test]
fn a_missing_program_is_named() {
    let stage = Stage::new();
    std::fs::remove_file(stage.program("journal-appliance")).unwrap();
    let output = stage.command(&["up"]).env("PATH", "/nowhere").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).starts_with("undisk: cannot find the program journal-appliance in "));
}
