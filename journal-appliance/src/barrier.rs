//! A barrier: one moment at which every splitter of a group stands still (PROTOCOL R27).
//!
//! A pure state machine: no journal, socket or clock. Owns its order - all hold, then all lay their part, and it is a
//! point once every part is durable with nothing of its stream behind it, which the journal says - and when it has
//! failed. A barrier that fails is no point, whatever was laid of it. Hosts are never held for longer than the
//! splitters were told: each lets its own go on by itself.

use std::collections::BTreeSet;

use record::ids::SplitterId;
use record::position::Label;

use crate::intake::session::Millis;

#[cfg(test)]
mod tests;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A splitter holds its hosts; its newest label.
    Quiesced(SplitterId, u64, Label),
    /// A splitter cannot, or did not hold without interruption.
    Refused(SplitterId, u64, String),
    /// Nobody speaks for a splitter any more.
    Unlinked(SplitterId),
    /// The journal has every part, and the barrier is a point.
    Whole(u64),
    /// Time passed.
    Tick,
}

/// What is to be done, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Tell every splitter of the barrier to hold its hosts.
    Quiesce,
    /// Tell every splitter of the barrier to lay its part, above this label.
    Place(Label),
    /// Tell every splitter of the barrier to let its hosts go on.
    Release,
    /// It is over: a point, or why not.
    Done(Result<(), Failure>),
}

/// Why a barrier is no point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// This splitter could not take part.
    Refused(SplitterId, String),
    /// This splitter went away.
    Unlinked(SplitterId),
    /// These did not hold their hosts in time.
    NotHeld(Vec<SplitterId>),
    /// Not every part was durable in time, or a splitter went on before.
    NotWhole,
}

#[derive(Debug)]
enum Stage {
    /// Who does not hold yet, and the largest label of those who do.
    Quiescing {
        waiting: BTreeSet<SplitterId>,
        label: Label,
    },
    Placing,
    Over,
}

/// One barrier.
#[derive(Debug)]
pub struct Barrier {
    id: u64,
    splitters: BTreeSet<SplitterId>,
    until: Millis,
    /// Hosts stay held once it is whole: what comes next lets them go.
    keeps: bool,
    stage: Stage,
}

impl Barrier {
    /// Begins one across these splitters, that is over after `patience`; `keeps`: hosts stay held behind it.
    pub fn start(id: u64, splitters: &[SplitterId], now: Millis, patience: Millis, keeps: bool) -> (Self, Vec<Action>) {
        let splitters: BTreeSet<_> = splitters.iter().copied().collect();
        let stage = Stage::Quiescing { waiting: splitters.clone(), label: Label::default() };
        (Self { id, splitters, until: now + patience, keeps, stage }, vec![Action::Quiesce])
    }

    /// Its id.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Who takes part.
    pub fn splitters(&self) -> impl Iterator<Item = SplitterId> + '_ {
        self.splitters.iter().copied()
    }

    /// What follows from what happened.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Action> {
        match (&mut self.stage, input) {
            (Stage::Quiescing { waiting, label }, Input::Quiesced(splitter, id, newest)) if id == self.id => {
                waiting.remove(&splitter);
                *label = newest.max(*label);
                if !waiting.is_empty() {
                    return Vec::new();
                }
                let label = *label;
                // Only now: a part laid before the last splitter held could lack what that one was still told.
                self.stage = Stage::Placing;
                vec![Action::Place(label)]
            }
            (Stage::Placing, Input::Whole(id)) if id == self.id => {
                self.stage = Stage::Over;
                let done = Action::Done(Ok(()));
                if self.keeps { vec![done] } else { vec![Action::Release, done] }
            }
            (Stage::Quiescing { .. } | Stage::Placing, Input::Refused(splitter, id, reason)) if id == self.id => {
                self.fail(Failure::Refused(splitter, reason))
            }
            (Stage::Quiescing { .. } | Stage::Placing, Input::Unlinked(splitter))
                if self.splitters.contains(&splitter) =>
            {
                self.fail(Failure::Unlinked(splitter))
            }
            (Stage::Quiescing { waiting, .. }, Input::Tick) if self.until <= now => {
                let late = waiting.iter().copied().collect();
                self.fail(Failure::NotHeld(late))
            }
            (Stage::Placing, Input::Tick) if self.until <= now => self.fail(Failure::NotWhole),
            // Words of another barrier, or of a splitter that has no part in it; time that is not up.
            (
                Stage::Quiescing { .. } | Stage::Placing | Stage::Over,
                Input::Quiesced(..) | Input::Refused(..) | Input::Unlinked(_) | Input::Whole(_) | Input::Tick,
            ) => Vec::new(),
        }
    }

    fn fail(&mut self, why: Failure) -> Vec<Action> {
        self.stage = Stage::Over;
        vec![Action::Release, Action::Done(Err(why))]
    }
}
