//! Goal: what was put off is sent, by whoever is there to send it, and never forgotten; what was laid together travels
//! together, one chunk at a time. Method: a stream, a road that notes what goes over it, and somebody who plays the link's
//! thread.

use super::super::taking::{Receipt, Taken};
use super::super::tests::{SESSION, extent, stream};
use super::super::*;
use super::{Direct, Ear, Road, Tells};
use crate::policy::SplitMode;
use crate::ring_io::block_on;
use record::conversation::ToAppliance;

const V: Incarnation = Incarnation::new(1);
/// Nothing here rings later than at once.
const AT_ONCE: Duration = Duration::from_millis(1);
const QUIET: Rings = Rings { laid: false, hurry: false, other: false };

/// Nothing comes from there.
#[derive(Debug)]
struct Deaf;

impl Ear for Deaf {
    fn claim(&self) -> bool {
        false
    }

    fn socket(&self) -> std::os::fd::BorrowedFd<'_> {
        unreachable!("nobody could claim it")
    }

    fn hear(&self) -> bool {
        false
    }

    fn give_back(&self) {}
}

/// A road on which chunks can be counted; closed, it takes none.
#[derive(Clone, Default, Debug)]
struct Noting {
    sent: Arc<Mutex<Vec<StreamSeq>>>,
    closed: Arc<std::sync::atomic::AtomicBool>,
}

impl Road for Noting {
    fn send_now(&self, message: &ToAppliance) -> bool {
        if self.closed.load(Ordering::Relaxed) {
            return false;
        }
        let ToAppliance::Chunk { session, first, .. } = message else { panic!("only chunks: {message:?}") };
        assert_eq!(*session, SESSION);
        self.sent.lock().unwrap().push(*first);
        true
    }
}

impl Noting {
    fn firsts(&self) -> Vec<u64> {
        self.sent.lock().unwrap().iter().map(|first| first.get()).collect()
    }

    fn from(&self, sent: u64) -> Direct {
        Direct { sent: StreamSeq::new(sent), road: Box::new(self.clone()), ear: Arc::new(Deaf) }
    }
}

/// A `sync` stream with a session, whose first record is durable, and nothing of which has rung.
fn sync(dir: &tempfile::TempDir) -> Arc<Stream> {
    let stream = stream(dir, 4);
    stream.begin(SESSION, Mode::Active, Label::default());
    stream.set_policy(Policy { mode: SplitMode::Sync, ..Policy::default() });
    stream.set_linked(true);
    let _first = lay(&stream, 0);
    assert!(stream.take_back().1 && stream.chunk_from(StreamSeq::FIRST, true).is_some());
    ack(&stream, 2);
    let _ = stream.bell.wait(AT_ONCE, false);
    stream
}

fn lay(stream: &Stream, n: u64) -> Taken {
    let entry = Entry { op: Op::Write, flags: OpFlags::NONE, volume: V, extent: None };
    block_on(stream.take(entry, extent(8 * n, 8), &[7; 4096], Tells::Later))
}

fn ack(stream: &Stream, next: u64) {
    stream.acknowledged(SESSION, StreamSeq::new(next), StreamSeq::new(next));
    stream.send_gathered();
}

#[test]
fn what_was_laid_together_is_sent_together_and_nobody_is_woken() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, road) = (sync(&dir), Noting::default());
    stream.lend(road.from(2));
    let taken = [lay(&stream, 1), lay(&stream, 2)];
    assert!(taken.iter().all(|taken| taken.receipt().hurried));
    assert!(road.firsts().is_empty(), "not before its thread waits");
    stream.send_put_off();
    stream.send_put_off();
    assert_eq!(road.firsts(), [2]);
    assert_eq!(stream.bell.wait(AT_ONCE, false), QUIET);
    let (direct, put_off) = stream.take_back();
    assert_eq!((direct.map(|direct| direct.sent), put_off), (Some(StreamSeq::new(4)), false));
}

#[test]
fn what_is_laid_while_a_chunk_is_on_its_way_goes_behind_its_ack() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, road) = (sync(&dir), Noting::default());
    stream.lend(road.from(2));
    let _first = lay(&stream, 1);
    stream.send_put_off();
    let _gathering = [lay(&stream, 2), lay(&stream, 3)];
    stream.send_put_off();
    assert_eq!(road.firsts(), [2]);
    ack(&stream, 2);
    assert_eq!(road.firsts(), [2], "it has not arrived");
    ack(&stream, 3);
    assert_eq!(road.firsts(), [2, 3]);
    ack(&stream, 5);
    assert_eq!(road.firsts(), [2, 3], "nothing is left");
    assert_eq!(stream.bell.wait(AT_ONCE, false), QUIET);
    // Taken back in between, the link's thread hears of what gathers.
    let _later = lay(&stream, 4);
    let (direct, put_off) = stream.take_back();
    assert_eq!((direct.map(|direct| direct.sent), put_off), (Some(StreamSeq::new(5)), true));
}

