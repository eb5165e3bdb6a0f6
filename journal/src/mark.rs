//! Where the tail was at a moment when everything before it was durable.
//!
//! Such a mark stands in every segment's header and in the superblock. It is a second witness beside the committed
//! marks of the chunks: it says how far the journal is known durable, and from where it goes on if the chunks in
//! front of it are lost. Owns its bytes.

use record::position::{ChunkNumber, JournalEpoch, Label, Position};
use record::streams::{STREAMS_BYTES, Streams};

/// Bytes of a mark.
pub(crate) const MARK_BYTES: usize = STREAMS_AT + STREAMS_BYTES;
const STREAMS_AT: usize = 40;

/// The state of the tail between two chunks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct TailMark {
    /// The life of the tail.
    pub epoch: JournalEpoch,
    /// The number of the next chunk.
    pub next_chunk: ChunkNumber,
    /// The position of the next record.
    pub next_position: Position,
    /// The checksum of the last chunk's header; 0 before the first.
    pub previous: u32,
    /// The newest session of each splitter, and what it expects next.
    pub streams: Streams,
    /// The largest label.
    pub label: Label,
}

impl TailMark {
    /// Before the first chunk.
    pub(crate) const START: Self = Self {
        epoch: JournalEpoch::new(0),
        next_chunk: ChunkNumber::FIRST,
        next_position: Position::FIRST,
        previous: 0,
        streams: Streams::NONE,
        label: Label::from_nanos(0),
    };

    pub(crate) fn encode(&self) -> [u8; MARK_BYTES] {
        let mut out = [0u8; MARK_BYTES];
        out[0..8].copy_from_slice(&self.epoch.get().to_le_bytes());
        out[8..16].copy_from_slice(&self.next_chunk.get().to_le_bytes());
        out[16..24].copy_from_slice(&self.next_position.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.label.nanos().to_le_bytes());
        out[32..36].copy_from_slice(&self.previous.to_le_bytes());
        out[STREAMS_AT..].copy_from_slice(&self.streams.encode());
        out
    }

    /// Reads a mark; `None` when its streams are none that were ever written. Its checksum is its holder's.
    pub(crate) fn decode(bytes: &[u8; MARK_BYTES]) -> Option<Self> {
        Some(Self {
            epoch: JournalEpoch::new(u64_at(bytes, 0)),
            next_chunk: ChunkNumber::new(u64_at(bytes, 8)),
            next_position: Position::new(u64_at(bytes, 16)),
            label: Label::from_nanos(u64_at(bytes, 24)),
            previous: u32_at(bytes, 32),
            streams: Streams::decode(&bytes[STREAMS_AT..])?,
        })
    }

    /// The number of the last chunk in front of the mark; 0 for none.
    pub(crate) fn last_chunk(&self) -> ChunkNumber {
        ChunkNumber::new(self.next_chunk.get().saturating_sub(1))
    }
}

/// Four bytes at `at`, little-endian. Callers know the length.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Eight bytes at `at`, little-endian. Callers know the length.
pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

/// Sixteen bytes at `at`. Callers know the length.
pub(crate) fn id_at(bytes: &[u8], at: usize) -> [u8; 16] {
    let mut id = [0u8; 16];
    id.copy_from_slice(&bytes[at..at + 16]);
    id
}
