//! The stream: numbers are dense, a full outbox stops recording and nothing else, a hold holds.

use super::taking::Taken;
use super::*;
use crate::outbox::Owner;
use crate::ring_io::block_on;
use record::chunk::Body;
use record::ids::{BootId, GroupId, JournalId};

pub(super) const V: Incarnation = Incarnation::new(1);
pub(super) const SESSION: Session = Session::new(1);

/// The stream over what a stream of the same folder left.
pub(super) fn reopened(dir: &tempfile::TempDir, slots: usize) -> Arc<Stream> {
    stream(dir, slots)
}

pub(super) fn stream(dir: &tempfile::TempDir, slots: usize) -> Arc<Stream> {
    let owner = Owner {
        boot: BootId::from_bytes([1; 16]),
        group: GroupId::from_bytes([2; 16]),
        journal: JournalId::from_bytes([3; 16]),
    };
    let (outbox, adopted) = Outbox::open(&dir.path().join("box"), owner, slots, Mode::Waiting).unwrap();
    Arc::new(Stream::new("g", outbox, adopted.as_ref(), Mode::Waiting, None, crate::clock::of_host))
}

fn entry(op: Op) -> Entry {
    Entry { op, flags: OpFlags::NONE, volume: V, extent: None }
}

pub(super) fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).unwrap()
}

pub(super) fn take(stream: &Stream, at: u64, bytes: usize) -> Taken {
    let extent = Extent::from_bytes(at * 512, bytes as u64).unwrap();
    block_on(stream.take(entry(Op::Write), extent, &vec![7; bytes], Tells::AtOnce))
}

#[test]
fn requests_get_dense_numbers_and_overlapping_ones_wait_for_their_turn() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 4);
    stream.begin(SESSION, Mode::Active, Label::default());
    let first = take(&stream, 0, 4096);
    let mut second = take(&stream, 4, 4096);
    assert_eq!((first.seq, second.seq), (Some(StreamSeq::new(1)), Some(StreamSeq::new(2))));
    let waiter = {
        let stream = Arc::clone(&stream);
        std::thread::spawn(move || {
            second.wait_turn();
            stream.finish(second);
        })
    };
    assert!(!stream.wait_idle(Duration::from_millis(1)), "the second one waits for the first");
    stream.finish(first);
    waiter.join().unwrap();
    assert!(stream.wait_idle(Duration::from_secs(5)));
}

#[test]
fn a_full_outbox_stops_recording_and_requests_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 2);
    stream.begin(SESSION, Mode::Active, Label::default());
    let mut unrecorded = 0;
    for i in 0..8 {
        let taken = take(&stream, i * 2048, 524_288);
        unrecorded += usize::from(taken.seq.is_none());
        stream.finish(taken);
    }
    assert_eq!(unrecorded, 4, "two slots hold two requests of 512 KiB each");
    let (mode, reason) = stream.mode();
    assert_eq!(mode, Mode::Marking);
    assert!(reason.contains("full"), "{reason}");
    assert_eq!(stream.marks().laid, StreamSeq::new(5));
}

#[test]
fn a_write_before_any_session_is_answered_and_noted_as_lost() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 2);
    let taken = take(&stream, 0, 512);
    assert_eq!(taken.seq, None);
    stream.finish(taken);
    assert_eq!(stream.mode().0, Mode::Marking);
}

#[test]
fn a_hold_lets_writes_wait_and_ends_for_all_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 4);
    stream.begin(SESSION, Mode::Active, Label::default());
    stream.set_hold(Some(Hold::Preparing));
    let (done, finished) = std::sync::mpsc::channel();
    let threads: Vec<_> = (0..3)
        .map(|i| {
            let (stream, done) = (Arc::clone(&stream), done.clone());
            std::thread::spawn(move || {
                let taken = take(&stream, i * 64, 4096);
                stream.finish(taken);
                done.send(i).unwrap();
            })
        })
        .collect();
    block_on(stream.readable());
    assert!(finished.recv_timeout(Duration::from_millis(50)).is_err(), "nobody gets through the hold");
    // Background work is not held: it is what the hold is for.
    stream.finish(stream.take_reading(V, extent(0, 8)));
    stream.set_hold(Some(Hold::Restoring));
    stream.set_hold(None);
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(stream.marks().laid, StreamSeq::new(4));
}

#[test]
fn acknowledgements_of_another_session_are_not_for_us() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 4);
    stream.begin(SESSION, Mode::Active, Label::default());
    stream.finish(take(&stream, 0, 4096));
    let chunk = stream.chunk_from(StreamSeq::FIRST, true).unwrap();
    stream.acknowledged(Session::new(9), chunk.next, chunk.next);
    assert!(!stream.wait_durable(chunk.next, Duration::from_millis(1)));
    stream.acknowledged(SESSION, chunk.next, chunk.next);
    assert!(stream.wait_durable(chunk.next, Duration::from_secs(1)));
    assert_eq!(stream.marks().released, chunk.next);
}

