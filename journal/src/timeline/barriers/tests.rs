//! A barrier is a point only when every part is there and nobody spoke between; beside barriers, nothing is.

use super::*;

fn at(n: u64) -> Position {
    Position::new(n)
}

fn session(n: u64) -> Session {
    Session::new(n)
}

fn note(id: u64) -> BarrierNote {
    BarrierNote { id, ticket: 0, sessions: vec![session(1), session(2)], name: String::new() }
}

#[test]
fn a_barrier_is_the_position_of_its_last_part() {
    let mut barriers = Barriers::default();
    barriers.set_shared(at(5), true);
    assert!(barriers.allow(at(4)) && !barriers.allow(at(5)) && !barriers.allow(at(9)));
    assert!(!barriers.placed(session(2), &note(1), at(7)));
    barriers.spoke(session(1), Op::Write);
    barriers.spoke(session(2), Op::Flush);
    assert!(barriers.placed(session(1), &note(1), at(9)));
    assert!(barriers.allow(at(9)) && !barriers.allow(at(7)) && !barriers.allow(at(10)));
    assert_eq!((barriers.previous(at(8)), barriers.next(at(8))), (Some(at(4)), Some(at(9))));
    assert_eq!((barriers.previous(at(12)), barriers.next(at(12))), (Some(at(9)), None));
    barriers.set_shared(at(20), false);
    assert!(barriers.allow(at(20)) && !barriers.allow(at(19)));
    assert_eq!(barriers.next(at(12)), Some(at(20)));
}

#[test]
fn a_splitter_that_goes_on_before_the_last_part_breaks_the_barrier() {
    let mut barriers = Barriers::default();
    barriers.set_shared(at(1), true);
    barriers.placed(session(1), &note(1), at(2));
    barriers.spoke(session(1), Op::Write);
    assert!(!barriers.placed(session(2), &note(1), at(4)), "its other part comes too late");
    assert!(!barriers.allow(at(4)));
    barriers.placed(session(1), &note(2), at(6));
    assert!(barriers.placed(session(2), &note(2), at(7)), "the next one is whole");
}

#[test]
fn parts_of_different_barriers_make_none_and_nor_do_those_of_strangers() {
    let mut barriers = Barriers::default();
    barriers.set_shared(at(1), true);
    assert!(!barriers.placed(session(1), &note(1), at(2)));
    assert!(!barriers.placed(session(2), &note(2), at(3)));
    assert!(!barriers.placed(session(3), &note(2), at(4)));
    assert!(!barriers.placed(session(2), &note(2), at(5)), "twice the same part");
    assert!(barriers.placed(session(1), &note(2), at(6)));
}
