//! How fast a journal grows, and what that means for its window.
//!
//! Owns the rate over the last hour and the arithmetic from it. Says nothing while there is too little to tell.

use super::{Limits, SECOND, View, segment_bytes};
use std::collections::VecDeque;

/// Over how long the rate is taken, at most.
const OVER_NS: u64 = 3600 * SECOND;
/// And at least.
const OVER_NS_MIN: u64 = 60 * SECOND;
/// Time between samples.
const SAMPLE_NS: u64 = 10 * SECOND;

/// What was appended by when.
#[derive(Debug, Default)]
pub(super) struct Rate {
    samples: VecDeque<(u64, u64)>,
    newest: (u64, u64),
}

impl Rate {
    pub(super) fn note(&mut self, elapsed_ns: u64, appended: u64) {
        self.newest = (elapsed_ns, appended);
        if self.samples.back().is_none_or(|(at, _)| elapsed_ns.saturating_sub(*at) >= SAMPLE_NS) {
            self.samples.push_back(self.newest);
        }
        while self.samples.front().is_some_and(|(at, _)| elapsed_ns.saturating_sub(*at) > OVER_NS) {
            self.samples.pop_front();
        }
    }

    /// `None` while there is too little to tell: less than a minute, or nothing written.
    pub(super) fn bytes_per_second(&self) -> Option<u64> {
        let (began, before) = *self.samples.front()?;
        let (now, after) = self.newest;
        let over = now.saturating_sub(began);
        if over < OVER_NS_MIN {
            return None;
        }
        let rate = u128::from(after.saturating_sub(before)) * u128::from(SECOND) / u128::from(over);
        u64::try_from(rate).ok().filter(|rate| *rate > 0)
    }
}

/// How things will be at the present rate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Forecast {
    /// Bytes that the journal grows in a second.
    pub bytes_per_second: u64,
    /// How long the window will be: what is wanted, or less.
    pub window_ns: u64,
    /// When the room ends; `None`: it holds the window that is wanted.
    pub full_in_ns: Option<u64>,
}

impl Forecast {
    pub(super) fn new(bytes_per_second: u64, limits: &Limits, view: &View<'_>) -> Option<Self> {
        let space = view.space;
        let floor = view.pins.iter().min().map_or(space.horizon.position, |pin| (*pin).min(space.horizon.position));
        let (mut all, mut pinned, mut inside) = (0, 0, 0);
        for segment in &space.segments {
            all += segment.bytes;
            if segment.last.position > space.horizon.position {
                inside += segment.bytes;
            } else if segment.last.position > floor {
                pinned += segment.bytes;
            }
        }
        let by_limit =
            limits.bytes.map(|limit| limit.saturating_sub(space.other_bytes.saturating_add(segment_bytes(space))));
        let by_room = view.room.map(|room| (all + room.free).saturating_sub(room.reserve));
        // Both unknown: a disk without end.
        let capacity = by_limit.into_iter().chain(by_room).min().unwrap_or(u64::MAX).saturating_sub(pinned);
        let window_ns = lasts(capacity, bytes_per_second)?;
        if window_ns >= limits.window_ns {
            return Some(Self { bytes_per_second, window_ns: limits.window_ns, full_in_ns: None });
        }
        let full_in_ns = Some(lasts(capacity.saturating_sub(inside), bytes_per_second)?);
        Some(Self { bytes_per_second, window_ns, full_in_ns })
    }
}

/// How long so many bytes last.
fn lasts(bytes: u64, bytes_per_second: u64) -> Option<u64> {
    let nanos = (u128::from(bytes) * u128::from(SECOND)).checked_div(u128::from(bytes_per_second))?;
    Some(u64::try_from(nanos).unwrap_or(u64::MAX))
}
