//! Goal: exactly those points stay that the grid names, however the window moves, clocks leap, settings change and
//! processes end in between.
//!
//! Method: each rule by hand; then histories of all points there ever were, of which a judge that looks at all of them
//! says what must be left. `SEED=n` replays one.

use super::*;
use kit::Rng;

const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
const DAY: u64 = 86_400;

fn at(position: u64, seconds: u64) -> At {
    At { position: Position::new(position), label: label(seconds) }
}

fn label(seconds: u64) -> Label {
    Label::from_nanos(seconds * SECOND)
}

fn grid(minute: u64, hour: u64, day: u64) -> Grid {
    let age = |seconds: u64| (seconds > 0).then(|| u32::try_from(seconds).expect("an age"));
    Grid::new([age(minute), age(hour), age(day)]).expect("a grid")
}

/// All the points there are, as an engine knows them.
struct Engine {
    points: Vec<At>,
    kept: Vec<Position>,
    oldest: At,
    asked: usize,
}

impl Engine {
    fn new(points: Vec<At>) -> Self {
        let oldest = points[0];
        Self { points, kept: Vec::new(), oldest, asked: 0 }
    }

    fn grid(&self) -> Vec<At> {
        let stays = |at: &&At| at.position < self.oldest.position && self.kept.contains(&at.position);
        self.points.iter().filter(stays).copied().collect()
    }

    fn newest(&mut self, label: Label) -> Option<At> {
        self.asked += 1;
        let is_point = |at: &&At| at.position >= self.oldest.position || self.kept.contains(&at.position);
        self.points.iter().filter(is_point).rfind(|at| at.label <= label).copied()
    }

    /// A step towards the newest point that is not younger than `cutoff`; `cut`: and the process ends in the middle.
    fn step(&mut self, grid: Grid, now: Label, cutoff: Label, looks: usize, cut: bool) -> Step {
        let (present, from) = (self.grid(), self.oldest);
        let to = self.newest(cutoff).filter(|at| at.position > from.position).unwrap_or(from);
        self.asked = 0;
        let step = grid.step_of(&Passage { present: &present, now, from, to }, looks, |label| self.newest(label));
        self.kept = step.stays.iter().map(|at| at.position).collect();
        if !cut {
            self.oldest = step.to;
        }
        step
    }

    fn left(&self) -> Vec<u64> {
        self.grid().iter().map(|at| at.position.get()).collect()
    }
}

#[test]
fn the_newest_point_of_each_span_stays_and_no_other() {
    let points = vec![at(1, 10), at(2, 50), at(3, 59), at(4, 60), at(5, 100), at(6, 185), at(7, 200)];
    let mut engine = Engine::new(points);
    engine.step(grid(HOUR, 0, 0), label(200), label(200), 99, false);
    assert_eq!(engine.left(), [3, 5], "the minute of 6 has not passed: it ends behind the window's first point");
    assert_eq!(engine.oldest.position.get(), 7);
}

#[test]
fn a_span_is_decided_when_the_window_has_passed_all_of_it() {
    let mut engine = Engine::new(vec![at(1, 10), at(2, 50), at(3, 59), at(4, 60)]);
    let whole = grid(HOUR, 0, 0);
    engine.step(whole, label(50), label(50), 99, false);
    assert_eq!((engine.left(), engine.oldest.position.get()), (vec![], 2), "3 is in the window, and newer");
    engine.step(whole, label(60), label(60), 99, false);
    assert_eq!((engine.left(), engine.oldest.position.get()), (vec![3], 4), "an end is not part of its span");
}

#[test]
fn a_point_stays_as_long_as_some_level_wants_it_and_not_a_moment_longer() {
    let mut engine = Engine::new(vec![at(1, 59), at(2, 119), at(3, HOUR), at(4, 2 * HOUR)]);
    let levels = grid(HOUR, 3 * HOUR, 0);
    engine.step(levels, label(HOUR), label(HOUR), 99, false);
    assert_eq!(engine.left(), [1, 2]);
    engine.step(levels, label(59 + HOUR), label(HOUR), 99, false);
    assert_eq!(engine.left(), [1, 2], "as old as the level says, and not older");
    engine.step(levels, label(60 + HOUR), label(HOUR), 99, false);
    assert_eq!(engine.left(), [2], "2 is the newest of its hour as well");
    engine.step(levels, label(2 * HOUR), label(2 * HOUR), 99, false);
    assert_eq!(engine.left(), [2, 3]);
    engine.step(levels, label(119 + 3 * HOUR), label(2 * HOUR), 99, false);
    assert_eq!(engine.left(), [2, 3]);
    engine.step(levels, label(120 + 3 * HOUR), label(2 * HOUR), 99, false);
    assert_eq!(engine.left(), [3]);
    engine.step(Grid::NONE, label(120 + 3 * HOUR), label(2 * HOUR), 99, false);
    assert_eq!(engine.left(), [0_u64; 0]);
}

