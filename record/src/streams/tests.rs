//! The table of streams keeps one entry a splitter, in order, and reads back what it wrote and nothing else.

use super::*;
use proptest::prelude::*;

fn at(splitter: u8, session: u64, next: u64) -> StreamAt {
    StreamAt {
        splitter: SplitterId::from_bytes([splitter; 16]),
        session: Session::new(session),
        next: StreamSeq::new(next),
    }
}

#[test]
fn a_splitter_has_one_entry_and_the_ninth_splitter_none() {
    let mut streams = Streams::NONE;
    for splitter in (1..=8).rev() {
        assert!(streams.set(at(splitter, u64::from(splitter), 1)));
    }
    assert!(streams.is_full() && !streams.set(at(9, 9, 1)));
    assert!(streams.set(at(3, 20, 7)), "one that is in it may change");
    assert_eq!(streams.of(SplitterId::from_bytes([3; 16])), Some(at(3, 20, 7)));
    assert_eq!(streams.with_session(Session::new(3)), None);
    assert_eq!(streams.newest(), Session::new(20));
    streams.remove(SplitterId::from_bytes([1; 16]));
    assert!(streams.set(at(9, 21, 1)));
    assert_eq!(streams.iter().map(|at| at.splitter.to_bytes()[0]).collect::<Vec<_>>(), [2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn tables_that_were_filled_in_another_order_are_equal() {
    let (mut a, mut b) = (Streams::one(at(2, 1, 1)), Streams::one(at(1, 2, 2)));
    a.set(at(1, 2, 2));
    b.set(at(3, 3, 3));
    b.set(at(2, 1, 1));
    b.remove(SplitterId::from_bytes([3; 16]));
    assert_eq!(a, b);
    assert_eq!(a.encode(), b.encode());
}

proptest! {
    #[test]
    fn what_was_written_is_read(entries in proptest::collection::vec((any::<u8>(), any::<u64>(), any::<u64>()), 0..12)) {
        let mut streams = Streams::NONE;
        for (splitter, session, next) in entries {
            streams.set(at(splitter, session, next));
        }
        prop_assert_eq!(Streams::decode(&streams.encode()), Some(streams));
    }

    #[test]
    fn a_changed_byte_is_another_table_or_none(place in 0..STREAMS_BYTES, with in any::<u8>()) {
        let mut streams = Streams::one(at(5, 7, 9));
        streams.set(at(6, 8, 1));
        let mut bytes = streams.encode();
        prop_assume!(bytes[place] != with);
        bytes[place] = with;
        let read = Streams::decode(&bytes);
        prop_assert!(read.is_none_or(|read| read != streams && read.encode() == bytes));
    }
}
