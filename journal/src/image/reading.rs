//! One read of an image: what it needs of the log, fetched in log order, and every block checked before it is served.
//!
//! Owns the way from pieces to bytes. What lies side by side in a segment is fetched at once, wherever it belongs in the
//! volume, so that whoever reads from one end to the other reads the log the same way; several fetches may be under way
//! together, done by whoever has a ring for it. Whole blocks go straight to where they are wanted. Deliberately knows no
//! ring and no device; what nobody has fetched by the time that it is needed is read here.

use super::{Image, byte_index, byte_len};
use crate::aligned::Aligned;
use crate::chunks::Kept;
use crate::device::DiskFile;
use crate::error::{Cause, ReadFailure};
use crate::lock::read;
use crate::place::SegmentNumber;
use crate::recovery::{Damage, DamageKind};
use crate::state::{Piece, Source};
use record::checksum::Salt;
use record::chunk::{Body, block_crc};
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

/// Most bytes of one fetch of several pieces.
const FETCH_BYTES_MAX: u64 = 1 << 20;
/// Most bytes that are fetched though nobody needs them, between two that are.
const GAP_BYTES_MAX: u64 = 16 << 10;

/// A read that has begun: it knows what it needs.
#[derive(Debug)]
pub struct Reading {
    image: Image,
    volume: Incarnation,
    extent: Extent,
    parts: Vec<Part>,
    fetches: Vec<Fetch>,
}

/// A piece, and where its bytes come from.
#[derive(Debug)]
struct Part {
    piece: Piece,
    wanted: Option<Wanted>,
}

/// Whole blocks of one record's payload.
#[derive(Debug)]
struct Wanted {
    chunk: Kept,
    record: usize,
    /// What the chunk's records say; an error where that cannot be read.
    body: io::Result<Arc<Body>>,
    /// Where they stand in the segment.
    bytes: Range<u64>,
    /// Which fetch brings them.
    fetch: usize,
}

/// Bytes of one segment, whole blocks at a block's boundary.
#[derive(Debug)]
struct Fetch {
    file: io::Result<Arc<dyn DiskFile>>,
    segment: SegmentNumber,
    bytes: Range<u64>,
    /// How many pieces it is for.
    pieces: usize,
    /// The part of the read's buffer that it fills exactly, if it does.
    straight: Option<Range<usize>>,
    /// What it fills otherwise.
    memory: Option<Aligned>,
    outcome: Option<io::Result<usize>>,
}

/// Where the bytes of a piece are once they are fetched.
#[derive(Clone, Copy, Debug)]
enum Found<'f> {
    /// Where they are wanted, so many of them.
    InPlace(usize),
    /// Here, from the first block that is needed on.
    Elsewhere(&'f [u8]),
}

/// A read that somebody does: the file's descriptor, where in it, and the memory to fill.
pub type Direct<'r> = (BorrowedFd<'r>, u64, &'r mut [u8]);

impl Fetch {
    /// Where it is to be read from and to, if somebody else can. `straight`: its part of the buffer.
    fn direct<'r>(&'r mut self, straight: Option<&'r mut [u8]>) -> Option<Direct<'r>> {
        let fd = self.file.as_ref().ok()?.descriptor()?;
        let memory = match straight {
            Some(straight) => straight,
            None => self.memory.get_or_insert_with(|| Aligned::zeroed(byte_len(self.bytes.end - self.bytes.start))),
        };
        Some((fd, self.bytes.start, memory))
    }

    fn fetch(&mut self, buffer: &mut [u8]) {
        if self.outcome.is_some() {
            return;
        }
        let memory = match self.straight.clone().and_then(|straight| buffer.get_mut(straight)) {
            Some(straight) => straight,
            None => self.memory.get_or_insert_with(|| Aligned::zeroed(byte_len(self.bytes.end - self.bytes.start))),
        };
        self.outcome = Some(match &self.file {
            Ok(file) => file.read_at(memory, self.bytes.start),
            Err(error) => Err(io::Error::new(error.kind(), error.to_string())),
        });
    }

    /// How many bytes from the beginning on are there.
    fn read(&self) -> Result<usize, String> {
        match &self.outcome {
            Some(Ok(read)) => Ok(*read),
            Some(Err(error)) => Err(error.to_string()),
            None => Ok(0),
        }
    }

    /// The bytes that stand there in the segment; fewer where it ends before.
    fn part(&self, wanted: &Range<u64>) -> Result<Found<'_>, String> {
        let (from, to) = (byte_len(wanted.start - self.bytes.start), byte_len(wanted.end - self.bytes.start));
        let to = to.min(self.read()?);
        if self.straight.is_some() {
            return Ok(Found::InPlace(to.saturating_sub(from)));
        }
        let memory = self.memory.as_deref().unwrap_or(&[]);
        Ok(Found::Elsewhere(memory.get(from..to).unwrap_or(&[])))
    }
}

