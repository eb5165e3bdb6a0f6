//! Which segment is compacted next (ENGINE 28): the deadest first, until all of them together have little more than what
//! is needed of them.
//!
//! A pure machine: no file, no clock. Owns how old an estimate may be, when copying is worth it, and how much is copied at
//! most beside what is written anyway. Deliberately does not know what is needed: that is counted in `need`.

use crate::place::SegmentNumber;
use record::position::Position;
use std::collections::BTreeMap;

/// Segments in which something may be given up have so many hundredths of what is needed of them, when all is done.
const ENOUGH_HUNDREDTHS: u64 = 105;
/// A segment is copied only if at least one part in so many comes free.
const GAIN_ONE_IN: u64 = 16;
/// Bytes that may be copied in advance of what is written.
const ADVANCE_SEGMENTS: u64 = 16;

/// A segment of which something may be given up.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    pub number: SegmentNumber,
    /// Bytes of its file.
    pub bytes: u64,
    pub first: Position,
    pub last: Position,
    /// The points in it, and the first behind it; none behind where that is the oldest of the window, which moves.
    pub points: Vec<Position>,
}

/// What is to be done next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// To be estimated: how much of it is needed.
    Estimate(SegmentNumber),
    /// To be compacted.
    Compact(SegmentNumber),
    /// It would be, but enough was copied for now.
    Later,
    /// Nothing.
    Nothing,
}

#[derive(Clone, Debug)]
struct Estimate {
    needed: u64,
    points: Vec<Position>,
    horizon: Position,
}

/// What is known of the segments.
#[derive(Debug, Default)]
pub(crate) struct Compaction {
    estimates: BTreeMap<SegmentNumber, Estimate>,
    /// Bytes copied.
    copied: u64,
}

impl Compaction {
    /// What is to be done, where `candidates` are all there are, oldest first, `horizon` is the oldest point of the window, and so many
    /// bytes were written since the journal was opened. `segment_bytes`: of an ordinary one.
    pub(crate) fn next(
        &mut self,
        candidates: &[Candidate],
        horizon: Position,
        written: u64,
        segment_bytes: u64,
    ) -> Next {
        let there =
            |number: &SegmentNumber| candidates.binary_search_by_key(number, |candidate| candidate.number).is_ok();
        self.estimates.retain(|number, _| there(number));
        if let Some(unknown) = candidates.iter().find(|candidate| self.is_stale(candidate, horizon)) {
            return Next::Estimate(unknown.number);
        }
        let needed = |candidate: &Candidate| {
            self.estimates.get(&candidate.number).map_or(candidate.bytes, |e| e.needed.min(candidate.bytes))
        };
        let (all, of_need) = candidates
            .iter()
            .fold((0, 0), |(all, of_need), candidate| (all + candidate.bytes, of_need + needed(candidate)));
        if all <= of_need / 100 * ENOUGH_HUNDREDTHS + of_need % 100 {
            return Next::Nothing;
        }
        let worth = |candidate: &&Candidate| candidate.bytes - needed(candidate) > candidate.bytes / GAIN_ONE_IN;
        let deadest = candidates.iter().filter(worth).min_by(|a, b| {
            // needed(a) / bytes(a) against needed(b) / bytes(b)
            let (left, right) =
                (u128::from(needed(a)) * u128::from(b.bytes), u128::from(needed(b)) * u128::from(a.bytes));
            left.cmp(&right)
        });
        match deadest {
            None => Next::Nothing,
            Some(candidate) if self.copied + needed(candidate) > written + ADVANCE_SEGMENTS * segment_bytes => {
                Next::Later
            }
            Some(candidate) => Next::Compact(candidate.number),
        }
    }

    /// Whether nothing is known of it, or what is known is too old: the points are others, or the oldest of the window has
    /// moved on by a part of what it was away.
    fn is_stale(&self, candidate: &Candidate, horizon: Position) -> bool {
        let Some(estimate) = self.estimates.get(&candidate.number) else { return true };
        if estimate.points != candidate.points {
            return true;
        }
        let fixed = candidate.points.last().is_some_and(|point| *point > candidate.last);
        let away = estimate.horizon.get().saturating_sub(candidate.last.get());
        let span = candidate.last.get() - candidate.first.get() + 1;
        !fixed && horizon.get() - estimate.horizon.get().min(horizon.get()) > away / 2 + span * 2
    }

    /// So much of it is needed.
    pub(crate) fn estimated(&mut self, candidate: &Candidate, horizon: Position, needed: u64) {
        let estimate = Estimate { needed, points: candidate.points.clone(), horizon };
        self.estimates.insert(candidate.number, estimate);
    }

    /// So many bytes were copied, and now it is as small as can be, whatever was estimated.
    pub(crate) fn compacted(&mut self, candidate: &Candidate, horizon: Position, bytes: u64, copied: u64) {
        self.copied += copied;
        self.estimated(candidate, horizon, bytes);
    }
}

#[cfg(test)]
mod tests;
