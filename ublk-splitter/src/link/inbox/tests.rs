//! An ack takes the short way only where it overtakes nothing.

use super::*;

const SESSION: Session = Session::new(3);

fn ack(durable: u64) -> ToSplitter {
    let durable = StreamSeq::new(durable);
    ToSplitter::Ack { session: SESSION, received: durable, durable, committed: StreamSeq::new(1) }
}

/// What was told the short way, and whether the link's thread hears of it.
fn push(inbox: &Inbox, frame: ToSplitter) -> (Option<u64>, bool) {
    let mut told = None;
    let heard = inbox.push(frame, |session, durable, _| {
        assert_eq!(session, SESSION);
        told = Some(durable.get());
    });
    (told, heard)
}

#[test]
fn an_ack_goes_the_short_way_while_the_link_rests_and_the_link_finds_it_later() {
    let inbox = Inbox::default();
    assert_eq!(push(&inbox, ack(2)), (None, true), "nobody rests yet");
    assert_eq!(inbox.take().frames.len(), 1);
    inbox.rest();
    assert_eq!(push(&inbox, ack(3)), (Some(3), false));
    assert_eq!(push(&inbox, ack(4)), (Some(4), false));
    let came = inbox.take();
    assert_eq!((came.durable, came.frames.len()), (Some(StreamSeq::new(4)), 0));
    assert_eq!(push(&inbox, ack(5)), (None, true), "what was taken may still be dealt with");
    inbox.rest();
    assert_eq!(push(&inbox, ack(6)), (None, true), "one before it waits");
}

#[test]
fn no_ack_overtakes_what_came_before_it() {
    let inbox = Inbox::default();
    inbox.rest();
    let nak = ToSplitter::Nak { session: SESSION, expected: StreamSeq::new(4) };
    assert_eq!(push(&inbox, nak.clone()), (None, true));
    assert_eq!(push(&inbox, ack(9)), (None, true));
    assert_eq!(Vec::from(inbox.take().frames), [nak, ack(9)]);
}

#[test]
fn the_end_is_told_whenever_it_is_asked_for() {
    let inbox = Inbox::default();
    inbox.rest();
    inbox.end("gone".to_owned());
    inbox.rest();
    assert_eq!(push(&inbox, ack(2)), (None, true), "nothing goes the short way behind the end");
    assert_eq!(inbox.take().end.as_deref(), Some("gone"));
    assert_eq!(inbox.take().end.as_deref(), Some("gone"));
}
