//! Which positions are offered, and what a point means.

mod common;

use common::{Group, SPLITTER, at, extent, lost};
use journal::{GapCause, MarkKind, PointError};
use record::conversation::Continuation;
use record::op::Op;
use record::point::Point;
use record::position::{Label, Position, Session};

fn resolve(group: &Group, point: &Point) -> Result<Position, PointError> {
    group.journal.resolve(point, false)
}

fn label_of(group: &Group, position: Position) -> Label {
    group.journal.image(position).expect("offered").at().label
}

#[test]
fn points_are_found_by_position_name_and_time() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 3));
    group.bookmark("first");
    group.laying.pass(5_000_000_000);
    group.write(volume, extent(1, 3));
    group.send();
    let head = group.head();
    assert_eq!(resolve(&group, &Point::Latest), Ok(head));
    assert_eq!(resolve(&group, &Point::Oldest), Ok(at(4)), "where the volume joined");
    assert_eq!(resolve(&group, &Point::Bookmark("first".into())), Ok(at(head.get() - 1)));
    assert_eq!(resolve(&group, &Point::Seq(at(5))), Ok(at(5)));
    // A time is the last position not after it; far in the future it is the newest.
    let bookmark = label_of(&group, at(head.get() - 1));
    for after in [0, 1, 4_000_000_000] {
        let time = Label::from_nanos(bookmark.nanos() + after);
        assert_eq!(resolve(&group, &Point::Time(time)), Ok(at(head.get() - 1)));
    }
    assert_eq!(resolve(&group, &Point::Time(Label::from_nanos(u64::MAX))), Ok(head));
    assert_eq!(resolve(&group, &Point::Ago(0)), Ok(head));
    assert_eq!(resolve(&group, &Point::Ago(1_000_000_000)), Ok(at(head.get() - 1)));
}

#[test]
fn the_time_of_every_position_is_exact_however_long_ago_it_was() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    let joined = group.head();
    // More than anybody keeps the labels of, in chunks of a few records each.
    let mut said = Vec::new();
    for n in 0..6000 {
        group.laying.pass(1_000 * (n % 7));
        group.mark(Op::Noop);
        said.push(group.laying.label());
        if n % 37 == 0 {
            group.write(volume, extent(0, 1));
            said.push(group.laying.label());
            group.send();
        }
    }
    group.send();
    let all: Vec<(Position, Label)> = (1..).map(|n| joined.plus(n)).zip(said).collect();
    assert_eq!(all.last().map(|(position, _)| *position), Some(group.head()));
    for (position, label) in &all {
        assert_eq!(label_of(&group, *position), *label, "seq:{position}");
    }
    let told: Vec<_> = all.iter().map(|(position, label)| (*position, Point::Time(*label))).collect();
    for (i, (_, time)) in told.iter().enumerate() {
        let last = all.iter().rposition(|(_, label)| *label == all[i].1).map(|last| all[last].0);
        assert_eq!(resolve(&group, time).ok(), last, "{time:?}");
    }
    // The same again when all of it was read from disk.
    let Group { disk, journal, volumes, .. } = group;
    journal.close().expect("closed");
    let (group, _) = Group::open(disk, volumes).expect("opened");
    for (position, label) in &all {
        assert_eq!(label_of(&group, *position), *label, "seq:{position}");
    }
}

