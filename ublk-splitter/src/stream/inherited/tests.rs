//! What a killed splitter had in flight is remembered until it has come again, or is given up.

use super::super::tests::{SESSION, V, extent, reopened, stream, take};
use super::*;
use crate::outbox::Mode;
use record::position::{Label, StreamSeq};

#[test]
fn a_request_in_flight_is_inherited_until_the_kernel_brings_it_again() {
    let dir = tempfile::tempdir().unwrap();
    let before = stream(&dir, 4);
    before.begin(SESSION, Mode::Active, Label::default());
    let done = take(&before, 0, 4096);
    before.finish(done);
    let _in_flight = take(&before, 64, 4096);
    drop(before);

    let after = reopened(&dir, 4);
    assert!(after.has_inherited());
    let other = take(&after, 0, 4096);
    after.finish(other);
    assert!(after.has_inherited(), "another extent is another request");
    let part = take(&after, 64, 512);
    after.finish(part);
    assert!(after.has_inherited(), "a part of it is another request");
    let again = take(&after, 64, 4096);
    assert!(!after.has_inherited());
    assert_eq!(again.seq, Some(StreamSeq::new(5)), "a new request in every respect");
    after.finish(again);
    drop(after);
    assert!(!reopened(&dir, 4).has_inherited());
}

#[test]
fn a_request_that_will_not_come_again_becomes_indeterminate() {
    let dir = tempfile::tempdir().unwrap();
    let before = stream(&dir, 4);
    before.begin(SESSION, Mode::Active, Label::default());
    let _in_flight = take(&before, 64, 4096);
    drop(before);
    let after = reopened(&dir, 4);
    assert_eq!(after.give_up_inherited(Some(Incarnation::new(9))), [], "another volume's");
    let given_up = after.give_up_inherited(Some(V));
    assert_eq!(given_up, [InFlight { op: Op::Write, volume: V, extent: extent(64, 8) }]);
    assert!(!after.has_inherited());
    assert_eq!(after.marks().laid, StreamSeq::new(3), "INDETERMINATE was laid behind the write");
    drop(after);
    assert!(!reopened(&dir, 4).has_inherited());
}
