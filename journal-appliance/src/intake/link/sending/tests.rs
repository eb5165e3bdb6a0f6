//! Frames arrive whole and in order, whether they went out at once, in part, or had to wait.

use super::*;
use record::conversation::{FRAME_HEAD_BYTES, frame_head};
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
fn frames_to_a_peer_that_does_not_read_arrive_whole_and_in_order_once_it_does() {
    let (ours, mut theirs) = UnixStream::pair().expect("a pair of sockets");
    let peer = start(LinkId(1), &ours).expect("a sending side");
    // Many times what a socket holds.
    let frames: Vec<ToSplitter> = (0..900).map(|n| frame(n, [10, 3000, 700][n % 3])).collect();
    for frame in &frames {
        peer.send(frame);
    }
    for wanted in &frames {
        assert_eq!(read(&mut theirs), *wanted);
    }
    // What waited is gone: these go out at once again.
    for n in 0..10 {
        peer.send(&frame(n, 100));
        assert_eq!(read(&mut theirs), frame(n, 100));
    }
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
