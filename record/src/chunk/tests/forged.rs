//! Well-sealed nonsense is refused: what a reader checks does not rest on checksums alone.

use super::*;

/// The sample's header area, changed by `change`, with every checksum of records and header made right again.
fn forged(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
    let (laid, _) = sample();
    let mut area = laid.header;
    change(&mut area);
    let salt = Salt::of(JOURNAL);
    let records = u32_at(&area, 40).min(80);
    for place in 0..records {
        let at = FIXED_BYTES + place as usize * DESCRIPTOR_BYTES;
        let crc = salt.record(&area[at..at + 44], Session::new(u64_at(&area, 24)), u64_at(&area, 32), place);
        area[at + 44..at + 48].copy_from_slice(&crc.to_le_bytes());
    }
    let crc = salt.header_around(&area, CRC_AT, 0);
    area[CRC_AT..FIXED_BYTES].copy_from_slice(&crc.to_le_bytes());
    area
}

fn with(at: usize, bytes: &[u8]) -> Result<Body, BodyError> {
    Body::decode(&forged(|area| area[at..at + bytes.len()].copy_from_slice(bytes)), JOURNAL)
}

const fn record(place: usize) -> usize {
    FIXED_BYTES + place * DESCRIPTOR_BYTES
}

#[test]
fn forging_nothing_changes_nothing() {
    let (laid, _) = sample();
    assert_eq!(forged(|_| ()), laid.header);
}

#[test]
fn another_version_is_refused_with_its_number() {
    assert_eq!(with(4, &[9, 1]), Err(BodyError::UnknownVersion(0x0109)));
    assert_eq!(with(0, b"XDCB"), Err(BodyError::NotAChunk));
}

#[test]
fn an_operation_of_a_later_release_is_refused_with_its_number() {
    for number in (0..=255u8).filter(|n| Op::from_u8(*n).is_none()) {
        assert_eq!(with(record(5), &[number]), Err(BodyError::UnknownOp(number)));
    }
    for number in crate::op::RESERVED {
        assert_eq!(Op::from_u8(number), None, "{number} is reserved");
    }
}

#[test]
fn operations_have_the_numbers_of_the_format_page() {
    for number in (1..=18u8).chain([34]) {
        assert_eq!(Op::from_u8(number).map(Op::to_u8), Some(number));
    }
}

#[test]
fn what_this_release_does_not_know_is_refused_not_skipped() {
    let nonsense: [(usize, &[u8], &str); 8] = [
        (6, &[1], "a reserved byte behind the version"),
        (FIELDS_END, &[1], "a reserved byte behind the fields"),
        (CRC_AT - 1, &[1], "a reserved byte before the checksum"),
        (4095, &[1], "something behind the payload checksums"),
        (record(0) + 1, &[8], "an unknown flag"),
        (record(0) + 2, &[1], "a reserved byte of a record"),
        (record(0) + 3, &[1], "a reserved byte of a record"),
        (record(3) + 1, &[0x80], "an unknown flag"),
    ];
    for (at, bytes, why) in nonsense {
        assert!(matches!(with(at, bytes), Err(BodyError::Malformed(_))), "{why}: {:?}", with(at, bytes));
    }
}

#[test]
fn a_record_that_contradicts_its_operation_is_refused() {
    let zero = 0u64.to_le_bytes();
    let nonsense: [(usize, &[u8], &str); 12] = [
        (record(0) + 4, &[0; 4], "a write to no volume"),
        (record(0) + 16, &zero, "a write of no sectors"),
        (record(0) + 16, &2u64.to_le_bytes(), "a write with less payload than sectors"),
        (record(1) + 36, &4096u32.to_le_bytes(), "a write with more sectors than payload"),
        (record(1) + 36, &0u32.to_le_bytes(), "a write without payload"),
        (record(2) + 16, &zero, "a punch of no sectors"),
        (record(2) + 8, &u64::MAX.to_le_bytes(), "a punch that wraps"),
        (record(2) + 16, &(1u64 << 55).to_le_bytes(), "a punch past the last sector"),
        (record(2) + 36, &512u32.to_le_bytes(), "a punch with payload"),
        (record(4) + 16, &8u64.to_le_bytes(), "a bookmark of sectors"),
        (record(4) + 36, &4097u32.to_le_bytes(), "a note longer than any"),
        (record(5) + 8, &8u64.to_le_bytes(), "a flush of sectors"),
    ];
    for (at, bytes, why) in nonsense {
        assert!(matches!(with(at, bytes), Err(BodyError::Malformed(_))), "{why}: {:?}", with(at, bytes));
    }
}

#[test]
fn a_payload_outside_the_chunk_or_off_its_boundary_is_refused() {
    let (laid, _) = sample();
    let end = u32::try_from(laid.payload.len()).unwrap();
    for offset in [end, end - 512, u32::MAX - 511, u32::MAX] {
        assert!(matches!(with(record(6) + 32, &offset.to_le_bytes()), Err(BodyError::Malformed(_))), "at {offset}");
    }
    assert!(matches!(with(record(0) + 32, &100u32.to_le_bytes()), Err(BodyError::Malformed(_))), "not on a sector");
    assert!(matches!(with(record(1) + 32, &512u32.to_le_bytes()), Err(BodyError::Malformed(_))), "not on a block");
}

#[test]
fn more_or_fewer_payload_checksums_than_blocks_are_refused() {
    let (laid, _) = sample();
    let crcs = u32_at(&laid.header, 44);
    for count in [0, crcs - 1, crcs + 1] {
        assert!(matches!(with(44, &count.to_le_bytes()), Err(BodyError::Malformed(_))), "{count} for {crcs} blocks");
    }
}

#[test]
fn a_payload_with_more_checksums_than_the_header_area_has_room_for_is_refused() {
    // 4 MiB in one record have 1024 checksums; with 980 of them the tables end exactly with their 4 KiB.
    let label = Label::from_nanos(1);
    let write = Descriptor::bare(Op::Write, Incarnation::new(1), Extent::new(0, 8192), label);
    let mut area = built(&[(write, bytes(PAYLOAD_BYTES_MAX, 1))]).header;
    area.truncate(4096);
    area[44..48].copy_from_slice(&980u32.to_le_bytes());
    area[48..52].copy_from_slice(&4096u32.to_le_bytes());
    let crc = Salt::of(JOURNAL).header_around(&area, CRC_AT, 0);
    area[CRC_AT..FIXED_BYTES].copy_from_slice(&crc.to_le_bytes());
    assert_eq!(Body::decode(&area, JOURNAL), Err(BodyError::Malformed("more payload than checksums")));
}

#[test]
fn lengths_that_no_chunk_has_are_refused_before_anything_is_read_by_them() {
    let nonsense: [(usize, u32, &str); 9] = [
        (40, u32::MAX, "records"),
        (40, 1366, "records"),
        (40, 200, "records beyond the header area"),
        (44, u32::MAX, "checksums"),
        (44, 5000, "checksums beyond the header area"),
        (48, 0, "no header area"),
        (48, 8192, "a header area longer than its tables"),
        (52, 4097, "a payload area of odd length"),
        (52, 4 * 1024 * 1024 + 4096, "a payload area longer than any"),
    ];
    for (at, value, why) in nonsense {
        assert_eq!(with(at, &value.to_le_bytes()), Err(BodyError::BadLength), "{why}: {value}");
    }
    assert_eq!(with(32, &u64::MAX.to_le_bytes()), Err(BodyError::BadLength), "numbers that wrap");
}
