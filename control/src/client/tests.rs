//! Daemons that are not there, or not well.

use super::*;
use std::os::unix::net::UnixListener;

/// Nothing here takes long; a busy machine may.
const PATIENCE: Duration = Duration::from_secs(60);

fn ask(socket: &Path, patience: Duration) -> ControlError {
    Client::new(Daemon::Splitter, socket).ask(&serde_json::json!({"ask": "status"}), patience, |_| {}).unwrap_err()
}

/// A daemon that writes this and closes.
fn answering(text: &'static [u8]) -> (tempfile::TempDir, ControlError) {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("s.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let daemon = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0u8; "{\"ask\":\"status\"}\n".len()];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(text).unwrap();
    });
    let error = ask(&socket, PATIENCE);
    daemon.join().unwrap();
    (temp, error)
}

#[test]
fn no_socket_means_not_running() {
    let temp = tempfile::tempdir().unwrap();
    let error = ask(&temp.path().join("s.sock"), PATIENCE);
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.message.starts_with("the splitter is not running (no socket "), "{error}");
    assert_eq!(error.hint.as_deref(), Some("undisk up"));
}

#[test]
fn a_stale_socket_is_called_so() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("s.sock");
    drop(UnixListener::bind(&socket).unwrap());
    let error = ask(&socket, PATIENCE);
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.message.contains("stale socket"), "{error}");
}

#[test]
fn a_daemon_that_never_answers_times_out() {
    let temp = tempfile::tempdir().unwrap();
    let socket = temp.path().join("s.sock");
    let _listener = UnixListener::bind(&socket).unwrap();
    let error = ask(&socket, Duration::from_millis(300));
    assert_eq!(error.kind, Kind::TimedOut);
    assert!(error.message.contains("300ms"), "{error}");
}

#[test]
fn a_daemon_that_dies_over_the_question_leaves_it_open_whether_it_was_done() {
    let (_temp, error) = answering(b"{\"line\":\"answ");
    assert_eq!(error.kind, Kind::Unreachable);
    assert!(error.message.contains("may be done or not"), "{error}");
}

#[test]
fn an_answer_in_another_language_is_a_failure_with_a_hint() {
    let (_temp, error) = answering(b"HTTP/1.0 200 OK\n");
    assert_eq!(error.kind, Kind::Failed);
    assert!(error.hint.is_some());
}
