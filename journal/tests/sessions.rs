//! Who may append, what is acknowledged, and what is refused.

mod common;

use common::{Group, ID, SPLITTER, at, create, extent, join_request, lost};
use journal::{AppendError, JournalError, Opened};
use kit::disk::On;
use kit::{Laying, SimDisk};
use record::chunk::BodyError;
use record::conversation::Continuation;
use record::ids::{Incarnation, JournalId};
use record::op::Op;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};
use std::io::ErrorKind;

fn seq(n: u64) -> StreamSeq {
    StreamSeq::new(n)
}

fn life(n: u64) -> SplitterIncarnation {
    SplitterIncarnation::new(n)
}

/// One chunk with one write.
fn chunk(group: &mut Group, start: u64) -> record::build::BodyBytes {
    let volume = group.volumes[0].number;
    group.laying.write(volume, extent(start, 3), vec![7; 3 * 512]);
    group.laying.seal().expect("laid")
}

fn append(group: &Group, bodies: &[&record::build::BodyBytes]) -> Result<journal::Watermarks, AppendError> {
    let chunks: Vec<(&[u8], &[u8])> = bodies.iter().map(|b| (&b.header[..], &b.payload[..])).collect();
    group.journal.append_many(group.session, &chunks)
}

#[test]
fn chunks_are_taken_in_order_once_and_a_gap_tells_what_is_expected() {
    let mut group = Group::new(&[40]);
    let (a, b, c) = (chunk(&mut group, 0), chunk(&mut group, 1), chunk(&mut group, 2));
    let head = group.head();
    assert_eq!(append(&group, &[&a]).expect("append").durable, seq(2));
    assert!(matches!(append(&group, &[&c]), Err(AppendError::Gap { expected, .. }) if expected == seq(2)));
    // Sent again, beside new ones and alone: acknowledged, not appended.
    assert_eq!(append(&group, &[&a]).expect("again").durable, seq(2));
    assert_eq!(append(&group, &[&a, &b, &c, &c]).expect("batch").durable, seq(4));
    assert_eq!(group.head(), head.plus(3));
    // Half of it is here already: not what a sealed chunk looks like when it comes again.
    let mut straddling = Laying::new(ID, group.session, seq(3), Label::from_nanos(9));
    for _ in 0..3 {
        straddling.mark(Op::Flush);
    }
    let straddling = straddling.seal().expect("laid");
    assert!(matches!(append(&group, &[&straddling]), Err(AppendError::Gap { expected, .. }) if expected == seq(4)));
    assert_eq!(group.head(), head.plus(3));
}

#[test]
fn what_stands_in_front_of_a_refused_chunk_is_appended() {
    let mut group = Group::new(&[40]);
    let (a, mut b, c) = (chunk(&mut group, 0), chunk(&mut group, 1), chunk(&mut group, 2));
    b.payload[5] ^= 1;
    let refused = append(&group, &[&a, &b, &c]);
    assert!(matches!(refused, Err(AppendError::PayloadChecksum { index: 1, seq: s }) if s == seq(2)), "{refused:?}");
    assert_eq!(group.journal.watermarks(group.session).expect("a session").durable, seq(2));
    b.payload[5] ^= 1;
    assert_eq!(append(&group, &[&a, &b, &c]).expect("again").durable, seq(4));
}

#[test]
fn committed_follows_when_a_later_chunk_names_it() {
    let mut group = Group::new(&[40]);
    let (a, b) = (chunk(&mut group, 0), chunk(&mut group, 1));
    let first = append(&group, &[&a]).expect("append");
    assert_eq!((first.received, first.durable, first.committed), (seq(2), seq(2), seq(1)));
    let second = append(&group, &[&b]).expect("append");
    assert_eq!((second.durable, second.committed), (seq(3), seq(2)));
    let named = group.journal.commit_idle().expect("commit")[0];
    assert_eq!((named.durable, named.committed), (seq(3), seq(3)));
    // Nothing is owed any more: nothing is written.
    let head = group.head();
    group.journal.commit_idle().expect("commit");
    assert_eq!(group.head(), head);
    // After opening again everything that is there is committed.
    let c = chunk(&mut group, 2);
    append(&group, &[&c]).expect("append");
    let session = group.session;
    let (group, _) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
    let marks = group.journal.watermarks(session).expect("a session");
    assert_eq!((marks.durable, marks.committed), (seq(4), seq(4)));
}

