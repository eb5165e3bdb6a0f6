//! What stays whatever the policy says: bookmarks, and what open images show.
//!
//! Owns the positions of open images, which the images themselves keep here. The journal keeps both by itself; these are
//! for the planner, which must not give anything up behind them in vain.

use std::sync::{Arc, PoisonError};

use record::position::Position;

use super::super::{Group, GroupHandle, Shared};
use super::Kept;

/// While it lives, an image of this position is open.
#[derive(Debug)]
pub struct ImagePin {
    shared: Arc<Shared>,
    position: Position,
}

impl ImagePin {
    pub(super) fn of(shared: &Arc<Shared>, position: Position) -> Self {
        shared.images.lock().unwrap_or_else(PoisonError::into_inner).push(position);
        Self { shared: Arc::clone(shared), position }
    }
}

impl Drop for ImagePin {
    fn drop(&mut self) {
        let mut images = self.shared.images.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(at) = images.iter().position(|position| *position == self.position) {
            images.swap_remove(at);
        }
    }
}

impl GroupHandle {
    /// What is kept, and how that will be, as of a second ago.
    pub fn kept(&self) -> Kept {
        self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An image of this position is open.
    pub fn pin_image(&self, position: Position) -> ImagePin {
        ImagePin::of(&self.shared, position)
    }
}

impl Group {
    /// Positions that stay whatever the policy says: bookmarks, and what open images show.
    pub(super) fn pins(&self) -> Vec<Position> {
        let bookmarks = self.journal.timeline().bookmarks;
        let mut pins: Vec<_> = bookmarks.iter().map(|bookmark| bookmark.at.position).collect();
        pins.extend(self.shared.images.lock().unwrap_or_else(PoisonError::into_inner).iter());
        pins
    }

    /// Positions behind which nothing comes free when `horizon` is the oldest point: of each pin what it has in common with
    /// the live line, and of each rollback its target, as long as what it left can be chosen; the JOIN of a volume that has
    /// not joined yet.
    pub(super) fn floors(&self, horizon: Position) -> Vec<Position> {
        let mut floors = self.journal.floors(&self.pins(), horizon);
        let joining = self.journal.members().into_iter().filter(|m| m.joined.is_none() && m.left.is_none());
        floors.extend(joining.filter_map(|member| member.join.previous()));
        floors
    }

    /// Whether this position can be gone back to: it is in the window, or something keeps it.
    pub(in crate::group) fn is_kept(&self, position: Position) -> bool {
        position >= self.journal.space().horizon.position
            || self.pins().contains(&position)
            || self.journal.grid().iter().any(|at| at.position == position)
    }
}
