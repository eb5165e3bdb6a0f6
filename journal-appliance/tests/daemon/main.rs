//! A whole appliance in a temporary folder, driven over its real sockets by a fake splitter and a real client.
//!
//! Goal: what the conversation promises holds from one end to the other, across reconnects, rivals and restarts.
//! Image devices need the kernel's ublk driver and are shown by the suites in the guest; here an image is read through
//! the journal.

mod fake;
mod keeping;
mod losses;
mod telling;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use control::answer::{Answer, Health, Outcome};
use control::client::{Client, Daemon};
use control::error::{ControlError, Kind};
use control::paths::Paths;
use control::point::PointSpec;
use control::request::{ApplianceRequest, AttachVolume};
use fake::{Grant, Link, Outbox, PATIENCE, Rec, bare, bookmark, ext, punch, write};
use journal::Reader;
use journal_appliance::operate::Appliance;
use record::conversation::{Content, Continuation, ToAppliance, ToSplitter, VolumeExtent};
use record::geometry::Extent;
use record::ids::{GroupId, Incarnation};
use record::op::Op;
use record::position::{Position, StreamSeq};

const SECTORS: u64 = 2048;
const VOLUME: &str = "00112233445566778899aabbccddeeff";

/// An appliance in a folder of its own; can be stopped and started again.
struct World {
    folder: tempfile::TempDir,
    paths: Paths,
    running: Option<(tokio::sync::oneshot::Sender<()>, JoinHandle<()>)>,
}

