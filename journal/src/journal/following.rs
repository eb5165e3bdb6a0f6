//! Bringing the replicas to where the live line is, and back: eager distribution (ENGINE 10-17).
//!
//! Owns the moves of the replicas themselves, which change nothing of what an image shows: what a replica held is captured
//! before it is changed, and read from there since. A move goes piece by piece, each step durable before the next: where the
//! replicas come from and go to; what they held; then they are changed. At the end they are synced, and it is said where
//! they are. Who is cut off in between finds in the UNDO stream what may have changed, and sets out anew. The pieces are
//! `course`'s. How far everything in front of the oldest point is brought is `retaining`'s affair; both take turns.

mod course;

use super::Journal;
use crate::distribution;
use crate::error::JournalError;
use crate::image::Image;
use crate::lock::{lock, read};
use crate::members::Member;
use crate::path::Path;
use crate::state::State;
use crate::superblock::Replica;
use crate::timeline::At;
use crate::undo::Captured;
pub(super) use course::Following;
use course::{Batch, Held, LOOK_SECTORS, Todo};
use record::geometry::Extent;
use record::ids::Incarnation;
use record::position::Position;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;

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

impl FollowBounds {
    /// The pieces of a discard unless told otherwise.
    pub const PUNCH_SPLIT: u64 = 4 << 20;
}

impl Default for FollowBounds {
    fn default() -> Self {
        Self { undo_limit: None, punch_split: Self::PUNCH_SPLIT }
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
        let retained = *lock(&self.tail).retained();
        // What a move of the lower layer may have brought already, and does not bring again.
        let brought = retained.distributed.max(retained.target);
        let batched = going.batch(bytes, bounds.punch_split, brought).and_then(|batch| {
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
                let kinds = core.undo.kinds_now(volume, part)?;
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

fn wide(members: &[Member]) -> VecDeque<Todo> {
    let volume = |member: &Member| Some((member.incarnation, Extent::whole(member.size)?));
    let volumes = members.iter().filter_map(volume);
    volumes.flat_map(|(volume, whole)| whole.pieces(LOOK_SECTORS).map(move |part| Todo::Wide(volume, part))).collect()
}
