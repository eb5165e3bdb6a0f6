//! Goal: whatever order frames, connections and setbacks come in, the journal is handed exactly the next chunks of
//! exactly the splitter that was granted last, and nothing is acknowledged that is not durable.

use super::*;
use record::conversation::Continuation;
use record::ids::{GroupId, SplitterId};

const A: LinkId = LinkId(1);
const B: LinkId = LinkId(2);
const S: Session = Session::new(7);
const V: Incarnation = Incarnation::new(1);

fn opening(splitter: u64) -> Opening {
    Opening {
        relied: None,
        group: GroupId::from_bytes([1; 16]),
        splitter: SplitterId::from_bytes([9; 16]),
        name: "east".to_owned(),
        life: SplitterIncarnation::new(splitter),
        continuation: Continuation::Lost { reason: String::new() },
        outbox: "/outbox".to_owned(),
    }
}

fn seq(n: u64) -> StreamSeq {
    StreamSeq::new(n)
}

fn chunk(first: u64, next: u64) -> ChunkAt {
    let place = Place { header_at: 0, header_len: 4096, payload_at: 4096, payload_len: 4096 };
    ChunkAt { first: seq(first), next: seq(next), place }
}

fn marks(durable: u64, committed: u64) -> Marks {
    Marks { durable: seq(durable), committed: seq(committed) }
}

fn ack(durable: u64, committed: u64) -> Action {
    let (durable, committed) = (seq(durable), seq(committed));
    Action::Send(ToSplitter::Ack { session: S, received: durable, durable, committed })
}

/// An intake with a splitter on link A, granted session 7 from record 1, and one volume of 100 sectors.
fn granted() -> Intake {
    let mut intake = Intake::default();
    let volume = Volume { size: SectorCount::new(100).expect("size"), joined: false };
    assert_eq!(intake.step(0, Input::Volumes([(V, volume)].into())), []);
    assert_eq!(intake.step(0, Input::Open(A, opening(3))), [Action::Grant(A, opening(3))]);
    assert!(!intake.linked(), "not before the journal says so");
    assert_eq!(intake.step(0, Input::Granted(S, marks(1, 1))), [ack(1, 1)]);
    assert!(intake.linked());
    intake
}

#[test]
fn a_session_that_goes_on_is_told_at_once_how_far_the_journal_is() {
    let mut intake = granted();
    assert_eq!(intake.step(1, Input::Gone(A)), [Action::Unlinked]);
    assert_eq!(intake.step(2, Input::Open(B, opening(3))), [Action::Grant(B, opening(3))]);
    // All of it was durable and committed before the break, but the answer was lost: no chunk will follow.
    assert_eq!(intake.step(2, Input::Granted(S, marks(9, 9))), [ack(9, 9)]);
    assert_eq!(intake.due(), None);
}

#[test]
fn an_open_that_comes_behind_that_of_a_newer_connection_ends_nothing() {
    let mut intake = granted();
    assert_eq!(intake.step(1, Input::Open(B, opening(3))).last(), Some(&Action::Grant(B, opening(3))));
    intake.step(1, Input::Granted(S, marks(5, 5)));
    let late = intake.step(2, Input::Open(A, opening(3)));
    assert!(matches!(late[..], [Action::Refuse { link: A, retry: true, .. }]), "{late:?}");
    assert_eq!((intake.link(), intake.session()), (Some(B), Some(S)));
    let successor = intake.step(3, Input::Open(A, opening(4)));
    assert_eq!(successor.last(), Some(&Action::Grant(A, opening(4))), "another life counts more than the number");
}

#[test]
fn chunks_in_order_are_appended_together_and_acknowledged_once_durable() {
    let mut intake = granted();
    let chunks: Vec<_> = (0..17).map(|n| chunk(1 + 2 * n, 3 + 2 * n)).collect();
    for chunk in &chunks {
        assert_eq!(intake.step(1, Input::Chunk(A, S, *chunk)), []);
    }
    assert!(intake.batch_is_full());
    assert_eq!(intake.append_now(), Some(Action::Append(S, chunks[..BATCH_CHUNKS].to_vec())));
    assert_eq!(intake.step(2, Input::Appended(marks(33, 4))), [ack(33, 4)]);
    assert_eq!(intake.append_now(), Some(Action::Append(S, vec![chunk(33, 35)])));
    assert_eq!(intake.step(3, Input::Appended(marks(35, 33))), [ack(35, 33)]);
    assert_eq!(intake.append_now(), None);
}

