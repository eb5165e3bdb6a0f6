//! What may be forgotten, when, and what is said before: retention as a decision.
//!
//! A pure machine: no clock, no file. Owns the age at which points go (`grid` says which of them stay all the same), which
//! of the oldest go early when room runs out, grid points first, when that is announced, when no more chunks may be taken, and the forecast. Deliberately frees nothing: the
//! journal forgets, distributes and reclaims; and it never decides about a bookmark or what an open image shows: what
//! these need stays, whatever the plan says, and so a plan counts on no room behind them.

mod forecast;
mod grid;

use crate::journal::Space;
use crate::timeline::At;
use record::position::{Label, Position};

pub use forecast::Forecast;
use forecast::Rate;
pub use grid::{AGE_SECONDS_MAX, Grid, GridError, Passage, Span, Step, not_before};

#[cfg(test)]
mod motion_tests;
#[cfg(test)]
mod tests;

/// The newest segments that are never given up for room: the one that is being written and the one before it.
pub const SEGMENTS_MIN: usize = 2;
/// How long before the journal is full that is announced.
pub const ANNOUNCE_NS: u64 = 3600 * SECOND;

const SECOND: u64 = 1_000_000_000;

/// What an administrator wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Every write of this span is a point.
    pub window_ns: u64,
    /// The most bytes that the journal may take.
    pub bytes: Option<u64>,
    /// What happens when there is no room for the window.
    pub full: WhenFull,
}

/// What happens when there is no room for the window.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum WhenFull {
    /// The oldest points go early.
    Shrink,
    /// The journal takes nothing more.
    Stop,
    /// The journal takes nothing more, and hosts wait for it.
    Block,
}

/// The file system of the journal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Room {
    /// Bytes that may still be used.
    pub free: u64,
    /// Bytes of them that are to stay free.
    pub reserve: u64,
}

/// The journal, as it is now.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// A clock that no one sets.
    pub elapsed_ns: u64,
    /// What its files take.
    pub space: &'a Space,
    /// The newest position.
    pub head: At,
    /// The last position that is older than the window: of the label that `cutoff` answered.
    pub aged: Position,
    /// Positions of bookmarks, and those that open images show.
    pub pins: &'a [Position],
    /// Grid points, oldest first.
    pub grid: &'a [GridPoint],
    /// Its file system; `None` when that could not be told.
    pub room: Option<Room>,
    /// Bytes appended since the process began.
    pub appended: u64,
}

/// A point that stays although it is older than the window, until somebody needs its room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GridPoint {
    /// Where it is.
    pub position: Position,
    /// It needs nothing up to here: itself, or what it has in common with the live line.
    pub floor: Position,
}

/// What is to be done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Decision {
    /// To be told first, in this order.
    pub news: Vec<News>,
    /// The new oldest point, if it moves.
    pub forget: Option<Position>,
    /// All points before this one go for want of room: grid points, and those of the window when it is `forget`.
    pub early: Option<Position>,
    /// Up to where no point and no pin needs anything: replicas may follow so far.
    pub floor: Position,
    /// Bytes of segments that go when they have.
    pub leaving: u64,
    /// Whether somebody waits for them.
    pub hurry: bool,
    /// Why no chunk may be taken; `None`: they may.
    pub closed: Option<Closed>,
}

/// What people should know.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum News {
    /// The room ends before the window does.
    Fills {
        /// In about so long; `None`: now.
        in_ns: Option<u64>,
        /// How long the window will then be, where that can be told.
        window_ns: Option<u64>,
    },
    /// Points are about to go before their time.
    Shrinks {
        /// How long the window is then.
        window_ns: u64,
    },
    /// Grid points are about to go for want of room; told once an hour at most.
    GridShrinks {
        /// How many, with those of which nothing was told yet.
        points: u64,
    },
    /// The window is as long as it should be again, or there is room for it.
    Whole,
    /// No chunk may be taken from here on.
    Closed(Closed),
    /// They may again.
    Open,
}

/// Why no chunk may be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Closed {
    /// The journal takes this much, and its limit is less.
    Limit {
        /// Bytes of its files.
        bytes: u64,
    },
    /// The same, and what could be given up is given up already, or would free nothing.
    Pinned {
        /// Bytes of its files.
        bytes: u64,
    },
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Whole,
    Announced,
    Shrinking,
}

