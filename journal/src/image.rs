//! The volumes as they were at one position.
//!
//! Owns reading: pieces from the index, bytes from log and replica, every block of the log checked before it is
//! served. Deliberately knows no device and no overlay.

use crate::aligned::Aligned;
use crate::chunks::Kept;
use crate::error::{Cause, ReadFailure};
use crate::lock::{lock, read, write};
use crate::members::Member;
use crate::overlay::Overlay;
use crate::path::Path;
use crate::reader::Core;
use crate::recovery::{Damage, DamageKind};
use crate::state::{Piece, Source};
use crate::timeline::At;
use record::checksum::Salt;
use record::chunk::block_crc;
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use record::position::Position;
use std::collections::btree_map::Entry;
use std::io::ErrorKind;
use std::sync::Arc;

/// An image. Pins its position while it lives. Cheap to make and to clone; many threads may read at once.
#[derive(Clone, Debug)]
pub struct Image {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    core: Arc<Core>,
    at: At,
    members: Vec<Member>,
    /// One for each member.
    paths: Vec<Path>,
    overlay: Overlay,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut open = lock(&self.core.images);
        if let Entry::Occupied(mut held) = open.entry(self.at.position) {
            *held.get_mut() -= 1;
            if *held.get() == 0 {
                held.remove();
            }
        }
    }
}

/// A run of sectors of an image.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ImagePiece {
    /// Where.
    pub extent: Extent,
    /// What is there.
    pub kind: PieceKind,
    /// Which record wrote it; the origin for what the volume joined with.
    pub position: Position,
}

/// What a run of sectors is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum PieceKind {
    /// Written data.
    Data,
    /// Zeros, allocated.
    Zero,
    /// A hole.
    Hole,
    /// As the volume joined: in the replica, data or zeros.
    Joined,
    /// Refused: lost records may have written there.
    Refused,
}

/// What could not be read, while a read goes on.
#[derive(Default)]
struct Refused {
    extents: Vec<Extent>,
    cause: Option<Cause>,
}

/// How reading a record ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Read {
    /// What can be read was.
    Done,
    /// The record has been given back meanwhile: the replica holds what it wrote.
    Gone,
}

impl Refused {
    fn add(&mut self, extent: Extent, cause: Cause) {
        self.extents.push(extent);
        self.cause.get_or_insert(cause);
    }
}

impl Image {
    /// The volumes at a position, which the caller knows to be one that can be shown.
    pub(crate) fn at_position(core: &Arc<Core>, position: Position) -> Self {
        *lock(&core.images).entry(position).or_default() += 1;
        let at = core.at(position);
        let inner = {
            let state = read(&core.state);
            let members: Vec<Member> = state.members.all().filter(|m| m.shown_at(position)).cloned().collect();
            let paths = members.iter().map(|member| state.path(member, position)).collect();
            Inner { core: core.clone(), at, members, paths, overlay: Overlay::default() }
        };
        Self { inner: Arc::new(inner) }
    }

    /// What these volumes held at `last`, on the line of a position that is not before it.
    pub(crate) fn along(core: &Arc<Core>, position: Position, last: Position, members: Vec<Member>) -> Self {
        let mut image = Self::at_position(core, position);
        let paths = {
            let state = read(&core.state);
            members.iter().map(|member| state.path(member, position).up_to(last)).collect()
        };
        if let Some(inner) = Arc::get_mut(&mut image.inner) {
            (inner.members, inner.paths) = (members, paths);
        }
        image
    }