#[test]
fn a_batch_stays_below_its_bytes_unless_one_chunk_is_larger() {
    let mut intake = granted();
    let large = |first, next| {
        let place = Place { header_at: 0, header_len: 4096, payload_at: 4096, payload_len: 20 << 20 };
        ChunkAt { first: seq(first), next: seq(next), place }
    };
    intake.step(1, Input::Chunk(A, S, large(1, 2)));
    intake.step(1, Input::Chunk(A, S, large(2, 3)));
    assert_eq!(intake.append_now(), Some(Action::Append(S, vec![large(1, 2)])));
}

#[test]
fn the_committed_mark_follows_fifty_milliseconds_of_silence() {
    let mut intake = granted();
    intake.step(0, Input::Chunk(A, S, chunk(1, 2)));
    intake.step(10, Input::Appended(marks(2, 1)));
    assert_eq!(intake.due(), Some(60));
    assert_eq!(intake.step(59, Input::Tick), []);
    assert_eq!(intake.step(60, Input::Tick), [Action::CommitIdle]);
    assert_eq!(intake.step(61, Input::NotCommitted), []);
    assert_eq!(intake.due(), Some(1061), "tried again, but not at once");
    assert_eq!(intake.step(1061, Input::Tick), [Action::CommitIdle]);
    assert_eq!(intake.step(1062, Input::Committed(marks(2, 2))), [ack(2, 2)]);
    assert_eq!(intake.due(), None);
}

#[test]
fn a_chunk_that_comes_twice_is_acknowledged_again_and_not_appended() {
    let mut intake = granted();
    intake.step(0, Input::Chunk(A, S, chunk(1, 4)));
    intake.step(1, Input::Appended(marks(4, 1)));
    assert_eq!(intake.step(2, Input::Chunk(A, S, chunk(1, 4))), [ack(4, 1)]);
    assert_eq!(intake.append_now(), None);
}

#[test]
fn a_hole_is_named_once_and_nothing_behind_it_is_taken() {
    let mut intake = granted();
    let nak = Action::Send(ToSplitter::Nak { session: S, expected: seq(1) });
    assert_eq!(intake.step(0, Input::Chunk(A, S, chunk(5, 6))), [nak]);
    assert_eq!(intake.step(0, Input::Chunk(A, S, chunk(6, 9))), []);
    assert_eq!(intake.append_now(), None);
    intake.step(1, Input::Chunk(A, S, chunk(1, 5)));
    intake.step(1, Input::Chunk(A, S, chunk(5, 6)));
    assert_eq!(intake.append_now(), Some(Action::Append(S, vec![chunk(1, 5), chunk(5, 6)])));
    let nak = Action::Send(ToSplitter::Nak { session: S, expected: seq(6) });
    assert_eq!(intake.step(2, Input::Chunk(A, S, chunk(4, 8))), [nak], "half old, half new is a hole too");
}

#[test]
fn a_newer_open_cuts_the_older_connection_before_anything_is_granted() {
    let mut intake = granted();
    intake.step(0, Input::Chunk(A, S, chunk(1, 2)));
    let actions = intake.step(1, Input::Open(B, opening(4)));
    assert_eq!(actions, [Action::Cut(A), Action::Unlinked, Action::Grant(B, opening(4))]);
    assert_eq!(intake.append_now(), None, "what the old one sent last will come again");
    intake.step(2, Input::Granted(Session::new(8), marks(1, 1)));
    assert_eq!(intake.step(3, Input::Chunk(A, S, chunk(1, 2))), [], "late frames are not heard");
    assert_eq!(intake.step(3, Input::Chunk(B, S, chunk(1, 2))), [], "nor is the old session");
    assert_eq!(intake.step(3, Input::Gone(A)), []);
    assert!(intake.linked());
}

