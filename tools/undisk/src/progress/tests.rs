//! The line of progress.

use super::*;

fn progress(done: u64, total: u64) -> Progress {
    Progress { what: "copying".into(), done, total }
}

#[test]
fn the_line_says_how_far_it_is() {
    let second = Duration::from_secs(3);
    assert_eq!(text("waiting", None, second), "waiting, 3 s");
    assert_eq!(text("waiting", Some(&progress(1024, 0)), second), "copying: 1.0 KiB, 3 s");
    assert_eq!(text("waiting", Some(&progress(1024, 4096)), second), "copying: 25 % (1.0 KiB of 4.0 KiB), 3 s");
}

#[test]
fn more_than_all_is_all_and_large_numbers_do_not_overflow() {
    assert!(text("", Some(&progress(9, 4)), Duration::ZERO).contains("100 %"));
    assert!(text("", Some(&progress(u64::MAX / 2, u64::MAX)), Duration::ZERO).contains("49 %"));
}

#[test]
fn a_meter_ends_at_once_when_it_is_dropped() {
    // A busy machine may hold one up; one that waits for its own first line is late every time.
    let in_time = (0..10).any(|_| {
        let began = Instant::now();
        drop(Meter::start("something", true));
        began.elapsed() < PATIENCE
    });
    assert!(in_time, "it waited for its own first line");
}
