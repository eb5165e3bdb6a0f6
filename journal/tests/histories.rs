//! Random histories against the reference that remembers everything.
//!
//! Goal: an image at any position that can be offered is exactly what the records up to it made, on every line that
//! rollbacks opened, across restarts. Method: random records at odd and overlapping extents, sealed and sent in
//! random batches, with rollbacks (to abandoned lines too), joins, leaves, clean and unclean restarts; then full
//! images at random positions. Some are over many segments, so that images come from runs, merged and found again at open.
//! `SEED=n` replays one history, `ROUNDS=n` plays n times as many.

mod common;

use common::{Group, at, restart};
use journal::{FollowBounds, Image};
use kit::Rng;
use record::point::Point;

/// How much is written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Size {
    /// All of it fits one segment.
    Small,
    /// A volume is written in pieces of half a segment.
    Large,
    /// The same, and what is old is given back.
    Retained,
    /// The same, and replicas are brought to the newest point and back.
    Eager,
}

/// What is given back along a history.
#[derive(Default)]
struct Past {
    /// Images that somebody has open.
    open: Vec<Image>,
    segments: u64,
    /// Grid points, whenever some were chosen.
    grid: usize,
    /// Segments that were compacted.
    compacted: u64,
    /// Whether replicas are to be at the newest point.
    eager: bool,
    /// How often they were.
    arrived: u64,
}

impl Past {
    /// Brings the replicas some of the way. Where they arrive they are plain disks.
    fn follow(&mut self, group: &Group, rng: &mut Rng) {
        if rng.one_in(5) {
            self.eager = !self.eager;
        }
        let bounds = FollowBounds { punch_split: 512 << rng.below(12), ..FollowBounds::default() };
        for _ in 0..rng.below(20) {
            let followed = group.journal.follow(1 + rng.below(1 << 19), self.eager, bounds).expect("follow");
            assert_eq!(followed.held_back_by, None);
            if let Some(at) = followed.at {
                self.arrived += 1;
                group.check_replicas(at.position);
            }
            if !followed.more {
                break;
            }
        }
    }

    /// Gives up something of the past, goes back to a bookmark, or removes some.
    fn step(&mut self, step: u64, group: &mut Group, rng: &mut Rng) {
        let bookmarks = group.journal.reader().bookmarks();
        match step {
            21..=24 => self.retain(group, rng),
            25 => {
                if let Some(bookmark) = bookmarks.get(rng.index(bookmarks.len().max(1))) {
                    group.rollback(bookmark.at.position);
                    group.check_restore();
                }
            }
            _ => {
                for bookmark in bookmarks.iter().filter(|_| rng.one_in(2)) {
                    let removed = group.journal.remove_bookmark(&bookmark.name, group.laying.label());
                    assert!(removed.expect("remove"), "there was one");
                    group.catch_up();
                }
            }
        }
    }

    /// Forgets points, brings the replicas nearer, gives segments back: a part of it, or all.
    fn retain(&mut self, group: &Group, rng: &mut Rng) {
        let (head, horizon) = (group.head(), group.journal.space().horizon.position);
        if rng.one_in(3)
            && let Ok(image) = group.journal.image(at(horizon.get() + rng.below(head.get() - horizon.get() + 1)))
        {
            self.open.push(image);
        }
        if self.open.len() > 2 {
            self.open.remove(0);
        }
        let forgotten = rng.below(head.get() - horizon.get() + 1) / (1 + rng.below(3));
        // Some of what goes, and most of what stayed before, stays; what is no point is left out.
        let mut grid: Vec<_> = group.journal.grid().into_iter().map(|at| at.position).collect();
        grid.retain(|_| !rng.one_in(6));
        grid.extend((0..rng.below(4)).map(|_| at(horizon.get() + rng.below(forgotten + 1))));
        group.journal.keep_points(&grid).expect("keep");
        self.grid += group.journal.grid().len();
        group.journal.forget(at(horizon.get() + forgotten)).expect("forget");
        for _ in 0..rng.below(40) {
            let distributed = group.journal.distribute(1 + rng.below(1 << 20)).expect("distribute");
            if rng.one_in(3) {
                self.segments += group.journal.reclaim().expect("reclaim").segments;
            }
            if !distributed.more {
                break;
            }
        }
        for _ in 0..rng.below(60) {
            let compacted = group.journal.compact().expect("compact");
            self.compacted += u64::from(compacted.freed > 0);
            if !compacted.more {
                break;
            }
        }
        for image in &self.open {
            group.check_image(image);
        }
        // Of what is looked at now, something may be compacted later.
        for point in group.journal.grid() {
            group.check(point.position);
        }
    }
}

/// What a history came to.
struct Played {
    positions: u64,
    /// Runs that its index has in files.
    runs: usize,
    /// Segments that were given back.
    segments: u64,
    /// Grid points, whenever some were chosen.
    grid: usize,
    /// Segments that were compacted.
    compacted: u64,
    /// How often replicas were brought to the newest point.
    arrived: u64,
}

