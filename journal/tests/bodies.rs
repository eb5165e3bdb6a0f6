//! What a record says is read from the segment when an image needs it, and checked then.
//!
//! Goal: nothing of a chunk but its place is needed in memory; a description that rots while the journal is open is
//! served from the segment's footer, and before there is one refused for exactly the sectors that need it, never a wrong byte. Method:
//! headers damaged behind an open journal's back, full images compared.

mod common;

use common::{Group, at, extent};
use kit::Rng;
use record::chunk::FIXED_BYTES;
use record::header::HEADER_BYTES;

const SEGMENT: &str = "segments/00000001.seg";
const NEXT_SEGMENT: &str = "segments/00000002.seg";

/// Where the chunk that holds the newest record stands in the first segment.
fn newest_chunk(group: &Group) -> usize {
    let bytes = group.disk.content(SEGMENT);
    let mut starts = (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"UDJC"));
    starts.next_back().expect("a chunk")
}

/// A group whose newest record but for those that follow here has a description that has rotted since.
fn rotten(sealed: bool) -> Group {
    let mut group = Group::new(&[64]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 32));
    group.send();
    group.write(volume, extent(8, 8));
    group.send();
    let chunk = newest_chunk(&group);
    while sealed && !group.disk.names().iter().any(|name| name == NEXT_SEGMENT) {
        group.write(volume, extent(32, 32));
        group.send();
    }
    group.disk.flip(SEGMENT, chunk + HEADER_BYTES + FIXED_BYTES + 8, 1);
    group
}

#[test]
fn descriptions_that_rot_while_the_journal_is_open_are_served_from_the_footer() {
    let group = rotten(true);
    assert!(group.check_all(at(1)) > 1);
}

#[test]
fn before_there_is_a_footer_exactly_the_sectors_that_need_a_rotten_description_are_refused() {
    let group = rotten(false);
    let volume = group.volumes[0].number;
    let image = group.journal.image(group.head()).expect("an image");
    let mut bytes = vec![0xaa; 64 * 512];
    let failure = image.read(volume, extent(0, 64), &mut bytes).expect_err("the description is gone");
    assert_eq!(failure.damaged, [extent(8, 8)]);
    let mut expected = group.reference.bytes(volume, group.head());
    expected[8 * 512..16 * 512].fill(0);
    assert!(bytes == expected, "what is not refused is right, what is refused is zeros");
    let damage = group.journal.status().damage;
    assert_eq!(damage.len(), 1, "{damage:?}");
    assert_eq!(damage[0].extents, [(volume, extent(8, 8))]);
    // The image of the moment before needs nothing of it.
    group.check(at(group.head().get() - 1));
}

#[test]
fn images_are_right_whichever_of_many_chunks_they_need() {
    let mut rng = Rng::new(77);
    let mut group = Group::new(&[200]);
    // More chunks than bodies are kept.
    for _ in 0..150 {
        group.lay_some(&mut rng);
        group.lay_some(&mut rng);
        group.send();
    }
    for _ in 0..40 {
        group.check(at(group.head().get() - rng.below(250)));
    }
}

#[test]
fn what_a_rollback_gives_up_is_counted_in_whole_and_in_cut_chunks() {
    let mut group = Group::new(&[64]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    group.write(volume, extent(0, 4));
    group.write(volume, extent(8, 3));
    group.send();
    let target = at(group.head().get() - 1);
    group.punch(volume, extent(0, 64));
    group.write(volume, extent(1, 2));
    group.send();
    let changed = group.journal.changed_set(target).expect("a target");
    assert_eq!((changed.writes, changed.written_bytes, changed.punches), (2, 5 * 512, 1));
    // Behind a volume that joined since, whose records are not given up.
    let other = group.join(16);
    group.write(other, extent(0, 16));
    group.write(volume, extent(9, 1));
    group.send();
    let changed = group.journal.changed_set(target).expect("a target");
    assert_eq!((changed.writes, changed.written_bytes, changed.punches), (3, 6 * 512, 1));
    assert_eq!(changed.untouched, [other]);
}
