//! One move of the replicas, piece by piece: what may differ, what is captured of it, what it becomes.
//!
//! Owns the looking and the doing, a batch at a time: everything is captured durably before anything is changed. Where a move
//! begins and ends, and what is said of that, is `following`'s.

use crate::base::BaseDevice;
use crate::image::{Image, ImagePiece, PieceKind};
use crate::members::Member;
use crate::undo::{Captured, Change, Changes};
use record::geometry::{Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use record::position::Position;
use record::zeros::is_zero;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

/// Most bytes of a volume that are read and written at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Most bytes of a volume that are looked at at once.
pub(super) const LOOK_SECTORS: u64 = (64 << 20) / SECTOR_BYTES;

/// What is to be looked at.
#[derive(Debug)]
pub(super) enum Todo {
    /// Something of it may have to change.
    Known(Incarnation, Extent),
    /// It is not known yet what of it may.
    Wide(Incarnation, Extent),
}

/// What is to be done to a replica.
#[derive(Clone, Copy, Debug)]
enum Action {
    /// It gets the data of the goal.
    Copy,
    /// It gets what was captured.
    Restore(Captured),
    Zero,
    Hole,
}

/// The replicas on their way.
#[derive(Debug)]
pub(in crate::journal) struct Following {
    /// Where they go; `None`: back.
    pub(super) goal: Option<Image>,
    /// What every point has at least, of the volumes.
    pub(super) needed_by_all: Image,
    pub(super) members: Vec<Member>,
    pub(super) todo: VecDeque<Todo>,
    /// How often something was captured by others when it began.
    pub(super) folded: u64,
}

/// Some of it, done at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    captures: Changes,
    pub(super) captured_bytes: u64,
    actions: Vec<(Incarnation, Extent, Action)>,
    bytes: u64,
}

/// Why a batch was not done.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) why: String,
    pub(super) undo_full: bool,
}

impl Held {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), undo_full: false }
    }
}

