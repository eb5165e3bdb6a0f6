//! Rollbacks: what they plan, what they owe, what they leave alone.

mod common;

use common::{Group, at, extent};
use journal::{Journal, JournalError, PointError, RestoreContent};
use kit::SimDisk;
use kit::disk::On;
use record::member::RollbackNote;
use record::op::Op;
use std::io::ErrorKind;

#[test]
fn a_plan_counts_what_is_given_up_and_names_the_bookmarks() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.bookmark("good");
    group.send();
    let target = group.head();
    group.write(volume, extent(4, 8));
    group.write(volume, extent(6, 2));
    group.punch(volume, extent(30, 4));
    group.bookmark("bad");
    group.send();
    let plan = group.journal.changed_set(target).expect("a target");
    assert_eq!((plan.writes, plan.written_bytes, plan.punches), (2, 10 * 512, 1));
    assert_eq!(plan.bookmarks, ["bad"]);
    assert_eq!(plan.extents, [(volume, extent(4, 8)), (volume, extent(30, 4))]);
    assert_eq!(plan.bytes, 12 * 512);
    assert_eq!((plan.target, plan.head), (target, group.head()));
    assert!(plan.untouched.is_empty());
    // Going there and back again: the same sectors, the other way.
    let before = group.head();
    group.rollback(target);
    let back = group.journal.changed_set(before).expect("a target");
    assert_eq!(back.extents, plan.extents);
    assert_eq!((back.writes, back.bookmarks.len()), (0, 0), "nothing was written since");
}

#[test]
fn a_rollback_is_refused_unless_it_was_prepared_for_this_very_state() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.send();
    let target = at(group.head().get() - 1);
    let head = group.head();
    let note = RollbackNote { target, id: group.journal.next_rollback_id() };
    let commit = |group: &Group| group.journal.rollback(note, group.laying.label());
    assert!(commit(&group).expect_err("refused").to_string().contains("was not prepared"));
    let plan = group.journal.changed_set(target).expect("a target");
    group.journal.store_restore_map(note.id, &plan).expect("store");
    group.write(volume, extent(3, 2));
    group.send();
    assert!(commit(&group).expect_err("refused").to_string().contains("changed since"));
    assert_eq!(group.head(), head.next());
    group.journal.discard_restore_map(note.id).expect("discard");
    assert!(commit(&group).is_err());
    assert!(group.disk.names().iter().all(|name| !name.contains("restore/")), "{:?}", group.disk.names());
    assert!(group.journal.pending_restore().is_none());
    // A target that cannot be offered.
    assert!(matches!(group.journal.changed_set(at(1)), Err(PointError::OutsideWindow { .. })));
    // A bookmark and a flush in between change nothing.
    let plan = group.journal.changed_set(target).expect("a target");
    group.journal.store_restore_map(note.id, &plan).expect("store");
    group.bookmark("before-rollback");
    group.mark(Op::Flush);
    group.send();
    commit(&group).expect("rollback");
    group.reference.rollback(target);
    group.check(group.head());
    assert!(group.journal.store_restore_map(note.id, &plan).is_err(), "an id is used once");
}