impl World {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("folder");
        let place = |name: &str| folder.path().join(name);
        let paths = Paths::new(place("state"), place("run"), place("undisk.toml"));
        let mut world = Self { folder, paths, running: None };
        world.start();
        world
    }

    fn start(&mut self) {
        let (end, ended) = tokio::sync::oneshot::channel();
        let appliance = Appliance::start(&self.paths).expect("start");
        let thread = std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("runtime");
            let running: Arc<Appliance> = appliance;
            runtime.block_on(running.run(async { drop(ended.await) })).expect("run");
        });
        self.running = Some((end, thread));
        let socket = self.paths.appliance_socket();
        until(|| socket.exists(), "the control socket");
    }

    fn stop(&mut self) {
        if let Some((end, thread)) = self.running.take() {
            let _ = end.send(());
            thread.join().expect("the appliance ends");
        }
    }

    fn ask(&self, request: &ApplianceRequest) -> Result<Answer, ControlError> {
        Client::new(Daemon::Appliance, self.paths.appliance_socket()).ask(request, PATIENCE * 4, |_| ())
    }

    /// Asks in the background: the answer waits for the splitter.
    fn asking(&self, request: ApplianceRequest) -> JoinHandle<Result<Answer, ControlError>> {
        let client = Client::new(Daemon::Appliance, self.paths.appliance_socket());
        std::thread::spawn(move || client.ask(&request, PATIENCE * 4, |_| ()))
    }

    fn attach(&self, name: &str, id: &str) -> control::answer::Attached {
        match self.ask(&ApplianceRequest::AttachVolume(attach(name, id))) {
            Ok(Answer::Attached(attached)) => attached,
            other => panic!("not attached: {other:?}"),
        }
    }

    fn health(&self) -> Health {
        match self.ask(&ApplianceRequest::GroupStatus { name: Some("g".to_owned()) }) {
            Ok(Answer::Groups { groups }) => groups[0].health.clone(),
            other => panic!("no status: {other:?}"),
        }
    }

    fn outbox(&self) -> Outbox {
        Outbox::new(&self.folder.path().join("outbox"))
    }

    fn link(&self) -> Link {
        Link::connect(&self.paths.link_socket())
    }

    fn journal(&self) -> PathBuf {
        self.paths.state().join("groups/g/journal")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

fn attach(name: &str, id: &str) -> AttachVolume {
    AttachVolume {
        group: "g".to_owned(),
        create_group: true,
        volume_id: id.to_owned(),
        name: name.to_owned(),
        sectors: SECTORS,
        block_bytes: 512,
        splitter_id: fake::SPLITTER.to_string(),
        splitter: "main".to_owned(),
        replica: None,
        dry_run: false,
    }
}

fn until(mut done: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lost() -> Continuation {
    Continuation::Lost { reason: "first".to_owned() }
}

fn latest() -> PointSpec {
    PointSpec::Latest
}

/// A world whose only volume has joined with content of ones, and the splitter's end of it.
struct Joined {
    world: World,
    link: Link,
    outbox: Outbox,
    grant: Grant,
    group: GroupId,
    volume: Incarnation,
    next: u64,
}

impl Joined {
    fn new() -> Self {
        let world = World::new();
        let attached = world.attach("v", VOLUME);
        assert_eq!((attached.outcome, attached.group_created), (Outcome::Created, true));
        let group = GroupId::parse(&attached.group_id).expect("id");
        let outbox = world.outbox();
        let mut link = world.link();
        link.open(group, 1, lost(), &outbox.path);
        let grant = link.granted();
        assert_eq!(grant.expected, StreamSeq::FIRST);
        assert!(grant.consistent, "nothing can have been lost before there was anything");
        let volume = Incarnation::new(attached.incarnation);
        assert_eq!(grant.members.iter().map(|m| (m.volume, m.joined)).collect::<Vec<_>>(), [(volume, false)]);
        // The answer goes out first.
        until(|| world.health() == Health::Synchronising, "the link");
        link.synchronise(volume, &vec![1; 1 << 20]);
        assert_eq!(world.health(), Health::Protected);
        Self { world, link, outbox, grant, group, volume, next: 1 }
    }

    /// Lays records as one chunk, sends it and waits until it is durable.
    fn append(&mut self, records: &[Rec]) {
        let chunk = self.outbox.lay(&self.grant, self.next, records);
        self.link.say(&chunk);
        self.next += records.len() as u64;
        self.link.acked(self.next, false);
    }

    fn same(&self) -> Continuation {
        let (laid, released) = (StreamSeq::new(self.next), StreamSeq::FIRST);
        Continuation::Same { session: self.grant.session, laid, released }
    }

    fn reconnect(&mut self) {
        self.link = self.world.link();
        self.link.open(self.group, 1, self.same(), &self.outbox.path);
        self.grant = self.link.granted();
    }

    /// The volume's content as the journal on disk has it at this position; `None`: the newest.
    fn content(&self, position: Option<u64>) -> Vec<u8> {
        let (reader, _) = Reader::open(&self.world.journal()).expect("reader");
        let replica = self.world.paths.state().join(format!("groups/g/replica-{}.img", self.volume));
        reader.attach_base(self.volume, &replica).expect("replica");
        let image = match position {
            Some(position) => reader.image(Position::new(position)).expect("image"),
            None => reader.live_image(),
        };
        let mut content = vec![0; 1 << 20];
        image.read(self.volume, ext(0, SECTORS), &mut content).expect("read");
        content
    }

    fn add_bookmark(&mut self, name: &str) -> control::answer::Bookmark {
        self.add_held_bookmark(name, None)
    }

    fn add_held_bookmark(&mut self, name: &str, hold_until_ns: Option<u64>) -> control::answer::Bookmark {
        let (group, name) = ("g".to_owned(), name.to_owned());
        let asked = self.world.asking(ApplianceRequest::BookmarkAdd { group, name, hold_until_ns });
        let (ticket, name) = match self.link.word() {
            ToSplitter::LayBookmark { ticket, name } => (ticket, name),
            other => panic!("not LAY_BOOKMARK: {other:?}"),
        };
        self.append(&[bookmark(ticket, &name)]);
        match asked.join().expect("asker") {
            Ok(Answer::Bookmark { outcome: Outcome::Created, bookmark }) => bookmark,
            other => panic!("no bookmark: {other:?}"),
        }
    }
}

#[test]
fn what_a_splitter_sends_is_acknowledged_durable_then_committed_and_is_in_the_image() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 8, vec![7; 4096]), punch(at.volume, 16, 8), bare(Op::Flush)]);
    let (durable, committed) = at.link.acked(4, true);
    assert_eq!((durable, committed), (4, 4), "the mark follows although nothing more is sent");
    let content = at.content(None);
    assert!(content[8 * 512..16 * 512].iter().all(|b| *b == 7));
    assert!(content[16 * 512..24 * 512].iter().all(|b| *b == 0));
    assert!(content[24 * 512..].iter().all(|b| *b == 1));
}

