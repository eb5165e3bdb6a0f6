//! The judge: is this image one moment of that history?
//!
//! Owns the five rules and nothing else: values of sectors and a history in, a verdict out. Pure.
//!
//! # What is judged
//! An operation A is *before* B when A had completed before B was submitted; otherwise, unless B is before A, both are
//! *concurrent* and either may have come first. A set of operations is a *cut* when with B it has everything before B.
//! An image is right when there is a cut, and an order of its operations that keeps *before*, whose effect on what the
//! region held when the run began is this image, sector by sector. It is refused by the name of the rule it breaks:
//!
//! - **Valid**: a sector holds what no operation wrote there, or is torn.
//! - **Durable**: something is missing that must be in: it had completed by `after`.
//! - **Future**: something is in that was submitted after `before`, or never.
//! - **Closed**: B is in, A is before B, A is missing.
//! - **Atomic**: of a request that reaches the device in one piece, one sector is in and another, which nothing later
//!   covers, is missing; or two requests won over each other in different sectors.
//!
//! # How
//! Time is the order of entries in the log. A cut has a moment `m`: everything completed before `m` is in, everything
//! submitted at `m` or later is out, what was in flight at `m` may be either. (Take for `m` the latest beginning in it.)
//!
//! 1. A sector that shows operation W puts W in: `m` lies behind W's beginning. Every X that covers the sector and that W
//!    is before must be out: `m` is not behind X's end. A sector with foreign content shows the time before the run,
//!    which is before every operation. That gives `low <= m <= high`, together with `after` and `before`.
//! 2. A request in one piece that is shown by one sector and must be out by another is torn.
//! 3. Of the operations in flight at `m`, writes that no sector shows are taken for out, and zeroings for in unless (1)
//!    puts them out: nothing but zero sectors depends on either, and that choice serves these best. A zero sector is
//!    right at `m` when some zeroing of it that is in (or the time before the run) is not before any write of it that is
//!    in. Which `m` between `low` and `high` that excludes is computed for each zero sector; one must be left.
//! 4. Where W is shown and a concurrent X, shown elsewhere, covers the same sector, X came first. These orders and
//!    *before* together must have no circle. Zeroings take no part: a zero does not say whose it is.
//!
//! Each step only excludes what no cut can explain, so a right image is never refused. A wrong one can pass only where
//! zeros hide who wrote them (4). A request longer than the device's limits, or one that failed, is judged sector by
//! sector: each of its sectors may be in or out while it is in flight (a failed one: from its beginning on, for ever).
//!
//! After a power cut of the machine under a volume, [`after_power_cut`] asks less: see there.

mod power;
mod zeros;

pub use power::after_power_cut;

use crate::history::{History, Moment, NEVER, Operation};
use crate::log::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// What a sector shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value {
    /// Zeros.
    Zero,
    /// What this operation wrote there.
    Of(u32),
    /// Something that is not of this run.
    Foreign,
    /// It was refused already; nothing is to be concluded from it.
    Refused,
}

/// The rule that was broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A sector holds what nobody wrote there.
    Valid,
    /// What must be in is missing.
    Durable,
    /// What cannot be in is.
    Future,
    /// Something is in without what came before it.
    Closed,
    /// A request is in by halves.
    Atomic,
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which rule it breaks.
    pub rule: Rule,
    /// One line for a person.
    pub text: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}: {}", self.rule, self.text)
    }
}

/// What the caller knows of the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Everything that had completed before this moment is in.
    pub after: Moment,
    /// Nothing that was submitted at this moment or later is in.
    pub before: Moment,
}

/// A verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is right; this moment explains it.
    Right(Moment),
    /// It is not, at least for these reasons.
    Wrong(Vec<Violation>),
}

/// At most so many violations of one rule are told.
const TOLD: usize = 5;

/// Judges `values`, one for each sector of the region from its first on.
pub fn judge(history: &History, values: &[Value], bounds: Bounds) -> Verdict {
    let mut case = Case::new(history, values, bounds);
    case.look();
    case.torn();
    if case.low > case.high {
        case.no_moment();
    }
    if case.violations.is_empty() {
        case.zeros();
    }
    if case.violations.is_empty() {
        case.circles();
    }
    if case.violations.is_empty() { Verdict::Right(case.low) } else { Verdict::Wrong(case.violations) }
}