#[test]
fn a_map_without_its_rollback_is_discarded_and_the_one_before_it_counts() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.write(volume, extent(20, 8));
    group.send();
    group.rollback(at(group.head().get() - 2));
    let owed = group.journal.pending_restore().expect("a map");
    assert_eq!(owed.extents, [(volume, extent(0, 8)), (volume, extent(20, 8))]);
    // A part is done, durably.
    group.journal.restore_done(owed.id, &[(volume, extent(2, 20))]).expect("done");
    let left = [(volume, extent(0, 2)), (volume, extent(22, 6))];
    group.write(volume, extent(30, 2));
    group.send();
    // A second rollback is prepared: it owes what the first still owes, too. Then the appliance dies.
    let target = at(group.head().get() - 1);
    let plan = group.journal.changed_set(target).expect("a target");
    assert_eq!(plan.extents, [left[0], left[1], (volume, extent(30, 2))]);
    let id = group.journal.next_rollback_id();
    group.journal.store_restore_map(id, &plan).expect("store");
    let (again, report) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
    assert_eq!(report.discarded_restore_maps, [id]);
    let pending = again.journal.pending_restore().expect("the first one's map");
    assert_eq!((pending.id, &pending.extents[..]), (owed.id, &left[..]));
    // Had it been committed, the first one's map would be gone instead.
    group.journal.rollback(RollbackNote { target, id }, group.laying.label()).expect("rollback");
    let (again, report) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
    assert!(report.discarded_restore_maps.is_empty());
    assert_eq!(again.journal.pending_restore().map(|m| m.extents), Some(plan.extents.clone()));
    assert_eq!(again.journal.pending_restore().map(|m| m.id), Some(id));
    again.journal.restore_done(owed.id, &plan.extents).expect("harmless");
    assert!(again.journal.pending_restore().is_some(), "another rollback's id clears nothing");
    again.journal.restore_done(id, &plan.extents).expect("done");
    assert!(again.journal.pending_restore().is_none());
    let (last, _) = Group::open(again.disk.killed(), group.volumes.clone()).expect("open");
    assert!(last.journal.pending_restore().is_none());
}

#[test]
fn a_damaged_restore_map_restores_more_rather_than_less() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.send();
    group.rollback(at(group.head().get() - 1));
    let owed = group.journal.pending_restore().expect("a map");
    group.journal.restore_done(owed.id, &[(volume, extent(0, 3))]).expect("done");
    let map = group.disk.names().into_iter().find(|name| name.contains(".map")).expect("a map");
    let disk = group.disk.killed();
    disk.flip(&map, 50, 4);
    let report = journal::verify_disk(&disk, &mut |_, _| {}).expect("verify");
    assert!(report.findings.iter().any(|f| f.kind == journal::FindingKind::RestoreMap && f.file == map));
    let (again, report) = Group::open(disk, group.volumes.clone()).expect("open");
    assert_eq!(report.alarms.len(), 1, "{report:?}");
    assert_eq!(again.journal.pending_restore().map(|m| m.extents), Some(owed.extents));
}

#[test]
fn a_map_that_cannot_be_stored_leaves_everything_as_it_was() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.send();
    let target = at(group.head().get() - 1);
    let plan = group.journal.changed_set(target).expect("a target");
    group.disk.fail(".map", On::Sync, ErrorKind::Other, 1);
    let id = group.journal.next_rollback_id();
    assert!(matches!(group.journal.store_restore_map(id, &plan), Err(JournalError::Io { .. })));
    assert!(group.journal.rollback(RollbackNote { target, id }, group.laying.label()).is_err());
    assert!(group.disk.names().iter().all(|name| !name.contains("restore/")));
    group.check(group.head());
}

#[test]
fn a_volume_that_was_no_member_at_the_target_is_left_alone() {
    let mut group = Group::new(&[40]);
    let old = group.volumes[0].number;
    group.write(old, extent(0, 8));
    group.send();
    let target = group.head();
    let new = group.join(24);
    group.write(old, extent(4, 8));
    group.write(new, extent(0, 24));
    group.send();
    let plan = group.journal.changed_set(target).expect("a target");
    assert_eq!(plan.extents, [(old, extent(4, 8))]);
    assert_eq!((plan.untouched.as_slice(), plan.writes), ([new].as_slice(), 1));
    group.rollback(target);
    group.check(group.head());
    group.write(new, extent(3, 3));
    group.send();
    // Back before that rollback: now the new volume was a member, and goes along.
    let undo = at(group.head().get() - 2);
    group.check(undo);
    group.rollback(undo);
    group.check_all(at(1));
}

