//! A compacted segment: of a segment's file, the blocks that some point needs.
//!
//! ```text
//! head 4 KiB | map, whole blocks | the kept blocks in order | map | head
//! head: 0 magic u32  4 version u16  8 journal 16  24 segment u32  28 map blocks u32  32 bytes u64  40 kept blocks u64
//!       48 crc32c of the map  4092 crc32c of the head      map: a bit for each 4 KiB of the segment, 1: kept
//! ```
//!
//! Places are for ever (ENGINE 9): whoever reads asks for the bytes where they stood, and what is not there any more reads
//! as zeros, which no checksum takes for data. Headers, descriptions and the footer stay, so everything that is known of
//! the records is. Head and map stand twice, since all blocks hang on them. Owns these bytes; which blocks are needed is
//! decided in `need`, when it is worth the work in `compaction`.

use crate::aligned::Aligned;
use crate::device::{Access, Disk, DiskFile};
use crate::mark::{id_at, u32_at, u64_at};
use crate::place::SegmentNumber;
use crate::superblock::VERSION;
use record::checksum::Salt;
use record::geometry::BLOCK_BYTES;
use record::ids::JournalId;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::sync::Arc;

const MAGIC: u32 = u32::from_le_bytes(*b"UDSC");
const BLOCK: u64 = BLOCK_BYTES as u64;
const MAP_CRC_AT: usize = 48;
const CRC_AT: usize = BLOCK_BYTES - 4;
/// Bits in one word of a map.
const WORD: u64 = 64;
/// Most bytes that are read and written at once.
const COPIED_AT_ONCE: u64 = 1 << 20;

/// Which blocks of a segment are kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Map {
    /// Bytes of the segment.
    bytes: u64,
    words: Vec<u64>,
}

impl Map {
    /// Of a segment of so many bytes, whole blocks, none is kept.
    pub(crate) fn none(bytes: u64) -> Self {
        Self { bytes, words: vec![0; to_usize(bytes.div_ceil(BLOCK).div_ceil(WORD))] }
    }

    /// The blocks that these bytes lie in are kept.
    pub(crate) fn keep(&mut self, bytes: Range<u64>) {
        for block in bytes.start / BLOCK..bytes.end.min(self.bytes).div_ceil(BLOCK) {
            self.words[to_usize(block / WORD)] |= 1 << (block % WORD);
        }
    }

    /// What is not there any more cannot be kept.
    pub(crate) fn without_lacking(&mut self, segment: &dyn DiskFile) {
        for block in 0..self.words.len() as u64 * WORD {
            if self.has_block(block) && segment.lacks(block * BLOCK..(block + 1) * BLOCK) {
                self.words[to_usize(block / WORD)] &= !(1 << (block % WORD));
            }
        }
    }

    /// Whether all blocks that these bytes lie in are kept.
    pub(crate) fn has(&self, bytes: Range<u64>) -> bool {
        (bytes.start / BLOCK..bytes.end.div_ceil(BLOCK)).all(|block| self.has_block(block))
    }

    fn has_block(&self, block: u64) -> bool {
        self.words.get(to_usize(block / WORD)).is_some_and(|word| word >> (block % WORD) & 1 == 1)
    }

