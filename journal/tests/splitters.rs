//! Several splitters in one group: each has its own stream, and only barriers are points across them.

mod common;

use common::{ID, SPLITTER, create, extent, join_request, lost};
use journal::{AppendError, Granted, Journal, MarkKind, Opened, PointError};
use kit::{Laying, MemBase, SimDisk};
use record::conversation::Continuation;
use record::ids::{Incarnation, SplitterId};
use record::member::BarrierNote;
use record::op::Op;
use record::point::Point;
use record::position::{Label, Position, Session, SplitterIncarnation, StreamSeq};
use std::sync::Arc;

const OTHER: SplitterId = SplitterId::from_bytes(*b"another splitter");
const SECTORS: u64 = 16;

/// One splitter: its stream and its volume.
struct Host {
    splitter: SplitterId,
    laying: Laying,
    session: Session,
    volume: Incarnation,
}

struct Both {
    disk: SimDisk,
    journal: Journal,
    hosts: [Host; 2],
    counter: u8,
}

fn stream(granted: &Granted) -> Laying {
    Laying::new(ID, granted.session, granted.expected, granted.label)
}

impl Both {
    fn new() -> Self {
        let disk = SimDisk::new();
        create(&disk);
        let Opened { journal, .. } = Journal::open_on(disk.shared()).expect("open");
        let hosts = [(SPLITTER, 1), (OTHER, 2)].map(|(splitter, n)| {
            let granted = journal.grant(splitter, SplitterIncarnation::FIRST, &lost()).expect("grant");
            assert!(granted.fresh && granted.consistent);
            let request = journal::JoinRequest { splitter, ..join_request(n, &format!("v{n}"), SECTORS) };
            let volume = journal.join(&request, Label::from_nanos(1)).expect("join");
            Host { splitter, laying: stream(&granted), session: granted.session, volume }
        });
        let both = Self { disk, journal, hosts, counter: 0 };
        both.attach();
        for host in &both.hosts {
            both.journal.base_reset(host.volume).expect("reset");
            both.journal.joined(host.volume, Label::from_nanos(2)).expect("joined");
        }
        both
    }

    fn attach(&self) {
        for host in &self.hosts {
            self.journal.attach_base_device(host.volume, Arc::new(MemBase::new(SECTORS))).expect("attach");
        }
    }

    fn send(&mut self, host: usize) -> Result<StreamSeq, AppendError> {
        let Some(body) = self.hosts[host].laying.seal() else { return Ok(self.hosts[host].laying.next()) };
        let marks = self.journal.append_many(self.hosts[host].session, &[(&body.header, &body.payload)])?;
        Ok(marks.durable)
    }

    /// The next number, on the first sector of a host's volume.
    fn write(&mut self, host: usize) {
        self.counter += 1;
        let (volume, content) = (self.hosts[host].volume, vec![self.counter; 512]);
        self.hosts[host].laying.write(volume, extent(0, 1), content);
        self.send(host).expect("append");
    }

    fn place(&mut self, host: usize, id: u64, name: &str) {
        let mut sessions: Vec<Session> = self.hosts.iter().map(|host| host.session).collect();
        sessions.sort_unstable();
        let note = BarrierNote { id, ticket: 7, sessions, name: name.to_owned() };
        self.hosts[host].laying.note(Op::Barrier, note.encode());
        self.send(host).expect("append");
    }

    fn shows(&self, position: Position) -> [u8; 2] {
        let image = self.journal.image(position).expect("an image");
        [0, 1].map(|host| {
            let mut sector = [0; 512];
            image.read(self.hosts[host].volume, extent(0, 1), &mut sector).expect("read");
            sector[0]
        })
    }

    fn resolve(&self, point: &Point) -> Result<Position, PointError> {
        self.journal.resolve(point, false)
    }

    fn killed(self) -> Self {
        let disk = self.disk.killed();
        let Opened { journal, .. } = Journal::open_on(disk.shared()).expect("open");
        let both = Self { disk, journal, ..self };
        both.attach();
        both
    }
}

#[test]
fn each_splitter_has_a_stream_of_its_own_and_both_survive_a_kill() {
    let mut both = Both::new();
    assert_ne!(both.hosts[0].session, both.hosts[1].session);
    for host in [0, 1, 1, 0, 1] {
        both.write(host);
    }
    let mut both = both.killed();
    for (host, next) in [(0, 3), (1, 4)] {
        let Host { splitter, session, .. } = both.hosts[host];
        let marks = both.journal.watermarks(session).expect("its session");
        assert_eq!((marks.splitter, marks.durable), (splitter, StreamSeq::new(next)));
        let same = Continuation::Same { session, laid: StreamSeq::new(next), released: StreamSeq::FIRST };
        let granted = both.journal.grant(splitter, SplitterIncarnation::new(2), &same).expect("grant");
        assert!(!granted.fresh && granted.consistent && granted.session == session);
        assert!(both.journal.holds(splitter, session, StreamSeq::new(next)));
        assert!(!both.journal.holds(splitter, session, StreamSeq::new(next + 1)));
    }
    both.write(0);
    both.write(1);
}

