//! The chunks of a journal as they stand on disk, found without the engine.
//!
//! A second, simpler reader: it follows the chunks of each segment from one to the next, looks at every 4 KiB where one
//! is missing, and lets a later life of the tail replace what an earlier one left unfinished. Owns that walk and
//! nothing else; which positions count is the engine's to say. Never writes, never decides about damage.

use journal::place::{Place, SEGMENTS, SegmentNumber};
use record::chunk::Body;
use record::geometry::BLOCK_BYTES;
use record::header::{ChunkHeader, HEADER_BYTES};
use record::ids::JournalId;
use record::position::{ChunkNumber, JournalEpoch, Position};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Where the first chunk of a segment stands: behind the segment's own header.
const FIRST_CHUNK_AT: u64 = BLOCK_BYTES as u64;

/// One stretch of the history, in order of position.
#[derive(Debug)]
pub enum Found {
    /// A chunk whose headers are whole.
    Chunk(Box<Chunk>),
    /// Nothing readable where chunks must have been.
    Lost {
        /// Where it begins.
        place: Place,
        /// The positions that they held, first and last.
        positions: (Position, Position),
    },
}

/// A chunk.
#[derive(Debug)]
pub struct Chunk {
    /// Where its journal header stands.
    pub place: Place,
    /// That header.
    pub header: ChunkHeader,
    /// The body's header area.
    pub body: Body,
}

impl Chunk {
    /// Where the payload area starts in the segment, in bytes.
    pub fn payload_at(&self) -> u64 {
        self.place.offset + HEADER_BYTES as u64 + u64::from(self.header.body_header_len)
    }
}

/// Behind the last chunk that was found.
#[derive(Clone, Copy)]
struct Behind {
    epoch: JournalEpoch,
    number: ChunkNumber,
    position: Position,
}

/// Every chunk of a journal's directory.
pub fn walk(directory: &Path, journal: JournalId) -> io::Result<Vec<Found>> {
    let mut numbers: Vec<SegmentNumber> = Vec::new();
    for entry in std::fs::read_dir(directory.join(SEGMENTS))? {
        numbers.extend(entry?.file_name().to_str().and_then(SegmentNumber::of_file));
    }
    numbers.sort_unstable();
    let mut walk = Walk { journal, found: Vec::new(), broken_at: None };
    for number in numbers {
        let file = File::open(directory.join(number.file()))?;
        walk.segment(&file, number)?;
    }
    Ok(walk.found)
}

struct Walk {
    journal: JournalId,
    found: Vec<Found>,
    /// Where the chain broke, until it is found again.
    broken_at: Option<Place>,
}

impl Walk {
    fn segment(&mut self, file: &File, segment: SegmentNumber) -> io::Result<()> {
        let bytes = file.metadata()?.len();
        let mut offset = FIRST_CHUNK_AT;
        let mut head = vec![0; HEADER_BYTES];
        while offset + HEADER_BYTES as u64 <= bytes {
            let place = Place { segment, offset };
            // Sectors that the disk cannot read are as good as damaged.
            let header =
                file.read_exact_at(&mut head, offset).ok().and_then(|()| ChunkHeader::decode(&head, self.journal));
            match header {
                Some((header, _)) if header.stands_at(segment.get(), offset) && self.follows(&header) => {
                    let body = body(file, place, &header);
                    self.take(place, &header, body);
                    offset += header.disk_bytes();
                }
                Some(_) | None => {
                    self.broken_at.get_or_insert(place);
                    offset += BLOCK_BYTES as u64;
                }
            }
        }
        Ok(())
    }

    fn behind(&self) -> Behind {
        match self.found.iter().rev().find_map(|found| match found {
            Found::Chunk(chunk) => Some(&chunk.header),
            Found::Lost { .. } => None,
        }) {
            Some(last) => Behind { epoch: last.epoch, number: last.number.next(), position: last.next_position },
            None => Behind { epoch: JournalEpoch::new(0), number: ChunkNumber::FIRST, position: Position::FIRST },
        }
    }

    /// Whether a chunk may stand behind those found: a later one of the same life, or any of a later life.
    fn follows(&self, header: &ChunkHeader) -> bool {
        let behind = self.behind();
        header.epoch > behind.epoch
            || (header.epoch == behind.epoch
                && header.number >= behind.number
                && header.first_position >= behind.position)
    }

    fn take(&mut self, place: Place, header: &ChunkHeader, body: Option<Body>) {
        // What an earlier life left unfinished from here on was cut off.
        let first = header.first_position;
        self.found.retain(|found| match found {
            Found::Chunk(chunk) => chunk.header.number < header.number,
            Found::Lost { positions, .. } => positions.1 < first,
        });
        let behind = self.behind().position.max(self.lost_up_to());
        if let Some(last) = first.previous().filter(|last| *last >= behind) {
            self.found.push(Found::Lost { place: self.broken_at.unwrap_or(place), positions: (behind, last) });
        }
        self.broken_at = None;
        match (body, header.next_position.previous()) {
            (Some(body), _) => self.found.push(Found::Chunk(Box::new(Chunk { place, header: *header, body }))),
            (None, Some(last)) if last >= first => self.found.push(Found::Lost { place, positions: (first, last) }),
            (None, _) => {}
        }
    }

    /// The position behind what is known to be lost at the end.
    fn lost_up_to(&self) -> Position {
        match self.found.last() {
            Some(Found::Lost { positions, .. }) => positions.1.next(),
            Some(Found::Chunk(_)) | None => Position::ORIGIN,
        }
    }
}

/// The body's header area, if it is the one that the journal header names.
fn body(file: &File, place: Place, header: &ChunkHeader) -> Option<Body> {
    let mut area = vec![0; header.body_header_len as usize];
    file.read_exact_at(&mut area, place.offset + HEADER_BYTES as u64).ok()?;
    let body = Body::decode(&area, header.journal).ok()?;
    let records = header.first_position.plus(u64::from(body.header.records));
    (body.digest == header.body_digest && records == header.next_position).then_some(body)
}
