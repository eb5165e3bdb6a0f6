//! Goal: before the commit everything can be given up, and after it nothing can, whatever comes in between.

use super::*;

const AT: Position = Position::new(40);

const A: SplitterId = SplitterId::from_bytes([1; 16]);
const B: SplitterId = SplitterId::from_bytes([2; 16]);

fn started() -> Rollback {
    let (rollback, actions) = Rollback::start(5, "g", &[A], 0);
    assert_eq!(actions, [Action::SendPrepare]);
    rollback
}

fn committed(owed: u64) -> Rollback {
    let mut rollback = started();
    assert_eq!(rollback.step(1, Input::Ready(A, 5)), [Action::Commit]);
    assert_eq!(rollback.step(2, Input::Committed(AT, owed)), [Action::SendOwed(None)]);
    rollback
}

fn failed(actions: &[Action], abort: bool) {
    match (actions, abort) {
        ([Action::Fail(error)], false) | ([Action::SendAbort, Action::Fail(error)], true) => {
            assert!(error.message.contains("nothing was changed"), "{error}");
        }
        (other, _) => panic!("{other:?}"),
    }
}

#[test]
fn it_prepares_commits_restores_and_finishes() {
    let mut rollback = committed(100);
    assert_eq!(rollback.step(3, Input::Restored { bytes: 60, last: false }), []);
    assert_eq!(rollback.progress(), (60, 100));
    assert_eq!(
        rollback.step(4, Input::Restored { bytes: 40, last: true }),
        [Action::SendOwed(None), Action::Finish(AT)]
    );
    assert_eq!(rollback.step(5, Input::Linked(A, 0)), []);
}

#[test]
fn before_the_commit_every_failure_leaves_nothing_changed() {
    failed(&started().step(1, Input::Unlinked), false);
    failed(&started().step(1, Input::Refused(5, "a request hangs".to_owned())), false);
    assert_eq!(started().step(59_999, Input::Tick), []);
    failed(&started().step(60_000, Input::Tick), true);
    let mut rollback = started();
    rollback.step(1, Input::Ready(A, 5));
    let error = ControlError::failed("disk full; nothing was changed");
    failed(&rollback.step(2, Input::NotCommitted(error)), true);
    assert_eq!(rollback.step(3, Input::Ready(A, 5)), [], "it is over");
}

#[test]
fn words_about_another_rollback_are_not_heard() {
    let mut rollback = started();
    assert_eq!(rollback.step(1, Input::Ready(A, 4)), []);
    assert_eq!(rollback.step(1, Input::Refused(4, String::new())), []);
    assert_eq!(rollback.step(1, Input::Ready(A, 5)), [Action::Commit]);
}

#[test]
fn after_the_commit_it_waits_for_a_splitter_and_tells_it_what_is_owed() {
    let mut rollback = committed(100);
    assert_eq!(rollback.step(3, Input::Restored { bytes: 60, last: false }), []);
    assert_eq!(rollback.step(4, Input::Unlinked), []);
    assert_eq!(rollback.step(1_000_000, Input::Tick), []);
    assert!(rollback.is_committed());
    assert_eq!(rollback.step(1_000_001, Input::Linked(A, 70)), [Action::SendOwed(Some(A))]);
    assert_eq!(rollback.progress(), (30, 100), "what the journal says is owed counts");
    assert_eq!(
        rollback.step(1_000_002, Input::Restored { bytes: 70, last: true }),
        [Action::SendOwed(None), Action::Finish(AT)]
    );
}

#[test]
fn a_rollback_that_changes_nothing_finishes_at_once() {
    let mut rollback = started();
    rollback.step(1, Input::Ready(A, 5));
    assert_eq!(rollback.step(2, Input::Committed(AT, 0)), [Action::SendOwed(None), Action::Finish(AT)]);
}

#[test]
fn one_that_a_former_process_committed_goes_on() {
    let mut rollback = Rollback::resume(5, "g", AT, 10);
    assert_eq!(rollback.step(1, Input::Linked(A, 10)), [Action::SendOwed(Some(A))]);
    assert_eq!(
        rollback.step(2, Input::Restored { bytes: 10, last: true }),
        [Action::SendOwed(None), Action::Finish(AT)]
    );
}

#[test]
fn when_nobody_knows_whether_it_was_committed_hosts_stay_held_and_nobody_says_that_nothing_was_changed() {
    let mut rollback = started();
    rollback.step(1, Input::Ready(A, 5));
    let actions = rollback.step(2, Input::Undecided(ControlError::failed("the journal failed")));
    assert_eq!(actions, [Action::Fail(ControlError::failed("the journal failed"))]);
    assert!(rollback.is_committed(), "a splitter that links is told to keep its hosts held");
    for input in [Input::Linked(A, 0), Input::Tick, Input::Unlinked, Input::Ready(A, 5)] {
        assert_eq!(rollback.step(70_000, input), []);
    }
}

#[test]
fn with_several_splitters_all_have_to_be_ready_and_all_are_told_when_one_is_not() {
    let start = || Rollback::start(5, "g", &[A, B], 0).0;
    let mut rollback = start();
    assert_eq!(rollback.step(1, Input::Ready(B, 5)), []);
    assert_eq!(rollback.step(1, Input::Ready(B, 5)), [], "twice the same one is not both");
    assert_eq!(rollback.step(2, Input::Ready(A, 5)), [Action::Commit]);
    for input in [Input::Refused(5, "the outbox is full".into()), Input::Unlinked] {
        let mut rollback = start();
        rollback.step(1, Input::Ready(A, 5));
        let actions = rollback.step(2, input);
        assert!(matches!(&actions[..], [Action::SendAbort, Action::Fail(_)]), "{actions:?}");
    }
}
