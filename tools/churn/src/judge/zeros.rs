//! Step 3 of the judge: the moments at which every zero sector can be zero.

use super::{Case, Rule, Value};
use crate::history::{Moment, NEVER};
use crate::log::Kind;

/// The newest write of a zero sector that is in, and the zeroing of it that is in and ended last.
#[derive(Clone, Copy, Default)]
struct State {
    /// The latest beginning of a write that is in, plus one; 0: there is none.
    write: Moment,
    /// The write.
    writer: usize,
    /// The latest end of a zeroing that is in, plus one; 0 stands for the time before the run.
    zeroed: Moment,
}

impl State {
    /// Whether some zeroing that is in is not before the newest write that is in.
    fn is_right(self) -> bool {
        self.write == 0 || self.zeroed > self.write
    }

    fn take_write(&mut self, begun: Moment, number: usize) {
        if begun + 1 > self.write {
            (self.write, self.writer) = (begun + 1, number);
        }
    }

    fn take_zero(&mut self, ended: Moment) {
        self.zeroed = self.zeroed.max(ended.saturating_add(1));
    }
}

/// From `moment` on, this operation is in.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Enters {
    sector: usize,
    moment: Moment,
    operation: usize,
}

impl Case<'_> {
    /// Step 3.
    pub(super) fn zeros(&mut self) {
        let (states, mut entering) = self.at_low();
        entering.sort_unstable();
        let mut entering = entering.as_slice();
        // How many more (or fewer) zero sectors are wrong from each moment of the window on.
        let mut wrong_from: std::collections::BTreeMap<Moment, i64> = std::collections::BTreeMap::new();
        let mut witness: Option<(usize, State)> = None;
        for (sector, value) in self.values.iter().enumerate() {
            let split = entering.partition_point(|enters| enters.sector <= sector);
            let (mine, rest) = entering.split_at(split);
            entering = rest;
            if *value != Value::Zero {
                continue;
            }
            let mut state = states[sector];
            let mut right = state.is_right();
            if !right {
                *wrong_from.entry(self.low).or_default() += 1;
                witness.get_or_insert((sector, state));
            }
            for enters in mine {
                self.enter(&mut state, enters.operation);
                if state.is_right() != right {
                    right = !right;
                    *wrong_from.entry(enters.moment).or_default() += if right { -1 } else { 1 };
                    if !right {
                        witness.get_or_insert((sector, state));
                    }
                }
            }
        }
        let mut wrong = 0;
        let mut at = self.low;
        for (moment, change) in wrong_from {
            if wrong == 0 && moment > at {
                break;
            }
            wrong += change;
            at = moment;
        }
        if wrong == 0 && at <= self.high {
            self.low = at;
            return;
        }
        if let Some((sector, state)) = witness {
            self.zero_for_data(sector, state);
        }
    }

    fn enter(&self, state: &mut State, number: usize) {
        let operation = self.operation(number);
        if operation.kind.writes() {
            state.take_write(operation.submitted, number);
        } else {
            state.take_zero(operation.completed);
        }
    }

    /// The state of every zero sector at the lowest moment, and what enters later, in any order.
    fn at_low(&self) -> (Vec<State>, Vec<Enters>) {
        let mut states = vec![State::default(); self.values.len()];
        let mut entering = Vec::new();
        for (number, operation) in self.history.operations.iter().enumerate() {
            let writes = operation.kind.writes();
            // The moment from which on it is in.
            let from = match (writes, self.met[number].shown, self.met[number].missing) {
                _ if operation.kind == Kind::Flush => continue,
                // One piece, and shown elsewhere: in. By pieces: this sector's may still be out.
                (true, Some(_), _) if operation.atomic => 0,
                (true, _, _) if operation.completed == NEVER => continue,
                (true, _, _) => operation.completed + 1,
                // Out by another sector, so out here.
                (false, _, Some(_)) if operation.atomic => continue,
                (false, _, _) => operation.submitted + 1,
            };
            if from > self.high {
                continue;
            }
            for sector in self.covered(operation) {
                if self.values[sector] != Value::Zero {
                    continue;
                }
                if from <= self.low {
                    self.enter(&mut states[sector], number);
                } else {
                    entering.push(Enters { sector, moment: from, operation: number });
                }
            }
        }
        (states, entering)
    }

    fn zero_for_data(&mut self, sector: usize, state: State) {
        let written = self.operation(state.writer);
        let rule = if written.completed < self.bounds.after { Rule::Durable } else { Rule::Closed };
        let text = format!(
            "sector {} reads zero, but {} is in, and no zeroing that may be in came after it (moments {} to {})",
            self.place(sector),
            self.name(state.writer),
            self.low,
            self.high
        );
        self.wrong(rule, text);
    }
}