#[test]
fn what_is_restored_keeps_its_kind() {
    let mut group = Group::new(&[64]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.zero(volume, extent(8, 8));
    group.punch(volume, extent(16, 8));
    group.send();
    let target = group.head();
    group.write(volume, extent(0, 64));
    group.send();
    group.rollback(target);
    group.check_restore();
    let pieces = group.journal.restore_pieces(volume, extent(0, 64), u64::MAX).expect("pieces");
    let kinds: Vec<(u64, &str)> = pieces
        .iter()
        .map(|piece| {
            let kind = match &piece.content {
                RestoreContent::Data(_) => "data",
                RestoreContent::Zero => "zero",
                RestoreContent::Hole => "hole",
            };
            (piece.extent.start().index(), kind)
        })
        .collect();
    // The volume joined with data in its first half, and nothing in the second: a hole again.
    assert_eq!(&kinds[..4], [(0, "data"), (8, "zero"), (16, "hole"), (24, "data")]);
    assert!(kinds[4..].iter().all(|(at, kind)| *at >= 32 && *kind == "hole"), "{kinds:?}");
}

#[test]
fn a_restore_that_needs_damaged_data_is_refused_not_guessed() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.send();
    let target = group.head();
    let used = group.journal.status().used_bytes;
    group.write(volume, extent(0, 8));
    group.send();
    group.rollback(target);
    // The payload of the first write: right in front of where the second one's chunk starts.
    let at_byte = usize::try_from(4096 + used).expect("small") - 100;
    let disk: SimDisk = group.disk.clone();
    disk.flip("segments/00000001.seg", at_byte, 1);
    let failure = group.journal.restore_pieces(volume, extent(0, 8), u64::MAX).expect_err("damaged");
    assert_eq!(failure.damaged, [extent(0, 8)]);
    assert!(failure.to_string().contains("does not match its checksum"), "{failure}");
    assert_eq!(group.journal.status().damage.len(), 1);
    assert!(group.journal.restore_pieces(volume, extent(8, 8), u64::MAX).is_ok());
    let _: &Journal = &group.journal;
}

#[test]
fn what_a_rollback_brings_back_is_of_the_kind_that_it_was_however_wide_and_long_ago() {
    let sectors = 60_000;
    let mut group = Group::new(&[sectors]);
    let volume = group.volumes[0].number;
    group.zero(volume, extent(10_000, 40_000));
    group.write(volume, extent(20_000, 600));
    // Some segments, so that the index has the zeros in a file.
    for n in 0..16 {
        group.write(volume, extent(n * 600, 600));
        assert!(group.send());
    }
    let target = group.head();
    group.punch(volume, extent(0, sectors));
    assert!(group.send());
    group.rollback(target);
    group.check_restore();
    group.check(target);
}

#[test]
fn what_is_owed_is_given_a_front_part_at_a_time_and_nothing_is_left_out() {
    let sectors = 60_000;
    let mut group = Group::new(&[sectors]);
    let volume = group.volumes[0].number;
    for n in 0..20 {
        group.write(volume, extent(n * 2_500, 40 + n * 20));
        group.zero(volume, extent(n * 2_500 + 900, 300));
    }
    assert!(group.send());
    let target = group.head();
    group.punch(volume, extent(0, sectors));
    assert!(group.send());
    group.rollback(target);
    for bytes in [512, 4096, 100_000, 1 << 20, u64::MAX] {
        let (mut at, mut asked, mut all) = (0, 0, Vec::new());
        while at < sectors {
            let rest = extent(at, sectors - at);
            let front = group.journal.restore_pieces(volume, rest, bytes).expect("pieces");
            let data = |piece: &journal::RestorePiece| match &piece.content {
                RestoreContent::Data(bytes) => bytes.len() as u64,
                RestoreContent::Zero | RestoreContent::Hole => 0,
            };
            assert!(front.iter().map(data).sum::<u64>() <= bytes);
            let end = front.last().expect("a piece").extent.end();
            assert!(end > at);
            (at, asked) = (end, asked + 1);
            all.extend(front);
        }
        let mut next = 0;
        let mut content = vec![0; usize::try_from(sectors * 512).expect("small")];
        for piece in all {
            assert_eq!(piece.extent.start().index(), next);
            next = piece.extent.end();
            if let RestoreContent::Data(bytes) = &piece.content {
                let from = usize::try_from(piece.extent.start().byte_offset()).expect("small");
                content[from..from + bytes.len()].copy_from_slice(bytes);
            }
        }
        assert!(content == group.reference.bytes(volume, target));
        assert!(bytes < u64::MAX || asked == 1, "{asked} questions");
    }
}
