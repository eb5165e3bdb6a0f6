//! Logs stay bounded, and tell their last words.

use super::*;

#[test]
fn a_log_that_grows_is_cut_down_under_its_writer() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.log");
    let mut log = open_log(&path).unwrap();
    let line = [b'x'; 1023];
    for _ in 0..=BYTES_MAX / 1024 {
        log.write_all(&line).unwrap();
        log.write_all(b"\n").unwrap();
    }
    bound(&path);
    log.write_all(b"after\n").unwrap();
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "after\n");
    assert!(std::fs::metadata(temp.path().join("x.log.1")).unwrap().len() > BYTES_MAX);
}

#[test]
fn the_last_line_is_the_last_with_anything_in_it() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("x.log");
    assert_eq!(last_line(&path), None);
    std::fs::write(&path, "first\nno space left\n\n  \n").unwrap();
    assert_eq!(last_line(&path).as_deref(), Some("no space left"));
    std::fs::write(&path, "y".repeat(100_000)).unwrap();
    assert_eq!(last_line(&path).unwrap().len(), LINE_CHARS);
}
