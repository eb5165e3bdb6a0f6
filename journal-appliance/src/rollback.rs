//! A rollback of the production volumes, from the order to the last restored sector.
//!
//! A pure state machine: no journal, socket or clock. Owns the order of the steps, and which failure still means that
//! nothing was changed: everything before the ROLLBACK record is durable can be given up, nothing behind it can. What
//! is owed to the backing is the journal's restore map (ENGINE 18-20), which outlives this process and the splitter.

use std::collections::BTreeSet;

use control::error::{ControlError, Kind};
use record::ids::SplitterId;
use record::position::Position;

use crate::intake::session::Millis;

#[cfg(test)]
mod tests;

/// How long the splitter may take to let its hosts wait and to drain.
const PREPARE_PATIENCE_MS: Millis = 60_000;

/// What happened.
#[derive(Debug, PartialEq, Eq)]
pub enum Input {
    /// A splitter holds its hosts; everything before is durable.
    Ready(SplitterId, u64),
    /// A splitter cannot.
    Refused(u64, String),
    /// The ROLLBACK record is durable at this position; so many bytes are owed.
    Committed(Position, u64),
    /// It could not be written; nothing was changed.
    NotCommitted(ControlError),
    /// Whether it was written is known only when the journal is opened again.
    Undecided(ControlError),
    /// So many bytes were brought into the backing; whether nothing is owed any more.
    Restored {
        /// Bytes of the extents.
        bytes: u64,
        /// Whether that was the last.
        last: bool,
    },
    /// A splitter was granted its session anew; so many bytes are owed in all.
    Linked(SplitterId, u64),
    /// Nobody speaks for a splitter any more.
    Unlinked,
    /// Time passed.
    Tick,
}

/// What is to be done, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell the splitters to hold their hosts.
    SendPrepare,
    /// Tell the splitters that nothing will happen.
    SendAbort,
    /// Compute what changes, store the restore map, write the record; then `Committed` or `NotCommitted`.
    Commit,
    /// Tell every splitter, or this one, what is owed to its volumes; when that is nothing, it lets its hosts go on.
    SendOwed(Option<SplitterId>),
    /// It is over for whoever asked: nothing was changed, or the error says what is not known.
    Fail(ControlError),
    /// It is over: everything is in the backing.
    Finish(Position),
}

#[derive(Debug)]
enum Stage {
    Preparing {
        until: Millis,
        /// Who is not ready yet.
        waiting: BTreeSet<SplitterId>,
    },
    Restoring {
        position: Position,
    },
    /// The journal failed in the middle of the record: hosts stay held until it has been opened again.
    Undecided,
    Over,
}

/// One rollback.
#[derive(Debug)]
pub struct Rollback {
    id: u64,
    group: String,
    /// Whether several splitters serve the group: what one refuses, the others have to be told.
    several: bool,
    stage: Stage,
    /// Bytes owed at first, and still.
    total: u64,
    left: u64,
}

impl Rollback {
    /// Starts one across these splitters.
    pub fn start(id: u64, group: &str, splitters: &[SplitterId], now: Millis) -> (Self, Vec<Action>) {
        let waiting = splitters.iter().copied().collect();
        let stage = Stage::Preparing { until: now + PREPARE_PATIENCE_MS, waiting };
        let several = splitters.len() > 1;
        (Self { id, group: group.to_owned(), several, stage, total: 0, left: 0 }, vec![Action::SendPrepare])
    }

    /// Takes up one that a former process committed.
    pub fn resume(id: u64, group: &str, position: Position, owed: u64) -> Self {
        let stage = Stage::Restoring { position };
        Self { id, group: group.to_owned(), several: false, stage, total: owed, left: owed }
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Whether it is committed, or may be: a splitter that links keeps its hosts held.
    pub fn is_committed(&self) -> bool {
        matches!(self.stage, Stage::Restoring { .. } | Stage::Undecided)
    }

    /// Whether only the next opening of the journal tells if it happened.
    pub fn is_undecided(&self) -> bool {
        matches!(self.stage, Stage::Undecided)
    }

    /// Bytes restored, and to be restored in all.
    pub fn progress(&self) -> (u64, u64) {
        (self.total - self.left, self.total)
    }

    /// What follows from what happened.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Action> {
        match (&mut self.stage, input) {
            (Stage::Preparing { waiting, .. }, Input::Ready(splitter, id)) if id == self.id => {
                if waiting.remove(&splitter) && waiting.is_empty() { vec![Action::Commit] } else { Vec::new() }
            }
            (Stage::Preparing { .. }, Input::Refused(id, reason)) if id == self.id => {
                self.fail(Kind::Failed, &reason, self.several)
            }
            (Stage::Preparing { .. }, Input::Unlinked) => {
                self.fail(Kind::Failed, "the splitter went away before it was ready", self.several)
            }
            (Stage::Preparing { until, .. }, Input::Tick) if *until <= now => {
                self.fail(Kind::TimedOut, "the splitter did not become ready within 60 seconds", true)
            }
            (Stage::Preparing { .. }, Input::Committed(position, owed)) => {
                self.stage = Stage::Restoring { position };
                (self.total, self.left) = (owed, owed);
                let mut actions = vec![Action::SendOwed(None)];
                if owed == 0 {
                    self.stage = Stage::Over;
                    actions.push(Action::Finish(position));
                }
                actions
            }
            (Stage::Preparing { .. }, Input::NotCommitted(error)) => {
                self.stage = Stage::Over;
                vec![Action::SendAbort, Action::Fail(error)]
            }
            (Stage::Preparing { .. }, Input::Undecided(error)) => {
                self.stage = Stage::Undecided;
                vec![Action::Fail(error)]
            }
            (Stage::Restoring { position }, Input::Restored { bytes, last }) => {
                let position = *position;
                self.left = self.left.saturating_sub(bytes);
                if !last {
                    return Vec::new();
                }
                self.left = 0;
                self.stage = Stage::Over;
                // Only this lets the hosts go on: had they gone on by themselves, and had this process died before it
                // stored that nothing is owed, the next one would restore over what they wrote since.
                vec![Action::SendOwed(None), Action::Finish(position)]
            }
            (Stage::Restoring { .. }, Input::Linked(splitter, owed)) => {
                self.left = owed.min(self.total);
                vec![Action::SendOwed(Some(splitter))]
            }
            // Late words of another rollback, of one that is over, or words that change nothing at this stage.
            (
                Stage::Preparing { .. },
                Input::Ready(..) | Input::Refused(..) | Input::Restored { .. } | Input::Linked(..) | Input::Tick,
            )
            | (
                Stage::Restoring { .. },
                Input::Ready(..)
                | Input::Refused(..)
                | Input::Committed(..)
                | Input::NotCommitted(_)
                | Input::Undecided(_)
                | Input::Unlinked
                | Input::Tick,
            )
            | (
                Stage::Undecided | Stage::Over,
                Input::Ready(..)
                | Input::Refused(..)
                | Input::Committed(..)
                | Input::NotCommitted(_)
                | Input::Undecided(_)
                | Input::Restored { .. }
                | Input::Linked(..)
                | Input::Unlinked
                | Input::Tick,
            ) => Vec::new(),
        }
    }

    fn fail(&mut self, kind: Kind, why: &str, abort: bool) -> Vec<Action> {
        self.stage = Stage::Over;
        let message = format!("cannot roll back group {}: {why}; nothing was changed", self.group);
        let fail = Action::Fail(ControlError::new(kind, message));
        if abort { vec![Action::SendAbort, fail] } else { vec![fail] }
    }
}
