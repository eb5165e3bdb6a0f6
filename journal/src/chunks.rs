//! What is kept in memory of a journal's chunks: where each stands and which records it brought, not what they say.
//!
//! Owns the table, in order of position, and the sums that are asked for without reading a chunk again. Descriptions of
//! records and checksums of payloads are read from the segment when somebody needs them (`bodies`): memory does not
//! grow with what was written, only with how often.

use crate::checkpoint::{In, Out};
use crate::place::{Place, SegmentNumber};
use record::chunk::{Body, Descriptor};
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent, SECTOR_BYTES};
use record::header::{ChunkHeader, HEADER_BYTES};
use record::op::Op;
use record::position::{Position, Session, StreamSeq};
use std::ops::Range;
use std::sync::Arc;

/// A chunk that was just written, or has just been read: all of it but the payload.
#[derive(Debug)]
pub(crate) struct Chunk {
    pub place: Place,
    pub header: ChunkHeader,
    pub body: Arc<Body>,
}

/// A chunk of the journal, as it is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Kept {
    pub place: Place,
    /// Position of its first record.
    pub first: Position,
    /// The stream that it belongs to.
    pub session: Session,
    /// The stream number of its first record.
    pub first_seq: StreamSeq,
    pub records: u32,
    /// Bytes of the body's header area.
    pub area_bytes: u32,
    /// Bytes of the payload area.
    pub payload_bytes: u32,
    /// The body's digest.
    pub digest: u32,
    pub tally: Tally,
}

/// What the records of a chunk changed, in sums.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(crate) struct Tally {
    /// WRITE records.
    pub writes: u32,
    /// Bytes that they wrote.
    pub written_bytes: u32,
    /// PUNCH and ZERO records.
    pub punches: u32,
}

impl Tally {
    /// One more record.
    pub(crate) fn add(&mut self, op: Op, payload_bytes: u32) {
        match op {
            Op::Write => {
                self.writes += 1;
                self.written_bytes += payload_bytes;
            }
            Op::Punch | Op::Zero => self.punches += 1,
            Op::Flush
            | Op::Bookmark
            | Op::Noop
            | Op::Indeterminate
            | Op::ResyncBegin
            | Op::ResyncEnd
            | Op::Join
            | Op::Joined
            | Op::Leave
            | Op::Rollback
            | Op::BookmarkRemoved
            | Op::Recovery
            | Op::Commit
            | Op::SessionGranted
            | Op::SessionLost
            | Op::Barrier => {}
        }
    }
}

/// A block of a record's payload.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// Where it stands in the segment.
    pub bytes: Range<u64>,
    /// The sectors whose content it is.
    pub sectors: Extent,
}

impl Kept {
    fn of(chunk: &Chunk) -> Self {
        let mut tally = Tally::default();
        for record in &chunk.body.records {
            tally.add(record.descriptor.op, record.descriptor.payload_bytes);
        }
        let header = &chunk.body.header;
        Self {
            place: chunk.place,
            first: chunk.header.first_position,
            session: header.session,
            first_seq: header.first_seq,
            records: header.records,
            area_bytes: header.header_len,
            payload_bytes: header.payload_len,
            digest: chunk.body.digest,
            tally,
        }
    }

