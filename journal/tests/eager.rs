//! Replicas at the newest point, and what they held before.
//!
//! Goal: what random histories rarely meet: lines that were left, moves that were cut off, volumes that join while replicas
//! go on, captures that fail, rot and run out of room.

mod common;

use common::{Group, at, extent, join_request, restart};
use journal::{BaseDevice, Cause, FindingKind, FollowBounds, Followed, Reader, verify_disk};
use kit::MemBase;
use kit::disk::On;
use kit::reference::Cell;
use record::point::Point;
use record::position::Position;
use std::io::ErrorKind;
use std::sync::Arc;

/// Goes on until there is nothing more to do.
fn follow(group: &Group, eager: bool) -> Followed {
    loop {
        let followed = group.journal.follow(1 << 20, eager, FollowBounds::default()).expect("follow");
        if !followed.more {
            return followed;
        }
    }
}

fn arrive(group: &Group) -> Position {
    let followed = follow(group, true);
    assert_eq!(followed.held_back_by, None);
    let at = followed.at.expect("a plain disk").position;
    group.check_replicas(at);
    at
}

fn fold(group: &Group) {
    while group.journal.distribute(1 << 20).expect("distribute").more {}
}

/// Some segments full of records.
fn fill(group: &mut Group, from: u64) {
    let volume = group.volumes[0].number;
    for n in 0..9 {
        group.write(volume, extent(from + n * 3, 900));
        assert!(group.send());
    }
}

#[test]
fn replicas_at_a_line_that_was_left_and_forgotten_are_looked_at_as_a_whole() {
    let mut group = Group::new(&[1500, 100]);
    let (large, small) = (group.volumes[0].number, group.volumes[1].number);
    group.write(small, extent(0, 8));
    assert!(group.send());
    let target = group.head();
    group.write(small, extent(20, 8));
    group.punch(large, extent(0, 300));
    assert!(group.send());
    arrive(&group);
    group.rollback(target);
    fill(&mut group, 500);
    fill(&mut group, 400);
    // The line that the replicas are at is nobody's any more, and the journal has given its records back.
    group.journal.forget(group.head()).expect("forget");
    fold(&group);
    group.journal.reclaim().expect("reclaim");
    assert!(group.journal.space().distributed > target.next());
    arrive(&group);
    group.check_all(at(1));
    follow(&group, false);
    assert_eq!((group.journal.replica_at(), group.journal.undo_bytes()), (None, 0));
    group.check_all(at(1));
}

#[test]
fn a_move_that_was_cut_off_on_a_line_that_was_left_is_made_good() {
    for cut in 1..30 {
        let mut group = Group::new(&[300]);
        let volume = group.volumes[0].number;
        group.write(volume, extent(0, 8));
        assert!(group.send());
        let target = group.head();
        assert_eq!(arrive(&group), target);
        for n in 0..40 {
            group.write(volume, extent(n * 7, 5));
        }
        assert!(group.send());
        for _ in 0..cut {
            group.journal.follow(4096, true, FollowBounds::default()).expect("follow");
        }
        let mut group = restart(group, false);
        group.rollback(target);
        group.write(volume, extent(299, 1));
        assert!(group.send());
        arrive(&group);
        group.check_all(at(1));
    }
}

#[test]
fn a_volume_that_joins_while_replicas_go_on_is_brought_over_from_its_beginning() {
    let mut group = Group::new(&[100]);
    let first = group.volumes[0].number;
    let sectors = 64;
    let number = group.journal.join(&join_request(9, "late", sectors), group.laying.label()).expect("join");
    let base: Arc<dyn BaseDevice> = Arc::new(MemBase::new(sectors));
    group.journal.attach_base_device(number, base.clone()).expect("attach");
    group.catch_up();
    group.journal.base_reset(number).expect("reset");
    group.reference.prepare(number, vec![Cell::Joined(0); 64]);
    // What is written meanwhile is a record behind JOIN, and in front of where the replicas are when it has joined.
    group.write(number, extent(3, 9));
    group.write(first, extent(3, 9));
    assert!(group.send());
    arrive(&group);
    group.journal.joined(number, group.laying.label()).expect("joined");
    group.reference.joined(number);
    group.volumes.push(common::Volume { number, sectors, base, file: None, left: None });
    group.write(first, extent(30, 9));
    assert!(group.send());
    arrive(&group);
    group.check_all(at(1));
}

