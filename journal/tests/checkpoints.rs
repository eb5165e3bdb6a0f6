//! A restart goes on from a checkpoint, and any one of them may be lost.

mod common;

use common::{Group, at, extent};
use kit::disk::On;
use kit::{Rng, SimDisk};
use record::point::Point;
use std::io::ErrorKind;

/// Segments full of records, with bookmarks and a rollback among them.
fn long() -> Group {
    let mut group = Group::new(&[1500, 40]);
    let (large, small) = (group.volumes[0].number, group.volumes[1].number);
    for n in 0..12 {
        group.write(large, extent(n, 1400));
        group.write(small, extent(n, 9));
        group.bookmark(&format!("b{n}"));
        assert!(group.send());
        if n == 5 {
            group.rollback(at(group.head().get() - 3));
        }
    }
    group
}

fn states(disk: &SimDisk) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.starts_with("state/")).collect()
}

/// Opens what is on a disk, which must be undamaged, and compares every image.
fn same(group: &Group, disk: SimDisk) -> Group {
    let (mut again, report) = Group::open(disk, group.volumes.clone()).expect("open");
    assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    again.reference = group.reference.clone();
    again.catch_up();
    assert_eq!(again.journal.timeline().bookmarks, group.journal.timeline().bookmarks);
    let oldest = again.journal.resolve(&Point::Oldest, false).expect("a window");
    assert!(again.check_all(oldest) > 5);
    again
}

#[test]
fn a_restart_does_not_read_what_a_checkpoint_knows() {
    let group = long();
    let disk = group.disk.killed();
    assert!(states(&disk).len() > 3, "{:?}", disk.names());
    for n in 1..5 {
        disk.fail(&format!("segments/{n:08}"), On::Read, ErrorKind::Other, u64::MAX);
    }
    let (again, report) = Group::open(disk, group.volumes.clone()).expect("open");
    assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    assert_eq!(report.recovered, group.head());
    let (told, before) = (again.journal.status(), group.journal.status());
    assert_eq!((told.used_bytes, told.payload_bytes), (before.used_bytes + 3 * 4096, before.payload_bytes + 4096));
    assert_eq!((told.segments, told.disk_bytes), (before.segments, before.disk_bytes));
}

#[test]
fn one_that_could_not_be_written_whole_does_not_keep_later_ones_from_being_used() {
    let mut group = Group::new(&[1500]);
    let volume = group.volumes[0].number;
    for n in 0..12 {
        if n == 4 {
            // It has its name, and nobody knows whether that will last.
            group.disk.fail("state", On::Sync, ErrorKind::Other, 2);
        }
        group.write(volume, extent(n, 1400));
        assert!(group.send());
    }
    let disk = group.disk.killed();
    for n in 1..7 {
        disk.fail(&format!("segments/{n:08}"), On::Read, ErrorKind::Other, u64::MAX);
    }
    let (_, report) = Group::open(disk, group.volumes.clone()).expect("open");
    assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    assert_eq!(report.recovered, group.head());
}

#[test]
fn any_one_checkpoint_may_be_missing_or_damaged() {
    let group = long();
    let all = states(&group.disk);
    for name in &all {
        let lost = group.disk.killed();
        lost.lose(name);
        same(&group, lost);
        let damaged = group.disk.killed();
        damaged.flip(name, 777, 4);
        same(&group, damaged);
    }
    let none = group.disk.killed();
    for name in &all {
        none.lose(name);
    }
    same(&group, none);
}

