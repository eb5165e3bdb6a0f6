//! Goal: a bookmark is laid only where it would be a point, and is reported only when it is one.

use super::*;

const FINE: View = View { linked: true, needs_resync: false, joined: 1, synchronising: 0 };

fn ask() -> BookmarkAsk {
    BookmarkAsk::new("g", "b", 9)
}

fn kind(step: Step) -> Kind {
    match step {
        Step::Done(Err(error)) => error.kind,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_is_laid_at_once_and_done_when_durable() {
    let mut ask = ask();
    assert_eq!(ask.step(0, FINE, News::None), Step::Lay);
    assert_eq!(ask.step(1, FINE, News::None), Step::Wait, "only once");
    let bookmark = Bookmark { name: "b".to_owned(), position: 4, time_ns: 5, hold_until_ns: None };
    assert_eq!(ask.step(2, FINE, News::Durable(bookmark.clone())), Step::Done(Ok(bookmark)));
}

#[test]
fn it_waits_for_synchronisation_however_long_that_takes() {
    let mut ask = ask();
    let busy = View { synchronising: 1, ..FINE };
    assert_eq!(ask.step(0, busy, News::None), Step::Wait);
    assert_eq!(ask.step(10_000_000, busy, News::None), Step::Wait);
    assert_eq!(ask.step(10_000_001, FINE, News::None), Step::Lay);
}

#[test]
fn without_a_splitter_it_fails_after_a_short_patience() {
    let mut ask = ask();
    let alone = View { linked: false, ..FINE };
    assert_eq!(ask.step(0, alone, News::None), Step::Wait);
    assert_eq!(ask.step(4_999, FINE, News::None), Step::Lay, "it came back");
    let mut ask = self::ask();
    assert_eq!(ask.step(0, alone, News::None), Step::Wait);
    assert_eq!(kind(ask.step(5_000, alone, News::None)), Kind::Failed);
}

#[test]
fn in_a_gap_or_without_a_volume_it_is_refused() {
    let gap = View { needs_resync: true, ..FINE };
    let Step::Done(Err(error)) = ask().step(0, gap, News::None) else { panic!("refused") };
    assert_eq!((error.kind, error.hint.as_deref()), (Kind::Refused, Some("undisk group resync g")));
    assert_eq!(kind(ask().step(0, View { joined: 0, ..FINE }, News::None)), Kind::Refused);
}

#[test]
fn once_laid_it_outlives_a_reconnect_but_not_a_minute() {
    let mut ask = ask();
    assert_eq!(ask.step(0, FINE, News::None), Step::Lay);
    assert_eq!(ask.step(59_999, View { linked: false, ..FINE }, News::None), Step::Wait);
    assert_eq!(kind(ask.step(60_000, FINE, News::None)), Kind::TimedOut);
}

#[test]
fn once_told_a_splitter_that_stays_away_ends_the_wait_and_one_that_comes_back_does_not() {
    let mut ask = ask();
    let alone = View { linked: false, ..FINE };
    assert_eq!(ask.step(0, FINE, News::None), Step::Lay);
    assert_eq!(ask.step(1_000, alone, News::None), Step::Wait);
    assert_eq!(ask.step(5_900, FINE, News::None), Step::Wait, "it came back");
    assert_eq!(ask.step(6_100, alone, News::None), Step::Wait, "counted anew");
    let Step::Done(Err(error)) = ask.step(11_100, alone, News::None) else { panic!("given up") };
    assert_eq!(
        (error.kind, error.hint.as_deref()),
        (Kind::Failed, Some("it may still appear: undisk bookmark list g"))
    );
}

#[test]
fn the_splitters_refusal_is_passed_on() {
    let mut ask = ask();
    assert_eq!(ask.step(0, FINE, News::None), Step::Lay);
    let Step::Done(Err(error)) = ask.step(1, FINE, News::Refused("outbox full".to_owned())) else { panic!("failed") };
    assert!(error.message.contains("outbox full"), "{error}");
}
