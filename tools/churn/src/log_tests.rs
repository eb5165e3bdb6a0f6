use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

const HEADER_1: Header = Header {
    run: 1,
    seed: 2,
    first: 8,
    sectors: 800,
    limits: Limits { write: 1024, discard: 4096, zero: 2048, granularity: 8, discard_zeroes: true },
};

#[test]
fn what_was_written_is_read_again_and_a_torn_end_is_no_entry() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Writer::create(&path, &HEADER_1, false).unwrap();
    let first = log.submitted(Kind::Discard, 3, 8, 800).unwrap();
    log.came_back(Event::Completed, Kind::Discard, 3, first, 8, 800);
    let second = log.submitted(Kind::Write, 4, 16, 2).unwrap();
    log.came_back(Event::Failed(5), Kind::Write, 4, second, 16, 2);
    log.ended().unwrap();
    let (header, entries) = read(&path).unwrap();
    assert_eq!(header, HEADER_1);
    let events: Vec<_> = entries.iter().map(|entry| (entry.operation, entry.event)).collect();
    let (begun, ended) = (Event::Submitted, Event::Ended);
    assert_eq!(events, [(0, begun), (0, Event::Completed), (1, begun), (1, Event::Failed(5)), (2, ended)]);
    assert!(entries.is_sorted_by_key(|entry| entry.wall_ns));

    let bytes = std::fs::read(&path).unwrap();
    let (_, torn) = parse(&bytes[..bytes.len() - 7]).unwrap();
    assert_eq!(torn, entries[..4]);
}

#[test]
fn damage_in_the_middle_is_no_torn_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Writer::create(&path, &HEADER_1, true).unwrap();
    for _ in 0..3 {
        log.submitted(Kind::Flush, 0, 0, 0).unwrap();
    }
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[HEADER + ENTRY + 9] ^= 1;
    let error = format!("{:#}", parse(&bytes).unwrap_err());
    assert!(error.contains("entry 1 is damaged"), "{error}");
    bytes[20] ^= 1;
    assert!(parse(&bytes).is_err());
}

#[test]
fn a_history_is_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    drop(Writer::create(&path, &HEADER_1, false).unwrap());
    assert!(Writer::create(&path, &HEADER_1, false).is_err());
}

#[test]
fn a_beginning_is_in_the_file_before_the_operation_may_be_submitted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Writer::create(&path, &HEADER_1, false).unwrap();
    let seen = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for lane in 0..8 {
            let (log, path, seen) = (&log, &path, &seen);
            scope.spawn(move || {
                for _ in 0..50 {
                    let operation = log.submitted(Kind::Write, lane, 8, 8).unwrap();
                    let (_, entries) = read(path).unwrap();
                    let begun = |entry: &&Entry| entry.operation == operation && entry.event == Event::Submitted;
                    assert_eq!(entries.iter().filter(begun).count(), 1);
                    log.came_back(Event::Completed, Kind::Write, lane, operation, 8, 8);
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    log.ended().unwrap();
    let (_, entries) = read(&path).unwrap();
    assert_eq!((seen.into_inner(), entries.len()), (400, 801));
}

#[test]
fn a_discard_that_the_kernel_cuts_is_not_one_request() {
    let limits = HEADER_1.limits;
    assert!(limits.is_one_request(Kind::Discard, 16, 4096));
    assert!(!limits.is_one_request(Kind::Discard, 16, 4097));
    assert!(limits.is_one_request(Kind::Discard, 17, 7));
    assert!(!limits.is_one_request(Kind::Discard, 17, 8));
    assert!(limits.is_one_request(Kind::Zero, 17, 2048));
    assert!(!limits.is_one_request(Kind::Write, 17, 1025));
}
