//! Frames arrive whole and in order, whether they went out at once, in part, or had to wait.

use super::*;
use record::conversation::frame::{FRAME_HEAD_BYTES, frame_head};
use std::io::Read;

/// A frame of about so many bytes that says its number.
fn frame(number: usize, bytes: usize) -> ToSplitter {
    ToSplitter::Refused { retry: true, reason: format!("{number} {}", "x".repeat(bytes)) }
}

fn read(stream: &mut UnixStream) -> ToSplitter {
    loop {
        let mut head = [0; FRAME_HEAD_BYTES];
        stream.read_exact(&mut head).expect("a head");
        let (len, crc) = frame_head(head).expect("a head that makes sense");
        let mut body = vec![0; len];
        stream.read_exact(&mut body).expect("a body");
        match ToSplitter::decode(&body, crc).expect("a frame") {
            ToSplitter::Alive {} => {}
            other => return other,
        }
    }
}

#[test]
fn frames_to_a_peer_that_reads_slower_than_they_come_arrive_whole_and_in_order() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let peer = start(LinkId(1), &ours).expect("a sending side");
    // Many times what a socket holds; of the large ones it takes a part.
    let frames: Vec<ToSplitter> = (0..900).map(|n| frame(n, [10, 3000, 60_000][n % 3])).collect();
    thread::scope(|scope| {
        scope.spawn(|| frames.iter().for_each(|frame| peer.send(frame)));
        for wanted in &frames {
            assert_eq!(read(&mut theirs), *wanted);
        }
    });
    // What waited is gone: these go out at once again.
    for n in 0..10 {
        peer.send(&frame(n, 100));
        assert_eq!(read(&mut theirs), frame(n, 100));
    }
}

#[test]
fn what_of_a_frame_a_socket_does_not_take_waits_and_so_does_what_is_sent_behind_it() {
    let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
    let out = Outgoing { stream: ours, queued: AtomicUsize::new(0), writing: Mutex::new(()) };
    let large = vec![7; 16 << 20];
    let taken = out.at_once(&large).expect("the peer is there");
    assert!((1..large.len()).contains(&taken), "a part of it");
    assert_eq!(out.queued.load(Ordering::Relaxed), large.len() - taken);
    let mut read = 0;
    while read < taken {
        read += (&theirs).read(&mut vec![0; taken - read]).expect("what was taken");
    }
    assert_eq!(out.at_once(&[1]).expect("the peer is there"), 0, "there is room, and something in front of it");
    out.queued.store(0, Ordering::Relaxed);
    assert_eq!(out.at_once(&[1]).expect("the peer is there"), 1);
    let writing = out.writing.lock();
    assert_eq!(out.at_once(&[1]).expect("the peer is there"), 0, "somebody writes");
    drop(writing);
}

#[test]
fn a_peer_that_lets_too_much_pile_up_loses_the_connection() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let peer = start(LinkId(1), &ours).expect("a sending side");
    for n in 0..2 * QUEUE_FRAMES {
        peer.send(&frame(n, 2000));
    }
    let mut all = Vec::new();
    theirs.read_to_end(&mut all).expect("what went out, and the end");
}

#[test]
fn what_was_sent_before_the_close_arrives() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let peer = start(LinkId(1), &ours).expect("a sending side");
    for n in 0..300 {
        peer.send(&frame(n, 2000));
    }
    peer.close();
    for n in 0..300 {
        assert_eq!(read(&mut theirs), frame(n, 2000));
    }
    assert_eq!(theirs.read(&mut [0]).expect("the end"), 0);
}
