//! Goal: a pass reads everything at the pace that the policy asks for, tells of what has rotted, and ends when it is told to. A
//! real journal in a folder of its own.

use control::events::kept;
use control::request::EventsAsk;

use super::made::{journal, rot, until};
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn a_pass_reads_everything_and_what_has_rotted_is_told_once() {
    let folder = tempfile::tempdir().expect("folder");
    let journal = journal(folder.path());
    let used = journal.status().used_bytes;
    let events = Events::open(folder.path(), "appliance");
    let scrub = Scrub::start("g", &journal, Some(HOUR), &events).expect("start");
    until("the first pass ends", || scrub.status().ended_ns.is_some());
    let first = scrub.status();
    assert_eq!((first.done_bytes, first.total_bytes, first.found, first.under_way), (used, used, 0, false));
    rot(folder.path());
    for pass in 1..3 {
        let before = scrub.status().ended_ns;
        // Set again, so the next one begins now.
        scrub.set(Some(HOUR));
        until("another pass ends", || scrub.status().ended_ns != before);
        assert_eq!((scrub.status().done_bytes, scrub.status().found), (used, 1), "pass {pass}");
    }
    assert_eq!(journal.status().damage_count, 1);
    drop(scrub);
    events.read(EventsAsk { after: None, newest: 0 });
    let told: Vec<_> = kept(folder.path()).into_iter().map(|event| (event.kind, event.group, event.text)).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!((told[0].0.as_str(), told[0].1.as_deref()), ("alarm", Some("g")));
    assert!(told[0].2.contains("the journal is damaged at "), "{told:?}");
}

#[test]
fn without_a_span_nothing_is_read_until_there_is_one() {
    let folder = tempfile::tempdir().expect("folder");
    let journal = journal(folder.path());
    let scrub = Scrub::start("g", &journal, None, &Events::silent()).expect("start");
    scrub.set(None);
    until("it has noticed", || scrub.status().began_ns > 0);
    assert_eq!((scrub.status().done_bytes, scrub.status().ended_ns), (0, None));
    scrub.set(Some(HOUR));
    until("a pass ends", || scrub.status().ended_ns.is_some());
    assert!(!scrub.status().under_way);
}

#[test]
fn the_pace_is_the_policys_and_no_slower_than_a_crawl() {
    const GIB: u64 = 1 << 30;
    assert_eq!(due(HOUR, 0, 10 * GIB), Duration::ZERO);
    assert_eq!(due(HOUR, 5 * GIB, 10 * GIB), HOUR / 2);
    // More than there was when it began.
    assert_eq!(due(HOUR, 11 * GIB, 10 * GIB), HOUR);
    assert_eq!(due(168 * HOUR, 60 * SLOWEST, GIB), Duration::from_secs(60));
    assert_eq!(due(HOUR, 0, 0), Duration::ZERO);
}
