//! The lock is the truth.

use super::*;
use crate::error::Kind;

#[test]
fn a_part_is_played_once_and_free_again_when_dropped() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.pid");
    assert_eq!(holder(&path).unwrap(), None);
    let part = take(&path).unwrap();
    assert_eq!(holder(&path).unwrap(), Some(std::process::id()));
    let error = take(&path).unwrap_err();
    assert_eq!(error.kind, Kind::Refused);
    assert!(error.message.contains(&std::process::id().to_string()), "{error}");
    drop(part);
    assert_eq!(holder(&path).unwrap(), None, "the file stays, the lock is gone");
    wait_free(&path).unwrap();
    take(&path).unwrap();
}

#[test]
fn whoever_waits_is_woken_when_the_part_is_free() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.pid");
    let part = take(&path).unwrap();
    let waiting = {
        let path = path.clone();
        std::thread::spawn(move || wait_free(&path))
    };
    assert!(!waiting.is_finished());
    drop(part);
    waiting.join().unwrap().unwrap();
}

#[test]
fn a_lock_is_waited_for_until_the_deadline() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("lock");
    let held = lock_until(&path, Instant::now()).unwrap().unwrap();
    assert!(lock_until(&path, Instant::now() + Duration::from_millis(50)).unwrap().is_none());
    drop(held);
    assert!(lock_until(&path, Instant::now()).unwrap().is_some());
}