#[test]
fn a_refused_point_says_why_and_names_the_window() {
    let mut group = Group::new(&[]);
    assert_eq!(resolve(&group, &Point::Latest), Err(PointError::NoVolume));
    assert_eq!(resolve(&group, &Point::Seq(at(1))), Err(PointError::NoVolume));
    group.laying.pass(1_000_000_000);
    group.join(40);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 3));
    group.send();
    let head = group.head();
    let unknown = resolve(&group, &Point::Bookmark("nope".into()));
    assert_eq!(unknown, Err(PointError::UnknownBookmark { name: "nope".into() }));
    match resolve(&group, &Point::Seq(at(1))) {
        Err(error @ PointError::OutsideWindow { window, .. }) => {
            assert_eq!((window.oldest.position, window.newest.position), (at(4), head));
            let text = error.to_string();
            assert!(text.contains("seq:1") && text.contains(&format!("seq:{head} (1970-01-01T00:00:01.")), "{text}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(resolve(&group, &Point::Seq(head.next())), Err(PointError::BeyondHead { .. })));
    assert!(matches!(resolve(&group, &Point::Time(Label::from_nanos(1))), Err(PointError::OutsideWindow { .. })));
    assert!(matches!(resolve(&group, &Point::Ago(u64::MAX)), Err(PointError::OutsideWindow { .. })));
}

#[test]
fn nothing_is_offered_between_the_loss_and_the_end_of_the_resync() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 9));
    group.bookmark("before");
    group.send();
    let last = group.head();
    // A record of the journal's own in between is not what the stream was last whole at.
    group.journal.commit_idle().expect("commit");
    assert!(!group.open_session(&lost()));
    assert!(group.journal.status().needs_resync);
    let begin = last.next();
    let refused = |group: &Group, position| match group.journal.image(position) {
        Err(PointError::InsideGap { gap, .. }) => gap,
        other => panic!("seq:{position}: {other:?}"),
    };
    assert_eq!(refused(&group, begin).begin.position, begin);
    group.mark(Op::ResyncBegin);
    group.write(volume, extent(3, 9));
    group.bookmark("inside");
    group.send();
    assert_eq!(resolve(&group, &Point::Latest), Ok(last), "the newest point is the last sound one");
    group.mark(Op::ResyncEnd);
    group.write(volume, extent(5, 9));
    group.send();
    let end = at(group.head().get() - 1);
    assert!(!group.journal.status().needs_resync);
    for n in begin.get()..end.get() {
        let gap = refused(&group, at(n));
        assert_eq!((gap.begin.position, gap.end.map(|e| e.position)), (begin, Some(end)));
        assert_eq!(gap.cause, GapCause::RecordsLost);
    }
    assert!(matches!(resolve(&group, &Point::Bookmark("inside".into())), Err(PointError::InsideGap { .. })));
    assert_eq!(resolve(&group, &Point::Bookmark("before".into())), Ok(at(last.get())));
    assert_eq!(resolve(&group, &Point::Latest), Ok(end.next()));
    for position in [last, end, end.next()] {
        group.check(position);
    }
    // All of it is so again after opening again.
    let (mut again, _) = Group::open(group.disk.killed(), group.volumes.clone()).expect("open");
    again.reference = group.reference.clone();
    again.catch_up();
    assert_eq!(again.journal.timeline().gaps, group.journal.timeline().gaps);
    assert_eq!(refused(&again, begin).end.map(|e| e.position), Some(end));
    again.check_all(at(1));
}

#[test]
fn the_gap_begins_where_the_stream_was_last_whole() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 9));
    group.send();
    let last = group.head();
    // Records of the journal's own in between do not move it.
    group.journal.commit_idle().expect("commit");
    group.journal.lose(group.session).expect("lose");
    group.catch_up();
    assert_eq!(resolve(&group, &Point::Latest), Ok(last));
    let gap = group.journal.timeline().gaps.first().cloned().expect("a gap");
    assert_eq!((gap.begin.position, gap.end), (last.next(), None));
    assert!(gap.to_string().contains("writes were not recorded"), "{gap}");
    // A resync that is lost as well does not close it; the next one does.
    assert!(!group.open_session(&Continuation::Same {
        session: group.session,
        laid: group.laying.next(),
        released: group.laying.next()
    }));
    group.mark(Op::ResyncBegin);
    group.send();
    group.journal.lose(group.session).expect("lose");
    group.catch_up();
    assert!(!group.open_session(&lost()));
    group.mark(Op::ResyncBegin);
    group.write(volume, extent(0, 40));
    group.mark(Op::ResyncEnd);
    group.send();
    let gaps = group.journal.timeline().gaps;
    assert_eq!(gaps.len(), 1);
    assert_eq!((gaps[0].begin.position, gaps[0].end.map(|e| e.position)), (last.next(), Some(group.head())));
}