/// What could not be read, while a read goes on.
#[derive(Default)]
struct Refused {
    extents: Vec<Extent>,
    cause: Option<Cause>,
}

impl Refused {
    fn add(&mut self, extent: Extent, cause: Cause) {
        self.extents.push(extent);
        self.cause.get_or_insert(cause);
    }
}

/// How reading a record ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    /// What can be read was.
    Done,
    /// The record has been given back meanwhile: the replica holds what it wrote.
    Gone,
}

impl Reading {
    /// A read of an extent whose pieces these are.
    pub(super) fn of(image: &Image, volume: Incarnation, extent: Extent, pieces: Vec<Piece>) -> Self {
        let core = image.core();
        let mut parts: Vec<Part> = Vec::with_capacity(pieces.len());
        for piece in pieces {
            let wanted = match &piece.source {
                Source::Log { chunk, record } => {
                    let before = parts.last().and_then(|part| part.wanted.as_ref());
                    let body = match before {
                        // Records of one chunk come one behind the other where a host wrote so.
                        Some(Wanted { chunk: before, body: Ok(body), .. }) if before.place == chunk.place => {
                            Ok(body.clone())
                        }
                        Some(_) | None => core.bodies.of(&core.files, chunk),
                    };
                    let bytes = body.as_ref().map_or(0..0, |body| payload(chunk, body, *record, piece.extent));
                    Some(Wanted { chunk: *chunk, record: *record, body, bytes, fetch: 0 })
                }
                Source::Zero | Source::Hole | Source::Base | Source::Lost { .. } => None,
            };
            parts.push(Part { piece, wanted });
        }
        let fetches = fetches(image, extent, &mut parts);
        Self { image: image.clone(), volume, extent, parts, fetches }
    }