#[test]
fn a_fresh_session_of_one_fences_its_older_ones_and_not_the_other_splitter() {
    let mut both = Both::new();
    let granted = both.journal.grant(OTHER, SplitterIncarnation::new(2), &lost()).expect("grant");
    assert!(granted.fresh && !granted.consistent);
    let volume = both.hosts[1].volume;
    both.hosts[1].laying.write(volume, extent(3, 1), vec![1; 512]);
    assert!(matches!(both.send(1), Err(AppendError::Fenced { .. })));
    both.write(0);
    // Only the one that lost something can close the gap.
    both.hosts[0].laying.mark(Op::ResyncBegin);
    both.hosts[0].laying.mark(Op::ResyncEnd);
    both.send(0).expect("append");
    assert!(both.journal.has_open_gap());
    (both.hosts[1].session, both.hosts[1].laying) = (granted.session, stream(&granted));
    both.hosts[1].laying.mark(Op::ResyncBegin);
    both.hosts[1].laying.mark(Op::ResyncEnd);
    both.send(1).expect("append");
    assert!(!both.journal.has_open_gap());
    // And one that serves nothing any more owes nothing.
    both.journal.lose(granted.session).expect("lose");
    assert!(both.journal.has_open_gap());
    both.journal.leave(volume, Label::from_nanos(9)).expect("leave");
    assert!(!both.journal.has_open_gap());
}

#[test]
fn a_splitter_may_not_write_to_a_volume_of_another() {
    let mut both = Both::new();
    let foreign = both.hosts[0].volume;
    both.hosts[1].laying.write(foreign, extent(0, 1), vec![1; 512]);
    let refused = both.send(1);
    assert!(
        matches!(&refused, Err(AppendError::Record { why, .. }) if why.contains("another splitter")),
        "{refused:?}"
    );
}

#[test]
fn only_barriers_are_points_and_they_are_so_again_after_a_kill() {
    let mut both = Both::new();
    both.write(0);
    both.write(1);
    both.place(1, 1, "noon");
    both.place(0, 1, "noon");
    let noon = both.journal.timeline().head.position;
    both.write(0);
    both.write(1);
    let after = both.journal.timeline().head.position;
    let check = |both: &Both| {
        assert_eq!(both.resolve(&Point::Bookmark("noon".into())), Ok(noon));
        assert_eq!(both.resolve(&Point::Latest), Ok(noon));
        assert_eq!(both.resolve(&Point::Ago(0)), Ok(noon), "by time, the last barrier before it");
        assert_eq!(both.shows(noon), [1, 2]);
        let refused = both.resolve(&Point::Seq(after));
        assert!(
            matches!(&refused, Err(PointError::NotABarrier { before: Some(at), after: None, .. }) if at.position == noon),
            "{refused:?}"
        );
        assert_eq!(both.journal.resolve(&Point::Seq(after), true), Ok(after), "waived");
        assert_eq!(both.shows(after), [3, 4]);
        let view = both.journal.timeline();
        assert!(view.barriers_only && view.marks.iter().any(|mark| mark.kind == MarkKind::Barrier));
        assert_eq!(view.bookmarks[0].ticket, 7);
    };
    check(&both);
    check(&both.killed());
}

#[test]
fn a_splitter_that_went_on_before_the_barrier_was_whole_makes_it_none() {
    let mut both = Both::new();
    both.place(0, 1, "broken");
    both.write(0);
    both.place(1, 1, "broken");
    assert!(!both.journal.bookmark_exists("broken"));
    assert!(matches!(both.resolve(&Point::Latest), Err(PointError::NotABarrier { .. }) | Ok(_)));
    both.place(0, 2, "whole");
    both.place(1, 2, "whole");
    assert_eq!(both.resolve(&Point::Latest), both.resolve(&Point::Bookmark("whole".into())));
}

#[test]
fn once_one_splitter_is_left_every_write_is_a_point_again() {
    let mut both = Both::new();
    both.write(0);
    let between = both.journal.timeline().head.position;
    both.journal.leave(both.hosts[1].volume, Label::from_nanos(9)).expect("leave");
    both.write(0);
    let head = both.journal.timeline().head.position;
    assert_eq!(both.resolve(&Point::Latest), Ok(head));
    assert!(both.resolve(&Point::Seq(between)).is_err());
}
