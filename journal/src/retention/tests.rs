//! Goal: a plan gives up what it may, no more, early enough, and says so before.
//!
//! Method: a journal of a few segments of 100 bytes, a position and a second to each ten bytes; then a great many
//! random ones, held against what must be true of every plan. `SEED=n` replays one.

use super::*;
use crate::journal::SegmentUse;
use kit::Rng;

pub(super) const EACH: u64 = 100;
const HOUR: u64 = 3600 * SECOND;

pub(super) fn at(position: u64) -> At {
    At { position: Position::new(position), label: Label::from_nanos(position * SECOND) }
}

/// Segments that end at positions 10, 20, ...
fn space(segments: u64, horizon: u64) -> Space {
    Space {
        segment_bytes: 0,
        horizon: at(horizon),
        distributed: Position::ORIGIN,
        segments: (1..=segments).map(|n| SegmentUse { bytes: EACH, last: at(n * 10) }).collect(),
        other_bytes: 0,
    }
}

fn limits(window_ns: u64, bytes: Option<u64>, full: WhenFull) -> Limits {
    Limits { window_ns, bytes, full }
}

fn view<'a>(space: &'a Space, aged: u64, pins: &'a [Position]) -> View<'a> {
    let head = space.segments.last().map_or(at(0), |segment| segment.last);
    View { elapsed_ns: 0, space, head, aged: Position::new(aged), pins, grid: &[], room: None, appended: 0 }
}

/// One step at the time of the newest record.
fn decide(limits: Limits, space: &Space, pins: &[u64], room: Option<Room>) -> Decision {
    let mut retention = Retention::new(limits);
    let pins: Vec<_> = pins.iter().map(|pin| Position::new(*pin)).collect();
    let head = space.segments.last().map_or(at(0), |segment| segment.last);
    let cutoff = retention.cutoff(0, head.label, head.label, Label::default());
    let aged = (cutoff.nanos() / SECOND).min(head.position.get());
    retention.step(&View { room, ..view(space, aged, &pins) })
}

#[test]
fn what_is_older_than_the_window_goes() {
    let decision = decide(limits(30 * SECOND, None, WhenFull::Shrink), &space(10, 0), &[], None);
    assert_eq!(decision.forget, Some(Position::new(70)));
    assert_eq!((decision.floor, decision.leaving), (Position::new(70), 7 * EACH));
    assert_eq!((decision.news, decision.closed), (Vec::new(), None));
    let young = decide(limits(HOUR, None, WhenFull::Shrink), &space(10, 0), &[], None);
    assert_eq!((young.forget, young.leaving, young.hurry), (None, 0, false));
}

#[test]
fn a_moment_more_of_age_is_not_worth_a_write_until_room_is_tight() {
    let mut retention = Retention::new(limits(5000 * SECOND, None, WhenFull::Shrink));
    retention.cutoff(0, Label::from_nanos(5004 * SECOND), Label::default(), Label::default());
    let space = space(10, 1);
    assert_eq!(retention.step(&view(&space, 4, &[])).forget, None, "three seconds of five thousand");
    let room = Some(Room { free: 0, reserve: 1 });
    let tight = retention.step(&View { room, ..view(&space, 4, &[]) });
    assert_eq!(tight.forget, Some(Position::new(10)), "nothing but a whole segment makes room");
    retention.cutoff(10 * SECOND, Label::from_nanos(5010 * SECOND), Label::default(), Label::default());
    assert_eq!(retention.step(&view(&space, 10, &[])).forget, Some(Position::new(10)));
}

#[test]
fn what_is_a_moment_too_old_goes_before_anything_goes_early() {
    let mut retention = Retention::new(limits(5000 * SECOND, None, WhenFull::Shrink));
    retention.cutoff(0, Label::from_nanos(5011 * SECOND), Label::default(), Label::default());
    let (space, room) = (space(10, 9), Some(Room { free: 0, reserve: 1 }));
    let decision = retention.step(&View { room, ..view(&space, 11, &[]) });
    assert_eq!((decision.forget, decision.news), (Some(Position::new(11)), Vec::new()));
}