#[test]
fn without_the_right_or_where_the_road_takes_nothing_the_link_is_woken_and_hears_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, road) = (sync(&dir), Noting::default());
    let _first = lay(&stream, 1);
    stream.send_put_off();
    assert!(stream.bell.wait(AT_ONCE, true).hurry);
    assert!(stream.take_back().1);
    road.closed.store(true, Ordering::Relaxed);
    stream.lend(road.from(2));
    let _second = lay(&stream, 2);
    stream.send_put_off();
    assert!(stream.bell.wait(AT_ONCE, true).hurry);
    let (direct, put_off) = stream.take_back();
    // Sealed it is, but nobody has it: it is sent from there.
    assert_eq!((direct.map(|direct| direct.sent), put_off), (Some(StreamSeq::new(2)), true));
    assert_eq!(stream.chunk_from(StreamSeq::new(2), false).map(|chunk| chunk.next), Some(StreamSeq::new(4)));
}

#[test]
fn a_whole_chunk_behind_one_that_is_on_its_way_is_the_links_thread_s() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, road) = (sync(&dir), Noting::default());
    stream.lend(road.from(2));
    let _first = lay(&stream, 1);
    stream.send_put_off();
    let entry = Entry { op: Op::Write, flags: OpFlags::NONE, volume: V, extent: None };
    let large = vec![7; 600 << 10];
    for n in 1..3 {
        let extent = Extent::from_bytes(n << 20, large.len() as u64).unwrap();
        let _taken = block_on(stream.take(entry, extent, &large, Tells::Later));
        stream.send_put_off();
        assert_eq!(stream.bell.wait(AT_ONCE, false).other, n == 2, "the second does not fit beside the first");
    }
    assert_eq!(road.firsts(), [2]);
}

#[test]
fn in_an_async_group_the_link_hears_of_records_as_ever() {
    let dir = tempfile::tempdir().unwrap();
    let (stream, road) = (stream(&dir, 4), Noting::default());
    stream.begin(SESSION, Mode::Active, Label::default());
    let _ = stream.bell.wait(AT_ONCE, false);
    stream.lend(road.from(1));
    let _taken = lay(&stream, 1);
    stream.send_put_off();
    assert!(road.firsts().is_empty());
    assert!(stream.bell.wait(AT_ONCE, false).laid);
    // A flush too: what was written in front of it should be on its way.
    stream.lay_flush(V, Tells::Later);
    assert!(stream.bell.wait(AT_ONCE, true).hurry);
}

#[test]
fn among_many_threads_no_record_is_forgotten() {
    const THREADS: u64 = 4;
    const EACH: u64 = 500;
    let dir = tempfile::tempdir().unwrap();
    let (stream, road) = (sync(&dir), Noting::default());
    stream.lend(road.from(2));
    let laying = std::sync::atomic::AtomicU64::new(THREADS);
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (stream, laying) = (&stream, &laying);
            scope.spawn(move || {
                for n in 0..EACH {
                    let taken = lay(stream, 1 + thread * EACH + n);
                    stream.send_put_off();
                    let receipt = taken.receipt();
                    stream.finish(taken);
                    // A host that waits: forgotten, its record would keep it for ever.
                    if n % 10 == 0 {
                        stream_answers(stream, receipt);
                    }
                }
                laying.fetch_sub(1, Ordering::SeqCst);
            });
        }
        // The appliance: acknowledges what is on its way, and wakes the link's thread never.
        let deadline = Instant::now() + Duration::from_secs(120);
        let all = 1 + THREADS * EACH;
        while stream.marks().durable.get() <= all {
            assert!(Instant::now() < deadline, "{:?} of {all}", stream.marks());
            let sent = lock(&stream.sending.direct).as_ref().map_or(StreamSeq::FIRST, |direct| direct.sent);
            if sent > stream.marks().durable {
                ack(&stream, sent.get());
            } else {
                std::thread::yield_now();
            }
        }
        assert_eq!(laying.load(Ordering::SeqCst), 0);
    });
    assert_eq!(stream.marks().laid, stream.marks().durable);
    let firsts = road.firsts();
    assert!(firsts.is_sorted() && firsts.len() < usize::try_from(THREADS * EACH).unwrap());
}

fn stream_answers(stream: &Stream, receipt: Receipt) {
    block_on(stream.answerable(receipt));
}
