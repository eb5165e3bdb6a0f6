//! Goal: what the grid names is durable before the window moves, can be opened behind it, and goes when it is to go. A real
//! journal in a folder of its own, under a clock that is set by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use control::events::{Events, kept};
use control::request::{EventsAsk, TrimTo};
use journal::{Create, JoinRequest, Journal};
use kit::{Laying, MemBase};
use record::conversation::Continuation;
use record::geometry::{LogicalBlock, SectorCount};
use record::ids::{GroupId, JournalId, SplitterId, VolumeId};
use record::op::Op;
use record::point::Point;
use record::position::SplitterIncarnation;

use super::super::{Keep, Order};
use super::*;
use crate::group::clock::Clock;
use crate::policy::Policy;

const ID: JournalId = JournalId::from_bytes([1; 16]);
const SECOND: u64 = 1_000_000_000;
/// An hour of a day: where minutes and hours begin is known.
const TEN: u64 = (1_795_341_600 / 3600) * 3600;

/// Seconds since `TEN`.
#[derive(Debug, Default)]
struct ByHand(AtomicU64);

impl Clock for ByHand {
    fn elapsed_ms(&self) -> Millis {
        self.0.load(Ordering::Relaxed) * 1000
    }

    fn wall_ns(&self) -> u64 {
        (TEN + self.0.load(Ordering::Relaxed)) * SECOND
    }
}

struct World {
    folder: PathBuf,
    clock: Arc<ByHand>,
    group: Group,
}

fn open(folder: &Path) -> Arc<Journal> {
    let journal = Arc::new(Journal::open(&folder.join("journal")).expect("open").journal);
    let volumes: Vec<_> = journal.members().iter().map(|member| member.incarnation).collect();
    for volume in volumes {
        journal.attach_base_device(volume, Arc::new(MemBase::new(64))).expect("attach");
    }
    journal
}

impl World {
    /// A flush every twenty seconds, from `TEN` on: so many of them.
    fn new(folder: &Path, flushes: u64, keep: &str) -> Self {
        let create = Create {
            journal: ID,
            group: GroupId::from_bytes([2; 16]),
            group_name: "g".to_owned(),
            now: Label::from_nanos(TEN * SECOND),
            segment_bytes: Create::SEGMENT_BYTES_MIN,
        };
        Journal::create(&folder.join("journal"), &create).expect("create");
        let journal = open(folder);
        let splitter = SplitterId::from_bytes([3; 16]);
        let ask = JoinRequest {
            volume: VolumeId::from_bytes([4; 16]),
            name: "v".to_owned(),
            size: SectorCount::new(64).expect("a size"),
            block: LogicalBlock::SECTOR,
            splitter,
        };
        let volume = journal.join(&ask, Label::from_nanos(TEN * SECOND)).expect("join");
        journal.attach_base_device(volume, Arc::new(MemBase::new(64))).expect("attach");
        journal.base_reset(volume).expect("reset");
        let none = Continuation::Lost { reason: "first".to_owned() };
        let grant = journal.grant(splitter, SplitterIncarnation::FIRST, &none).expect("grant");
        journal.joined(volume, Label::from_nanos(TEN * SECOND)).expect("joined");
        let mut laying = Laying::new(ID, grant.session, grant.expected, Label::from_nanos(TEN * SECOND));
        for _ in 0..flushes {
            laying.mark(Op::Flush);
            laying.pass(20 * SECOND);
            let body = laying.seal().expect("a chunk");
            journal.append_many(grant.session, &[(body.header.as_slice(), body.payload.as_slice())]).expect("append");
        }
        let clock = Arc::new(ByHand::default());
        clock.0.store((flushes - 1) * 20 + 1, Ordering::Relaxed);
        Self::over(folder, &journal, clock, keep)
    }

