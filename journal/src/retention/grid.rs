//! Which points stay although they are older than the window: of each minute, hour or day the newest.
//!
//! Owns the grid that an administrator sets, and the step by which the oldest point of the window moves on without
//! losing a point that the grid wants. Spans are UTC's. A pure machine: it asks where points are, and moves nothing; what
//! it answers has to be durable before the window is made shorter by it, and a step that was cut short is taken again.

use crate::grid::GRID_MAX;
use crate::timeline::At;
use record::position::{Label, Position};
use thiserror::Error;

#[cfg(test)]
mod tests;

/// The longest age of a level: ten years.
pub const AGE_SECONDS_MAX: u32 = 3650 * 86_400;
/// Ends of spans at which a step looks for points; what lies behind them is the next step's. Each costs its caller a chunk
/// that is read, and appends wait meanwhile.
const LOOKS_MAX: usize = 128;

const SECOND: u64 = 1_000_000_000;

/// What a level keeps one point of.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Span {
    /// A minute of the clock.
    Minute,
    /// An hour of it.
    Hour,
    /// A day of UTC.
    Day,
}

impl Span {
    /// All of them, shortest first.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }

    const fn seconds(self) -> u32 {
        match self {
            Self::Minute => 60,
            Self::Hour => 3600,
            Self::Day => 86_400,
        }
    }

    const fn nanos(self) -> u64 {
        self.seconds() as u64 * SECOND
    }
}

/// Why there is no such grid.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Error)]
pub enum GridError {
    /// An age that is none.
    #[error("the age of {} may be from 1s to 3650d", .0.word())]
    Age(Span),
    /// A longer span that is kept no longer than a shorter one would never be looked at.
    #[error("{} has to be kept longer than {}", .long.word(), .short.word())]
    Order {
        /// The longer span.
        long: Span,
        /// The shorter one.
        short: Span,
    },
    /// It could grow beyond what a journal keeps.
    #[error("that could be {points} points, and {GRID_MAX} may be kept")]
    TooMany {
        /// Points that it could keep.
        points: u64,
    },
}

/// Up to which age the newest point of each minute, hour and day stays.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Grid {
    /// In seconds, of each of `Span::ALL`.
    ages: [Option<u32>; 3],
}

/// How the window is about to move.
#[derive(Clone, Copy, Debug)]
pub struct Passage<'a> {
    /// The grid points that there are, oldest first.
    pub present: &'a [At],
    /// The time by which ages are told.
    pub now: Label,
    /// The window's oldest point.
    pub from: At,
    /// The one it is to have; the same when it only grows older.
    pub to: At,
}

/// What follows from that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The grid points that there are to be, oldest first. First these, durably;
    pub stays: Vec<At>,
    /// then the window may begin here: where it was to, or less far.
    pub to: At,
}

impl Grid {
    /// Nothing stays.
    pub const NONE: Self = Self { ages: [None; 3] };

    /// The ages, in seconds, in the order of `Span::ALL`.
    pub fn new(ages: [Option<u32>; 3]) -> Result<Self, GridError> {
        let grid = Self { ages };
        let (mut points, mut before) = (0, None);
        for (span, age) in grid.levels() {
            if age == 0 || age > AGE_SECONDS_MAX {
                return Err(GridError::Age(span));
            }
            let younger = match before {
                Some((short, younger)) if age <= younger => return Err(GridError::Order { long: span, short }),
                Some((_, younger)) => younger,
                None => 0,
            };
            // A stretch of time touches a span more than fit into it.
            points += u64::from((age - younger).div_ceil(span.seconds())) + 1;
            before = Some((span, age));
        }
        if points > GRID_MAX as u64 { Err(GridError::TooMany { points }) } else { Ok(grid) }
    }

    /// Whether nothing stays.
    pub fn is_none(&self) -> bool {
        *self == Self::NONE
    }

    /// Its levels with their ages in seconds, shortest span first.
    pub fn levels(&self) -> impl Iterator<Item = (Span, u32)> + '_ {
        Span::ALL.into_iter().zip(self.ages).filter_map(|(span, age)| Some((span, age?)))
    }

    /// What stays, and how far the window may move, when it is to. `newest` tells the newest point whose label is not
    /// after this one; it is asked not much more than `LOOKS_MAX` times.
    pub fn step(&self, passage: &Passage<'_>, newest: impl FnMut(Label) -> Option<At>) -> Step {
        self.step_of(passage, LOOKS_MAX, newest)
    }

    fn step_of(&self, passage: &Passage<'_>, looks: usize, mut newest: impl FnMut(Label) -> Option<At>) -> Step {
        let Passage { present, now, from, to } = *passage;
        let mut points = present.to_vec();
        let mut reached = to;
        let mut after = from.label;
        // Years without a point cost a few questions: stretches of more and more spans, then of less and less.
        let mut stretch = looks;
        loop {
            let ends = self.ends(after, to.label, now);
            let ends: Vec<Label> = ends.take(stretch).collect();
            let Some(last) = ends.last().copied() else { break };
            match newest(just_before(last)).filter(|at| at.position >= from.position) {
                Some(at) if at.position == from.position => points.push(at),
                None => {}
                Some(_) if stretch > looks => {
                    stretch = (stretch / 2).max(looks);
                    continue;
                }
                Some(at) => {
                    let found = ends.iter().filter_map(|end| newest(just_before(*end)));
                    points.extend(found.filter(|at| at.position >= from.position));
                    if self.ends(last, to.label, now).next().is_some() {
                        // What was found last is the newest of its spans, and behind all that was looked at.
                        reached = at;
                        break;
                    }
                }
            }
            after = last;
            stretch = stretch.saturating_mul(2);
        }
        Step { stays: self.stays(points, now, reached), to: reached }
    }

    /// Ends of spans behind `after`, up to `until`, of which the newest point may still be young enough for its level.
    fn ends(&self, after: Label, until: Label, now: Label) -> impl Iterator<Item = Label> + '_ {
        std::iter::successors(self.end_behind(after, now), move |end| self.end_behind(*end, now))
            .take_while(move |end| *end <= until)
    }

    fn end_behind(&self, after: Label, now: Label) -> Option<Label> {
        let of_level = |(span, age): (Span, u32)| {
            let old = now.nanos().saturating_sub(u64::from(age) * SECOND);
            (after.nanos().max(old) / span.nanos() + 1).checked_mul(span.nanos())
        };
        self.levels().filter_map(of_level).min().map(Label::from_nanos)
    }

    /// What of these stays when this is the oldest point of the window.
    fn stays(&self, mut points: Vec<At>, now: Label, oldest: At) -> Vec<At> {
        points.sort_unstable_by_key(|at| at.position);
        points.dedup_by_key(|at| at.position);
        points.truncate(points.partition_point(|at| at.position < oldest.position));
        let mut newer = oldest.label.nanos();
        let mut stays = Vec::new();
        for point in points.into_iter().rev() {
            let label = point.label.nanos();
            let age = now.nanos().saturating_sub(label);
            let of_level = |(span, most): (Span, u32)| {
                age <= u64::from(most) * SECOND && label / span.nanos() != newer / span.nanos()
            };
            if self.levels().any(of_level) && stays.len() < GRID_MAX {
                stays.push(point);
            }
            newer = label;
        }
        stays.reverse();
        stays
    }
}

/// Of grid points, those that are not before this position.
pub fn not_before(points: &[At], position: Position) -> &[At] {
    &points[points.partition_point(|at| at.position < position)..]
}

fn just_before(end: Label) -> Label {
    Label::from_nanos(end.nanos().saturating_sub(1))
}
