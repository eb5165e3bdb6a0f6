//! Binding and connecting.

use super::*;
use crate::error::Kind;

const SOON: Duration = Duration::from_millis(200);

#[test]
fn a_socket_is_its_owners_alone_and_its_file_goes_with_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.sock");
    let bound = bind(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    connect(&path, SOON).unwrap();
    drop(bound);
    assert!(!path.exists());
    assert!(matches!(connect(&path, SOON), Err(Miss::Absent)));
}

#[test]
fn a_stale_socket_is_told_apart_and_replaced() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.sock");
    let (listener, file) = bind(&path).unwrap().into_parts();
    drop(listener);
    std::mem::forget(file);
    assert!(matches!(connect(&path, SOON), Err(Miss::Stale)));
    let bound = bind(&path).unwrap();
    connect(&path, SOON).unwrap();
    drop(bound);
    assert_eq!(std::fs::read_dir(temp.path()).unwrap().count(), 0, "nothing is left behind");
}

#[test]
fn a_socket_in_use_is_not_taken_and_a_file_in_the_way_is_not_removed() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.sock");
    let _bound = bind(&path).unwrap();
    assert_eq!(bind(&path).unwrap_err().kind, Kind::Refused);
    let file = temp.path().join("b.sock");
    std::fs::write(&file, "precious").unwrap();
    assert_eq!(bind(&file).unwrap_err().kind, Kind::Refused);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[test]
fn the_file_of_a_successor_is_left_alone() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("a.sock");
    let (listener, file) = bind(&path).unwrap().into_parts();
    drop(listener);
    let _successor = bind(&path).unwrap();
    drop(file);
    connect(&path, SOON).unwrap();
}

#[test]
fn a_path_too_long_for_a_socket_is_an_error_and_not_a_panic() {
    let path = PathBuf::from(format!("/tmp/{}", "x".repeat(200)));
    assert!(matches!(connect(&path, SOON), Err(Miss::Other(_))));
    assert!(bind(&path).is_err());
}
