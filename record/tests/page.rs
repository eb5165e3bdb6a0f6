//! `docs/formats/chunk.md` is true: the frozen chunk, read by the tables of that page and by nothing of this crate.
//!
//! Offsets, sizes and checksums are written here as the page has them, CRC-32C bit by bit from its polynomial, so that
//! neither a slip of the page nor one that encoder and decoder share goes unseen.

use std::path::Path;

const JOURNAL: &[u8; 16] = b"journal of tests";

/// CRC-32C of RFC 3720, the slow way.
fn crc(bytes: &[u8]) -> u32 {
    let mut crc = !0u32;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
        }
    }
    !crc
}

fn number(bytes: &[u8], at: usize, width: usize) -> u64 {
    bytes[at..at + width].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn small(bytes: &[u8], at: usize, width: usize) -> usize {
    usize::try_from(number(bytes, at, width)).expect("a small number")
}

fn chunk() -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/chunk-v1/chunk.bin");
    std::fs::read(path).expect("the frozen chunk")
}

#[test]
fn the_slow_checksum_is_crc_32c() {
    // RFC 3720, appendix B.4.
    assert_eq!(crc(&[0; 32]), 0x8a91_36aa);
    assert_eq!(crc(b"123456789"), 0xe306_9283);
}

#[test]
fn the_journal_header_is_as_the_page_says() {
    let chunk = chunk();
    let header = &chunk[..4096];
    assert_eq!(&header[0..4], b"UDJC");
    assert_eq!(number(header, 4, 2), 1, "version");
    assert_eq!(&header[8..24], JOURNAL);
    assert_eq!(number(header, 24, 8), 3, "epoch");
    assert_eq!(number(header, 32, 8), 12, "number");
    assert_eq!(number(header, 40, 8), 41, "first_position");
    assert_eq!(number(header, 48, 8), 41 + number(&chunk, 4096 + 40, 4), "next_position");
    assert_eq!(number(header, 56, 8), 10, "committed");
    assert_eq!(number(header, 64, 4), 0x0bad_cafe, "previous");
    assert_eq!(small(header, 68, 4) + small(header, 72, 4) + 4096, chunk.len(), "the lengths");
    assert_eq!(number(header, 76, 4), number(&chunk, 4096 + 124, 4), "body_digest");
    assert_eq!(number(header, 80, 8), 1_795_341_600_000_000_020, "label");
    assert_eq!((number(header, 88, 8), number(header, 96, 4)), (1 << 20, 2), "offset and segment");
    assert_eq!(number(header, 104, 8), 2, "streams");
    assert_eq!(&header[112..128], b"another splitter", "the first by its id");
    assert_eq!((number(header, 128, 8), number(header, 136, 8)), (4, 7), "session and next_seq");
    assert_eq!(&header[144..160], b"the splitter, a.");
    assert_eq!(number(header, 160, 8), 5, "session");
    assert_eq!(number(header, 168, 8), 100 + number(&chunk, 4096 + 40, 4), "next_seq");
    assert!(header[100..104].iter().chain(&header[176..4092]).all(|b| *b == 0), "reserved");
    assert_eq!(number(header, 4092, 4), u64::from(crc(&header[..4092]) ^ crc(JOURNAL)), "checksum");
}

#[test]
fn the_body_is_as_the_page_says() {
    let chunk = chunk();
    let body = &chunk[4096..];
    assert_eq!(&body[0..4], b"UDCB");
    assert_eq!(number(body, 4, 2), 1, "version");
    assert_eq!(&body[8..24], JOURNAL);
    let (session, first) = (&body[24..32], &body[32..40]);
    let (records, crcs, header_len, payload_len) =
        (small(body, 40, 4), small(body, 44, 4), small(body, 48, 4), small(body, 52, 4));
    assert_eq!(header_len, (128 + 48 * records + 4 * crcs).next_multiple_of(4096));
    assert_eq!(header_len + payload_len, body.len());
    let salt = crc(JOURNAL);

    let mut area = body[..header_len].to_vec();
    area[124..128].fill(0);
    assert_eq!(number(body, 124, 4), u64::from(crc(&area) ^ salt), "checksum of the header area");
    assert!(body[56..124].iter().chain(&body[128 + 48 * records + 4 * crcs..header_len]).all(|b| *b == 0), "reserved");

    let payloads = &body[header_len..];
    let mut crc_at = 128 + 48 * records;
    let mut ops = Vec::new();
    for (place, at) in (0u32..).zip((128..).step_by(48).take(records)) {
        let descriptor = &body[at..at + 48];
        let seed = [session, first, &place.to_le_bytes()].concat();
        assert_eq!(number(descriptor, 44, 4), u64::from(crc(&descriptor[..44]) ^ crc(&seed) ^ salt), "record {place}");
        let (volume, start, count) = (&descriptor[4..8], number(descriptor, 8, 8), number(descriptor, 16, 8));
        let (offset, len) = (small(descriptor, 32, 4), small(descriptor, 36, 4));
        assert!(offset.is_multiple_of(if len > 0 && len.is_multiple_of(4096) { 4096 } else { 512 }));
        for (block, sector) in payloads[offset..offset + len].chunks(4096).zip((start..).step_by(8)) {
            let seed = [volume, &sector.to_le_bytes(), session].concat();
            assert_eq!(number(body, crc_at, 4), u64::from(crc(block) ^ crc(&seed) ^ salt), "payload of record {place}");
            crc_at += 4;
        }
        // WRITE, PUNCH, ZERO and INDETERMINATE have an extent, only a WRITE has its bytes.
        assert_eq!(count > 0, [1, 2, 3, 7].contains(&descriptor[0]), "record {place}");
        assert!(descriptor[0] != 1 || count * 512 == len as u64, "record {place}");
        ops.push(descriptor[0]);
    }
    assert_eq!(crc_at, 128 + 48 * records + 4 * crcs, "every checksum was used");
    for op in (1..=18).chain([34]) {
        assert!(ops.contains(&op), "the frozen chunk has operation {op}");
    }
}
