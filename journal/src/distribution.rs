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

/// The last position that every point goes back to, and what keeps it from being the horizon.
pub(crate) fn common_ancestor(
    timeline: &Timeline,
    members: &Members,
    images: impl Iterator<Item = Position>,
) -> (Position, Option<HeldBack>) {
    let path = |at| Path::of(timeline.rollbacks(), Position::ORIGIN, at);
    let horizon = timeline.horizon().position;
    let (mut at, mut held) = (horizon, None);
    let mut go_back_to = |other: Position, by: HeldBack| {
        let common = path(at).newest_common(&path(other)).unwrap_or(Position::ORIGIN);
        if common < at {
            (at, held) = (common, Some(by));
        }
    };
    for rollback in timeline.rollbacks().iter().filter(|rollback| rollback.at > horizon) {
        go_back_to(rollback.target, HeldBack::Rollback(rollback.target));
    }
    for bookmark in timeline.bookmarks() {
        go_back_to(bookmark.at.position, HeldBack::Bookmark(bookmark.name));
    }
    // Of grid points the oldest goes back furthest, unless a rollback lies between.
    for point in timeline.grid().filter(|at| at.position < horizon) {
        go_back_to(point.position, HeldBack::Grid(point));
    }
    for image in images {
        go_back_to(image, HeldBack::Image(image));
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
