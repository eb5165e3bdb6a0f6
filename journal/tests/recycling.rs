//! Segments that leave the journal, and what becomes of their files.
//!
//! Goal: the file of a segment that nobody needs is the next one's, what stood in it is never taken for anything of the
//! new segment's, and no crash leaves a segment's name on another one's content. Method: a group on the simulated disk, whose
//! segments are of 1 MiB; every moment of a history with a retired segment. What a world looks like whose new segment is torn
//! over an old one is `crash_enumeration`'s.

mod common;

use common::{Group, extent};
use journal::place::SegmentNumber;
use kit::Rng;
use std::io::ErrorKind;

const SEGMENT_BYTES: u64 = 1 << 20;

fn fill(group: &mut Group, chunks: u64) {
    let volume = group.volumes[0].number;
    for i in 0..chunks {
        group.write(volume, extent(i % 5, 600));
        assert!(group.send());
    }
    group.catch_up();
}

/// A group that has so many segments, the last of them not half full.
fn with_segments(segments: u64) -> Group {
    let mut group = Group::new(&[1500]);
    while group.journal.status().segments < segments {
        fill(&mut group, 1);
    }
    group
}

fn retire(group: &Group, number: u32) -> u64 {
    group.journal.retire(SegmentNumber::new(number)).expect("retire")
}

fn segment_files(group: &Group) -> Vec<String> {
    let names = group.disk.names().into_iter();
    names.filter_map(|name| name.strip_prefix("segments/").map(str::to_string)).collect()
}

#[test]
fn a_segment_that_nobody_needs_is_the_next_one() {
    let mut group = with_segments(3);
    let before = group.journal.status();
    assert_eq!(retire(&group, 1), SEGMENT_BYTES);
    assert_eq!(segment_files(&group), ["00000001.seg.new", "00000002.seg", "00000003.seg"]);
    let after = group.journal.status();
    assert_eq!(after.segments, before.segments - 1);
    assert_eq!(after.disk_bytes, before.disk_bytes - SEGMENT_BYTES);
    assert_eq!(retire(&group, 1), 0, "it has left before");
    // No room for a new file is needed.
    group.disk.set_capacity(Some(0));
    while group.journal.status().segments < before.segments {
        fill(&mut group, 1);
    }
    assert_eq!(segment_files(&group), ["00000002.seg", "00000003.seg", "00000004.seg"]);
    // All of the volume that was ever written is in the last ones.
    fill(&mut group, 1);
    group.check(group.reference.head());
}

#[test]
fn the_newest_segment_stays() {
    let group = with_segments(2);
    for number in [2, 3] {
        let refused = group.journal.retire(SegmentNumber::new(number)).expect_err("it is the tail's");
        assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(group.journal.status().segments, 2);
}

#[test]
fn a_few_files_are_kept_and_of_the_rest_the_space_is_given_back() {
    let group = with_segments(8);
    for number in 1..=6 {
        assert_eq!(retire(&group, number), SEGMENT_BYTES);
    }
    let kept = segment_files(&group).into_iter().filter(|name| name.ends_with("seg.new")).count();
    assert_eq!(kept, 2);
    assert_eq!(group.journal.status().segments, 2);
    group.journal.close().expect("close");
    assert_eq!(segment_files(&group), ["00000007.seg", "00000008.seg"], "nothing is kept of a closed journal");
}

#[test]
fn one_of_another_size_is_not_kept() {
    let mut group = with_segments(2);
    let volume = group.volumes[0].number;
    // Four of these are one chunk of more than a segment.
    for start in 0..4 {
        group.write(volume, extent(start, 700));
    }
    assert!(group.send());
    let large = group.disk.content("segments/00000003.seg").len() as u64;
    assert!(large > SEGMENT_BYTES);
    fill(&mut group, 3);
    assert_eq!(retire(&group, 3), large);
    assert!(!segment_files(&group).iter().any(|name| name.starts_with("00000003")));
}

#[test]
fn no_crash_leaves_its_name_on_what_is_another_segment() {
    for seed in 1..=3 {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let mut group = with_segments(3);
        let former = group.disk.content("segments/00000001.seg");
        group.disk.keep_moments();
        assert_eq!(retire(&group, 1), SEGMENT_BYTES);
        while group.journal.status().segments < 3 {
            fill(&mut group, 1);
        }
        fill(&mut group, 1);
        let (mut back, mut gone) = (0, 0);
        for moment in group.disk.take_moments() {
            for _ in 0..8 {
                let left = moment.power_cut(&mut rng, 512);
                if left.names().iter().any(|name| name == "segments/00000001.seg") {
                    assert!(left.content("segments/00000001.seg") == former, "it is what it was");
                    back += 1;
                } else {
                    gone += 1;
                }
            }
        }
        assert!(back > 0 && gone > 0);
    }
}