    /// What can be read by whoever likes to, in log order, each with its number; some of it into the buffer, which is as
    /// long as the extent and the very one that `finish` gets. `done` is to be told of each; what nobody reads is read by
    /// `finish`.
    pub fn direct<'r>(&'r mut self, buffer: &'r mut [u8]) -> Vec<(usize, Direct<'r>)> {
        assert_eq!(buffer.len() as u64, self.extent.bytes(), "the buffer has the extent's length");
        if !Aligned::is_aligned(buffer) {
            // Nothing goes straight to where direct I/O does not reach.
            self.fetches.iter_mut().for_each(|fetch| fetch.straight = None);
        }
        // Most often it is one.
        if self.fetches.len() == 1 {
            let fetch = &mut self.fetches[0];
            let straight = fetch.straight.clone().map(|straight| &mut buffer[straight]);
            return fetch.direct(straight).map(|direct| (0, direct)).into_iter().collect();
        }
        // Each gets its part of the buffer, which come in the volume's order and not in the log's.
        let mut order: Vec<usize> = (0..self.fetches.len()).filter(|n| self.fetches[*n].straight.is_some()).collect();
        order.sort_by_key(|n| self.fetches[*n].straight.as_ref().map(|straight| straight.start));
        let mut straight: Vec<Option<&mut [u8]>> = Vec::new();
        straight.resize_with(self.fetches.len(), || None);
        let (mut rest, mut at) = (buffer, 0);
        for n in order {
            let Some(range) = self.fetches[n].straight.clone() else { continue };
            let (_, behind) = rest.split_at_mut(range.start - at);
            let (own, behind) = behind.split_at_mut(range.len());
            straight[n] = Some(own);
            (rest, at) = (behind, range.end);
        }
        let each = self.fetches.iter_mut().zip(straight).enumerate();
        each.filter_map(|(n, (fetch, straight))| Some((n, fetch.direct(straight)?))).collect()
    }

    /// How the read with this number ended: bytes from the beginning on.
    pub fn done(&mut self, number: usize, outcome: io::Result<usize>) {
        if let Some(fetch) = self.fetches.get_mut(number) {
            fetch.outcome = Some(outcome);
        }
    }

    /// Fills the buffer, as long as the extent. On a failure it holds the right bytes outside of `ReadFailure::damaged`
    /// and zeros inside.
    pub fn finish(mut self, buffer: &mut [u8]) -> Result<(), ReadFailure> {
        assert_eq!(buffer.len() as u64, self.extent.bytes(), "the buffer has the extent's length");
        let aligned = Aligned::is_aligned(buffer);
        for fetch in &mut self.fetches {
            fetch.straight = fetch.straight.take().filter(|_| aligned || fetch.outcome.is_some());
            fetch.fetch(buffer);
        }
        let core = self.image.core();
        let position = self.image.at().position;
        let mut refused = Refused::default();
        for Part { piece, wanted } in &self.parts {
            let from = byte_index(piece.extent.start().index() - self.extent.start().index());
            let part = &mut buffer[from..from + byte_index(piece.extent.count().get())];
            match (&piece.source, wanted) {
                (Source::Log { .. }, Some(wanted)) => {
                    let read = self.take(piece, wanted, part, &mut refused);
                    if read == Read::Gone
                        && let Err(failure) = self.image.read(self.volume, piece.extent, part)
                    {
                        failure.damaged.iter().for_each(|extent| refused.add(*extent, failure.cause.clone()));
                    }
                }
                (Source::Base, _) => {
                    let read = core.read_base(self.volume, piece.extent, part);
                    if let Err(error) = read.and_then(|()| core.still_holds(position)) {
                        part.fill(0);
                        refused.add(piece.extent, Cause::Replica { error });
                    }
                }
                (Source::Lost { first, last }, _) => {
                    part.fill(0);
                    refused.add(piece.extent, Cause::LostRecords { first: *first, last: *last });
                }
                (Source::Zero | Source::Hole | Source::Log { .. }, _) => part.fill(0),
            }
        }
        match refused.cause {
            None => Ok(()),
            Some(cause) => {
                let damaged = crate::index::normalise(refused.extents);
                Err(ReadFailure { volume: self.volume, position, damaged, cause })
            }
        }
    }

    /// Checks and takes a run of sectors that one record wrote. Its payload is checked in blocks of 4 KiB from its own
    /// start, so whole blocks are there.
    fn take(&self, piece: &Piece, wanted: &Wanted, part: &mut [u8], refused: &mut Refused) -> Read {
        let core = &**self.image.core();
        let chunk = &wanted.chunk;
        let is_gone = || read(&core.state).retained().distributed >= piece.position;
        let body = match &wanted.body {
            Ok(body) => body,
            Err(_) if is_gone() => return Read::Gone,
            Err(error) => {
                part.fill(0);
                self.without_body(piece, chunk, error, refused);
                return Read::Done;
            }
        };
        let written = &body.records[wanted.record];
        let descriptor = &written.descriptor;
        let record_start = descriptor.extent.map_or(0, |extent| extent.start().index());
        let skipped = byte_index(piece.extent.start().index() - record_start);
        let payload_at = chunk.payload_at().offset + u64::from(descriptor.payload_offset);
        let block_start = byte_len(wanted.bytes.start - payload_at);
        let payload = descriptor.payload_bytes as usize;
        let wanted_end = skipped + part.len();
        let alone;
        let fetch = self.fetches.get(wanted.fetch);
        let (found, error) = match fetch.map_or(Ok(Found::Elsewhere(&[])), |fetch| fetch.part(&wanted.bytes)) {
            Ok(found) => (found, None),
            // Another piece's bytes may be what cannot be read.
            Err(error) if fetch.is_some_and(|fetch| fetch.pieces > 1) => {
                alone = core.read_segment(chunk.place.segment, wanted.bytes.clone());
                match &alone {
                    Ok(bytes) => (Found::Elsewhere(bytes), None),
                    Err(_) => (Found::Elsewhere(&[]), Some(error)),
                }
            }
            Err(error) => (Found::Elsewhere(&[]), Some(error)),
        };
        let salt = Salt::of(core.id);
        let mut at = block_start;
        let mut damaged = Vec::new();
        while at < wanted_end {
            let end = (at + BLOCK_BYTES).min(payload);
            let index = at / BLOCK_BYTES;
            // The sectors of this block that are wanted, relative to the record's start, in bytes.
            let (from, to) = (at.max(skipped), end.min(wanted_end));
            let target = &mut part[from - skipped..to - skipped];
            let is_good = |block: &&[u8]| {
                written.crcs.get(index).is_some_and(|crc| {
                    block_crc(salt, block, descriptor.volume, record_start, index, chunk.session) == *crc
                })
            };
            let good = match found {
                // Whole blocks, or the record's end.
                Found::InPlace(there) => end - block_start <= there && is_good(&&*target),
                Found::Elsewhere(bytes) => match bytes.get(at - block_start..end - block_start).filter(is_good) {
                    Some(block) => {
                        target.copy_from_slice(&block[from - at..to - at]);
                        true
                    }
                    None => false,
                },
            };
            if !good && is_gone() {
                return Read::Gone;
            }
            if !good {
                target.fill(0);
                let there = payload_at + at as u64..payload_at + end as u64;
                let given_up = core.files.segment(chunk.place.segment).is_ok_and(|file| file.lacks(there));
                let sectors = |bytes: usize| record_start + bytes as u64 / SECTOR_BYTES;
                let place = chunk.place.to_string();
                let cause = match &error {
                    // Not for a point: the mistake is ours, and what it shows is nothing.
                    _ if given_up => {
                        let error = "no point shows it, and it was given up".into();
                        Cause::Unreadable { position: piece.position, place, error }
                    }
                    Some(error) => Cause::Unreadable { position: piece.position, place, error: error.clone() },
                    None => Cause::Checksum { position: piece.position, place },
                };
                if let Some(extent) = Extent::between(sectors(from), sectors(to)) {
                    refused.add(extent, cause);
                }
                if !given_up {
                    damaged.extend(Extent::between(sectors(at), sectors(end)));
                }
            }
            at = end;
        }
        if let Some(first) = damaged.first() {
            let into = (first.start().index() - record_start) * SECTOR_BYTES;
            let damage = Damage {
                place: crate::place::Place { offset: payload_at + into, ..chunk.place },
                bytes: damaged.iter().map(|extent| extent.bytes()).sum(),
                kind: DamageKind::Payload,
                positions: Some((piece.position, piece.position)),
                extents: crate::index::normalise(damaged).into_iter().map(|extent| (self.volume, extent)).collect(),
                extents_known: true,
                note_lost: false,
            };
            core.note_damage(self.volume, &damage);
        }
        Read::Done
    }

    /// What the chunk says of its records cannot be read.
    fn without_body(&self, piece: &Piece, chunk: &Kept, error: &io::Error, refused: &mut Refused) {
        let place = chunk.place.to_string();
        let position = piece.position;
        let cause = match error.kind() {
            // It can be read, and is not what was written.
            ErrorKind::InvalidData => Cause::Checksum { position, place },
            _ => Cause::Unreadable { position, place, error: error.to_string() },
        };
        refused.add(piece.extent, cause);
        let damage = Damage {
            place: chunk.area_at(),
            bytes: u64::from(chunk.area_bytes),
            kind: DamageKind::ChunkHeader,
            positions: Some((position, position)),
            extents: vec![(self.volume, piece.extent)],
            extents_known: true,
            note_lost: false,
        };
        self.image.core().note_damage(self.volume, &damage);
    }
}

