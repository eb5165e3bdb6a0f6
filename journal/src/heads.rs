//! The sidecar of a segment: a second copy of every chunk's headers, appended behind the chunk's own write.
//!
//! ```text
//! 0 magic u32  4 version u16  8 journal 16  24 segment u32  60 crc32c      64: entries, each a multiple of 8 bytes:
//! 0 magic u32  4 length u32  8 chunk's offset u64  16 crc32c of the rest  20 body_used u32  24 notes u32
//! 32 first 384 bytes of the journal header  416 its checksum  420 body_used bytes of the body's header area
//! then the payloads of all records that are not WRITEs (names, descriptions), one behind the other
//! ```
//!
//! It names what a rotten header or a lost segment held: with it the extents of damaged records are known, and the
//! notes that steer the journal (who joined, where a rollback went) survive. It is buffered: synced when the segment
//! is full and at a clean close, so behind a power cut it may lack its newest entries, never have wrong ones. Every
//! entry checks for itself; a damaged one is skipped. Owns these bytes; the chunk's parts are read by `record`.

use crate::mark::{u32_at, u64_at};
use crate::notes::Notes;
use crate::place::SegmentNumber;
use crate::superblock::VERSION;
use record::checksum::Salt;
use record::chunk::{Body, CRC_BYTES, DESCRIPTOR_BYTES, FIXED_BYTES, HEADER_BYTES_MAX};
use record::header::{ChunkHeader, HEADER_BYTES};
use record::ids::JournalId;

const FILE_MAGIC: u32 = u32::from_le_bytes(*b"UDHF");
const ENTRY_MAGIC: u32 = u32::from_le_bytes(*b"UDHE");
/// Bytes in front of the first entry.
pub(crate) const FILE_HEADER_BYTES: usize = 64;
/// How much of a journal header is kept; the rest of it is zeros but for its checksum.
const HEADER_KEPT: usize = 384;
const BODY_AT: usize = 32 + HEADER_KEPT + 4;
const ENTRY_BYTES_MAX: usize = 4 * HEADER_BYTES_MAX + PAYLOAD_NOTES_MAX;
/// All notes of a chunk lie in its payload area.
const PAYLOAD_NOTES_MAX: usize = record::chunk::PAYLOAD_BYTES_MAX;

/// The file's first bytes.
pub(crate) fn file_header(journal: JournalId, segment: SegmentNumber) -> [u8; FILE_HEADER_BYTES] {
    let mut out = [0u8; FILE_HEADER_BYTES];
    out[0..4].copy_from_slice(&FILE_MAGIC.to_le_bytes());
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[8..24].copy_from_slice(&journal.to_bytes());
    out[24..28].copy_from_slice(&segment.get().to_le_bytes());
    let crc = Salt::of(journal).header(&out[..60]);
    out[60..].copy_from_slice(&crc.to_le_bytes());
    out
}

/// One chunk's headers.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the chunk starts in the segment, in bytes.
    pub offset: u64,
    pub header: ChunkHeader,
    /// The checksum of the journal header.
    pub crc: u32,
    pub body: Body,
    pub notes: Notes,
}

/// An entry as bytes. `header` and `area` are the chunk's headers as they were written.
pub(crate) fn encode(
    journal: JournalId,
    offset: u64,
    header: &[u8; HEADER_BYTES],
    area: &[u8],
    body: &Body,
    notes: &Notes,
) -> Vec<u8> {
    let used = body_used(body);
    let notes = notes.concatenated(body);
    let mut out = vec![0u8; BODY_AT];
    out[0..4].copy_from_slice(&ENTRY_MAGIC.to_le_bytes());
    out[8..16].copy_from_slice(&offset.to_le_bytes());
    out[32..32 + HEADER_KEPT].copy_from_slice(&header[..HEADER_KEPT]);
    out[32 + HEADER_KEPT..BODY_AT].copy_from_slice(&header[HEADER_BYTES - 4..]);
    out.extend_from_slice(&area[..used]);
    out.extend_from_slice(&notes);
    out.resize(out.len().next_multiple_of(8), 0);
    #[expect(clippy::cast_possible_truncation, reason = "a chunk's headers and notes are below 5 MiB")]
    {
        let len = out.len() as u32;
        out[4..8].copy_from_slice(&len.to_le_bytes());
        out[20..24].copy_from_slice(&(used as u32).to_le_bytes());
        out[24..28].copy_from_slice(&(notes.len() as u32).to_le_bytes());
    }
    let crc = checksum(journal, &out);
    out[16..20].copy_from_slice(&crc.to_le_bytes());
    out
}