    /// For a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        out.u32(self.place.segment.get());
        out.u64(self.place.offset);
        out.position(self.first);
        out.u64(self.session.get());
        out.u64(self.first_seq.get());
        out.u32(self.records);
        out.u32(self.area_bytes);
        out.u32(self.payload_bytes);
        out.u32(self.digest);
        out.u32(self.tally.writes);
        out.u32(self.tally.written_bytes);
        out.u32(self.tally.punches);
    }

    /// From a checkpoint.
    pub(crate) fn restore(input: &mut In<'_>) -> Option<Self> {
        Some(Self {
            place: Place { segment: SegmentNumber::new(input.u32()?), offset: input.u64()? },
            first: input.position()?,
            session: Session::new(input.u64()?),
            first_seq: StreamSeq::new(input.u64()?),
            records: input.u32()?,
            area_bytes: input.u32()?,
            payload_bytes: input.u32()?,
            digest: input.u32()?,
            tally: Tally { writes: input.u32()?, written_bytes: input.u32()?, punches: input.u32()? },
        })
    }

    /// Bytes of it on disk, headers included.
    pub(crate) fn disk_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + u64::from(self.area_bytes) + u64::from(self.payload_bytes)
    }

    /// The position behind its last record.
    pub(crate) fn next(&self) -> Position {
        self.first.plus(u64::from(self.records))
    }

    /// The stream number behind its last record.
    pub(crate) fn next_seq(&self) -> StreamSeq {
        self.first_seq.plus(u64::from(self.records))
    }

    /// Where the body's header area starts.
    pub(crate) fn area_at(&self) -> Place {
        Place { offset: self.place.offset + HEADER_BYTES as u64, ..self.place }
    }

    /// Where the payload area starts.
    pub(crate) fn payload_at(&self) -> Place {
        Place { offset: self.area_at().offset + u64::from(self.area_bytes), ..self.place }
    }

    /// The blocks of a record's payload, each with one checksum, that these of its sectors lie in.
    pub(crate) fn blocks(&self, of: &Descriptor, sectors: Extent) -> Vec<Block> {
        let Some(written) = of.extent.filter(|_| of.payload_bytes > 0) else { return Vec::new() };
        let start = written.start().index();
        let payload_at = self.payload_at().offset + u64::from(of.payload_offset);
        let first = sectors.start().index().saturating_sub(start) / BLOCK_SECTORS;
        let end = sectors.end().min(written.end()).saturating_sub(start).div_ceil(BLOCK_SECTORS);
        let block = |n: u64| {
            let (from, to) = (n * BLOCK_SECTORS, ((n + 1) * BLOCK_SECTORS).min(written.count().get()));
            let sectors = Extent::between(start + from, start + to)?;
            Some(Block { bytes: payload_at + from * SECTOR_BYTES..payload_at + to * SECTOR_BYTES, sectors })
        };
        (first..end).filter_map(block).collect()
    }

    /// Whether this is the body's header area that belongs here.
    pub(crate) fn is_of(&self, body: &Body) -> bool {
        let header = &body.header;
        body.digest == self.digest
            && header.session == self.session
            && header.first_seq == self.first_seq
            && header.records == self.records
            && header.payload_len == self.payload_bytes
    }
}

const _: () = assert!(BLOCK_BYTES == HEADER_BYTES, "a header area starts on a block");

/// All chunks, in order of position. Between two of them positions may be missing: what they were is lost.
#[derive(Debug, Default)]
pub(crate) struct Chunks(Vec<Kept>);

impl Chunks {
    /// The next chunk.
    pub(crate) fn push(&mut self, chunk: &Chunk) {
        self.0.push(Kept::of(chunk));
    }

    /// One that a checkpoint knows.
    pub(crate) fn push_kept(&mut self, chunk: Kept) {
        self.0.push(chunk);
    }

    /// Those of segments before this one are not there any more; answers with them.
    pub(crate) fn forget(&mut self, segment: SegmentNumber) -> Vec<Kept> {
        let old = self.0.partition_point(|chunk| chunk.place.segment < segment);
        self.0.drain(..old).collect()
    }

    /// Those whose first position is this one or a later one.
    pub(crate) fn behind(&self, position: Position) -> &[Kept] {
        let from = self.0.partition_point(|chunk| chunk.first < position);
        self.0.get(from..).unwrap_or(&[])
    }

    /// Those of each segment, oldest first.
    pub(crate) fn by_segment(&self) -> impl Iterator<Item = &[Kept]> {
        self.0.chunk_by(|a, b| a.place.segment == b.place.segment)
    }

    /// How many.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// The chunk that holds a record, and the record's place in it; `None` when it is lost, or still to come.
    pub(crate) fn holding(&self, position: Position) -> Option<(Kept, usize)> {
        let at = self.0.partition_point(|chunk| chunk.first <= position).checked_sub(1)?;
        let chunk = self.0.get(at)?;
        let record = position.get() - chunk.first.get();
        (record < u64::from(chunk.records)).then_some((*chunk, usize::try_from(record).ok()?))
    }

    /// From the newest to the oldest.
    pub(crate) fn newest_first(&self) -> impl Iterator<Item = &Kept> {
        self.0.iter().rev()
    }

    /// Those that hold a position from `first` to `last`, in order.
    pub(crate) fn within(&self, first: Position, last: Position) -> &[Kept] {
        let from = self.0.partition_point(|chunk| chunk.next() <= first);
        let to = self.0.partition_point(|chunk| chunk.first <= last);
        self.0.get(from..to).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests;
