//! A chunk that was damaged, or put where it does not belong, is found out; and only what is damaged is named.

use super::*;
use proptest::prelude::*;
use std::ops::Range;

fn one(range: Range<usize>) -> Vec<Range<usize>> {
    vec![range]
}

#[test]
fn every_flipped_bit_of_a_header_area_is_refused() {
    let (laid, _) = sample();
    let mut area = laid.header;
    for bit in 0..area.len() * 8 {
        area[bit / 8] ^= 1 << (bit % 8);
        assert!(Body::decode(&area, JOURNAL).is_err(), "bit {bit}");
        area[bit / 8] ^= 1 << (bit % 8);
    }
    assert!(Body::decode(&area, JOURNAL).is_ok());
}

#[test]
fn a_header_area_cut_short_is_refused() {
    let (laid, _) = sample();
    for cut in (0..laid.header.len()).step_by(7).chain([laid.header.len() - 1]) {
        assert!(Body::decode(&laid.header[..cut], JOURNAL).is_err(), "{cut} bytes");
    }
}

#[test]
fn every_flipped_bit_of_a_payload_is_found_at_exactly_its_block() {
    let (laid, _) = sample();
    let body = Body::decode(&laid.header, JOURNAL).unwrap();
    for record in &body.records {
        let mut payload = payload_of(record, &laid.payload).to_vec();
        let len = payload.len();
        for byte in 0..len {
            let block = byte / BLOCK_BYTES;
            for bit in 0..8 {
                payload[byte] ^= 1 << bit;
                assert_eq!(
                    body.damaged_blocks(record, &payload),
                    one(block * BLOCK_BYTES..len.min((block + 1) * BLOCK_BYTES)),
                    "bit {bit} of byte {byte} of {:?}",
                    record.descriptor
                );
                payload[byte] ^= 1 << bit;
            }
        }
    }
}

#[test]
fn a_payload_that_could_not_be_read_whole_is_damaged_where_it_ends() {
    let (laid, _) = sample();
    let body = Body::decode(&laid.header, JOURNAL).unwrap();
    let record = &body.records[3];
    let payload = payload_of(record, &laid.payload);
    assert_eq!(payload.len(), 5632);
    assert_eq!(body.damaged_blocks(record, &payload[..5631]), one(4096..5632));
    assert_eq!(body.damaged_blocks(record, &payload[..4096]), one(4096..5632));
    assert_eq!(body.damaged_blocks(record, &[]), [0..4096, 4096..5632]);
}

#[test]
fn a_chunk_of_another_journal_is_refused() {
    let other = JournalId::from_bytes(*b"another journal ");
    let (laid, _) = sample();
    assert_eq!(Body::decode(&laid.header, other), Err(BodyError::OtherJournal(JOURNAL)));
    // Carrying the other's name does not help: the checksum has the journal's salt.
    let mut renamed = laid.header.clone();
    renamed[8..24].copy_from_slice(&other.to_bytes());
    assert_eq!(Body::decode(&renamed, other), Err(BodyError::HeaderChecksum));
    // Nor does a header sealed anew: the records have it too, and so has every block.
    let body = Body::decode(&laid.header, JOURNAL).unwrap();
    BodyHeader { journal: other, ..body.header }.seal(&mut renamed);
    assert_eq!(Body::decode(&renamed, other), Err(BodyError::RecordChecksum(0)));
    let elsewhere = Body { header: BodyHeader { journal: other, ..body.header }, ..body.clone() };
    all_blocks_are_damaged(&elsewhere, &body.records[1], &laid.payload);
}

#[test]
fn a_chunk_of_another_session_or_another_place_in_the_stream_is_refused() {
    let (laid, _) = sample();
    let body = Body::decode(&laid.header, JOURNAL).unwrap();
    for moved in
        [BodyHeader { session: SESSION.next(), ..body.header }, BodyHeader { first_seq: FIRST.next(), ..body.header }]
    {
        let mut area = laid.header.clone();
        moved.seal(&mut area);
        assert_eq!(Body::decode(&area, JOURNAL), Err(BodyError::RecordChecksum(0)));
    }
    let elsewhere = Body { header: BodyHeader { session: SESSION.next(), ..body.header }, ..body.clone() };
    all_blocks_are_damaged(&elsewhere, &body.records[1], &laid.payload);
}

