//! The index in files, under a journal: written while records come, found again at open, and made again where it is damaged.
//!
//! Goal: a run is a copy; whatever happens to it, images stay right and complete. Method: a history over many segments, full
//! images compared; runs lost, cut, flipped, before an open and under one; then the segment that a run was made of as well.

mod common;

use common::{Group, at, extent};
use journal::Reader;
use kit::{Rng, SimDisk};
use record::point::Point;

/// The files of runs, of one level or of all.
fn runs(disk: &SimDisk, level: &str) -> Vec<String> {
    disk.names().into_iter().filter(|name| name.starts_with(&format!("runs/{level}"))).collect()
}

/// A history of so many segments, with small and large records, a rollback in its midst.
fn long(seed: u64, chunks: u64) -> Group {
    let mut rng = Rng::new(seed);
    let mut group = Group::new(&[1400, 90]);
    let volume = group.volumes[0].number;
    for n in 0..chunks {
        if n % 3 > 0 {
            let count = 900 + rng.below(500);
            group.write(volume, extent(rng.below(1400 - count), count));
        }
        for _ in 0..rng.below(4) {
            group.lay_some(&mut rng);
        }
        group.send();
        if n == chunks / 2 {
            let target = at(group.head().get() / 2);
            group.rollback(target);
        }
    }
    group
}

/// Some images of a group are what the reference says.
fn check_some(group: &Group, rng: &mut Rng, count: u64) {
    let oldest = group.journal.resolve(&Point::Oldest, false).expect("a window").get();
    for _ in 0..count {
        group.check(at(oldest + rng.below(group.head().get() - oldest + 1)));
    }
    group.check(group.head());
}

/// Opens what is on a disk; the reference of another group of the same history is put in.
fn reopen(disk: &SimDisk, group: &Group) -> Group {
    let (mut again, report) = Group::open(disk.killed(), group.volumes.clone()).expect("open");
    assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    again.reference = group.reference.clone();
    again.catch_up();
    again
}

#[test]
fn images_are_right_from_runs_that_were_merged_and_after_the_journal_was_opened_again() {
    for seed in Rng::seeds(1, 2) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let group = long(seed, 75);
        let before = runs(&group.disk, "");
        assert!(!runs(&group.disk, "01-").is_empty(), "{before:?}");
        check_some(&group, &mut rng, 12);
        let again = reopen(&group.disk, &group);
        assert!(runs(&again.disk, "").len() >= before.len());
        check_some(&again, &mut rng, 12);
    }
}

#[test]
fn a_run_that_is_lost_or_damaged_is_made_again() {
    let group = long(5, 55);
    let mut rng = Rng::new(50);
    for round in 0..12 {
        let disk = group.disk.copy();
        let names = runs(&disk, "");
        let open = (round % 2 == 0).then(|| reopen(&disk, &group));
        let disk = open.as_ref().map_or(disk, |open| open.disk.clone());
        for name in &names {
            if round >= 4 && !rng.one_in(3) {
                continue;
            }
            let len = disk.content(name).len();
            match (round / 2 + rng.below(3)) % 3 {
                0 => disk.lose(name),
                1 => disk.truncate(name, rng.index(len)),
                _ => disk.flip(name, rng.index(len), 1 << rng.below(8)),
            }
        }
        let open = open.unwrap_or_else(|| reopen(&disk, &group));
        check_some(&open, &mut rng, 3);
        assert!(open.journal.status().damage.is_empty());
        // What was made again is written again, and good at the next open.
        open.journal.commit_idle().expect("commit");
    }
}

#[test]
fn without_run_and_segment_what_they_held_is_refused_and_nothing_is_wrong() {
    let group = long(9, 40);
    let disk = group.disk.copy();
    let open = reopen(&disk, &group);
    // An open journal loses a segment, its footer with it, and its run.
    // One whose run nobody has opened yet: that would stay readable.
    open.disk.lose("segments/00000020.seg");
    for name in runs(&open.disk, "") {
        open.disk.lose(&name);
    }
    let (mut refused, mut shown) = (0, 0);
    for n in 1..=group.head().get() {
        let Ok(image) = open.journal.image(at(n)) else { continue };
        for member in image.members() {
            let whole = extent(0, member.size.get());
            let mut bytes = vec![0xaa; usize::try_from(whole.bytes()).expect("small")];
            let damaged = image.read(member.incarnation, whole, &mut bytes).err().map_or_else(Vec::new, |f| f.damaged);
            let expected = group.reference.bytes(member.incarnation, at(n));
            for sector in 0..member.size.get() {
                let range =
                    usize::try_from(sector * 512).expect("small")..usize::try_from((sector + 1) * 512).expect("small");
                if damaged.iter().any(|extent| extent.contains(common::extent(sector, 1))) {
                    refused += 1;
                } else {
                    shown += 1;
                    assert!(bytes[range.clone()] == expected[range], "sector {sector} is wrong at seq:{n}");
                }
            }
        }
    }
    assert!(refused > 0 && shown > 0, "{refused} {shown}");
}

#[test]
fn a_reader_writes_nothing() {
    let group = long(11, 30);
    for name in runs(&group.disk, "") {
        group.disk.lose(&name);
    }
    let disk = group.disk.killed();
    let steps = disk.steps();
    let (reader, _) = Reader::open_on(disk.shared()).expect("open");
    for volume in &group.volumes {
        reader.attach_base_device(volume.number, volume.base.clone()).expect("attach");
    }
    group.check_image(&reader.live_image());
    assert_eq!(disk.steps(), steps);
}

#[test]
fn a_disk_that_takes_no_runs_takes_records() {
    let mut group = Group::new(&[1400]);
    group.disk.fail("runs/", kit::disk::On::Create, std::io::ErrorKind::StorageFull, u64::MAX);
    let volume = group.volumes[0].number;
    for n in 0..20 {
        group.write(volume, extent(n, 1000));
        assert!(group.send());
    }
    check_some(&group, &mut Rng::new(3), 5);
}