    /// The journal.
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.inner.core
    }

    /// Where it is.
    pub fn at(&self) -> At {
        self.inner.at
    }

    /// The volumes that it shows, by incarnation.
    pub fn members(&self) -> &[Member] {
        &self.inner.members
    }

    /// Reads `extent`, whose length in bytes the buffer has. On a failure the buffer holds the right bytes outside
    /// of `ReadFailure::damaged` and zeros inside.
    pub fn read(&self, volume: Incarnation, extent: Extent, buffer: &mut [u8]) -> Result<(), ReadFailure> {
        assert_eq!(buffer.len() as u64, extent.bytes(), "the buffer has the extent's length");
        let pieces = match self.resolve(volume, extent) {
            Ok(pieces) => pieces,
            Err(failure) => {
                buffer.fill(0);
                return Err(failure);
            }
        };
        let mut refused = Refused::default();
        for piece in &pieces {
            let from = byte_index(piece.extent.start().index() - extent.start().index());
            let part = &mut buffer[from..from + byte_index(piece.extent.count().get())];
            match &piece.source {
                Source::Zero | Source::Hole => part.fill(0),
                Source::Log { chunk, record } => {
                    let read = self.read_log(volume, piece, chunk, *record, part, &mut refused);
                    if read == Read::Gone
                        && let Err(failure) = self.read(volume, piece.extent, part)
                    {
                        failure.damaged.iter().for_each(|extent| refused.add(*extent, failure.cause.clone()));
                    }
                }
                Source::Base => {
                    let read = self.inner.core.read_base(volume, piece.extent, part);
                    if let Err(error) = read.and_then(|()| self.inner.core.still_holds(self.inner.at.position)) {
                        part.fill(0);
                        refused.add(piece.extent, Cause::Replica { error });
                    }
                }
                Source::Lost { first, last } => {
                    part.fill(0);
                    refused.add(piece.extent, Cause::LostRecords { first: *first, last: *last });
                }
            }
        }
        match refused.cause {
            None => Ok(()),
            Some(cause) => {
                let damaged = crate::index::normalise(refused.extents);
                Err(ReadFailure { volume, position: self.inner.at.position, damaged, cause })
            }
        }
    }

    /// What `extent` is made of, in address order, without a hole between pieces.
    pub fn pieces(&self, volume: Incarnation, extent: Extent) -> Result<Vec<ImagePiece>, ReadFailure> {
        let pieces = self.resolve(volume, extent)?;
        let kind = |source: &Source| match source {
            Source::Log { .. } => PieceKind::Data,
            Source::Zero => PieceKind::Zero,
            Source::Hole => PieceKind::Hole,
            Source::Base => PieceKind::Joined,
            Source::Lost { .. } => PieceKind::Refused,
        };
        let piece = |p: &Piece| ImagePiece { extent: p.extent, kind: kind(&p.source), position: p.position };
        Ok(pieces.iter().map(piece).collect())
    }

    /// What of `extent` stands in the journal's log no more, since no point shows it. Of a point that is nothing.
    pub(crate) fn lacking(&self, volume: Incarnation, extent: Extent) -> Result<Vec<Extent>, ReadFailure> {
        let core = &*self.inner.core;
        let mut lacking = Vec::new();
        for piece in self.resolve(volume, extent)? {
            let Source::Log { chunk, record } = &piece.source else { continue };
            // What cannot be read is told when it is.
            let Ok(file) = core.files.segment(chunk.place.segment) else { continue };
            let Ok(body) = core.bodies.of(&core.files, chunk) else { continue };
            let blocks = chunk.blocks(&body.records[*record].descriptor, piece.extent);
            let lacks = blocks.into_iter().filter(|block| file.lacks(block.bytes.clone()));
            lacking.extend(lacks.filter_map(|block| block.sectors.intersection(piece.extent)));
        }
        Ok(crate::index::normalise(lacking))
    }

    fn resolve(&self, volume: Incarnation, extent: Extent) -> Result<Vec<Piece>, ReadFailure> {
        let inner = &*self.inner;
        let at = inner.members.iter().position(|m| m.incarnation == volume && extent.fits(m.size));
        let Some(at) = at else {
            let damaged = vec![extent];
            return Err(ReadFailure { volume, position: inner.at.position, damaged, cause: Cause::NotThere });
        };
        let (member, path) = (&inner.members[at], &inner.paths[at]);
        // Reading takes its time: appending goes on meanwhile.
        let ask = |extent| read(&inner.core.state).ask(member, path, extent);
        let whole = Extent::whole(member.size).unwrap_or(extent);
        let answered = inner.overlay.resolve(volume, whole, extent, ask);
        Ok(read(&inner.core.state).pieces(member, path, answered))
    }

    /// Reads a run of sectors that one record wrote. The record's payload is checked in blocks of 4 KiB from its own
    /// start, so whole blocks are read.
    fn read_log(
        &self,
        volume: Incarnation,
        piece: &Piece,
        chunk: &Kept,
        record: usize,
        part: &mut [u8],
        refused: &mut Refused,
    ) -> Read {
        let core = &*self.inner.core;
        let is_gone = || read(&core.state).retained().distributed >= piece.position;
        let body = match core.bodies.of(&core.files, chunk) {
            Ok(body) => body,
            Err(_) if is_gone() => return Read::Gone,
            Err(error) => {
                part.fill(0);
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
                    positions: Some((piece.position, piece.position)),
                    extents: vec![(volume, piece.extent)],
                    extents_known: true,
                    note_lost: false,
                };
                core.note_damage(volume, &damage);
                return Read::Done;
            }
        };
        let written = &body.records[record];
        let descriptor = &written.descriptor;
        let record_start = descriptor.extent.map_or(0, |extent| extent.start().index());
        let skipped = piece.extent.start().index() - record_start;
        let first_block = skipped / BLOCK_SECTORS;
        let payload = descriptor.payload_bytes as usize;
        let block_start = byte_index(first_block * BLOCK_SECTORS);
        let wanted_end = byte_index(skipped) + part.len();
        let blocks_end = wanted_end.next_multiple_of(BLOCK_BYTES).min(payload);
        let payload_at = chunk.payload_at().offset + u64::from(descriptor.payload_offset);
        let found = core.read_segment(chunk.place.segment, payload_at + block_start as u64, blocks_end - block_start);
        let (bytes, error) = match found {
            Ok(bytes) => (bytes, None),
            Err(error) => (Vec::new(), Some(error.to_string())),
        };
        let salt = Salt::of(core.id);
        let mut at = block_start;
        let mut damaged = Vec::new();
        while at < wanted_end {
            let end = (at + BLOCK_BYTES).min(payload);
            let index = at / BLOCK_BYTES;
            // The sectors of this block that are wanted, relative to the record's start, in bytes.
            let (from, to) = (at.max(byte_index(skipped)), end.min(wanted_end));
            let target = &mut part[from - byte_index(skipped)..to - byte_index(skipped)];
            let block = bytes.get(at - block_start..end - block_start);
            let good = block.filter(|block| {
                written.crcs.get(index).is_some_and(|crc| {
                    block_crc(salt, block, descriptor.volume, record_start, index, chunk.session) == *crc
                })
            });
            if good.is_none() && is_gone() {
                return Read::Gone;
            }
            let there = payload_at + at as u64..payload_at + end as u64;
            let given_up = || core.files.segment(chunk.place.segment).is_ok_and(|file| file.lacks(there));
            if let Some(block) = good {
                target.copy_from_slice(&block[from - at..to - at]);
            } else {
                target.fill(0);
                let sectors = |bytes: usize| record_start + bytes as u64 / SECTOR_BYTES;
                let place = chunk.place.to_string();
                let given_up = given_up();
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
                extents: crate::index::normalise(damaged).into_iter().map(|extent| (volume, extent)).collect(),
                extents_known: true,
                note_lost: false,
            };
            core.note_damage(volume, &damage);
        }
        Read::Done
    }
}

impl Core {
    /// Data of one record was found damaged: it is remembered, and said the first time.
    fn note_damage(&self, volume: Incarnation, damage: &Damage) {
        let Some((position, _)) = damage.positions else { return };
        if write(&self.state).note_damage(damage.clone()) {
            tracing::error!(
                volume = volume.get(),
                "journal {}: data of seq:{position} in {} is damaged; reads of it are refused, everything else is good",
                self.describe(),
                damage.place
            );
        }
    }

    fn read_segment(&self, segment: crate::place::SegmentNumber, offset: u64, len: usize) -> std::io::Result<Vec<u8>> {
        let file = self.files.segment(segment)?;
        let start = offset - offset % BLOCK_BYTES as u64;
        let into = byte_len(offset - start);
        let mut buffer = Aligned::zeroed((into + len).next_multiple_of(BLOCK_BYTES));
        let read = file.read_at(&mut buffer, start)?;
        let end = (into + len).min(read.max(into));
        Ok(buffer[into..end].to_vec())
    }
}

/// Sectors as bytes. Only for lengths inside one read, which fit memory.
fn byte_index(sectors: u64) -> usize {
    byte_len(sectors * SECTOR_BYTES)
}

fn byte_len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}
