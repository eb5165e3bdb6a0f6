//! Events of two daemons, in one list.

use super::*;

fn event(daemon: &str, number: u64, time_ns: u64) -> Event {
    Event {
        number,
        time_ns,
        daemon: daemon.into(),
        kind: "paused".into(),
        group: None,
        volume: None,
        bytes: None,
        text: String::new(),
    }
}

fn told(events: &[Event]) -> Vec<(&str, u64)> {
    events.iter().map(|event| (event.daemon.as_str(), event.number)).collect()
}

#[test]
fn they_are_in_the_order_of_their_times() {
    let splitter = vec![event("s", 1, 10), event("s", 2, 30)];
    let appliance = vec![event("a", 1, 5), event("a", 2, 20), event("a", 3, 40)];
    let all = merge(vec![splitter, appliance]);
    assert_eq!(told(&all), [("a", 1), ("s", 1), ("a", 2), ("s", 2), ("a", 3)]);
    assert_eq!(told(&newest(all, 2)), [("s", 2), ("a", 3)]);
}

#[test]
fn a_clock_that_was_put_back_changes_the_order_of_no_daemon() {
    let splitter = vec![event("s", 1, 100), event("s", 2, 50), event("s", 3, 110)];
    let appliance = vec![event("a", 1, 60), event("a", 2, 105)];
    let all = merge(vec![splitter, appliance]);
    let of = |daemon| told(&all).into_iter().filter(|(d, _)| *d == daemon).map(|(_, n)| n).collect::<Vec<_>>();
    assert_eq!((of("s"), of("a")), (vec![1, 2, 3], vec![1, 2]));
}