fn body_used(body: &Body) -> usize {
    FIXED_BYTES + body.header.records as usize * DESCRIPTOR_BYTES + body.header.crcs as usize * CRC_BYTES
}

/// The checksum of an entry, its own field left out.
fn checksum(journal: JournalId, entry: &[u8]) -> u32 {
    let salt = Salt::of(journal);
    // Two checksums mixed: the parts in front of the field and behind it.
    salt.header(&entry[..16]).rotate_left(1) ^ salt.header(&entry[20..])
}

/// What a sidecar holds.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// Its readable entries, in the order written.
    pub entries: Vec<Entry>,
    /// Whether its own header is this journal's and this segment's.
    pub header_ok: bool,
    /// Offsets at which bytes were skipped that are no entry.
    pub skipped: Vec<u64>,
}

/// Reads a sidecar. Takes hostile bytes.
pub(crate) fn decode(bytes: &[u8], journal: JournalId, segment: SegmentNumber) -> Heads {
    let header_ok = bytes.get(..FILE_HEADER_BYTES) == Some(&file_header(journal, segment)[..]);
    let mut heads = Heads { header_ok, ..Heads::default() };
    let mut at = FILE_HEADER_BYTES;
    let mut skipping = false;
    while at < bytes.len() {
        if let Some((entry, len)) = decode_entry(&bytes[at..], journal) {
            heads.entries.push(entry);
            at += len;
            skipping = false;
        } else {
            if !skipping {
                heads.skipped.push(at as u64);
            }
            skipping = true;
            at += 8;
        }
    }
    heads
}

fn decode_entry(bytes: &[u8], journal: JournalId) -> Option<(Entry, usize)> {
    if bytes.len() < BODY_AT || u32_at(bytes, 0) != ENTRY_MAGIC {
        return None;
    }
    let len = u32_at(bytes, 4) as usize;
    if len > ENTRY_BYTES_MAX || !len.is_multiple_of(8) {
        return None;
    }
    let entry = bytes.get(..len).filter(|entry| entry.len() >= BODY_AT)?;
    if checksum(journal, entry) != u32_at(entry, 16) {
        return None;
    }
    let (used, notes_len) = (u32_at(entry, 20) as usize, u32_at(entry, 24) as usize);
    let kept = entry.get(BODY_AT..BODY_AT.checked_add(used)?)?;
    let notes = entry.get(BODY_AT + used..BODY_AT.checked_add(used)?.checked_add(notes_len)?)?;
    let mut header = vec![0u8; HEADER_BYTES];
    header[..HEADER_KEPT].copy_from_slice(&entry[32..32 + HEADER_KEPT]);
    header[HEADER_BYTES - 4..].copy_from_slice(&entry[32 + HEADER_KEPT..BODY_AT]);
    let (header, crc) = ChunkHeader::decode(&header, journal)?;
    let mut area = vec![0u8; header.body_header_len as usize];
    area.get_mut(..used)?.copy_from_slice(kept);
    let body = Body::decode(&area, journal).ok().filter(|body| body.digest == header.body_digest)?;
    let notes = Notes::split(&body, notes)?;
    Some((Entry { offset: u64_at(entry, 8), header, crc, body, notes }, len))
}
