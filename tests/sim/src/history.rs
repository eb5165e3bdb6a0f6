//! Every request of every host: who asked what, when, and what was answered.
//!
//! Owns the record of it, and the count by which one event is before another. Judging is `checker`'s.

use crate::content::Cell;
use record::geometry::Extent;
use record::position::Position;

/// One event is before another when its number is smaller.
pub type Tick = u64;

/// What became of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is on its way.
    Pending,
    /// It was done.
    Done,
    /// The host was told that it failed: any part of it may have been done.
    Failed,
    /// The host's machine died under it: any part of it may have been done.
    Unknown,
}

/// What a request changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// Writes its own content.
    Data,
    /// Makes zeros.
    Zeros,
}

/// How far the group's stream was when a request was answered.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Stamp {
    /// The session.
    pub session: u64,
    /// The number behind the last record; the largest number when writes were not being recorded.
    pub laid: u64,
}

/// A request that changes something.
#[derive(Clone, Debug)]
pub struct Op {
    /// Its number, in its content.
    pub id: u64,
    /// The volume's number.
    pub volume: u32,
    /// Where.
    pub extent: Extent,
    /// How.
    pub change: Change,
    /// Durable when answered.
    pub fua: bool,
    /// When it was asked.
    pub submitted: Tick,
    /// When it was answered; the largest number before that.
    pub completed: Tick,
    /// How.
    pub outcome: Outcome,
    /// How far the stream was by then.
    pub stamp: Option<Stamp>,
}

/// What was durable in the journal at some moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sighting {
    /// When.
    pub tick: Tick,
    /// The newest position.
    pub head: Position,
    /// Its label, in nanoseconds.
    pub label: u64,
    /// The session, and what it expects next.
    pub stamp: Stamp,
}

/// Between two power cuts of the host.
#[derive(Clone, Debug)]
pub struct Era {
    /// When it began.
    pub began: Tick,
    /// The newest session when the journal was first seen in this era.
    found_with: Option<u64>,
    /// Positions above this one are of this era, or a later one.
    pub above: Position,
    /// What each volume held.
    pub base: Vec<Vec<Cell>>,
    /// The first of its requests, in the list of all.
    pub first_op: usize,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct History {
    tick: Tick,
    /// Requests, in the order in which they were asked. The number of the request at index `i` is `i + 1`.
    pub ops: Vec<Op>,
    /// When flushes that succeeded were asked, by volume.
    pub flushes: Vec<(u32, Tick)>,
    /// What the journal had, in the order of time.
    pub sightings: Vec<Sighting>,
    /// Eras, oldest first; never empty.
    pub eras: Vec<Era>,
}

impl History {
    /// Nothing has happened; the volumes hold this.
    pub fn new(base: Vec<Vec<Cell>>) -> Self {
        let era = Era { began: 0, above: Position::ORIGIN, found_with: None, base, first_op: 0 };
        Self { tick: 0, ops: Vec::new(), flushes: Vec::new(), sightings: Vec::new(), eras: vec![era] }
    }

    /// The next event.
    pub fn tick(&mut self) -> Tick {
        self.tick += 1;
        self.tick
    }

    /// The number that the next request will have.
    pub fn next_id(&self) -> u64 {
        self.ops.len() as u64 + 1
    }

    /// A host asks for a change; its number.
    pub fn submit(&mut self, volume: u32, extent: Extent, change: Change, fua: bool) -> u64 {
        let (id, submitted) = (self.next_id(), self.tick());
        self.ops.push(Op {
            id,
            volume,
            extent,
            change,
            fua,
            submitted,
            completed: Tick::MAX,
            outcome: Outcome::Pending,
            stamp: None,
        });
        id
    }

    /// A host is answered.
    pub fn complete(&mut self, id: u64, outcome: Outcome, stamp: Stamp) {
        let completed = self.tick();
        let op = &mut self.ops[index(id)];
        (op.completed, op.outcome, op.stamp) = (completed, outcome, Some(stamp));
    }

    /// The host's machine dies: nobody will ever be answered.
    pub fn abandon(&mut self) {
        for op in self.ops.iter_mut().filter(|op| op.outcome == Outcome::Pending) {
            op.outcome = Outcome::Unknown;
        }
    }

    /// A new era begins.
    pub fn new_era(&mut self, above: Position, base: Vec<Vec<Cell>>) {
        let era = Era { began: self.tick(), above, found_with: None, base, first_op: self.ops.len() };
        self.eras.push(era);
    }

    /// The journal is open and ends here, with this newest session: if an era has begun since, it begins above. Until a
    /// session is granted in it, what the journal adds of its own (RECOVERY, late when there was no room for it) is
    /// still the end of the era before.
    pub fn found(&mut self, head: Position, session: u64) {
        for era in &mut self.eras {
            if era.above.get() == u64::MAX || era.found_with == Some(session) {
                (era.above, era.found_with) = (head, Some(session));
            }
        }
    }

    /// The requests of an era.
    pub fn ops_of(&self, era: usize) -> &[Op] {
        let end = self.eras.get(era + 1).map_or(self.ops.len(), |next| next.first_op);
        &self.ops[self.eras[era].first_op..end]
    }

    /// The era of a position.
    pub fn era_of(&self, position: Position) -> usize {
        self.eras.iter().rposition(|era| era.above < position).unwrap_or(0)
    }

    /// The request of this number.
    pub fn op(&self, id: u64) -> Option<&Op> {
        self.ops.get(index(id))
    }
}

fn index(id: u64) -> usize {
    usize::try_from(id).map_or(usize::MAX, |id| id.wrapping_sub(1))
}
