//! Carrying out what the planner decides about a group's history.
//!
//! Owns the look that is taken every second, what is told of it, the reason for which no chunk is taken at present, and
//! the thread that brings replicas nearer to the oldest point. `journal::retention` decides; the group's own thread does
//! only what takes a small write or a few file operations, so that no append waits for more.

mod follower;
pub mod pins;
mod thinning;
mod trim;

use std::path::PathBuf;
use std::sync::PoisonError;

use control::events::{EventKind, News as Told};
use control::size::Size;
use control::time::span;
use journal::retention::{
    Closed, Decision, Forecast, Limits, News, Retention, Room, SEGMENTS_MIN, View, WhenFull, segment_bytes,
};
use journal::{At, FollowBounds, HeldBack, Space, TimelineView};
use record::position::{Label, Position};

use super::Group;
use crate::intake::session::Millis;
use crate::policy::{Distribution, Policy, UndoFull};
use follower::{Behind, Follower};
use thinning::{Present, Thinning};

pub use trim::Order;

/// How often room and age are looked at.
const LOOK_EVERY_MS: Millis = 1000;
/// How often it is looked for segments to be compacted.
const COMPACT_EVERY_MS: Millis = 5000;
/// Segments for which the journal's file system is to keep room: the next one, and what replicas take when they follow.
const RESERVE_SEGMENTS: u64 = 4;
const SECOND: u64 = 1_000_000_000;

/// What is to be kept, and where the journal lies.
#[derive(Clone, Debug)]
pub struct Keep {
    /// How much of it.
    pub policy: Policy,
    /// A folder on the journal's file system.
    pub folder: PathBuf,
}

/// What others may know.
#[derive(Clone, Debug, Default)]
pub struct Kept {
    /// How it will be.
    pub forecast: Option<Forecast>,
    /// Bytes that come free when replicas have followed.
    pub leaving: u64,
    /// What keeps them.
    pub held_back_by: Option<HeldBack>,
    /// What keeps them from the newest point.
    pub behind: Option<String>,
    /// Bytes that are held only because of discards.
    pub discarded: u64,
}

/// One group's retention.
#[derive(Debug, Default)]
pub(super) struct Retaining {
    /// Nothing is given up without.
    keeping: Option<(Retention, PathBuf)>,
    thinning: Thinning,
    /// Bytes of chunks that this process appended.
    appended: u64,
    looked: Option<Millis>,
    /// When it was looked for segments to be compacted.
    compacted: Option<Millis>,
    /// Why no chunk is taken.
    closed: Option<String>,
    follower: Option<Follower>,
    /// What of replicas that do not follow was told.
    trouble: Option<String>,
    /// And of those that do not go to the newest point.
    behind: Option<String>,
    /// Whether it was told that points go early for them.
    shrunk_for_undo: bool,
    /// How far replicas go, what that may take, and what happens when it is more.
    distribution: (Distribution, FollowBounds, UndoFull),
}

impl Retaining {
    /// Why no chunk may be taken.
    pub(super) fn closed(&self) -> Option<&str> {
        self.closed.as_deref()
    }

    /// Whether hosts wait while a journal has no room.
    pub(super) fn blocks(&self) -> bool {
        self.keeping.as_ref().is_some_and(|(retention, _)| retention.limits().full == WhenFull::Block)
    }

    /// Whether a journal without room gives points up rather than stop.
    fn shrinks(&self) -> bool {
        self.keeping.as_ref().is_some_and(|(retention, _)| retention.limits().full == WhenFull::Shrink)
    }
}

impl Group {
    /// Whether chunks are to be taken although there is no room for them by the policy: a first synchronisation or a
    /// resynchronisation ends only if they are, and nothing that is given up before would make room.
    pub(super) fn takes_anyway(&self) -> bool {
        let joining = || self.journal.members().iter().any(|m| m.joined.is_none() && m.left.is_none());
        self.retaining.shrinks() && (self.journal.has_open_gap() || joining())
    }

