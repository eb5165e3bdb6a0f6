//! Goal: what is packed comes back byte for byte, takes the room that was kept for it at most, and a footer that is
//! not whole is none. Method: random chunks of every kind of record, and damage to every byte.

use super::*;
use crate::lock::lock;
use kit::Rng;
use record::build::BodyBuilder;
use record::chunk::Descriptor;
use record::geometry::Extent;
use record::ids::{Incarnation, SplitterId};
use record::op::Op;
use record::position::{ChunkNumber, JournalEpoch, Label, Position, Session, StreamSeq};
use record::streams::{StreamAt, Streams};
use std::io::{self, IoSlice};
use std::sync::Mutex;

const ID: JournalId = JournalId::from_bytes(*b"journal of tests");
const SEGMENT: SegmentNumber = SegmentNumber::new(7);

/// A number that is small, or large, or anything.
fn some(rng: &mut Rng, most: u64) -> u64 {
    let most = if rng.one_in(3) { most } else { most.min(1 << rng.below(20)) };
    rng.below(most)
}

fn some_entry(rng: &mut Rng, offset: u64, first: Position) -> Entry {
    let mut builder = BodyBuilder::new(ID, Session::new(some(rng, 1 << 60)), StreamSeq::new(some(rng, 1 << 60)));
    for _ in 0..=rng.below(30) {
        let label = Label::from_nanos(some(rng, u64::MAX));
        let extent = Extent::new(some(rng, 1 << 50), 1 + rng.below(40));
        let volume = Incarnation::new(1 + u32::try_from(some(rng, u64::from(u32::MAX) - 1)).expect("32 bits"));
        let (op, extent, payload) = match rng.below(4) {
            0 => (Op::Punch, extent, 0),
            1 => (Op::Bookmark, None, rng.below(100)),
            2 => (Op::Flush, None, 0),
            _ => (Op::Write, extent, extent.map_or(0, Extent::bytes)),
        };
        let mut descriptor =
            Descriptor::bare(op, if op.has_extent() { volume } else { Incarnation::NONE }, extent, label);
        descriptor.wall_minus_label_ms = i32::try_from(rng.below(1 << 31)).expect("31 bits") - (1 << 30);
        let payload: Vec<u8> = (0..payload).map(|_| rng.below(256).to_le_bytes()[0]).collect();
        assert!(builder.push(descriptor, &payload));
    }
    let bytes = builder.finish();
    let body = Body::decode(&bytes.header, ID).expect("a body");
    let notes = Notes::collect(&body, |at, len| Some(bytes.payload[at as usize..(at + len) as usize].to_vec()));
    let mut streams = Streams::NONE;
    for n in 0..rng.below(9) {
        let splitter = SplitterId::from_bytes([u8::try_from(n).expect("few"); 16]);
        streams.set(StreamAt { splitter, session: Session::new(n + 1), next: StreamSeq::new(some(rng, u64::MAX)) });
    }
    let number = 2 + some(rng, 1 << 50);
    let header = ChunkHeader {
        journal: ID,
        epoch: JournalEpoch::new(some(rng, 1 << 40)),
        number: ChunkNumber::new(number),
        first_position: first,
        next_position: first.plus(body.records.len() as u64),
        committed: ChunkNumber::new(rng.below(number)),
        previous: 77,
        body_header_len: body.header.header_len,
        payload_len: body.header.payload_len,
        body_digest: body.digest,
        streams,
        label: Label::from_nanos(some(rng, u64::MAX)),
        offset,
        segment: SEGMENT.get(),
    };
    let (_, crc) = header.encode();
    Entry { offset, header, crc, body: Arc::new(body), notes }
}

/// A file in memory.
#[derive(Debug)]
struct Memory(Mutex<Vec<u8>>);

impl DiskFile for Memory {
    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.0).len() as u64)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let at = usize::try_from(offset).expect("small");
        buffer.copy_from_slice(&lock(&self.0)[at..at + buffer.len()]);
        Ok(buffer.len())
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let at = usize::try_from(offset).expect("small");
        let bytes: Vec<u8> = slices.iter().flat_map(|slice| slice.iter().copied()).collect();
        lock(&self.0)[at..at + bytes.len()].copy_from_slice(&bytes);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

struct Made {
    file: Memory,
    entries: Vec<Entry>,
    bytes: u64,
    mark: TailMark,
}

fn made(seed: u64) -> Made {
    let mut rng = Rng::new(seed);
    let mut collecting = Collecting::new();
    let (mut entries, mut offset, mut kept) = (Vec::new(), FIRST_CHUNK_AT, collecting.bytes_now());
    for _ in 0..rng.below(12) {
        let first = Position::new(1 + some(&mut rng, 1 << 60));
        let gap = 4096 * rng.below(3);
        let entry = some_entry(&mut rng, offset + gap, first);
        offset = entry.offset + entry.header.disk_bytes();
        kept += bytes_more(&entry.body);
        collecting.push(entry.offset, &entry.header, entry.crc, &entry.body, &entry.notes);
        entries.push(entry);
    }
    let bytes = (offset + kept).next_multiple_of(4096);
    let mark = TailMark { next_chunk: ChunkNumber::new(seed + 1), ..TailMark::START };
    let file = Memory(Mutex::new(vec![0; usize::try_from(bytes).expect("small")]));
    let sealed = collecting.seal(ID, SEGMENT, &mark);
    file.write_at(&[IoSlice::new(&sealed)], bytes - sealed.len() as u64).expect("written");
    Made { file, entries, bytes, mark }
}

fn read_again(made: &Made) -> Option<Footer> {
    read(&made.file, made.bytes, ID, SEGMENT)
}

#[test]
fn what_is_packed_comes_back_byte_for_byte_in_the_room_that_was_kept() {
    for seed in 0..60 {
        let made = made(seed);
        let footer = read_again(&made).expect("a footer");
        assert!(footer.whole && footer.mark == made.mark);
        assert_eq!(footer.entries.len(), made.entries.len());
        for (read, written) in footer.entries.iter().zip(&made.entries) {
            assert_eq!((read.offset, read.header, read.crc), (written.offset, written.header, written.crc));
            assert_eq!((&read.body, &read.notes), (&written.body, &written.notes));
        }
    }
}

#[test]
fn a_footer_with_a_wrong_byte_anywhere_is_none() {
    let made = made(5);
    let footer = read_again(&made).expect("a footer");
    let written = lock(&made.file.0).clone();
    let start = usize::try_from(footer.at).expect("small");
    for at in (start..written.len()).filter(|at| written[*at] != 0) {
        lock(&made.file.0)[at] ^= 1;
        assert!(read_again(&made).is_none(), "byte {at}");
        lock(&made.file.0)[at] ^= 1;
    }
}

#[test]
fn the_footer_of_another_segment_or_journal_is_none() {
    let made = made(6);
    let file = &made.file;
    assert!(read(file, made.bytes, ID, SEGMENT.next()).is_none());
    assert!(read(file, made.bytes, JournalId::from_bytes([3; 16]), SEGMENT).is_none());
    assert!(read(file, made.bytes - 4096, ID, SEGMENT).is_none());
}

#[test]
fn hostile_bytes_are_refused_and_nothing_panics() {
    let mut rng = Rng::new(3);
    for _ in 0..20_000 {
        let bytes: Vec<u8> = (0..rng.below(400)).map(|_| rng.below(256).to_le_bytes()[0]).collect();
        let mut rest = &bytes[..];
        assert!(packing::unpack(&mut rest, &mut Context::start(), ID, 1).is_none());
    }
}