#[test]
fn what_the_lower_layer_was_brought_is_captured_while_it_is_still_on_its_way() {
    for first in [false, true] {
        let mut group = Group::new(&[1500]);
        fill(&mut group, 0);
        let kept = group.head();
        fill(&mut group, 300);
        if first {
            // The replica holds what is brought already: it is not captured any more, since the replica is it.
            arrive(&group);
        }
        group.journal.forget(kept).expect("forget");
        // Some of what the oldest point has in front of it is brought.
        let distributed = group.journal.distribute(1).expect("distribute");
        assert!(distributed.more && distributed.to < kept);
        let volume = group.volumes[0].number;
        group.write(volume, extent(0, 1400));
        assert!(group.send());
        arrive(&group);
        fold(&group);
        assert!(group.journal.space().distributed > Position::ORIGIN, "the oldest point is in the lower layer");
        group.check_all(kept);
        assert_eq!(follow(&group, false).held_back_by, None);
        group.check_all(kept);
    }
}

fn fill_small(group: &mut Group) {
    let volume = group.volumes[0].number;
    for n in 0..9 {
        group.write(volume, extent(n, 90));
        assert!(group.send());
    }
}

/// A group whose replica is further than a point that is kept, and that point.
fn captured() -> (Group, Position) {
    let mut group = Group::new(&[100]);
    let volume = group.volumes[0].number;
    let point = group.head();
    group.write(volume, extent(3, 9));
    group.punch(volume, extent(20, 30));
    assert!(group.send());
    arrive(&group);
    (group, point)
}

#[test]
fn every_file_of_a_journal_is_known_to_whoever_removes_one() {
    let (mut group, _) = captured();
    fill_small(&mut group);
    group.journal.keep_points(&[group.head()]).expect("keep");
    group.rollback(at(5));
    group.journal.close().expect("close");
    let names = group.disk.names();
    assert!(names.iter().any(|name| name == "grid") && names.iter().any(|name| name.starts_with("undo/")), "{names:?}");
    for name in names {
        let own = match name.split_once('/') {
            Some((folder, _)) => journal::place::FOLDERS.contains(&folder),
            None => journal::place::is_own(&name),
        };
        assert!(own, "{name} would stay behind");
    }
}

#[test]
fn what_is_held_only_because_of_discards_is_counted() {
    let (group, _) = captured();
    // Of what was discarded, in the first half, all was allocated.
    assert_eq!(group.journal.undo_bytes_of_discards().expect("count"), 30 * 512);
    follow(&group, false);
    assert_eq!(group.journal.undo_bytes_of_discards().expect("count"), 0);
}

