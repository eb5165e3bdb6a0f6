//! What follows from the appliance's answer.

use super::*;

fn own(mode: Mode) -> Own {
    Own {
        mode,
        session: Some(Session::new(3)),
        laid: StreamSeq::new(20),
        released: StreamSeq::new(10),
        resync_wanted: false,
        may_resync: false,
    }
}

#[test]
fn the_same_session_goes_on_where_the_journal_is() {
    for expected in [10, 15, 20] {
        let decision = on_granted(own(Mode::Active), Session::new(3), StreamSeq::new(expected), true);
        assert_eq!(decision, Decision::Continue(StreamSeq::new(expected)));
    }
}

#[test]
fn a_journal_below_what_was_released_or_above_what_was_laid_ends_the_session() {
    for expected in [9, 21] {
        let decision = on_granted(own(Mode::Active), Session::new(3), StreamSeq::new(expected), true);
        assert!(matches!(decision, Decision::End(_)), "expected {expected}");
    }
}

#[test]
fn a_new_session_is_active_only_when_nothing_was_lost_and_nothing_unsent_is_dropped() {
    let waiting = Own { session: None, laid: StreamSeq::FIRST, released: StreamSeq::FIRST, ..own(Mode::Waiting) };
    assert_eq!(on_granted(waiting, Session::new(4), StreamSeq::FIRST, true), Decision::BeginActive);
    for (mode, consistent) in [
        (Mode::Waiting, false),
        (Mode::Active, true),
        (Mode::Active, false),
        (Mode::Marking, true),
        (Mode::Marking, false),
    ] {
        let decision = on_granted(own(mode), Session::new(4), StreamSeq::FIRST, consistent);
        assert!(matches!(decision, Decision::BeginMarking(_)), "{mode:?}, consistent {consistent}: {decision:?}");
    }
}

#[test]
fn a_new_session_that_lacks_something_begins_with_a_resynchronisation_when_it_may() {
    for (mode, consistent) in
        [(Mode::Waiting, false), (Mode::Active, true), (Mode::Marking, true), (Mode::Marking, false)]
    {
        let own = Own { may_resync: true, ..own(mode) };
        assert_eq!(on_granted(own, Session::new(4), StreamSeq::FIRST, consistent), Decision::BeginResync, "{mode:?}");
    }
}

#[test]
fn a_resynchronisation_begins_in_a_new_session_only() {
    let wanted = Own { resync_wanted: true, ..own(Mode::Marking) };
    assert_eq!(on_granted(wanted, Session::new(4), StreamSeq::FIRST, false), Decision::BeginResync);
    assert!(matches!(on_granted(wanted, Session::new(3), StreamSeq::new(20), true), Decision::End(_)));
}

#[test]
fn a_flush_or_five_milliseconds_close_a_chunk_unless_enough_are_on_their_way() {
    assert!(!closes(0, false, None, false));
    assert!(closes(0, true, Some(Duration::ZERO), false));
    assert!(!closes(0, false, Some(Duration::from_millis(1)), false));
    assert!(closes(1, false, Some(GATHER), false));
    assert!(!closes(CHUNKS_IN_FLIGHT_SMALL, true, Some(GATHER), false));
}

#[test]
fn descriptions_without_payload_are_gathered_for_longer_unless_somebody_waits() {
    assert!(!closes(0, false, Some(GATHER), true));
    assert!(closes(0, true, Some(Duration::ZERO), true));
    assert!(closes(0, false, Some(GATHER_BARE), true));
}

#[test]
fn a_session_whose_beginning_was_cut_off_by_a_kill_is_begun_again() {
    let cut = Own { laid: StreamSeq::FIRST, released: StreamSeq::FIRST, ..own(Mode::Waiting) };
    assert_eq!(on_granted(cut, Session::new(3), StreamSeq::FIRST, true), Decision::BeginActive);
    assert!(matches!(on_granted(cut, Session::new(3), StreamSeq::FIRST, false), Decision::BeginMarking(_)));
}
