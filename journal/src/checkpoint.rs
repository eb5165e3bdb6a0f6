//! A checkpoint: what the records in front of a segment have led to, so that a restart need not read them again, and so
//! that they can be forgotten.
//!
//! ```text
//! 0 magic u32  4 version u16  8 journal 16  24 segment u32  32 from u64  40 mark 304  344 piece u64  352 state u64
//! 360 the piece | the state                                          then crc32c, salted, over all before it
//! ```
//!
//! The state is that in front of the segment's first chunk, where `mark` is the tail's; the piece holds the chunks and
//! runs behind position `from`, where the checkpoint before ended. A checkpoint whose mark is not the one in the segment's
//! header is of another history. Owns the file's bytes; which files there are is `checkpoints`'.

mod bytes;

pub(crate) use bytes::{In, Out};

use crate::mark::{MARK_BYTES, TailMark, id_at, u32_at, u64_at};
use crate::place::SegmentNumber;
use crate::superblock::VERSION;
use record::checksum::Salt;
use record::ids::JournalId;
use record::position::Position;

const MAGIC: u32 = u32::from_le_bytes(*b"UDST");
const MARK_AT: usize = 40;
const PIECE_AT: usize = MARK_AT + MARK_BYTES;
const BODY_AT: usize = PIECE_AT + 16;

/// A checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Checkpoint {
    /// In front of which segment it is.
    pub segment: SegmentNumber,
    /// The first position that its piece has.
    pub from: Position,
    /// The tail there.
    pub mark: TailMark,
    /// Chunks and runs from `from` on.
    pub piece: Vec<u8>,
    /// Everything else.
    pub state: Vec<u8>,
}

impl Checkpoint {
    pub(crate) fn encode(&self, journal: JournalId) -> Vec<u8> {
        let mut out = vec![0u8; BODY_AT];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&journal.to_bytes());
        out[24..28].copy_from_slice(&self.segment.get().to_le_bytes());
        out[32..40].copy_from_slice(&self.from.get().to_le_bytes());
        out[MARK_AT..PIECE_AT].copy_from_slice(&self.mark.encode());
        out[PIECE_AT..PIECE_AT + 8].copy_from_slice(&(self.piece.len() as u64).to_le_bytes());
        out[PIECE_AT + 8..BODY_AT].copy_from_slice(&(self.state.len() as u64).to_le_bytes());
        out.extend_from_slice(&self.piece);
        out.extend_from_slice(&self.state);
        let crc = Salt::of(journal).header(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    /// Reads a checkpoint; `None` when it is none of this journal that is whole. Takes hostile bytes.
    pub(crate) fn decode(bytes: &[u8], journal: JournalId) -> Option<Self> {
        let (rest, crc) = bytes.split_last_chunk::<4>()?;
        let known = rest.len() >= BODY_AT
            && u32_at(rest, 0) == MAGIC
            && rest[4..6] == VERSION.to_le_bytes()
            && JournalId::from_bytes(id_at(rest, 8)) == journal
            && Salt::of(journal).header(rest) == u32::from_le_bytes(*crc);
        if !known {
            return None;
        }
        let body = &rest[BODY_AT..];
        let piece = usize::try_from(u64_at(rest, PIECE_AT)).ok()?;
        let (piece, state) = body.split_at_checked(piece)?;
        (state.len() as u64 == u64_at(rest, PIECE_AT + 8)).then_some(())?;
        Some(Self {
            segment: SegmentNumber::new(u32_at(rest, 24)),
            from: Position::new(u64_at(rest, 32)),
            mark: TailMark::decode(rest[MARK_AT..PIECE_AT].try_into().ok()?)?,
            piece: piece.to_vec(),
            state: state.to_vec(),
        })
    }
}

#[cfg(test)]
mod tests;