#[test]
fn a_limit_makes_the_oldest_points_go_and_that_is_announced_first() {
    let decision = decide(limits(HOUR, Some(650), WhenFull::Shrink), &space(10, 0), &[], None);
    assert_eq!(decision.forget, Some(Position::new(50)), "500 stay, and one more has room");
    let window_ns = 50 * SECOND;
    let told = [News::Fills { in_ns: None, window_ns: Some(window_ns) }, News::Shrinks { window_ns }];
    assert_eq!(decision.news, told);
    assert_eq!((decision.closed, decision.hurry), (None, true), "it leaves, and not too soon");
}

#[test]
fn a_full_file_system_makes_them_go_too() {
    let room = Some(Room { free: 50, reserve: 200 });
    let decision = decide(limits(HOUR, None, WhenFull::Shrink), &space(10, 0), &[], room);
    assert_eq!(decision.forget, Some(Position::new(20)));
    let again = decide(limits(HOUR, None, WhenFull::Shrink), &space(10, 20), &[], room);
    assert_eq!(again.forget, None, "what is on its way out is not asked for twice");
}

#[test]
fn the_newest_two_segments_stay_whatever_happens() {
    let room = Some(Room { free: 0, reserve: 1 << 40 });
    let decision = decide(limits(HOUR, Some(1), WhenFull::Shrink), &space(10, 0), &[], room);
    assert_eq!(decision.forget, Some(Position::new(80)));
    assert_eq!(decision.closed, Some(Closed::Pinned { bytes: 1000 }));
}

#[test]
fn nothing_goes_behind_a_pin_since_it_would_free_nothing() {
    let decision = decide(limits(HOUR, Some(650), WhenFull::Shrink), &space(10, 0), &[25], None);
    assert_eq!((decision.forget, decision.leaving), (Some(Position::new(20)), 2 * EACH));
    assert_eq!(decision.closed, Some(Closed::Pinned { bytes: 1000 }));
    let aged = decide(limits(30 * SECOND, None, WhenFull::Shrink), &space(10, 0), &[25], None);
    assert_eq!((aged.forget, aged.floor), (Some(Position::new(70)), Position::new(25)), "age does not ask");
    assert_eq!(aged.leaving, 2 * EACH);
}

#[test]
fn stop_gives_up_nothing_before_its_time() {
    let mut retention = Retention::new(limits(HOUR, Some(900), WhenFull::Stop));
    let (full, less) = (space(10, 0), space(9, 0));
    let closed = Closed::Limit { bytes: 1000 };
    let decision = retention.step(&view(&full, 0, &[]));
    assert_eq!((decision.forget, decision.closed), (None, Some(closed)));
    assert_eq!(decision.news, [News::Closed(closed)]);
    assert_eq!(retention.step(&view(&full, 0, &[])).news, [], "it is told once");
    assert_eq!(retention.step(&view(&less, 0, &[])).news, [News::Open]);
}

#[test]
fn while_room_is_on_its_way_a_little_more_is_taken_and_no_more() {
    let mut retention = Retention::new(limits(HOUR, Some(650), WhenFull::Shrink));
    let mut closed = |segments, horizon| retention.step(&view(&space(segments, horizon), 0, &[])).closed;
    assert_eq!(closed(12, 60), None, "the limit is new, and all that is too much is on its way");
    assert_eq!(closed(8, 30), None);
    assert_eq!(closed(10, 50), None);
    assert_eq!(closed(11, 60), Some(Closed::Limit { bytes: 1100 }), "nothing leaves");
    assert_eq!(closed(6, 60), None);
    assert_eq!(closed(9, 60), Some(Closed::Limit { bytes: 900 }));
}