#[test]
fn an_older_session_and_an_older_life_are_fenced_for_ever() {
    let mut group = Group::new(&[40]);
    let old = chunk(&mut group, 0);
    let old_session = group.session;
    let fresh = group.journal.grant(SPLITTER, life(5), &lost()).expect("grant");
    assert!(fresh.fresh && fresh.session > old_session && fresh.expected == seq(1));
    assert!(!fresh.consistent, "what the first session had is not known to be all here");
    for _ in 0..2 {
        let refused = append(&group, &[&old]);
        assert!(matches!(refused, Err(AppendError::Fenced { session, .. }) if session == old_session), "{refused:?}");
        let stale = group.journal.grant(SPLITTER, life(4), &lost());
        assert!(matches!(stale, Err(JournalError::StaleSplitter { seen, .. }) if seen == life(5)), "{stale:?}");
        // And so after opening again.
        let volumes = group.volumes.clone();
        group = Group::open(group.disk.killed(), volumes).expect("open").0;
    }
    // A session that nobody granted is no better.
    let mut future = Laying::new(ID, Session::new(99), seq(1), Label::from_nanos(9));
    future.mark(Op::Flush);
    let future = future.seal().expect("laid");
    assert!(matches!(append(&group, &[&future]), Err(AppendError::Fenced { .. })));
}

#[test]
fn a_splitter_that_comes_back_goes_on_in_its_session_and_its_new_life_is_kept() {
    let mut group = Group::new(&[40]);
    let a = chunk(&mut group, 0);
    append(&group, &[&a]).expect("append");
    let same =
        |laid, released| Continuation::Same { session: Session::new(1), laid: seq(laid), released: seq(released) };
    let head = group.head();
    let again = group.journal.grant(SPLITTER, life(1), &same(5, 1)).expect("grant");
    assert!(!again.fresh && again.consistent && again.expected == seq(2));
    assert_eq!(group.head(), head, "nothing new, nothing recorded");
    let next_life = group.journal.grant(SPLITTER, life(2), &same(2, 2)).expect("grant");
    assert!(!next_life.fresh && next_life.consistent);
    assert_eq!(group.head(), head.plus(1), "the new life is recorded");
    let (group, _) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
    assert!(group.journal.grant(SPLITTER, life(1), &same(5, 1)).is_err(), "the old life stays fenced");
    // Released more than the journal has, or laid less: it is not the same stream.
    for (laid, released) in [(9, 3), (1, 1)] {
        let granted = group.journal.grant(SPLITTER, life(2), &same(laid, released)).expect("grant");
        assert!(granted.fresh && !granted.consistent, "{laid} {released}");
    }
}

#[test]
fn a_clean_stop_is_continued_without_a_gap_only_if_nothing_is_missing() {
    for (next, clean) in [(3, true), (2, false), (4, false)] {
        let mut group = Group::new(&[40]);
        let (a, b) = (chunk(&mut group, 0), chunk(&mut group, 1));
        append(&group, &[&a, &b]).expect("append");
        group.journal.close().expect("close");
        let (group, report) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
        assert!(report.clean);
        let after = Continuation::CleanAfter { session: Session::new(1), next: seq(next) };
        let granted = group.journal.grant(SPLITTER, life(2), &after).expect("grant");
        assert!(granted.fresh && granted.session == Session::new(2) && granted.expected == seq(1));
        assert_eq!(granted.consistent, clean);
        assert_eq!(group.journal.status().needs_resync, !clean);
    }
}

#[test]
fn a_lost_session_takes_no_more_and_only_a_later_one_can_close_its_gap() {
    let mut group = Group::new(&[40]);
    let (a, b) = (chunk(&mut group, 0), chunk(&mut group, 1));
    append(&group, &[&a]).expect("append");
    group.journal.lose(group.session).expect("lose");
    let head = group.head();
    group.journal.lose(group.session).expect("harmless");
    assert_eq!(group.head(), head);
    assert!(matches!(append(&group, &[&b]), Err(AppendError::Fenced { .. })));
    let same = Continuation::Same { session: group.session, laid: seq(9), released: seq(1) };
    let granted = group.journal.grant(SPLITTER, life(1), &same).expect("grant");
    assert!(granted.fresh && !granted.consistent, "a lost session is not continued");
}

