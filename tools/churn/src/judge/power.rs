//! The judge of a volume whose disk lost power: what was flushed is there.
//!
//! A disk with a volatile cache may lose any part of what was not flushed and keep any other, sector by sector; so there
//! is no cut and no whole request. What is left to ask, of each sector:
//! - **Valid**, and no **Future**, as ever.
//! - **Durable**: what it shows is not before an operation that covers it and that was *flushed*: it had completed before
//!   the beginning of a flush that completed, or was a FUA write that completed.

use super::{Bounds, Rule, TOLD, Value, Verdict, Violation, covered, name, shows};
use crate::history::{History, Moment, Operation};
use crate::log::Kind;

/// The newest of what covers a sector.
#[derive(Clone, Copy, Default)]
struct State {
    /// The latest beginning of a flushed operation that may not be missing, plus one; 0: none.
    kept: Moment,
    keeper: usize,
    /// The latest end of a zeroing, flushed or not, plus one.
    zeroed: Moment,
}

/// Judges what a volume holds after a power cut of its disk. `bounds.before` is the moment of the cut; `bounds.after`
/// does not count.
pub fn after_power_cut(history: &History, values: &[Value], bounds: Bounds) -> Verdict {
    let flushed = last_flush(history, bounds.before);
    let mut states = vec![State::default(); values.len()];
    for (number, operation) in history.operations.iter().enumerate() {
        if operation.kind == Kind::Flush || operation.submitted >= bounds.before {
            continue;
        }
        let lost_nothing = is_flushed(operation, flushed, bounds.before);
        let may_keep = operation.kind == Kind::Discard && !history.header.limits.discard_zeroes;
        for sector in covered(history, values.len(), operation) {
            let state = &mut states[sector];
            if !operation.kind.writes() {
                state.zeroed = state.zeroed.max(operation.completed.saturating_add(1));
            }
            if lost_nothing && !may_keep && operation.submitted + 1 > state.kept {
                // A zeroing is no reason against zeros.
                if values[sector] != Value::Zero || operation.kind.writes() {
                    (state.kept, state.keeper) = (operation.submitted + 1, number);
                }
            }
        }
    }
    let mut violations = Vec::new();
    let mut wrong = |rule: Rule, text: String| {
        if violations.iter().filter(|violation: &&Violation| violation.rule == rule).count() < TOLD {
            violations.push(Violation { rule, text });
        }
    };
    for (sector, (value, state)) in values.iter().zip(&states).enumerate() {
        let place = history.header.first + sector as u64;
        let shown_until = match *value {
            Value::Refused => continue,
            Value::Zero => state.zeroed,
            Value::Foreign => 0,
            Value::Of(number) => {
                let shown = &history.operations[number as usize];
                if shown.submitted >= bounds.before {
                    let text =
                        format!("sector {place} shows {}, submitted after the cut", name(history, number as usize));
                    wrong(Rule::Future, text);
                    continue;
                }
                shown.completed.saturating_add(1)
            }
        };
        if state.kept > shown_until {
            let (lost, found) = (name(history, state.keeper), shows(history, *value));
            wrong(Rule::Durable, format!("{lost} was flushed and is missing at sector {place}, which shows {found}"));
        }
    }
    if violations.is_empty() { Verdict::Right(bounds.before.min(history.end)) } else { Verdict::Wrong(violations) }
}

/// The latest beginning of a flush that completed before the cut.
fn last_flush(history: &History, cut: Moment) -> Moment {
    let flushes = history.operations.iter().filter(|operation| operation.kind == Kind::Flush);
    flushes.filter(|flush| flush.completed < cut).map(|flush| flush.submitted).max().unwrap_or(0)
}

fn is_flushed(operation: &Operation, last_flush: Moment, cut: Moment) -> bool {
    operation.completed < last_flush || (operation.kind == Kind::Fua && operation.completed < cut)
}