/// Where an operation was met, as an index into the values.
#[derive(Clone, Copy, Debug)]
struct Met {
    /// A sector that shows it.
    shown: Option<usize>,
    /// A sector that shows what it would have covered.
    missing: Option<usize>,
}

/// Why a bound of the moment is what it is.
#[derive(Clone, Copy, Debug)]
enum Reason {
    /// The caller said so.
    Given,
    /// This sector shows that operation (low), or lacks it (high).
    Seen { sector: usize, operation: usize },
}

struct Case<'a> {
    history: &'a History,
    values: &'a [Value],
    bounds: Bounds,
    met: Vec<Met>,
    /// Pairs (first, second) of operations that some sector puts into this order although they are concurrent.
    orders: BTreeSet<(usize, usize)>,
    low: Moment,
    high: Moment,
    low_by: Reason,
    high_by: Reason,
    violations: Vec<Violation>,
}

impl<'a> Case<'a> {
    fn new(history: &'a History, values: &'a [Value], bounds: Bounds) -> Self {
        let met = vec![Met { shown: None, missing: None }; history.operations.len()];
        let (orders, violations) = (BTreeSet::new(), Vec::new());
        let (low, high) = (bounds.after, bounds.before.min(history.end));
        let (low_by, high_by) = (Reason::Given, Reason::Given);
        Self { history, values, bounds, met, orders, low, high, low_by, high_by, violations }
    }

