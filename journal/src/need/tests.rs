use super::Asked;
use crate::path::{Path, Rollback};
use kit::Rng;
use record::position::Position;

fn at(n: u64) -> Position {
    Position::new(n)
}

/// Versions of one block: positions at which it was written. Which of them the points resolve to.
fn resolved(rollbacks: &[Rollback], writes: &[Position], points: &[Position]) -> Vec<Position> {
    let newest = |point: &Position| {
        let path = Path::of(rollbacks, Position::ORIGIN, *point);
        writes.iter().copied().filter(|at| path.contains(*at)).max_by_key(|at| order(&path, *at))
    };
    let mut out: Vec<Position> = points.iter().filter_map(newest).collect();
    out.sort_unstable();
    out.dedup();
    out
}

/// On one path the newer record has the larger position.
fn order(_: &Path, at: Position) -> Position {
    at
}

#[test]
fn asking_the_first_points_finds_what_asking_all_points_finds() {
    for seed in Rng::seeds(1, 3000) {
        let mut rng = Rng::new(seed);
        let head = 3 + rng.below(60);
        let mut rollbacks: Vec<Rollback> = Vec::new();
        for n in 2..head {
            if rng.one_in(12) {
                rollbacks.push(Rollback { at: at(n), target: at(1 + rng.below(n - 1)), id: n });
            }
        }
        let isnt_rollback = |n: &u64| !rollbacks.iter().any(|rollback| rollback.at == at(*n));
        let writes: Vec<Position> = (1..=head).filter(isnt_rollback).filter(|_| rng.one_in(3)).map(at).collect();
        let mut points: Vec<Position> = (0..=rng.below(8)).map(|_| at(1 + rng.below(head))).collect();
        points.sort_unstable();
        points.dedup();
        let (first, last) = (1 + rng.below(head), 1 + rng.below(head));
        let (first, last) = (at(first.min(last)), at(first.max(last)));
        let asked = Asked::of(&rollbacks, Position::ORIGIN, &points, first, last);
        let expected = resolved(&rollbacks, &writes, &points);
        for write in writes.iter().filter(|write| (first..=last).contains(*write)) {
            let newest = |path: &Path| writes.iter().copied().filter(|at| path.contains(*at)).max();
            let found = asked.about(*write).iter().any(|path| newest(path) == Some(*write));
            assert_eq!(found, expected.contains(write), "SEED={seed} {rollbacks:?} {points:?} {write:?}");
        }
    }
}

#[test]
fn of_many_points_on_one_line_one_is_asked() {
    let points: Vec<Position> = (1..1000).map(|n| at(n * 10)).collect();
    let asked = Asked::of(&[], Position::ORIGIN, &points, at(101), at(135));
    assert_eq!(asked.stretches.len(), 4, "up to 110, 120, 130 and the end");
    assert!(asked.stretches.iter().all(|(_, paths)| paths.len() == 1));
    assert_eq!(asked.about(at(111)), [Path::straight(at(120))]);
}
