//! What was written long ago is read again, and what has rotted is named before an image needs it.
//!
//! Goal: a pass reads every chunk once, in steps of any size; of a sound journal it finds nothing, compacted or not; what
//! has rotted it names once, with what that concerns, and images stay as they are. Method: small journals, bytes flipped
//! behind an open journal's back.

mod common;

use common::{Group, at, extent};
use journal::{DamageKind, Journal, Scrubbed};
use kit::Rng;
use record::chunk::FIXED_BYTES;
use record::header::HEADER_BYTES;
use record::position::Position;

const SEGMENT: &str = "segments/00000001.seg";
const NEXT_SEGMENT: &str = "segments/00000002.seg";
/// Of a chunk with few records.
const AREA_BYTES: usize = 4096;

/// One pass, in steps of so many bytes: what all of them read and found, and how many there were.
fn pass(journal: &Journal, step: u64) -> (Scrubbed, u64) {
    let (mut all, mut steps) = (Scrubbed::default(), 0);
    let mut from = Position::ORIGIN;
    loop {
        let one = journal.scrub(from, step);
        steps += 1;
        all.bytes += one.bytes;
        all.found.extend(one.found);
        match one.next {
            None => return (all, steps),
            Some(next) => {
                assert!(next > from, "a step goes on");
                from = next;
            }
        }
    }
}

/// Where the newest chunk of the first segment stands.
fn newest_chunk(group: &Group) -> usize {
    let bytes = group.disk.content(SEGMENT);
    let mut starts = (0..bytes.len()).step_by(4096).filter(|at| bytes[*at..].starts_with(b"UDJC"));
    starts.next_back().expect("a chunk")
}

#[test]
fn a_sound_journal_is_read_once_whatever_the_steps_and_nothing_is_found() {
    let mut rng = Rng::new(3);
    let mut group = Group::new(&[64, 40]);
    for _ in 0..30 {
        for _ in 0..5 {
            group.lay_some(&mut rng);
        }
        group.send();
    }
    let used = group.journal.status().used_bytes;
    let chunks = group.journal.status().chunks;
    for (step, steps) in [(1, chunks), (u64::MAX, 1)] {
        let (all, taken) = pass(&group.journal, step);
        assert_eq!((all.bytes, taken), (used, steps));
        assert_eq!(all.found, []);
    }
    let empty = group.journal.scrub(group.head().next(), 1);
    assert_eq!(empty, Scrubbed::default());
    group.check_all(at(1));
}

#[test]
fn data_that_has_rotted_is_named_once_and_the_image_refuses_just_that() {
    let mut group = Group::new(&[64]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 32));
    group.send();
    group.write(volume, extent(8, 16));
    group.send();
    group.disk.flip(SEGMENT, newest_chunk(&group) + HEADER_BYTES + AREA_BYTES + 4096 + 7, 1);
    let (all, _) = pass(&group.journal, 4096);
    let [damage] = &all.found[..] else { panic!("{:?}", all.found) };
    assert_eq!(damage.kind, DamageKind::Payload);
    assert_eq!((damage.positions, damage.bytes), (Some((group.head(), group.head())), 4096));
    assert_eq!((&damage.extents[..], damage.extents_known), (&[(volume, extent(16, 8))][..], true));
    assert_eq!(group.journal.status().damage, all.found);
    assert_eq!(pass(&group.journal, 4096).0.found, [], "it is known");
    let image = group.journal.image(group.head()).expect("an image");
    let mut bytes = vec![0; 64 * 512];
    assert_eq!(image.read(volume, extent(0, 64), &mut bytes).expect_err("it is damaged").damaged, [extent(16, 8)]);
}

#[test]
fn a_description_that_has_rotted_is_named_whether_its_copy_serves_or_there_is_none() {
    for sealed in [true, false] {
        let mut group = Group::new(&[64]);
        let volume = group.volumes[0].number;
        group.write(volume, extent(0, 32));
        group.send();
        let chunk = newest_chunk(&group);
        while sealed && !group.disk.names().iter().any(|name| name == NEXT_SEGMENT) {
            group.write(volume, extent(32, 32));
            group.send();
        }
        group.disk.flip(SEGMENT, chunk + HEADER_BYTES + FIXED_BYTES + 8, 1);
        let (all, _) = pass(&group.journal, 1 << 20);
        let [damage] = &all.found[..] else { panic!("{:?}", all.found) };
        assert_eq!((damage.kind, damage.extents_known), (DamageKind::ChunkHeader, sealed));
        assert_eq!(damage.place.offset, (chunk + HEADER_BYTES) as u64);
        assert!(damage.extents.is_empty());
    }
}
