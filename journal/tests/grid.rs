//! Grid points: points that stay although the window has passed them.

mod common;

use common::{Group, at, extent};
use journal::{HeldBack, PointError};
use kit::Rng;
use record::point::Point;
use record::position::Position;

/// A second of history for each of so many writes.
fn seconds(count: u64) -> Group {
    let mut group = Group::new(&[64]);
    let volume = group.volumes[0].number;
    for n in 0..count {
        group.laying.pass(1_000_000_000);
        group.write(volume, extent(n % 60, 4));
        group.send();
    }
    group
}

fn thin(group: &Group, points: &[Position], horizon: Position) {
    group.journal.keep_points(points).expect("keep");
    assert!(group.journal.forget(horizon).expect("forget"));
}

fn positions(group: &Group) -> Vec<Position> {
    group.journal.grid().iter().map(|at| at.position).collect()
}

#[test]
fn a_grid_point_is_offered_when_the_window_has_passed_it_and_nothing_else_is() {
    let group = seconds(40);
    thin(&group, &[at(10), at(20)], at(30));
    for n in 1..=group.head().get() {
        let offered = group.journal.image(at(n));
        assert_eq!(offered.is_ok(), n == 10 || n == 20 || n >= 30, "seq:{n}");
        if let Ok(image) = offered {
            group.check_image(&image);
        }
    }
    assert_eq!(group.journal.timeline().grid, group.journal.grid());
    match group.journal.image(at(15)).map(|_| ()) {
        Err(PointError::Thinned { before, after, .. }) => {
            assert_eq!((before.position, after.position), (at(10), at(20)));
        }
        other => panic!("{other:?}"),
    }
    match group.journal.image(at(25)).map(|_| ()) {
        Err(PointError::Thinned { before, after, .. }) => {
            assert_eq!((before.position, after.position), (at(20), at(30)));
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(group.journal.image(at(9)), Err(PointError::OutsideWindow { .. })));
}

#[test]
fn a_time_in_the_thinned_stretch_means_the_grid_point_before_it() {
    let group = seconds(40);
    let label = |n| group.journal.image(at(n)).expect("offered").at().label;
    let (of_10, of_15, of_25, of_9) = (label(10), label(15), label(25), label(9));
    thin(&group, &[at(10), at(20)], at(30));
    let resolve = |label| group.journal.resolve(&Point::Time(label), false);
    assert_eq!((resolve(of_10), resolve(of_15), resolve(of_25)), (Ok(at(10)), Ok(at(10)), Ok(at(20))));
    assert!(matches!(resolve(of_9), Err(PointError::OutsideWindow { .. })));
    let point_at = |label| group.journal.point_at(label).map(|at| at.position);
    assert_eq!((point_at(of_15), point_at(of_25), point_at(of_9)), (Some(at(10)), Some(at(20)), None));
    let newest = group.journal.timeline().head;
    assert_eq!(group.journal.point_at(newest.label), Some(newest));
}

#[test]
fn grid_points_and_their_times_survive_restarts_and_go_when_they_are_left_out() {
    let group = seconds(40);
    thin(&group, &[at(10), at(20)], at(30));
    let grid = group.journal.grid();
    let Group { disk, journal, volumes, reference, .. } = group;
    drop(journal);
    let (mut group, _) = Group::open(disk.killed(), volumes).expect("open");
    group.reference = reference;
    group.catch_up();
    assert_eq!(group.journal.grid(), grid);
    group.check(at(10));
    group.check(at(20));
    // What is no point any more is none because somebody wants it.
    group.journal.keep_points(&[at(15), at(20)]).expect("keep");
    assert_eq!(positions(&group), [at(20)]);
    assert!(group.journal.image(at(10)).is_err());
}

#[test]
fn the_replicas_stay_behind_the_oldest_grid_point() {
    let mut rng = Rng::new(11);
    let mut group = Group::new(&[1500]);
    let volume = group.volumes[0].number;
    for _ in 0..40 {
        group.write(volume, extent(rng.below(600), 900));
        group.send();
    }
    let kept = at(18);
    thin(&group, &[kept], group.head());
    let held = loop {
        let distributed = group.journal.distribute(1 << 20).expect("distribute");
        if !distributed.more {
            break distributed;
        }
    };
    assert!(held.to <= kept);
    assert!(matches!(held.held_back_by, Some(HeldBack::Grid(point)) if point.position == kept), "{held:?}");
    group.journal.reclaim().expect("reclaim");
    group.check(kept);
    group.journal.keep_points(&[]).expect("keep");
    while group.journal.distribute(1 << 20).expect("distribute").more {}
    assert!(group.journal.space().distributed > kept);
    group.check(group.head());
}

#[test]
fn grid_points_that_cannot_be_read_are_said_to_be_lost_and_one_copy_is_enough() {
    for (damage, lost) in [(&[0_usize][..], false), (&[4096][..], false), (&[0, 4096][..], true)] {
        let group = seconds(30);
        thin(&group, &[at(10)], at(20));
        let Group { disk, journal, volumes, .. } = group;
        drop(journal);
        let disk = disk.killed();
        for byte in damage {
            disk.flip("grid", *byte, 1);
        }
        let (group, report) = Group::open(disk, volumes).expect("open");
        assert_eq!(group.journal.image(at(10)).is_err(), lost);
        assert_eq!(report.alarms.iter().any(|alarm| alarm.contains("grid")), lost, "{:?}", report.alarms);
        group.journal.image(at(20)).expect("the window is not concerned");
    }
}
