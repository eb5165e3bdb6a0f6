//! One chunk's headers as few bytes: what can be told from the chunk before it, or from the rest, is not written.
//!
//! Numbers are LEB128, signed ones zigzag. A chunk: blocks between the end of the one before and its own start, epoch,
//! number, first position, committed, label; the checksums of the journal header, of the one before and of the body (4
//! bytes each); the words of the streams' table that changed; then the body's session, first number and payload length;
//! then its records; then its notes. A record: operation, flags, volume, where it starts against the end of the one
//! before, sectors, label and wall clock against the one before, where its payload lies against where it would, bytes
//! of it where the extent does not say; then its checksums.
//!
//! Owns these bytes. What is unpacked is built again byte for byte and given to the one decoder of `record`: it proves
//! itself by the digest of the body and the checksum of the header. Takes hostile bytes.

use super::Entry;
use crate::mark::u32_at;
use crate::notes::{self, Notes};
use record::checksum::Salt;
use record::chunk::{
    Body, BodyHeader, CRC_BYTES, DESCRIPTOR_BYTES, Descriptor, FIXED_BYTES, HEADER_BYTES_MAX, NOTE_BYTES_MAX,
    header_len, place_payload,
};
use record::geometry::{BLOCK_BYTES, Extent};
use record::header::ChunkHeader;
use record::ids::{Incarnation, JournalId};
use record::op::{Op, OpFlags};
use record::position::{ChunkNumber, JournalEpoch, Label, Position, Session, StreamSeq};
use record::streams::{STREAMS_BYTES, Streams};

/// Most bytes that a chunk takes beside its records.
const CHUNK_BYTES_MAX: u64 = 160 + STREAMS_BYTES as u64 / 8 * 9;
/// Most bytes that a record takes beside its checksums.
const RECORD_BYTES_MAX: usize = 64;
// Operation, flags, volume, start, sectors, label, wall clock, bytes, place; and a checksum where there is one only.
const _: () = assert!(1 + 1 + 5 + 10 + 10 + 10 + 5 + 5 + 10 + CRC_BYTES <= RECORD_BYTES_MAX);
/// Beyond where any chunk starts.
const OFFSET_MAX: u64 = crate::Create::SEGMENT_BYTES_MAX + (1 << 30);
const WORD: usize = 8;
/// What a chunk takes, and a record, but for rare ones.
const PACKED_BYTES: usize = 128;
const PACKED_RECORD_BYTES: usize = 32;
/// Words of the table of streams: the first is its length, so one byte counts them.
const WORDS: usize = STREAMS_BYTES / WORD;

/// What both sides know of the chunk before.
#[derive(Clone, Debug)]
pub(super) struct Context {
    /// Where it ends, in bytes.
    end: u64,
    streams: [u8; STREAMS_BYTES],
}

impl Context {
    /// In front of a segment's first chunk.
    pub(super) fn start() -> Self {
        Self { end: crate::segment::FIRST_CHUNK_AT, streams: Streams::NONE.encode() }
    }

    fn advance(&mut self, offset: u64, header: &ChunkHeader, streams: &[u8; STREAMS_BYTES]) {
        self.end = offset.saturating_add(header.disk_bytes());
        self.streams = *streams;
    }
}

/// More than `pack` will ever make of a chunk.
pub(super) fn packed_bytes_max(body: &Body) -> u64 {
    let notes = body.records.iter().filter(|record| notes::has_note(record));
    CHUNK_BYTES_MAX
        + u64::from(body.header.records) * RECORD_BYTES_MAX as u64
        + u64::from(body.header.crcs) * CRC_BYTES as u64
        + notes.map(|record| u64::from(record.descriptor.payload_bytes)).sum::<u64>()
}

/// What is told of a chunk; see [`Entry`].
pub(super) struct Told<'c> {
    pub offset: u64,
    pub header: &'c ChunkHeader,
    pub crc: u32,
    pub body: &'c Body,
    pub notes: &'c Notes,
}