#[test]
fn a_later_resync_in_a_sound_session_opens_a_gap_of_its_own() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 9));
    group.mark(Op::ResyncBegin);
    group.write(volume, extent(3, 9));
    group.mark(Op::ResyncEnd);
    group.send();
    let head = group.head().get();
    let gaps = group.journal.timeline().gaps;
    assert_eq!(gaps.len(), 1);
    assert_eq!(gaps[0].cause, GapCause::Resync);
    assert_eq!((gaps[0].begin.position, gaps[0].end.map(|e| e.position)), (at(head - 2), Some(at(head))));
    assert!(group.journal.image(at(head - 3)).is_ok() && group.journal.image(at(head)).is_ok());
}

#[test]
fn nothing_is_offered_from_a_failed_write_to_its_rereading() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 9));
    group.send();
    let before = group.head();
    group.indeterminate(volume, extent(2, 5));
    group.write(volume, extent(30, 2));
    group.send();
    assert_eq!(resolve(&group, &Point::Latest), Ok(before));
    let granted = group
        .journal
        .grant(
            SPLITTER,
            group.splitter,
            &Continuation::Same { session: group.session, laid: group.laying.next(), released: group.laying.next() },
        )
        .expect("grant");
    assert_eq!(granted.indeterminate, [(volume, extent(2, 5))]);
    // Read again in two parts; only both together close it.
    group.write(volume, extent(1, 3));
    group.send();
    assert!(matches!(group.journal.image(group.head()), Err(PointError::InsideGap { .. })));
    group.write(volume, extent(4, 4));
    group.send();
    let gap = &group.journal.timeline().gaps[0];
    assert_eq!(gap.cause, GapCause::FailedWrite);
    assert_eq!((gap.begin.position, gap.end.map(|e| e.position)), (before.next(), Some(group.head())));
    group.check(group.head());
    // A rollback leaves it behind: the restore writes those sectors too.
    group.indeterminate(volume, extent(2, 5));
    group.send();
    let changed = group.journal.changed_set(before).expect("a target");
    assert!(changed.extents.iter().any(|(_, e)| e.contains(extent(2, 5))), "{changed:?}");
    group.rollback(before);
    group.check(group.head());
    assert_eq!(resolve(&group, &Point::Latest), Ok(group.head()));
}

#[test]
fn the_first_of_a_name_keeps_it_until_it_is_removed() {
    let mut group = Group::new(&[40]);
    group.bookmark("b");
    group.mark(Op::Flush);
    group.bookmark("b");
    group.send();
    assert!(group.journal.bookmark_exists("b") && !group.journal.bookmark_exists("c"));
    let first = at(group.head().get() - 2);
    assert_eq!(resolve(&group, &Point::Bookmark("b".into())), Ok(first));
    assert!(group.journal.remove_bookmark("b", Label::default()).expect("remove"));
    assert!(!group.journal.remove_bookmark("b", Label::default()).expect("harmless"));
    group.catch_up();
    assert!(!group.journal.bookmark_exists("b"));
    group.bookmark("b");
    group.send();
    let (again, _) = Group::open(group.disk.killed(), Vec::new()).expect("open");
    assert_eq!(resolve(&again, &Point::Bookmark("b".into())), Ok(group.head()));
    assert_eq!(again.journal.timeline().bookmarks.len(), 1);
}

