//! Runs transcripts: lines `$ undisk ...`, then what comes on stdout, then what comes on stderr (`2> `), then
//! `[exit status]` unless it is 0. Lines that start with `# ` are words to the reader.

use crate::fake::{Place, copy_program};
use crate::world;
use control::answer::{Answer, Event, Events};
use control::error::ControlError;
use control::request::SplitterRequest;
use std::fmt::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Output;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/cli/transcripts").join(name)
}

/// Runs every command of the transcript and compares; or writes it anew.
fn play(name: &str, place: &Place) {
    let path = file(name);
    let written = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let mut played = String::new();
    for line in written.lines() {
        if let Some(command) = line.strip_prefix("$ undisk") {
            played.push_str(line);
            played.push('\n');
            let words: Vec<String> = words(command);
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            tell(&mut played, place, &place.run(&words));
        } else if line.starts_with("# ") {
            writeln!(played, "{line}").unwrap();
        }
    }
    check_complaints(name, &played);
    if std::env::var_os("UNDISK_TRANSCRIPTS").is_some_and(|mode| mode == "write") {
        std::fs::write(&path, &played).unwrap();
        return;
    }
    if played != written {
        let differs = played.lines().zip(written.lines()).position(|(now, then)| now != then);
        let at = differs.unwrap_or_else(|| played.lines().count().min(written.lines().count()));
        panic!(
            "{name} line {}: now {:?}, in the transcript {:?}\n--- all of it, now:\n{played}",
            at + 1,
            played.lines().nth(at),
            written.lines().nth(at)
        );
    }
}

/// Whatever a transcript says: what is not done is told in one line that begins with the program's name, with at most
/// one line of help after it. (`status` has a line for every problem.)
fn check_complaints(name: &str, played: &str) {
    for run in played.split("\n$ ").filter(|run| run.contains("\n[") && !run.starts_with("undisk status")) {
        let said: Vec<&str> = run.lines().filter_map(|line| line.strip_prefix("2> ")).collect();
        assert!(said.first().is_some_and(|line| line.starts_with("undisk: ")), "{name}: {run}");
        assert!(said[1..].iter().all(|line| line.starts_with("hint: ") || line.starts_with("try ")), "{name}: {run}");
        assert!(said.len() <= 2, "{name}: {run}");
    }
}

/// Words of a command line; single quotes keep one together.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in text.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

fn tell(played: &mut String, place: &Place, output: &Output) {
    let text = |bytes: &[u8]| {
        String::from_utf8(bytes.to_vec()).unwrap().replace(place.paths.run().to_str().unwrap(), "/run/undisk")
    };
    played.push_str(&text(&output.stdout));
    for line in text(&output.stderr).lines() {
        writeln!(played, "2> {line}").unwrap();
    }
    match output.status.code() {
        Some(0) => {}
        Some(code) => writeln!(played, "[{code}]").unwrap(),
        None => writeln!(played, "[{}]", output.status).unwrap(),
    }
}

#[test]
fn every_verb_with_daemons_that_are_well() {
    play("well.txt", &Place::new().splitter(world::well_splitter).appliance(world::well_appliance));
}

#[test]
fn what_is_degraded_is_told_with_its_exit_status() {
    play("ill.txt", &Place::new().splitter(world::ill_splitter).appliance(world::ill_appliance));
}

#[test]
fn what_daemons_refuse_is_one_line_and_its_exit_status() {
    play("refused.txt", &Place::new().splitter(world::well_splitter).appliance(world::well_appliance));
}

#[test]
fn without_daemons_every_verb_says_so() {
    play("no-daemons.txt", &Place::new());
}

#[test]
fn with_one_daemon_status_tells_what_it_knows() {
    play("one-daemon.txt", &Place::new().splitter(world::well_splitter));
}

#[test]
fn stale_sockets_are_called_so() {
    let place = Place::new();
    for socket in [place.paths.splitter_socket(None), place.paths.appliance_socket()] {
        drop(std::os::unix::net::UnixListener::bind(socket).unwrap());
    }
    play("stale-sockets.txt", &place);
}

#[test]
fn wrong_usage_is_one_line_and_exit_status_2() {
    play("usage.txt", &Place::new());
}

#[test]
fn the_help_is_as_it_was() {
    play("help.txt", &Place::new());
}