    fn over(folder: &Path, journal: &Arc<Journal>, clock: Arc<ByHand>, keep: &str) -> Self {
        let mut group = Group::new("g", journal, clock.clone());
        group.events = Events::open(folder, "appliance");
        let mut world = Self { folder: folder.to_owned(), clock, group };
        world.keep(keep);
        world
    }

    /// The process ends and begins again.
    fn again(self, keep: &str) -> Self {
        let Self { folder, clock, group } = self;
        drop(group);
        Self::over(&folder, &open(&folder), clock, keep)
    }

    /// With a window of a minute.
    fn keep(&mut self, keep: &str) {
        let settings = ["window=1m".to_owned(), format!("keep={keep}")];
        let policy = Policy::default().with(&settings, 1 << 20).expect("a policy");
        self.group.keep(Keep { policy, folder: self.folder.clone() });
    }

    fn pass(&mut self, seconds: u64) {
        self.clock.0.fetch_add(seconds, Ordering::Relaxed);
        self.group.look_at_retention();
    }

    /// Seconds behind `TEN` at which there are grid points, and at which the window begins.
    fn left(&self) -> (Vec<u64>, u64) {
        let timeline = self.group.journal.timeline();
        let second = |at: &At| at.label.nanos() / SECOND - TEN;
        (timeline.grid.iter().map(second).collect(), second(&timeline.window.expect("a window").oldest))
    }

    fn told(&self) -> Vec<String> {
        self.group.events.read(EventsAsk { after: None, newest: 0 });
        kept(&self.folder).into_iter().map(|event| format!("{}: {}", event.kind, event.text)).collect()
    }
}

#[test]
fn what_grows_older_than_the_window_is_thinned_and_what_stays_can_be_opened() {
    let folder = tempfile::tempdir().expect("folder");
    let mut world = World::new(folder.path(), 16, "minute:1h");
    world.pass(0);
    assert_eq!(world.left(), (vec![40, 100, 160, 220], 240), "five minutes, of which the last is the window's");
    let journal = &world.group.journal;
    let at_130 = Label::from_nanos((TEN + 130) * SECOND);
    let position = journal.resolve(&Point::Time(at_130), false).expect("a grid point");
    assert_eq!(journal.image(position).expect("an image").at().label.nanos() / SECOND, TEN + 100);
    assert!(world.group.is_kept(position), "it can be rolled back to");
    // Nobody writes, and what stays grows old all the same.
    world.pass(3600 - 220);
    assert_eq!(world.left(), (vec![100, 160, 220, 280], 300), "40 is over an hour old");
    world.pass(120);
    assert_eq!(world.left(), (vec![220, 280], 300), "nor does it take a window that moves");
    assert_eq!(world.told(), [""; 0], "that is no news");
}

#[test]
fn another_grid_counts_at_once_and_what_it_costs_is_told() {
    let folder = tempfile::tempdir().expect("folder");
    let mut world = World::new(folder.path(), 16, "minute:1h");
    world.pass(0);
    world.keep("minute:1h");
    world.pass(1);
    assert_eq!(world.told(), [""; 0], "nothing was changed");
    world.keep("minute:2m");
    world.pass(1);
    assert_eq!(world.left().0, [220]);
    world.keep("none");
    world.pass(1);
    assert_eq!(world.left().0, [0_u64; 0]);
    let expected = [
        "grid-shrunk: grid points are given up, 3 of them: keep=minute:2m was set",
        "grid-shrunk: grid points are given up, 1 of them: keep=none was set",
    ];
    assert_eq!(world.told(), expected);
}

