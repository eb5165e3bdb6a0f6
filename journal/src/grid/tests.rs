use super::{decode, encode};
use crate::timeline::At;
use record::ids::JournalId;
use record::position::{Label, Position};

const ID: JournalId = JournalId::from_bytes(*b"journal of tests");

fn points() -> Vec<At> {
    (1..300).map(|n| At { position: Position::new(n * 7), label: Label::from_nanos(n * 1_000) }).collect()
}

#[test]
fn grid_points_come_back_as_they_were_stored() {
    for points in [Vec::new(), points()] {
        assert_eq!(decode(&encode(ID, &points), ID), Some(points));
    }
}

#[test]
fn a_copy_with_any_bit_turned_is_not_believed() {
    let bytes = encode(ID, &points());
    // What is behind the checksum is nobody's.
    for at in 0..32 + 299 * 16 + 4 {
        let mut damaged = bytes.clone();
        damaged[at] ^= 0x10;
        let read = decode(&damaged, ID);
        assert!(read.is_none() || (6..8).contains(&at) && read.is_none(), "byte {at}");
    }
    assert_eq!(decode(&bytes, JournalId::from_bytes(*b"another journal!")), None);
    assert_eq!(decode(&bytes[..4095], ID), None);
}
