//! Points across several splitters.
//!
//! While volumes of more than one splitter are in a group, records of different splitters have no common order: only
//! barriers are points (PROTOCOL R27). Owns which stretches of positions are so, which barriers there are, and the one
//! that is being placed. Pure: all of it follows from the records, so that a journal that is opened again has the same
//! barriers. Deliberately asks nobody to hold still: the appliance does.

use crate::checkpoint::{In, Out};
use record::member::BarrierNote;
use record::op::Op;
use record::position::{Position, Session};
use std::collections::BTreeSet;

/// A stretch in which only barriers are points: from `begin`, until `end`, not included.
#[derive(Clone, Copy, Debug)]
struct Shared {
    begin: Position,
    end: Option<Position>,
}

/// A barrier of which not every part is there.
#[derive(Debug)]
struct Placing {
    note: BarrierNote,
    placed: BTreeSet<Session>,
}

/// The barriers of a group.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    /// Ascending, never overlapping; the last may be open.
    shared: Vec<Shared>,
    /// Ascending.
    points: Vec<Position>,
    placing: Option<Placing>,
    /// The newest barrier that became whole.
    whole: Option<u64>,
}

impl Barriers {
    /// A record came. One that changes something, of a session that has laid its part already, shows that this splitter
    /// went on too early: whatever it knew of the others then may not be in front of their parts.
    pub(super) fn spoke(&mut self, session: Session, op: Op) {
        let changes = match op {
            Op::Write | Op::Punch | Op::Zero | Op::Indeterminate | Op::ResyncBegin | Op::ResyncEnd => true,
            Op::Flush
            | Op::Bookmark
            | Op::Noop
            | Op::Join
            | Op::Joined
            | Op::Leave
            | Op::Rollback
            | Op::BookmarkRemoved
            | Op::Recovery
            | Op::Commit
            | Op::SessionGranted
            | Op::SessionLost
            | Op::Barrier => false,
        };
        if changes && self.placing.as_ref().is_some_and(|placing| placing.placed.contains(&session)) {
            self.placing = None;
        }
    }

    /// A part of a barrier was laid at this position; whether that completes it.
    pub(super) fn placed(&mut self, session: Session, note: &BarrierNote, at: Position) -> bool {
        if !note.sessions.contains(&session) {
            return false;
        }
        // The appliance places one at a time: what is left of another one was given up.
        let placing = match &mut self.placing {
            Some(placing) if placing.note == *note => placing,
            Some(_) | None => self.placing.insert(Placing { note: note.clone(), placed: BTreeSet::new() }),
        };
        placing.placed.insert(session);
        if placing.placed.len() < note.sessions.len() {
            return false;
        }
        self.placing = None;
        self.points.push(at);
        self.whole = Some(note.id);
        true
    }

    /// The newest point across splitters.
    pub(super) fn last(&self) -> Option<Position> {
        self.points.last().copied()
    }

    /// The newest barrier of which every part is there.
    pub(super) fn whole(&self) -> Option<u64> {
        self.whole
    }

    /// Every splitter stands still here for another reason.
    pub(super) fn stands_still(&mut self, at: Position) {
        if self.are_shared() {
            self.points.push(at);
        }
    }

    /// Whether volumes of more than one splitter are shown from this position on.
    pub(super) fn set_shared(&mut self, at: Position, shared: bool) {
        match self.shared.last_mut().filter(|last| last.end.is_none()) {
            Some(open) if !shared => open.end = Some(at),
            None if shared => self.shared.push(Shared { begin: at, end: None }),
            Some(_) | None => {}
        }
    }

    /// Whether that is so now.
    pub(super) fn are_shared(&self) -> bool {
        self.shared.last().is_some_and(|last| last.end.is_none())
    }

    fn stretch(&self, position: Position) -> Option<&Shared> {
        let at = self.shared.partition_point(|shared| shared.begin <= position);
        let last = self.shared.get(at.checked_sub(1)?)?;
        last.end.is_none_or(|end| position < end).then_some(last)
    }

    /// Whether a position is a point as far as splitters go.
    pub(super) fn allow(&self, position: Position) -> bool {
        self.stretch(position).is_none() || self.points.binary_search(&position).is_ok()
    }

    /// The nearest position in front of one in a stretch that may be a point.
    pub(super) fn previous(&self, position: Position) -> Option<Position> {
        let stretch = self.stretch(position)?;
        let count = self.points.partition_point(|point| *point < position);
        let barrier = count.checked_sub(1).map(|i| self.points[i]).filter(|point| *point >= stretch.begin);
        barrier.or_else(|| stretch.begin.previous())
    }

    /// The nearest position behind one in a stretch that may be a point.
    pub(super) fn next(&self, position: Position) -> Option<Position> {
        let stretch = self.stretch(position)?;
        let behind = self.points.partition_point(|point| *point <= position);
        let barrier = self.points.get(behind).filter(|point| stretch.end.is_none_or(|end| **point < end));
        barrier.copied().or(stretch.end)
    }

    /// What only concerns positions in front of this one goes, but for the last stretch.
    pub(super) fn forget(&mut self, position: Position) {
        let old = self.points.partition_point(|point| *point < position);
        self.points.drain(..old);
        self.shared.retain(|shared| shared.end.is_none_or(|end| end > position));
    }

    /// For a checkpoint.
    pub(super) fn save(&self, out: &mut Out) {
        out.list(self.shared.iter(), |out, shared| {
            out.position(shared.begin);
            out.maybe(shared.end, Out::position);
        });
        out.list(self.points.iter(), |out, point| out.position(*point));
        out.maybe(self.placing.as_ref(), |out, placing| {
            out.bytes(&placing.note.encode());
            out.list(placing.placed.iter(), |out, session| out.u64(session.get()));
        });
        out.maybe(self.whole, Out::u64);
    }

    /// From a checkpoint.
    pub(super) fn restore(input: &mut In<'_>) -> Option<Self> {
        let stretch = |input: &mut In<'_>| Some(Shared { begin: input.position()?, end: input.maybe(In::position)? });
        let placing = |input: &mut In<'_>| {
            let note = BarrierNote::decode(input.bytes()?)?;
            Some(Placing { note, placed: input.list(|input| input.u64().map(Session::new))? })
        };
        Some(Self {
            shared: input.list(stretch)?,
            points: input.list(In::position)?,
            placing: input.maybe(placing)?,
            whole: input.maybe(In::u64)?,
        })
    }

    /// The newest of them, oldest first.
    pub(super) fn newest(&self, most: usize) -> impl Iterator<Item = Position> + '_ {
        self.points[self.points.len().saturating_sub(most)..].iter().copied()
    }
}

#[cfg(test)]
mod tests;