#[test]
fn the_window_is_whole_again_when_its_oldest_point_is_old_enough() {
    let mut retention = Retention::new(limits(HOUR, Some(650), WhenFull::Shrink));
    let full = space(10, 0);
    assert_eq!(retention.step(&view(&full, 0, &[])).forget, Some(Position::new(50)));
    let left = Space { segments: full.segments[5..].to_vec(), ..space(0, 50) };
    assert_eq!(retention.step(&view(&left, 49, &[])).news, []);
    assert_eq!(retention.step(&view(&left, 50, &[])).news, [News::Whole]);
}

#[test]
fn a_disk_that_fills_is_announced_an_hour_ahead() {
    let mut retention = Retention::new(limits(100 * HOUR, None, WhenFull::Shrink));
    let space = space(10, 0);
    let step = |retention: &mut Retention, elapsed_ns, appended, free| {
        let room = Some(Room { free, reserve: 0 });
        retention.step(&View { elapsed_ns, room, appended, ..view(&space, 0, &[]) }).news
    };
    assert_eq!(step(&mut retention, 0, 0, 4000), [], "nothing is known yet");
    assert_eq!(step(&mut retention, 59 * SECOND, 60, 4000), []);
    assert_eq!(step(&mut retention, 60 * SECOND, 60, 3601), []);
    let told = News::Fills { in_ns: Some(HOUR), window_ns: Some(4600 * SECOND) };
    assert_eq!(step(&mut retention, 61 * SECOND, 61, 3600), [told]);
    assert_eq!(step(&mut retention, 62 * SECOND, 62, 3599), [], "once");
    assert_eq!(step(&mut retention, 63 * SECOND, 63, 1 << 40), [News::Whole], "somebody made room");
}

#[test]
fn a_forecast_counts_what_pins_keep_and_says_nothing_too_early() {
    let mut retention = Retention::new(limits(100 * HOUR, Some(2100), WhenFull::Shrink));
    let space = space(10, 50);
    let pins = [Position::new(30)];
    let now = |elapsed_ns, appended| View { elapsed_ns, appended, ..view(&space, 0, &pins) };
    let mut young = Retention::new(retention.limits());
    young.step(&now(0, 0));
    young.step(&now(30 * SECOND, 30));
    assert_eq!(young.forecast(&now(30 * SECOND, 30)), None, "half a minute");
    retention.step(&now(0, 0));
    retention.step(&now(60 * SECOND, 0));
    assert_eq!(retention.forecast(&now(60 * SECOND, 0)), None, "nothing was written");
    retention.step(&now(60 * SECOND, 120));
    let told = retention.forecast(&now(60 * SECOND, 120)).expect("enough to tell");
    // 2100 without the next segment and the two that a bookmark keeps, at 2 bytes a second.
    let expected = Forecast { bytes_per_second: 2, window_ns: 900 * SECOND, full_in_ns: Some(650 * SECOND) };
    assert_eq!(told, expected);
}

#[test]
fn a_clock_that_leaps_takes_no_history_along() {
    let mut retention = Retention::new(limits(HOUR, None, WhenFull::Shrink));
    let label = |seconds: u64| Label::from_nanos(seconds * SECOND);
    assert_eq!(
        retention.cutoff(0, label(10_000_000), label(7100), Label::default()),
        label(3500),
        "as old as the newest record"
    );
    assert_eq!(
        retention.cutoff(SECOND, label(10_000_000), label(7100), Label::default()),
        label(3502),
        "twice the time that passed"
    );
    assert_eq!(retention.cutoff(2 * SECOND, label(5), label(7100), Label::default()), label(3502), "never back");
    assert_eq!(
        retention.cutoff(9 * SECOND, label(7105), label(7105), Label::default()),
        label(3505),
        "and it is caught up with"
    );
    let mut early = Retention::new(limits(HOUR, None, WhenFull::Shrink));
    assert_eq!(early.cutoff(0, label(0), label(7100), label(100)), label(3500), "a clock that was never set");
    let mut empty = Retention::new(limits(HOUR, None, WhenFull::Shrink));
    let mut leapt = Retention::new(limits(HOUR, None, WhenFull::Shrink));
    assert_eq!(leapt.cutoff(0, label(8000), label(10_000_000), label(7000)), label(4400), "the head's clock had leapt");
    assert_eq!(empty.cutoff(0, label(7200), Label::default(), Label::default()), label(3600));
}

