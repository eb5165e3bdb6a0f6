//! Both ends of a control socket, against each other.

use super::*;
use crate::answer::Outcome;
use crate::client::{Client, Daemon};
use serde::{Deserialize, Serialize};
use std::io::{Read, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::sync::Notify;

const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
enum Ask {
    Hello,
    Refuse,
    Panic,
    Long,
    Big { bytes: usize },
}

/// A daemon that answers [`Ask`]s on a socket of its own.
struct Daemonette {
    socket: PathBuf,
    /// Lets `Ask::Long` go on.
    go_on: Arc<Notify>,
    /// How many `Ask::Long` came to their end.
    ended: Arc<AtomicU32>,
    stop: Arc<Notify>,
    thread: Option<std::thread::JoinHandle<()>>,
    _temp: tempfile::TempDir,
}

impl Daemonette {
    fn start() -> Self {
        let temp = tempfile::tempdir().unwrap();
        let socket = temp.path().join("d.sock");
        let (go_on, stop, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicU32::new(0)));
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = {
            let (socket, go_on, stop, ended) =
                (socket.clone(), Arc::clone(&go_on), Arc::clone(&stop), Arc::clone(&ended));
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async move {
                    let listener = ControlListener::bind(&socket).unwrap();
                    ready.send(()).unwrap();
                    let handler = move |ask, sink| answer(ask, sink, Arc::clone(&go_on), Arc::clone(&ended));
                    serve(listener, handler, async move { stop.notified().await }).await;
                });
            })
        };
        is_ready.recv().unwrap();
        Self { socket, go_on, ended, stop, thread: Some(thread), _temp: temp }
    }

    fn client(&self) -> Client {
        Client::new(Daemon::Appliance, &self.socket)
    }

    fn ask(&self, ask: &Ask) -> Result<Answer, ControlError> {
        self.client().ask(ask, PATIENCE, |_| {})
    }
}

impl Drop for Daemonette {
    fn drop(&mut self) {
        self.stop.notify_one();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

async fn answer(
    ask: Ask,
    sink: ProgressSink,
    go_on: Arc<Notify>,
    ended: Arc<AtomicU32>,
) -> Result<Answer, ControlError> {
    match ask {
        Ask::Hello => Ok(done("hello")),
        Ask::Refuse => Err(ControlError::refused("no").hint("please")),
        Ask::Panic => panic!("on purpose"),
        Ask::Long => {
            sink.report(Progress { what: "walking".into(), done: 1, total: 2 });
            go_on.notified().await;
            ended.fetch_add(1, Ordering::SeqCst);
            Ok(done("arrived"))
        }
        Ask::Big { bytes } => Ok(done(&"x".repeat(bytes))),
    }
}

fn done(message: &str) -> Answer {
    Answer::Done { outcome: Outcome::Changed, message: message.into() }
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = std::time::Instant::now() + PATIENCE;
    while !holds() {
        assert!(std::time::Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_question_gets_its_answer_or_its_error() {
    let daemon = Daemonette::start();
    assert_eq!(daemon.ask(&Ask::Hello).unwrap(), done("hello"));
    assert_eq!(daemon.ask(&Ask::Refuse).unwrap_err(), ControlError::refused("no").hint("please"));
    assert_eq!(daemon.ask(&Ask::Big { bytes: 3_000_000 }).unwrap(), done(&"x".repeat(3_000_000)));
}

#[test]
fn a_handler_that_panics_costs_one_answer_and_not_the_daemon() {
    let daemon = Daemonette::start();
    assert_eq!(daemon.ask(&Ask::Panic).unwrap_err().kind, Kind::Failed);
    assert!(daemon.ask(&Ask::Hello).is_ok());
}

#[test]
fn progress_arrives_before_the_answer() {
    let daemon = Daemonette::start();
    let mut seen = Vec::new();
    let answer = daemon.client().ask(&Ask::Long, PATIENCE, |progress| {
        seen.push(progress.clone());
        daemon.go_on.notify_one();
    });
    assert_eq!(answer.unwrap(), done("arrived"));
    assert_eq!(seen, [Progress { what: "walking".into(), done: 1, total: 2 }]);
}

#[test]
fn what_was_begun_is_finished_although_the_asker_went_away() {
    let daemon = Daemonette::start();
    let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    stream.write_all(b"{\"ask\":\"long\"}\n").unwrap();
    // Progress shows that the handler runs; then the asker is gone.
    stream.read_exact(&mut [0u8; 1]).unwrap();
    drop(stream);
    daemon.go_on.notify_one();
    until("the long request ends", || daemon.ended.load(Ordering::SeqCst) == 1);
}

#[test]
fn a_slow_answer_runs_out_of_the_askers_patience_and_goes_on() {
    let daemon = Daemonette::start();
    let error = daemon.client().ask(&Ask::Long, Duration::from_millis(150), |_| {}).unwrap_err();
    assert_eq!(error.kind, Kind::TimedOut);
    assert!(error.message.contains("150ms"), "{error}");
    daemon.go_on.notify_one();
    until("the long request ends", || daemon.ended.load(Ordering::SeqCst) == 1);
}

#[test]
fn nonsense_is_a_usage_error_and_a_look_is_nothing() {
    let daemon = Daemonette::start();
    drop(std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap());
    let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    stream.write_all(b"{\"ask\":\"fly\"}\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let Line::Error(error) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    assert_eq!(error.kind, Kind::Usage);
    assert!(error.message.contains("fly"), "{error}");
}

#[test]
fn a_request_without_end_is_cut_off() {
    let daemon = Daemonette::start();
    let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
    // The daemon may close before it has read everything.
    let _ = stream.write_all(&vec![b'x'; REQUEST_BYTES_MAX + 2]);
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    assert!(text.contains("longer than"), "{text}");
    assert!(daemon.ask(&Ask::Hello).is_ok());
}

#[test]
fn one_request_too_many_is_turned_away_at_once() {
    let daemon = Daemonette::start();
    let asker = || {
        let mut stream = std::os::unix::net::UnixStream::connect(&daemon.socket).unwrap();
        stream.write_all(b"{\"ask\":\"long\"}\n").unwrap();
        stream
    };
    let mut askers: Vec<_> = (0..CONNECTIONS_MAX).map(|_| asker()).collect();
    for asker in &mut askers {
        asker.read_exact(&mut [0u8; 1]).unwrap();
    }
    let error = daemon.ask(&Ask::Hello).unwrap_err();
    assert!(error.message.contains("too busy"), "{error}");
    daemon.go_on.notify_waiters();
    until("room again", || daemon.ask(&Ask::Hello).is_ok());
}

#[test]
fn the_answer_to_a_stop_goes_out_before_the_daemon_ends() {
    let daemon = Daemonette::start();
    let mut seen = false;
    let answer = daemon.client().ask(&Ask::Long, PATIENCE, |_| {
        if !seen {
            daemon.stop.notify_one();
            daemon.go_on.notify_one();
            seen = true;
        }
    });
    assert_eq!(answer.unwrap(), done("arrived"));
    until("the socket file is gone", || !daemon.socket.exists());
}