/// Appends a chunk.
pub(super) fn pack(out: &mut Vec<u8>, context: &mut Context, told: &Told<'_>) {
    let Told { offset, header, crc, body, notes } = told;
    // What nearly all chunks are below: growing byte by byte costs more than the bytes.
    out.reserve(PACKED_BYTES + PACKED_RECORD_BYTES * body.records.len());
    signed(out, delta(context.end / BLOCK_BYTES as u64, *offset / BLOCK_BYTES as u64));
    unsigned(out, header.epoch.get());
    unsigned(out, header.number.get());
    unsigned(out, header.first_position.get());
    unsigned(out, header.committed.get());
    unsigned(out, header.label.nanos());
    for word in [*crc, header.previous, header.body_digest] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let streams = header.streams.encode();
    // Behind the longer of the two there are only zeros.
    let used = Streams::bytes_used(&streams).max(Streams::bytes_used(&context.streams));
    let words = streams[..used].as_chunks::<WORD>().0.iter().zip(context.streams.as_chunks::<WORD>().0).enumerate();
    let changed = words.filter(|(_, (now, before))| u64::from_le_bytes(**now) != u64::from_le_bytes(**before));
    unsigned(out, changed.clone().count() as u64);
    for (i, (now, _)) in changed {
        unsigned(out, i as u64);
        out.extend_from_slice(now);
    }
    context.advance(*offset, header, &streams);
    unsigned(out, body.header.session.get());
    unsigned(out, body.header.first_seq.get());
    unsigned(out, u64::from(body.header.records));
    unsigned(out, u64::from(body.header.payload_len / BLOCK_BYTES_U32));
    let mut before = Before::of(header.label);
    for record in &body.records {
        let d = &record.descriptor;
        let mut packed = Packed::default();
        packed.byte(d.op.to_u8());
        packed.byte(d.flags.bits());
        packed.unsigned(u64::from(d.volume.get()));
        if let Some(extent) = d.extent {
            packed.signed(delta(before.end, extent.start().index()));
            packed.unsigned(extent.count().get());
        }
        packed.signed(delta(before.label, d.label.nanos()));
        packed.signed(i64::from(d.wall_minus_label_ms) - i64::from(before.wall));
        if d.op != Op::Write {
            packed.unsigned(u64::from(d.payload_bytes));
        }
        packed.signed(delta(before.place(d.payload_bytes), u64::from(d.payload_offset)));
        // What most records have.
        if let [crc] = &*record.crcs {
            crc.to_le_bytes().into_iter().for_each(|byte| packed.byte(byte));
            out.extend_from_slice(packed.bytes());
        } else {
            out.extend_from_slice(packed.bytes());
            out.extend(record.crcs.iter().flat_map(|crc| crc.to_le_bytes()));
        }
        before.advance(d);
    }
    out.extend_from_slice(&notes.concatenated(body));
}

const BLOCK_BYTES_U32: u32 = 4096;
const _: () = assert!(BLOCK_BYTES_U32 as usize == BLOCK_BYTES);

/// What both sides know of the record before.
struct Before {
    end: u64,
    label: u64,
    wall: i32,
    payload_end: usize,
}

impl Before {
    fn of(label: Label) -> Self {
        Self { end: 0, label: label.nanos(), wall: 0, payload_end: 0 }
    }

    /// Where a builder that packs records tightly puts the next payload.
    fn place(&self, bytes: u32) -> u64 {
        if bytes == 0 { 0 } else { place_payload(self.payload_end, bytes as usize) as u64 }
    }

    fn advance(&mut self, d: &Descriptor) {
        self.end = d.extent.map_or(self.end, Extent::end);
        (self.label, self.wall) = (d.label.nanos(), d.wall_minus_label_ms);
        if d.payload_bytes > 0 {
            self.payload_end = d.payload_offset as usize + d.payload_bytes as usize;
        }
    }
}

/// Reads the next chunk; `None` where the bytes are none.
pub(super) fn unpack(bytes: &mut &[u8], context: &mut Context, journal: JournalId, segment: u32) -> Option<Entry> {
    let offset = apply(context.end / BLOCK_BYTES as u64, take_signed(bytes)?).checked_mul(BLOCK_BYTES as u64)?;
    let offset = Some(offset).filter(|offset| *offset <= OFFSET_MAX)?;
    let epoch = JournalEpoch::new(take(bytes)?);
    let number = ChunkNumber::new(take(bytes)?);
    let first_position = Position::new(take(bytes)?);
    let committed = ChunkNumber::new(take(bytes)?);
    let label = Label::from_nanos(take(bytes)?);
    let (crc, previous, body_digest) = (take_u32(bytes)?, take_u32(bytes)?, take_u32(bytes)?);
    let mut streams = context.streams;
    for _ in 0..take(bytes)?.min(WORDS as u64) {
        let at = usize::try_from(take(bytes)?).ok()?.checked_mul(WORD)?;
        streams.get_mut(at..at + WORD)?.copy_from_slice(take_bytes(bytes, WORD)?);
    }
    let session = Session::new(take(bytes)?);
    let first_seq = StreamSeq::new(take(bytes)?);
    let records = u32::try_from(take(bytes)?).ok()?;
    let payload_len = u32::try_from(take(bytes)?).ok()?.checked_mul(BLOCK_BYTES_U32)?;
    // Every record takes some bytes: a count that lies asks for no memory.
    if records as usize > bytes.len().min(HEADER_BYTES_MAX / DESCRIPTOR_BYTES) {
        return None;
    }
    let (descriptors, crcs) = take_records(bytes, records, label)?;
    let body_header_len = u32::try_from(header_len(descriptors.len(), crcs.len())).ok()?;
    let crc_count = u32::try_from(crcs.len()).ok()?;
    let body =
        BodyHeader { journal, session, first_seq, records, crcs: crc_count, header_len: body_header_len, payload_len };
    if body_header_len as usize > HEADER_BYTES_MAX {
        return None;
    }
    let body = Body::decode(&area(&body, &descriptors, &crcs), journal).ok().filter(|b| b.digest == body_digest)?;
    let header = ChunkHeader {
        journal,
        epoch,
        number,
        first_position,
        next_position: Position::new(first_position.get().checked_add(u64::from(records))?),
        committed,
        previous,
        body_header_len,
        payload_len,
        body_digest,
        streams: Streams::decode(&streams)?,
        label,
        offset,
        segment,
    };
    let (block, own_crc) = header.encode();
    let (header, _) = ChunkHeader::decode(&block, journal).filter(|_| own_crc == crc)?;
    let note_bytes = body.records.iter().filter(|record| notes::has_note(record));
    let note_bytes: usize = note_bytes.map(|record| record.descriptor.payload_bytes as usize).sum();
    let notes = Notes::split(&body, take_bytes(bytes, note_bytes)?)?;
    context.advance(offset, &header, &streams);
    Some(Entry { offset, header, crc, body: body.into(), notes })
}