impl From<io::Error> for Held {
    fn from(error: io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl Following {
    /// What is to be done next, of about so many bytes. What the lower layer was brought, or is being brought, is up to `brought`.
    pub(super) fn batch(&mut self, bytes: u64, punch_split: u64, brought: Position) -> Result<Batch, Held> {
        let mut batch = Batch::default();
        while batch.bytes < bytes {
            match self.todo.pop_front() {
                None => break,
                Some(Todo::Wide(volume, extent)) => {
                    for part in self.may_differ(volume, extent)?.into_iter().rev() {
                        self.todo.push_front(Todo::Known(volume, part));
                    }
                    // Looking is work as well.
                    batch.bytes += SECTOR_BYTES;
                }
                Some(Todo::Known(volume, extent)) => {
                    let now = extent.pieces(LOOK_SECTORS).next().unwrap_or(extent);
                    let reached = self.look(volume, now, (bytes, punch_split, brought), &mut batch)?;
                    batch.bytes += SECTOR_BYTES;
                    if let Some(rest) = Extent::between(reached, extent.end()) {
                        self.todo.push_front(Todo::Known(volume, rest));
                    }
                }
            }
        }
        Ok(batch)
    }

    /// What a replica may hold that is not the goal's.
    fn may_differ(&self, volume: Incarnation, extent: Extent) -> Result<Vec<Extent>, Held> {
        let core = self.needed_by_all.core();
        let captured = core.undo.kinds_now(volume, extent)?;
        let mut out: Vec<Extent> =
            captured.into_iter().filter_map(|(run, kind)| kind.is_some().then_some(run)).collect();
        if let Some(goal) = &self.goal {
            let pieces = goal.pieces(volume, extent).map_err(|failure| Held::new(failure.to_string()))?;
            out.extend(pieces.iter().filter(|piece| piece.kind != PieceKind::Joined).map(|piece| piece.extent));
        }
        Ok(crate::index::normalise(out))
    }

    /// Adds to the batch what is to be done to an extent; answers with the sector up to which that was.
    fn look(
        &self,
        volume: Incarnation,
        extent: Extent,
        (bytes, punch_split, brought): (u64, u64, Position),
        batch: &mut Batch,
    ) -> Result<u64, Held> {
        let core = self.needed_by_all.core();
        let base = self.base(volume)?;
        let pieces = match &self.goal {
            Some(goal) => goal.pieces(volume, extent).map_err(|failure| Held::new(failure.to_string()))?,
            None => vec![ImagePiece { extent, kind: PieceKind::Joined, position: Position::ORIGIN }],
        };
        for piece in pieces {
            let (parts, action): (Vec<Extent>, Action) = match piece.kind {
                PieceKind::Joined => {
                    // Only where the replica is something else.
                    for (run, kind) in core.undo.kinds_now(volume, piece.extent)? {
                        let Some(kind) = kind else { continue };
                        for part in run.pieces(PIECE_BYTES / SECTOR_BYTES) {
                            if batch.bytes >= bytes {
                                return Ok(part.start().index());
                            }
                            batch.act(volume, part, Action::Restore(kind));
                        }
                    }
                    continue;
                }
                PieceKind::Refused => {
                    let name = self.name(volume);
                    return Err(Held::new(format!("{name}: {} of it is not known at the newest point", piece.extent)));
                }
                PieceKind::Data => (in_pieces(piece.extent), Action::Copy),
                PieceKind::Zero => (in_pieces(piece.extent), Action::Zero),
                PieceKind::Hole => (punched(piece.extent, &base.holes(piece.extent), punch_split), Action::Hole),
            };
            for part in parts {
                if batch.bytes >= bytes {
                    return Ok(part.start().index());
                }
                for (run, kind) in core.undo.kinds_now(volume, part)? {
                    if kind.is_none() {
                        self.capture((volume, run), base.as_ref(), piece.kind, brought, batch)?;
                    }
                }
                batch.act(volume, part, action);
            }
        }
        Ok(extent.end())
    }

    /// What a replica holds, before it is changed to something of another kind.
    fn capture(
        &self,
        (volume, extent): (Incarnation, Extent),
        base: &dyn BaseDevice,
        becomes: PieceKind,
        brought: Position,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let by_all = self.needed_by_all.pieces(volume, extent);
        for piece in by_all.map_err(|failure| io::Error::other(failure.to_string()))? {
            // What every point has something newer than is nobody's need (ENGINE 10): it only counts that the replica is not
            // it any more. Not so while a move of the lower layer is on its way past that newer version: the replica may be
            // where it was brought to, and the move does not come by again.
            if piece.kind != PieceKind::Refused && piece.position > brought {
                // Where it has a hole and keeps it, it is still what it was.
                let keeps = if becomes == PieceKind::Hole { base.holes(piece.extent) } else { Vec::new() };
                let changed = crate::index::subtract(&[piece.extent], &keeps);
                batch.captures.extend(changed.into_iter().map(|part| (volume, part, Change::Zero)));
                continue;
            }
            // Of what kind it is the index knows better than the replica, where it still does.
            let known = match piece.kind {
                PieceKind::Zero => Some(Change::Zero),
                // What is a hole already stays one, and is still what it was.
                PieceKind::Hole if becomes == PieceKind::Hole => continue,
                PieceKind::Hole => Some(Change::Hole),
                PieceKind::Joined | PieceKind::Data | PieceKind::Refused => None,
            };
            if let Some(known) = known {
                batch.captures.push((volume, piece.extent, known));
                continue;
            }
            let holes = base.holes(piece.extent);
            for data in crate::index::subtract(&[piece.extent], &holes) {
                let mut bytes = vec![0; usize::try_from(data.bytes()).map_err(io::Error::other)?];
                base.read(data, &mut bytes)?;
                batch.bytes += data.bytes();
                let zeros = is_zero(&bytes);
                batch.captured_bytes += if zeros { 0 } else { data.bytes() };
                batch.captures.push((volume, data, if zeros { Change::Zero } else { Change::Data(bytes) }));
            }
            if becomes != PieceKind::Hole {
                batch.captures.extend(holes.into_iter().map(|hole| (volume, hole, Change::Hole)));
            }
        }
        Ok(())
    }

    /// Captures, and then changes the replicas.
    pub(super) fn carry_out(&self, batch: Batch) -> Result<(), Held> {
        let core = self.needed_by_all.core();
        if !batch.captures.is_empty() {
            core.undo.commit(&batch.captures)?;
        }
        let mut restored: Changes = Vec::new();
        for (volume, extent, action) in batch.actions {
            let base = self.base(volume)?;
            let name = |error: io::Error| Held::new(format!("{}: {error}", self.name(volume)));
            match action {
                Action::Copy => self.copy(volume, extent, base.as_ref())?,
                Action::Zero => base.allocate_zeros(extent).map_err(name)?,
                Action::Hole => base.zero(extent).map_err(name)?,
                Action::Restore(kind) => {
                    match kind {
                        Captured::Data => {
                            let mut bytes = vec![0; usize::try_from(extent.bytes()).map_err(io::Error::other)?];
                            core.undo.read(volume, extent, &mut bytes)?;
                            base.write(extent, &bytes).map_err(name)?;
                        }
                        Captured::Zero => base.allocate_zeros(extent).map_err(name)?,
                        Captured::Hole => base.zero(extent).map_err(name)?,
                    }
                    restored.push((volume, extent, Change::Drop));
                }
            }
        }
        // What was captured goes only when the replica holds it, durably (ENGINE 8).
        let mut volumes: Vec<Incarnation> = restored.iter().map(|(volume, _, _)| *volume).collect();
        volumes.dedup();
        for volume in volumes {
            self.base(volume)?.sync()?;
        }
        if !restored.is_empty() {
            core.undo.commit(&restored)?;
        }
        Ok(())
    }

    fn copy(&self, volume: Incarnation, extent: Extent, base: &dyn BaseDevice) -> Result<(), Held> {
        let Some(goal) = &self.goal else { return Ok(()) };
        let mut bytes = vec![0; usize::try_from(extent.bytes()).map_err(io::Error::other)?];
        goal.read(volume, extent, &mut bytes).map_err(|failure| Held::new(failure.to_string()))?;
        base.write(extent, &bytes).map_err(|error| Held::new(format!("{}: {error}", self.name(volume))))
    }

    fn base(&self, volume: Incarnation) -> Result<Arc<dyn BaseDevice>, Held> {
        let base = self.needed_by_all.core().base(volume);
        base.ok_or_else(|| Held::new(format!("{}: it is not attached", self.name(volume))))
    }

    fn name(&self, volume: Incarnation) -> String {
        let member = self.members.iter().find(|member| member.incarnation == volume);
        member.map(|member| member.name.clone()).unwrap_or_default()
    }
}

impl Batch {
    fn act(&mut self, volume: Incarnation, extent: Extent, action: Action) {
        self.bytes += match action {
            Action::Copy | Action::Restore(Captured::Data) => extent.bytes(),
            Action::Restore(Captured::Zero | Captured::Hole) | Action::Zero | Action::Hole => SECTOR_BYTES,
        };
        // What lies side by side is read and written at once.
        if let Some((of, last, Action::Copy)) = self.actions.last_mut()
            && matches!(action, Action::Copy)
            && *of == volume
            && last.end() == extent.start().index()
            && last.bytes() + extent.bytes() <= PIECE_BYTES
            && let Some(both) = Extent::between(last.start().index(), extent.end())
        {
            *last = both;
            return;
        }
        self.actions.push((volume, extent, action));
    }
}

fn in_pieces(extent: Extent) -> Vec<Extent> {
    extent.pieces(PIECE_BYTES / SECTOR_BYTES).collect()
}

/// The pieces in which an extent is punched: where a replica has data, of so many bytes. Where it says that it has holes it may
/// have zeros with space of their own, so these are punched as well, but there is nothing to be captured in pieces.
fn punched(extent: Extent, holes: &[Extent], split: u64) -> Vec<Extent> {
    let data = crate::index::subtract(&[extent], holes);
    let mut parts: Vec<Extent> = data.into_iter().flat_map(|data| data.pieces((split / SECTOR_BYTES).max(1))).collect();
    parts.extend_from_slice(holes);
    parts.sort_unstable_by_key(|part| part.start());
    parts
}
