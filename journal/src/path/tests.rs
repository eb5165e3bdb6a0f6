use super::*;

fn p(n: u64) -> Position {
    Position::new(n)
}

fn rollback(at: u64, target: u64) -> Rollback {
    Rollback { at: p(at), target: p(target), id: 0 }
}

fn positions(path: &Path) -> Vec<u64> {
    (0..40).filter(|n| path.contains(p(*n))).collect()
}

#[test]
fn a_rollback_hides_what_it_gives_up_and_undoing_it_shows_it_again() {
    let rollbacks = [rollback(10, 4), rollback(13, 8), rollback(16, 12)];
    let at = |n| positions(&Path::of(&rollbacks, Position::ORIGIN, p(n)));
    assert_eq!(at(8), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(at(12), [1, 2, 3, 4, 10, 11, 12]);
    assert_eq!(at(14), [1, 2, 3, 4, 5, 6, 7, 8, 13, 14]);
    assert_eq!(at(16), [1, 2, 3, 4, 10, 11, 12, 16]);
    assert_eq!(at(0), [0_u64; 0]);
}

#[test]
fn a_volume_that_was_no_member_at_the_target_keeps_its_line() {
    let rollbacks = [rollback(10, 4), rollback(13, 8)];
    assert_eq!(positions(&Path::of(&rollbacks, p(5), p(12))), (1..=12).collect::<Vec<_>>());
    assert_eq!(positions(&Path::of(&rollbacks, p(5), p(14))), [1, 2, 3, 4, 5, 6, 7, 8, 13, 14]);
}

#[test]
fn the_difference_is_what_lies_on_one_side_only() {
    let rollbacks = [rollback(10, 4), rollback(13, 8)];
    let (a, b) = (Path::of(&rollbacks, p(0), p(12)), Path::of(&rollbacks, p(0), p(14)));
    assert_eq!(positions(&a.difference(&b)), [5, 6, 7, 8, 10, 11, 12, 13, 14]);
    assert_eq!(positions(&a.without(&b)), [10, 11, 12]);
    assert_eq!(a.difference(&b), b.difference(&a));
    assert_eq!(positions(&a.difference(&a)), [0_u64; 0]);
    assert_eq!(a.newest_at_or_before(p(9)), Some(p(4)));
}
