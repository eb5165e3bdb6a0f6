//! Bringing the replicas to where the live line is, and back: eager distribution (ENGINE 10-17).
//!
//! Owns the moves of the replicas themselves, which change nothing of what an image shows: what a replica held is captured
//! before it is changed, and read from there since. A move goes piece by piece, each step durable before the next: where the
//! replicas come from and go to; what they held; then they are changed. At the end they are synced, and it is said where
//! they are. Who is cut off in between finds in the UNDO stream what may have changed, and sets out anew. How far everything
//! in front of the oldest point is brought is `retaining`'s affair; both take turns.

use super::Journal;
use crate::base::BaseDevice;
use crate::distribution;
use crate::error::JournalError;
use crate::image::{Image, ImagePiece, PieceKind};
use crate::lock::{lock, read};
use crate::members::Member;
use crate::path::Path;
use crate::state::State;
use crate::superblock::Replica;
use crate::timeline::At;
use crate::undo::{Captured, Change, Changes};
use record::geometry::{Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use record::position::Position;
use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Most bytes of a volume that are read and written at once.
const PIECE_BYTES: u64 = 1 << 20;
/// Most bytes of a volume that are looked at at once.
const LOOK_SECTORS: u64 = (64 << 20) / SECTOR_BYTES;
/// Most records that one move goes past: fewer places have to be remembered.
const MOVE_RECORDS: u64 = 100_000;

/// Where the replicas are.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Followed {
    /// They are the volumes as they were here, as plain disks; `None` while they are on their way, or where they only hold what no point
    /// needs from the log.
    pub at: Option<At>,
    /// Whether there is more to be done at once.
    pub more: bool,
    /// What keeps them from going on.
    pub held_back_by: Option<String>,
    /// Whether that is the limit of what may be captured.
    pub undo_full: bool,
}

/// What a move of the replicas may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowBounds {
    /// Bytes of what they held, at most; `None`: as many as there is room for.
    pub undo_limit: Option<u64>,
    /// A discard is captured and applied in pieces of so many bytes.
    pub punch_split: u64,
}

impl Default for FollowBounds {
    fn default() -> Self {
        Self { undo_limit: None, punch_split: 4 << 20 }
    }
}

/// What is to be looked at.
#[derive(Debug)]
enum Todo {
    /// Something of it may have to change.
    Known(Incarnation, Extent),
    /// It is not known yet what of it may.
    Wide(Incarnation, Extent),
}

/// What is to be done to a replica.
#[derive(Debug)]
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
pub(super) struct Following {
    /// Where they go; `None`: back.
    goal: Option<Image>,
    /// What every point has at least, of the volumes.
    needed_by_all: Image,
    members: Vec<Member>,
    todo: VecDeque<Todo>,
    /// How often something was captured by others when it began.
    folded: u64,
}

/// Some of it, done at once.
#[derive(Debug, Default)]
struct Batch {
    captures: Changes,
    captured_bytes: u64,
    actions: Vec<(Incarnation, Extent, Action)>,
    bytes: u64,
}

/// Why a batch was not done.
#[derive(Debug)]
struct Held {
    why: String,
    undo_full: bool,
}

impl Held {
    fn new(why: impl Into<String>) -> Self {
        Self { why: why.into(), undo_full: false }
    }
}

impl From<io::Error> for Held {
    fn from(error: io::Error) -> Self {
        Self::new(error.to_string())
    }
}

impl Journal {
    /// Brings the replicas nearer to the newest point (`eager`), or back to where they hold only what no point needs from the
    /// log, by at most about so many bytes. What they held is captured. Slow: reads and writes data. From any thread; one at a
    /// time.
    pub fn follow(&self, bytes: u64, eager: bool, bounds: FollowBounds) -> Result<Followed, JournalError> {
        let _moving = lock(&self.moving);
        let mut following = lock(&self.following);
        if following.as_ref().is_some_and(|going| going.goal.is_some() != eager) {
            *following = None;
        }
        if following.is_none() {
            match self.begin_following(eager)? {
                Ok(begun) => *following = begun,
                Err(held) => return Ok(self.followed(false, Some(held))),
            }
        }
        let Some(going) = following.as_mut() else { return Ok(self.followed(false, None)) };
        let batched = going.batch(bytes, bounds.punch_split).and_then(|batch| {
            self.has_room(&batch, bounds.undo_limit)?;
            going.carry_out(batch)
        });
        if let Err(held) = batched {
            *following = None;
            return Ok(self.followed(false, Some(held)));
        }
        if !going.todo.is_empty() {
            return Ok(self.followed(true, None));
        }
        let Some(done) = following.take() else { return Ok(self.followed(false, None)) };
        if done.goal.is_none() && done.folded != self.folded.load(Ordering::Relaxed) {
            // Meanwhile something came behind: it has to be restored as well.
            return Ok(self.followed(true, None));
        }
        if let Err(held) = self.end_following(&done)? {
            return Ok(self.followed(false, Some(held)));
        }
        Ok(self.followed(true, None))
    }

