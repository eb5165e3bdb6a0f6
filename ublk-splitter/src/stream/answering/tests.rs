//! Hosts of a `sync` group wait for the journal exactly as long as the policy says, and those of `async` never.

use super::super::tests::{SESSION, stream, take};
use super::*;
use crate::stream::Entry;
use crate::stream::direct::Tells;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::op::Op;
use record::position::{Label, Session};
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

const NEXT: Session = Session::new(2);

fn sync(loss: SyncLoss) -> Policy {
    Policy { mode: SplitMode::Sync, sync_loss: Some(loss), ..Policy::default() }
}

fn is_ready(future: &mut std::pin::Pin<&mut impl Future<Output = ()>>) -> bool {
    future.as_mut().poll(&mut Context::from_waker(Waker::noop())) == Poll::Ready(())
}

/// A stream of this policy in an active session, and the receipt of one finished write.
fn written(dir: &tempfile::TempDir, policy: Policy) -> (Arc<Stream>, Receipt) {
    let stream = stream(dir, 4);
    stream.begin(SESSION, Mode::Active, Label::default());
    stream.set_policy(policy);
    stream.set_linked(true);
    let taken = take(&stream, 0, 4096);
    let receipt = taken.receipt();
    stream.finish(taken);
    (stream, receipt)
}

fn ack(stream: &Stream, session: Session, next: u64) {
    stream.acknowledged(session, StreamSeq::new(next), StreamSeq::FIRST);
}

#[test]
fn in_async_nobody_waits_for_the_journal() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, receipt) = written(&dir, Policy::default());
    assert!(is_ready(&mut pin!(stream.answerable(receipt))));
}

#[test]
fn in_sync_a_write_is_answered_when_its_record_is_durable_and_not_before() {
    for loss in [SyncLoss::Degrade, SyncLoss::Stall] {
        let dir = tempfile::tempdir().unwrap();
        let (stream, receipt) = written(&dir, sync(loss));
        let mut answer = pin!(stream.answerable(receipt));
        assert!(!is_ready(&mut answer));
        ack(&stream, SESSION, 1);
        assert!(!is_ready(&mut answer), "the number behind the last durable one is its own");
        stream.set_linked(false);
        assert!(!is_ready(&mut answer), "a link that has just gone may come back");
        stream.set_linked(true);
        ack(&stream, NEXT, 2);
        assert!(!is_ready(&mut answer), "another session's acknowledgement");
        ack(&stream, SESSION, 2);
        assert!(is_ready(&mut answer));
        assert_eq!(stream.strain(), (false, false));
    }
}

#[test]
fn in_sync_with_degrade_hosts_go_on_once_the_appliance_is_lost_and_that_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, receipt) = written(&dir, sync(SyncLoss::Degrade));
    let mut answer = pin!(stream.answerable(receipt));
    stream.set_linked(false);
    assert!(!is_ready(&mut answer));
    stream.set_lost();
    assert!(is_ready(&mut answer));
    assert_eq!(stream.strain(), (false, true));
    stream.set_linked(true);
    ack(&stream, SESSION, 2);
    assert!(is_ready(&mut pin!(stream.answerable(receipt))));
    assert_eq!(stream.strain(), (false, false), "no longer");
}

#[test]
fn in_sync_with_stall_a_host_waits_for_the_end_of_a_later_resynchronisation() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, receipt) = written(&dir, sync(SyncLoss::Stall));
    let mut answer = pin!(stream.answerable(receipt));
    stream.set_linked(false);
    stream.set_lost();
    stream.mark("the outbox was full");
    assert!(!is_ready(&mut answer));
    stream.begin(NEXT, Mode::Resyncing, Label::default());
    stream.set_linked(true);
    assert!(stream.end_resync(NEXT));
    assert!(!is_ready(&mut answer), "RESYNC_END is laid, not durable");
    ack(&stream, NEXT, 2);
    assert!(is_ready(&mut answer));
}

