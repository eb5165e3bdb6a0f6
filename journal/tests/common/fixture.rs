//! The journal that `tests/formats/journal-v1` keeps: built step by step, the same bytes every time.

use super::{Group, at, extent};
use journal::FollowBounds;
use kit::SimDisk;
use record::checksum::crc32c;
use record::op::Op;
use std::fmt::Write;

/// A file of the fixture: its name, and its bytes.
pub type File = (String, Vec<u8>);

/// The newest checkpoint of a journal with some of everything in it, and the superblock beside it.
pub fn checkpoint() -> Vec<File> {
    let mut group = Group::new(&[40, 24, 1500]);
    let (a, b, c) = (group.volumes[0].number, group.volumes[1].number, group.volumes[2].number);
    group.write(a, extent(8, 16));
    group.bookmark("first");
    group.punch(a, extent(9, 6));
    group.indeterminate(a, extent(1, 2));
    group.mark(Op::Flush);
    group.send();
    group.journal.lose(group.session).expect("lose");
    group.catch_up();
    group.open_session(&super::lost());
    group.mark(Op::ResyncBegin);
    group.write(a, extent(0, 40));
    group.mark(Op::ResyncEnd);
    group.send();
    group.rollback(group.journal.resolve(&record::point::Point::Bookmark("first".into()), false).expect("a point"));
    group.journal.leave(b, group.laying.label()).expect("leave");
    group.volumes[1].left = Some(group.head());
    group.catch_up();
    for n in 0..8 {
        group.write(c, extent(n, 1400));
        group.send();
    }
    group.journal.remove_bookmark("first", group.laying.label()).expect("remove");
    group.catch_up();
    group.bookmark("second");
    group.send();
    group.journal.forget(group.head()).expect("forget");
    group.journal.distribute(u64::MAX).expect("distribute");
    group.journal.close().expect("close");
    let newest = group.disk.names().into_iter().rfind(|name| name.starts_with("state/")).expect("a checkpoint");
    ["superblock".to_string(), newest].into_iter().map(|name| (name.clone(), group.disk.content(&name))).collect()
}

/// The fixture's files: those of the journal under `journal/`, the replicas, and what a reader must find.
pub fn build() -> Vec<File> {
    let mut group = Group::new(&[40, 24]);
    let (a, b) = (group.volumes[0].number, group.volumes[1].number);
    // Every operation that a splitter lays, aligned and not, small notes and whole blocks.
    group.write(a, extent(8, 16));
    group.write(b, extent(3, 1));
    group.mark(Op::Flush);
    group.send();
    group.bookmark("first");
    group.punch(a, extent(9, 6));
    group.zero(b, extent(0, 9));
    group.mark(Op::Noop);
    group.send();
    group.indeterminate(a, extent(1, 2));
    group.write(a, extent(1, 2));
    group.send();
    // A loss, and the resync behind it.
    group.journal.lose(group.session).expect("lose");
    group.catch_up();
    group.open_session(&super::lost());
    group.mark(Op::ResyncBegin);
    group.write(a, extent(0, 40));
    group.mark(Op::ResyncEnd);
    group.bookmark("second");
    group.send();
    group.journal.remove_bookmark("first", group.laying.label()).expect("remove");
    group.catch_up();
    group.rollback(at(8));
    group.write(a, extent(33, 7));
    group.send();
    group.journal.leave(b, group.laying.label()).expect("leave");
    group.volumes[1].left = Some(group.head());
    group.catch_up();
    group.journal.commit_idle().expect("commit");
    group.catch_up();
    whole(&group)
}

/// The files of a journal with grid points and compacted segments, without what can be made again.
pub fn thinned() -> Vec<File> {
    let mut group = Group::new(&[300]);
    let volume = group.volumes[0].number;
    for n in 0..40 {
        group.write(volume, extent(n % 3, 290));
        group.punch(volume, extent(n, 5));
        group.laying.pass(1_000_000);
        group.send();
    }
    group.journal.keep_points(&[at(12), at(25)]).expect("keep");
    group.journal.forget(at(80)).expect("forget");
    while group.journal.compact().expect("compact").more {}
    let mut files = whole(&group);
    files.retain(|(name, _)| !name.starts_with("journal/runs/") && !name.starts_with("journal/state/"));
    files
}

/// The files of a journal whose replicas are at the newest point, without what can be made again.
pub fn eager() -> Vec<File> {
    let mut group = Group::new(&[300]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(3, 50));
    group.punch(volume, extent(20, 100));
    group.zero(volume, extent(130, 9));
    group.write(volume, extent(200, 20));
    group.send();
    while group.journal.follow(1 << 20, true, FollowBounds::default()).expect("follow").more {}
    let mut files = whole(&group);
    files.retain(|(name, _)| !name.starts_with("journal/runs/") && !name.starts_with("journal/state/"));
    files
}

/// A journal's files, the replicas, and what a reader must find.
fn whole(group: &Group) -> Vec<File> {
    group.check_all(at(1));
    let expected = expected(group);
    group.journal.close().expect("close");
    let mut files = vec![("expected.txt".to_string(), expected.into_bytes())];
    for volume in &group.volumes {
        let mut bytes = vec![0; usize::try_from(volume.sectors * 512).expect("small")];
        journal::BaseDevice::read(volume.base.as_ref(), extent(0, volume.sectors), &mut bytes).expect("replica");
        files.push((format!("{}.replica", volume.number), bytes));
    }
    let disk: &SimDisk = &group.disk;
    files.extend(disk.names().into_iter().map(|name| (format!("journal/{name}"), disk.content(&name))));
    files
}

/// What every reader must find, as the reference has it.
fn expected(group: &Group) -> String {
    let mut out = String::new();
    let timeline = group.journal.timeline();
    let _ = writeln!(out, "head {}", timeline.head.position);
    for bookmark in &timeline.bookmarks {
        let _ = writeln!(out, "bookmark {} {}", bookmark.at.position, bookmark.name);
    }
    for n in 0..=group.head().get() {
        match group.journal.image(at(n)) {
            Err(_) => {
                let _ = writeln!(out, "refused {n}");
            }
            Ok(image) => {
                for member in image.members() {
                    let sum = crc32c(&group.reference.bytes(member.incarnation, at(n)));
                    let _ = writeln!(out, "image {n} volume {} crc32c {sum:08x}", member.incarnation);
                }
            }
        }
    }
    let _ = writeln!(out, "owed {}", group.journal.pending_restore().map_or(0, |map| map.extents.len()));
    out
}