#[test]
fn an_older_splitter_is_refused_and_the_newer_one_goes_on() {
    let mut intake = granted();
    let actions = intake.step(1, Input::Open(B, opening(2)));
    assert!(matches!(&actions[..], [Action::Refuse { link: B, retry: false, reason }] if reason.contains("older")));
    assert_eq!(intake.link(), Some(A));
    assert_eq!(intake.step(1, Input::Open(B, opening(3)))[2], Action::Grant(B, opening(3)), "its own reconnect is not");
}

#[test]
fn a_full_disk_keeps_the_chunks_and_tries_again_each_second() {
    let mut intake = granted();
    intake.step(0, Input::Chunk(A, S, chunk(1, 2)));
    assert_eq!(intake.step(5, Input::NotAppended(Setback::Full { holds: false })), []);
    assert_eq!(intake.append_now(), None, "not at once");
    intake.step(6, Input::Chunk(A, S, chunk(2, 3)));
    assert_eq!(intake.due(), Some(1005));
    let both = Action::Append(S, vec![chunk(1, 2), chunk(2, 3)]);
    assert_eq!(intake.step(1005, Input::Tick), [both]);
    assert_eq!(intake.step(1006, Input::Appended(marks(3, 2))), [ack(3, 2)]);
    assert!(intake.linked());
}

#[test]
fn hosts_are_held_by_a_full_journal_until_it_takes_something_and_that_is_said_once() {
    let mut intake = granted();
    let full = |holds| Action::Send(ToSplitter::Full { holds });
    intake.step(0, Input::Chunk(A, S, chunk(1, 2)));
    assert_eq!(intake.step(5, Input::NotAppended(Setback::Full { holds: true })), [full(true)]);
    intake.step(1005, Input::Tick);
    assert_eq!(intake.step(1006, Input::NotAppended(Setback::Full { holds: true })), []);
    // Another policy.
    intake.step(2006, Input::Tick);
    assert_eq!(intake.step(2007, Input::NotAppended(Setback::Full { holds: false })), [full(false)]);
    intake.step(3007, Input::Tick);
    assert_eq!(intake.step(3008, Input::NotAppended(Setback::Full { holds: true })), [full(true)]);
    intake.step(4008, Input::Tick);
    assert_eq!(intake.step(4009, Input::Appended(marks(2, 2))), [ack(2, 2), full(false)]);
}

#[test]
fn damage_on_the_way_ends_the_connection_but_may_be_tried_again() {
    let mut intake = granted();
    intake.step(0, Input::Chunk(A, S, chunk(1, 2)));
    let actions = intake.step(1, Input::NotAppended(Setback::Broken("checksum".to_owned())));
    assert!(matches!(&actions[..], [Action::Refuse { link: A, retry: true, .. }, Action::Unlinked]));
    assert!(!intake.linked());
}

#[test]
fn synchronisation_is_acknowledged_in_bytes_and_begins_at_the_beginning() {
    let mut intake = granted();
    let extent = Extent::new(0, 2).expect("extent");
    let content = Bytes(vec![1; 1024]);
    let early = intake.step(0, Input::SyncZero(A, V, extent));
    assert!(matches!(&early[..], [Action::Refuse { .. }, Action::Unlinked]), "no beginning");

    let mut intake = granted();
    assert_eq!(intake.step(0, Input::SyncBegin(A, V)), [Action::Base(V, BaseStep::Reset)]);
    let sync_ack = |bytes| Action::Send(ToSplitter::SyncAck { volume: V, bytes });
    assert_eq!(intake.step(0, Input::BaseDone(V, 0)), [sync_ack(0)]);
    let write = Action::Base(V, BaseStep::Write(extent, content.clone()));
    assert_eq!(intake.step(0, Input::SyncData(A, V, extent, content)), [write]);
    assert_eq!(intake.step(0, Input::BaseDone(V, 1024)), [sync_ack(1024)]);
    assert_eq!(intake.synchronising().collect::<Vec<_>>(), [(V, 1024)]);
    assert_eq!(intake.step(0, Input::SyncEnd(A, V)), [Action::Base(V, BaseStep::Finish)]);
    assert_eq!(intake.step(0, Input::Joined(V)), [Action::Send(ToSplitter::Joined { volume: V })]);
    let again = intake.step(0, Input::SyncBegin(A, V));
    assert!(matches!(&again[..], [Action::Refuse { .. }, Action::Unlinked]), "its replica is in use now");
}