#[test]
fn a_chunk_sent_twice_is_acknowledged_twice_and_one_too_far_is_named() {
    let mut at = Joined::new();
    let one = at.outbox.lay(&at.grant, 1, &[write(at.volume, 0, vec![2; 512])]);
    let two = at.outbox.lay(&at.grant, 2, &[write(at.volume, 0, vec![3; 512])]);
    let three = at.outbox.lay(&at.grant, 3, &[write(at.volume, 0, vec![4; 512])]);
    at.link.say(&one);
    at.link.acked(2, true);
    at.link.say(&one);
    at.link.acked(2, true);
    at.link.say(&three);
    let session = at.grant.session;
    assert_eq!(at.link.word(), ToSplitter::Nak { session, expected: StreamSeq::new(2) });
    at.link.say(&two);
    at.link.say(&three);
    at.link.acked(4, true);
    assert_eq!(at.content(None)[0], 4);
}

#[test]
fn a_chunk_that_was_changed_on_the_way_is_never_stored() {
    let mut at = Joined::new();
    let chunk = at.outbox.lay(&at.grant, 1, &[write(at.volume, 0, vec![2; 4096])]);
    let ToAppliance::Chunk { payload_at, .. } = chunk else { panic!("a chunk") };
    let file = std::fs::OpenOptions::new().write(true).open(&at.outbox.path).expect("outbox");
    std::os::unix::fs::FileExt::write_all_at(&file, &[9], payload_at + 100).expect("damage");
    at.link.say(&chunk);
    assert!(matches!(at.link.word(), ToSplitter::Refused { retry: true, .. }));
    at.link.ended();
    at.reconnect();
    assert_eq!(at.grant.expected, StreamSeq::FIRST);
    assert_eq!(at.content(None)[0], 1);
}

#[test]
fn the_same_session_goes_on_after_a_reconnect_and_after_a_restart_of_the_appliance() {
    let mut at = Joined::new();
    let session = at.grant.session;
    at.append(&[write(at.volume, 0, vec![5; 512])]);
    at.reconnect();
    assert_eq!((at.grant.session, at.grant.expected.get(), at.grant.consistent), (session, 2, true));
    at.append(&[write(at.volume, 1, vec![6; 512])]);
    at.world.stop();
    at.link.ended();
    at.world.start();
    assert_eq!(at.world.health(), Health::Unlinked);
    at.reconnect();
    assert_eq!((at.grant.session, at.grant.expected.get(), at.grant.consistent), (session, 3, true));
    assert_eq!(at.grant.members.len(), 1);
    at.append(&[write(at.volume, 2, vec![7; 512])]);
    assert_eq!(at.content(None)[..1536], [[5; 512], [6; 512], [7; 512]].concat());
}

#[test]
fn a_newer_link_ends_the_older_one_and_an_older_splitter_is_refused() {
    let mut at = Joined::new();
    let mut newer = at.world.link();
    newer.open(at.group, 2, at.same(), &at.outbox.path);
    let grant = newer.granted();
    at.link.ended();
    let mut older = at.world.link();
    older.open(at.group, 1, at.same(), &at.outbox.path);
    assert!(matches!(older.expect(), ToSplitter::Refused { retry: false, .. }));
    let chunk = at.outbox.lay(&grant, grant.expected.get(), &[bare(Op::Flush)]);
    newer.say(&chunk);
    newer.acked(grant.expected.get() + 1, false);
}

