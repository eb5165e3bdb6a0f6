//! Barriers of a group that several splitters serve: for bookmarks, for rollbacks, and now and then for their own sake.
//!
//! Owns which barrier is placed now, what waits for its turn (one is placed at a time), and what comes of each;
//! `crate::barrier` decides, the journal says when one is whole.

use std::collections::VecDeque;

use control::events::EventKind;
use record::conversation::ToSplitter;
use record::position::Session;

use super::Group;
use crate::barrier::{Action, Barrier, Failure, Input};
use crate::intake::session::Millis;
use crate::rollback;

/// How long hosts may be held for a barrier that somebody asked for.
const HOLD_MS: Millis = 5_000;
/// How long for one that nobody asked for: their hosts must hardly feel it.
const HOLD_UNASKED_MS: Millis = 1_000;
/// Time between two that nobody asked for.
const EVERY_MS: Millis = 30_000;
/// Barriers that may wait for their turn; as many bookmarks may be on their way at once.
const WAITING_MAX: usize = 64;

/// What a barrier is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A bookmark that was asked for.
    Bookmark {
        /// The request.
        ticket: u64,
        /// Its name.
        name: String,
    },
    /// The bookmark from which a rollback can be undone; hosts stay held behind it.
    Rollback {
        /// The rollback.
        id: u64,
        /// The bookmark's request.
        ticket: u64,
        /// Its name.
        name: String,
    },
    /// A point to go back to.
    Point,
}

#[derive(Debug)]
struct Running {
    core: Barrier,
    purpose: Purpose,
    sessions: Vec<Session>,
}

/// The barriers of a group.
#[derive(Debug, Default)]
pub(super) struct Barriers {
    running: Option<Running>,
    /// Those that wait for their turn.
    waiting: VecDeque<Purpose>,
    /// The newest id that one of this process had.
    last: u64,
    /// When the last one ended.
    ended: Millis,
    /// Whether the last one that nobody asked for failed: the next failure is not told again.
    failing: bool,
}

impl Barriers {
    /// Whether none is placed or waits.
    pub(super) fn are_idle(&self) -> bool {
        self.running.is_none() && self.waiting.is_empty()
    }
}

impl Group {
    /// One is to be placed, once those before are over.
    pub(super) fn want_barrier(&mut self, purpose: Purpose) {
        if self.barriers.waiting.len() >= WAITING_MAX {
            return self.barrier_over(&purpose, Err("too many barriers are on their way".to_owned()));
        }
        self.barriers.waiting.push_back(purpose);
        self.look_at_barrier();
    }

    /// Goes on with the one that is being placed, or begins the next.
    pub(super) fn look_at_barrier(&mut self) {
        if let Some(running) = &self.barriers.running {
            let id = running.core.id();
            if self.journal.reader().whole_barrier() == Some(id) {
                self.barrier_step(Input::Whole(id));
            } else {
                self.barrier_step(Input::Tick);
            }
        }
        if self.barriers.running.is_none() {
            let next = self.barriers.waiting.pop_front().or_else(|| self.unasked());
            if let Some(purpose) = next {
                self.begin_barrier(purpose);
            }
        }
    }

    /// A barrier for its own sake, if one is due and can be placed.
    fn unasked(&self) -> Option<Purpose> {
        let due = self.participants.len() > 1
            && self.now().saturating_sub(self.barriers.ended) >= EVERY_MS
            && self.rollback.is_none()
            && self.is_linked();
        // Only while every write is a point in each stream, and only when there is something new to go back from.
        let useful = || {
            !self.journal.has_open_gap()
                && self.view().synchronising == 0
                && self.journal.reader().has_changed_since_barrier()
        };
        (due && useful()).then_some(Purpose::Point)
    }

    fn begin_barrier(&mut self, purpose: Purpose) {
        let session = |splitter| self.sides.get(splitter).and_then(|side| side.intake.session());
        let sessions: Option<Vec<Session>> = self.participants.iter().map(|splitter| session(*splitter)).collect();
        let Some(mut sessions) = sessions.filter(|sessions| sessions.len() > 1) else {
            return self.barrier_over(&purpose, Err("not every splitter of the group is linked".to_owned()));
        };
        sessions.sort_unstable();
        // Never used again: above every one of this process, and of those before, by the clock.
        let id = self.clock.wall_ns().max(self.barriers.last + 1);
        self.barriers.last = id;
        let (patience, keeps) = match &purpose {
            Purpose::Bookmark { .. } => (HOLD_MS, false),
            Purpose::Rollback { .. } => (HOLD_MS, true),
            Purpose::Point => (HOLD_UNASKED_MS, false),
        };
        let (core, actions) = Barrier::start(id, &self.participants, self.now(), patience, keeps);
        self.barriers.running = Some(Running { core, purpose, sessions });
        self.perform_barrier(actions);
    }