    /// From now on so much is kept.
    pub fn keep(&mut self, keep: Keep) {
        self.retaining.thinning.set(keep.policy.keep, self.retaining.keeping.is_some());
        let bounds = FollowBounds { undo_limit: keep.policy.undo_limit, punch_split: keep.policy.punch_split };
        self.retaining.distribution = (keep.policy.distribution, bounds, keep.policy.undo_full);
        match &mut self.retaining.keeping {
            Some((retention, _)) => retention.set_limits(keep.policy.limits()),
            none @ None => *none = Some((Retention::new(keep.policy.limits()), keep.folder)),
        }
        self.retaining.looked = None;
    }

    /// Looks at age and room, and does what follows.
    pub(super) fn look_at_retention(&mut self) {
        let now = self.now();
        if self.retaining.looked.is_some_and(|looked| now.saturating_sub(looked) < LOOK_EVERY_MS) {
            return;
        }
        self.retaining.looked = Some(now);
        // First: what is free already must not be missed.
        self.reclaim();
        let (space, timeline) = (self.journal.space(), self.journal.timeline());
        let head = timeline.head;
        let cutoff = self.cutoff(&timeline);
        let mut aged = self.aged(cutoff);
        let grid = self.journal.grid();
        let Some((mut retention, folder)) = self.retaining.keeping.take() else { return };
        let elapsed_ns = now.saturating_mul(1_000_000);
        let mut pins = self.floors(space.horizon.position);
        let points = self.grid_points(&grid, space.horizon.position);
        // What a rollback goes back to must not go meanwhile, be it ever so old.
        if let Some(target) = self.rollback_target() {
            aged = aged.min(target);
            pins.push(target);
        }
        let room = crate::housekeeping::space(&folder).ok();
        let view = View {
            elapsed_ns,
            space: &space,
            head,
            aged,
            pins: &pins,
            grid: &points,
            room: room.map(|room| Room { free: room.free, reserve: RESERVE_SEGMENTS * segment_bytes(&space) }),
            appended: self.retaining.appended,
        };
        let mut decision = retention.step(&view);
        let forecast = retention.forecast(&view);
        for news in &decision.news {
            self.tell_retention(&retention, *news);
        }
        self.shrink_for_undo(&space, &mut decision);
        let now = retention.now();
        self.retaining.keeping = Some((retention, folder));
        let present = Present { grid: &grid, oldest: oldest(&space, &timeline), now, cutoff };
        self.carry_out(&decision, space.distributed, &present);
        let behind = self.retaining.behind.clone();
        let discarded = self.retaining.follower.as_ref().map_or(0, Follower::discarded);
        let kept = Kept { forecast, leaving: decision.leaving, held_back_by: self.held_back_by(), behind, discarded };
        *self.shared.kept.lock().unwrap_or_else(PoisonError::into_inner) = kept;
    }

    /// What is not younger than this is older than the window; nothing is where nothing is given up.
    fn cutoff(&mut self, timeline: &TimelineView) -> Label {
        let oldest = timeline.window.map_or(Label::default(), |window| window.oldest.label);
        let (elapsed_ns, wall) = (self.now().saturating_mul(1_000_000), self.label());
        let Some((retention, _)) = &mut self.retaining.keeping else { return Label::default() };
        retention.cutoff(elapsed_ns, wall, timeline.head.label, oldest)
    }

    /// The last position that is as old.
    fn aged(&self, cutoff: Label) -> Position {
        if self.retaining.keeping.is_none() { Position::ORIGIN } else { self.journal.position_at(cutoff) }
    }

    fn carry_out(&mut self, decision: &Decision, distributed: Position, present: &Present<'_>) {
        let forgot = match self.thin(decision, present) {
            Ok(Some(to)) => self.journal.forget(to).map(|moved| moved.then_some(to)),
            same => same.map(|_| None),
        };
        match forgot {
            Ok(Some(to)) => tracing::info!(group = self.name, oldest = %to, "older points were given up"),
            // What there is left is all there is.
            Ok(None) => {}
            Err(error) => self.journal_failed(&error),
        }
        let (distribution, ..) = self.retaining.distribution;
        let on_the_way = distribution == Distribution::Eager || self.journal.undo_bytes() > 0;
        if decision.floor > distributed || on_the_way || self.may_compact(decision, present) {
            self.follow(decision.hurry);
        }
        self.look_at_follower();
    }

