//! The journal's header in front of every chunk body: 4 KiB, the appliance's own.
//!
//! It gives the chunk its number, its place in the group's positions and on disk, its epoch, the chain to the chunk
//! before and the committed mark by which recovery tells a torn tail from rot (PROTOCOL R25, R26). Owns the bytes; deliberately
//! decides nothing about them.

use crate::checksum::Salt;
use crate::chunk::{HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX, u32_at, u64_at};
use crate::geometry::BLOCK_BYTES;
use crate::ids::JournalId;
use crate::position::{ChunkNumber, JournalEpoch, Label, Position};
use crate::streams::{STREAMS_BYTES, Streams};
use crate::zeros::is_zero;

/// First bytes of a journal header.
pub const MAGIC: u32 = u32::from_le_bytes(*b"UDJC");
/// Version of the journal header. 1: the first.
pub const VERSION: u16 = 1;
/// Bytes of a journal header.
pub const HEADER_BYTES: usize = BLOCK_BYTES;

const CRC_AT: usize = HEADER_BYTES - 4;
/// First byte behind the last field: from here to the checksum it is zeros.
const FIELDS_END: usize = STREAMS_AT + STREAMS_BYTES;
const STREAMS_AT: usize = 104;

/// What stands in front of a chunk body on disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkHeader {
    /// The journal.
    pub journal: JournalId,
    /// The life of the tail that wrote it.
    pub epoch: JournalEpoch,
    /// Its number.
    pub number: ChunkNumber,
    /// The position of its first record.
    pub first_position: Position,
    /// The position behind its last record: every header carries it, so that damage never loses a position (V13).
    pub next_position: Position,
    /// Every chunk up to this one was durable when this one was built; 0 for none, always below `number`.
    pub committed: ChunkNumber,
    /// Checksum of the header of the chunk before; 0 for the first of a journal.
    pub previous: u32,
    /// Bytes of the body's header area.
    pub body_header_len: u32,
    /// Bytes of the body's payload area.
    pub payload_len: u32,
    /// The digest of the body.
    pub body_digest: u32,
    /// The newest session of each splitter once this chunk is in, and what it expects next.
    pub streams: Streams,
    /// The largest label in the journal up to and with this chunk.
    pub label: Label,
    /// Where it stands: bytes from the start of its segment.
    pub offset: u64,
    /// The number of that segment.
    pub segment: u32,
}

impl ChunkHeader {
    /// The header as bytes, and its checksum (the next chunk's `previous`).
    pub fn encode(&self) -> ([u8; HEADER_BYTES], u32) {
        let mut out = [0u8; HEADER_BYTES];
        let crc = self.encode_over(&mut out);
        (out, crc)
    }

    /// The same over zeros, or over another header: whatever is not zeros in one is written. Answers with the checksum.
    pub fn encode_over(&self, out: &mut [u8; HEADER_BYTES]) -> u32 {
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&self.journal.to_bytes());
        out[24..32].copy_from_slice(&self.epoch.get().to_le_bytes());
        out[32..40].copy_from_slice(&self.number.get().to_le_bytes());
        out[40..48].copy_from_slice(&self.first_position.get().to_le_bytes());
        out[48..56].copy_from_slice(&self.next_position.get().to_le_bytes());
        out[56..64].copy_from_slice(&self.committed.get().to_le_bytes());
        out[64..68].copy_from_slice(&self.previous.to_le_bytes());
        out[68..72].copy_from_slice(&self.body_header_len.to_le_bytes());
        out[72..76].copy_from_slice(&self.payload_len.to_le_bytes());
        out[76..80].copy_from_slice(&self.body_digest.to_le_bytes());
        out[80..88].copy_from_slice(&self.label.nanos().to_le_bytes());
        out[88..96].copy_from_slice(&self.offset.to_le_bytes());
        out[96..100].copy_from_slice(&self.segment.to_le_bytes());
        out[STREAMS_AT..FIELDS_END].copy_from_slice(&self.streams.encode());
        let crc = Salt::of(self.journal).header_before_zeros(&out[..FIELDS_END], CRC_AT - FIELDS_END);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads a header of this journal; `None` for anything else, stale or damaged bytes included.
    pub fn decode(bytes: &[u8], journal: JournalId) -> Option<(Self, u32)> {
        let bytes = bytes.get(..HEADER_BYTES)?;
        let crc = u32_at(bytes, CRC_AT);
        if u32_at(bytes, 0) != MAGIC
            || bytes[4..6] != VERSION.to_le_bytes()
            || bytes[8..24] != journal.to_bytes()
            || Salt::of(journal).header(&bytes[..CRC_AT]) != crc
        {
            return None;
        }
        let header = Self {
            journal,
            epoch: JournalEpoch::new(u64_at(bytes, 24)),
            number: ChunkNumber::new(u64_at(bytes, 32)),
            first_position: Position::new(u64_at(bytes, 40)),
            next_position: Position::new(u64_at(bytes, 48)),
            committed: ChunkNumber::new(u64_at(bytes, 56)),
            previous: u32_at(bytes, 64),
            body_header_len: u32_at(bytes, 68),
            payload_len: u32_at(bytes, 72),
            body_digest: u32_at(bytes, 76),
            streams: Streams::decode(&bytes[STREAMS_AT..])?,
            label: Label::from_nanos(u64_at(bytes, 80)),
            offset: u64_at(bytes, 88),
            segment: u32_at(bytes, 96),
        };
        let sane = header.body_header_len as usize <= HEADER_BYTES_MAX
            && header.payload_len as usize <= PAYLOAD_BYTES_MAX
            && (header.body_header_len as usize).is_multiple_of(BLOCK_BYTES)
            && (header.payload_len as usize).is_multiple_of(BLOCK_BYTES)
            && header.body_header_len > 0
            && header.first_position <= header.next_position
            && header.committed < header.number
            && bytes[6..8] == [0, 0]
            && bytes[100..STREAMS_AT] == [0; 4]
            && is_zero(&bytes[FIELDS_END..CRC_AT]);
        sane.then_some((header, crc))
    }

    /// Whether it is the header of a chunk in this place. One that is not is a copy: a host may write anything, also
    /// the bytes of this journal, and they are genuine in every other respect.
    pub const fn stands_at(&self, segment: u32, offset: u64) -> bool {
        self.segment == segment && self.offset == offset
    }

    /// Bytes that the chunk takes on disk, this header included.
    pub fn disk_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.body_header_len) + u64::from(self.payload_len)
    }
}

#[cfg(test)]
mod tests;
