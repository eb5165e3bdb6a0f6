//! Chunks on their way to the disk: up to four at once, acknowledged in order.
//!
//! Owns the way of a chunk from prepared to durable. Each is one write of its own; they reach the disk in any order, so
//! a chunk counts only when all in front of it are durable too (PROTOCOL R25). The disk comes first: where a write may
//! begin it begins; only then whoever waits for what is durable is told, and the next chunks are checked. A header says
//! of the others only what was durable when it was built. What a crash leaves of those under way may have holes: recovery
//! ends at the first (`recovery.rs`), and the chunks behind it never chain again.
//!
//! When a write fails, those under way are waited for, what is durable in front of it counts, and the tail is poisoned:
//! nothing behind it is acknowledged, whether it reached the disk or not.

use super::ahead::ZEROS_MAX;
use super::{Prepared, Tail};
use crate::aligned::Aligned;
use crate::chunks::Chunk;
use crate::device::{Flight, IN_FLIGHT_MAX, Part};
use crate::error::JournalError;
use crate::footer;
use crate::mark::TailMark;
use crate::notes::Notes;
use crate::place::Place;
use record::chunk::Body;
use record::fault::{Bug, bug};
use record::geometry::BLOCK_BYTES;
use record::header::ChunkHeader;
use record::op::Op;
use record::position::ChunkNumber;
use record::streams::Streams;
use std::collections::VecDeque;
use std::io;
use std::mem;
use std::sync::OnceLock;

/// Where chunks come from: the next one, checked, when there is room for it.
pub(crate) type Source<'s, 'b> = &'s mut dyn FnMut() -> Option<Prepared<'b>>;
/// Who is told of each chunk that is durable, in order.
pub(crate) type Landed<'s> = &'s mut dyn FnMut(&Chunk, &Notes);

/// Most chunks that are checked before there is room for them in the flight: as many as an appliance hands over at once. All in one
/// go, since a splitter has just written them: whoever waits for the disk between two of them finds his caches cold, and
/// checksums take three times as long.
const READY_MAX: usize = 16;

#[expect(clippy::cast_possible_truncation, reason = "half a mebibyte")]
const ZEROS_BYTES: usize = ZEROS_MAX as usize;

/// A chunk that has been written, or is being.
#[derive(Debug)]
struct Flying {
    chunk: Chunk,
    notes: Notes,
    /// Whether zeros are written behind it: what comes next has to wait, or they would lie over it.
    brings_zeros: bool,
    /// Its header's checksum.
    crc: u32,
    /// What it names committed, and the streams there.
    named: (ChunkNumber, Streams),
    outcome: Option<io::Result<()>>,
}

/// Where chunks are from their writing to when they are told of: kept, since to make it anew costs as much as to write a chunk
/// that has one record.
#[derive(Debug, Default)]
pub(super) struct Flyers {
    /// In order.
    all: VecDeque<Flying>,
    /// So many of them are durable, and not told of yet.
    durable: usize,
}

/// What is to be written next.
struct Coming<'s, 'c, 'b> {
    /// Checked while the disk was busy; at most `READY_MAX`.
    ready: VecDeque<Prepared<'b>>,
    source: &'s mut (dyn FnMut() -> Option<Prepared<'b>> + 'c),
}

