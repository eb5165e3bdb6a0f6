//! Nobody lays a part before all hold, and whatever goes wrong, all are let go and there is no point.

use super::*;

const A: SplitterId = SplitterId::from_bytes([1; 16]);
const B: SplitterId = SplitterId::from_bytes([2; 16]);
const STRANGER: SplitterId = SplitterId::from_bytes([3; 16]);

fn label(n: u64) -> Label {
    Label::from_nanos(n)
}

fn started(keeps: bool) -> Barrier {
    let (barrier, actions) = Barrier::start(5, &[A, B], 100, 50, keeps);
    assert_eq!(actions, [Action::Quiesce]);
    barrier
}

fn placing(keeps: bool) -> Barrier {
    let mut barrier = started(keeps);
    assert_eq!(barrier.step(101, Input::Quiesced(B, 5, label(9))), []);
    assert_eq!(barrier.step(102, Input::Quiesced(A, 5, label(7))), [Action::Place(label(9))]);
    barrier
}

fn failed(why: Failure) -> Vec<Action> {
    vec![Action::Release, Action::Done(Err(why))]
}

#[test]
fn parts_are_laid_once_all_hold_and_hosts_go_on_once_it_is_whole() {
    let mut barrier = placing(false);
    assert_eq!(barrier.step(103, Input::Whole(4)), [], "another one");
    assert_eq!(barrier.step(104, Input::Whole(5)), [Action::Release, Action::Done(Ok(()))]);
    assert_eq!(barrier.step(105, Input::Whole(5)), []);
    assert_eq!(placing(true).step(104, Input::Whole(5)), [Action::Done(Ok(()))], "held for what comes next");
}

#[test]
fn words_of_another_barrier_and_of_strangers_count_for_nothing() {
    let mut barrier = started(false);
    assert_eq!(barrier.step(101, Input::Quiesced(A, 4, label(1))), []);
    assert_eq!(barrier.step(101, Input::Quiesced(STRANGER, 5, label(1))), []);
    assert_eq!(barrier.step(101, Input::Unlinked(STRANGER)), []);
    assert_eq!(barrier.step(101, Input::Refused(A, 4, "late".into())), []);
    assert_eq!(barrier.step(101, Input::Quiesced(A, 5, label(1))), []);
    assert_eq!(barrier.step(101, Input::Quiesced(A, 5, label(1))), [], "twice the same one is not both");
}

#[test]
fn whatever_goes_wrong_releases_everybody() {
    let refused = || Input::Refused(B, 5, "paused".into());
    for barrier in [started, placing] {
        assert_eq!(barrier(false).step(110, refused()), failed(Failure::Refused(B, "paused".into())));
        assert_eq!(barrier(true).step(110, Input::Unlinked(A)), failed(Failure::Unlinked(A)));
        assert_eq!(barrier(false).step(149, Input::Tick), []);
    }
    let mut late = started(false);
    late.step(120, Input::Quiesced(A, 5, label(1)));
    assert_eq!(late.step(150, Input::Tick), failed(Failure::NotHeld(vec![B])));
    assert_eq!(late.step(151, Input::Quiesced(B, 5, label(1))), [], "too late");
    assert_eq!(placing(false).step(150, Input::Tick), failed(Failure::NotWhole));
}