#[test]
fn any_one_checkpoint_may_be_lost_when_what_is_in_front_of_it_is_gone() {
    let group = long();
    for bookmark in group.journal.reader().bookmarks() {
        group.journal.remove_bookmark(&bookmark.name, group.laying.label()).expect("remove");
    }
    let mut group = group;
    group.catch_up();
    group.journal.forget(at(group.head().get() - 20)).expect("forget");
    while group.journal.distribute(1 << 20).expect("distribute").more {}
    assert!(group.journal.reclaim().expect("reclaim").segments > 2);
    let all = states(&group.disk);
    assert!(all.len() > 1, "{all:?}");
    for name in &all {
        let damaged = group.disk.killed();
        damaged.flip(name, 500, 4);
        same(&group, damaged);
    }
    // The one in front of the oldest segment, and a segment behind it: what is left is right or refused.
    let both = group.disk.killed();
    both.flip(&all[0], 500, 4);
    both.lose(
        group
            .disk
            .names()
            .iter()
            .find(|name| name.starts_with("segments/") && !name.contains("new"))
            .expect("a segment"),
    );
    assert!(Group::open(both, group.volumes.clone()).is_ok());
    let none = group.disk.killed();
    for name in &all {
        none.lose(name);
    }
    let refused = Group::open(none, group.volumes.clone()).err().map(|error| error.to_string());
    assert!(refused.is_some_and(|why| why.contains("folder state")), "what it was cannot be known");
}

#[test]
fn a_checkpoint_of_another_history_is_not_used() {
    let group = long();
    // The same journal, and other records from the fifth segment on.
    let mut other = Group::new(&[1500, 40]);
    for n in 0..14 {
        other.write(other.volumes[0].number, extent(n, 1300));
        assert!(other.send());
    }
    for name in states(&other.disk) {
        let disk = group.disk.killed();
        if disk.names().contains(&name) {
            disk.put(&name, &other.disk.content(&name));
            same(&group, disk);
        }
    }
}

#[test]
fn the_journal_goes_on_behind_a_checkpoint_as_if_it_had_read_everything() {
    let mut rng = Rng::new(11);
    let mut group = long();
    for _ in 0..6 {
        let Group { disk, journal, volumes, reference, mut laying, session, splitter, tokens, .. } = group;
        drop(journal);
        let (mut again, _) = Group::open(disk.killed(), volumes).expect("open");
        (again.reference, again.session, again.splitter, again.tokens) = (reference, session, splitter, tokens);
        laying.pass(1000);
        again.laying = laying;
        again.catch_up();
        let laid = again.laying.next();
        let released = record::position::StreamSeq::FIRST;
        let same = record::conversation::Continuation::Same { session, laid, released };
        assert!(again.open_session(&same), "without a gap");
        for n in 0..4 {
            again.write(again.volumes[0].number, extent(n, 1200 + rng.below(200)));
            again.lay_some(&mut rng);
            assert!(again.send());
        }
        again.rollback(at(again.head().get() - rng.below(4)));
        let oldest = again.journal.resolve(&Point::Oldest, false).expect("a window");
        again.check_all(oldest);
        group = again;
    }
}

/// Opens what a killed process left, and goes on in the same session.
fn go_on(group: Group, disk: SimDisk) -> Group {
    let Group { volumes, reference, laying, session, splitter, tokens, journal, .. } = group;
    drop(journal);
    let (mut again, _) = Group::open(disk, volumes).expect("open");
    (again.reference, again.session, again.splitter) = (reference, session, splitter);
    (again.tokens, again.laying) = (tokens, laying);
    again.catch_up();
    let (laid, released) = (again.laying.next(), record::position::StreamSeq::FIRST);
    let same = record::conversation::Continuation::Same { session, laid, released };
    again.open_session(&same);
    again
}

fn fill(group: &mut Group, times: u64) {
    for n in 0..times {
        group.write(group.volumes[0].number, extent(n % 50, 1400));
        assert!(group.send());
    }
}