#[test]
fn records_that_a_splitter_may_not_lay_are_refused_with_their_reason() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    let head = group.head();
    let fresh = |group: &Group| Laying::new(ID, group.session, seq(1), group.laying.label());
    let mut cases: Vec<(Laying, &str)> = Vec::new();
    let mut case = |change: &dyn Fn(&mut Laying), why: &'static str| {
        let mut laying = fresh(&group);
        change(&mut laying);
        cases.push((laying, why));
    };
    case(&|l| l.change(Op::Punch, volume, extent(39, 2)), "past the end");
    case(&|l| l.change(Op::Punch, Incarnation::new(2), extent(0, 1)), "no member");
    for op in [Op::Joined, Op::Leave, Op::Commit, Op::Rollback, Op::SessionGranted, Op::Recovery] {
        case(&|l| l.mark(op), "by the journal only");
    }
    for (mut laying, why) in cases {
        let body = laying.seal().expect("laid");
        let refused = append(&group, &[&body]).expect_err("refused");
        assert!(refused.to_string().contains(why), "{refused} should say '{why}'");
    }
    // Another journal's chunk, a flipped bit in a header, lengths that do not fit.
    let mut other = Laying::new(JournalId::from_bytes([3; 16]), group.session, seq(1), Label::from_nanos(5));
    other.mark(Op::Flush);
    let other = other.seal().expect("laid");
    assert!(matches!(append(&group, &[&other]), Err(AppendError::Body { source: BodyError::OtherJournal(_), .. })));
    let mut bad = chunk(&mut group, 0);
    bad.header[300] ^= 1;
    assert!(matches!(append(&group, &[&bad]), Err(AppendError::Body { source: BodyError::HeaderChecksum, .. })));
    bad.header[300] ^= 1;
    bad.payload.extend_from_slice(&[0; 4096]);
    assert!(matches!(append(&group, &[&bad]), Err(AppendError::Body { source: BodyError::BadLength, .. })));
    assert_eq!(group.head(), head, "nothing was written");
    // A volume that left takes nothing more.
    group.journal.leave(volume, group.laying.label()).expect("leave");
    bad.payload.truncate(4096);
    assert!(append(&group, &[&bad]).expect_err("refused").to_string().contains("no member"));
}

#[test]
fn a_full_disk_refuses_whole_chunks_and_the_same_can_be_sent_again() {
    let mut group = Group::new(&[1500]);
    let volume = group.volumes[0].number;
    // Room for the first segment only.
    group.disk.set_capacity(Some((1 << 20) + 200_000));
    let mut refused = 0;
    for i in 0..5 {
        group.write(volume, extent(i * 10, 600));
        if !group.send() {
            refused += 1;
            let bodies = [&group.outbox[0].body];
            let error = append(&group, &bodies).expect_err("the disk is full");
            assert!(matches!(error, AppendError::Journal(JournalError::NoSpace { .. })), "{error}");
            assert!(group.journal.status().poisoned.is_none());
            assert!(!group.disk.names().iter().any(|name| name.contains(".new")), "nothing half made is left");
            group.check_all(at(1));
            group.disk.set_capacity(None);
            assert!(group.send());
        }
    }
    assert_eq!(refused, 1);
    group.check_all(at(1));
    let (reference, volumes) = (group.reference.clone(), group.volumes.clone());
    let (mut group, report) = Group::open(group.disk.killed(), volumes).expect("open");
    assert!(report.damage.is_empty());
    group.reference = reference;
    group.catch_up();
    group.check_all(at(1));
}

#[test]
fn a_failed_write_poisons_the_tail_says_so_and_everything_stays_readable() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 9));
    assert!(group.send());
    group.disk.fail(".seg", On::Write, ErrorKind::Other, 1);
    group.write(volume, extent(4, 9));
    assert!(!group.send());
    let head = group.head();
    for _ in 0..2 {
        let error = append(&group, &[&group.outbox[0].body]).expect_err("poisoned");
        assert!(matches!(error, AppendError::Journal(JournalError::Poisoned { .. })), "{error}");
        assert!(matches!(group.journal.commit_idle(), Err(JournalError::Poisoned { .. })));
        assert!(matches!(group.journal.grant(SPLITTER, life(1), &lost()), Err(JournalError::Poisoned { .. })));
    }
    assert!(group.journal.status().poisoned.is_some());
    assert!(group.journal.close().is_err(), "a poisoned tail is not closed as clean");
    assert_eq!(group.head(), head);
    group.check_all(at(1));
    // Opened again it recovers, and takes what was not acknowledged.
    let (reference, volumes, outbox) = (group.reference.clone(), group.volumes.clone(), group.outbox.clone());
    let (mut again, report) = Group::open(group.disk.killed(), volumes).expect("open");
    assert!(!report.clean && report.damage.is_empty());
    again.reference = reference;
    again.catch_up();
    again.session = Session::new(1);
    again.outbox = outbox;
    assert!(again.send());
    again.check_all(at(1));
}