    /// Where the replicas are, as plain disks.
    pub fn replica_at(&self) -> Option<At> {
        match lock(&self.tail).replica() {
            Replica::At(position) => Some(self.reader.core.at(position)),
            Replica::Lower | Replica::Between { .. } => None,
        }
    }

    /// Bytes that the UNDO stream takes.
    pub fn undo_bytes(&self) -> u64 {
        self.reader.core.undo.bytes()
    }

    /// Bytes of data in it that replicas have as holes: held only because of discards. Slow: looks at all that is captured. 0 where
    /// replicas do not tell of holes.
    pub fn undo_bytes_of_discards(&self) -> std::io::Result<u64> {
        let core = &self.reader.core;
        let members: Vec<Member> = read(&core.state).members.all().cloned().collect();
        let mut bytes = 0;
        for volume in core.undo.volumes()? {
            let member = members.iter().find(|member| member.incarnation == volume);
            let (Some(whole), Some(base)) = (member.and_then(|m| Extent::whole(m.size)), core.base(volume)) else {
                continue;
            };
            for part in whole.pieces(LOOK_SECTORS) {
                let kinds = core.undo.steadily(volume, part, |kinds| Ok(kinds.clone()))?;
                let data = kinds.into_iter().filter(|(_, kind)| *kind == Some(Captured::Data)).map(|(run, _)| run);
                bytes += data.flat_map(|run| base.holes(run)).map(Extent::bytes).sum::<u64>();
            }
        }
        Ok(bytes)
    }

    /// What was left of replicas that had gone on. Where the journal does not reach their position any more, nobody knows
    /// what they hold.
    pub(super) fn find_replicas(&self) -> Result<(), JournalError> {
        let core = &self.reader.core;
        let failed = |source| core.io("open the UNDO stream", source);
        let head = read(&core.state).timeline.head().position;
        let mut tail = lock(&self.tail);
        let newest = match tail.replica() {
            Replica::Lower => {
                // They are back; what is left of what was captured is nobody's.
                for volume in core.undo.volumes().map_err(failed)? {
                    core.undo.remove(volume).map_err(failed)?;
                }
                return Ok(());
            }
            Replica::At(at) => at,
            Replica::Between { from, to } => from.max(to),
        };
        if newest > head {
            tail.set_replica(Replica::Between { from: Position::ORIGIN, to: Position::ORIGIN })?;
        }
        core.undo.find().map_err(failed)
    }

    fn followed(&self, more: bool, held: Option<Held>) -> Followed {
        let undo_full = held.as_ref().is_some_and(|held| held.undo_full);
        Followed { at: self.replica_at(), more, held_back_by: held.map(|held| held.why), undo_full }
    }

    fn has_room(&self, batch: &Batch, limit: Option<u64>) -> Result<(), Held> {
        let Some(limit) = limit.filter(|_| batch.captured_bytes > 0) else { return Ok(()) };
        let bytes = self.undo_bytes();
        if bytes + batch.captured_bytes <= limit {
            return Ok(());
        }
        let why = format!("what they held before takes {bytes} bytes, and may take {limit}");
        Err(Held { why, undo_full: true })
    }