#[test]
fn a_volume_joins_only_behind_the_chunks_that_came_before() {
    let mut intake = granted();
    intake.step(0, Input::SyncBegin(A, V));
    for n in 1..=17 {
        intake.step(0, Input::Chunk(A, S, chunk(n, n + 1)));
    }
    let most = Action::Append(S, (1..=16).map(|n| chunk(n, n + 1)).collect());
    assert_eq!(intake.step(0, Input::SyncEnd(A, V)), [most]);
    let rest = Action::Append(S, vec![chunk(17, 18)]);
    assert_eq!(intake.step(0, Input::Appended(marks(17, 1))), [ack(17, 1), rest]);
    let actions = intake.step(0, Input::Appended(marks(18, 17)));
    assert_eq!(actions, [ack(18, 17), Action::Base(V, BaseStep::Finish)]);
}

#[test]
fn synchronisation_outside_a_volume_or_of_a_stranger_ends_the_connection() {
    for (volume, start) in [(V, 99), (Incarnation::new(9), 0)] {
        let mut intake = granted();
        if volume == V {
            intake.step(0, Input::SyncBegin(A, V));
        }
        let actions = intake.step(0, Input::SyncZero(A, volume, Extent::new(start, 2).expect("extent")));
        assert!(matches!(&actions[..], [Action::Refuse { link: A, .. }, Action::Unlinked]), "{volume} {start}");
    }
}

#[test]
fn what_was_sent_before_records_were_lost_is_appended_before_the_session_ends() {
    let mut intake = granted();
    let chunks: Vec<_> = (1..=18).map(|n| chunk(n, n + 1)).collect();
    for chunk in &chunks {
        assert_eq!(intake.step(0, Input::Chunk(A, S, *chunk)), []);
    }
    let first = Action::Append(S, chunks[..16].to_vec());
    assert_eq!(intake.step(1, Input::Lost(A, S, "outbox full".to_owned())), [first]);
    let second = Action::Append(S, chunks[16..].to_vec());
    assert_eq!(intake.step(2, Input::Appended(marks(17, 1))), [ack(17, 1), second]);
    let lost = Action::Lose(S, "outbox full".to_owned());
    assert_eq!(intake.step(3, Input::Appended(marks(19, 17))), [ack(19, 17), lost]);
    assert!(!intake.linked());
}

#[test]
fn a_session_ends_as_well_when_what_was_sent_before_cannot_be_appended() {
    let mut intake = granted();
    intake.step(0, Input::Chunk(A, S, chunk(1, 2)));
    intake.step(1, Input::Lost(A, S, "outbox full".to_owned()));
    assert_eq!(intake.step(1, Input::NotAppended(Setback::Full { holds: false })), [], "later");
    assert_eq!(intake.step(1001, Input::Tick), [Action::Append(S, vec![chunk(1, 2)])]);
    let lost = Action::Lose(S, "outbox full".to_owned());
    assert_eq!(intake.step(1002, Input::NotAppended(Setback::Expected(seq(7)))), [lost]);
}

#[test]
fn after_lost_records_the_session_takes_nothing_more() {
    let mut intake = granted();
    intake.step(0, Input::Chunk(A, S, chunk(1, 2)));
    intake.step(0, Input::Appended(marks(2, 1)));
    let lost = Action::Lose(S, "outbox full".to_owned());
    assert_eq!(intake.step(1, Input::Lost(A, S, "outbox full".to_owned())), [lost]);
    assert_eq!(intake.step(2, Input::Chunk(A, S, chunk(2, 3))), []);
    assert!(!intake.linked());
    assert_eq!(intake.step(3, Input::Lost(A, S, "again".to_owned())), []);
    assert_eq!(intake.due(), None);
}
