//! What must hold for any bytes whatever: the fuzz targets of `record`'s decoders.
//!
//! Owned by cargo-fuzz (`fuzz_targets/`) and by `tests/fuzz.rs`, which both include this file, so that what runs in
//! every `cargo test` and what runs for hours is the same. A target panics when a decoder broke its promise: never
//! panics, accepts only what makes sense, and accepts each thing in one spelling only. Most invented bytes die at a
//! checksum, so each target also mends the checksums of its input and tries again behind them.

use record::checksum::{Salt, crc32c};
use record::chunk::{
    Body, BodyHeader, CRC_BYTES, DESCRIPTOR_BYTES, FIXED_BYTES, HEADER_BYTES_MAX, MAGIC, VERSION, header_len,
};
use record::conversation::frame::{FRAME_HEAD_BYTES, Message};
use record::conversation::{ToAppliance, ToSplitter};
use record::header::{self, ChunkHeader};
use record::ids::JournalId;
use record::member::{BookmarkNote, JoinNote, RollbackNote, SessionNote};
use record::op::Op;
use record::position::Session;

/// The journal that every input is read as a part of.
pub const JOURNAL: JournalId = JournalId::from_bytes(*b"journal of tests");

/// A fuzz target.
pub type Target = fn(&[u8]);

/// Every target, by the name of its folder in `corpus`.
pub const ALL: [(&str, Target); 4] =
    [("body", body), ("header", header), ("conversation", conversation), ("notes", notes)];

/// Chunk bodies: the header area of one.
pub fn body(data: &[u8]) {
    if let Ok(body) = Body::decode(data, JOURNAL) {
        makes_sense(&body, data);
    }
    let Some(area) = mended_body(data) else { return };
    if let Ok(body) = Body::decode(&area, JOURNAL) {
        makes_sense(&body, &area);
    }
}

