//! Goal: over a long time, with an engine that takes its time, the journal stays within its limit, no pin is passed, and
//! what is told makes sense in its order.
//!
//! Method: a journal that only counts: hosts write at a rate that changes, replicas follow in pieces, segments go when
//! they have. `SEED=n` replays one history.

use super::tests::{EACH, at};
use super::*;
use crate::journal::SegmentUse;
use kit::Rng;

struct World {
    space: Space,
    head: u64,
    now: u64,
    appended: u64,
    pins: Vec<Position>,
    grid: Vec<GridPoint>,
}

impl World {
    /// So many writes of ten bytes in a second; ten of them fill a segment.
    fn write(&mut self, writes: u64) {
        for _ in 0..writes {
            self.head += 1;
            self.appended += EACH / 10;
            let last = At { label: Label::from_nanos(self.now * SECOND), ..at(self.head) };
            if self.head % 10 == 1 {
                self.space.segments.push(SegmentUse { bytes: EACH, last });
            } else if let Some(newest) = self.space.segments.last_mut() {
                newest.last = last;
            }
        }
    }

    fn label_of(&self, position: Position) -> Label {
        let holds = |segment: &&SegmentUse| segment.last.position >= position;
        self.space.segments.iter().find(holds).map_or_else(Label::default, |segment| segment.last.label)
    }

    /// The last record of the last segment that is not younger: good enough.
    fn position_at(&self, cutoff: Label) -> Position {
        let old = self.space.segments.iter().rev().find(|segment| segment.last.label <= cutoff);
        old.map_or(self.space.horizon.position, |segment| segment.last.position)
    }

    /// What the engine does in a second.
    fn engine(&mut self, decision: &Decision, speed: u64) {
        if let Some(before) = decision.early {
            self.grid.retain(|point| point.position >= before);
        }
        if let Some(to) = decision.forget {
            // Of what grows old some stays.
            let passed = self.space.horizon.position.get()..to.get();
            let stay = passed.filter(|at| at % 17 == 0 && decision.early != Some(to)).map(Position::new);
            self.grid.extend(stay.map(|position| GridPoint { position, floor: position }));
            self.space.horizon = At { position: to, label: self.label_of(to) };
        }
        let follow = Position::new(self.space.distributed.get() + speed).min(decision.floor);
        let follow = self.grid.first().map_or(follow, |point| follow.min(point.floor));
        self.space.distributed = self.space.distributed.max(follow);
        let (done, newest) = (self.space.distributed, self.head);
        self.space.segments.retain(|s| s.last.position > done || s.last.position.get() == newest);
    }
}

#[test]
fn a_journal_in_motion_stays_within_its_limit_and_says_what_happens() {
    for seed in Rng::seeds(0, 300) {
        let mut rng = Rng::new(seed);
        let limit = EACH * (6 + rng.below(30));
        let limits = Limits { window_ns: (20 + rng.below(400)) * SECOND, bytes: Some(limit), full: WhenFull::Shrink };
        let mut retention = Retention::new(limits);
        let space = Space {
            segment_bytes: 0,
            horizon: at(0),
            distributed: Position::ORIGIN,
            segments: Vec::new(),
            other_bytes: 0,
        };
        let mut world = World { space, head: 0, now: 1_000, appended: 0, pins: Vec::new(), grid: Vec::new() };
        let (mut rate, mut stage, mut open) = (1, Stage::Whole, true);
        for _ in 0..600 {
            world.now += 1;
            if rng.one_in(50) {
                rate = rng.below(20);
            }
            // Bookmarks come and go; while one is old there may be nothing to give up.
            if rng.one_in(100) {
                world.pins.push(Position::new(world.head));
            } else if rng.one_in(60) {
                world.pins.clear();
            }
            if open {
                world.write(rate);
            }
            let head = world.space.segments.last().map_or(at(0), |segment| segment.last);
            let cutoff = retention.cutoff(
                world.now * SECOND,
                Label::from_nanos(world.now * SECOND),
                head.label,
                Label::default(),
            );
            let aged = world.position_at(cutoff).max(world.space.horizon.position);
            let view = View {
                elapsed_ns: world.now * SECOND,
                space: &world.space,
                head,
                aged,
                pins: &world.pins,
                grid: &world.grid,
                room: None,
                appended: world.appended,
            };
            let decision = retention.step(&view);
            let told = format!("SEED={seed} at {}: {decision:?}", world.now);
            for news in &decision.news {
                match news {
                    News::Fills { .. } => {
                        assert_eq!(stage, Stage::Whole, "{told}");
                        stage = Stage::Announced;
                    }
                    News::Shrinks { .. } => {
                        assert_eq!(stage, Stage::Announced, "nothing goes early unannounced: {told}");
                        stage = Stage::Shrinking;
                    }
                    News::Whole => {
                        assert_ne!(stage, Stage::Whole, "{told}");
                        stage = Stage::Whole;
                    }
                    News::GridShrinks { points } => assert!(*points > 0, "{told}"),
                    News::Closed(_) => assert!(std::mem::replace(&mut open, false), "{told}"),
                    News::Open => assert!(!std::mem::replace(&mut open, true), "{told}"),
                }
            }
            assert_eq!(open, decision.closed.is_none(), "{told}");
            assert!(
                open || world.pins.iter().any(|pin| *pin < Position::new(world.head)),
                "closed for nothing: {told}"
            );
            if decision.forget.is_some_and(|to| to > aged) {
                assert_eq!(stage, Stage::Shrinking, "{told}");
            }
            assert!(decision.early.is_none_or(|early| early <= aged || decision.forget == Some(early)), "{told}");
            // Fast enough for what hosts write.
            let speed = 20 + rng.below(20);
            world.engine(&decision, speed);
            assert!(world.pins.iter().all(|pin| world.space.distributed <= *pin), "a pin is passed: {told}");
            let most = limit + (limit / 8).max(2 * EACH) + 2 * EACH;
            assert!(total(&world.space) <= most, "{} of {limit}: {told}", total(&world.space));
        }
    }
}