#[test]
fn in_sync_with_stall_a_write_without_a_record_waits_for_the_next_resynchronisation() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, _) = written(&dir, sync(SyncLoss::Stall));
    stream.mark("the outbox was full");
    let taken = take(&stream, 0, 4096);
    let receipt = taken.receipt();
    assert_eq!(taken.seq, None);
    stream.finish(taken);
    let mut answer = pin!(stream.answerable(receipt));
    assert!(!is_ready(&mut answer));
    stream.begin(NEXT, Mode::Resyncing, Label::default());
    assert!(stream.end_resync(NEXT));
    ack(&stream, NEXT, 2);
    assert!(is_ready(&mut answer));
}

#[test]
fn whoever_waits_goes_on_when_the_policy_becomes_async() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, receipt) = written(&dir, sync(SyncLoss::Stall));
    let mut answer = pin!(stream.answerable(receipt));
    assert!(!is_ready(&mut answer));
    stream.set_policy(Policy::default());
    assert!(is_ready(&mut answer));
}

#[test]
fn bounded_lag_delays_hosts_only_while_the_journal_can_catch_up() {
    let dir = tempfile::tempdir().unwrap();
    let policy = Policy { mode: SplitMode::BoundedLag, lag_bytes: 8192, ..Policy::default() };
    let (stream, _) = written(&dir, policy);
    let more = |at: u64| {
        let stream = Arc::clone(&stream);
        async move {
            let extent = record::geometry::Extent::from_bytes(at * 4096, 4096).unwrap();
            let entry = super::super::Entry {
                op: record::op::Op::Write,
                flags: record::op::OpFlags::NONE,
                volume: record::ids::Incarnation::new(1),
                extent: None,
            };
            let taken = stream.take(entry, extent, &[7; 4096], Tells::AtOnce).await;
            stream.finish(taken);
        }
    };
    assert!(is_ready(&mut pin!(more(1))));
    let mut third = pin!(more(2));
    assert!(!is_ready(&mut third), "8 KiB are not durable");
    assert_eq!(stream.strain(), (true, false));
    assert_eq!((stream.lag().writes, stream.lag().bytes), (2, 8192));
    ack(&stream, SESSION, 3);
    assert!(is_ready(&mut third));
    let mut fourth = pin!(more(3));
    let mut fifth = pin!(more(4));
    // How soon the next ones wait depends on the samples of the lag; without a link neither does.
    let _ = (is_ready(&mut fourth), is_ready(&mut fifth));
    stream.set_linked(false);
    let mut sixth = pin!(more(5));
    assert!(is_ready(&mut sixth), "without a link nothing is to be waited for");
}

#[test]
fn a_full_journal_holds_hosts_when_the_outbox_is_half_full_and_only_while_it_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, _) = written(&dir, Policy::default());
    let entry = Entry { volume: Incarnation::new(1), ..Entry::of_group(Op::Write) };
    let extent = |n: u64| Extent::new(n * 2048, 2048).unwrap();
    let payload = vec![7; 1 << 20];
    let write = |n: u64| {
        let mut taking = Box::pin(stream.take(entry, extent(n), &payload, Tells::AtOnce));
        match taking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(taken) => {
                stream.finish(taken);
                true
            }
            Poll::Pending => false,
        }
    };
    stream.set_full(true);
    let written = (0..16).take_while(|n| write(*n)).count() as u64;
    let (used, bytes) = stream.outbox_usage();
    assert!(written > 1 && written < 16 && used > bytes / 2 && used < bytes, "{used} of {bytes} after {written}");
    assert!(stream.waits() && stream.mode().0 == Mode::Active, "held, and no gap");
    // One that is only started again holds them still; what is so is said anew on the next link.
    stream.set_linked(false);
    assert!(stream.waits());
    stream.set_linked(true);
    assert!(!stream.waits());
    stream.set_full(true);
    assert!(stream.waits() && !write(20));
    // An appliance that is gone holds nobody.
    stream.set_linked(false);
    stream.set_lost();
    assert!(!stream.waits());
    stream.set_linked(true);
    stream.set_full(true);
    assert!(stream.waits());
    // Room.
    stream.set_full(false);
    assert!(!stream.waits() && write(21));
}