#[test]
fn of_chunks_under_way_together_those_in_front_of_a_failed_one_count_and_none_behind_it() {
    let mut holes = 0;
    let mut kept = [0; 7];
    for round in 0..40u64 {
        let mut group = Group::new(&[40]);
        let volume = group.volumes[0].number;
        // Another order of completion each time.
        for _ in 0..round {
            group.write(volume, extent(0, 1));
            assert!(group.send());
        }
        group.journal.commit_idle().expect("commit");
        group.catch_up();
        let before = group.head();
        for i in 0..6 {
            group.write(volume, extent(i, 3));
            group.seal();
        }
        group.disk.fail("00000001.seg", On::Write, ErrorKind::Other, 1);
        assert!(!group.send());
        let acknowledged = group.head();
        kept[usize::try_from(acknowledged.get() - before.get()).expect("few")] += 1;
        group.check_all(at(1));
        assert!(group.journal.status().poisoned.is_some());
        for power_cut in [true, false] {
            let disk = if power_cut { group.disk.power_cut(&mut kit::Rng::new(round)) } else { group.disk.killed() };
            let (mut again, report) = Group::open(disk, group.volumes.clone()).expect("open");
            assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
            assert_eq!(report.recovered, acknowledged, "nothing behind a hole counts, whether it is there or not");
            holes += u64::from(report.cut.is_some());
            again.reference = group.reference.clone();
            again.catch_up();
            // What was not acknowledged comes again, and what lay behind the hole never does.
            (again.session, again.laying, again.outbox) = (group.session, group.laying.clone(), group.outbox.clone());
            assert!(again.send());
            again.check_all(at(1));
            let (mut last, report) = Group::open(again.disk.killed(), again.volumes.clone()).expect("open");
            assert!(report.damage.is_empty() && report.recovered == again.head());
            last.reference = again.reference.clone();
            last.catch_up();
            last.check_all(at(1));
        }
    }
    assert!(holes > 10, "chunks behind a hole were there in {holes} cases");
    assert!(kept[..4].iter().all(|n| *n > 0), "chunks acknowledged in front of the failed one: {kept:?}");
}

#[test]
fn a_footer_that_cannot_be_written_does_not_stop_the_journal_and_is_told() {
    // With a footer of an earlier close in its place, which knows nothing of what came since, and with none.
    for stale in [true, false] {
        let mut group = Group::new(&[1500]);
        let volume = group.volumes[0].number;
        if stale {
            group.journal.close().expect("close");
            let Group { disk, reference, volumes, laying, session, .. } = group;
            group = Group::open(disk.killed(), volumes).expect("open").0;
            (group.reference, group.laying, group.session) = (reference, laying, session);
            group.catch_up();
        }
        // Until no more of these fit; the next one makes a segment, and then the footer of this one is due.
        for i in 0..3 {
            group.write(volume, extent(i, 600));
            assert!(group.send());
        }
        assert_eq!(group.journal.status().segments, 1);
        group.disk.fail("00000001.seg", On::Write, ErrorKind::Other, u64::MAX);
        group.write(volume, extent(3, 600));
        assert!(group.send());
        assert!(group.journal.status().segments == 2 && group.journal.status().footer_missing);
        assert!(group.journal.status().poisoned.is_none());
        group.check_all(at(1));
        // A restart reads the chunks instead.
        let (mut again, report) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
        assert!(report.damage.is_empty() && !again.journal.status().footer_missing);
        again.reference = group.reference.clone();
        again.catch_up();
        again.check_all(at(1));
        let report = journal::verify_disk(&again.disk, &mut |_, _| {}).expect("verify");
        let [finding] = &report.findings[..] else { panic!("{:?}", report.findings) };
        assert_eq!((finding.kind, finding.severity), (journal::FindingKind::Footer, journal::Severity::Note));
    }
}

#[test]
fn a_second_opener_is_told_that_the_journal_is_in_use_and_a_reader_is_not() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 9));
    assert!(group.send());
    assert!(matches!(journal::Journal::open_on(group.disk.shared()), Err(JournalError::InUse { .. })));
    let (reader, _) = journal::Reader::open_on(group.disk.shared()).expect("a reader");
    assert_eq!(reader.timeline().head.position, group.head());
    assert!(!journal::verify_disk(&group.disk, &mut |_, _| {}).expect("verify").is_damaged());
    let again = journal::Journal::create_on(
        &group.disk,
        &journal::Create {
            journal: ID,
            group: record::ids::GroupId::from_bytes([1; 16]),
            group_name: "g".into(),
            now: Label::from_nanos(1),
            segment_bytes: 1 << 20,
        },
    );
    assert!(matches!(again, Err(JournalError::InUse { .. })));
    group.journal.close().expect("close");
    let Opened { journal, .. } = journal::Journal::open_on(group.disk.shared()).expect("free again");
    drop(journal);
    assert!(journal::Journal::open_on(group.disk.shared()).is_ok(), "a dropped journal frees it too");
}

