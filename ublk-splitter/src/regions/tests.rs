//! A bit is set before anything is written, and cleared only when nothing can be missing.

use super::*;
use proptest::prelude::*;

const REGIONS: u64 = 100;
const S: Session = Session::new(4);

fn regions() -> Regions {
    Regions::new(REGIONS * REGION_SECTORS)
}

fn ext(region: u64, sectors: u64) -> Extent {
    Extent::new(region * REGION_SECTORS, sectors).unwrap()
}

/// Writes whatever has to be written until the pinned extent may go on.
fn settle(regions: &mut Regions, extent: Extent) {
    while let Next::Write(write) = regions.next(extent) {
        regions.written(write, true);
    }
    assert_eq!(regions.next(extent), Next::Go);
}

#[test]
fn the_first_write_into_a_clean_region_waits_for_its_page_and_the_next_one_does_not() {
    let mut regions = regions();
    let first = regions.pin(ext(3, 8));
    let Next::Write(write) = regions.next(ext(3, 8)) else { panic!("the page has to be written") };
    assert_eq!(regions.next(ext(3, 8)), Next::Wait, "two copies of a page are never on their way");
    regions.written(write, true);
    assert_eq!(regions.next(ext(3, 8)), Next::Go);
    regions.unpin(first);
    regions.pin(ext(3, 100));
    assert_eq!(regions.next(ext(3, 100)), Next::Go, "a hot region costs nothing");
}

#[test]
fn a_host_that_writes_in_sequence_waits_for_the_map_once_in_many_regions() {
    let mut regions = regions();
    let mut writes = 0;
    for region in 0..60 {
        let pin = regions.pin(ext(region, REGION_SECTORS));
        while let Next::Write(write) = regions.next(ext(region, REGION_SECTORS)) {
            regions.written(write, true);
            writes += 1;
        }
        regions.unpin(pin);
    }
    assert_eq!(writes, 3, "0; 1 to 33; 34 to 66");
    let round = regions.begin_round();
    regions.end_round(round);
    assert_eq!(regions.dirty(), 0);
}

#[test]
fn a_region_set_while_its_page_is_being_written_is_not_durable_with_that_write() {
    let mut regions = regions();
    regions.pin(ext(1, 8));
    let Next::Write(write) = regions.next(ext(1, 8)) else { panic!("write") };
    regions.pin(ext(2, 8));
    assert_eq!(regions.next(ext(2, 8)), Next::Wait);
    regions.written(write, true);
    assert_eq!(regions.next(ext(1, 8)), Next::Go);
    let Next::Write(write) = regions.next(ext(2, 8)) else { panic!("another write") };
    regions.written(write, false);
    assert!(matches!(regions.next(ext(2, 8)), Next::Write(_)), "a write that failed made nothing durable");
}

#[test]
fn only_what_was_left_alone_for_a_whole_round_becomes_clean() {
    let mut regions = regions();
    for region in (0..5).rev() {
        let pin = regions.pin(ext(region, 8));
        settle(&mut regions, ext(region, 8));
        if region != 4 {
            regions.unpin(pin);
        }
    }
    let round = regions.begin_round();
    let again = regions.pin(ext(1, 8));
    regions.unpin(again);
    regions.need_read(ext(2, 8));
    assert!(regions.round_is_worth_it(round));
    assert_eq!(regions.end_round(round), 2, "0 and 3; 1 was touched, 2 is unknown, 4 is pinned");
    assert_eq!(regions.dirty(), 3);
    let pin = regions.pin(ext(0, 8));
    assert!(matches!(regions.next(ext(0, 8)), Next::Write(_)), "a bit clear in memory counts as clear on disk");
    regions.unpin(pin);
}

