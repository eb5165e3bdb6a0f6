use super::{Candidate, Compaction, Next};
use crate::place::SegmentNumber;
use record::position::Position;

const MIB: u64 = 1 << 20;
const HORIZON: Position = Position::new(1_000_000);

fn at(n: u64) -> Position {
    Position::new(n)
}

fn candidate(n: u32, points: &[u64]) -> Candidate {
    let first = u64::from(n) * 1000;
    Candidate {
        number: SegmentNumber::new(n),
        bytes: 64 * MIB,
        first: at(first),
        last: at(first + 999),
        points: points.iter().copied().map(at).collect(),
    }
}

/// Looks at all of them; answers with what comes next.
fn estimate(compaction: &mut Compaction, all: &[Candidate], needed: &[u64]) -> Next {
    loop {
        match compaction.next(all, HORIZON, u64::MAX / 2, 64 * MIB) {
            Next::Estimate(number) => {
                let i = all.iter().position(|candidate| candidate.number == number).expect("one of them");
                compaction.estimated(&all[i], HORIZON, needed[i] * MIB);
            }
            next => return next,
        }
    }
}

#[test]
fn the_deadest_goes_first_until_little_is_left_to_be_gained() {
    let mut compaction = Compaction::default();
    let mut all = [candidate(1, &[]), candidate(2, &[]), candidate(3, &[])];
    let needed = [60, 3, 20];
    let mut order = Vec::new();
    while let Next::Compact(number) = estimate(&mut compaction, &all, &needed) {
        order.push(number.get());
        let i = all.iter().position(|candidate| candidate.number == number).expect("one of them");
        all[i].bytes = needed[i] * MIB;
        compaction.compacted(&all[i], HORIZON, needed[i] * MIB, needed[i] * MIB);
    }
    assert_eq!(order, [2, 3], "what would give one part in sixteen is left");
}

#[test]
fn an_estimate_holds_while_the_points_are_the_same() {
    let mut compaction = Compaction::default();
    let fixed = candidate(1, &[5000]);
    compaction.estimated(&fixed, at(9000), 64 * MIB);
    let next = |compaction: &mut Compaction, candidate: &Candidate, horizon| {
        compaction.next(std::slice::from_ref(candidate), horizon, u64::MAX / 2, 64 * MIB)
    };
    assert_eq!(next(&mut compaction, &fixed, at(900_000)), Next::Nothing, "a grid point behind it does not move");
    let dropped = candidate(1, &[7000]);
    assert_eq!(next(&mut compaction, &dropped, at(9000)), Next::Estimate(fixed.number));
    // Where the window begins behind it, it does.
    let moving = candidate(2, &[]);
    compaction.estimated(&moving, at(9000), 64 * MIB);
    assert_eq!(next(&mut compaction, &moving, at(9000)), Next::Nothing);
    assert_eq!(next(&mut compaction, &moving, at(12_000)), Next::Nothing);
    assert_eq!(next(&mut compaction, &moving, at(30_000)), Next::Estimate(moving.number));
}

#[test]
fn no_more_is_copied_than_is_written_but_for_an_advance() {
    let mut compaction = Compaction::default();
    let all: Vec<Candidate> = (1..100).map(|n| candidate(n, &[])).collect();
    for candidate in &all {
        compaction.estimated(candidate, HORIZON, 32 * MIB);
    }
    let mut copied = 0;
    let mut left = all;
    while let Next::Compact(number) = compaction.next(&left, HORIZON, 256 * MIB, 64 * MIB) {
        let candidate = left.iter().find(|candidate| candidate.number == number).expect("one").clone();
        compaction.compacted(&candidate, HORIZON, 32 * MIB, 32 * MIB);
        left.retain(|candidate| candidate.number != number);
        copied += 32 * MIB;
    }
    assert_eq!(copied, (256 + 16 * 64) * MIB);
    assert_eq!(compaction.next(&left, HORIZON, 256 * MIB, 64 * MIB), Next::Later);
    assert!(matches!(compaction.next(&left, HORIZON, 512 * MIB, 64 * MIB), Next::Compact(_)));
}