#[test]
fn strangers_are_told_why_they_are_not_served() {
    let world = World::new();
    let mut link = world.link();
    link.open(GroupId::from_bytes([9; 16]), 1, lost(), Path::new("/nowhere"));
    assert!(matches!(link.expect(), ToSplitter::Refused { retry: false, reason } if reason.contains("no group")));
    let mut link = world.link();
    link.say(&ToAppliance::Open {
        version: 77,
        group: GroupId::from_bytes([9; 16]),
        splitter: fake::SPLITTER,
        name: "main".to_owned(),
        life: record::position::SplitterIncarnation::new(1),
        continuation: lost(),
        outbox: String::new(),
        relied: None,
    });
    let ToSplitter::Refused { retry: false, reason } = link.expect() else { panic!("refused") };
    assert!(reason.contains("version 77") && reason.contains("version 4"), "{reason}");
    let mut link = world.link();
    link.say(&ToAppliance::Alive {});
    assert!(matches!(link.expect(), ToSplitter::Refused { retry: false, .. }));
}

#[test]
fn a_bookmark_is_laid_by_the_splitter_and_answered_when_durable() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 0, vec![5; 512])]);
    let made = at.add_bookmark("before");
    at.append(&[write(at.volume, 0, vec![6; 512])]);
    assert_eq!(at.content(Some(made.position))[0], 5);
    let request =
        ApplianceRequest::BookmarkAdd { group: "g".to_owned(), name: "before".to_owned(), hold_until_ns: None };
    let error = at.world.ask(&request).expect_err("taken");
    assert_eq!(error.kind, Kind::Refused, "{error}");
    match at.world.ask(&ApplianceRequest::BookmarkList { group: "g".to_owned() }) {
        Ok(Answer::Bookmarks { bookmarks }) => assert_eq!(bookmarks, [made]),
        other => panic!("{other:?}"),
    }
    let remove = ApplianceRequest::BookmarkRemove { group: "g".to_owned(), name: "before".to_owned() };
    assert!(matches!(at.world.ask(&remove), Ok(Answer::Done { outcome: Outcome::Changed, .. })));
    assert_eq!(at.world.ask(&remove).expect_err("gone").kind, Kind::NotFound);
}

#[test]
fn a_bookmark_that_the_splitter_refuses_or_nobody_can_lay_is_an_error() {
    let mut at = Joined::new();
    let request = ApplianceRequest::BookmarkAdd { group: "g".to_owned(), name: "b".to_owned(), hold_until_ns: None };
    let asked = at.world.asking(request.clone());
    let ToSplitter::LayBookmark { ticket, .. } = at.link.word() else { panic!("LAY_BOOKMARK") };
    at.link.say(&ToAppliance::BookmarkRefused { ticket, reason: "the outbox is full".to_owned() });
    let error = asked.join().expect("asker").expect_err("refused");
    assert!(error.message.contains("the outbox is full"), "{error}");
    // The appliance may notice the end of the link only after it has told that link to lay the bookmark.
    drop(at.link);
    let error = at.world.ask(&request).expect_err("no splitter");
    let said = |words| error.message.contains(words);
    assert!(said("no splitter is linked") || said("the splitter went away after it was told"), "{error}");
}

#[test]
fn a_bookmark_is_given_up_when_the_splitter_that_was_told_stays_away() {
    let mut at = Joined::new();
    let request = ApplianceRequest::BookmarkAdd { group: "g".to_owned(), name: "b".to_owned(), hold_until_ns: None };
    let asked = at.world.asking(request);
    let ToSplitter::LayBookmark { .. } = at.link.word() else { panic!("LAY_BOOKMARK") };
    drop(at.link);
    let error = asked.join().expect("asker").expect_err("gone");
    assert!(error.message.contains("the splitter went away after it was told"), "{error}");
}