fn take_records(bytes: &mut &[u8], records: u32, label: Label) -> Option<(Vec<Descriptor>, Vec<u32>)> {
    let mut descriptors = Vec::with_capacity(records as usize);
    let mut crcs = Vec::new();
    let mut before = Before::of(label);
    for _ in 0..records {
        let op = Op::from_u8(take_bytes(bytes, 1)?[0])?;
        let flags = OpFlags::from_bits(take_bytes(bytes, 1)?[0])?;
        let volume = Incarnation::new(u32::try_from(take(bytes)?).ok()?);
        let extent = if op.has_extent() {
            let start = apply(before.end, take_signed(bytes)?);
            Some(Extent::new(start, take(bytes)?)?)
        } else {
            None
        };
        let label = Label::from_nanos(apply(before.label, take_signed(bytes)?));
        let wall = i32::try_from(i64::from(before.wall).checked_add(take_signed(bytes)?)?).ok()?;
        let payload_bytes = match (op, extent) {
            (Op::Write, Some(extent)) => u32::try_from(extent.bytes()).ok()?,
            _ => u32::try_from(take(bytes)?).ok().filter(|len| *len as usize <= NOTE_BYTES_MAX)?,
        };
        let payload_offset = u32::try_from(apply(before.place(payload_bytes), take_signed(bytes)?)).ok()?;
        let descriptor =
            Descriptor { op, flags, volume, extent, label, wall_minus_label_ms: wall, payload_offset, payload_bytes };
        let of_record = take_bytes(bytes, descriptor.crc_count() * CRC_BYTES)?;
        crcs.extend(of_record.chunks_exact(CRC_BYTES).map(|crc| u32_at(crc, 0)));
        before.advance(&descriptor);
        descriptors.push(descriptor);
    }
    Some((descriptors, crcs))
}

/// A body's header area, byte for byte as it was sealed.
fn area(header: &BodyHeader, descriptors: &[Descriptor], crcs: &[u32]) -> Vec<u8> {
    let salt = Salt::of(header.journal);
    let mut area = vec![0u8; header.header_len as usize];
    let (table, sums) = area[FIXED_BYTES..].split_at_mut(descriptors.len() * DESCRIPTOR_BYTES);
    for ((place, descriptor), bytes) in (0u32..).zip(descriptors).zip(table.chunks_exact_mut(DESCRIPTOR_BYTES)) {
        bytes.copy_from_slice(&descriptor.encode(salt, header.session, header.first_seq, place));
    }
    for (crc, bytes) in crcs.iter().zip(sums.chunks_exact_mut(CRC_BYTES)) {
        bytes.copy_from_slice(&crc.to_le_bytes());
    }
    header.seal(&mut area);
    area
}

// ---- numbers

fn delta(from: u64, to: u64) -> i64 {
    to.wrapping_sub(from).cast_signed()
}

fn apply(from: u64, delta: i64) -> u64 {
    from.wrapping_add(delta.cast_unsigned())
}

/// Some numbers, packed, and a checksum at most: at most `RECORD_BYTES_MAX` bytes, which is asked once for all of them.
struct Packed {
    bytes: [u8; RECORD_BYTES_MAX],
    len: usize,
}

impl Default for Packed {
    fn default() -> Self {
        Self { bytes: [0; RECORD_BYTES_MAX], len: 0 }
    }
}

impl Packed {
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    fn unsigned(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.byte((n & 0x7f) as u8 | 0x80);
            n >>= 7;
        }
        #[expect(clippy::cast_possible_truncation, reason = "below 128")]
        self.byte(n as u8);
    }

    fn signed(&mut self, n: i64) {
        self.unsigned(((n << 1) ^ (n >> 63)).cast_unsigned());
    }

    fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn unsigned(out: &mut Vec<u8>, n: u64) {
    let mut packed = Packed::default();
    packed.unsigned(n);
    out.extend_from_slice(packed.bytes());
}

fn signed(out: &mut Vec<u8>, n: i64) {
    unsigned(out, ((n << 1) ^ (n >> 63)).cast_unsigned());
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut n = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn take_signed(bytes: &mut &[u8]) -> Option<i64> {
    let n = take(bytes)?;
    Some((n >> 1).cast_signed() ^ -((n & 1).cast_signed()))
}

fn take_bytes<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(taken)
}

fn take_u32(bytes: &mut &[u8]) -> Option<u32> {
    take_bytes(bytes, 4).map(|bytes| u32_at(bytes, 0))
}