#[test]
fn a_crash_between_the_grid_and_the_window_loses_nothing_and_leaves_nothing() {
    let folder = tempfile::tempdir().expect("folder");
    let mut world = World::new(folder.path(), 16, "minute:1h");
    let timeline = world.group.journal.timeline();
    let now = timeline.head.label;
    let cutoff = Label::from_nanos(now.nanos() - 60 * SECOND);
    let oldest = timeline.window.expect("a window").oldest;
    let present = Present { grid: &[], oldest, now, cutoff };
    let forget = Some(world.group.journal.position_at(cutoff));
    let floor = Position::ORIGIN;
    let decision = Decision { news: Vec::new(), forget, early: None, floor, leaving: 0, hurry: false, closed: None };
    assert!(world.group.thin(&decision, &present).expect("thin").is_some(), "the window may move now");
    let grid = world.group.journal.grid();
    assert!(!grid.is_empty(), "it is durable before");
    let mut world = world.again("minute:1h");
    assert_eq!(world.group.journal.grid(), grid);
    assert_eq!(world.left().0, [0_u64; 0], "the window has not moved");
    world.pass(0);
    assert_eq!(world.left(), (vec![40, 100, 160, 220], 240));
    // The same, but nothing is to stay any more.
    let folder = tempfile::tempdir().expect("folder");
    let mut world = World::new(folder.path(), 16, "minute:1h");
    world.group.thin(&decision, &present).expect("thin");
    let mut world = world.again("none");
    world.pass(0);
    assert_eq!((world.left(), world.group.journal.grid().len()), ((vec![], 240), 0));
}

#[test]
fn what_goes_for_want_of_room_leaves_no_grid_points_behind() {
    let folder = tempfile::tempdir().expect("folder");
    let mut world = World::new(folder.path(), 16, "minute:1h");
    world.pass(0);
    let act = |world: &mut World, forget: Option<Position>, early: Position| {
        let timeline = world.group.journal.timeline();
        let oldest = timeline.window.expect("a window").oldest;
        let (now, early) = (timeline.head.label, Some(early));
        let present = Present { grid: &world.group.journal.grid(), oldest, now, cutoff: oldest.label };
        let floor = Position::ORIGIN;
        let decision = Decision { news: Vec::new(), forget, early, floor, leaving: 0, hurry: false, closed: None };
        world.group.carry_out(&decision, Position::ORIGIN, &present);
    };
    let of_160 = world.group.journal.grid()[2].position;
    act(&mut world, None, of_160);
    assert_eq!(world.left(), (vec![160, 220], 240));
    let head = world.group.journal.timeline().head.position;
    act(&mut world, Some(head), head);
    assert_eq!(world.left(), (vec![], 300));
}

#[test]
fn trimming_knows_grid_points() {
    let folder = tempfile::tempdir().expect("folder");
    let mut world = World::new(folder.path(), 16, "minute:1h");
    let order = |to, dry_run| Order { to, dry_run, holds: Vec::new() };
    // Without a word of where to, the grid stays.
    let planned = world.group.trim(&order(TrimTo::Window, true)).expect("a plan");
    let trim = world.group.trim(&order(TrimTo::Window, false)).expect("trimmed");
    assert_eq!(trim, planned);
    assert_eq!((trim.grid_points, trim.before), (0, 0));
    assert_eq!(world.left(), (vec![40, 100, 160, 220], 240));
    // Before a grid point.
    let of_160 = world.group.journal.grid()[2].position;
    let before = |position: Position| TrimTo::Before { point: Point::Seq(position).into() };
    let trim = world.group.trim(&order(before(of_160), false)).expect("trimmed");
    assert_eq!((trim.grid_points, trim.positions, trim.before), (2, 0, of_160.get()));
    assert_eq!(world.left(), (vec![160, 220], 240));
    // Before a point of the window: nothing of what goes stays.
    let head = world.group.journal.timeline().head.position;
    let trim = world.group.trim(&order(before(head), false)).expect("trimmed");
    assert_eq!((trim.grid_points, trim.to), (2, head.get()));
    assert_eq!(world.left(), (vec![], 300));
    let told = world.told();
    assert_eq!(told.len(), 3, "{told:?}");
    assert!(told[1].contains(&format!("before seq:{of_160} were given up, grid points among them: 2")), "{told:?}");
}
