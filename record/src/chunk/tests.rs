//! What a chunk body is built from comes back from its bytes; the other files here hold what must not.

mod damage;
mod forged;

use super::*;
use crate::build::{BodyBuilder, BodyBytes};
use proptest::prelude::*;

const JOURNAL: JournalId = JournalId::from_bytes(*b"journal of tests");
const SESSION: Session = Session::new(5);
const FIRST: StreamSeq = StreamSeq::new(100);

/// One record with its payload.
type Wanted = (Descriptor, Vec<u8>);

/// Bytes of which no two blocks are alike.
fn bytes(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(usize::to_le_bytes).map(|[low, high, ..]| low.wrapping_mul(31).wrapping_add(high) ^ seed).collect()
}

fn extent() -> impl Strategy<Value = Extent> {
    prop_oneof![(0..10_000u64, 1..5000u64), (0..1u64 << 54, 1..1u64 << 54)]
        .prop_filter_map("not an extent", |(start, count)| Extent::new(start, count))
}

fn op_with_extent() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![Op::Punch, Op::Zero, Op::Indeterminate])
}

fn op_with_note() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![Op::Bookmark, Op::Join, Op::Rollback, Op::SessionGranted, Op::Commit])
}

fn op_alone() -> impl Strategy<Value = Op> {
    prop::sample::select(vec![Op::Flush, Op::Noop, Op::ResyncBegin, Op::ResyncEnd])
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let what = prop_oneof![
        4 => (0..1u64 << 40, prop_oneof![1..=20usize, (1..=6usize).prop_map(|n| n * 8)], any::<u8>()).prop_map(
            |(start, count, seed)| {
                (Op::Write, Extent::new(start, count as u64), bytes(count * 512, seed))
            }
        ),
        2 => (op_with_extent(), extent()).prop_map(|(op, extent)| (op, Some(extent), Vec::new())),
        1 => (op_with_note(), 0..=NOTE_BYTES_MAX, any::<u8>()).prop_map(|(op, len, seed)| (op, None, bytes(len, seed))),
        1 => op_alone().prop_map(|op| (op, None, Vec::new())),
    ];
    (what, 1..=u32::MAX, any::<u64>(), any::<i32>(), 0..8u8).prop_map(
        |((op, extent, payload), volume, label, off, flags)| {
            let mut descriptor = Descriptor::bare(op, Incarnation::new(volume), extent, Label::from_nanos(label));
            descriptor.wall_minus_label_ms = off;
            descriptor.flags = OpFlags::from_bits(flags).unwrap();
            (descriptor, payload)
        },
    )
}

fn built(records: &[Wanted]) -> BodyBytes {
    let mut builder = BodyBuilder::new(JOURNAL, SESSION, FIRST);
    for (descriptor, payload) in records {
        assert!(builder.push(*descriptor, payload), "room for every record");
    }
    builder.finish()
}

/// A body with a record of every shape: whole blocks, odd sectors, a note, none.
fn sample() -> (BodyBytes, Vec<Wanted>) {
    let label = Label::from_nanos(1_795_341_600_000_000_000);
    let volume = Incarnation::new(3);
    let write = |start, count: usize, seed| {
        let extent = Extent::new(start, count as u64);
        (Descriptor::bare(Op::Write, volume, extent, label), bytes(count * 512, seed))
    };
    let records = vec![
        write(63, 1, 1),
        write(64, 16, 2),
        (Descriptor::bare(Op::Punch, volume, Extent::new(0, 1 << 31), label), Vec::new()),
        write(1000, 11, 3),
        (Descriptor::bare(Op::Bookmark, Incarnation::NONE, None, label), b"before the upgrade".to_vec()),
        (Descriptor::bare(Op::Flush, Incarnation::NONE, None, label), Vec::new()),
        write(64, 8, 4),
    ];
    (built(&records), records)
}

fn payload_of<'a>(record: &Record, area: &'a [u8]) -> &'a [u8] {
    let at = record.descriptor.payload_offset as usize;
    &area[at..at + record.descriptor.payload_bytes as usize]
}