/// One journal's retention.
#[derive(Debug)]
pub struct Retention {
    limits: Limits,
    rate: Rate,
    /// The wall clock as far as it is believed, and when that was.
    believed: Option<(Label, u64)>,
    stage: Stage,
    closed: bool,
    /// Grid points that went for want of room without a word, and when such were told last.
    untold: (u64, Option<u64>),
    /// The fewest bytes that the journal had since its limit was set.
    fewest: u64,
}

impl Retention {
    /// Nothing is known yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            rate: Rate::default(),
            believed: None,
            stage: Stage::Whole,
            closed: false,
            untold: (0, None),
            fewest: u64::MAX,
        }
    }

    /// What is wanted.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// Something else is wanted from now on.
    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
        self.fewest = u64::MAX;
    }

    /// Points that are not after this label are older than the window. Age begins with the newest record, and the wall
    /// clock is followed at twice the speed of time at most; one that is set back is waited for. So no clock that leaps
    /// takes history along, not even over a restart.
    pub fn cutoff(&mut self, elapsed_ns: u64, wall: Label, head: Label, oldest: Label) -> Label {
        let believed = match self.believed {
            // A head that is ahead of the clock was laid by a clock that leapt; then nothing says how old the others are
            // but the clock, if that is not behind the oldest point.
            None if head == Label::default() || (oldest <= wall && wall < head) => wall,
            None => head,
            Some((label, at)) => {
                let most = label.nanos().saturating_add(elapsed_ns.saturating_sub(at).saturating_mul(2));
                wall.max(label).min(Label::from_nanos(most))
            }
        };
        self.believed = Some((believed, elapsed_ns));
        Label::from_nanos(believed.nanos().saturating_sub(self.limits.window_ns))
    }

    /// The time by which ages are told: what `cutoff` believed last.
    pub fn now(&self) -> Label {
        self.believed.map_or(Label::default(), |(label, _)| label)
    }

    /// What follows from how things are.
    pub fn step(&mut self, view: &View<'_>) -> Decision {
        self.rate.note(view.elapsed_ns, view.appended);
        let mut news = Vec::new();
        let held = Held::new(view.space, view.pins, view.grid);
        let tight = self.shortage(view, held.leaving(Left::at(view.space.horizon.position))) > 0;
        let mut forget = self.by_age(view, tight);
        let mut left = Left::at(forget.unwrap_or(view.space.horizon.position));
        let short = self.shortage(view, held.leaving(left));
        let mut unmet = short > 0;
        let mut grid_points = 0;
        if short > 0 && self.limits.full == WhenFull::Shrink {
            let (then, freed) = held.give_up(left, short);
            unmet = freed < short;
            if then.horizon > left.horizon {
                self.shrinks(held.window_from(then.horizon, view.head), &mut news);
                forget = Some(then.horizon);
            }
            grid_points = held.grid_points_before(then.before);
            left = then;
        }
        self.grid_shrinks(view.elapsed_ns, grid_points, &mut news);
        let horizon = left.horizon;
        self.look_ahead(view, &mut news);
        if self.stage == Stage::Shrinking && view.aged >= horizon && !unmet {
            self.stage = Stage::Whole;
            news.push(News::Whole);
        }
        let closed = self.closed_by(view.space, unmet);
        match (closed, self.closed) {
            (Some(why), false) => news.push(News::Closed(why)),
            (None, true) => news.push(News::Open),
            (Some(_), true) | (None, false) => {}
        }
        self.closed = closed.is_some();
        let (floor, leaving) = (held.floor(left), held.leaving(left));
        let early = (left.before > Position::ORIGIN).then_some(left.before);
        Decision { news, forget, early, floor, leaving, hurry: self.shortage(view, 0) > 0, closed }
    }

    /// How things will be at the present rate; `None` while there is too little to tell.
    pub fn forecast(&self, view: &View<'_>) -> Option<Forecast> {
        Forecast::new(self.rate.bytes_per_second()?, &self.limits, view)
    }

    /// The position that has become too old to be a point, if it is worth a write, or room is `tight`.
    fn by_age(&self, view: &View<'_>, tight: bool) -> Option<Position> {
        let horizon = view.space.horizon;
        if view.aged <= horizon.position || view.aged > view.head.position {
            return None;
        }
        let (believed, _) = self.believed?;
        let cutoff = believed.nanos().saturating_sub(self.limits.window_ns);
        let worth = (self.limits.window_ns / 1000).max(SECOND);
        (tight || cutoff.saturating_sub(horizon.label.nanos()) >= worth).then_some(view.aged)
    }

    /// Bytes that are missing once everything that is on its way out has left.
    fn shortage(&self, view: &View<'_>, leaving: u64) -> u64 {
        let stays = total(view.space).saturating_sub(leaving);
        let limit = self.limits.bytes.map_or(0, |limit| (stays + segment_bytes(view.space)).saturating_sub(limit));
        let room = view.room.map_or(0, |room| room.reserve.saturating_sub(room.free.saturating_add(leaving)));
        limit.max(room)
    }

    /// Nothing is given up that was not announced.
    fn shrinks(&mut self, window_ns: u64, news: &mut Vec<News>) {
        if self.stage == Stage::Whole {
            news.push(News::Fills { in_ns: None, window_ns: Some(window_ns) });
        }
        if self.stage != Stage::Shrinking {
            news.push(News::Shrinks { window_ns });
        }
        self.stage = Stage::Shrinking;
    }

    /// A journal that stays full gives up grid points all the time: told at once, then what came together in an hour.
    fn grid_shrinks(&mut self, elapsed_ns: u64, points: u64, news: &mut Vec<News>) {
        let (untold, told) = self.untold;
        let points = untold + points;
        if points > 0 && told.is_none_or(|at| elapsed_ns.saturating_sub(at) >= ANNOUNCE_NS) {
            news.push(News::GridShrinks { points });
            self.untold = (0, Some(elapsed_ns));
        } else {
            self.untold = (points, told);
        }
    }

    fn look_ahead(&mut self, view: &View<'_>, news: &mut Vec<News>) {
        let Some(forecast) = self.forecast(view) else { return };
        match self.stage {
            Stage::Whole => {
                if let Some(in_ns) = forecast.full_in_ns.filter(|ns| *ns <= ANNOUNCE_NS) {
                    self.stage = Stage::Announced;
                    news.push(News::Fills { in_ns: Some(in_ns), window_ns: Some(forecast.window_ns) });
                }
            }
            Stage::Announced => {
                if forecast.full_in_ns.is_none_or(|ns| ns > 2 * ANNOUNCE_NS) {
                    self.stage = Stage::Whole;
                    news.push(News::Whole);
                }
            }
            Stage::Shrinking => {}
        }
    }

    /// A limit is meant: but while room is on its way, a little more is taken rather than leave a gap. A limit that is
    /// set far below what the journal has is reached in time, if the journal does not grow meanwhile.
    fn closed_by(&mut self, space: &Space, unmet: bool) -> Option<Closed> {
        let (limit, bytes) = (self.limits.bytes?, total(space));
        match self.limits.full {
            WhenFull::Stop | WhenFull::Block => (bytes > limit).then_some(Closed::Limit { bytes }),
            WhenFull::Shrink if unmet => (bytes > limit).then_some(Closed::Pinned { bytes }),
            WhenFull::Shrink => {
                self.fewest = self.fewest.min(bytes);
                let more = (limit / 8).max(2 * segment_bytes(space));
                (bytes > limit.max(self.fewest).saturating_add(more)).then_some(Closed::Limit { bytes })
            }
        }
    }
}