impl<'b> Coming<'_, '_, 'b> {
    fn first(&mut self) -> Option<&Prepared<'b>> {
        if self.ready.is_empty()
            && let Some(next) = (self.source)()
        {
            self.ready.push_back(next);
        }
        self.ready.front()
    }

    fn next_if(&mut self, fits: impl FnOnce(&Prepared<'b>) -> bool) -> Option<Prepared<'b>> {
        if fits(self.first()?) { self.ready.pop_front() } else { None }
    }

    /// Checks one more chunk, if there is one.
    fn look_ahead(&mut self) -> bool {
        if self.ready.len() >= READY_MAX {
            return false;
        }
        let next = (self.source)();
        let more = next.is_some();
        self.ready.extend(next);
        more
    }
}

impl Tail {
    /// Appends all that the source gives; makes segments as they are needed. An error: what was told of is durable,
    /// the rest is not acknowledged. `alone`: the source gives one chunk.
    pub(crate) fn append(
        &mut self,
        alone: bool,
        source: Source<'_, '_>,
        landed: Landed<'_>,
    ) -> Result<(), JournalError> {
        self.writable()?;
        let mut coming = Coming { ready: VecDeque::with_capacity(if alone { 1 } else { IN_FLIGHT_MAX }), source };
        let mut flyers = mem::take(&mut self.flyers);
        while let Some(first) = coming.first() {
            if !self.fits(first) {
                self.roll(first)?;
            }
            self.fly(alone, &mut coming, &mut flyers, landed)?;
        }
        // Both are empty: only a failure leaves something behind, and then the tail takes no more.
        self.flyers = flyers;
        Ok(())
    }

    /// Whether the active segment takes a chunk, and its footer with it.
    fn fits(&self, chunk: &Prepared<'_>) -> bool {
        self.active.as_ref().is_some_and(|active| {
            let footer = active.footer.bytes_now() + footer::bytes_more(&chunk.body);
            active.at + chunk.disk_bytes() + footer <= active.bytes
        })
    }

    /// Appends to the active segment until a chunk comes that it does not take, or none.
    fn fly(
        &mut self,
        alone: bool,
        coming: &mut Coming<'_, '_, '_>,
        flyers: &mut Flyers,
        landed: Landed<'_>,
    ) -> Result<(), JournalError> {
        let Some(file) = self.active.as_ref().map(|active| active.file.clone()) else { return Ok(()) };
        let mut ahead = self.mark;
        let Flyers { all, durable } = flyers;
        // How many have landed, so that the front's number in the flight is known.
        let mut gone = 0;
        let mut failure = None;
        file.fly(alone, &mut |flight| {
            loop {
                while failure.is_none()
                    && all.len() - *durable < IN_FLIGHT_MAX
                    && !(all.len() > *durable && all.back().is_some_and(|last| last.brings_zeros))
                    && let Some(chunk) = coming.next_if(|chunk| self.fits(chunk))
                {
                    all.push_back(self.begin(flight, chunk, &mut ahead));
                    self.make_ahead();
                }
                // The disk has its work. Whoever is told may take a while, and so may checking what comes next: after each the
                // disk is asked again, so that it does not wait for us.
                let done = flight.done();
                if done.is_none() {
                    if *durable > 0
                        && let Some(flown) = all.front()
                    {
                        landed(&flown.chunk, &flown.notes);
                        all.pop_front();
                        *durable -= 1;
                        continue;
                    }
                    if failure.is_none() && coming.look_ahead() {
                        continue;
                    }
                }
                let done = done.or_else(|| flight.wait());
                let Some((n, outcome)) = done else { break };
                if let Some(flown) = n.checked_sub(gone).and_then(|n| all.get_mut(*durable + n)) {
                    flown.outcome = Some(outcome);
                }
                while failure.is_none()
                    && let Some(flown) = all.get_mut(*durable)
                    && let Some(outcome) = flown.outcome.take()
                {
                    match outcome {
                        Ok(()) => {
                            self.landed(flown);
                            (gone, *durable) = (gone + 1, *durable + 1);
                        }
                        Err(error) => failure = Some((flown.chunk.place, flown.chunk.header.disk_bytes(), error)),
                    }
                }
            }
        });
        if let Some((place, bytes, error)) = failure {
            return Err(self.poison(&format!(
                "write {bytes} bytes to segment {} at offset {}: {error}",
                place.segment, place.offset
            )));
        }
        Ok(())
    }

    /// Gives a chunk its number and its place behind all others, and begins to write it.
    fn begin<'b>(&mut self, flight: &mut dyn Flight<'b>, chunk: Prepared<'b>, ahead: &mut TailMark) -> Flying {
        let Prepared { area, payload, body, notes, streams, label } = chunk;
        let (segment, offset) = self.active.as_ref().map_or((self.newest, 0), |active| (active.number, active.at));
        let committed = self.mark.last_chunk();
        let header = ChunkHeader {
            journal: self.superblock.current().journal,
            epoch: ahead.epoch,
            number: ahead.next_chunk,
            first_position: ahead.next_position,
            next_position: ahead.next_position.plus(u64::from(body.header.records)),
            committed: if bug(Bug::DropCommittedMark) { ChunkNumber::new(0) } else { committed },
            previous: ahead.previous,
            body_header_len: body.header.header_len,
            payload_len: body.header.payload_len,
            body_digest: body.digest,
            streams,
            label,
            offset,
            segment: segment.get(),
        };
        let (bytes, crc) = self.pages.encode(&header);
        let mut parts = Vec::with_capacity(4);
        parts.extend([Part::Kept(bytes), Part::of(area)]);
        if !payload.is_empty() {
            parts.push(Part::of(payload));
        }
        let zeros = self.zeros_behind(offset, header.disk_bytes(), &body);
        if !zeros.is_empty() {
            parts.push(Part::Lent(zeros));
        }
        flight.begin(parts, offset);
        advance(ahead, &header, crc);
        if let Some(active) = &mut self.active {
            active.footer.push(offset, &header, crc, &body, &notes);
            active.at += header.disk_bytes();
        }
        let chunk = Chunk { place: Place { segment, offset }, header, body };
        let named = (committed, self.mark.streams);
        Flying { chunk, notes, brings_zeros: !zeros.is_empty(), crc, named, outcome: None }
    }

    /// What a chunk takes along for those behind it (`ahead.rs`).
    fn zeros_behind(&mut self, offset: u64, bytes: u64, body: &Body) -> &'static [u8] {
        static ZEROS: OnceLock<Aligned> = OnceLock::new();
        let Some(active) = &mut self.active else { return &[] };
        let footer = active.footer.bytes_now() + footer::bytes_more(body);
        let limit = active.bytes.saturating_sub(footer);
        let zeros = active.ahead.zeros(bytes, offset + bytes, limit);
        // At most that many, in whole blocks, since chunks and footers are.
        let Ok(zeros) = usize::try_from(zeros / BLOCK_BYTES as u64 * BLOCK_BYTES as u64) else { return &[] };
        if zeros == 0 { &[] } else { &ZEROS.get_or_init(|| Aligned::zeroed(ZEROS_BYTES))[..zeros] }
    }

    /// A chunk is durable, and all in front of it are.
    fn landed(&mut self, flown: &Flying) {
        let Flying { chunk, crc, named, .. } = flown;
        let only_commits = chunk.body.records.iter().all(|record| record.descriptor.op == Op::Commit);
        if !only_commits {
            self.worth_naming = chunk.header.number;
        }
        // What it says of the chunks in front of it is durable now.
        (self.committed, self.committed_streams) = *named;
        advance(&mut self.mark, &chunk.header, *crc);
    }
}

/// The tail behind a chunk.
fn advance(mark: &mut TailMark, header: &ChunkHeader, crc: u32) {
    *mark = TailMark {
        epoch: mark.epoch,
        next_chunk: header.number.next(),
        next_position: header.next_position,
        previous: crc,
        streams: header.streams,
        label: header.label,
    };
}