    /// Whether older points keep what others that are gone have needed, and it is time to look at that.
    fn may_compact(&mut self, decision: &Decision, present: &Present<'_>) -> bool {
        let now = self.now();
        let waits = |looked: Millis| now.saturating_sub(looked) < COMPACT_EVERY_MS && !decision.hurry;
        if decision.floor >= present.oldest.position || self.retaining.compacted.is_some_and(waits) {
            return false;
        }
        self.retaining.compacted = Some(now);
        true
    }

    fn follow(&mut self, hurry: bool) {
        if self.retaining.follower.is_none() {
            match Follower::start(&self.name, &self.journal) {
                Ok(follower) => self.retaining.follower = Some(follower),
                Err(why) => return self.follower_trouble(Some(format!("no thread can be started for it: {why}"))),
            }
        }
        if let Some(follower) = &self.retaining.follower {
            let (distribution, bounds, _) = self.retaining.distribution;
            follower.set(distribution == Distribution::Eager, bounds);
            follower.go_on(hurry);
        }
    }

    fn held_back_by(&self) -> Option<HeldBack> {
        let follower = self.retaining.follower.as_ref()?;
        follower.failure().map(HeldBack::Replica).or_else(|| follower.held_back_by())
    }

    fn look_at_follower(&mut self) {
        let Some(follower) = &self.retaining.follower else { return };
        let replica = match follower.held_back_by() {
            Some(HeldBack::Replica(why)) => Some(why),
            Some(
                HeldBack::Bookmark(_)
                | HeldBack::Grid(_)
                | HeldBack::Image(_)
                | HeldBack::Rollback(_)
                | HeldBack::Joining(_),
            )
            | None => None,
        };
        let trouble = follower.failure().or(replica);
        let behind = follower.behind().map(|behind| match behind {
            Behind::UndoFull(why) | Behind::Trouble(why) => why,
        });
        self.follower_trouble(trouble);
        self.tell_behind(behind);
    }

    /// What replicas were before takes as much as it may, and points are to go rather than replicas wait: those of the oldest
    /// segment that still has some.
    fn shrink_for_undo(&mut self, space: &Space, decision: &mut Decision) {
        let (.., undo_full) = self.retaining.distribution;
        let behind = self.retaining.follower.as_ref().and_then(Follower::behind);
        if undo_full != UndoFull::Shrink || !matches!(behind, Some(Behind::UndoFull(_))) {
            return;
        }
        let horizon = decision.forget.unwrap_or(space.horizon.position).max(space.horizon.position);
        // Those before have not even been brought to the replicas yet.
        if space.distributed < decision.floor {
            return;
        }
        let may = space.segments.len().saturating_sub(SEGMENTS_MIN);
        let Some(oldest) = space.segments[..may].iter().find(|segment| segment.last.position > horizon) else { return };
        decision.forget = Some(oldest.last.position);
        if !self.retaining.shrunk_for_undo {
            self.retaining.shrunk_for_undo = true;
            self.tell(
                EventKind::WindowShrunk,
                "points go early: what replicas were before takes as much as undo-limit says, and undo-full=shrink",
            );
        }
    }

    fn tell_behind(&mut self, behind: Option<String>) {
        if self.retaining.behind == behind {
            return;
        }
        match &behind {
            Some(why) if self.retaining.behind.is_none() => {
                tracing::error!(group = self.name, why, "replicas cannot go to the newest point");
                let text = format!("replicas wait on their way to the newest point, and nothing is lost by it: {why}");
                self.tell(EventKind::Alarm, text);
            }
            Some(_) => {}
            None => {
                self.retaining.shrunk_for_undo = false;
                self.tell(EventKind::AlarmOver, "replicas go to the newest point again");
            }
        }
        self.retaining.behind = behind;
    }

