//! Thinning: of the points that grow older than the window, those that the grid names stay.
//!
//! Owns the order: first it is durable which grid points there are, then the window begins later. What a crash in between
//! leaves is a step that is taken again. `journal::retention` says which points these are.

use control::events::EventKind;
use journal::retention::{Decision, Grid, GridPoint, Passage, Step, not_before};
use journal::{At, JournalError};
use record::position::{Label, Position};

use super::super::Group;
use crate::intake::session::Millis;
use crate::policy;

#[cfg(test)]
mod tests;

/// How often grid points are looked at when the window does not move.
const LOOK_EVERY_MS: Millis = 60_000;

/// What of a group is thinned.
#[derive(Debug, Default)]
pub(super) struct Thinning {
    /// What is to stay.
    grid: Grid,
    /// Whether it was changed, and nothing has followed from that yet.
    changed: bool,
    looked: Option<Millis>,
}

impl Thinning {
    /// From now on these stay; whether that is something else.
    pub(super) fn set(&mut self, grid: Grid, changed: bool) {
        self.changed |= changed && grid != self.grid;
        self.grid = grid;
        self.looked = None;
    }
}

/// What there is, and what it is measured by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Present<'a> {
    /// Grid points, oldest first; after a crash some may be those of a window that has not moved yet.
    pub(super) grid: &'a [At],
    /// The window's oldest point.
    pub(super) oldest: At,
    /// The time by which ages are told.
    pub(super) now: Label,
    /// What is not younger is older than the window.
    pub(super) cutoff: Label,
}

impl Group {
    /// Grid points with what each of them keeps.
    pub(super) fn grid_points(&self, grid: &[At], horizon: Position) -> Vec<GridPoint> {
        if grid.is_empty() {
            return Vec::new();
        }
        let older = grid.iter().filter(|at| at.position < horizon);
        let positions: Vec<_> = older.map(|at| at.position).collect();
        let floors = self.journal.floors(&positions, horizon);
        positions.into_iter().zip(floors).map(|(position, floor)| GridPoint { position, floor }).collect()
    }

    /// What stays, without grid points before `early`; with `moves` when the window's oldest point moves on as far as age
    /// allows. A long way is gone in several steps.
    pub(super) fn passing(&self, present: &Present<'_>, early: Position, moves: bool) -> Step {
        let target = self.rollback_target();
        // What a rollback goes back to must not go meanwhile; it does not take long.
        let may_pass = |at: &At| at.position > present.oldest.position && target.is_none_or(|to| at.position <= to);
        let to = if moves { self.journal.point_at(present.cutoff).filter(may_pass) } else { None };
        let (from, to) = (present.oldest, to.unwrap_or(present.oldest));
        let passage = Passage { present: not_before(present.grid, early), now: present.now, from, to };
        let mut step = self.retaining.thinning.grid.step(&passage, |label| self.journal.point_at(label));
        if let Some(kept) = present.grid.iter().find(|at| Some(at.position) == target)
            && let Err(at) = step.stays.binary_search_by_key(&kept.position, |at| at.position)
        {
            step.stays.insert(at, *kept);
        }
        step
    }

    /// Whether there are no grid points, and are to be none.
    pub(super) fn thins_nothing(&self, grid: &[At]) -> bool {
        self.retaining.thinning.grid.is_none() && grid.is_empty()
    }

    /// Makes it durable which grid points there are; answers with the oldest point that the window may have then.
    pub(super) fn thin(
        &mut self,
        decision: &Decision,
        present: &Present<'_>,
    ) -> Result<Option<Position>, JournalError> {
        let early = decision.early.unwrap_or(Position::ORIGIN);
        // What goes for want of room leaves nothing behind.
        if let Some(to) = decision.forget.filter(|to| *to <= early) {
            self.keep_points(present.grid, &[])?;
            return Ok(Some(to));
        }
        if self.thins_nothing(present.grid) {
            self.retaining.thinning.changed = false;
            return Ok(decision.forget);
        }
        let now = self.now();
        let waits = |looked: Millis| now.saturating_sub(looked) < LOOK_EVERY_MS;
        if decision.forget.is_none() && decision.early.is_none() && self.retaining.thinning.looked.is_some_and(waits) {
            return Ok(None);
        }
        self.retaining.thinning.looked = Some(now);
        let step = self.passing(present, early, decision.forget.is_some());
        if std::mem::take(&mut self.retaining.thinning.changed) {
            self.tell_coarser(count_gone(not_before(present.grid, early), &step.stays, present.oldest.position));
        }
        self.keep_points(present.grid, &step.stays)?;
        Ok((step.to.position > present.oldest.position).then_some(step.to.position))
    }

    /// From now on these are the grid points.
    pub(super) fn keep_points(&self, present: &[At], stay: &[At]) -> Result<(), JournalError> {
        if present == stay {
            return Ok(());
        }
        let positions: Vec<_> = stay.iter().map(|at| at.position).collect();
        self.journal.keep_points(&positions)
    }

    fn tell_coarser(&self, points: u64) {
        if points > 0 {
            let keep = policy::keep::text(&self.retaining.thinning.grid);
            tracing::info!(group = self.name, points, keep, "grid points are given up: the policy was changed");
            self.tell(
                EventKind::GridShrunk,
                format!("grid points are given up, {points} of them: keep={keep} was set"),
            );
        }
    }
}

/// How many of these do not stay, of those that are older than the window.
pub(super) fn count_gone(present: &[At], stay: &[At], horizon: Position) -> u64 {
    let goes = |at: &&At| at.position < horizon && stay.binary_search_by_key(&at.position, |at| at.position).is_err();
    present.iter().filter(goes).count() as u64
}
