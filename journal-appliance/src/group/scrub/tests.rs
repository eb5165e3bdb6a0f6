//! Goal: a pass reads everything at the pace that the policy asks for, tells of what has rotted, and ends when it is told to. A
//! real journal in a folder of its own.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;

use control::events::kept;
use control::request::EventsAsk;
use journal::{Create, JoinRequest};
use kit::{Laying, MemBase};
use record::conversation::Continuation;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use record::ids::{GroupId, JournalId, SplitterId, VolumeId};
use record::position::{Label, SplitterIncarnation};

use super::*;

const ID: JournalId = JournalId::from_bytes([1; 16]);
const HOUR: Duration = Duration::from_secs(3600);
/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A journal with some writes, all bytes of them the same.
fn journal(folder: &Path) -> Arc<Journal> {
    let now = Label::from_nanos(1_000);
    let create = Create {
        journal: ID,
        group: GroupId::from_bytes([2; 16]),
        group_name: "g".to_owned(),
        now,
        segment_bytes: Create::SEGMENT_BYTES_MIN,
    };
    let place = folder.join("journal");
    Journal::create(&place, &create).expect("create");
    let journal = Journal::open(&place).expect("open").journal;
    let splitter = SplitterId::from_bytes([3; 16]);
    let ask = JoinRequest {
        volume: VolumeId::from_bytes([4; 16]),
        name: "v".to_owned(),
        size: SectorCount::new(64).expect("a size"),
        block: LogicalBlock::SECTOR,
        splitter,
    };
    let volume = journal.join(&ask, now).expect("join");
    journal.attach_base_device(volume, Arc::new(MemBase::new(64))).expect("attach");
    journal.base_reset(volume).expect("reset");
    let none = Continuation::Lost { reason: "first".to_owned() };
    let grant = journal.grant(splitter, SplitterIncarnation::FIRST, &none).expect("grant");
    journal.joined(volume, now).expect("joined");
    let mut laying = Laying::new(ID, grant.session, grant.expected, now);
    for n in 0..8 {
        laying.write(volume, Extent::new(n * 8, 8).expect("an extent"), vec![0xab; 4096]);
        let body = laying.seal().expect("a chunk");
        journal.append_many(grant.session, &[(&body.header, &body.payload)]).expect("append");
    }
    Arc::new(journal)
}

/// Changes the first byte that is a write's.
fn rot(folder: &Path) {
    let path = folder.join("journal/segments/00000001.seg");
    let bytes = fs::read(&path).expect("read");
    let at = bytes.windows(64).position(|bytes| bytes == [0xab; 64]).expect("data");
    let file = fs::OpenOptions::new().write(true).open(&path).expect("open");
    file.write_all_at(&[0xac], at as u64).expect("write");
    file.sync_all().expect("sync");
}

fn until(what: &str, mut is: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

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