    /// How many are kept.
    pub(crate) fn count(&self) -> u64 {
        self.words.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// Bytes of the compacted segment's file.
    pub(crate) fn file_bytes(&self) -> u64 {
        2 * (BLOCK + self.encoded_bytes()) + self.count() * BLOCK
    }

    fn encoded_bytes(&self) -> u64 {
        (self.words.len() as u64 * 8).next_multiple_of(BLOCK)
    }

    fn encode(&self) -> Aligned {
        let mut out = Aligned::zeroed(to_usize(self.encoded_bytes()));
        for (word, bytes) in self.words.iter().zip(out.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        out
    }

    fn decode(encoded: &[u8], bytes: u64) -> Self {
        let mut map = Self::none(bytes);
        for (word, bytes) in map.words.iter_mut().zip(encoded.chunks_exact(8)) {
            *word = u64_at(bytes, 0);
        }
        map
    }

    /// Blocks as stretches of those that are kept and those that are not, in order: which, and whether.
    fn stretches(&self, blocks: Range<u64>) -> impl Iterator<Item = (Range<u64>, bool)> + '_ {
        let mut at = blocks.start;
        std::iter::from_fn(move || {
            let (start, kept) = (at, self.has_block(at));
            at = (start..blocks.end).find(|block| self.has_block(*block) != kept).unwrap_or(blocks.end);
            (start < blocks.end).then_some((start..at, kept))
        })
    }
}

/// Opens a segment's file, compacted or not; offsets are those of the segment as it was written.
pub(crate) fn open(disk: &dyn Disk, number: SegmentNumber) -> io::Result<Arc<dyn DiskFile>> {
    let file = disk.open(&number.file(), Access::Read)?;
    let bytes = file.len()?;
    // Of one that cannot be read at all its readers will say so.
    let Some(found) = bytes.checked_sub(BLOCK).and_then(|last| head(file.as_ref(), number, last)) else {
        return Ok(file);
    };
    let map_blocks = u64::from(found.head.map_blocks);
    let map = found.map(file.as_ref(), 1).or_else(|| {
        let second = (bytes / BLOCK).checked_sub(1 + map_blocks)?;
        found.map(file.as_ref(), second)
    });
    Ok(Arc::new(Compacted { file, placed: map.map(|map| Placed::of(map, 1 + map_blocks)) }))
}

/// Writes what is kept of a segment beside it, durable when it returns, but for the name.
pub(crate) fn write(
    disk: &dyn Disk,
    journal: JournalId,
    number: SegmentNumber,
    segment: &dyn DiskFile,
    map: &Map,
) -> io::Result<()> {
    let name = number.unfinished_file();
    let written = write_as(disk, &name, journal, number, segment, map);
    if written.is_err() {
        // Nothing half made stays behind, if the disk lets us.
        let _ = disk.remove(&name);
    }
    written
}

fn write_as(
    disk: &dyn Disk,
    name: &str,
    journal: JournalId,
    number: SegmentNumber,
    segment: &dyn DiskFile,
    map: &Map,
) -> io::Result<()> {
    let file = disk.create(name, map.file_bytes(), Access::Durable)?;
    let encoded = map.encode();
    let head = Head {
        bytes: map.bytes,
        kept: map.count(),
        map_blocks: u32::try_from(encoded.len() as u64 / BLOCK).map_err(io::Error::other)?,
        map_crc: Salt::of(journal).header(&encoded),
    };
    let head = Aligned::copy_of(&head.encode(journal, number));
    file.write_at(&[IoSlice::new(&head), IoSlice::new(&encoded)], 0)?;
    let mut at = (head.len() + encoded.len()) as u64;
    let all = 0..map.words.len() as u64 * WORD;
    for (run, _) in map.stretches(all).filter(|(_, kept)| *kept) {
        let mut from = run.start * BLOCK;
        while from < run.end * BLOCK {
            let len = COPIED_AT_ONCE.min(run.end * BLOCK - from);
            let mut buffer = Aligned::zeroed(to_usize(len));
            let read = segment.read_at(&mut buffer, from)?;
            if (read as u64) < len {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, format!("segment {number} ends early")));
            }
            file.write_at(&[IoSlice::new(&buffer)], at)?;
            (from, at) = (from + len, at + len);
        }
    }
    file.write_at(&[IoSlice::new(&encoded), IoSlice::new(&head)], at)?;
    file.sync()
}

/// What a compacted segment says of itself.
struct Head {
    /// Bytes of the segment as it was written.
    bytes: u64,
    kept: u64,
    map_blocks: u32,
    map_crc: u32,
}