/// The input as a header area of the right magic, version, journal, length and checksums.
fn mended_body(data: &[u8]) -> Option<Vec<u8>> {
    let u32_at = |bytes: &[u8], at: usize| bytes.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes);
    let u64_at = |bytes: &[u8], at: usize| bytes.get(at..at + 8)?.try_into().ok().map(u64::from_le_bytes);
    let (records, crcs) = (u32_at(data, 40)? as usize, u32_at(data, 44)? as usize);
    if records > HEADER_BYTES_MAX || crcs > HEADER_BYTES_MAX {
        return None;
    }
    let len = header_len(records, crcs);
    if len > HEADER_BYTES_MAX {
        return None;
    }
    let mut area = data.to_vec();
    area.resize(len, 0);
    area[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    area[4..6].copy_from_slice(&VERSION.to_le_bytes());
    area[8..24].copy_from_slice(&JOURNAL.to_bytes());
    area[48..52].copy_from_slice(&u32::try_from(len).ok()?.to_le_bytes());
    let salt = Salt::of(JOURNAL);
    let (session, first) = (Session::new(u64_at(&area, 24)?), u64_at(&area, 32)?);
    for (place, at) in (0..).zip((FIXED_BYTES..).step_by(DESCRIPTOR_BYTES).take(records)) {
        let crc = salt.record(&area[at..at + DESCRIPTOR_BYTES - 4], session, first, place);
        area[at + DESCRIPTOR_BYTES - 4..at + DESCRIPTOR_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
    area[FIXED_BYTES - 4..FIXED_BYTES].fill(0);
    let crc = salt.header(&area);
    area[FIXED_BYTES - 4..FIXED_BYTES].copy_from_slice(&crc.to_le_bytes());
    Some(area)
}

fn makes_sense(body: &Body, bytes: &[u8]) {
    let BodyHeader { records, crcs, header_len, payload_len, first_seq, session, .. } = body.header;
    assert_eq!(body.records.len(), records as usize);
    assert_eq!(body.records.iter().map(|r| r.crcs.len()).sum::<usize>(), crcs as usize);
    assert_eq!(body.next_seq().get(), first_seq.get() + u64::from(records));
    let mut again = vec![0; header_len as usize];
    let mut crc_at = FIXED_BYTES + body.records.len() * DESCRIPTOR_BYTES;
    for ((place, record), seq) in (0..).zip(&body.records).zip(first_seq.get()..) {
        let descriptor = &record.descriptor;
        assert_eq!(record.seq.get(), seq);
        assert_eq!(descriptor.extent.is_some(), descriptor.op.has_extent());
        assert!(u64::from(descriptor.payload_offset) + u64::from(descriptor.payload_bytes) <= u64::from(payload_len));
        if descriptor.op == Op::Write {
            assert_eq!(descriptor.extent.map(record::geometry::Extent::bytes), Some(descriptor.payload_bytes.into()));
        }
        assert_eq!(record.crcs.len(), descriptor.crc_count());
        // Nothing was read: all of it is damaged.
        let damaged = body.damaged_blocks(record, &[]);
        assert_eq!(damaged.len(), record.crcs.len());
        assert_eq!(damaged.last().map_or(0, |last| last.end), descriptor.payload_bytes as usize);
        let at = FIXED_BYTES + place as usize * DESCRIPTOR_BYTES;
        again[at..at + DESCRIPTOR_BYTES].copy_from_slice(&descriptor.encode(
            Salt::of(JOURNAL),
            session,
            first_seq,
            place,
        ));
        for crc in record.crcs.iter() {
            again[crc_at..crc_at + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
            crc_at += CRC_BYTES;
        }
    }
    assert_eq!(body.header.seal(&mut again), body.digest);
    assert!(again == bytes[..again.len()], "what was read is written again as the same bytes");
}

/// Journal headers.
pub fn header(data: &[u8]) {
    let mut mended = data.to_vec();
    mended.resize(header::HEADER_BYTES, 0);
    mended[0..4].copy_from_slice(&header::MAGIC.to_le_bytes());
    mended[4..6].copy_from_slice(&header::VERSION.to_le_bytes());
    mended[8..24].copy_from_slice(&JOURNAL.to_bytes());
    let crc_at = header::HEADER_BYTES - 4;
    let crc = Salt::of(JOURNAL).header(&mended[..crc_at]);
    mended[crc_at..].copy_from_slice(&crc.to_le_bytes());
    for bytes in [data, &mended] {
        if let Some((header, crc)) = ChunkHeader::decode(bytes, JOURNAL) {
            assert!(header.first_position <= header.next_position && header.committed < header.number);
            assert!(header.disk_bytes() > header::HEADER_BYTES as u64);
            let (again, again_crc) = header.encode();
            assert_eq!(again_crc, crc);
            assert!(again == bytes[..again.len()], "what was read is written again as the same bytes");
        }
    }
}

/// Messages between splitter and appliance: the body of a frame.
pub fn conversation(data: &[u8]) {
    let crc = crc32c(data);
    assert!(ToAppliance::decode(data, crc ^ 1).is_err() && ToSplitter::decode(data, crc ^ 1).is_err());
    let again = [
        ToAppliance::decode(data, crc).ok().map(|message| message.encode()),
        ToSplitter::decode(data, crc).ok().map(|message| message.encode()),
    ];
    for frame in again.into_iter().flatten() {
        assert!(frame[FRAME_HEAD_BYTES..] == *data, "what was read is written again as the same bytes");
    }
}

/// Notes: the payload of records that are not writes.
pub fn notes(data: &[u8]) {
    let again = [
        JoinNote::decode(data).map(|note| note.encode()),
        BookmarkNote::decode(data).map(|note| note.encode()),
        RollbackNote::decode(data).map(|note| note.encode()),
        SessionNote::decode(data).map(|note| note.encode()),
    ];
    for bytes in again.into_iter().flatten() {
        assert!(bytes == data, "what was read is written again as the same bytes");
    }
}