#[test]
fn membership_is_refused_where_it_makes_no_sense_and_numbers_are_never_used_again() {
    let mut group = Group::new(&[40]);
    let label = group.laying.label();
    let refused = |outcome: Result<Incarnation, JournalError>| outcome.expect_err("refused").to_string();
    assert!(refused(group.journal.join(&join_request(9, "v1", 8), label)).contains("has a volume named 'v1'"));
    assert!(refused(group.journal.join(&join_request(1, "other", 8), label)).contains("member of the group already"));
    assert!(refused(group.journal.join(&join_request(9, "", 8), label)).contains("name"));
    let second = group.journal.join(&join_request(2, "v2", 8), label).expect("join");
    assert_eq!(second, Incarnation::new(2));
    assert!(group.journal.joined(second, label).expect_err("refused").to_string().contains("no replica"));
    let left = group.journal.leave(second, label).expect("leave");
    assert_eq!(group.journal.leave(second, label).expect("harmless"), left);
    let (again, _) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
    assert_eq!(again.journal.join(&join_request(2, "v2", 8), label).expect("join"), Incarnation::new(3));
    let volume = again.volumes[0].number;
    assert!(
        again
            .journal
            .base_write(volume, extent(0, 1), &[1; 512])
            .expect_err("joined")
            .to_string()
            .contains("has joined")
    );
    assert!(again.journal.base_reset(Incarnation::new(7)).is_err());
    group.catch_up();
}

#[test]
fn a_directory_without_a_journal_and_one_with_remains_are_told_apart() {
    let disk = SimDisk::new();
    assert!(matches!(journal::Journal::open_on(disk.shared()), Err(JournalError::NotAJournal { .. })));
    create(&disk);
    drop(journal::Journal::open_on(disk.shared()).expect("open"));
    let lost_both = disk.copy();
    lost_both.put("superblock", &[0; 8192]);
    assert!(matches!(journal::Journal::open_on(lost_both.killed().shared()), Err(JournalError::SuperblockLost { .. })));
    let without = disk.copy();
    without.lose("superblock");
    let without = without.killed();
    assert!(matches!(journal::Journal::open_on(without.shared()), Err(JournalError::NotAJournal { .. })));
    let create = journal::Create {
        journal: ID,
        group: record::ids::GroupId::from_bytes([1; 16]),
        group_name: "g".into(),
        now: Label::from_nanos(1),
        segment_bytes: 1 << 20,
    };
    let refused = journal::Journal::create_on(&without, &create).expect_err("remains");
    assert!(refused.to_string().contains("remains of a journal"), "{refused}");
    let small = journal::Create { segment_bytes: 4096, ..create };
    assert!(journal::Journal::create_on(&SimDisk::new(), &small).is_err());
}

#[test]
fn a_journal_on_a_full_disk_opens_for_reading_and_goes_on_when_there_is_room() {
    let mut group = Group::new(&[1500]);
    let volume = group.volumes[0].number;
    // Fill the first segment so that not even RECOVERY fits, which is as long as these chunks.
    group.disk.set_capacity(Some(0));
    loop {
        let left = (1 << 20) - 4096 - group.journal.status().used_bytes;
        group.write(volume, extent(0, if left > 500_000 { 600 } else { 8 }));
        if !group.send() {
            break;
        }
    }
    assert_eq!(group.journal.status().segments, 1);
    let (reference, volumes, session) = (group.reference.clone(), group.volumes.clone(), group.session);
    let disk = group.disk.killed();
    disk.set_capacity(Some(0));
    let (mut group, report) = Group::open(disk, volumes).expect("it opens");
    assert!(report.damage.is_empty());
    group.reference = reference;
    assert_eq!(group.head(), group.reference.head());
    group.check_all(at(1));
    let same = Continuation::Same { session, laid: seq(1000), released: seq(1) };
    assert!(matches!(group.journal.grant(SPLITTER, life(2), &same), Err(JournalError::NoSpace { .. })));
    assert!(group.journal.commit_idle().is_ok(), "nothing is owed");
    group.disk.set_capacity(None);
    let granted = group.journal.grant(SPLITTER, life(2), &same).expect("grant");
    assert!(granted.consistent && !granted.fresh);
    assert_eq!(group.head(), group.reference.head().plus(2), "RECOVERY first, then the grant");
    group.catch_up();
    group.check_all(at(1));
}
