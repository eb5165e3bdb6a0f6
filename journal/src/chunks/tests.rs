//! The table of chunks: which chunk holds a position, and which do not any more.

use super::*;
use crate::place::SegmentNumber;

fn kept(first: u64, records: u32) -> Kept {
    Kept {
        place: Place { segment: SegmentNumber::FIRST, offset: first * 4096 },
        first: Position::new(first),
        session: Session::new(1),
        first_seq: StreamSeq::new(first),
        records,
        area_bytes: 4096,
        payload_bytes: 0,
        digest: 0,
        tally: Tally::default(),
    }
}

#[test]
fn a_position_is_found_in_its_chunk_and_nowhere_when_it_is_lost() {
    // 1 to 3, 4, then 5 to 9 lost, then 10 and 11.
    let chunks = Chunks(vec![kept(1, 3), kept(4, 1), kept(10, 2)]);
    let found = |position| chunks.holding(Position::new(position)).map(|(chunk, record)| (chunk.first.get(), record));
    assert_eq!(found(0), None);
    assert_eq!(found(1), Some((1, 0)));
    assert_eq!(found(3), Some((1, 2)));
    assert_eq!(found(4), Some((4, 0)));
    assert!((5..10).all(|lost| found(lost).is_none()));
    assert_eq!(found(11), Some((10, 1)));
    assert_eq!(found(12), None);
}

#[test]
fn chunks_within_a_stretch_are_those_that_hold_any_of_it() {
    let chunks = Chunks(vec![kept(1, 3), kept(4, 1), kept(10, 2)]);
    let within = |first, last| {
        let found = chunks.within(Position::new(first), Position::new(last));
        found.iter().map(|chunk| chunk.first.get()).collect::<Vec<_>>()
    };
    assert_eq!(within(1, 12), [1, 4, 10]);
    assert_eq!(within(3, 4), [1, 4]);
    assert_eq!(within(5, 9), []);
    assert_eq!(within(11, 11), [10]);
}
