//! The footer of a segment: the headers of all of its chunks once more, packed, at the end of its file.
//!
//! ```text
//! file's end - length: entries (footer/packing.rs), one for each chunk in order | zeros | trailer, the last 512 bytes:
//!   0 magic u32  4 version u16  6 whole u8  8 journal 16  24 segment u32  28 chunks u32  32 length u32
//!  36 bytes of entries u32  40 mark 304  344 crc32c of the entries  508 crc32c of the trailer
//! ```
//!
//! Written when every chunk of the segment is durable: when the next segment has been made, and at a clean close.
//! `mark` is the tail behind the last of them. A restart reads it instead of the chunks where the next segment's mark
//! says the same; anywhere else it is a second witness, which names what a rotten header held. A footer that is not
//! there, or damaged, or of another life, costs the scan and the second witness, nothing else. Owns its bytes.

mod packing;

use crate::aligned::Aligned;
use crate::device::DiskFile;
use crate::mark::{MARK_BYTES, TailMark, id_at, u32_at};
use crate::notes::Notes;
use crate::place::SegmentNumber;
use crate::segment::FIRST_CHUNK_AT;
use crate::superblock::VERSION;
use packing::Context;
use record::checksum::Salt;
use record::chunk::Body;
use record::geometry::BLOCK_BYTES;
use record::header::ChunkHeader;
use record::ids::JournalId;
use std::sync::Arc;

const MAGIC: u32 = u32::from_le_bytes(*b"UDSF");
const TRAILER_BYTES: usize = 512;
const WHOLE_AT: usize = 6;
const MARK_AT: usize = 40;
const ENTRIES_CRC_AT: usize = MARK_AT + MARK_BYTES;
const CRC_AT: usize = TRAILER_BYTES - 4;

/// One chunk's headers.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Where the chunk starts in the segment, in bytes.
    pub offset: u64,
    pub header: ChunkHeader,
    /// The checksum of the journal header.
    pub crc: u32,
    pub body: Arc<Body>,
    pub notes: Notes,
}

/// A footer that is being collected while its segment is written.
#[derive(Debug)]
pub(crate) struct Collecting {
    entries: Vec<u8>,
    context: Context,
    chunks: u32,
    /// Whether it names every chunk of the segment.
    whole: bool,
}

impl Collecting {
    /// Of a segment without chunks.
    pub(crate) fn new() -> Self {
        Self { entries: Vec::new(), context: Context::start(), chunks: 0, whole: true }
    }

    /// The next chunk: where it starts in the segment, in bytes; its header, and that one's checksum; and what it says.
    pub(crate) fn push(&mut self, offset: u64, header: &ChunkHeader, crc: u32, body: &Body, notes: &Notes) {
        let told = packing::Told { offset, header, crc, body, notes };
        packing::pack(&mut self.entries, &mut self.context, &told);
        self.chunks += 1;
    }

    /// There is a chunk of which nothing can be said.
    pub(crate) fn lacks_one(&mut self) {
        self.whole = false;
    }

    /// At most so many bytes the footer has, as it is.
    pub(crate) fn bytes_now(&self) -> u64 {
        (self.entries.len() + TRAILER_BYTES + BLOCK_BYTES) as u64
    }