#[test]
fn trimming_says_what_it_frees_and_what_pins_keep() {
    let space = space(10, 15);
    let pins = [Position::new(25)];
    let trim = |to, before, bytes, pinned| Trim { to: Position::new(to), before: Position::new(before), bytes, pinned };
    assert_eq!(trim_before(&space, &pins, &[], Position::new(60)), trim(60, 60, 800, 400));
    assert_eq!(trim_before(&space, &[], &[], Position::new(5)).to, Position::new(15), "never back");
    assert_eq!(trim_to_size(&space, &[], &[], 600), trim(40, 40, 600, 0));
    assert_eq!(trim_to_size(&space, &pins, &[], 600), trim(20, 20, 800, 0));
    assert_eq!(trim_to_size(&space, &[], &[], 0).to, Position::new(80));
    assert_eq!(trim_to_size(&space, &[], &[], 900), trim(15, 0, 900, 0));
}

fn grid_point(position: u64, floor: u64) -> GridPoint {
    GridPoint { position: Position::new(position), floor: Position::new(floor) }
}

/// Grid points that need what is behind themselves.
fn grid(positions: &[u64]) -> Vec<GridPoint> {
    positions.iter().map(|at| grid_point(*at, *at)).collect()
}

fn thin(limit: u64, full: WhenFull, space: &Space, pins: &[u64], grid: &[GridPoint]) -> Decision {
    let pins: Vec<_> = pins.iter().map(|pin| Position::new(*pin)).collect();
    Retention::new(limits(HOUR, Some(limit), full)).step(&View { grid, ..view(space, 0, &pins) })
}

#[test]
fn grid_points_keep_what_is_behind_them() {
    let decision = thin(2000, WhenFull::Shrink, &space(10, 60), &[], &grid(&[25, 47]));
    assert_eq!((decision.early, decision.floor), (None, Position::new(25)));
    assert_eq!((decision.leaving, decision.news), (2 * EACH, Vec::new()));
}

#[test]
fn the_oldest_grid_points_go_first_and_no_more_than_it_takes() {
    let points = grid(&[3, 5, 17, 25, 47]);
    let decision = thin(950, WhenFull::Shrink, &space(10, 60), &[], &points);
    assert_eq!((decision.early, decision.forget), (Some(Position::new(18)), None), "800 stay, and one more has room");
    assert_eq!((decision.floor, decision.leaving), (Position::new(25), 2 * EACH));
    assert_eq!(decision.news, [News::GridShrinks { points: 3 }]);
    assert_eq!(decision.closed, None);
}

#[test]
fn the_window_shrinks_when_no_grid_points_are_left() {
    let decision = thin(450, WhenFull::Shrink, &space(10, 60), &[], &grid(&[25, 47]));
    let to = Some(Position::new(70));
    assert_eq!((decision.early, decision.forget), (to, to));
    let window_ns = 30 * SECOND;
    let fills = News::Fills { in_ns: None, window_ns: Some(window_ns) };
    assert_eq!(decision.news, [fills, News::Shrinks { window_ns }, News::GridShrinks { points: 2 }]);
    let enough = thin(550, WhenFull::Shrink, &space(10, 60), &[], &grid(&[25, 47]));
    assert_eq!((enough.early, enough.forget), (Some(Position::new(48)), None), "60 is the window's, and stays");
}

#[test]
fn grid_points_that_would_free_nothing_stay() {
    let behind_a_bookmark = thin(650, WhenFull::Shrink, &space(10, 60), &[15], &grid(&[5, 25, 47]));
    assert_eq!((behind_a_bookmark.early, behind_a_bookmark.leaving), (Some(Position::new(6)), EACH));
    assert_eq!(behind_a_bookmark.closed, Some(Closed::Pinned { bytes: 1000 }));
    let stop = thin(950, WhenFull::Stop, &space(10, 60), &[], &grid(&[5]));
    assert_eq!((stop.early, stop.forget, stop.news.len()), (None, None, 1));
}

