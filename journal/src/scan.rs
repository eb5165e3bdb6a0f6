//! Reading what lies on disk: the headers of every segment.
//!
//! A sealed segment's footer has them all together. Where there is none that fits the next segment, follows the chain of chunks from one to the next; where it breaks, looks at every 4 KiB of the rest of the
//! segment, since a committed mark in any valid header counts. Owns that search; what it means is decided in
//! `recovery`. Never writes.

use crate::aligned::Aligned;
use crate::compacted;
use crate::device::{Disk, DiskFile};
use crate::error::JournalError;
use crate::footer::{self, Footer};
use crate::mark::TailMark;
use crate::notes::Notes;
use crate::place::{Place, SEGMENTS, SegmentNumber};
use crate::recovery::{Seen, Witness};
use crate::segment::{FIRST_CHUNK_AT, SegmentHeader, SegmentHeaderError};
use crate::superblock::Superblock;
use record::chunk::Body;
use record::geometry::BLOCK_BYTES;
use record::header::{ChunkHeader, HEADER_BYTES};
use record::ids::JournalId;
use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::sync::Arc;

/// Bytes read at once.
const WINDOW_BYTES: usize = 256 * 1024;

/// A segment as it was found.
#[derive(Debug)]
pub(crate) struct SegmentSeen {
    pub number: SegmentNumber,
    /// Bytes of it as it was written; `None` when there is no file.
    pub file_bytes: Option<u64>,
    /// Bytes that it takes on the disk.
    pub stored_bytes: u64,
    /// Its own header.
    pub header: Result<SegmentHeader, SegmentHeaderError>,
    /// Its footer.
    pub footer: FooterSeen,
}

/// A segment's footer as it was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum FooterSeen {
    /// Nobody asked for it, or there need not be one: the segment is the newest one.
    NotNeeded,
    /// None that can be read.
    Unreadable,
    /// It stands at this byte, and lacks chunks that the segment has.
    Behind(u64),
    /// It names the whole segment.
    Whole,
}

/// A valid journal header, and what came with it.
#[derive(Debug)]
pub(crate) struct Sighting {
    pub seen: Seen,
    /// The body's header area, when it is valid and the one that the header names.
    pub body: Option<Arc<Body>>,
    /// Its notes.
    pub notes: Notes,
}

/// Everything that was found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub segments: Vec<SegmentSeen>,
    pub sightings: Vec<Sighting>,
}

/// How much to read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Depth {
    /// What recovery needs.
    Recovery,
    /// Every chunk, beside every footer.
    Everything,
}

impl Scan {
    /// What the marks of superblock and segments say.
    pub(crate) fn marks(&self, superblock: &Superblock) -> Vec<TailMark> {
        let segments = self.segments.iter().filter_map(|s| s.header.as_ref().ok().map(|h| h.mark));
        segments.chain([superblock.mark]).collect()
    }

    /// The headers alone.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.sightings.iter().map(|s| s.seen).collect()
    }

    /// The segment of this number.
    pub(crate) fn segment(&self, number: SegmentNumber) -> Option<&SegmentSeen> {
        self.segments.iter().find(|s| s.number == number)
    }
}

/// Which chunk should come next.
struct Expected {
    number: u64,
    /// The checksum that it chains to, where that is known.
    previous: Option<u32>,
}