#[test]
fn a_flipped_bit_of_what_was_captured_is_refused_or_harmless_never_wrong() {
    let (group, point) = captured();
    let volume = group.volumes[0].number;
    let expected = group.reference.bytes(volume, point);
    group.journal.close().expect("close");
    let (mut refused, mut harmless) = (0, 0);
    for name in group.disk.names().into_iter().filter(|name| name.starts_with("undo/")) {
        let len = group.disk.content(&name).len();
        for byte in (0..len).step_by(if len > 60_000 { 97 } else { 13 }) {
            let disk = group.disk.killed();
            disk.flip(&name, byte, 1 << (byte % 8));
            let again = Group::open(disk, group.volumes.clone()).expect("open").0;
            let image = again.journal.image(point).expect("a point");
            let mut bytes = vec![0xaa; expected.len()];
            match image.read(volume, extent(0, 100), &mut bytes) {
                Ok(()) => {
                    assert!(bytes == expected, "{name} byte {byte}");
                    harmless += 1;
                }
                Err(failure) => {
                    assert!(matches!(failure.cause, Cause::Replica { .. }), "{failure:?}");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 100 && harmless > 100, "{refused} refused, {harmless} harmless");
}

#[test]
fn the_verifier_names_what_is_damaged_of_what_was_captured() {
    let (group, _) = captured();
    let volume = group.volumes[0].number;
    group.journal.close().expect("close");
    let findings = |disk: &kit::SimDisk| verify_disk(disk, &mut |_, _| {}).expect("verify").findings;
    assert_eq!(findings(&group.disk), []);
    group.disk.flip("undo/1.data", 21 * 512, 1);
    let found = findings(&group.disk);
    assert!(found.len() == 1 && found[0].kind == FindingKind::Undo && found[0].offset == 8192, "{found:?}");
    assert_eq!(found[0].extents, [("v1".to_string(), volume, extent(16, 8))]);
    group.disk.flip("undo/1.map", 600, 1);
    assert_eq!(findings(&group.disk), found, "the other copy serves");
    group.disk.flip("undo/1.map", 4096 + 600, 1);
    assert_eq!(findings(&group.disk)[0].bytes, 8192);
}

#[test]
fn both_copies_of_a_map_damaged_are_refused() {
    let (group, point) = captured();
    group.journal.close().expect("close");
    let disk = group.disk.killed();
    disk.flip("undo/1.map", 600, 1);
    disk.flip("undo/1.map", 4096 + 600, 1);
    let again = Group::open(disk, group.volumes.clone()).expect("open").0;
    let image = again.journal.image(point).expect("a point");
    let failure = image.read(again.volumes[0].number, extent(0, 100), &mut vec![0; 51_200]).expect_err("refused");
    assert!(failure.to_string().contains("undo"), "{failure}");
    // The replica is not changed where nobody knows what it is.
    let followed = follow(&again, false);
    assert!(followed.held_back_by.expect("held").contains("damaged"));
}

#[test]
fn a_replica_is_not_changed_where_its_capture_fails_and_goes_on_when_it_does_not() {
    for (part, on) in
        [("undo/1.data", On::Write), ("undo/1.data", On::Sync), ("undo/1.map", On::Write), ("undo/1.map", On::Sync)]
    {
        for kind in [ErrorKind::StorageFull, ErrorKind::Other] {
            let mut group = Group::new(&[100]);
            let volume = group.volumes[0].clone();
            let point = group.head();
            group.write(volume.number, extent(3, 9));
            assert!(group.send());
            group.disk.fail(part, on, kind, 1);
            let followed = follow(&group, true);
            assert!(followed.held_back_by.is_some() && followed.at.is_none(), "{part} {on:?}: {followed:?}");
            group.check_replicas(point);
            group.check_all(at(1));
            arrive(&group);
            group.check_all(at(1));
            let mut group = restart(group, false);
            group.check_all(at(1));
            group.punch(volume.number, extent(0, 100));
            assert!(group.send());
            arrive(&group);
        }
    }
}

#[test]
fn what_is_held_of_the_past_has_a_limit_and_replicas_wait_at_it() {
    let mut group = Group::new(&[1500]);
    fill(&mut group, 0);
    let followed = group
        .journal
        .follow(1 << 20, true, FollowBounds { undo_limit: Some(64 << 10), punch_split: 512 })
        .expect("follow");
    assert!(followed.undo_full && followed.held_back_by.is_some(), "{followed:?}");
    group.check_all(at(1));
    arrive(&group);
    // When the points go that need it, so does it.
    let before = group.journal.undo_bytes();
    let head = group.head();
    fill(&mut group, 0);
    arrive(&group);
    group.journal.forget(head).expect("forget");
    fold(&group);
    arrive(&group);
    assert!(group.journal.undo_bytes() <= before + (1 << 20));
    group.check(group.journal.resolve(&Point::Oldest, false).expect("a point"));
}

#[test]
fn whoever_only_reads_sees_the_past_of_a_replica_that_is_further() {
    let (mut group, point) = captured();
    let volume = group.volumes[0].clone();
    let reader = Reader::open_on(group.disk.shared()).expect("open").0;
    reader.attach_base_device(volume.number, volume.base.clone()).expect("attach");
    let read = |reader: &Reader| {
        let mut bytes = vec![0xaa; 51_200];
        reader.image(point).expect("a point").read(volume.number, extent(0, 100), &mut bytes).expect("read");
        bytes
    };
    assert!(read(&reader) == group.reference.bytes(volume.number, point));
    // It goes on meanwhile.
    group.write(volume.number, extent(60, 20));
    assert!(group.send());
    arrive(&group);
    assert!(read(&reader) == group.reference.bytes(volume.number, point));
    follow(&group, false);
    assert!(read(&reader) == group.reference.bytes(volume.number, point));
}

#[test]
fn a_hole_that_stays_one_is_not_marked_however_old_it_is() {
    let mut group = Group::new(&[20_000]);
    let volume = group.volumes[0].number;
    group.punch(volume, extent(0, 20_000));
    assert!(group.send());
    arrive(&group);
    let held = group.journal.undo_bytes_of_discards().expect("count");
    // Every point has that hole now, but the replicas' own position is in front of it still.
    group.journal.forget(group.head()).expect("forget");
    let before: Vec<u8> = group.disk.content("undo/1.map");
    group.punch(volume, extent(0, 20_000));
    assert!(group.send());
    arrive(&group);
    assert!(group.disk.content("undo/1.map") == before, "nothing was changed, and something was captured");
    assert_eq!(group.journal.undo_bytes_of_discards().expect("count"), held);
    group.check_all(at(1));
}

#[test]
fn zeros_are_held_without_data_and_a_hole_stays_a_hole() {
    let mut group = Group::new(&[3000]);
    let volume = group.volumes[0].clone();
    let point = group.head();
    // The second half has nothing allocated: what is made a hole there changes nothing, and nothing is held of it.
    group.punch(volume.number, extent(1500, 1500));
    assert!(group.send());
    arrive(&group);
    assert_eq!(group.journal.undo_bytes(), 0);
    // Over a hole: it is held as one, without data.
    group.write(volume.number, extent(1500, 1000));
    assert!(group.send());
    arrive(&group);
    let held = group.disk.content("undo/1.data").len();
    assert_eq!(held, 0, "nothing but kinds");
    group.rollback(point);
    arrive(&group);
    group.check_all(at(1));
}