    pub(super) fn barrier_step(&mut self, input: Input) {
        let now = self.now();
        let Some(running) = &mut self.barriers.running else {
            // One that became ready after it was given up: its hosts wait for a word.
            if let Input::Quiesced(splitter, barrier, _) = input {
                self.send(splitter, &ToSplitter::Release { barrier });
            }
            return;
        };
        let actions = running.core.step(now, input);
        self.perform_barrier(actions);
    }

    fn perform_barrier(&mut self, actions: Vec<Action>) {
        for action in actions {
            let Some(running) = &self.barriers.running else { return };
            let barrier = running.core.id();
            let message = match action {
                Action::Quiesce => {
                    let hold = match running.purpose {
                        Purpose::Bookmark { .. } | Purpose::Rollback { .. } => HOLD_MS,
                        Purpose::Point => HOLD_UNASKED_MS,
                    };
                    ToSplitter::Quiesce { barrier, hold_ms: u32::try_from(hold).unwrap_or(u32::MAX) }
                }
                Action::Place(label) => {
                    let (ticket, name) = match &running.purpose {
                        Purpose::Bookmark { ticket, name } | Purpose::Rollback { ticket, name, id: _ } => {
                            (*ticket, name.clone())
                        }
                        Purpose::Point => (0, String::new()),
                    };
                    ToSplitter::PlaceBarrier { barrier, ticket, sessions: running.sessions.clone(), name, label }
                }
                Action::Release => ToSplitter::Release { barrier },
                Action::Done(outcome) => {
                    if let Some(running) = self.barriers.running.take() {
                        self.barriers.ended = self.now();
                        let outcome = outcome.map(|()| barrier).map_err(|why| self.failure(&why));
                        self.barrier_over(&running.purpose, outcome);
                    }
                    continue;
                }
            };
            for splitter in running.core.splitters() {
                self.send(splitter, &message);
            }
        }
    }

    fn failure(&self, why: &Failure) -> String {
        let name = |splitter: &record::ids::SplitterId| self.sides.name(*splitter);
        match why {
            Failure::Refused(splitter, reason) => format!("splitter {} could not take part: {reason}", name(splitter)),
            Failure::Unlinked(splitter) => format!("splitter {} went away", name(splitter)),
            Failure::NotHeld(late) => {
                let late: Vec<_> = late.iter().map(name).collect();
                format!("hosts of splitter {} could not be held in time", late.join(", "))
            }
            Failure::NotWhole => "the journal did not get every splitter's part in time".to_owned(),
        }
    }

    /// A barrier is over: its id, or why it is no point.
    fn barrier_over(&mut self, purpose: &Purpose, outcome: Result<u64, String>) {
        if let Err(reason) = &outcome {
            tracing::warn!(group = self.name, ?purpose, reason, "a barrier failed; hosts go on");
        }
        match (purpose, outcome) {
            // The bookmark is in the journal: whoever asked for it is answered from there.
            (Purpose::Bookmark { .. }, Ok(_)) => self.look_at_bookmarks(),
            (Purpose::Bookmark { ticket, .. }, Err(reason)) => {
                let reason = format!("{reason}; nothing was changed, hosts go on");
                self.bookmark_refused(*ticket, &reason);
            }
            (Purpose::Rollback { id, .. }, Ok(barrier)) => self.rollback_held(*id, barrier),
            (Purpose::Rollback { id, .. }, Err(reason)) => self.rollback_step(rollback::Input::Refused(*id, reason)),
            (Purpose::Point, Ok(_)) => self.barriers.failing = false,
            (Purpose::Point, Err(reason)) => {
                if !std::mem::replace(&mut self.barriers.failing, true) {
                    self.tell(EventKind::Alarm, format!("no point across its splitters could be made: {reason}"));
                }
            }
        }
    }
}