#[test]
fn another_user_than_root_is_told_so() {
    let temp = tempfile::tempdir().unwrap();
    let program = temp.path().join("undisk");
    copy_program(Path::new(env!("CARGO_BIN_EXE_undisk")), &program);
    for dir in [temp.path(), &program] {
        std::fs::set_permissions(dir, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    for words in [["status"].as_slice(), &["up"], &["down"], &["volume", "list"], &["image", "open", "web@latest"]] {
        let mut command = std::process::Command::new(&program);
        command.env_clear().args(words);
        if nix::unistd::geteuid().is_root() {
            command.uid(65534).gid(65534);
        }
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{words:?}");
        assert_eq!(
            String::from_utf8(output.stderr).unwrap(),
            "undisk: only root may use undisk: its devices and sockets are root's\n\
             hint: run it as root, as in: sudo undisk ...\n"
        );
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_kernel_without_ublk_is_told_what_to_do_and_nothing_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let (run, state) = (temp.path().join("run"), temp.path().join("state"));
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_undisk"))
        .arg("up")
        .env_clear()
        .env("UNDISK_RUN", &run)
        .env("UNDISK_STATE", &state)
        .env("UNDISK_CONFIG", temp.path().join("undisk.toml"))
        .env("UNDISK_UBLK_CONTROL", temp.path().join("no-such-node"))
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("undisk: cannot serve block devices: this kernel has no ublk driver loaded"), "{said}");
    assert!(said.contains("\nhint: modprobe ublk_drv"), "{said}");
    assert!(!run.exists() && !state.exists(), "nothing is made");
}

#[test]
fn a_damaged_configuration_stops_up_before_anything_is_made() {
    let temp = tempfile::tempdir().unwrap();
    let config = temp.path().join("undisk.toml");
    std::fs::write(&config, "this is [not toml").unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_undisk"))
        .arg("up")
        .env_clear()
        .env("UNDISK_RUN", temp.path().join("run"))
        .env("UNDISK_CONFIG", &config)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("undisk.toml: line 1: "), "{said}");
    assert!(!temp.path().join("run").exists());
}

#[test]
fn a_closed_pipe_is_no_failure() {
    let place = Place::new().splitter(world::well_splitter).appliance(world::well_appliance);
    let mut shell = std::process::Command::new("sh");
    place.dress(&mut shell);
    let script = format!(
        "{} point list web | true; {} --help | true",
        env!("CARGO_BIN_EXE_undisk"),
        env!("CARGO_BIN_EXE_undisk")
    );
    let output = shell.arg("-c").arg(script).output().unwrap();
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

/// One more event each time that somebody asks for what came after the last, three in all.
fn telling_splitter(request: SplitterRequest) -> Result<Answer, ControlError> {
    let SplitterRequest::Events(ask) = request else { return world::well_splitter(request) };
    let number = ask.after.unwrap_or(0) + 1;
    let event = |number: u64| Event {
        number,
        time_ns: 1_795_341_600_000_000_000 + number * 1_000_000_000,
        daemon: "splitter".into(),
        kind: "paused".into(),
        group: Some("web".into()),
        volume: None,
        bytes: None,
        text: format!("the {number}. event"),
    };
    let events = (number <= 3).then(|| event(number)).into_iter().collect();
    Ok(Answer::Events(Events { events, dropped: 0 }))
}

#[test]
fn events_are_followed_until_nobody_reads_although_one_daemon_is_away() {
    let place = Place::new().splitter(telling_splitter);
    for (words, first) in
        [(["events", "--follow"].as_slice(), "TIME  "), (&["events", "-f", "--json"], "{\"undisk_version\":1,")]
    {
        let mut following = place
            .undisk()
            .args(words)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let out = std::io::BufReader::new(following.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(out);
        let mut told = String::new();
        while !told.contains("the 3. event") {
            let line = lines.next().expect("it goes on").unwrap();
            assert!(!told.is_empty() || line.starts_with(first), "{line}");
            told.push_str(&line);
        }
        assert!(told.find("the 1. event") < told.find("the 2. event"), "{told}");
        assert_eq!(told.matches("the 2. event").count(), 1, "{told}");
        // Nothing more comes: it waits until it is told to end. Not by SIGINT: who runs tests in the background has them
        // ignore that, and so do their children.
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(following.id()).unwrap()),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        let output = following.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(said.matches("the appliance is not running").count(), 1, "{said}");
    }
}

#[test]
fn a_daemon_that_never_answers_is_given_up_with_exit_status_7() {
    let place = Place::new();
    let _silent = std::os::unix::net::UnixListener::bind(place.paths.appliance_socket()).unwrap();
    let output = place.run(&["image", "list", "--timeout", "100ms", "--progress"]);
    assert_eq!(output.status.code(), Some(7));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("undisk: no answer from the appliance within 100ms"), "{said}");
}
