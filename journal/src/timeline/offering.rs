//! Which positions are offered, and what a point means.
//!
//! Owns the questions: whether a position can be opened, why not, the nearest that can, and which one a person means. What
//! there is to be asked about - gaps, grid points, bookmarks, barriers - is kept by `Timeline`.

use super::{Gap, Timeline, Window, Withheld};
use crate::error::{Asked, PointError};
use record::point::Point;
use record::position::{Label, Position};

impl Timeline {
    /// The last grid point that is not behind a position and can be offered.
    fn grid_point(&self, position: Position) -> Option<Position> {
        let offered = |at: &Position| self.was_joined(*at) && self.withheld(*at).is_none();
        self.grid.range(..=position).rev().map(|(at, _)| *at).find(offered)
    }

    /// The last point that is not behind a position, bookmarks left aside; `None` when there is none.
    pub(crate) fn last_point_or_grid(&self, position: Position) -> Option<Position> {
        self.last_point(position).or_else(|| self.grid_point(position))
    }

    /// The last point of the window that is not behind a position; `None` when there is none.
    pub(crate) fn last_point(&self, position: Position) -> Option<Position> {
        let oldest = self.window().ok()?.oldest.position;
        if position < oldest { None } else { self.at_or_before(position, oldest).ok() }
    }

    fn was_joined(&self, position: Position) -> bool {
        self.first_joined.is_some_and(|first| first <= position)
    }

    /// The first position of the window, gaps aside.
    fn first(&self) -> Result<Position, PointError> {
        Ok(self.first_joined.ok_or(PointError::NoVolume)?.max(self.horizon.position))
    }

    fn withheld(&self, position: Position) -> Option<&Withheld> {
        let holding = |all: &[Withheld]| {
            let at = all.partition_point(|one| one.begin <= position);
            at.checked_sub(1).filter(|i| all[*i].holds(position))
        };
        holding(&self.gaps).map(|i| &self.gaps[i]).or_else(|| holding(&self.unsure).map(|i| &self.unsure[i]))
    }

    pub(super) fn gap(&self, withheld: &Withheld) -> Gap {
        Gap { begin: self.at(withheld.begin), end: withheld.end.map(|end| self.at(end)), cause: withheld.cause }
    }

    /// The oldest and the newest point. `Err` with what holds back all there are.
    pub(crate) fn window(&self) -> Result<Window, PointError> {
        let oldest = self.at_or_behind(self.first()?)?;
        let newest = self.at_or_before(self.head().position, oldest)?;
        Ok(Window { oldest: self.at(oldest), newest: self.at(newest) })
    }

    /// The first point that is not before a position.
    fn at_or_behind(&self, position: Position) -> Result<Position, PointError> {
        let mut at = position;
        loop {
            if let Some(withheld) = self.withheld(at) {
                at = withheld.end.ok_or_else(|| self.inside_gap(at, withheld))?;
            } else if !self.barriers.allow(at) {
                at = self.barriers.next(at).ok_or_else(|| self.not_a_barrier(at))?;
            } else {
                return Ok(at);
            }
        }
    }

    /// The last point that is not behind a position, nor before `oldest`.
    fn at_or_before(&self, position: Position, oldest: Position) -> Result<Position, PointError> {
        let mut at = position;
        loop {
            let (before, refusal) = if let Some(withheld) = self.withheld(at) {
                (withheld.begin.previous(), self.inside_gap(at, withheld))
            } else if !self.barriers.allow(at) {
                (self.barriers.previous(at), self.not_a_barrier(at))
            } else {
                return Ok(at);
            };
            at = before.filter(|before| *before >= oldest).ok_or(refusal)?;
        }
    }

    fn inside_gap(&self, asked: Position, withheld: &Withheld) -> PointError {
        PointError::InsideGap { asked: self.at(asked), gap: self.gap(withheld) }
    }