    /// Begins a move if there is one to be made. Inner `Err`: what keeps it.
    fn begin_following(&self, eager: bool) -> Result<Result<Option<Following>, Held>, JournalError> {
        let core = &self.reader.core;
        // Nobody else moves them: the caller holds `moving`.
        let replica = {
            let tail = lock(&self.tail);
            let replica = tail.replica();
            if !eager && replica == Replica::Lower {
                return Ok(Ok(None));
            }
            tail.writable()?;
            replica
        };
        let (goal, ancestor) = {
            let images: Vec<Position> = lock(&core.images).keys().copied().collect();
            let state = read(&core.state);
            let (ancestor, _) = distribution::common_ancestor(&state.timeline, &state.members, images.into_iter());
            (if eager { goal(&state, replica) } else { None }, ancestor)
        };
        if eager && goal.is_none() {
            return Ok(Ok(None));
        }
        let members: Vec<Member> = {
            let wanted = |member: &&Member| {
                let joined = member.joined.is_some_and(|joined| goal.is_none_or(|goal| joined <= goal));
                joined && member.left.is_none_or(|left| left > ancestor)
            };
            read(&core.state).members.all().filter(wanted).cloned().collect()
        };
        if let Some(missing) = members.iter().find(|member| core.base(member.incarnation).is_none()) {
            return Ok(Err(Held::new(format!("{}: it is not attached", missing.name))));
        }
        let image = goal.map(|goal| Image::along(core, goal, goal, members.clone()));
        let needed_by_all = Image::in_passing(core, ancestor, members.clone());
        let (from, known) = {
            let state = read(&core.state);
            let from = from(&state, replica, goal);
            let known = from.zip(goal).filter(|(from, _)| follows(&state, *from, ancestor));
            (from, known.map(|(from, goal)| known_later(&state, &members, from, goal)))
        };
        // Appending goes on while it is read what differs.
        let todo = known.map_or_else(|| wide(&members), |known| known.into_iter().flat_map(|later| later()).collect());
        let from = from.unwrap_or(Position::ORIGIN);
        let between = Replica::Between { from, to: goal.unwrap_or(Position::ORIGIN) };
        if replica != between {
            lock(&self.tail).set_replica(between)?;
        }
        let folded = self.folded.load(Ordering::Relaxed);
        Ok(Ok(Some(Following { goal: image, needed_by_all, members, todo, folded })))
    }

    /// Everything was done: replicas are synced, and then it is said where they are.
    fn end_following(&self, done: &Following) -> Result<Result<(), Held>, JournalError> {
        let core = &self.reader.core;
        for member in &done.members {
            // All of them: what a life before this one wrote may not be durable, and was found there.
            let Some(base) = core.base(member.incarnation) else {
                return Ok(Err(Held::new(format!("{}: it is not attached", member.name))));
            };
            if let Err(error) = base.sync() {
                return Ok(Err(Held::new(format!("{}: {error}", member.name))));
            }
        }
        let replica = done.goal.as_ref().map_or(Replica::Lower, |goal| Replica::At(goal.at().position));
        lock(&self.tail).set_replica(replica)?;
        let is_left = |volume: &Incarnation| !done.members.iter().any(|member| member.incarnation == *volume);
        let gone = core.undo.volumes().and_then(|all| {
            let gone = all.into_iter().filter(|volume| done.goal.is_none() || is_left(volume));
            gone.into_iter().try_for_each(|volume| core.undo.remove(volume))
        });
        gone.map_err(|source| core.io("give the UNDO stream's room back", source))?;
        Ok(Ok(()))
    }
}

/// The newest point of the live line, if the replicas are not there; not too far ahead where they are on their way to it.
fn goal(state: &State, replica: Replica) -> Option<Position> {
    let head = state.timeline.head().position;
    let live = Path::of(state.timeline.rollbacks(), Position::ORIGIN, head);
    let point = |last: Position| state.timeline.last_point(last).filter(|point| live.contains(*point));
    match replica {
        Replica::At(at) if live.contains(at) => {
            let near = point(head.min(at.plus(MOVE_RECORDS))).filter(|point| *point > at);
            near.or_else(|| point(head)).filter(|point| *point > at)
        }
        Replica::At(_) | Replica::Lower | Replica::Between { .. } => point(head),
    }
}

/// The position from which the replicas set out, as far as it is known; `None`: they may be anywhere.
fn from(state: &State, replica: Replica, goal: Option<Position>) -> Option<Position> {
    match replica {
        Replica::At(at) => Some(at),
        // What an earlier move may have changed is on the way of this one.
        Replica::Between { from, to } if from > Position::ORIGIN && to > Position::ORIGIN => {
            let path = Path::of(state.timeline.rollbacks(), Position::ORIGIN, goal?);
            path.contains(to).then_some(from)
        }
        Replica::Lower | Replica::Between { .. } => None,
    }
}

/// Whether everything between this position and any point can still be asked of the index.
fn follows(state: &State, from: Position, ancestor: Position) -> bool {
    let path = |at| Path::of(state.timeline.rollbacks(), Position::ORIGIN, at);
    path(from).newest_common(&path(ancestor)).unwrap_or(Position::ORIGIN) >= state.retained().distributed
}

