//! Goal: a splitter that compares its volume is told what the image holds at exactly the record it names, and an
//! administrator finds afterwards what happened.

use super::*;
use control::request::EventsAsk;
use record::digest::Digest;

impl Joined {
    fn ask_digest(&mut self, extent: Extent, at: u64) {
        let (session, volume) = (self.grant.session, self.volume);
        self.link.say(&ToAppliance::VerifyRead { session, volume, extent, at: StreamSeq::new(at) });
    }

    /// The digest at `at`, or why there is none.
    fn digest(&mut self, extent: Extent, at: u64) -> Result<Digest, String> {
        match self.link.word() {
            ToSplitter::VerifyHash { volume, extent: of, at: answered, digest, trouble } => {
                assert_eq!((volume, of, answered.get()), (self.volume, extent, at));
                digest.ok_or(trouble)
            }
            other => panic!("not VERIFY_HASH: {other:?}"),
        }
    }
}

impl World {
    fn events(&self) -> Vec<(String, String)> {
        match self.ask(&ApplianceRequest::Events(EventsAsk { after: None, newest: 1000 })) {
            Ok(Answer::Events(told)) => {
                assert_eq!(told.dropped, 0);
                told.events.into_iter().map(|event| (event.kind, event.text)).collect()
            }
            other => panic!("no events: {other:?}"),
        }
    }

    pub(super) fn has_event(&self, kind: &str) -> bool {
        self.events().iter().any(|(k, _)| k == kind)
    }
}

#[test]
fn a_digest_is_of_the_content_right_behind_the_record_that_is_named() {
    let mut at = Joined::new();
    let place = ext(8, 8);
    at.append(&[write(at.volume, 8, vec![7; 4096])]);
    at.append(&[write(at.volume, 8, vec![8; 4096]), bare(Op::Flush)]);
    for (below, byte) in [(1, 1), (2, 7), (3, 8), (4, 8)] {
        at.ask_digest(place, below);
        assert_eq!(at.digest(place, below), Ok(Digest::of(&[byte; 4096])), "behind {below}");
    }
    // Across what the volume joined with and what was written since.
    let wide = ext(0, 24);
    at.ask_digest(wide, 2);
    assert_eq!(at.digest(wide, 2), Ok(Digest::of(&[vec![1; 4096], vec![7; 4096], vec![1; 4096]].concat())));
}

#[test]
fn a_digest_waits_until_what_it_is_about_is_durable() {
    let mut at = Joined::new();
    let place = ext(8, 8);
    let chunk = at.outbox.lay(&at.grant, 1, &[write(at.volume, 8, vec![7; 4096])]);
    at.ask_digest(place, 2);
    at.ask_digest(place, 1);
    assert_eq!(at.digest(place, 1), Ok(Digest::of(&[1; 4096])), "this one waits for nothing");
    at.link.say(&chunk);
    assert_eq!(at.digest(place, 2), Ok(Digest::of(&[7; 4096])));
}

#[test]
fn a_digest_that_cannot_be_had_is_refused_with_the_reason() {
    let mut at = Joined::new();
    let beyond = ext(SECTORS, 8);
    at.ask_digest(beyond, 1);
    assert!(at.digest(beyond, 1).is_err());
    at.grant.session = at.grant.session.next();
    at.ask_digest(ext(0, 8), 1);
    assert_eq!(at.digest(ext(0, 8), 1), Err("the session is over".to_owned()));
}

#[test]
fn what_happened_can_be_read_afterwards_and_after_a_restart() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 0, vec![5; 512])]);
    at.add_bookmark("noon");
    at.link.say(&ToAppliance::Lost { session: at.grant.session, reason: "the outbox was full".to_owned() });
    until(|| at.world.has_event("gap-begun"), "the event of the gap");
    drop(at.link);
    at.link = at.world.link();
    at.link.open(at.group, 1, lost(), &at.outbox.path);
    at.grant = at.link.granted();
    at.next = at.grant.expected.get();
    at.append(&[bare(Op::ResyncBegin), write(at.volume, 0, vec![5; 1 << 20]), bare(Op::ResyncEnd)]);
    until(|| at.world.has_event("gap-closed"), "the event of its end");
    at.world.stop();
    at.world.start();
    let events = at.world.events();
    let kinds: Vec<&str> = events.iter().map(|(kind, _)| kind.as_str()).collect();
    let told =
        ["started", "session-granted", "bookmark", "gap-begun", "session-granted", "gap-closed", "stopped", "started"];
    let found: Vec<&str> = kinds.iter().copied().filter(|kind| told.contains(kind)).collect();
    assert_eq!(found, told, "{events:?}");
    let text = |kind: &str| events.iter().find(|(k, _)| k == kind).map(|(_, text)| text.clone()).expect(kind);
    assert!(text("bookmark").starts_with("#noon is seq:"), "{}", text("bookmark"));
    assert!(text("gap-begun").contains("writes were not recorded"), "{}", text("gap-begun"));
}