#[test]
fn a_restart_that_had_to_read_everything_is_no_trouble_for_the_next_one() {
    let group = long();
    let disk = group.disk.killed();
    let third = disk.content("segments/00000003.seg");
    disk.truncate("segments/00000003.seg", 8192);
    let mut group = go_on(group, disk);
    // Everything is written again, so that what is lost does not matter from here on.
    group.write(group.volumes[0].number, extent(0, 1500));
    group.write(group.volumes[1].number, extent(0, 40));
    assert!(group.send());
    let sound = group.head();
    fill(&mut group, 40);
    let disk = group.disk.killed();
    // Somebody has put it back: nothing has to be read any more.
    disk.put("segments/00000003.seg", &third);
    let mut group = go_on(group, disk);
    fill(&mut group, 3);
    assert!(group.check_all(sound) > 40);
    let disk = group.disk.killed();
    assert!(go_on(group, disk).check_all(sound) > 40);
}

#[test]
fn segments_are_given_back_though_checkpoints_between_are_lost() {
    let mut group = long();
    // More of them than one move goes past.
    fill(&mut group, 20);
    let disk = group.disk.killed();
    for name in states(&disk).iter().skip(1) {
        disk.lose(name);
    }
    let mut group = go_on(group, disk);
    fill(&mut group, 30);
    for bookmark in group.journal.reader().bookmarks() {
        group.journal.remove_bookmark(&bookmark.name, group.laying.label()).expect("remove");
    }
    group.catch_up();
    group.journal.forget(at(group.head().get() - 10)).expect("forget");
    while group.journal.distribute(1 << 20).expect("distribute").more {}
    assert!(group.journal.reclaim().expect("reclaim").segments > 20);
    let oldest = group.journal.resolve(&Point::Oldest, false).expect("a window");
    group.check_all(oldest);
}

#[test]
fn there_is_always_a_point_whatever_is_forgotten() {
    let mut group = Group::new(&[40]);
    group.write(group.volumes[0].number, extent(0, 9));
    assert!(group.send());
    let sound = group.head();
    group.journal.lose(group.session).expect("lose");
    group.catch_up();
    for _ in 0..3 {
        group.journal.commit_idle().expect("commit");
        group.catch_up();
    }
    group.journal.forget(group.head()).expect("forget");
    assert_eq!(group.journal.space().horizon.position, sound);
    assert_eq!(group.journal.resolve(&Point::Latest, false).ok(), Some(sound));
    group.check(sound);
}

#[test]
fn what_the_replicas_lack_is_refused_and_everything_is_when_nobody_knows_what_that_is() {
    let mut group = long();
    for bookmark in group.journal.reader().bookmarks() {
        group.journal.remove_bookmark(&bookmark.name, group.laying.label()).expect("remove");
    }
    group.catch_up();
    // Content that is needed, and rotten when it is to be brought over.
    let small = group.volumes[1].number;
    group.write(small, extent(0, 8));
    fill(&mut group, 6);
    let written = group.reference.bytes(small, group.head());
    let mut rotten = 0;
    for name in group.disk.names().iter().filter(|name| name.starts_with("segments/") && !name.contains("new")) {
        if let Some(at) = group.disk.content(name).windows(512).position(|bytes| bytes == &written[..512]) {
            group.disk.flip(name, at, 1);
            rotten += 1;
        }
    }
    assert_eq!(rotten, 1, "it was written once");
    group.journal.forget(group.head()).expect("forget");
    while group.journal.distribute(1 << 20).expect("distribute").more {}
    let read = |group: &Group| {
        let image = group.journal.reader().live_image();
        let mut bytes = vec![0; 40 * 512];
        image.read(small, extent(0, 40), &mut bytes).map_err(|failure| failure.damaged)
    };
    let damaged = read(&group).expect_err("refused");
    assert_eq!(damaged, [extent(0, 8)], "its block, and nothing else");
    let disk = group.disk.killed();
    assert!(disk.names().contains(&"base-lost".to_string()), "{:?}", disk.names());
    let group = go_on(group, disk);
    assert_eq!(read(&group).expect_err("refused after a restart, too"), damaged);
    let disk = group.disk.killed();
    disk.flip("base-lost", 60, 1);
    let group = go_on(group, disk);
    assert!(read(&group).is_err(), "nobody knows what is right");
}
