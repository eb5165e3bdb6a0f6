//! Labels rise whatever the wall clock does, and follow it slowly.

use super::*;

const SECOND: u64 = 1_000_000_000;

fn now(boot: u64, wall: u64) -> Now {
    Now { boot_ns: boot, wall_ns: wall }
}

#[test]
fn labels_rise_strictly_while_the_wall_clock_is_set_back_a_day() {
    let day = 86_400 * SECOND;
    let mut clock = LabelClock::new(now(0, 10 * day), Label::from_nanos(0));
    let (first, _) = clock.take(now(SECOND, 10 * day + SECOND));
    let (second, behind) = clock.take(now(2 * SECOND, 9 * day));
    assert!(second > first);
    assert!(behind < 0, "the stretch is visible: the wall clock is behind the label");
    let (third, _) = clock.take(now(2 * SECOND, 9 * day));
    assert_eq!(third.nanos(), second.nanos() + 1, "no time has passed: one nanosecond more");
}

#[test]
fn a_step_forward_is_slewed_and_not_followed_at_once() {
    let mut clock = LabelClock::new(now(0, SECOND), Label::from_nanos(0));
    let (label, _) = clock.take(now(SECOND, 3600 * SECOND));
    assert_eq!(label.nanos(), 2 * SECOND + SECOND / 20);
}

#[test]
fn labels_start_above_the_largest_one_known() {
    let mut clock = LabelClock::new(now(0, SECOND), Label::from_nanos(50 * SECOND));
    assert!(clock.take(now(SECOND, 2 * SECOND)).0.nanos() > 50 * SECOND);
    clock.raise(Label::from_nanos(70 * SECOND));
    assert!(clock.take(now(SECOND, 2 * SECOND)).0.nanos() > 70 * SECOND);
}

#[test]
fn within_a_turn_it_is_the_time_of_its_first_record_and_without_turns_the_present() {
    let passes = |since: std::time::Instant| while since.elapsed() < std::time::Duration::from_micros(1) {};
    let first = of_host();
    passes(std::time::Instant::now());
    assert!(of_host().boot_ns > first.boot_ns, "this thread works in no turns");
    new_turn();
    let taken = of_host();
    passes(std::time::Instant::now());
    assert_eq!(of_host(), taken, "another one of the same turn");
    new_turn();
    assert!(of_host().boot_ns > taken.boot_ns && of_host().wall_ns > taken.wall_ns, "the next turn");
}