    fn follower_trouble(&mut self, trouble: Option<String>) {
        if self.retaining.trouble == trouble {
            return;
        }
        match &trouble {
            Some(why) => {
                tracing::error!(group = self.name, why, "replicas cannot follow the oldest point");
                let text =
                    format!("replicas cannot follow the oldest point, so no room of the journal comes free: {why}");
                self.tell(EventKind::Alarm, text);
            }
            None => self.tell(EventKind::AlarmOver, "replicas follow the oldest point again"),
        }
        self.retaining.trouble = trouble;
    }

    fn reclaim(&mut self) {
        match self.journal.reclaim() {
            Ok(reclaimed) if reclaimed.segments > 0 => {
                tracing::info!(
                    group = self.name,
                    segments = reclaimed.segments,
                    bytes = reclaimed.bytes,
                    "room came free"
                );
            }
            Ok(_) => {}
            Err(error) => tracing::error!(group = self.name, %error, "failed to remove segments that nobody needs"),
        }
    }

    /// So many bytes of chunks are in the journal.
    pub(super) fn took_in(&mut self, bytes: u64) {
        self.retaining.appended += bytes;
    }

    fn tell_retention(&mut self, retention: &Retention, news: News) {
        let limits = retention.limits();
        let wanted = span(limits.window_ns / SECOND);
        match news {
            News::Fills { in_ns, window_ns } => {
                let when = in_ns.map_or_else(
                    || "the room for the journal is used up".to_owned(),
                    |ns| {
                        format!(
                            "the room for the journal is used up in about {} at the present rate",
                            span(ns / SECOND)
                        )
                    },
                );
                let then = match (limits.full, window_ns) {
                    (WhenFull::Shrink, Some(ns)) => {
                        format!("the window will shrink from {wanted} to about {}", span(ns / SECOND))
                    }
                    (WhenFull::Shrink, None) => format!("the window will shrink from {wanted}"),
                    (WhenFull::Stop, _) => "the journal will stop, as journal-full=stop says".to_owned(),
                    (WhenFull::Block, _) => "hosts will then wait, as journal-full=block says".to_owned(),
                };
                tracing::warn!(group = self.name, when, then, "the window does not fit");
                self.tell(EventKind::JournalFills, format!("{when}; {then}"));
            }
            News::Shrinks { window_ns } => {
                let now = span(window_ns / SECOND);
                self.tell(
                    EventKind::WindowShrunk,
                    format!("points go early for want of room: of {wanted}, {now} are left"),
                );
            }
            News::GridShrinks { points } => {
                tracing::info!(group = self.name, points, "grid points go for want of room");
                self.tell(
                    EventKind::GridShrunk,
                    format!("the oldest grid points go for want of room: {points} since this was told last"),
                );
            }
            News::Whole => self.tell(EventKind::WindowWhole, format!("there is room for the window of {wanted}")),
            News::Closed(why) => {
                let why = why_closed(why, &limits);
                self.retaining.closed = Some(why.clone());
                self.set_trouble(Some(why));
            }
            News::Open => {
                self.retaining.closed = None;
                self.set_trouble(None);
            }
        }
    }

    /// Something that an administrator did to the history.
    fn tell_trimmed(&self, text: String, bytes: u64) {
        self.events.tell(Told::new(EventKind::JournalTrimmed, text).group(&self.name).bytes(bytes));
    }
}

/// The window's oldest point.
fn oldest(space: &Space, timeline: &TimelineView) -> At {
    timeline.window.map_or(space.horizon, |window| window.oldest)
}

fn why_closed(why: Closed, limits: &Limits) -> String {
    let limit = Size(limits.bytes.unwrap_or(0));
    let cause = match why {
        Closed::Limit { bytes } => format!("it has {}, and journal-limit is {limit}", Size(bytes)),
        Closed::Pinned { bytes } => format!(
            "it has {}, journal-limit is {limit}, and giving up more points would free nothing: bookmarks, open images, what \
             a rollback left and the newest two segments stay",
            Size(bytes)
        ),
    };
    let hosts = match limits.full {
        WhenFull::Shrink | WhenFull::Stop => "hosts go on, and a gap begins when the outbox is full",
        WhenFull::Block => "hosts wait when half of the outbox is full, as journal-full=block says",
    };
    format!("{cause}; {hosts}; undisk group set, or undisk journal trim")
}

#[cfg(test)]
mod tests;