    /// Its bytes, which end with the file. `mark` is the tail behind the last chunk.
    pub(crate) fn seal(&self, journal: JournalId, segment: SegmentNumber, mark: &TailMark) -> Aligned {
        let len = (self.entries.len() + TRAILER_BYTES).next_multiple_of(BLOCK_BYTES);
        let mut out = Aligned::zeroed(len);
        out[..self.entries.len()].copy_from_slice(&self.entries);
        let salt = Salt::of(journal);
        let trailer = &mut out[len - TRAILER_BYTES..];
        trailer[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        trailer[4..6].copy_from_slice(&VERSION.to_le_bytes());
        trailer[WHOLE_AT] = u8::from(self.whole);
        trailer[8..24].copy_from_slice(&journal.to_bytes());
        trailer[24..28].copy_from_slice(&segment.get().to_le_bytes());
        trailer[28..32].copy_from_slice(&self.chunks.to_le_bytes());
        #[expect(clippy::cast_possible_truncation, reason = "a segment has room for it, and none has 4 GiB of headers")]
        {
            trailer[32..36].copy_from_slice(&(len as u32).to_le_bytes());
            trailer[36..40].copy_from_slice(&(self.entries.len() as u32).to_le_bytes());
        }
        trailer[MARK_AT..ENTRIES_CRC_AT].copy_from_slice(&mark.encode());
        trailer[ENTRIES_CRC_AT..ENTRIES_CRC_AT + 4].copy_from_slice(&salt.header(&self.entries).to_le_bytes());
        let crc = salt.header(&trailer[..CRC_AT]);
        trailer[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// At most so many more it has with a chunk of this body.
pub(crate) fn bytes_more(body: &Body) -> u64 {
    packing::packed_bytes_max(body)
}

/// A footer as it was read.
#[derive(Debug)]
pub(crate) struct Footer {
    /// Where it starts in its file, in bytes.
    pub at: u64,
    /// Whether it names every chunk in front of `mark`.
    pub whole: bool,
    /// The tail behind its last chunk.
    pub mark: TailMark,
    /// The segment's chunks, in order.
    pub entries: Vec<Entry>,
}

/// Reads the footer of a segment whose file has `bytes` bytes; `None` when there is none of this journal and this
/// segment that is whole in itself. Takes hostile bytes.
pub(crate) fn read(file: &dyn DiskFile, bytes: u64, journal: JournalId, segment: SegmentNumber) -> Option<Footer> {
    if !bytes.is_multiple_of(BLOCK_BYTES as u64) {
        return None;
    }
    let mut block = Aligned::zeroed(BLOCK_BYTES);
    let last = bytes.checked_sub(BLOCK_BYTES as u64)?;
    file.read_at(&mut block, last).ok().filter(|n| *n == BLOCK_BYTES)?;
    let len = trailer(&block, journal, segment)?;
    let at = bytes.checked_sub(len as u64).filter(|at| *at >= FIRST_CHUNK_AT)?;
    let mut all = Aligned::zeroed(len);
    file.read_at(&mut all, at).ok().filter(|n| *n == len)?;
    decode(&all, at, journal, segment)
}

/// The length that a trailer at the end of these bytes gives; `None` when there is none of this segment.
fn trailer(bytes: &[u8], journal: JournalId, segment: SegmentNumber) -> Option<usize> {
    let trailer = bytes.last_chunk::<TRAILER_BYTES>()?;
    let known = u32_at(trailer, 0) == MAGIC
        && trailer[4..6] == VERSION.to_le_bytes()
        && JournalId::from_bytes(id_at(trailer, 8)) == journal
        && u32_at(trailer, 24) == segment.get()
        && Salt::of(journal).header(&trailer[..CRC_AT]) == u32_at(trailer, CRC_AT);
    let len = u32_at(trailer, 32) as usize;
    let entries = u32_at(trailer, 36) as usize;
    (known && len == entries.checked_add(TRAILER_BYTES)?.next_multiple_of(BLOCK_BYTES)).then_some(len)
}

fn decode(bytes: &[u8], at: u64, journal: JournalId, segment: SegmentNumber) -> Option<Footer> {
    trailer(bytes, journal, segment)?;
    let trailer = bytes.last_chunk::<TRAILER_BYTES>()?;
    let packed = bytes.get(..u32_at(trailer, 36) as usize)?;
    if Salt::of(journal).header(packed) != u32_at(trailer, ENTRIES_CRC_AT) {
        return None;
    }
    let mark = TailMark::decode(trailer[MARK_AT..ENTRIES_CRC_AT].try_into().ok()?)?;
    let mut context = Context::start();
    let mut rest = packed;
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let entry = packing::unpack(&mut rest, &mut context, journal, segment.get())?;
        if entry.offset + entry.header.disk_bytes() > at {
            return None;
        }
        entries.push(entry);
    }
    let whole = trailer[WHOLE_AT] == 1;
    (entries.len() == u32_at(trailer, 28) as usize).then_some(Footer { at, whole, mark, entries })
}

#[cfg(test)]
mod tests;
