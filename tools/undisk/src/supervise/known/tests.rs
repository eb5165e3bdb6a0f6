//! What is written down reads back.

use super::*;

#[test]
fn what_was_written_reads_back_and_rubbish_reads_as_nothing() {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("supervisor.json");
    assert_eq!(Known::read(&path), None);
    let mut known = Known::new();
    known.started(Daemon::Splitter, 7);
    known.ended(Daemon::Appliance, "exit status: 1".into(), 2);
    known.write(&path).unwrap();
    assert_eq!(Known::read(&path), Some(known));
    std::fs::write(&path, "{").unwrap();
    assert_eq!(Known::read(&path), None);
}