#[test]
fn a_request_that_ends_within_a_round_keeps_its_region_dirty_for_it() {
    let mut regions = regions();
    let pin = regions.pin(ext(7, 8));
    settle(&mut regions, ext(7, 8));
    let round = regions.begin_round();
    regions.unpin(pin);
    assert!(!regions.round_is_worth_it(round));
    assert_eq!(regions.end_round(round), 0);
    let round = regions.begin_round();
    assert_eq!(regions.end_round(round), 1);
}

#[test]
fn an_older_round_clears_nothing() {
    let mut regions = regions();
    regions.set_all();
    let old = regions.begin_round();
    let new = regions.begin_round();
    assert_eq!(regions.end_round(old), 0);
    regions.drop_round();
    assert_eq!(regions.end_round(new), 0);
}

#[test]
fn a_resynchronisation_reads_each_dirty_region_once_and_none_of_them_becomes_clean_before() {
    let mut regions = regions();
    for region in [5, 4, 3, 40, 99] {
        let pin = regions.pin(ext(region, 1));
        regions.unpin(pin);
    }
    regions.begin_resync(S);
    let round = regions.begin_round();
    assert_eq!(regions.end_round(round), 0, "nothing has been read yet");
    let mut read = Vec::new();
    let mut next = regions.next_unread(S, 0, 2);
    while let Some(run) = next {
        read.push((run.start().index() / REGION_SECTORS, run.count().get() / REGION_SECTORS));
        regions.resynced(S, run);
        next = regions.next_unread(S, run.end() / REGION_SECTORS, 2);
    }
    assert_eq!(read, [(3, 2), (5, 1), (40, 1), (99, 1)]);
    assert_eq!(regions.unread(S), Some(0));
    let round = regions.begin_round();
    assert_eq!(regions.end_round(round), 5);
}

#[test]
fn what_was_read_for_one_session_is_read_again_for_the_next() {
    let mut regions = regions();
    let pin = regions.pin(ext(3, 1));
    regions.unpin(pin);
    regions.begin_resync(S);
    let run = regions.next_unread(S, 0, 8).unwrap();
    regions.begin_resync(S.next());
    regions.resynced(S, run);
    assert_eq!(regions.unread(S.next()), Some(1), "read for the session before");
    assert_eq!((regions.unread(S), regions.next_unread(S, 0, 8)), (None, None));
}

#[test]
fn an_extent_that_fails_again_and_again_is_kept_until_it_was_read_once() {
    let mut regions = regions();
    for _ in 0..3 {
        regions.need_read(ext(3, 1));
    }
    regions.need_read(Extent::new(3 * REGION_SECTORS + 8, 1).unwrap());
    regions.was_read(ext(3, 1));
    let round = regions.begin_round();
    assert_eq!(regions.end_round(round), 0, "the other extent of the region is still unknown");
    regions.was_read(Extent::new(3 * REGION_SECTORS + 8, 1).unwrap());
    let round = regions.begin_round();
    assert_eq!(regions.end_round(round), 1);
}

proptest! {
    /// Against one flag a region: whatever happens, a bit is set from the pin on until a round that may clear it; more are
    /// set only where writing goes on behind dirty regions.
    #[test]
    fn bits_are_what_a_plain_list_of_flags_says(
        ops in prop::collection::vec((0..REGIONS, 1u64..4, any::<bool>()), 1..200),
    ) {
        let mut regions = regions();
        let mut flags = std::collections::BTreeSet::new();
        for (at, len, end) in ops {
            if end {
                let round = regions.begin_round();
                regions.end_round(round);
                flags.clear();
            } else {
                let len = len.min(REGIONS - at);
                let pin = regions.pin(ext(at, len * REGION_SECTORS));
                regions.unpin(pin);
                flags.extend(at..at + len);
            }
            let set: std::collections::BTreeSet<_> = (0u64..).zip(regions.page_bits(0)).filter(|(_, bit)| *bit).map(|(region, _)| region).collect();
            prop_assert!(set.is_superset(&flags));
            for region in set.difference(&flags) {
                prop_assert!(set.contains(&(region - 1)), "region {} was marked for nothing", region);
            }
        }
    }
}
