//! Hosts held for a barrier get no numbers, and go on by themselves; a part is laid only while they are held.

use super::super::tests::{SESSION, stream, take};
use super::*;
use crate::stream::Stream;
use record::position::{Session, StreamSeq};
use std::sync::Arc;

const LONG: Duration = Duration::from_secs(600);

fn note(id: u64) -> BarrierNote {
    BarrierNote { id, ticket: 0, sessions: vec![SESSION, SESSION.next()], name: String::new() }
}

fn active() -> (tempfile::TempDir, Arc<Stream>) {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 4);
    stream.begin(SESSION, Mode::Active, Label::default());
    (dir, stream)
}

#[test]
fn no_request_gets_a_number_between_the_confirmation_and_the_release() {
    let (_dir, stream) = active();
    // One that has its number goes on.
    let first = take(&stream, 0, 4096);
    let newest = stream.quiesce(5, LONG).unwrap();
    let held = {
        let stream = Arc::clone(&stream);
        std::thread::spawn(move || {
            let taken = take(&stream, 64, 4096);
            let seq = taken.seq;
            stream.finish(taken);
            seq
        })
    };
    stream.finish(first);
    let above = Label::from_nanos(newest.nanos() + 1_000_000_000_000);
    stream.place_barrier(&note(5), above).unwrap();
    assert_eq!(stream.marks().laid, StreamSeq::new(3), "the write and the part");
    assert!(stream.quiesce(6, LONG).unwrap() > above, "the part's label is above all streams'");
    stream.release_barrier(5);
    assert_eq!(stream.barrier_left().map(|(id, _)| id), Some(6), "another barrier's release");
    stream.release_barrier(6);
    assert_eq!(held.join().unwrap(), Some(StreamSeq::new(3)));
}

#[test]
fn a_part_is_not_laid_once_hosts_were_let_go() {
    let (_dir, stream) = active();
    stream.quiesce(5, Duration::ZERO).unwrap();
    assert!(stream.place_barrier(&note(5), Label::default()).is_err(), "time is up");
    assert!(!stream.keep_for_rollback(5));
    stream.expire_barrier();
    assert_eq!(stream.hold(), None);
    stream.quiesce(6, LONG).unwrap();
    stream.expire_barrier();
    assert!(stream.place_barrier(&note(5), Label::default()).is_err(), "another barrier");
    stream.release_barriers();
    assert!(stream.place_barrier(&note(6), Label::default()).is_err(), "released");
    stream.finish(take(&stream, 0, 4096));
    assert_eq!(stream.marks().laid, StreamSeq::new(2), "nothing but the write");
}

#[test]
fn a_barrier_of_other_sessions_is_refused() {
    let (_dir, stream) = active();
    stream.quiesce(5, LONG).unwrap();
    let sessions = vec![Session::new(8), Session::new(9)];
    assert!(stream.place_barrier(&BarrierNote { sessions, ..note(5) }, Label::default()).is_err());
}

#[test]
fn whoever_does_not_record_every_write_takes_no_part() {
    let (_dir, stream) = active();
    stream.set_hold(Some(Hold::Restoring));
    assert!(stream.quiesce(5, LONG).unwrap_err().contains("rollback"));
    stream.set_hold(None);
    stream.mark("it was full");
    assert!(stream.quiesce(5, LONG).unwrap_err().contains("it was full"));
    assert_eq!(stream.hold(), None);
}

#[test]
fn hosts_stay_held_for_a_rollback_without_a_moment_between() {
    let (_dir, stream) = active();
    stream.quiesce(5, LONG).unwrap();
    stream.place_barrier(&note(5), Label::default()).unwrap();
    assert!(stream.keep_for_rollback(5));
    stream.release_barriers();
    assert_eq!(stream.hold(), Some(Hold::Preparing), "a barrier's end is not the rollback's");
}
