//! What a rollback changes, and what it brings back.
//!
//! Owns the changed set (ENGINE 8, 11, 18) and the pieces that a restore writes into the backing.

use crate::chunks::Tally;
use crate::error::{Cause, ReadFailure};
use crate::image::Image;
use crate::lock::read;
use crate::open::by_volume;
use crate::path::Path;
use crate::reader::Core;
use crate::state::State;
use crate::undo::Captured;
use crate::{ImagePiece, PieceKind};
use record::geometry::{Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use record::position::Position;

/// What differs, or may differ, between the live line and a target, and what going there gives up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ChangedSet {
    /// The target.
    pub target: Position,
    /// The newest position of the live line.
    pub head: Position,
    /// The sectors to restore, by volume, in address order, never overlapping.
    pub extents: Vec<(Incarnation, Extent)>,
    /// Bytes of them.
    pub bytes: u64,
    /// WRITE records between the target and the head, given up by the live line (they stay reachable).
    pub writes: u64,
    /// Bytes that these wrote.
    pub written_bytes: u64,
    /// PUNCH and ZERO records given up.
    pub punches: u64,
    /// Names of bookmarks on what is given up, oldest first.
    pub bookmarks: Vec<String>,
    /// Members of the live line that were none at the target: they are left as they are.
    pub untouched: Vec<Incarnation>,
}

/// A run of sectors of the live content.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RestorePiece {
    /// Where.
    pub extent: Extent,
    /// What.
    pub content: RestoreContent,
}

/// What a run of sectors holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RestoreContent {
    /// These bytes.
    Data(Vec<u8>),
    /// Zeros, allocated.
    Zero,
    /// Nothing: a hole.
    Hole,
}

/// How much of an extent is asked about at once, at least and at most, and how many pieces one answer has.
const STEP_SECTORS_MIN: u64 = (1 << 20) / SECTOR_BYTES;
const STEP_SECTORS_MAX: u64 = (64 << 20) / SECTOR_BYTES;
const PIECES_MAX: usize = 8192;

/// What going from the live line to `target` changes. `owed` is what an earlier rollback still owes.
pub(crate) fn changed_set(core: &Core, target: Position, owed: &[(Incarnation, Extent)]) -> ChangedSet {
    let state = &*read(&core.state);
    let head = state.timeline.head().position;
    let group = |at| Path::of(state.timeline.rollbacks(), Position::ORIGIN, at);
    let given_up = group(head).without(&group(target));
    let mut set = ChangedSet {
        target,
        head,
        extents: between(state, head, target),
        bytes: 0,
        writes: 0,
        written_bytes: 0,
        punches: 0,
        bookmarks: Vec::new(),
        untouched: Vec::new(),
    };
    let mut touched_members = Vec::new();
    for member in state.members.all().filter(|member| member.left.is_none()) {
        if member.shown_at(target) {
            touched_members.push(member.incarnation);
        } else {
            set.untouched.push(member.incarnation);
        }
    }
    set.extents.extend(owed.iter().filter(|(volume, _)| touched_members.contains(volume)));
    set.extents = by_volume(set.extents);
    set.bytes = set.extents.iter().map(|(_, extent)| extent.bytes()).sum();
    let all_touched = state.members.all().all(|member| touched_members.contains(&member.incarnation));
    let mut tally = |writes: u64, written: u64, punches: u64| {
        set.writes += writes;
        set.written_bytes += written;
        set.punches += punches;
    };
    for &(first, last) in given_up.stretches() {
        for chunk in state.chunks().within(first, last) {
            let whole = first <= chunk.first && chunk.next() <= last.next();
            let sums = if whole && all_touched {
                chunk.tally
            } else {
                // A chunk whose descriptions cannot be read any more is left out of what a person is told.
                let body = core.bodies.read(&core.files, chunk);
                let records = body.as_ref().map_or(&[][..], |body| &body.records);
                let mut sums = Tally::default();
                for (at, record) in (chunk.first.get()..).zip(records) {
                    let descriptor = &record.descriptor;
                    if (first.get()..=last.get()).contains(&at) && touched_members.contains(&descriptor.volume) {
                        sums.add(descriptor.op, descriptor.payload_bytes);
                    }
                }
                sums
            };
            tally(u64::from(sums.writes), u64::from(sums.written_bytes), u64::from(sums.punches));
        }
    }
    let bookmarks = state.timeline.bookmarks();
    set.bookmarks = bookmarks.into_iter().filter(|b| given_up.contains(b.at.position)).map(|b| b.name).collect();
    set
}