/// Where the blocks of a record's payload stand that these of its sectors lie in.
fn payload(chunk: &Kept, body: &Body, record: usize, sectors: Extent) -> Range<u64> {
    let descriptor = &body.records[record].descriptor;
    let record_start = descriptor.extent.map_or(0, |extent| extent.start().index());
    let skipped = sectors.start().index() - record_start;
    let from = skipped / BLOCK_SECTORS * BLOCK_BYTES as u64;
    let to = ((skipped + sectors.count().get()) * SECTOR_BYTES).next_multiple_of(BLOCK_BYTES as u64);
    let at = chunk.payload_at().offset + u64::from(descriptor.payload_offset);
    at + from..at + to.min(u64::from(descriptor.payload_bytes))
}

/// What brings the parts' bytes, in log order; each part learns which one is its own.
fn fetches(image: &Image, extent: Extent, parts: &mut [Part]) -> Vec<Fetch> {
    let block = BLOCK_BYTES as u64;
    let mut all: Vec<(Range<usize>, &mut Wanted)> = Vec::with_capacity(parts.len());
    for Part { piece, wanted } in parts {
        if let Some(wanted) = wanted.as_mut().filter(|wanted| !wanted.bytes.is_empty()) {
            let from = byte_index(piece.extent.start().index() - extent.start().index());
            all.push((from..from + byte_index(piece.extent.count().get()), wanted));
        }
    }
    all.sort_by_key(|(_, wanted)| (wanted.chunk.place.segment, wanted.bytes.start));
    let mut fetches: Vec<Fetch> = Vec::new();
    for (place, wanted) in all {
        let segment = wanted.chunk.place.segment;
        let (from, to) = (wanted.bytes.start - wanted.bytes.start % block, wanted.bytes.end.next_multiple_of(block));
        // Whole blocks of the segment that are all wanted, at a block's boundary of the buffer.
        let whole = (from..to) == wanted.bytes && place.len() as u64 == to - from && place.start % BLOCK_BYTES == 0;
        match fetches.last_mut() {
            Some(last)
                if last.segment == segment
                    && from <= last.bytes.end + GAP_BYTES_MAX
                    && to.max(last.bytes.end) - last.bytes.start <= FETCH_BYTES_MAX =>
            {
                let follows = whole && from == last.bytes.end;
                last.straight = match last.straight.take() {
                    Some(before) if follows && before.end == place.start => Some(before.start..place.end),
                    Some(_) | None => None,
                };
                last.bytes.end = last.bytes.end.max(to);
                last.pieces += 1;
            }
            Some(_) | None => {
                let file = image.core().files.segment(segment);
                let straight = whole.then_some(place);
                let (memory, outcome) = (None, None);
                fetches.push(Fetch { file, segment, bytes: from..to, pieces: 1, straight, memory, outcome });
            }
        }
        wanted.fetch = fetches.len() - 1;
    }
    fetches
}