impl Head {
    fn encode(&self, journal: JournalId, number: SegmentNumber) -> [u8; BLOCK_BYTES] {
        let mut out = [0u8; BLOCK_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..24].copy_from_slice(&journal.to_bytes());
        out[24..28].copy_from_slice(&number.get().to_le_bytes());
        out[28..32].copy_from_slice(&self.map_blocks.to_le_bytes());
        out[32..40].copy_from_slice(&self.bytes.to_le_bytes());
        out[40..48].copy_from_slice(&self.kept.to_le_bytes());
        out[MAP_CRC_AT..MAP_CRC_AT + 4].copy_from_slice(&self.map_crc.to_le_bytes());
        let crc = Salt::of(journal).header(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// The journal is whichever wrote it: what stands in the blocks is of this journal by its own checksums, or nothing.
    fn decode(block: &[u8], number: SegmentNumber) -> Option<(Self, JournalId)> {
        let journal = JournalId::from_bytes(id_at(block.get(..BLOCK_BYTES)?, 8));
        let head = Self {
            bytes: u64_at(block, 32),
            kept: u64_at(block, 40),
            map_blocks: u32_at(block, 28),
            map_crc: u32_at(block, MAP_CRC_AT),
        };
        let fits = u32_at(block, 0) == MAGIC
            && block[4..6] == VERSION.to_le_bytes()
            && u32_at(block, 24) == number.get()
            && Salt::of(journal).header(&block[..CRC_AT]) == u32_at(block, CRC_AT)
            && u64::from(head.map_blocks) == Map::none(head.bytes).encoded_bytes() / BLOCK;
        fits.then_some((head, journal))
    }
}

/// A head, and the journal whose salt its checksums have.
struct Found {
    head: Head,
    journal: JournalId,
}

/// The head of a compacted segment, the first or, where that is damaged, the one in the last block.
fn head(file: &dyn DiskFile, number: SegmentNumber, last: u64) -> Option<Found> {
    let read = |at| {
        let mut block = Aligned::zeroed(BLOCK_BYTES);
        let read = file.read_at(&mut block, at).ok()?;
        let (head, journal) = Head::decode(&block[..read], number)?;
        Some(Found { head, journal })
    };
    read(0).or_else(|| read(last - last % BLOCK))
}

impl Found {
    /// The map that begins with this block, if it is sound.
    fn map(&self, file: &dyn DiskFile, block: u64) -> Option<Map> {
        let mut encoded = Aligned::zeroed(to_usize(u64::from(self.head.map_blocks) * BLOCK));
        let read = file.read_at(&mut encoded, block * BLOCK).ok()?;
        let sound = read == encoded.len() && Salt::of(self.journal).header(&encoded) == self.head.map_crc;
        sound.then(|| Map::decode(&encoded, self.head.bytes)).filter(|map| map.count() == self.head.kept)
    }
}

/// A compacted segment, open for reading.
#[derive(Debug)]
struct Compacted {
    file: Arc<dyn DiskFile>,
    /// `None` where both maps are damaged: nobody knows where what stands.
    placed: Option<Placed>,
}

/// Where the blocks that are kept stand.
#[derive(Debug)]
struct Placed {
    map: Map,
    /// For each word of the map, how many blocks are kept in front of it.
    before: Vec<u64>,
    /// The block of the file at which the kept ones begin.
    first: u64,
}

impl Placed {
    fn of(map: Map, first: u64) -> Self {
        let mut before = Vec::with_capacity(map.words.len());
        let mut count = 0;
        for word in &map.words {
            before.push(count);
            count += u64::from(word.count_ones());
        }
        Self { map, before, first }
    }

    /// Where a block that is kept stands in the file.
    fn place(&self, block: u64) -> u64 {
        let (word, bit) = (to_usize(block / WORD), block % WORD);
        let in_front = self.map.words[word] & ((1 << bit) - 1);
        (self.first + self.before[word] + u64::from(in_front.count_ones())) * BLOCK
    }
}

impl DiskFile for Compacted {
    fn len(&self) -> io::Result<u64> {
        self.placed.as_ref().map_or_else(|| self.file.len(), |placed| Ok(placed.map.bytes))
    }

    fn stored(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn place(&self, bytes: Range<u64>) -> Option<u64> {
        let placed = self.placed.as_ref().filter(|placed| placed.map.has(bytes.clone()))?;
        let (first, last) = (bytes.start / BLOCK, bytes.end.saturating_sub(1) / BLOCK);
        let at = placed.place(first);
        (placed.place(last) == at + (last - first) * BLOCK).then(|| at + bytes.start % BLOCK)
    }

    fn lacks(&self, bytes: Range<u64>) -> bool {
        self.placed.as_ref().is_some_and(|placed| !placed.map.has(bytes))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let Some(placed) = &self.placed else {
            return Err(io::Error::new(ErrorKind::InvalidData, "both maps of the compacted segment are damaged"));
        };
        let len = (buffer.len() as u64).min(placed.map.bytes.saturating_sub(offset));
        let (first, end) = (offset / BLOCK, (offset + len).div_ceil(BLOCK));
        for (blocks, kept) in placed.map.stretches(first..end) {
            let to = to_usize((blocks.end - first) * BLOCK).min(to_usize(len));
            let part = &mut buffer[to_usize((blocks.start - first) * BLOCK)..to];
            if !kept {
                part.fill(0);
            } else if self.file.read_at(part, placed.place(blocks.start))? < part.len() {
                return Err(io::Error::new(ErrorKind::UnexpectedEof, "the compacted segment ends early"));
            }
        }
        Ok(to_usize(len))
    }

    fn write_at(&self, _: &[IoSlice<'_>], _: u64) -> io::Result<()> {
        Err(never_written())
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Err(never_written())
    }
}

fn never_written() -> io::Error {
    io::Error::new(ErrorKind::Unsupported, "a compacted segment is never written")
}

/// Of lengths inside one segment, which are below 4 GiB.
fn to_usize(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
