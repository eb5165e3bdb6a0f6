//! Which records an image is made of: the path of a position (ENGINE 1-3).
//!
//! A rollback makes the live line go on from an older position; the records between are not part of what follows.
//! So the path of a position is a list of stretches: back to the newest rollback, then back from its target, and so
//! on to the beginning. A rollback leaves alone what was no member at its target, so a path is a volume's own.
//! Pure.

use record::position::Position;

/// A committed rollback.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Rollback {
    /// The position of its record.
    pub at: Position,
    /// The last older position that stays live.
    pub target: Position,
    /// Which rollback.
    pub id: u64,
}

/// Stretches of positions, both ends included, newest first, never overlapping.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Path(Vec<(Position, Position)>);

impl Path {
    /// The path of `at` for a volume that joined at `joined` (`Position::ORIGIN`: for the group as a whole).
    /// `rollbacks` are all there are, oldest first.
    pub(crate) fn of(rollbacks: &[Rollback], joined: Position, at: Position) -> Self {
        let mut stretches = Vec::new();
        let mut end = at;
        for rollback in rollbacks.iter().rev() {
            if rollback.at <= end && rollback.target >= joined {
                stretches.push((rollback.at, end));
                end = rollback.target;
            }
        }
        if end >= Position::FIRST {
            stretches.push((Position::FIRST, end));
        }
        Self(stretches)
    }

    /// The path of a position where nothing was ever rolled back.
    pub fn straight(at: Position) -> Self {
        Self::of(&[], Position::ORIGIN, at)
    }

    /// Every position there will ever be, on one line.
    pub(crate) fn endless() -> Self {
        Self(vec![(Position::FIRST, Position::new(u64::MAX))])
    }

    /// The newest position of it.
    pub fn newest(&self) -> Option<Position> {
        self.0.first().map(|(_, last)| *last)
    }

    /// The stretches, newest first.
    pub fn stretches(&self) -> &[(Position, Position)] {
        &self.0
    }

    /// Whether a record at `position` is part of it.
    pub fn contains(&self, position: Position) -> bool {
        // Newest first: the first stretch that begins at or before the position is the only one that can hold it.
        let at = self.0.partition_point(|(first, _)| *first > position);
        self.0.get(at).is_some_and(|(_, last)| position <= *last)
    }

    /// The newest position of it that is not after `position`.
    pub fn newest_at_or_before(&self, position: Position) -> Option<Position> {
        let at = self.0.partition_point(|(first, _)| *first > position);
        self.0.get(at).map(|(_, last)| (*last).min(position))
    }

    /// What of it is not behind `last`.
    pub(crate) fn up_to(&self, last: Position) -> Self {
        let cut = |(first, end): &(Position, Position)| (*first <= last).then(|| (*first, (*end).min(last)));
        Self(self.0.iter().filter_map(cut).collect())
    }

    /// The newest position that is part of both: the common ancestor of two positions, of their paths.
    pub(crate) fn newest_common(&self, other: &Self) -> Option<Position> {
        let overlap = |a: &(Position, Position), b: &(Position, Position)| {
            let (first, last) = (a.0.max(b.0), a.1.min(b.1));
            (first <= last).then_some(last)
        };
        self.0.iter().filter_map(|a| other.0.iter().filter_map(|b| overlap(a, b)).max()).max()
    }

    /// The positions that are part of exactly one of both: what is touched on either side of the common ancestor.
    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.without(other).union_disjoint(other.without(self))
    }

    /// The positions that are part of this and not of `other`.
    pub(crate) fn without(&self, other: &Self) -> Self {
        let mut out = Vec::new();
        for &(first, last) in &self.0 {
            let mut end = Some(last);
            for &(taken_first, taken_last) in &other.0 {
                let Some(e) = end else { break };
                if taken_last < first || taken_first > e {
                    continue;
                }
                if taken_last < e {
                    out.push((taken_last.next(), e));
                }
                end = taken_first.previous().filter(|before| *before >= first);
            }
            if let Some(e) = end {
                out.push((first, e));
            }
        }
        Self(out)
    }

    fn union_disjoint(self, other: Self) -> Self {
        let mut all = self.0;
        all.extend(other.0);
        all.sort_unstable_by(|a, b| b.cmp(a));
        Self(all)
    }
}

#[cfg(test)]
mod tests;
