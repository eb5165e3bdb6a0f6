//! Goal: every frame is handed on once and in order, whoever listens when it comes, and a queue that stops listening leaves
//! nothing unheard. Method: a pair of sockets, somebody who plays the queue, and a list of what was handed on.

use super::*;
use std::io::Write as _;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

/// Nothing here takes that long.
const LONG: Duration = Duration::from_secs(60);

struct World {
    listening: Arc<Listening>,
    /// The numbers of the frames that were handed on, and why no more come.
    heard: Receiver<Result<u64, String>>,
    far: UnixStream,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        let (near, far) = UnixStream::pair().expect("pair");
        let (frames, heard) = channel();
        let ends = frames.clone();
        let deliver = move |frame| {
            let ToSplitter::Joined { volume } = frame else { panic!("only what `say` sends: {frame:?}") };
            frames.send(Ok(u64::from(volume.get()))).expect("the test listens");
        };
        let ended = move |why| ends.send(Err(why)).expect("the test listens");
        Self { listening: Arc::new(Listening::new(near, deliver, ended)), heard, far, reader: None }
    }

    fn with_reader(mut self) -> Self {
        let listening = Arc::clone(&self.listening);
        self.reader = Some(std::thread::spawn(move || listening.read()));
        self
    }

    fn say(&mut self, numbers: impl IntoIterator<Item = u32>) {
        let bytes: Vec<u8> = numbers.into_iter().flat_map(frame).collect();
        self.far.write_all(&bytes).expect("the socket takes it");
    }

    fn next(&self) -> Result<u64, String> {
        self.heard.recv_timeout(LONG).expect("something is handed on")
    }

    fn nothing_yet(&self) -> bool {
        self.heard.try_recv().is_err()
    }

    /// Waits until the reader sleeps because a queue listens. What wakes it meanwhile is heard, by whomever.
    fn reader_sleeps(&mut self) {
        self.say([1_000_000]);
        let deadline = std::time::Instant::now() + LONG;
        while !self.listening.asleep.load(Ordering::SeqCst) {
            assert!(std::time::Instant::now() < deadline, "the reader sleeps");
            std::thread::yield_now();
        }
        assert!(self.listening.hear());
        assert_eq!(self.next(), Ok(1_000_000));
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.listening.close();
        let _ = self.far.shutdown(std::net::Shutdown::Both);
        if let Some(reader) = self.reader.take()
            && !std::thread::panicking()
        {
            reader.join().expect("the reader ends");
        }
    }
}

fn frame(number: u32) -> Vec<u8> {
    ToSplitter::Joined { volume: record::ids::Incarnation::new(number) }.encode()
}

#[test]
fn the_reader_hands_on_what_comes_in_whatever_pieces() {
    let mut world = World::new().with_reader();
    let bytes: Vec<u8> = (1..=40).flat_map(frame).collect();
    for piece in bytes.chunks(7) {
        world.far.write_all(piece).expect("the socket takes it");
    }
    for number in 1..=40 {
        assert_eq!(world.next(), Ok(number));
    }
    world.say(50..3000);
    for number in 50..3000 {
        assert_eq!(world.next(), Ok(number));
    }
}

#[test]
fn one_queue_listens_and_the_reader_again_behind_it() {
    let mut world = World::new().with_reader();
    world.say([1]);
    assert_eq!(world.next(), Ok(1), "the reader's");
    assert!(world.listening.claim());
    assert!(!world.listening.claim(), "one is enough");
    world.reader_sleeps();
    world.say([2]);
    let half = frame(3);
    world.far.write_all(&half[..5]).expect("the socket takes it");
    assert!(world.nothing_yet(), "the queue has not looked yet");
    assert!(world.listening.hear());
    assert_eq!(world.next(), Ok(2));
    assert!(world.nothing_yet(), "the next one is not whole");
    world.listening.give_back();
    assert!(!world.listening.hear(), "it is not the queue's any more");
    world.far.write_all(&half[5..]).expect("the socket takes it");
    world.say([4]);
    assert_eq!((world.next(), world.next()), (Ok(3), Ok(4)), "the reader goes on where the queue stopped");
}

#[test]
fn more_than_a_queue_should_deal_with_is_left_to_the_reader() {
    let mut world = World::new().with_reader();
    assert!(world.listening.claim());
    world.reader_sleeps();
    let all = 1 + 4 * u32::try_from(PIECE).expect("small") / u32::try_from(frame(0).len()).expect("small");
    world.say(0..all);
    assert!(!world.listening.hear());
    for number in 0..u64::from(all) {
        assert_eq!(world.next(), Ok(number));
    }
}

#[test]
fn a_queue_that_does_not_read_loses_its_turn_for_good() {
    let mut world = World::new().with_reader();
    assert!(world.listening.claim());
    world.reader_sleeps();
    world.say([7]);
    assert_eq!(world.next(), Ok(7), "the reader's, after a while");
    assert!(!world.listening.hear());
    assert!(!world.listening.claim(), "nobody else is to hold the group up");
}

#[test]
fn the_end_is_told_once_whoever_hears_it() {
    let world = World::new().with_reader();
    world.far.shutdown(std::net::Shutdown::Both).expect("connected");
    assert!(world.next().is_err());
    drop(world);

    let world = World::new();
    assert!(world.listening.claim());
    world.far.shutdown(std::net::Shutdown::Both).expect("connected");
    assert!(!world.listening.hear());
    assert!(world.next().is_err());
    assert!(!world.listening.hear() && !world.listening.claim());
    assert!(world.nothing_yet(), "nothing is told twice");
    world.listening.read();
}

#[test]
fn bytes_that_are_no_frame_end_the_link() {
    let mut world = World::new().with_reader();
    world.far.write_all(&[0xff; 64]).expect("the socket takes it");
    let why = world.next().expect_err("no frame");
    assert_ne!(why, silent(), "at once, and not when nothing more comes");
}

#[test]
fn a_closed_link_is_listened_to_by_nobody() {
    let mut world = World::new().with_reader();
    assert!(world.listening.claim());
    world.reader_sleeps();
    world.listening.close();
    assert!(!world.listening.hear());
    world.listening.give_back();
    assert!(!world.listening.claim(), "to give it back does not open it again");
}