#[test]
fn a_timeline_shows_what_happened() {
    let mut group = Group::new(&[40, 24]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 9));
    group.mark(Op::Flush);
    group.laying.pass(60_000_000_000);
    group.punch(volume, extent(0, 9));
    group.punch(volume, extent(3, 9));
    group.send();
    let punched = at(group.head().get() - 1);
    group.rollback(at(punched.get() - 1));
    group.journal.leave(group.volumes[1].number, group.laying.label()).expect("leave");
    group.catch_up();
    let timeline = group.journal.timeline();
    let kinds: Vec<&MarkKind> = timeline.marks.iter().map(|mark| &mark.kind).collect();
    assert_eq!(
        kinds,
        [
            &MarkKind::Recovery { clean: true },
            &MarkKind::Joined { volume: "v1".into() },
            &MarkKind::Joined { volume: "v2".into() },
            &MarkKind::Flush,
            &MarkKind::PunchAfterPause,
            &MarkKind::Rollback { target: at(punched.get() - 1), id: 1 },
            &MarkKind::Left { volume: "v2".into() },
        ]
    );
    assert_eq!(timeline.marks[4].at.position, punched);
    assert_eq!((timeline.counts.of(Op::Punch), timeline.counts.of(Op::Write)), (2, 1));
    assert_eq!(timeline.counts.total(), timeline.head.position.get());
    let labels: Vec<Label> = timeline.marks.iter().map(|mark| mark.at.label).collect();
    assert!(labels.is_sorted());
}

#[test]
fn a_label_that_steps_back_does_not_move_time_back() {
    let mut group = Group::new(&[40]);
    group.laying.pass(10_000_000_000);
    group.mark(Op::Flush);
    group.send();
    let late = group.journal.timeline().head.label;
    // A stream whose labels are behind: taken, and shown as no earlier than what came before.
    group.laying = kit::Laying::new(common::ID, group.session, group.laying.next(), Label::from_nanos(5));
    group.mark(Op::Flush);
    group.send();
    assert_eq!(group.journal.timeline().head.label, late);
    assert_eq!(resolve(&group, &Point::Time(late)), Ok(group.head()));
    assert!(matches!(resolve(&group, &Point::Time(Label::from_nanos(5_000))), Err(PointError::OutsideWindow { .. })));
    assert_eq!(group.session, Session::new(1));
}

#[test]
fn an_image_behind_a_record_of_the_stream_has_what_came_before_it_and_nothing_else() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    let (begun, session) = (group.head(), group.session);
    let mut behind = vec![group.laying.next()];
    for sector in 0..18 {
        group.write(volume, extent(sector, 1));
        behind.push(group.laying.next());
        if sector % 3 == 2 {
            assert!(group.send());
            // The journal's own records in between are no part of the stream.
            group.journal.commit_idle().expect("commit");
            group.catch_up();
        }
    }
    let (before, after) = (group.reference.bytes(volume, begun), group.reference.bytes(volume, group.head()));
    for (written, at) in behind.iter().enumerate() {
        let image = group.journal.image_behind(session, *at).expect("a point").expect("durable");
        let mut bytes = vec![0; before.len()];
        image.read(volume, extent(0, 40), &mut bytes).expect("read");
        let (new, old) = bytes.split_at(written * 512);
        assert!(new == &after[..written * 512] && old == &before[written * 512..], "behind {written} writes");
    }
    let next = group.laying.next();
    assert!(group.journal.image_behind(session, next.next()).expect("no point").is_none(), "not durable yet");
    assert!(group.journal.image_behind(session.next(), next).expect("no point").is_none(), "another session");
}

#[test]
fn an_image_behind_the_newest_record_knows_of_a_rollback_since() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.write(volume, extent(0, 8));
    assert!(group.send());
    let target = group.head();
    group.write(volume, extent(4, 8));
    assert!(group.send());
    let laid = group.laying.next();
    group.rollback(target);
    let image = group.journal.image_behind(group.session, laid).expect("a point").expect("durable");
    assert_eq!(image.at().position, group.head());
    group.check_image(&image);
}