    fn operation(&self, number: usize) -> &'a Operation {
        &self.history.operations[number]
    }

    /// Step 1.
    fn look(&mut self) {
        for (sector, value) in self.values.iter().enumerate() {
            let Value::Of(number) = *value else { continue };
            let number = number as usize;
            self.met[number].shown.get_or_insert(sector);
            if self.operation(number).submitted >= self.low {
                (self.low, self.low_by) =
                    (self.operation(number).submitted + 1, Reason::Seen { sector, operation: number });
            }
        }
        for number in 0..self.history.operations.len() {
            let over = self.operation(number);
            if over.kind == Kind::Discard && !self.history.header.limits.discard_zeroes {
                continue;
            }
            for sector in self.covered(over) {
                let shown = match self.values[sector] {
                    Value::Zero | Value::Refused => continue,
                    Value::Foreign => None,
                    Value::Of(shown) if shown as usize == number => continue,
                    Value::Of(shown) => Some(shown as usize),
                };
                if shown.is_none_or(|shown| self.operation(shown).completed < over.submitted) {
                    self.met[number].missing.get_or_insert(sector);
                    if over.completed < self.high {
                        (self.high, self.high_by) = (over.completed, Reason::Seen { sector, operation: number });
                    }
                } else if let Some(shown) = shown
                    && over.atomic
                    && self.operation(shown).atomic
                    && self.met[number].shown.is_some()
                    && over.completed > self.operation(shown).submitted
                {
                    self.orders.insert((number, shown));
                }
            }
        }
    }

    /// The sectors that the operation covers, as indices into the values.
    fn covered(&self, operation: &Operation) -> std::ops::Range<usize> {
        covered(self.history, self.values.len(), operation)
    }

    /// Step 2.
    fn torn(&mut self) {
        for number in 0..self.met.len() {
            if let (true, Met { shown: Some(shown), missing: Some(missing) }) =
                (self.operation(number).atomic, self.met[number])
            {
                let text = format!(
                    "{} is in at sector {} and missing at sector {}, which shows {}",
                    self.name(number),
                    self.place(shown),
                    self.place(missing),
                    self.shows(missing)
                );
                self.wrong(Rule::Atomic, text);
            }
        }
    }

    /// Says why no moment is left after step 1.
    fn no_moment(&mut self) {
        let (rule, text) = match (self.low_by, self.high_by) {
            (Reason::Seen { sector, operation }, Reason::Seen { sector: lacking, operation: missing }) => (
                Rule::Closed,
                format!(
                    "{} is in at sector {}, but {}, which had completed before that was submitted, is missing at sector {}, which shows {}",
                    self.name(operation),
                    self.place(sector),
                    self.name(missing),
                    self.place(lacking),
                    self.shows(lacking)
                ),
            ),
            (Reason::Given, Reason::Seen { sector, operation }) => (
                Rule::Durable,
                format!(
                    "{} had completed by moment {} and is missing at sector {}, which shows {}",
                    self.name(operation),
                    self.bounds.after,
                    self.place(sector),
                    self.shows(sector)
                ),
            ),
            (Reason::Seen { sector, operation }, Reason::Given) => (
                Rule::Future,
                format!(
                    "sector {} shows {}, which was submitted after moment {}",
                    self.place(sector),
                    self.name(operation),
                    self.bounds.before
                ),
            ),
            (Reason::Given, Reason::Given) => {
                (Rule::Future, format!("moment {} is not before {}", self.bounds.after, self.high))
            }
        };
        self.wrong(rule, text);
    }

    /// Step 4: takes operations away that nothing is in front of, in the order of time; what is left is a circle.
    fn circles(&mut self) {
        let mut waits: BTreeMap<usize, usize> = BTreeMap::new();
        for (first, second) in &self.orders {
            *waits.entry(*second).or_default() += 1;
            waits.entry(*first).or_default();
        }
        let mut by_end: BTreeSet<(Moment, usize)> =
            waits.keys().map(|number| (self.operation(*number).completed, *number)).collect();
        loop {
            let Some((earliest_end, _)) = by_end.first().copied() else { return };
            let mut free = by_end
                .iter()
                .map(|(_, number)| *number)
                .filter(|number| waits[number] == 0 && self.operation(*number).submitted <= earliest_end);
            let Some(number) = free.next() else { break };
            by_end.remove(&(self.operation(number).completed, number));
            for (_, second) in self.orders.range((number, 0)..=(number, usize::MAX)) {
                if let Some(waiting) = waits.get_mut(second) {
                    *waiting -= 1;
                }
            }
        }
        let circle: Vec<String> = by_end.iter().take(3).map(|(_, number)| self.name(*number)).collect();
        let text = format!("each won over the other in different sectors: {}", circle.join("; "));
        self.wrong(Rule::Atomic, text);
    }

    fn wrong(&mut self, rule: Rule, text: String) {
        if self.violations.iter().filter(|violation| violation.rule == rule).count() < TOLD {
            self.violations.push(Violation { rule, text });
        }
    }

    fn name(&self, number: usize) -> String {
        name(self.history, number)
    }

    fn shows(&self, sector: usize) -> String {
        shows(self.history, self.values[sector])
    }

    fn place(&self, sector: usize) -> u64 {
        self.history.header.first + sector as u64
    }
}

/// The sectors that an operation covers, as indices into the region's values.
fn covered(history: &History, values: usize, operation: &Operation) -> std::ops::Range<usize> {
    let first = history.header.first;
    let begin = usize::try_from(operation.sector.saturating_sub(first)).unwrap_or(usize::MAX).min(values);
    let end = (operation.sector + operation.sectors).saturating_sub(first);
    begin..usize::try_from(end).unwrap_or(usize::MAX).min(values).max(begin)
}

/// An operation for a person.
fn name(history: &History, number: usize) -> String {
    let operation = &history.operations[number];
    let end = if operation.completed == NEVER { "never".to_owned() } else { operation.completed.to_string() };
    format!(
        "operation {number} ({} of sectors {}+{}, moments {} to {end})",
        operation.kind.name(),
        operation.sector,
        operation.sectors,
        operation.submitted
    )
}

/// What a sector shows, for a person.
fn shows(history: &History, value: Value) -> String {
    match value {
        Value::Zero => "zeros".to_owned(),
        Value::Of(number) => name(history, number as usize),
        Value::Foreign => "what was there before the run".to_owned(),
        Value::Refused => "what was refused".to_owned(),
    }
}

#[cfg(test)]
mod tests;