/// Reads a journal.
pub(crate) fn scan(
    disk: &dyn Disk,
    superblock: &Superblock,
    depth: Depth,
    first: SegmentNumber,
    mark: &TailMark,
) -> Result<Scan, JournalError> {
    let failed = |doing: &str, source| JournalError::Io { journal: disk.describe(), doing: doing.into(), source };
    let numbers = numbers(disk, superblock)?;
    let mut segments = Vec::with_capacity(numbers.len());
    for number in numbers.range(first..).copied() {
        let file = open_segment(disk, number)?;
        let bytes = file.as_ref().map(|file| file.len()).transpose();
        let file_bytes = bytes.map_err(|source| failed(&format!("look at segment {number}"), source))?;
        let header = segment_header(file.as_deref(), file_bytes.unwrap_or(0), superblock.journal, number);
        let stored_bytes = file.as_ref().map_or(0, |file| file.stored().unwrap_or(0));
        segments.push(SegmentSeen { number, file_bytes, stored_bytes, header, footer: FooterSeen::NotNeeded });
    }
    let marks: Vec<Option<TailMark>> = segments.iter().map(|s| s.header.as_ref().ok().map(|h| h.mark)).collect();
    let mut sightings = Vec::new();
    let mut expected = Expected { number: mark.next_chunk.get(), previous: Some(mark.previous) };
    for (i, segment) in segments.iter_mut().enumerate() {
        let number = segment.number;
        let Some(file) = open_segment(disk, number)? else { continue };
        // Where this segment ended: the next one says it, or a clean close.
        let closing = match marks.get(i + 1) {
            Some(next) => *next,
            None => Some(superblock.mark).filter(|_| superblock.clean),
        };
        let bytes = segment.file_bytes.unwrap_or(0);
        let footer = footer::read(file.as_ref(), bytes, superblock.journal, number);
        segment.footer = look(footer.as_ref(), closing.as_ref(), i + 1 < marks.len());
        if depth == Depth::Recovery && segment.footer == FooterSeen::Whole {
            if let (Some(footer), Some(closing)) = (footer, closing) {
                expected = Expected { number: closing.next_chunk.get(), previous: Some(closing.previous) };
                vouched(footer, number, Witness::Segment, &mut sightings);
            }
            continue;
        }
        if let Some(mark) = marks[i].filter(|mark| mark.next_chunk.get() > expected.number) {
            expected = Expected { number: mark.next_chunk.get(), previous: Some(mark.previous) };
        }
        let first = sightings.len();
        let mut window = Window::new(file.as_ref(), bytes);
        let end = walk(&mut window, superblock.journal, number, &mut expected, &mut sightings);
        let sound =
            closing.is_some_and(|m| m.next_chunk.get() == expected.number && expected.previous == Some(m.previous));
        if !sound {
            sweep(&mut window, superblock.journal, number, end, &mut sightings);
            expected.previous = None;
        }
        let notes_lost = |s: &Sighting| s.body.as_ref().is_some_and(|body| !s.notes.complete_for(body));
        let wanted = depth == Depth::Everything || !sound || sightings[first..].iter().any(notes_lost);
        if let Some(footer) = footer.filter(|_| wanted) {
            vouched(footer, number, Witness::Footer, &mut sightings);
        }
    }
    Ok(Scan { segments, sightings })
}

/// The segments that there are, or should be.
pub(crate) fn numbers(disk: &dyn Disk, superblock: &Superblock) -> Result<BTreeSet<SegmentNumber>, JournalError> {
    let names = match disk.list(SEGMENTS) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(source) => {
            return Err(JournalError::Io { journal: disk.describe(), doing: "list segments".into(), source });
        }
    };
    let first = superblock.retained.first_segment;
    let mut numbers: BTreeSet<_> = (first.get()..=superblock.last_segment.get()).map(SegmentNumber::new).collect();
    // What was given back may still have its name when a crash came between.
    numbers.extend(names.iter().filter_map(|name| SegmentNumber::of_file(name)).filter(|number| *number >= first));
    Ok(numbers)
}

/// A segment's file; `None` when there is none.
pub(crate) fn open_segment(disk: &dyn Disk, number: SegmentNumber) -> Result<Option<Arc<dyn DiskFile>>, JournalError> {
    match compacted::open(disk, number) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => {
            Err(JournalError::Io { journal: disk.describe(), doing: format!("open segment {number}"), source })
        }
    }
}

