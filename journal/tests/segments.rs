//! Making segments.
//!
//! Goal: the next segment's file is there before it is needed, is never more than an unfinished file until it is, and a
//! disk without room for it is told of only when it is needed. Method: a group on the simulated disk, whose segments
//! are of 1 MiB.

mod common;

use common::{Group, at, extent};
use journal::verify_disk;

/// A group whose first segment is more than half full: two chunks of this size fit no more.
fn half_full(capacity: Option<u64>) -> Group {
    let mut group = Group::new(&[1500]);
    group.disk.set_capacity(capacity);
    assert!(!unfinished(&group), "nothing is made ahead of an empty segment");
    fill(&mut group, 2);
    assert_eq!(group.journal.status().segments, 1);
    group
}

fn fill(group: &mut Group, chunks: u64) {
    let volume = group.volumes[0].number;
    for i in 0..chunks {
        group.write(volume, extent(i, 600));
        assert!(group.send());
    }
}

fn unfinished(group: &Group) -> bool {
    group.disk.names().iter().any(|name| name == "segments/00000002.seg.new")
}

fn reopen(group: &Group) -> Group {
    let (mut again, report) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
    assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    assert_eq!(report.recovered, group.reference.head());
    again.reference = group.reference.clone();
    again.catch_up();
    again.check_all(at(1));
    again
}

#[test]
fn the_next_segment_is_made_ahead_and_takes_no_room_when_it_is_needed() {
    let mut group = half_full(None);
    assert!(unfinished(&group));
    group.disk.set_capacity(Some(0));
    fill(&mut group, 2);
    assert_eq!(group.journal.status().segments, 2);
    assert!(!unfinished(&group), "it is a segment now");
    group.check_all(at(1));
    let report = verify_disk(&group.disk, &mut |_, _| {}).expect("verify");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    reopen(&group);
}

#[test]
fn a_disk_without_room_for_it_is_told_of_when_it_is_needed() {
    let mut group = half_full(Some(0));
    assert!(!unfinished(&group) && group.journal.status().poisoned.is_none());
    fill(&mut group, 1);
    let volume = group.volumes[0].number;
    group.write(volume, extent(9, 600));
    assert!(!group.send(), "there is no room");
    assert!(group.journal.status().poisoned.is_none());
    group.disk.set_capacity(None);
    assert!(group.send());
    group.catch_up();
    group.check_all(at(1));
    reopen(&group);
}

#[test]
fn what_was_made_ahead_is_gone_after_a_close_and_made_anew_after_a_crash() {
    let group = half_full(None);
    assert!(unfinished(&group));
    group.disk.put("segments/00000002.seg.new", b"half made");
    let mut again = reopen(&group);
    assert!(again.disk.content("segments/00000002.seg.new") == vec![0; 1 << 20], "nothing is left of the killed one's");
    again.open_session(&common::lost());
    fill(&mut again, 2);
    assert_eq!(again.journal.status().segments, 2);
    again.check_all(at(1));
    group.journal.close().expect("close");
    assert!(!unfinished(&group));
}

#[test]
fn a_chunk_that_needs_a_larger_segment_gets_one() {
    let mut group = half_full(None);
    assert!(unfinished(&group));
    let volume = group.volumes[0].number;
    for start in [0, 1] {
        // Four of these are one chunk of more than a segment.
        for _ in 0..4 {
            group.write(volume, extent(start, 700));
        }
        assert!(group.send());
        let segments = group.disk.names().into_iter().filter(|name| name.contains(".seg") && !name.contains(".new"));
        let bytes: usize = segments.map(|name| group.disk.content(&name).len()).sum();
        assert_eq!(group.journal.status().disk_bytes, bytes as u64, "each has its whole length from the beginning");
    }
    assert_eq!(group.journal.status().segments, 3);
    assert!(group.disk.content("segments/00000002.seg").len() > 1 << 20);
    group.check_all(at(1));
    reopen(&group);
}