#[test]
fn what_was_read_for_one_session_does_not_end_the_resynchronisation_of_another() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 4);
    stream.begin(SESSION, Mode::Resyncing, Label::default());
    stream.mark("the outbox was full");
    stream.begin(Session::new(2), Mode::Resyncing, Label::default());
    assert!(!stream.end_resync(SESSION));
    assert_eq!((stream.mode().0, stream.marks().laid), (Mode::Resyncing, StreamSeq::FIRST));
    assert!(stream.end_resync(Session::new(2)));
    assert_eq!(stream.mode().0, Mode::Active);
}

#[test]
fn what_is_read_back_gets_its_number_before_any_write_that_it_does_not_hold() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 4);
    stream.begin(SESSION, Mode::Resyncing, Label::default());
    let before = take(&stream, 0, 4096);
    let mut reading = stream.take_reading(V, extent(4, 8));
    let (told, taken) = std::sync::mpsc::channel();
    let writer = {
        let stream = Arc::clone(&stream);
        std::thread::spawn(move || {
            let taken = take(&stream, 8, 4096);
            told.send(taken.seq).unwrap();
            stream.finish(taken);
        })
    };
    let elsewhere = take(&stream, 64, 4096);
    assert_eq!(elsewhere.seq, Some(StreamSeq::new(2)), "who does not overlap is not held up");
    stream.finish(elsewhere);
    stream.finish(before);
    reading.wait_turn();
    assert!(taken.recv_timeout(Duration::from_millis(50)).is_err(), "it has no number while the read goes on");
    assert_eq!(stream.lay(Entry { extent: Some(extent(4, 8)), ..entry(Op::Zero) }, &[]), Some(StreamSeq::new(3)));
    stream.finish(reading);
    assert_eq!(taken.recv_timeout(Duration::from_secs(10)).unwrap(), Some(StreamSeq::new(4)));
    writer.join().unwrap();
}

#[test]
fn a_write_without_a_record_just_before_a_session_begins_keeps_it_from_being_active() {
    let dir = tempfile::tempdir().unwrap();
    let stream = stream(&dir, 4);
    // Whoever decided for an active session had looked before this.
    stream.finish(take(&stream, 0, 512));
    stream.begin(SESSION, Mode::Active, Label::default());
    assert_eq!(stream.mode().0, Mode::Marking);
    assert!(stream.mode().1.contains("before the appliance had answered"), "{}", stream.mode().1);
    stream.begin(Session::new(2), Mode::Resyncing, Label::default());
    assert_eq!(stream.mode().0, Mode::Resyncing, "a resynchronisation reads everything again");
}

#[test]
fn zeros_are_recorded_without_their_bytes_and_as_a_punch_where_that_is_wanted() {
    for (reclaim_zeros, wanted) in [(false, Op::Zero), (true, Op::Punch)] {
        let dir = tempfile::tempdir().unwrap();
        let stream = stream(&dir, 4);
        stream.begin(SESSION, Mode::Active, Label::default());
        stream.set_policy(Policy { reclaim_zeros, ..Policy::default() });
        let mut bytes = vec![0; 1 << 20];
        let write = |n: u64, bytes: &[u8]| {
            let extent = Extent::from_bytes(n << 20, bytes.len() as u64).unwrap();
            stream.finish(block_on(stream.take(entry(Op::Write), extent, bytes, Tells::AtOnce)));
        };
        // Far more than the outbox has room for.
        (0..100).for_each(|n| write(n, &bytes));
        assert_eq!(stream.mode().0, Mode::Active);
        bytes[(1 << 20) - 1] = 1;
        write(100, &bytes);
        write(101, &[0, 0, 0, 0, 0, 0, 0, 9].repeat(64));
        let chunk = stream.chunk_from(StreamSeq::FIRST, true).unwrap();
        let (header, payload) = stream.outbox.bytes_of(&chunk);
        let body = Body::decode(&header, JournalId::from_bytes([3; 16])).unwrap();
        let ops: Vec<_> = body.records.iter().map(|record| record.descriptor.op).collect();
        assert_eq!((ops.len(), &ops[..100]), (101, &[wanted; 100][..]));
        assert_eq!((ops[100], payload.len()), (Op::Write, 1 << 20), "one byte is not zero");
        let extent = body.records[7].descriptor.extent.unwrap();
        assert_eq!((extent.start().byte_offset(), extent.bytes()), (7 << 20, 1 << 20));
    }
}