fn segment_header(
    file: Option<&dyn DiskFile>,
    bytes: u64,
    journal: JournalId,
    number: SegmentNumber,
) -> Result<SegmentHeader, SegmentHeaderError> {
    let file = file.ok_or(SegmentHeaderError::Unreadable)?;
    let mut window = Window::new(file, bytes);
    let block = window.get(0, BLOCK_BYTES).ok_or(SegmentHeaderError::Unreadable)?;
    SegmentHeader::decode(block, journal, number)
}

/// Follows the chain from the segment's first chunk; answers with where it ends.
fn walk(
    window: &mut Window<'_>,
    journal: JournalId,
    segment: SegmentNumber,
    expected: &mut Expected,
    out: &mut Vec<Sighting>,
) -> u64 {
    let mut at = FIRST_CHUNK_AT;
    loop {
        let place = Place { segment, offset: at };
        let Some(sighting) = sighting(window, journal, place) else { return at };
        let header = &sighting.seen.header;
        let next = header.number.get() == expected.number
            && expected.previous.is_none_or(|previous| previous == header.previous);
        if !next {
            return at;
        }
        *expected = Expected { number: expected.number + 1, previous: Some(sighting.seen.crc) };
        at += header.disk_bytes();
        out.push(sighting);
    }
}

/// Looks at every 4 KiB from `from` on.
fn sweep(window: &mut Window<'_>, journal: JournalId, segment: SegmentNumber, from: u64, out: &mut Vec<Sighting>) {
    let mut at = from;
    while at + HEADER_BYTES as u64 <= window.bytes {
        out.extend(sighting(window, journal, Place { segment, offset: at }));
        at += BLOCK_BYTES as u64;
    }
}

/// What stands at a place, if that is a chunk that belongs there.
pub(crate) fn sighting(window: &mut Window<'_>, journal: JournalId, place: Place) -> Option<Sighting> {
    let (header, crc) = ChunkHeader::decode(window.get(place.offset, HEADER_BYTES)?, journal)?;
    // Host data may hold a copy of this very journal: a genuine chunk, in a place where it is nothing but payload.
    if !header.stands_at(place.segment.get(), place.offset) {
        return None;
    }
    let area_at = place.offset + HEADER_BYTES as u64;
    let body = window
        .get(area_at, header.body_header_len as usize)
        .and_then(|area| Body::decode(area, journal).ok())
        .filter(|body| fits(&header, body));
    let payload_at = area_at + u64::from(header.body_header_len);
    let notes = body.as_ref().map_or_else(Notes::default, |body| {
        Notes::collect(body, |offset, bytes| {
            window.get(payload_at + u64::from(offset), bytes as usize).map(<[u8]>::to_vec)
        })
    });
    let seen = Seen { witness: Witness::Segment, place, header, crc, body_ok: body.is_some(), payload_ok: false };
    Some(Sighting { seen, body: body.map(Arc::new), notes })
}

/// Whether the body is the one that the journal header names.
fn fits(header: &ChunkHeader, body: &Body) -> bool {
    body.digest == header.body_digest
        && body.header.header_len == header.body_header_len
        && body.header.payload_len == header.payload_len
        && header.first_position.plus(u64::from(body.header.records)) == header.next_position
}

/// What a footer is worth, beside the mark that says where its segment ends.
fn look(footer: Option<&Footer>, closing: Option<&TailMark>, sealed: bool) -> FooterSeen {
    match (footer, closing) {
        (Some(footer), Some(closing)) if footer.whole && footer.mark == *closing => FooterSeen::Whole,
        (Some(footer), Some(_)) => FooterSeen::Behind(footer.at),
        (None, Some(_)) => FooterSeen::Unreadable,
        // Where the next segment's header is lost nobody knows how far this one goes.
        (None, None) if sealed => FooterSeen::Unreadable,
        (_, None) => FooterSeen::NotNeeded,
    }
}

/// What a segment's footer says of its chunks, appended; nothing where it has none that can be read.
pub(crate) fn read_footer(file: &dyn DiskFile, journal: JournalId, segment: SegmentNumber, out: &mut Vec<Sighting>) {
    let footer = file.len().ok().and_then(|bytes| footer::read(file, bytes, journal, segment));
    if let Some(footer) = footer {
        vouched(footer, segment, Witness::Footer, out);
    }
}