proptest! {
    #[test]
    fn records_come_back_as_they_were_laid(records in prop::collection::vec(wanted(), 0..40)) {
        let laid = built(&records);
        prop_assert!(laid.header.len().is_multiple_of(BLOCK_BYTES));
        prop_assert!(laid.payload.len().is_multiple_of(BLOCK_BYTES));
        let body = Body::decode(&laid.header, JOURNAL).unwrap();
        prop_assert_eq!(body.header.session, SESSION);
        prop_assert_eq!(body.header.first_seq, FIRST);
        prop_assert_eq!(body.header.header_len as usize, laid.header.len());
        prop_assert_eq!(body.header.payload_len as usize, laid.payload.len());
        prop_assert_eq!(body.next_seq(), FIRST.plus(records.len() as u64));
        prop_assert_eq!(body.records.len(), records.len());
        for ((record, (descriptor, payload)), seq) in body.records.iter().zip(&records).zip(FIRST.get()..) {
            prop_assert_eq!(record.seq.get(), seq);
            prop_assert_eq!(payload_of(record, &laid.payload), payload.as_slice());
            let place = Descriptor { payload_offset: 0, payload_bytes: 0, ..record.descriptor };
            prop_assert_eq!(place, *descriptor);
            prop_assert_eq!(body.damaged_blocks(record, payload_of(record, &laid.payload)), vec![]);
        }
    }

    #[test]
    fn payloads_lie_apart_and_whole_blocks_lie_on_block_boundaries(records in prop::collection::vec(wanted(), 1..40)) {
        let laid = built(&records);
        let body = Body::decode(&laid.header, JOURNAL).unwrap();
        let mut used = 0;
        for Descriptor { payload_offset: at, payload_bytes: len, .. } in body.records.iter().map(|r| r.descriptor) {
            if len == 0 {
                continue;
            }
            let boundary = if len % 4096 == 0 { 4096 } else { 512 };
            prop_assert!(at.is_multiple_of(boundary) && at >= used && at - used < boundary, "{len} bytes at {at}, {used} used");
            used = at + len;
        }
        prop_assert_eq!(laid.payload.len(), (used as usize).next_multiple_of(BLOCK_BYTES));
    }

    #[test]
    fn what_follows_the_header_area_does_not_matter(records in prop::collection::vec(wanted(), 0..5), behind in any::<u8>()) {
        let laid = built(&records);
        let longer = [laid.header.clone(), vec![behind; 5000]].concat();
        prop_assert_eq!(Body::decode(&longer, JOURNAL), Body::decode(&laid.header, JOURNAL));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        prop_assert!(Body::decode(&bytes, JOURNAL).is_err());
    }
}

#[test]
fn a_chunk_filled_to_its_last_byte_comes_back() {
    let label = Label::from_nanos(1);
    let mut builder = BodyBuilder::new(JOURNAL, SESSION, FIRST);
    let block = bytes(BLOCK_BYTES, 9);
    let mut laid = 0u64;
    let write = |n: u64| Descriptor::bare(Op::Write, Incarnation::new(1), Extent::new(n * 8, 8), label);
    while builder.push(write(laid), &block) {
        laid += 1;
        assert!(laid < 10_000, "a chunk that is never full");
    }
    assert_eq!(laid, PAYLOAD_BYTES_MAX as u64 / 4096, "payload is full first: descriptors of 4 KiB writes fit");
    let full = builder.finish();
    let body = Body::decode(&full.header, JOURNAL).unwrap();
    assert_eq!(body.records.len() as u64, laid);
    assert!(body.records.iter().all(|r| body.damaged_blocks(r, payload_of(r, &full.payload)).is_empty()));

    let mut builder = BodyBuilder::new(JOURNAL, SESSION, FIRST);
    let noop = Descriptor::bare(Op::Noop, Incarnation::NONE, None, label);
    while builder.push(noop, &[]) {
        assert!(builder.len() < 10_000, "a chunk that is never full");
    }
    let records = builder.len();
    assert!(header_len(records, 0) <= HEADER_BYTES_MAX && header_len(records + 1, 0) > HEADER_BYTES_MAX);
    assert_eq!(Body::decode(&builder.finish().header, JOURNAL).unwrap().records.len(), records);
}

#[test]
fn the_digest_is_what_sealing_answered() {
    let (laid, _) = sample();
    let body = Body::decode(&laid.header, JOURNAL).unwrap();
    let mut area = laid.header.clone();
    assert_eq!(body.header.seal(&mut area), body.digest);
    assert_eq!(area, laid.header, "sealing again changes nothing");
}

#[test]
fn sealing_leaves_nothing_of_what_lay_in_the_fixed_header_before() {
    let (laid, _) = sample();
    let body = Body::decode(&laid.header, JOURNAL).unwrap();
    let mut area = laid.header.clone();
    area[FIELDS_END..FIXED_BYTES].fill(0xaa);
    body.header.seal(&mut area);
    assert_eq!(area, laid.header);
}