/// What differs between two positions, of each volume, to be read without a lock.
fn known_later(
    state: &State,
    members: &[Member],
    from: Position,
    goal: Position,
) -> Vec<impl FnOnce() -> Vec<Todo> + use<>> {
    let later = |member: &Member| {
        let (volume, whole) = (member.incarnation, Extent::whole(member.size)?);
        let path = state.path(member, goal);
        // A replica of a volume that has joined since holds what it joined with.
        let differing = match member.joined {
            Some(joined) if joined <= from => path.difference(&state.path(member, from)),
            Some(_) | None => path,
        };
        let touched = state.touched_later(volume, &differing);
        let todo = move |extent: Extent| Some(Todo::Known(volume, extent.intersection(whole)?));
        Some(move || touched().into_iter().filter_map(todo).collect())
    };
    members.iter().filter_map(later).collect()
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

fn wide(members: &[Member]) -> VecDeque<Todo> {
    let volume = |member: &Member| Some((member.incarnation, Extent::whole(member.size)?));
    let volumes = members.iter().filter_map(volume);
    volumes.flat_map(|(volume, whole)| whole.pieces(LOOK_SECTORS).map(move |part| Todo::Wide(volume, part))).collect()
}

impl Following {
    /// What is to be done next, of about so many bytes.
    fn batch(&mut self, bytes: u64, punch_split: u64) -> Result<Batch, Held> {
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
                    let reached = self.look(volume, now, bytes, punch_split, &mut batch)?;
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
        let captured = core.undo.steadily(volume, extent, |kinds| Ok(kinds.clone()))?;
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
        bytes: u64,
        punch_split: u64,
        batch: &mut Batch,
    ) -> Result<u64, Held> {
        let core = self.needed_by_all.core();
        let base = self.base(volume)?;
        let pieces = match &self.goal {
            Some(goal) => goal.pieces(volume, extent).map_err(|failure| Held::new(failure.to_string()))?,
            None => vec![ImagePiece { extent, kind: PieceKind::Joined, position: Position::ORIGIN }],
        };
        for piece in pieces {
            let parts: Vec<Extent> = match piece.kind {
                // Only where the replica is something else.
                PieceKind::Joined => {
                    let kinds = core.undo.steadily(volume, piece.extent, |kinds| Ok(kinds.clone()))?;
                    let captured = kinds.into_iter().filter_map(|(run, kind)| kind.map(|_| run));
                    captured.flat_map(|run| run.pieces(PIECE_BYTES / SECTOR_BYTES)).collect()
                }
                PieceKind::Data | PieceKind::Zero => piece.extent.pieces(PIECE_BYTES / SECTOR_BYTES).collect(),
                PieceKind::Hole => punched(piece.extent, &base.holes(piece.extent), punch_split),
                PieceKind::Refused => {
                    let name = self.name(volume);
                    return Err(Held::new(format!("{name}: {} of it is not known at the newest point", piece.extent)));
                }
            };
            for part in parts {
                if batch.bytes >= bytes {
                    return Ok(part.start().index());
                }
                let kinds = core.undo.steadily(volume, part, |kinds| Ok(kinds.clone()))?;
                for (run, kind) in kinds {
                    match (piece.kind, kind) {
                        (PieceKind::Joined, Some(kind)) => batch.act(volume, run, Action::Restore(kind)),
                        (PieceKind::Data | PieceKind::Zero | PieceKind::Hole, None) => {
                            self.capture(volume, run, base.as_ref(), piece.kind, batch)?;
                        }
                        (PieceKind::Joined | PieceKind::Refused, _)
                        | (PieceKind::Data | PieceKind::Zero | PieceKind::Hole, Some(_)) => {}
                    }
                }
                match piece.kind {
                    PieceKind::Data => batch.act(volume, part, Action::Copy),
                    PieceKind::Zero => batch.act(volume, part, Action::Zero),
                    PieceKind::Hole => batch.act(volume, part, Action::Hole),
                    PieceKind::Joined | PieceKind::Refused => {}
                }
            }
        }
        Ok(extent.end())
    }

    /// What a replica holds, before it is changed to something of another kind.
    fn capture(
        &self,
        volume: Incarnation,
        extent: Extent,
        base: &dyn BaseDevice,
        becomes: PieceKind,
        batch: &mut Batch,
    ) -> io::Result<()> {
        let core = self.needed_by_all.core();
        let distributed = read(&core.state).retained().distributed;
        let by_all = self.needed_by_all.pieces(volume, extent);
        for piece in by_all.map_err(|failure| io::Error::other(failure.to_string()))? {
            // What every point has something newer than is nobody's need (ENGINE 10): it only counts that the replica is not
            // it any more.
            if piece.kind != PieceKind::Refused && piece.position > distributed {
                batch.captures.push((volume, piece.extent, Change::Zero));
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
                let zeros = bytes.iter().all(|byte| *byte == 0);
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
    fn carry_out(&self, batch: Batch) -> Result<(), Held> {
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