#[test]
fn a_description_in_another_place_of_its_chunk_is_refused() {
    let (laid, _) = sample();
    let body = Body::decode(&laid.header, JOURNAL).unwrap();
    let mut area = laid.header.clone();
    let at = |place: usize| FIXED_BYTES + place * DESCRIPTOR_BYTES;
    // Records 2 and 5 have no payload: without their checksums they would change places unseen.
    for byte in 0..DESCRIPTOR_BYTES {
        area.swap(at(2) + byte, at(5) + byte);
    }
    body.header.seal(&mut area);
    assert_eq!(Body::decode(&area, JOURNAL), Err(BodyError::RecordChecksum(2)));
}

fn all_blocks_are_damaged(body: &Body, record: &Record, area: &[u8]) {
    assert_eq!(body.damaged_blocks(record, payload_of(record, area)).len(), record.crcs.len());
}

proptest! {
    #[test]
    fn data_of_another_sector_or_volume_is_damaged(sector in 0..1u64 << 50, volume in 1..=u32::MAX) {
        let (laid, _) = sample();
        let body = Body::decode(&laid.header, JOURNAL).unwrap();
        let record = &body.records[1];
        let extent = record.descriptor.extent.unwrap();
        let mut moved = record.clone();
        moved.descriptor.extent = Extent::new(sector, extent.count().get());
        if sector != extent.start().index() {
            all_blocks_are_damaged(&body, &moved, &laid.payload);
        }
        let mut moved = record.clone();
        moved.descriptor.volume = Incarnation::new(volume);
        if moved.descriptor.volume != record.descriptor.volume {
            all_blocks_are_damaged(&body, &moved, &laid.payload);
        }
    }

    #[test]
    fn any_damage_to_a_header_area_is_refused(
        hits in prop::collection::vec((0..4096usize, 1..=255u8), 1..6),
    ) {
        let (laid, _) = sample();
        let mut area = laid.header.clone();
        for (at, with) in hits {
            area[at] ^= with;
        }
        prop_assert!(area == laid.header || Body::decode(&area, JOURNAL).is_err());
    }

    #[test]
    fn damage_names_the_blocks_it_touches_and_no_others(hits in prop::collection::btree_set(0..32 * 4096usize, 1..12)) {
        let label = Label::from_nanos(7);
        let write = Descriptor::bare(Op::Write, Incarnation::new(2), Extent::new(24, 256), label);
        let laid = built(&[(write, bytes(32 * BLOCK_BYTES, 6))]);
        let body = Body::decode(&laid.header, JOURNAL).unwrap();
        let mut payload = laid.payload.clone();
        for at in &hits {
            payload[*at] ^= 0x40;
        }
        let blocks: std::collections::BTreeSet<usize> = hits.iter().map(|at| at / BLOCK_BYTES).collect();
        let named: Vec<_> = blocks.into_iter().map(|b| b * BLOCK_BYTES..(b + 1) * BLOCK_BYTES).collect();
        prop_assert_eq!(body.damaged_blocks(&body.records[0], &payload), named);
    }
}

#[test]
fn host_data_that_looks_like_a_chunk_is_not_one_of_this_journal() {
    // A volume of another group holds that group's journal; our host copies a chunk of it to our volume.
    let theirs = JournalId::from_bytes(*b"another journal ");
    let label = Label::from_nanos(7);
    let mut inner = BodyBuilder::new(theirs, SESSION, FIRST);
    assert!(
        inner.push(Descriptor::bare(Op::Write, Incarnation::new(3), Extent::new(64, 16), label), &bytes(16 * 512, 1))
    );
    let inner = inner.finish();
    let data = [inner.header, inner.payload].concat();
    let extent = Extent::new(8, data.len() as u64 / 512);
    let outer = built(&[(Descriptor::bare(Op::Write, Incarnation::new(3), extent, label), data)]);
    // A reader that lost its way steps through all of it, block by block.
    let disk = [outer.header.clone(), outer.payload].concat();
    let found: Vec<usize> =
        (0..disk.len()).step_by(BLOCK_BYTES).filter(|at| Body::decode(&disk[*at..], JOURNAL).is_ok()).collect();
    assert_eq!(found, [0], "only the chunk itself");
    assert!(Body::decode(&disk[outer.header.len()..], theirs).is_ok(), "the inner one is genuine, but not ours");
}
