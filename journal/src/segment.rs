//! A segment's own header, the first 4 KiB of its file.
//!
//! ```text
//!   0 magic u32  4 version u16  8 journal 16  24 segment u32  32 bytes u64  40 mark 304     4092 crc32c, salted
//! ```
//!
//! The mark is the tail's when the segment was made: everything in front of it is durable, and the segment's first
//! chunk goes on from there. The file gets its name only when this header is durable, so a named segment without a
//! valid header is damaged. Owns these bytes.

use crate::mark::{MARK_BYTES, TailMark, id_at, u32_at, u64_at};
use crate::place::SegmentNumber;
use crate::superblock::VERSION;
use record::checksum::Salt;
use record::geometry::BLOCK_BYTES;
use record::ids::JournalId;

const MAGIC: u32 = u32::from_le_bytes(*b"UDSG");
const MARK_AT: usize = 40;
const CRC_AT: usize = BLOCK_BYTES - 4;
/// Where a segment's first chunk starts, in bytes.
pub(crate) const FIRST_CHUNK_AT: u64 = BLOCK_BYTES as u64;

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentHeader {
    pub journal: JournalId,
    pub segment: SegmentNumber,
    /// Bytes of the file.
    pub bytes: u64,
    /// The tail when it was made.
    pub mark: TailMark,
}

/// Why a segment's header does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentHeaderError {
    /// Torn, rotten, or cut off.
    Unreadable,
    /// Intact, and of another journal.
    OtherJournal(JournalId),
    /// Intact, and of another segment of this journal.
    OtherSegment(SegmentNumber),
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut out = [0u8; BLOCK_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&self.journal.to_bytes());
        out[24..28].copy_from_slice(&self.segment.get().to_le_bytes());
        out[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        out[MARK_AT..MARK_AT + MARK_BYTES].copy_from_slice(&self.mark.encode());
        let crc = Salt::of(self.journal).header(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8], journal: JournalId, segment: SegmentNumber) -> Result<Self, SegmentHeaderError> {
        let bytes = bytes.get(..BLOCK_BYTES).ok_or(SegmentHeaderError::Unreadable)?;
        let written = JournalId::from_bytes(id_at(bytes, 8));
        if u32_at(bytes, 0) != MAGIC
            || bytes[4..6] != VERSION.to_le_bytes()
            || Salt::of(written).header(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT)
        {
            return Err(SegmentHeaderError::Unreadable);
        }
        let number = SegmentNumber::new(u32_at(bytes, 24));
        if written != journal {
            return Err(SegmentHeaderError::OtherJournal(written));
        }
        if number != segment {
            return Err(SegmentHeaderError::OtherSegment(number));
        }
        let mut mark = [0u8; MARK_BYTES];
        mark.copy_from_slice(&bytes[MARK_AT..MARK_AT + MARK_BYTES]);
        let mark = TailMark::decode(&mark).ok_or(SegmentHeaderError::Unreadable)?;
        Ok(Self { journal, segment, bytes: u64_at(bytes, 32), mark })
    }
}
