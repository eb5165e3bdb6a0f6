//! When a daemon is started again.

use super::*;

const TICK: Event = Event::Tick { down_at_work: false };
const BUSY: Event = Event::Tick { down_at_work: true };
const SHORT: Duration = Duration::from_millis(10);
const LONG_LIFE: Duration = Duration::from_secs(60);

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn ended(ending: Ending, lived: Duration) -> Event {
    Event::Ended { ending, lived }
}

/// One that was started at time 0.
fn running() -> Care {
    let mut care = Care::new();
    assert_eq!(care.step(ms(0), TICK), Action::Start);
    assert_eq!(care.step(ms(1), TICK), Action::Nothing, "it is started once");
    care
}

#[test]
fn what_dies_after_a_long_life_is_started_at_once() {
    for ending in [Ending::Died, Ending::Unknown] {
        let mut care = running();
        care.step(ms(70_000), ended(ending, LONG_LIFE));
        assert_eq!(care.step(ms(70_000), TICK), Action::Start);
    }
}

#[test]
fn short_lives_make_growing_pauses_that_stay_bounded() {
    let mut care = running();
    let mut now = ms(0);
    let mut pauses = Vec::new();
    for _ in 0..20 {
        care.step(now, ended(Ending::Died, SHORT));
        let died = now;
        while care.step(now, TICK) == Action::Nothing {
            now += ms(1);
        }
        pauses.push(now.saturating_sub(died));
    }
    assert_eq!(pauses[..5], [ms(100), ms(200), ms(400), ms(800), ms(1600)]);
    assert!(pauses[5..].iter().all(|pause| *pause == PAUSE_MAX));
    assert_eq!(care.deaths(), 20);
}

#[test]
fn a_long_life_forgives_the_short_ones_before_it() {
    let mut care = running();
    care.step(ms(0), ended(Ending::Died, SHORT));
    assert_eq!(care.step(ms(100), TICK), Action::Start);
    care.step(ms(60_100), ended(Ending::Died, LONG_LIFE));
    assert_eq!(care.deaths(), 0);
    assert_eq!(care.step(ms(60_100), TICK), Action::Start);
}

#[test]
fn what_was_asked_to_stop_stays_stopped_until_up_wants_it() {
    let mut care = running();
    care.step(ms(5), ended(Ending::Asked, SHORT));
    assert!(care.is_stopped());
    assert_eq!(care.step(ms(100_000), TICK), Action::Nothing);
    care.step(ms(100_001), Event::Poked);
    assert_eq!(care.step(ms(100_001), TICK), Action::Start);
}

#[test]
fn nothing_is_started_while_down_is_at_work_but_it_is_if_down_was_killed() {
    let mut care = running();
    care.step(ms(5), ended(Ending::Unknown, LONG_LIFE));
    assert_eq!(care.step(ms(5), BUSY), Action::LeaveToDown);
    assert_eq!(care.step(ms(5_000), BUSY), Action::Nothing, "it is said once");
    assert_eq!(care.step(ms(5_001), TICK), Action::Start);
}

#[test]
fn a_supervisor_that_stops_starts_nothing_more() {
    let mut care = running();
    care.step(ms(5), Event::Stopping);
    assert!(!care.is_stopped(), "it runs still");
    care.step(ms(6), ended(Ending::Died, LONG_LIFE));
    assert!(care.is_stopped());
    assert_eq!(care.step(ms(7), TICK), Action::Nothing);
    care.step(ms(8), Event::Poked);
    assert_eq!(care.step(ms(8), TICK), Action::Nothing, "a poke does not undo the stop");
}

#[test]
fn a_refused_stop_puts_everything_back() {
    let mut care = running();
    care.step(ms(5), Event::Stopping);
    care.step(ms(6), ended(Ending::Died, LONG_LIFE));
    care.step(ms(7), Event::Resumed);
    assert_eq!(care.step(ms(7), TICK), Action::Start);
}

#[test]
fn a_poke_ends_a_pause_and_leaves_the_living_alone() {
    let mut care = running();
    care.step(ms(1), Event::Poked);
    assert_eq!(care.step(ms(1), TICK), Action::Nothing);
    for _ in 0..5 {
        care.step(ms(1), ended(Ending::Died, SHORT));
    }
    assert_eq!(care.step(ms(2), TICK), Action::Nothing);
    care.step(ms(3), Event::Poked);
    assert_eq!(care.step(ms(3), TICK), Action::Start);
    assert_eq!(care.deaths(), 0);
}