    fn not_a_barrier(&self, asked: Position) -> PointError {
        let near = |position: Option<Position>| position.map(|position| self.at(position));
        PointError::NotABarrier {
            asked: self.at(asked),
            before: near(self.barriers.previous(asked)),
            after: near(self.barriers.next(asked)),
        }
    }

    /// Whether a position can be offered: `Err` says why not. Whether it is consistent across splitters is not asked.
    pub(crate) fn offered(&self, position: Position, asked: Asked) -> Result<Position, PointError> {
        let first = self.first()?;
        let kept = || self.grid.contains_key(&position) || self.bookmarks.values().any(|(at, _)| *at == position);
        if position <= self.head().position && (position >= first || (self.was_joined(position) && kept())) {
            return match self.withheld(position) {
                Some(withheld) => Err(PointError::InsideGap { asked: self.at(position), gap: self.gap(withheld) }),
                None => Ok(position),
            };
        }
        let window = self.window()?;
        let before = self.grid_point(position).map(|at| self.at(at));
        Err(if let (true, Some(before)) = (position < first, before) {
            let behind = self.grid.range(position..window.oldest.position).next();
            let after = behind.map_or(window.oldest, |(at, _)| self.at(*at));
            PointError::Thinned { asked, before, after }
        } else if position < first {
            PointError::OutsideWindow { asked, window }
        } else {
            PointError::BeyondHead { asked, window }
        })
    }

    /// The label that a point names, if it is named by one.
    pub(crate) fn time_of(&self, point: &Point) -> Option<Label> {
        match point {
            Point::Time(label) => Some(*label),
            Point::Ago(nanos) => Some(Label::from_nanos(self.head().label.nanos().saturating_sub(*nanos))),
            Point::Latest | Point::Oldest | Point::Bookmark(_) | Point::Seq(_) => None,
        }
    }

    /// The position of a point, if it can be offered. While several splitters serve the group, only barriers are, unless
    /// the caller waives that with `any`. `at` is the last position whose label is not after `time_of`, where that is one.
    pub(crate) fn resolve(&self, point: &Point, at: Position, any: bool) -> Result<Position, PointError> {
        let position = self.find(point, at, any)?;
        if any || self.barriers.allow(position) { Ok(position) } else { Err(self.not_a_barrier(position)) }
    }

    fn find(&self, point: &Point, at: Position, any: bool) -> Result<Position, PointError> {
        match point {
            Point::Latest if any => {
                let mut newest = self.head().position;
                while let Some(withheld) = self.withheld(newest) {
                    newest = withheld.begin.previous().ok_or_else(|| self.inside_gap(newest, withheld))?;
                }
                self.offered(newest, Asked::Position(newest))
            }
            Point::Latest => Ok(self.window()?.newest.position),
            Point::Oldest => Ok(self.window()?.oldest.position),
            Point::Bookmark(name) => match self.bookmark(name) {
                Some(position) => self.offered(position, Asked::Position(position)),
                None => Err(PointError::UnknownBookmark { name: name.clone() }),
            },
            Point::Seq(position) => self.offered(*position, Asked::Position(*position)),
            Point::Time(_) | Point::Ago(_) => {
                let label = self.time_of(point).unwrap_or_default();
                self.at_time(label, at, any)
            }
        }
    }

    /// What was live at a time: `at`, the last position whose label is not after it. Where only barriers are points, the
    /// last of them; where only grid points are left, the last of these.
    fn at_time(&self, label: Label, at: Position, any: bool) -> Result<Position, PointError> {
        let position = match self.offered(at, Asked::Time(label)) {
            Err(PointError::Thinned { before, .. }) => before.position,
            other => other?,
        };
        if any || self.barriers.allow(position) {
            return Ok(position);
        }
        let barrier = self.barriers.previous(position).ok_or_else(|| self.not_a_barrier(position))?;
        self.offered(barrier, Asked::Time(label))
    }
}