#[test]
fn a_point_that_a_rollback_left_goes_with_all_that_are_older() {
    // 40 was written behind a rollback to 5 that was undone: it needs what is behind 5.
    let points = [grid_point(25, 25), grid_point(40, 5), grid_point(47, 47)];
    let decision = thin(1050, WhenFull::Shrink, &space(10, 60), &[], &points);
    assert_eq!((decision.early, decision.leaving), (Some(Position::new(41)), 4 * EACH));
}

#[test]
fn grid_points_that_go_all_the_time_are_told_of_once_an_hour() {
    let mut retention = Retention::new(limits(HOUR, Some(1050), WhenFull::Shrink));
    let mut told = |elapsed_ns, points: &[u64]| {
        let decision = retention.step(&View { elapsed_ns, grid: &grid(points), ..view(&space(10, 60), 0, &[]) });
        (decision.early.map(Position::get), decision.news)
    };
    assert_eq!(told(0, &[5, 17]), (Some(6), vec![News::GridShrinks { points: 1 }]));
    assert_eq!(told(SECOND, &[6, 7, 17]), (Some(8), vec![]));
    assert_eq!(told(HOUR - 1, &[8, 17]), (Some(9), vec![]));
    assert_eq!(told(HOUR, &[17]), (None, vec![News::GridShrinks { points: 3 }]), "none is passed over");
    assert_eq!(told(3 * HOUR, &[17]), (None, vec![]));
}

#[test]
fn trimming_gives_up_grid_points_before_a_point_and_the_oldest_for_a_size() {
    let (space, points) = (space(10, 60), grid(&[5, 25, 47]));
    let trim = |to, before, bytes, pinned| Trim { to: Position::new(to), before: Position::new(before), bytes, pinned };
    assert_eq!(trim_before(&space, &[], &points, Position::new(25)), trim(60, 25, 800, 0));
    assert_eq!(trim_before(&space, &[], &points, Position::new(70)), trim(70, 70, 300, 0));
    assert_eq!(trim_before(&space, &[Position::new(15)], &points, Position::new(25)), trim(60, 25, 900, 100));
    assert_eq!(trim_to_window(&space, &[], &points[1..], Position::new(70)), trim(70, 0, 800, 0));
    assert_eq!(trim_to_size(&space, &[], &points, 850), trim(60, 6, 800, 0));
    assert_eq!(trim_to_size(&space, &[], &points, 250), trim(80, 80, 200, 0));
}

/// A journal of any shape.
fn any_space(rng: &mut Rng) -> Space {
    let mut position = 0;
    let segments: Vec<_> = (0..rng.below(12))
        .map(|_| {
            position += 1 + rng.below(30);
            SegmentUse { bytes: 1 + rng.below(200), last: at(position) }
        })
        .collect();
    let horizon = at(rng.below(position + 1));
    Space { segment_bytes: 0, horizon, distributed: Position::ORIGIN, segments, other_bytes: rng.below(100) }
}