/// Bytes of all files of a journal.
pub fn total(space: &Space) -> u64 {
    space.segments.iter().map(|segment| segment.bytes).sum::<u64>() + space.other_bytes
}

/// Bytes by which it grows at once.
pub fn segment_bytes(space: &Space) -> u64 {
    space.segments.iter().map(|segment| segment.bytes).fold(space.segment_bytes, u64::max)
}

/// What would be given up on request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Trim {
    /// The new oldest point of the window; the present one when none of it is given up.
    pub to: Position,
    /// Grid points before this one are given up.
    pub before: Position,
    /// Bytes that the journal then takes, once replicas have followed.
    pub bytes: u64,
    /// Bytes of them that only bookmarks and open images keep.
    pub pinned: u64,
}

/// All points before this one are given up, grid points too.
pub fn trim_before(space: &Space, pins: &[Position], grid: &[GridPoint], to: Position) -> Trim {
    Held::new(space, pins, grid).trim(Left { horizon: to.max(space.horizon.position), before: to })
}

/// All points before this one are given up but for these grid points.
pub fn trim_to_window(space: &Space, pins: &[Position], grid: &[GridPoint], to: Position) -> Trim {
    Held::new(space, pins, grid).trim(Left::at(to.max(space.horizon.position)))
}

/// As many of the oldest points are given up as it takes, no more, grid points first; and none where that would free
/// nothing.
pub fn trim_to_size(space: &Space, pins: &[Position], grid: &[GridPoint], bytes: u64) -> Trim {
    let held = Held::new(space, pins, grid);
    let now = Left::at(space.horizon.position);
    let short = total(space).saturating_sub(held.leaving(now)).saturating_sub(bytes);
    held.trim(held.give_up(now, short).0)
}

