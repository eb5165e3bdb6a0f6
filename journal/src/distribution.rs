//! How far the replicas may follow: to the last common ancestor of all points (ENGINE 15).
//!
//! Owns that decision. Pure: positions, paths and names in, a position and what holds it back out. Up to that position
//! all points have the same line, of every volume its own. While the replicas are no further, what is brought to them is
//! what every point has there or has overwritten, so nothing is lost by it and an unfinished move may simply be done again.

use crate::members::{Member, Members};
use crate::path::Path;
use crate::timeline::{At, Timeline};
use record::position::Position;

/// What keeps the replicas from following the horizon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeldBack {
    /// A bookmark.
    Bookmark(String),
    /// A grid point.
    Grid(At),
    /// An image that is open at this position.
    Image(Position),
    /// A rollback went back to this position, and what it left can still be chosen.
    Rollback(Position),
    /// A volume is joining.
    Joining(String),
    /// A replica cannot be written: which volume's, and why.
    Replica(String),
}

/// The points older than the window, and the targets of rollbacks of which what they left can be chosen still: whatever
/// may need what is in front of the oldest point of the window, with its name.
pub(crate) fn older(timeline: &Timeline, images: impl Iterator<Item = Position>) -> Vec<(Position, HeldBack)> {
    let horizon = timeline.horizon().position;
    let left = timeline.rollbacks().iter().filter(|rollback| rollback.at > horizon).map(|rollback| rollback.target);
    let mut all: Vec<_> = left.map(|target| (target, HeldBack::Rollback(target))).collect();
    all.extend(timeline.bookmarks().into_iter().map(|mark| (mark.at.position, HeldBack::Bookmark(mark.name))));
    let grid = timeline.grid().filter(|at| at.position < horizon);
    all.extend(grid.map(|at| (at.position, HeldBack::Grid(at))));
    all.extend(images.map(|image| (image, HeldBack::Image(image))));
    all
}

/// The last position that every point goes back to, and what keeps it from being the horizon.
pub(crate) fn common_ancestor(
    timeline: &Timeline,
    members: &Members,
    images: impl Iterator<Item = Position>,
) -> (Position, Option<HeldBack>) {
    let path = |at| Path::of(timeline.rollbacks(), Position::ORIGIN, at);
    let (mut at, mut held) = (timeline.horizon().position, None);
    for (other, by) in older(timeline, images) {
        let common = path(at).newest_common(&path(other)).unwrap_or(Position::ORIGIN);
        if common < at {
            (at, held) = (common, Some(by));
        }
    }
    // While a volume joins, its replica is filled with what the volume holds, not with what it was at a position.
    let joins =
        |member: &&Member, at| member.join <= at && member.joined.map_or(member.left.is_none(), |joined| joined > at);
    while let Some(joining) = members.all().find(|member| joins(member, at)) {
        let before = joining.join.previous().and_then(|before| path(at).newest_at_or_before(before));
        (at, held) = (before.unwrap_or(Position::ORIGIN), Some(HeldBack::Joining(joining.name.clone())));
    }
    (at, held)
}