/// Plays one history.
fn history(seed: u64, size: Size) -> Played {
    let mut rng = Rng::new(seed);
    let mut past = Past::default();
    let (mut group, steps) = match size {
        Size::Small => (Group::new(&[61, 200]), 60),
        Size::Large => (Group::new(&[61, 200, 1500]), 60),
        Size::Retained => (Group::new(&[61, 200, 1500]), 120),
        Size::Eager => (Group::new(&[61, 200, 1500]), 160),
    };
    for _ in 0..steps {
        if size != Size::Small && rng.one_in(2) {
            let (volume, count) = (group.volumes[2].clone(), 900 + rng.below(500));
            if volume.left.is_none() {
                group.write(volume.number, common::extent(rng.below(1500 - count), count));
                group.seal();
            }
        }
        match rng.below(40) {
            0 => {
                group.seal();
                past.open.clear();
                group = restart(group, true);
            }
            1 => {
                group.seal();
                past.open.clear();
                group = restart(group, false);
            }
            27..=32 if size == Size::Eager => {
                assert!(group.send());
                past.follow(&group, &mut rng);
            }
            step @ 21..=26 if matches!(size, Size::Retained | Size::Eager) => {
                assert!(group.send());
                past.step(step, &mut group, &mut rng);
            }
            _ => {
                for _ in 0..=rng.below(6) {
                    group.lay_some(&mut rng);
                }
            }
        }
    }
    assert!(group.send());
    let oldest = group.journal.resolve(&Point::Oldest, false).expect("a window");
    group.check(oldest);
    group.check(group.journal.resolve(&Point::Latest, false).expect("a window"));
    let span = group.head().get() - oldest.get() + 1;
    for _ in 0..25 {
        group.check(at(oldest.get() + rng.below(span)));
    }
    for bookmark in group.journal.reader().bookmarks() {
        group.check(bookmark.at.position);
    }
    for point in group.journal.grid() {
        group.check(point.position);
    }
    for n in 1..oldest.get() {
        let kept = group.journal.grid().iter().any(|point| point.position == at(n));
        let marked = group.journal.reader().bookmarks().iter().any(|bookmark| bookmark.at.position == at(n));
        assert!(kept || marked || group.journal.image(at(n)).is_err(), "seq:{n} is no point");
    }
    for image in &past.open {
        group.check_image(image);
    }
    let runs = group.disk.names().iter().filter(|name| name.starts_with("runs/")).count();
    // Whatever differs between the live line and any point is in the changed set, and little else.
    for _ in 0..5 {
        let target = at(oldest.get() + rng.below(span));
        let changed = group.journal.changed_set(target).expect("a target");
        let members: Vec<_> = group.journal.image(target).expect("an image").members().to_vec();
        for (volume, sectors) in group.differing(group.head(), target) {
            if !members.iter().any(|m| m.incarnation == volume && m.left.is_none()) {
                continue;
            }
            for sector in sectors {
                assert!(
                    changed.extents.iter().any(|(v, e)| *v == volume && e.overlaps(common::extent(sector, 1))),
                    "sector {sector} of volume {volume} differs from seq:{target} and is not in the changed set"
                );
            }
        }
    }
    Played {
        positions: group.head().get(),
        runs,
        segments: past.segments,
        grid: past.grid,
        compacted: past.compacted,
        arrived: past.arrived,
    }
}

#[test]
fn every_image_is_what_the_records_up_to_it_made() {
    let mut positions = 0;
    for seed in Rng::seeds(1, 60) {
        println!("SEED={seed}");
        positions += history(seed, Size::Small).positions;
    }
    println!("{positions} positions");
}

#[test]
fn every_image_is_what_the_records_up_to_it_made_over_many_segments() {
    let (mut positions, mut runs) = (0, 0);
    for seed in Rng::seeds(5000, 12) {
        println!("SEED={seed}");
        let played = history(seed, Size::Large);
        (positions, runs) = (positions + played.positions, runs + played.runs);
    }
    println!("{positions} positions, {runs} runs");
    assert!(runs > 0);
}

#[test]
fn what_is_kept_is_right_whatever_is_forgotten_brought_to_the_replicas_and_given_back() {
    let (mut positions, mut segments, mut grid, mut compacted) = (0, 0, 0, 0);
    for seed in Rng::seeds(7000, 20) {
        println!("SEED={seed}");
        let played = history(seed, Size::Retained);
        (positions, segments) = (positions + played.positions, segments + played.segments);
        (grid, compacted) = (grid + played.grid, compacted + played.compacted);
    }
    println!("{positions} positions, {segments} segments given back, {compacted} compacted, {grid} grid points");
    assert!(segments > 0 && grid > 0 && compacted > 0);
}

#[test]
fn every_image_is_right_wherever_the_replicas_are() {
    let (mut segments, mut compacted, mut arrived) = (0, 0, 0);
    for seed in Rng::seeds(8000, 30) {
        println!("SEED={seed}");
        let played = history(seed, Size::Eager);
        (segments, compacted) = (segments + played.segments, compacted + played.compacted);
        arrived += played.arrived;
    }
    println!("{segments} segments given back, {compacted} compacted, {arrived} times at the newest point");
    assert!(segments > 0 && compacted > 0 && arrived > 0);
}

#[test]
fn every_position_of_a_short_history_is_right_read_whole_and_in_parts() {
    for seed in Rng::seeds(1000, 10) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let mut group = Group::new(&[40]);
        for _ in 0..60 {
            group.lay_some(&mut rng);
            if rng.one_in(3) {
                group.send();
            }
            if rng.one_in(12) {
                group.send();
                let target = at(1 + rng.below(group.head().get()));
                if group.journal.image(target).is_ok() {
                    group.rollback(target);
                }
            }
        }
        group.send();
        assert!(group.check_all(at(1)) > 50);
        let volume = group.volumes[0].clone();
        let image = group.journal.reader().live_image();
        let expected = group.reference.bytes(volume.number, group.head());
        for _ in 0..50 {
            let part = common::some_extent(&mut rng, &volume);
            let mut bytes = vec![0; usize::try_from(part.bytes()).expect("small")];
            image.read(volume.number, part, &mut bytes).expect("read");
            let from = usize::try_from(part.start().byte_offset()).expect("small");
            assert!(bytes == expected[from..from + bytes.len()], "{part:?}");
        }
    }
}