/// The points that are left: those of the window, and grid points.
#[derive(Clone, Copy)]
struct Left {
    /// The oldest of the window.
    horizon: Position,
    /// Grid points before it are gone.
    before: Position,
}

impl Left {
    fn at(horizon: Position) -> Self {
        Self { horizon, before: Position::ORIGIN }
    }
}

/// A journal's files, and who holds them.
struct Held<'a> {
    space: &'a Space,
    /// The oldest pin.
    pin: Option<Position>,
    grid: &'a [GridPoint],
}

impl<'a> Held<'a> {
    fn new(space: &'a Space, pins: &[Position], grid: &'a [GridPoint]) -> Self {
        Self { space, pin: pins.iter().min().copied(), grid }
    }

    /// Up to where nothing is needed when this is left.
    fn floor(&self, left: Left) -> Position {
        let points = self.floor_of_points(left);
        self.pin.map_or(points, |pin| pin.min(points))
    }

    /// The same without bookmarks and open images.
    fn floor_of_points(&self, left: Left) -> Position {
        let stay = self.grid.iter().filter(|point| point.position >= left.before);
        stay.map(|point| point.floor).min().map_or(left.horizon, |grid| grid.min(left.horizon))
    }

    /// Bytes of segments up to there; the one that is being written stays in any case.
    fn leaving(&self, left: Left) -> u64 {
        self.up_to(self.floor(left))
    }

    fn up_to(&self, floor: Position) -> u64 {
        let older = self.space.segments.split_last().map_or(&[][..], |(_, older)| older);
        older.iter().take_while(|segment| segment.last.position <= floor).map(|segment| segment.bytes).sum()
    }

    /// What to leave so that `short` more bytes leave than with this, or as many as can; and how many. The oldest points
    /// go first, and grid points are older than any of the window.
    fn give_up(&self, left: Left, short: u64) -> (Left, u64) {
        let floor = self.floor(left);
        let may_go = self.space.segments.len().saturating_sub(SEGMENTS_MIN);
        let free_to_go = |at: Position| self.pin.is_none_or(|pin| at <= pin);
        let (mut then, mut freed) = (left, 0);
        for segment in &self.space.segments[..may_go] {
            let at = segment.last.position;
            if freed >= short || !free_to_go(at) {
                break;
            }
            if at > floor {
                then.horizon = then.horizon.max(at);
                then.before = then.before.max(self.nothing_needs(at, left.horizon));
                freed += segment.bytes;
            }
        }
        (then, freed)
    }

    /// Where the points begin that need nothing up to `at`.
    fn nothing_needs(&self, at: Position, horizon: Position) -> Position {
        if at > horizon {
            return at;
        }
        let needs = self.grid.iter().rev().find(|point| point.floor < at);
        needs.map_or(Position::ORIGIN, |point| point.position.next())
    }

    fn grid_points_before(&self, before: Position) -> u64 {
        self.grid.iter().take_while(|point| point.position < before).count() as u64
    }

    /// The span from the point at `to`, the last record of a segment, to the newest.
    fn window_from(&self, to: Position, head: At) -> u64 {
        let at = self.space.segments.iter().find(|segment| segment.last.position == to);
        at.map_or(0, |segment| head.label.nanos().saturating_sub(segment.last.label.nanos()))
    }

    fn trim(&self, left: Left) -> Trim {
        let gone = self.leaving(left);
        let bytes = total(self.space).saturating_sub(gone);
        let pinned = self.up_to(self.floor_of_points(left)) - gone;
        Trim { to: left.horizon, before: left.before, bytes, pinned }
    }
}
