//! What the journal's disk has lost is put back by whoever still has it, and by nobody else.
//!
//! Goal: only the very content that was damaged is taken, wherever it stood: at odd sectors, in parts of records, in compacted segments;
//! from then on it is read, and nothing is known to be damaged any more. Method: bytes flipped behind an open journal's back.

mod common;

use common::{Group, at, extent};
use journal::FollowBounds;
use kit::reference::data;
use kit::{Rng, SimDisk};
use record::position::Position;

/// The places of the disk's segments where these bytes stand.
fn places(disk: &SimDisk, wanted: &[u8]) -> Vec<(String, usize)> {
    let mut found = Vec::new();
    for name in disk.names().into_iter().filter(|name| name.starts_with("segments/")) {
        let content = disk.content(&name);
        found.extend(
            (0..content.len() - wanted.len())
                .step_by(512)
                .filter(|at| content[*at..].starts_with(wanted))
                .map(|at| (name.clone(), at)),
        );
    }
    found
}

/// Everything that is known to be damaged after everything was read.
fn found(group: &Group) -> usize {
    let mut from = Position::ORIGIN;
    while let Some(next) = group.journal.scrub(from, 1 << 20).next {
        from = next;
    }
    group.journal.status().damage.len()
}

/// A group with one record of these sectors, and its content.
fn one(sectors: u64) -> (Group, Vec<u8>) {
    let mut group = Group::new(&[100]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(50, 3));
    let token = group.tokens;
    group.write(volume, extent(7, sectors));
    assert!(group.send());
    (group, data(token, extent(7, sectors)))
}

#[test]
fn data_is_put_back_in_the_very_place_whatever_its_length() {
    for sectors in 1..40 {
        let (group, content) = one(sectors);
        let volume = group.volumes[0].number;
        let sector = usize::try_from(sectors).expect("small") - 1;
        let (file, place) = places(&group.disk, &content[sector * 512..][..512]).remove(0);
        let before = group.disk.content(&file);
        group.disk.flip(&file, place + 77, 4);
        assert_eq!(found(&group), 1);
        let ailing = group.journal.ailing();
        let [(of, ill)] = &ailing[..] else { panic!("{ailing:?}") };
        assert!(*of == volume && ill.end() == 7 + sectors && ill.count().get() <= 8, "{ill:?}");
        // Of what is offered only what was damaged is taken.
        let healed = group.journal.heal(volume, extent(7, sectors), &content).expect("heal");
        assert_eq!((healed.bytes, healed.places.len()), (ill.bytes(), 1));
        assert!(group.disk.content(&file) == before);
        assert_eq!((group.journal.status().damage_count, group.journal.ailing()), (0, vec![]));
        group.check_all(at(1));
    }
}

#[test]
fn what_is_not_the_very_content_is_not_taken() {
    let (group, content) = one(16);
    let volume = group.volumes[0].number;
    let (file, place) = places(&group.disk, &content[..512]).remove(0);
    group.disk.flip(&file, place, 1);
    assert_eq!(found(&group), 1);
    let before = group.disk.content(&file);
    let mut wrong = content.clone();
    wrong[100] ^= 1;
    for (offered, of, where_to) in [
        (&wrong, volume, extent(7, 16)),
        // In another place of the volume, in another volume, and too little of it.
        (&content, volume, extent(8, 16)),
        (&content, record::ids::Incarnation::new(9), extent(7, 16)),
        (&content[..7 * 512].to_vec(), volume, extent(7, 7)),
        (&Vec::new(), volume, extent(7, 16)),
    ] {
        assert_eq!(group.journal.heal(volume.max(of), where_to, offered).expect("heal").bytes, 0);
    }
    assert!(group.disk.content(&file) == before);
    let mut bytes = vec![0; 51_200];
    let failure = group.journal.reader().live_image().read(volume, extent(0, 100), &mut bytes).expect_err("damaged");
    assert_eq!(failure.damaged, [extent(7, 8)]);
}

#[test]
fn a_replica_that_is_a_plain_disk_heals_what_is_newest() {
    let (group, content) = one(16);
    while group.journal.follow(1 << 20, true, FollowBounds::default()).expect("follow").more {}
    let (file, place) = places(&group.disk, &content[..512]).remove(0);
    group.disk.flip(&file, place, 1);
    assert_eq!(found(&group), 1);
    let healed = group.journal.heal_from_replicas().expect("heal");
    assert_eq!((healed.bytes, healed.places.len()), (4096, 1));
    group.check_all(at(1));
    assert_eq!(found(&group), 0);
}

#[test]
fn a_compacted_segment_is_healed_in_its_own_places() {
    let mut group = Group::new(&[1500]);
    let volume = group.volumes[0].number;
    let token = group.tokens;
    let mut kept = group.head();
    for n in 0..14 {
        group.write(volume, extent(n * 40, 900));
        assert!(group.send());
        if n == 1 {
            kept = group.head();
        }
    }
    group.journal.keep_points(&[kept]).expect("keep");
    group.journal.forget(group.head()).expect("forget");
    let mut compacted = 0;
    loop {
        let step = group.journal.compact().expect("compact");
        compacted += u64::from(step.freed > 0);
        if !step.more {
            break;
        }
    }
    assert!(compacted > 0);
    group.check(kept);
    // The first record is what the point shows in front.
    let content = data(token, extent(0, 900));
    let mut rng = Rng::new(4);
    for _ in 0..5 {
        let sector = rng.index(30);
        for (file, place) in places(&group.disk, &content[sector * 512..][..512]) {
            group.disk.flip(&file, place + 5, 1);
        }
        assert_eq!(found(&group), 1);
        let healed = group.journal.heal(volume, extent(0, 900), &content).expect("heal");
        assert_eq!((healed.bytes, healed.places.len()), (4096, 1));
        group.check(kept);
    }
}

#[test]
fn damage_that_reads_and_the_scrub_both_found_is_cured_together() {
    let (group, content) = one(16);
    let volume = group.volumes[0].number;
    let (file, place) = places(&group.disk, &content[..512]).remove(0);
    group.disk.flip(&file, place, 1);
    let image = group.journal.reader().live_image();
    image.read(volume, extent(0, 100), &mut vec![0; 51_200]).expect_err("damaged");
    assert!(found(&group) >= 1);
    group.journal.heal(volume, extent(7, 16), &content).expect("heal");
    assert_eq!(group.journal.status().damage_count, 0);
    image.read(volume, extent(0, 100), &mut vec![0; 51_200]).expect("sound");
}
