//! The builder says when a chunk is full, and never builds what no reader would accept.

use super::*;
use crate::chunk::Body;
use crate::geometry::Extent;
use crate::ids::Incarnation;
use crate::op::Op;
use crate::position::Label;

fn builder() -> BodyBuilder {
    BodyBuilder::new(JournalId::from_bytes([1; 16]), Session::FIRST, StreamSeq::FIRST)
}

fn write(start: u64, count: u64) -> Descriptor {
    Descriptor::bare(Op::Write, Incarnation::new(1), Extent::new(start, count), Label::from_nanos(1))
}

#[test]
fn a_record_that_does_not_fit_is_not_added_and_a_smaller_one_still_is() {
    let mut builder = builder();
    let most = vec![1; PAYLOAD_BYTES_MAX - 4096];
    assert!(builder.push(write(0, most.len() as u64 / 512), &most));
    let before = format!("{builder:?}");
    assert!(!builder.push(write(0, 16), &[2; 8192]));
    assert_eq!(format!("{builder:?}"), before, "a refused record leaves no trace");
    assert!(builder.push(write(0, 8), &[3; 4096]));
    assert!(!builder.push(write(0, 1), &[4; 512]));
    assert_eq!(builder.len(), 2);
    let body = builder.finish();
    assert_eq!(body.payload.len(), PAYLOAD_BYTES_MAX);
    assert_eq!(Body::decode(&body.header, JournalId::from_bytes([1; 16])).unwrap().records.len(), 2);
}

#[test]
fn a_payload_longer_than_any_chunk_never_fits() {
    let huge = vec![0; PAYLOAD_BYTES_MAX + 512];
    assert!(!builder().push(write(0, huge.len() as u64 / 512), &huge));
}

#[test]
#[should_panic(expected = "payload length does not fit the operation")]
fn a_write_with_another_length_than_its_extent_is_never_built() {
    builder().push(write(0, 2), &[0; 512]);
}

#[test]
#[should_panic(expected = "extent of no volume")]
fn a_write_to_no_volume_is_never_built() {
    let mut lost = write(0, 1);
    lost.volume = Incarnation::NONE;
    builder().push(lost, &[0; 512]);
}

#[test]
fn an_empty_body_is_one_block() {
    let builder = builder();
    assert!(builder.is_empty());
    let body = builder.finish();
    assert_eq!((body.header.len(), body.payload.len()), (4096, 0));
    assert!(Body::decode(&body.header, JournalId::from_bytes([1; 16])).unwrap().records.is_empty());
}
