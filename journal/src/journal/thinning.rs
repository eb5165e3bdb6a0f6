//! Grid points: which positions stay points although the window has passed them.
//!
//! Owns that they are durable before they count, and that they were points. Which ones, and for how long, is decided in
//! `retention`; what comes free behind them is given back by `compacting`.

use super::Journal;
use crate::error::JournalError;
use crate::grid::{self, GRID_MAX};
use crate::lock::{lock, read, write};
use crate::timeline::At;
use record::position::{Label, Position};

impl Journal {
    /// Points that stay although they are older than the window, oldest first; those that the window has not passed yet
    /// included.
    pub fn grid(&self) -> Vec<At> {
        read(&self.reader.core.state).timeline.grid().collect()
    }

    /// The newest point whose label is not after this one, bookmarks left aside; `None` when there is none.
    pub fn point_at(&self, label: Label) -> Option<At> {
        let core = &self.reader.core;
        let position = core.position_at(label);
        let point = read(&core.state).timeline.last_point_or_grid(position);
        point.map(|point| core.at(point))
    }

    /// From now on exactly these are grid points, [`GRID_MAX`] at most; what is no point now is left out. Durable when it
    /// returns.
    pub fn keep_points(&self, points: &[Position]) -> Result<(), JournalError> {
        let core = &self.reader.core;
        let mut tail = lock(&self.tail);
        tail.writable()?;
        let offered: Vec<Position> = {
            let state = read(&core.state);
            points.iter().copied().filter(|point| state.offered(*point).is_ok()).collect()
        };
        let mut kept: Vec<At> = offered.into_iter().map(|point| core.at(point)).collect();
        kept.sort_unstable_by_key(|at| at.position);
        kept.dedup();
        if kept.len() > GRID_MAX {
            return Err(JournalError::Refused(format!(
                "{} grid points: a journal keeps {GRID_MAX} at most; nothing was changed",
                kept.len()
            )));
        }
        if kept.iter().copied().eq(read(&core.state).timeline.grid()) {
            return Ok(());
        }
        tail.will_thin()?;
        grid::store(core.files.disk().as_ref(), core.id, &kept)
            .map_err(|source| core.io("write which older points stay", source))?;
        write(&core.state).timeline.set_grid(&kept);
        Ok(())
    }
}