#[test]
fn lost_records_open_a_gap_that_only_a_resynchronisation_closes() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 0, vec![5; 512])]);
    at.link.say(&ToAppliance::Lost { session: at.grant.session, reason: "outbox full".to_owned() });
    until(|| matches!(at.world.health(), Health::NeedsResync { .. }), "the gap");
    let request = ApplianceRequest::BookmarkAdd { group: "g".to_owned(), name: "b".to_owned(), hold_until_ns: None };
    let error = at.world.ask(&request).expect_err("gap");
    assert_eq!((error.kind, error.hint.as_deref()), (Kind::Refused, Some("undisk group resync g")));

    at.link = at.world.link();
    at.link.open(at.group, 1, lost(), &at.outbox.path);
    at.grant = at.link.granted();
    assert!(!at.grant.consistent);
    at.next = at.grant.expected.get();
    at.append(&[bare(Op::ResyncBegin), write(at.volume, 0, vec![6; 512])]);
    assert!(matches!(at.world.health(), Health::NeedsResync { .. }), "not yet");
    at.append(&[bare(Op::ResyncEnd)]);
    until(|| at.world.health() == Health::Protected, "the end of the gap");
    match at.world.ask(&ApplianceRequest::PointList { group: "g".to_owned() }) {
        Ok(Answer::Points(timeline)) => {
            assert_eq!(timeline.gaps.len(), 1);
            let gap = &timeline.gaps[0];
            assert!(gap.end.is_some());
            let point = PointSpec::Seq { position: gap.begin };
            let plan = ApplianceRequest::RollbackPlan { group: "g".to_owned(), point, any_point: false };
            assert_eq!(at.world.ask(&plan).expect_err("inside").kind, Kind::Refused);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn initial_synchronisation_does_not_hold_up_what_hosts_write() {
    let world = World::new();
    let attached = world.attach("v", VOLUME);
    let group = GroupId::parse(&attached.group_id).expect("id");
    let volume = Incarnation::new(attached.incarnation);
    let mut outbox = world.outbox();
    let mut link = world.link();
    link.open(group, 1, lost(), &outbox.path);
    let grant = link.granted();
    link.say(&ToAppliance::SyncBegin { volume });
    link.say(&ToAppliance::SyncZero { volume, extent: ext(0, 1024) });
    link.say(&outbox.lay(&grant, 1, &[write(volume, 0, vec![9; 512])]));
    link.say(&ToAppliance::SyncZero { volume, extent: ext(1024, 1024) });
    let mut bytes = 0;
    let mut durable = 1;
    while bytes < SECTORS * 512 || durable < 2 {
        match link.expect() {
            ToSplitter::SyncAck { bytes: done, .. } => bytes = done,
            ToSplitter::Ack { durable: done, .. } => durable = done.get(),
            other => panic!("{other:?}"),
        }
    }
    link.say(&ToAppliance::SyncEnd { volume });
    loop {
        match link.expect() {
            ToSplitter::Joined { .. } => break,
            ToSplitter::Ack { .. } => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(world.health(), Health::Protected);
}

/// The splitter's part of a rollback up to the list of what is owed.
fn hold_for_rollback(at: &mut Joined) -> u64 {
    let (id, ticket, name) = loop {
        match at.link.expect() {
            ToSplitter::RollbackPrepare { id, ticket, name, barrier: None } => break (id, ticket, name),
            ToSplitter::Ack { .. } => {}
            other => panic!("not ROLLBACK_PREPARE: {other:?}"),
        }
    };
    assert!(name.starts_with("before-rollback-"), "{name}");
    at.append(&[bookmark(ticket, &name)]);
    at.link.say(&ToAppliance::RollbackReady { id });
    id
}

/// Reads what is owed as a splitter would, into a copy of the backing.
fn restore(at: &mut Joined, backing: &mut [u8], owed: &[VolumeExtent]) {
    for VolumeExtent { volume, extent } in owed {
        at.link.say(&ToAppliance::RestoreRead { volume: *volume, extent: *extent });
        let pieces = loop {
            match at.link.expect() {
                ToSplitter::RestoreData { extent: which, pieces, trouble, .. } => {
                    assert_eq!((which, trouble.as_str()), (*extent, ""));
                    break pieces;
                }
                ToSplitter::Ack { .. } => {}
                other => panic!("not RESTORE_DATA: {other:?}"),
            }
        };
        for piece in pieces {
            let range = bytes(piece.extent);
            match piece.content {
                Content::Data { bytes } => backing[range].copy_from_slice(&bytes.0),
                Content::Zero {} | Content::Hole {} => backing[range].fill(0),
            }
        }
    }
}

/// Waits until the appliance has heard all that was said: frames of one connection keep their order, those of the next
/// may overtake them.
fn settle(at: &mut Joined) {
    at.link.say(&ToAppliance::RestoreRead { volume: at.volume, extent: ext(0, 1) });
    while !matches!(at.link.expect(), ToSplitter::RestoreData { .. }) {}
}

fn bytes(extent: Extent) -> std::ops::Range<usize> {
    let at = |sector: u64| usize::try_from(sector * 512).expect("small");
    at(extent.start().index())..at(extent.end())
}

/// A history with a bookmark and a disaster behind it; the content at the bookmark and now.
fn disaster(at: &mut Joined) -> (Vec<u8>, Vec<u8>) {
    at.append(&[write(at.volume, 0, vec![5; 8192])]);
    at.add_bookmark("good");
    let good = at.content(None);
    at.append(&[punch(at.volume, 0, 8), write(at.volume, 100, vec![6; 1024])]);
    let bad = at.content(None);
    assert_ne!(good, bad);
    (good, bad)
}

fn rollback_to(name: &str) -> ApplianceRequest {
    ApplianceRequest::Rollback {
        group: "g".to_owned(),
        point: PointSpec::Bookmark { name: name.to_owned() },
        any_point: false,
        // There is no splitter's control socket here to tell which devices to look at.
        force: true,
    }
}

#[test]
fn a_rollback_restores_the_backing_and_can_be_undone() {
    let mut at = Joined::new();
    let (good, bad) = disaster(&mut at);
    let plan = ApplianceRequest::RollbackPlan {
        group: "g".to_owned(),
        point: PointSpec::Bookmark { name: "good".to_owned() },
        any_point: false,
    };
    let Ok(Answer::RollbackPlan(plan)) = at.world.ask(&plan) else { panic!("plan") };
    assert_eq!((plan.writes_given_up, plan.punches_given_up), (1, 1));

    let mut backing = bad.clone();
    let mut undo = "good".to_owned();
    for wanted in [&good, &bad] {
        let asked = at.world.asking(rollback_to(&undo));
        let id = hold_for_rollback(&mut at);
        let owed = at.link.owed(id);
        assert!(!owed.is_empty());
        restore(&mut at, &mut backing, &owed);
        at.link.say(&ToAppliance::RestoreDone { id, extents: owed });
        assert_eq!(at.link.owed(id), [], "only now the splitter may let its hosts go on");
        let Ok(Answer::RolledBack(done)) = asked.join().expect("asker") else { panic!("rolled back") };
        assert!(backing == **wanted && at.content(None) == **wanted);
        undo = done.undo_bookmark;
    }
}

#[test]
fn a_committed_rollback_survives_reconnect_restart_and_the_asker() {
    let mut at = Joined::new();
    let (good, bad) = disaster(&mut at);
    let asked = at.world.asking(rollback_to("good"));
    let id = hold_for_rollback(&mut at);
    let owed = at.link.owed(id);
    let mut backing = bad;
    // Half of it is done, then the link breaks.
    restore(&mut at, &mut backing, &owed[..1]);
    at.link.say(&ToAppliance::RestoreDone { id, extents: owed[..1].to_vec() });
    settle(&mut at);
    at.reconnect();
    assert_eq!(at.grant.restoring, Some(id));
    let left = at.link.owed(id);
    let total = |owed: &[VolumeExtent]| owed.iter().map(|e| e.extent.bytes()).sum::<u64>();
    assert_eq!(total(&left), total(&owed[1..]));
    // The appliance dies, and its asker with it.
    at.world.stop();
    assert!(asked.join().expect("asker").is_err());
    at.world.start();
    at.reconnect();
    assert_eq!(at.grant.restoring, Some(id));
    let left = at.link.owed(id);
    let error = at.world.ask(&rollback_to("good")).expect_err("one at a time");
    assert_eq!(error.kind, Kind::Refused, "{error}");
    restore(&mut at, &mut backing, &left);
    at.link.say(&ToAppliance::RestoreDone { id, extents: left });
    settle(&mut at);
    at.reconnect();
    assert_eq!(at.grant.restoring, None);
    assert!(backing == good && at.content(None) == good);
}

#[test]
fn a_rollback_that_cannot_be_prepared_changes_nothing() {
    let mut at = Joined::new();
    let (_, bad) = disaster(&mut at);
    let asked = at.world.asking(rollback_to("good"));
    let ToSplitter::RollbackPrepare { id, .. } = at.link.word() else { panic!("ROLLBACK_PREPARE") };
    at.link.say(&ToAppliance::RollbackRefused { id, reason: "a request hangs".to_owned() });
    // Hosts that are held for one that was given up are not held for ever.
    at.link.say(&ToAppliance::RollbackReady { id });
    assert_eq!(at.link.word(), ToSplitter::RollbackAbort { id });
    let error = asked.join().expect("asker").expect_err("refused");
    assert!(error.message.contains("a request hangs") && error.message.contains("nothing was changed"), "{error}");

    // Ready, but the bookmark that would undo it never came.
    let asked = at.world.asking(rollback_to("good"));
    let ToSplitter::RollbackPrepare { id, .. } = at.link.word() else { panic!("ROLLBACK_PREPARE") };
    at.link.say(&ToAppliance::RollbackReady { id });
    assert_eq!(at.link.word(), ToSplitter::RollbackAbort { id });
    assert!(asked.join().expect("asker").is_err());

    // The link breaks before the commit.
    let asked = at.world.asking(rollback_to("good"));
    let ToSplitter::RollbackPrepare { .. } = at.link.word() else { panic!("ROLLBACK_PREPARE") };
    at.reconnect();
    assert_eq!(at.grant.restoring, None);
    assert!(asked.join().expect("asker").is_err());
    assert!(at.content(None) == bad);
}

#[test]
fn attaching_can_be_repeated_planned_refused_and_undone() {
    let world = World::new();
    let mut plan = attach("v", VOLUME);
    plan.dry_run = true;
    let Ok(Answer::Attached(planned)) = world.ask(&ApplianceRequest::AttachVolume(plan)) else { panic!("plan") };
    assert!(planned.group_created && planned.journal_bytes > 0);
    assert!(!world.paths.state().join("groups").exists(), "a plan makes nothing");

    let first = world.attach("v", VOLUME);
    let again = world.attach("v", VOLUME);
    assert_eq!((again.outcome, again.incarnation, &again.group_id), (Outcome::AlreadySo, 1, &first.group_id));
    assert_eq!((&again.replica, &again.journal), (&planned.replica, &planned.journal));
    let refused = |ask: AttachVolume| world.ask(&ApplianceRequest::AttachVolume(ask)).expect_err("refused").kind;
    assert_eq!(refused(attach("v", "ff112233445566778899aabbccddeeff")), Kind::Refused, "name taken");
    let mut other = attach("w", "ff112233445566778899aabbccddeeff");
    other.group = "h".to_owned();
    other.create_group = false;
    assert_eq!(refused(other.clone()), Kind::NotFound, "no such group");
    other.create_group = true;
    other.replica = Some(first.replica.clone());
    assert_eq!(refused(other), Kind::Refused, "replica in use");
    assert!(!world.paths.state().join("groups/h").exists(), "nothing half made");

    let undo =
        |undo| ApplianceRequest::DetachVolume { group_id: first.group_id.clone(), volume_id: VOLUME.to_owned(), undo };
    assert!(matches!(world.ask(&undo(true)), Ok(Answer::Done { outcome: Outcome::Changed, .. })));
    assert!(!world.paths.state().join("groups/g").exists(), "no trace");
    assert!(matches!(world.ask(&undo(true)), Ok(Answer::Done { outcome: Outcome::AlreadySo, .. })));
    let fresh = world.attach("v", VOLUME);
    assert_ne!(fresh.group_id, first.group_id);
}

#[test]
fn a_splitter_learns_of_volumes_that_join_and_leave() {
    let mut at = Joined::new();
    let second = at.world.attach("w", "ff112233445566778899aabbccddeeff");
    assert!(!second.group_created);
    let joined = |link: &mut Link| loop {
        match link.expect() {
            ToSplitter::Members { members } => break members.iter().map(|m| m.joined).collect::<Vec<_>>(),
            ToSplitter::Ack { .. } => {}
            other => panic!("not MEMBERS: {other:?}"),
        }
    };
    assert_eq!(joined(&mut at.link), [true, false]);
    let plan = ApplianceRequest::RollbackPlan { group: "g".to_owned(), point: latest(), any_point: false };
    let Ok(Answer::RollbackPlan(plan)) = at.world.ask(&plan) else { panic!("plan") };
    assert_eq!(plan.untouched, ["w"], "the group does not show it yet");
    let detach = ApplianceRequest::DetachVolume {
        group_id: second.group_id.clone(),
        volume_id: "ff112233445566778899aabbccddeeff".to_owned(),
        undo: false,
    };
    assert!(matches!(at.world.ask(&detach), Ok(Answer::Done { outcome: Outcome::Changed, .. })));
    assert_eq!(joined(&mut at.link), [true]);
    let remove = ApplianceRequest::GroupRemove { name: "g".to_owned() };
    assert_eq!(at.world.ask(&remove).expect_err("v is still there").kind, Kind::Refused);
}

#[test]
fn groups_are_made_listed_removed_and_survive_a_restart() {
    let mut world = World::new();
    let create = |name: &str| ApplianceRequest::GroupCreate { name: name.to_owned(), journal: None };
    assert!(matches!(world.ask(&create("a")), Ok(Answer::Group { outcome: Outcome::Created, .. })));
    assert!(matches!(world.ask(&create("a")), Ok(Answer::Group { outcome: Outcome::AlreadySo, .. })));
    assert!(matches!(world.ask(&create("b")), Ok(Answer::Group { outcome: Outcome::Created, .. })));
    assert_eq!(world.ask(&create("../x")).expect_err("no name").kind, Kind::Usage);
    world.stop();
    // One journal is ruined; the other must not care.
    std::fs::write(world.paths.state().join("groups/a/journal/superblock"), b"ruin").expect("ruin");
    world.start();
    let Ok(Answer::Groups { groups }) = world.ask(&ApplianceRequest::GroupStatus { name: None }) else {
        panic!("groups")
    };
    assert!(
        matches!(&groups[..], [a, b] if matches!(a.health, Health::Trouble { .. }) && b.health == Health::Unlinked)
    );
    assert!(world.ask(&ApplianceRequest::PointList { group: "a".to_owned() }).is_err());
    assert!(world.ask(&ApplianceRequest::PointList { group: "b".to_owned() }).is_ok());
    let remove = ApplianceRequest::GroupRemove { name: "b".to_owned() };
    assert!(matches!(world.ask(&remove), Ok(Answer::Done { .. })));
    assert!(!world.paths.state().join("groups/b").exists());
    let point = ApplianceRequest::ImageOpen {
        group: "b".to_owned(),
        point: latest(),
        rw: false,
        volume: None,
        any_point: false,
    };
    assert_eq!(world.ask(&point).expect_err("gone").kind, Kind::NotFound);
}

#[test]
fn a_second_appliance_is_refused_and_stop_ends_the_first() {
    let mut world = World::new();
    let error = Appliance::start(&world.paths).expect_err("second");
    assert!(error.message.contains("running already"), "{error}");
    assert!(matches!(world.ask(&ApplianceRequest::Stop { force: false }), Ok(Answer::Done { .. })));
    if let Some((_, thread)) = world.running.take() {
        thread.join().expect("ends");
    }
    assert!(!world.paths.appliance_socket().exists() && !world.paths.link_socket().exists());
}