#[test]
fn a_coarser_grid_drops_at_once_and_a_finer_one_finds_nothing_that_has_gone() {
    let mut engine = Engine::new((0..240).map(|n| at(n + 1, n * 30)).collect());
    engine.step(grid(DAY, 0, 0), label(2 * HOUR), label(2 * HOUR - 30), 999, false);
    assert_eq!(engine.left().len(), 119);
    engine.step(grid(0, DAY, 0), label(2 * HOUR), label(2 * HOUR - 30), 999, false);
    assert_eq!(engine.left(), [120]);
    engine.step(grid(DAY, 0, 0), label(2 * HOUR), label(2 * HOUR - 30), 999, false);
    assert_eq!(engine.left(), [120]);
}

#[test]
fn a_long_way_is_gone_in_steps_that_ask_little_and_lose_nothing() {
    let minutes = 2 * DAY / MINUTE;
    let mut engine = Engine::new((0..=minutes).map(|n| at(n + 1, n * MINUTE + 7)).collect());
    let (now, mut steps) = (label(2 * DAY + 7), 0);
    while engine.oldest.position.get() <= minutes {
        let before = engine.oldest;
        engine.step(grid(7 * DAY, 0, 0), now, now, LOOKS_MAX, false);
        assert!(engine.asked <= 2 * LOOKS_MAX, "{} were asked", engine.asked);
        assert!(engine.oldest.position > before.position, "it moves");
        steps += 1;
    }
    assert_eq!((engine.left().len() as u64, steps), (minutes, minutes.div_ceil(LOOKS_MAX as u64)));
}

#[test]
fn years_without_a_point_are_passed_in_one_step() {
    let mut engine = Engine::new(vec![at(1, 5), at(2, 40 * DAY), at(3, 40 * DAY + 90)]);
    engine.step(grid(45 * DAY, 0, 0), label(40 * DAY + 90), label(40 * DAY + 90), LOOKS_MAX, false);
    assert_eq!((engine.left(), engine.oldest.position.get()), (vec![1, 2], 3));
    assert!(engine.asked < 2 * LOOKS_MAX, "{} were asked", engine.asked);
}

#[test]
fn spans_that_are_too_old_for_their_level_are_not_asked_for() {
    let mut engine = Engine::new((0..=2 * HOUR).map(|n| at(n + 1, n * MINUTE)).collect());
    engine.step(grid(0, 12 * HOUR, 0), label(5 * DAY), label(5 * DAY), LOOKS_MAX, false);
    assert_eq!((engine.left().len(), engine.asked), (12, 13), "one for each, and one whether there is any");
}

#[test]
fn what_is_older_than_the_window_and_no_grid_point_does_not_become_one() {
    // Where the window begins in a gap, what is in front of it may be all that there is to be found.
    let passage = Passage { present: &[], now: label(300), from: at(5, 0), to: at(9, 240) };
    let points = [at(2, 0), at(7, 130), at(9, 240)];
    let newest = |label| points.iter().rfind(|at| at.label <= label).copied();
    assert_eq!(grid(HOUR, 0, 0).step(&passage, newest).stays, [at(7, 130)]);
}

#[test]
fn what_was_made_durable_before_a_crash_is_what_the_next_step_begins_with() {
    let mut engine = Engine::new((0..9).map(|n| at(n + 1, n * 30)).collect());
    let cut = engine.step(grid(HOUR, 0, 0), label(240), label(240), 99, true);
    assert_eq!((engine.grid(), engine.oldest.position.get()), (Vec::new(), 1), "the window is whole still");
    let again = engine.step(grid(HOUR, 0, 0), label(240), label(240), 99, false);
    assert_eq!(again, cut);
    assert_eq!(engine.left(), [2, 4, 6, 8]);
}

#[test]
fn no_grid_keeps_more_than_a_journal_can() {
    let error = |ages: [Option<u32>; 3]| Grid::new(ages).expect_err("refused").to_string();
    let day = |days: u32| Some(days * 86_400);
    assert_eq!(error([Some(0), None, None]), "the age of minute may be from 1s to 3650d");
    assert_eq!(error([None, None, Some(AGE_SECONDS_MAX + 1)]), "the age of day may be from 1s to 3650d");
    assert_eq!(error([day(7), None, day(7)]), "day has to be kept longer than minute");
    assert_eq!(error([None, day(30), day(7)]), "day has to be kept longer than hour");
    assert_eq!(error([day(46), None, None]), "that could be 66241 points, and 65536 may be kept");
    assert!(Grid::new([day(7), day(30), day(365)]).is_ok());
    assert!(Grid::new([day(45), day(60), None]).is_ok(), "what is in the first level is not counted twice");
    assert!(Grid::new([day(45), None, None]).is_ok() && Grid::new([None, None, day(3650)]).is_ok());
    assert!(grid(0, 0, 0).is_none() && !grid(1, 0, 0).is_none());
}