/// Takes what a footer says of its segment's chunks.
fn vouched(footer: Footer, segment: SegmentNumber, witness: Witness, out: &mut Vec<Sighting>) {
    for footer::Entry { offset, header, crc, body, notes } in footer.entries {
        if header.stands_at(segment.get(), offset) && fits(&header, &body) {
            let place = Place { segment, offset };
            let seen = Seen { witness, place, header, crc, body_ok: true, payload_ok: false };
            out.push(Sighting { seen, body: Some(body), notes });
        }
    }
}

/// A file read through a window, so that neighbouring headers cost one read.
pub(crate) struct Window<'a> {
    file: &'a dyn DiskFile,
    /// Bytes of the file.
    bytes: u64,
    buffer: Aligned,
    start: u64,
    filled: usize,
}

impl<'a> Window<'a> {
    pub(crate) fn new(file: &'a dyn DiskFile, bytes: u64) -> Self {
        Self { file, bytes, buffer: Aligned::zeroed(0), start: 0, filled: 0 }
    }

    /// Bytes of the file; `None` where they end before `len`, or cannot be read.
    pub(crate) fn get(&mut self, offset: u64, len: usize) -> Option<&[u8]> {
        let end = offset.checked_add(len as u64).filter(|end| *end <= self.bytes)?;
        if offset < self.start || end > self.start + self.filled as u64 {
            self.fill(offset, len)?;
        }
        let from = usize::try_from(offset - self.start).ok()?;
        self.buffer[..self.filled].get(from..from + len)
    }

    fn fill(&mut self, offset: u64, len: usize) -> Option<()> {
        let start = offset - offset % BLOCK_BYTES as u64;
        let needed = (usize::try_from(offset - start).ok()? + len).next_multiple_of(BLOCK_BYTES);
        let generous = needed.max(WINDOW_BYTES);
        if self.buffer.len() < generous {
            self.buffer = Aligned::zeroed(generous);
        }
        self.filled = 0;
        // An unreadable place nearby must not hide a readable one: ask again for just what is needed.
        let read = self.file.read_at(&mut self.buffer[..generous], start);
        let read = read.or_else(|_| self.file.read_at(&mut self.buffer[..needed], start)).ok()?;
        (self.start, self.filled) = (start, read);
        Some(())
    }
}

/// What of a record's payload does not match its checksums.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordDamage {
    /// The record's place in the chunk.
    pub record: usize,
    /// Byte ranges of its payload.
    pub ranges: Vec<Range<usize>>,
}

/// Reads a chunk's payload and checks all of it. An error when it cannot be read at all.
pub(crate) fn payload_damage(file: &dyn DiskFile, place: Place, body: &Body) -> io::Result<Vec<RecordDamage>> {
    let len = body.header.payload_len as usize;
    let mut payload = Aligned::zeroed(len);
    let at = place.offset + HEADER_BYTES as u64 + u64::from(body.header.header_len);
    let read = if len == 0 { 0 } else { file.read_at(&mut payload, at)? };
    let mut damage = Vec::new();
    for (place, record) in body.records.iter().enumerate() {
        let start = record.descriptor.payload_offset as usize;
        let end = start + record.descriptor.payload_bytes as usize;
        let mut ranges = body.damaged_blocks(record, payload.get(start..end).unwrap_or(&[]));
        // What no point needs is not damaged.
        ranges.retain(|range| !file.lacks(at + (start + range.start) as u64..at + (start + range.end) as u64));
        if end > read && start < end {
            // Cut off by the end of the file: what is missing is damaged even if it happens to be zeros.
            let present = read.saturating_sub(start) / BLOCK_BYTES * BLOCK_BYTES;
            ranges.retain(|range| range.start < present);
            ranges.push(present..end - start);
        }
        if !ranges.is_empty() {
            damage.push(RecordDamage { record: place, ranges });
        }
    }
    Ok(damage)
}
