//! Notes are read back as they were written; cut, lengthened or of another version they are refused.

use super::*;
use proptest::prelude::*;

fn name() -> impl Strategy<Value = String> {
    "\\PC{0,127}".prop_filter("too long", |n| n.len() <= NAME_BYTES_MAX)
}

fn join() -> impl Strategy<Value = JoinNote> {
    (any::<([u8; 16], [u8; 16])>(), any::<u32>(), 0..=u64::MAX / 512, 9..=12u32, name()).prop_map(
        |((volume, splitter), incarnation, size, shift, name)| JoinNote {
            volume: VolumeId::from_bytes(volume),
            splitter: SplitterId::from_bytes(splitter),
            incarnation: Incarnation::new(incarnation),
            size: SectorCount::new(size).unwrap(),
            block: LogicalBlock::new(1 << shift).unwrap(),
            name,
        },
    )
}

/// Whether every way of cutting, lengthening or renumbering these bytes is refused.
fn refuses_all_but<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> bool {
    let longer = [bytes, &[0]].concat();
    let mut newer = bytes.to_vec();
    newer[0] = 2;
    (0..bytes.len()).all(|cut| decode(&bytes[..cut]).is_none()) && decode(&longer).is_none() && decode(&newer).is_none()
}

proptest! {
    #[test]
    fn a_join_note_comes_back(note in join()) {
        let bytes = note.encode();
        prop_assert!(bytes.len() <= crate::chunk::NOTE_BYTES_MAX);
        prop_assert!(refuses_all_but(&bytes, JoinNote::decode));
        prop_assert_eq!(JoinNote::decode(&bytes), Some(note));
    }

    #[test]
    fn a_bookmark_note_comes_back(ticket in any::<u64>(), name in name()) {
        let note = BookmarkNote { ticket, name };
        let bytes = note.encode();
        prop_assert!(refuses_all_but(&bytes, BookmarkNote::decode));
        prop_assert_eq!(BookmarkNote::decode(&bytes), Some(note));
    }

    #[test]
    fn a_rollback_note_comes_back(target in any::<u64>(), id in any::<u64>()) {
        let note = RollbackNote { target: Position::new(target), id };
        let bytes = note.encode();
        prop_assert!(refuses_all_but(&bytes, RollbackNote::decode));
        prop_assert_eq!(RollbackNote::decode(&bytes), Some(note));
    }

    #[test]
    fn a_barrier_note_comes_back(
        id in any::<u64>(), ticket in any::<u64>(), name in name(),
        sessions in proptest::collection::btree_set(any::<u64>(), 2..=STREAMS_MAX),
    ) {
        let sessions = sessions.into_iter().map(Session::new).collect();
        let note = BarrierNote { id, ticket, sessions, name };
        let bytes = note.encode();
        prop_assert!(bytes.len() <= crate::chunk::NOTE_BYTES_MAX);
        prop_assert!(refuses_all_but(&bytes, BarrierNote::decode));
        prop_assert_eq!(BarrierNote::decode(&bytes), Some(note));
    }

    #[test]
    fn a_session_note_comes_back(session in any::<u64>(), of in any::<([u8; 16], u64)>(), clean in any::<bool>()) {
        let note = SessionNote {
            session: Session::new(session),
            splitter: SplitterId::from_bytes(of.0),
            life: SplitterIncarnation::new(of.1),
            clean,
        };
        let bytes = note.encode();
        prop_assert!(refuses_all_but(&bytes, SessionNote::decode));
        prop_assert_eq!(SessionNote::decode(&bytes), Some(note));
    }
}

#[test]
fn fields_that_make_no_sense_are_refused() {
    let note = JoinNote {
        volume: VolumeId::from_bytes([7; 16]),
        incarnation: Incarnation::new(1),
        size: SectorCount::new(2048).unwrap(),
        block: LogicalBlock::SECTOR,
        splitter: SplitterId::from_bytes([8; 16]),
        name: "db".into(),
    };
    let good = note.encode();
    assert_eq!(JoinNote::decode(&good), Some(note));
    let with = |at: usize, bytes: &[u8]| {
        let mut bad = good.clone();
        bad[at..at + bytes.len()].copy_from_slice(bytes);
        JoinNote::decode(&bad)
    };
    assert_eq!(with(22, &u64::MAX.to_le_bytes()), None, "a size past the last sector");
    assert_eq!(with(30, &768u32.to_le_bytes()), None, "a logical block of 768 bytes");
    assert_eq!(with(51, &[0xff]), None, "a name that is not UTF-8");
    let splitter = SplitterId::from_bytes([8; 16]);
    let note = SessionNote { session: Session::FIRST, splitter, life: SplitterIncarnation::FIRST, clean: true };
    let mut clean = note.encode();
    clean[34] = 2;
    assert_eq!(SessionNote::decode(&clean), None, "neither clean nor not");
}

#[test]
fn a_name_longer_than_any_is_refused() {
    let mut bytes = vec![1, 0];
    bytes.extend_from_slice(&0u64.to_le_bytes());
    bytes.push(128);
    bytes.extend_from_slice(&[b'a'; 128]);
    assert_eq!(BookmarkNote::decode(&bytes), None);
}