#[test]
fn more_than_may_be_kept_is_never_asked_for() {
    // A clock that leapt far ahead and back again leaves points that are younger than they can be.
    let present: Vec<At> = (0..70_000).map(|n| at(n + 1, n * MINUTE)).collect();
    let from = at(70_001, 70_000 * MINUTE);
    let passage = Passage { present: &present, now: label(DAY), from, to: from };
    let stays = grid(HOUR, 0, 0).step(&passage, |_| None).stays;
    assert_eq!((stays.len(), stays.last()), (GRID_MAX, present.last()), "the oldest go");
}

/// By definition: of these points before `oldest`, those that are the newest of all points of a span.
fn judged(all: &[At], of: &[At], grid: Grid, now: Label, oldest: At) -> Vec<At> {
    let stays = |point: &&At| {
        let age = now.nanos().saturating_sub(point.label.nanos());
        let newest = |span: Span| {
            let of_span = |at: &&At| at.label.nanos() / span.nanos() == point.label.nanos() / span.nanos();
            all.iter().rfind(of_span) == Some(*point)
        };
        point.position < oldest.position
            && grid.levels().any(|(span, most)| age <= u64::from(most) * SECOND && newest(span))
    };
    of.iter().filter(stays).copied().collect()
}

fn any_grid(rng: &mut Rng) -> Grid {
    let mut age = 0;
    let mut level = |unit: u64| {
        age += 1 + rng.below(unit);
        if rng.one_in(3) { 0 } else { age }
    };
    grid(level(3 * HOUR), level(DAY), level(9 * DAY))
}

#[test]
fn whatever_happens_what_is_left_is_what_the_definition_says() {
    for seed in Rng::seeds(0, 1000) {
        let mut rng = Rng::new(seed);
        let (mut seconds, mut all) = (rng.below(3 * DAY), Vec::new());
        let write = |rng: &mut Rng, all: &mut Vec<At>, seconds: &mut u64| {
            for _ in 0..=rng.below(20) {
                let unit = [1, MINUTE, HOUR, DAY][rng.index(4)];
                *seconds += rng.below(unit * 3) * u64::from(!rng.one_in(4));
                all.push(at(all.len() as u64 + 1, *seconds));
            }
        };
        write(&mut rng, &mut all, &mut seconds);
        let (mut engine, mut grid, mut left) = (Engine::new(all.clone()), any_grid(&mut rng), Vec::new());
        let mut window = rng.below(DAY);
        let mut now = label(0);
        for _ in 0..20 {
            match rng.below(6) {
                0 => write(&mut rng, &mut all, &mut seconds),
                1 => grid = any_grid(&mut rng),
                2 => window = rng.below(DAY),
                3 => grid = if rng.one_in(3) { Grid::NONE } else { grid },
                _ => seconds += rng.below(HOUR),
            }
            engine.points.clone_from(&all);
            // Clocks leap; behind a restart the time that is believed may be an earlier one.
            now = if rng.one_in(9) { label(seconds.saturating_sub(rng.below(DAY))) } else { now.max(label(seconds)) };
            let cutoff = Label::from_nanos(now.nanos().saturating_sub(window * SECOND));
            let (looks, cut) = (1 + rng.index(40), rng.one_in(4));
            let before = engine.oldest;
            let target = engine.newest(cutoff).filter(|at| at.position > before.position).unwrap_or(before);
            let step = engine.step(grid, now, cutoff, looks, cut);
            let told = format!("SEED={seed}: {step:?} by {grid:?} at {now:?}, from {before:?}");

            assert!(step.to.position >= before.position && step.to.position <= target.position, "{told}");
            assert!(step.to.position > before.position || target == before, "it moves if it can: {told}");
            assert!(engine.asked <= looks + 64, "{} were asked: {told}", engine.asked);
            let passed = all.iter().filter(|at| at.position >= before.position && at.position < engine.oldest.position);
            let of: Vec<At> = left.iter().chain(passed).copied().collect();
            left = judged(&all, &of, grid, now, engine.oldest);
            assert_eq!(engine.grid(), left, "{told}");
        }
    }
}
