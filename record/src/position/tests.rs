//! Labels only ever rise, and positions know what lies before them.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn labels_rise_whatever_the_clock_does(clock in proptest::collection::vec(any::<u32>(), 1..50)) {
        let mut label = Label::default();
        for now in clock.into_iter().map(|n| Label::from_nanos(n.into())) {
            let next = label.advance(now);
            prop_assert!(next > label);
            prop_assert!(next >= now);
            prop_assert!(next == now || next.nanos() == label.nanos() + 1);
            label = next;
        }
    }
}

#[test]
fn a_label_at_the_end_of_time_does_not_start_again() {
    let last = Label::from_nanos(u64::MAX);
    assert_eq!(last.advance(Label::from_nanos(5)), last);
}

#[test]
fn nothing_lies_before_the_origin() {
    assert_eq!(Position::ORIGIN.previous(), None);
    assert_eq!(Position::FIRST.previous(), Some(Position::ORIGIN));
    assert_eq!(Position::ORIGIN.next(), Position::FIRST);
    assert_eq!(Position::new(7).plus(3), Position::new(10));
}