#[test]
fn whatever_the_journal_a_plan_keeps_its_promises() {
    for seed in Rng::seeds(0, 20_000) {
        let mut rng = Rng::new(seed);
        let space = any_space(&mut rng);
        let head = space.segments.last().map_or(at(0), |segment| segment.last);
        let pins: Vec<_> = (0..rng.below(4)).map(|_| Position::new(rng.below(head.position.get() + 1))).collect();
        let mut grid: Vec<_> = (0..rng.below(6)).map(|_| rng.below(space.horizon.position.get().max(1))).collect();
        grid.sort_unstable();
        let floor = |at: u64, rng: &mut Rng| if rng.one_in(4) { rng.below(at + 1) } else { at };
        let grid: Vec<_> = grid.iter().map(|at| grid_point(*at, floor(*at, &mut rng))).collect();
        let full = if rng.below(2) == 0 { WhenFull::Shrink } else { WhenFull::Stop };
        let limit = (rng.below(2) == 0).then(|| rng.below(2000));
        let room = (rng.below(2) == 0).then(|| Room { free: rng.below(300), reserve: rng.below(600) });
        let limits = limits((1 + rng.below(200)) * SECOND, limit, full);
        let mut retention = Retention::new(limits);
        let cutoff = retention.cutoff(0, head.label, head.label, Label::default());
        let aged = Position::new(cutoff.nanos() / SECOND);
        let view = View { head, aged, room, grid: &grid, ..view(&space, 0, &pins) };
        let decision = retention.step(&view);
        let told = format!("SEED={seed}: {decision:?} for {view:?}");

        let horizon = decision.forget.unwrap_or(space.horizon.position);
        assert!(decision.forget.is_none_or(|to| to > space.horizon.position), "moves on, or not at all: {told}");
        assert!(horizon <= head.position, "the newest point stays: {told}");
        assert!(pins.iter().all(|pin| decision.floor <= *pin) && decision.floor <= horizon, "no pin is passed: {told}");
        let early = decision.forget.is_some_and(|to| to > aged);
        assert!(!early || full == WhenFull::Shrink, "stop gives up nothing early: {told}");
        assert!(!early || pins.iter().all(|pin| horizon <= *pin), "nothing goes for nothing: {told}");
        let before = decision.early.unwrap_or(Position::ORIGIN);
        let left = |before: Position| grid.iter().filter(move |point| point.position >= before);
        let gone = grid.len() - left(before).count();
        assert!(left(before).all(|point| decision.floor <= point.floor), "no grid point is passed: {told}");
        assert!(gone == 0 || full == WhenFull::Shrink, "stop gives up nothing: {told}");
        assert!(!early || left(before).next().is_none(), "grid points go before the window does: {told}");
        assert!(early || decision.early.is_none_or(|before| before <= horizon), "{told}");
        let thins = News::GridShrinks { points: gone as u64 };
        assert_eq!(decision.news.contains(&thins), gone > 0, "is told: {told}");
        let first = decision.news.first().is_some_and(|news| matches!(news, News::Fills { .. }));
        let then = decision.news.get(1).is_some_and(|news| matches!(news, News::Shrinks { .. }));
        assert_eq!((early, early), (first, then), "is announced, then told: {told}");
        if early {
            let kept = space.segments.iter().filter(|segment| segment.last.position > horizon).count();
            assert!(kept >= SEGMENTS_MIN, "the newest segments stay: {told}");
        }

        // The size is reached where giving up points can reach it, and with no more of them than it takes.
        let pin = pins.iter().min().copied().unwrap_or(Position::new(u64::MAX));
        let stays = |floor: Position| {
            let gone = space.segments.iter().rev().skip(1).filter(|s| s.last.position <= floor.min(pin));
            total(&space) - gone.map(|segment| segment.bytes).sum::<u64>()
        };
        let fits = |floor: Position| {
            let by_limit = limits.bytes.is_none_or(|limit| stays(floor) + segment_bytes(&space) <= limit);
            by_limit && room.is_none_or(|room| room.free + total(&space) - stays(floor) >= room.reserve)
        };
        let may: Vec<_> = space.segments.iter().rev().skip(SEGMENTS_MIN).map(|s| s.last.position).collect();
        if full == WhenFull::Shrink && may.iter().any(|to| fits(*to)) {
            assert!(fits(decision.floor), "it could have fitted: {told}");
        }
        let less: Vec<_> = may.iter().filter(|to| **to < horizon && **to >= aged.max(space.horizon.position)).collect();
        assert!(!early || less.iter().all(|to| !fits(**to)), "less would have done: {told}");
        let last = grid.iter().rfind(|point| point.position < before);
        if let Some(last) = last.filter(|_| !early) {
            let floor = left(last.position).map(|point| point.floor).min().unwrap_or(horizon).min(horizon);
            assert!(!fits(floor), "one grid point less would have done: {told}");
        }
    }
}