/// The sectors on which two positions differ or may differ: those that a record on either side of their common
/// ancestor touched, and those of failed writes on either side or not read again yet. Only of volumes that are
/// members now and were at `to`.
fn between(state: &State, from: Position, to: Position) -> Vec<(Incarnation, Extent)> {
    let mut extents = Vec::new();
    for member in state.members.all().filter(|member| member.left.is_none() && member.shown_at(to)) {
        let volume = member.incarnation;
        let differing = state.path(member, from).difference(&state.path(member, to));
        let failures = state.timeline.failures().iter();
        let failed = failures.filter(|(at, of, _)| *of == volume && differing.contains(*at)).map(|(_, _, e)| *e);
        let open = state.timeline.indeterminate().iter().filter(|(of, _)| *of == volume).map(|(_, e)| *e);
        let whole = Extent::whole(member.size);
        extents.extend(
            state
                .touched(volume, &differing)
                .into_iter()
                .chain(failed)
                .chain(open)
                .filter_map(|extent| whole?.intersection(extent))
                .map(|extent| (volume, extent)),
        );
    }
    by_volume(extents)
}

/// All that any rollback may still owe: what is restored when the map that knows better is lost. Restoring more than
/// is owed writes what is there already.
pub(crate) fn owed_at_most(state: &State) -> Vec<(Incarnation, Extent)> {
    let mut extents = Vec::new();
    for rollback in state.timeline.rollbacks() {
        if let Some(before) = rollback.at.previous() {
            extents.extend(between(state, before, rollback.at));
        }
    }
    by_volume(extents)
}

/// The live content of a front part of an extent, as a restore writes it: as much as has so many bytes of data.
pub(crate) fn restore_front(
    core: &Core,
    live: &Image,
    volume: Incarnation,
    extent: Extent,
    bytes: u64,
) -> Result<Vec<RestorePiece>, ReadFailure> {
    let mut out: Vec<RestorePiece> = Vec::new();
    let (mut at, mut left, mut step) = (extent.start().index(), bytes, STEP_SECTORS_MIN);
    while let Some(rest) = Extent::between(at, extent.end()) {
        if left < SECTOR_BYTES || out.len() >= PIECES_MAX {
            break;
        }
        let part = rest.pieces(step).next().unwrap_or(rest);
        let pieces = restore_pieces(core, live, volume, part, left)?;
        let before = left;
        for piece in pieces {
            at = piece.extent.end();
            match (&piece.content, out.last_mut()) {
                (RestoreContent::Data(data), _) => left = left.saturating_sub(data.len() as u64),
                // Zeros and holes of any length are one piece.
                (content, Some(last)) if last.content == *content => {
                    if let Some(both) = Extent::between(last.extent.start().index(), at) {
                        last.extent = both;
                        continue;
                    }
                }
                (RestoreContent::Zero | RestoreContent::Hole, _) => {}
            }
            out.push(piece);
        }
        // Where there are no data it is asked in larger and larger steps.
        step = if left == before { (step * 2).min(STEP_SECTORS_MAX) } else { STEP_SECTORS_MIN };
    }
    Ok(out)
}

/// The same of all of an extent, or of as much of it as has so many bytes of data.
fn restore_pieces(
    core: &Core,
    live: &Image,
    volume: Incarnation,
    extent: Extent,
    bytes: u64,
) -> Result<Vec<RestorePiece>, ReadFailure> {
    let (mut out, mut left) = (Vec::new(), bytes);
    for ImagePiece { extent, kind, .. } in live.pieces(volume, extent)? {
        if left < SECTOR_BYTES {
            break;
        }
        match kind {
            PieceKind::Zero => out.push(RestorePiece { extent, content: RestoreContent::Zero }),
            PieceKind::Hole => out.push(RestorePiece { extent, content: RestoreContent::Hole }),
            PieceKind::Data => {
                let front = extent.pieces(left / SECTOR_BYTES).next().unwrap_or(extent);
                out.push(data(live, volume, front)?);
                left -= front.bytes();
                if front != extent {
                    break;
                }
            }
            PieceKind::Joined => {
                // What the volume joined with: where the replica has nothing allocated the volume had nothing.
                let kinds = core.lower_kinds(volume, extent).map_err(|error| {
                    let cause = Cause::Replica { error };
                    ReadFailure { volume, position: live.at().position, damaged: vec![extent], cause }
                })?;
                for (extent, kind) in kinds {
                    let content = match kind {
                        Captured::Hole => RestoreContent::Hole,
                        Captured::Zero => RestoreContent::Zero,
                        Captured::Data => {
                            let front = extent.pieces((left / SECTOR_BYTES).max(1)).next().unwrap_or(extent);
                            out.push(data(live, volume, front)?);
                            left = left.saturating_sub(front.bytes());
                            if left < SECTOR_BYTES || front != extent {
                                return Ok(out);
                            }
                            continue;
                        }
                    };
                    out.push(RestorePiece { extent, content });
                }
            }
            PieceKind::Refused => {
                // Reading says why.
                let mut buffer = buffer_of(extent);
                live.read(volume, extent, &mut buffer)?;
            }
        }
    }
    Ok(out)
}

fn data(live: &Image, volume: Incarnation, extent: Extent) -> Result<RestorePiece, ReadFailure> {
    let mut buffer = buffer_of(extent);
    live.read(volume, extent, &mut buffer)?;
    Ok(RestorePiece { extent, content: RestoreContent::Data(buffer) })
}

fn buffer_of(extent: Extent) -> Vec<u8> {
    vec![0u8; usize::try_from(extent.count().get() * SECTOR_BYTES).unwrap_or(0)]
}
