//! The volumes as they were at one position.
//!
//! Owns which position it is, what it pins, and what an extent of it is made of; `reading` has the way from there to
//! bytes. Deliberately knows no device and no overlay of writes.

mod reading;

use crate::aligned::Aligned;
use crate::error::{Cause, ReadFailure};
use crate::lock::{lock, read, write};
use crate::members::Member;
use crate::overlay::Overlay;
use crate::path::Path;
use crate::place::SegmentNumber;
use crate::reader::Core;
use crate::recovery::Damage;
use crate::state::{Piece, Source};
use crate::timeline::At;
pub use reading::{Direct, Reading};
use record::geometry::{BLOCK_BYTES, Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use record::position::Position;
use std::collections::btree_map::Entry;
use std::io;
use std::ops::Range;
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
    /// Whether it keeps what it shows.
    pins: bool,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.pins {
            return;
        }
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

impl Image {
    /// The volumes at a position, which the caller knows to be one that can be shown.
    pub(crate) fn at_position(core: &Arc<Core>, position: Position) -> Self {
        *lock(&core.images).entry(position).or_default() += 1;
        let at = core.at(position);
        let inner = {
            let state = read(&core.state);
            let members: Vec<Member> = state.members.all().filter(|m| m.shown_at(position)).cloned().collect();
            let paths = members.iter().map(|member| state.path(member, position)).collect();
            Inner { core: core.clone(), at, members, paths, overlay: Overlay::default(), pins: true }
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

    /// What these volumes are made of at a position, which it does not keep: for whoever reads no data.
    pub(crate) fn in_passing(core: &Arc<Core>, position: Position, members: Vec<Member>) -> Self {
        let at = core.at(position);
        let paths = {
            let state = read(&core.state);
            members.iter().map(|member| state.path(member, position)).collect()
        };
        let inner = Inner { core: core.clone(), at, members, paths, overlay: Overlay::default(), pins: false };
        Self { inner: Arc::new(inner) }
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
        match self.begin(volume, extent) {
            Ok(reading) => reading.finish(buffer),
            Err(failure) => {
                buffer.fill(0);
                Err(failure)
            }
        }
    }

    /// Begins to read `extent`: finds out what is needed. Its bytes can then be fetched side by side.
    pub fn begin(&self, volume: Incarnation, extent: Extent) -> Result<Reading, ReadFailure> {
        Ok(Reading::of(self, volume, extent, self.resolve(volume, extent)?))
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

    fn read_segment(&self, segment: SegmentNumber, bytes: Range<u64>) -> io::Result<Vec<u8>> {
        let file = self.files.segment(segment)?;
        let start = bytes.start - bytes.start % BLOCK_BYTES as u64;
        let into = byte_len(bytes.start - start);
        let len = byte_len(bytes.end - bytes.start);
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
