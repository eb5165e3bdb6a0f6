//! Goal: right images are accepted, and each kind of wrong one is refused by its rule.
//!
//! Method: histories by hand, one for each rule; and seeded ones from a device of a few sectors whose operations take
//! effect at a moment between their beginning and their end, which knows what it held after each effect.

use super::*;
use crate::log::{Header, Limits};
use crate::rng::Rng;

const SECTORS: u64 = 24;

fn header(longest: u64) -> Header {
    let limits = Limits { write: longest, discard: longest, zero: longest, granularity: 1, discard_zeroes: true };
    Header { run: 1, seed: 1, first: 1000, sectors: SECTORS, limits }
}

/// A history by hand: each operation with its sectors (from 0), its beginning and its end.
fn history(operations: &[(Kind, u64, u64, Moment, Moment)]) -> History {
    let header = header(64);
    let ends = operations.iter().flat_map(|(_, _, _, begun, ended)| [*begun, *ended]);
    let end = ends.filter(|moment| *moment != NEVER).max().unwrap_or(0) + 1;
    let operations = operations
        .iter()
        .map(|(kind, sector, sectors, submitted, completed)| Operation {
            kind: *kind,
            lane: 0,
            sector: header.first + sector,
            sectors: *sectors,
            submitted: *submitted,
            completed: *completed,
            failed: false,
            atomic: true,
            submitted_ns: 0,
        })
        .collect();
    History { header, operations, end, wall_ns: vec![0; usize::try_from(end).unwrap()] }
}

/// The region: `.` zero, a digit: what that operation wrote, `x`: foreign. What is left out is zero.
fn values(text: &str) -> Vec<Value> {
    let mut values = vec![Value::Zero; usize::try_from(SECTORS).unwrap()];
    for (value, letter) in values.iter_mut().zip(text.chars()) {
        *value = match letter {
            '.' => Value::Zero,
            'x' => Value::Foreign,
            digit => Value::Of(digit.to_digit(10).unwrap()),
        };
    }
    values
}

fn anywhere(history: &History) -> Bounds {
    Bounds { after: 0, before: history.end }
}

#[track_caller]
fn right(history: &History, text: &str, bounds: Bounds) {
    let verdict = judge(history, &values(text), bounds);
    assert!(matches!(verdict, Verdict::Right(_)), "{text}: {verdict:?}");
}

#[track_caller]
fn wrong(rule: Rule, history: &History, text: &str, bounds: Bounds) {
    match judge(history, &values(text), bounds) {
        Verdict::Wrong(violations) => assert!(violations.iter().all(|one| one.rule == rule), "{text}: {violations:?}"),
        Verdict::Right(moment) => panic!("{text} is accepted at {moment}"),
    }
}

const CLEAR: (Kind, u64, u64, Moment, Moment) = (Kind::Zero, 0, SECTORS, 0, 1);

#[test]
fn moments_of_a_simple_history_are_right() {
    let history = history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Discard, 2, 4, 4, 5), (Kind::Write, 3, 1, 6, 7)]);
    let all = anywhere(&history);
    for text in ["....", "1111", "11..", "11.3"] {
        right(&history, text, all);
    }
    // Before the clearing came back, anything may have been there, but not beside what came after it.
    right(&history, "xxxxxxxxxxxxxxxxxxxxxxxx", all);
    right(&history, "xxxxxxxxxxxxxxxxxxxxxxxx", Bounds { after: 1, ..all });
    wrong(Rule::Durable, &history, "xxxxxxxxxxxxxxxxxxxxxxxx", Bounds { after: 2, ..all });
    wrong(Rule::Closed, &history, "1111x", all);
}

#[test]
fn what_had_completed_must_be_in() {
    let history = history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Write, 0, 2, 4, 5), (Kind::Punch, 8, 2, 6, 7)]);
    let done = Bounds { after: history.end, before: history.end };
    right(&history, "2211", done);
    wrong(Rule::Durable, &history, "1111", done);
    wrong(Rule::Durable, &history, "....", done);
    right(&history, "1111", Bounds { after: 5, ..done });
    wrong(Rule::Durable, &history, "1111", Bounds { after: 6, ..done });
}

#[test]
fn an_ignored_discard_is_missing() {
    let history = history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Discard, 0, 4, 4, 5), (Kind::Write, 9, 1, 6, 7)]);
    let all = anywhere(&history);
    right(&history, "1111", all);
    wrong(Rule::Closed, &history, "1111.....3", all);
    wrong(Rule::Durable, &history, "1111", Bounds { after: 6, ..all });
    right(&history, ".........3", all);
}

#[test]
fn what_was_submitted_later_cannot_be_in() {
    let history = history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Write, 0, 2, 4, 5)]);
    let all = anywhere(&history);
    wrong(Rule::Future, &history, "2211", Bounds { before: 4, ..all });
    right(&history, "2211", Bounds { before: 5, ..all });
    right(&history, "1111", Bounds { before: 4, ..all });
}

#[test]
fn nothing_is_in_without_what_came_before_it() {
    let before = history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Write, 8, 2, 4, 5)]);
    wrong(Rule::Closed, &before, "........22", anywhere(&before));
    // Concurrent ones may come in any order.
    let beside = history(&[CLEAR, (Kind::Write, 0, 4, 2, 5), (Kind::Write, 8, 2, 3, 4)]);
    right(&beside, "........22", anywhere(&beside));
    right(&beside, "1111", anywhere(&beside));
    // A third one, after the first and beside the second.
    let three = [CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Write, 0, 2, 4, 9), (Kind::Write, 8, 1, 5, 6)];
    let three = history(&three);
    right(&three, "1111....3", anywhere(&three));
    right(&three, "2211....3", anywhere(&three));
    wrong(Rule::Closed, &three, "........3", anywhere(&three));
}

#[test]
fn a_request_is_in_as_a_whole_or_not_at_all() {
    let history = history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Write, 1, 3, 4, NEVER)]);
    let all = anywhere(&history);
    right(&history, "1222", all);
    right(&history, "1111", all);
    wrong(Rule::Atomic, &history, "1221", all);
    // One that failed, or that is too long for one request, may.
    let mut pieces = history;
    pieces.operations[2].atomic = false;
    right(&pieces, "1221", all);
}

#[test]
fn a_discard_is_in_as_a_whole_or_not_at_all() {
    let history = history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Discard, 0, 4, 4, NEVER)]);
    let all = anywhere(&history);
    right(&history, "....", Bounds { after: 4, ..all });
    right(&history, "1111", Bounds { after: 4, ..all });
    assert!(matches!(judge(&history, &values("11.."), all), Verdict::Wrong(_)));
    // As part of a moment before the write it would be half of that one; as part of one behind it, half a discard.
    assert!(matches!(judge(&history, &values("11.."), Bounds { after: 4, ..all }), Verdict::Wrong(_)));
}

#[test]
fn two_requests_cannot_win_over_each_other() {
    let both = history(&[CLEAR, (Kind::Write, 0, 4, 2, 5), (Kind::Write, 0, 4, 3, 4)]);
    let all = anywhere(&both);
    right(&both, "1111", all);
    right(&both, "2222", all);
    wrong(Rule::Atomic, &both, "1122", all);
    let circle = [CLEAR, (Kind::Write, 0, 4, 2, 7), (Kind::Write, 2, 4, 3, 8), (Kind::Write, 4, 4, 4, 9)];
    let circle = history(&circle);
    right(&circle, "11223333", anywhere(&circle));
    right(&circle, "11112233", anywhere(&circle));
    let ring = [
        CLEAR,
        (Kind::Write, 0, 4, 2, 7),
        (Kind::Write, 2, 4, 3, 8),
        (Kind::Write, 4, 4, 4, 9),
        (Kind::Write, 1, 6, 5, 10),
    ];
    // 4 over 1 in sector 1, 2 over 4 in 3, 3 over 2 in 4: and 1 over 2 in sector 2.
    let ring = history(&ring);
    right(&ring, "14223333", anywhere(&ring));
    wrong(Rule::Atomic, &ring, "14123333", anywhere(&ring));
}

#[test]
fn a_zero_must_have_a_reason() {
    let history = history(&[
        CLEAR,
        (Kind::Write, 0, 4, 2, 3),
        (Kind::Discard, 2, 2, 4, 5),
        (Kind::Write, 8, 1, 6, 7),
        (Kind::Zero, 0, 2, 8, NEVER),
    ]);
    let all = anywhere(&history);
    right(&history, "11......3", all);
    right(&history, "........3", Bounds { after: 8, ..all });
    wrong(Rule::Closed, &history, "........3", Bounds { before: 8, ..all });
    assert!(matches!(judge(&history, &values(".1......3"), all), Verdict::Wrong(_)));
}

#[test]
fn a_device_that_keeps_what_was_discarded_may() {
    let mut history =
        history(&[CLEAR, (Kind::Write, 0, 4, 2, 3), (Kind::Discard, 0, 4, 4, 5), (Kind::Write, 8, 1, 6, 7)]);
    history.header.limits.discard_zeroes = false;
    let done = Bounds { after: history.end, before: history.end };
    right(&history, "1.1.....3", done);
    assert!(matches!(judge(&history, &values("1.x.....3"), done), Verdict::Wrong(_)));
    assert!(matches!(judge(&history, &values("..1......"), done), Verdict::Wrong(_)));
}

#[test]
fn after_a_power_cut_what_was_flushed_is_there_and_the_rest_may_be() {
    let history = history(&[
        CLEAR,
        (Kind::Write, 0, 4, 2, 3),
        (Kind::Flush, 0, 0, 4, 5),
        (Kind::Write, 0, 4, 6, 7),
        (Kind::Write, 8, 4, 8, 9),
        (Kind::Fua, 12, 2, 10, 11),
        (Kind::Discard, 0, 4, 12, NEVER),
    ]);
    let cut = anywhere(&history);
    let judged = |text: &str| after_power_cut(&history, &values(text), cut);
    for text in ["1331....444.55", "1.31........55", "....    ....55"] {
        let text = text.replace(' ', ".");
        assert!(matches!(judged(&text), Verdict::Right(_)), "{text}: {:?}", judged(&text));
    }
    for (text, what) in [
        ("1331....4444", "operation 5 (fua"),
        ("x331....444455", "operation 1 (write"),
        ("1331x...444455", "operation 0 (zero"),
    ] {
        let Verdict::Wrong(violations) = judged(text) else { panic!("{text} is accepted") };
        assert!(violations.iter().all(|one| one.rule == Rule::Durable && one.text.contains(what)), "{violations:?}");
    }
    // Without the discard, zeros have no reason.
    let earlier = Bounds { before: 12, ..cut };
    assert!(matches!(after_power_cut(&history, &values(".331....444455"), earlier), Verdict::Wrong(_)));
    let Verdict::Wrong(violations) = after_power_cut(&history, &values("1331....444455"), Bounds { before: 6, ..cut })
    else {
        panic!("the future is accepted")
    };
    assert!(violations.iter().all(|one| one.rule == Rule::Future), "{violations:?}");
}

/// A device of a few sectors, a history on it, and what it held after each entry.
struct World {
    history: History,
    /// What the device held when so many entries had been made.
    held: Vec<Vec<Value>>,
}

fn world(seed: u64) -> World {
    let mut rng = Rng::new(seed);
    let longest = [64, 3][usize::try_from(rng.below(2)).unwrap()];
    let header = header(longest);
    let mut history = History { header, operations: Vec::new(), end: 0, wall_ns: Vec::new() };
    let mut device = vec![Value::Foreign; usize::try_from(SECTORS).unwrap()];
    let mut held = vec![device.clone()];
    // Operation and whether it has taken effect.
    let mut flying: Vec<(usize, bool)> = Vec::new();
    let most = 1 + rng.below(6);
    for step in 0..120 {
        let begins = (flying.len() as u64) < most && rng.below(2) == 0 && (step == 0 || !history.operations.is_empty());
        let clearing = history.operations.len() < 2 && !flying.is_empty();
        if (begins || flying.is_empty()) && !clearing {
            let kind = match (history.operations.len(), rng.below(8)) {
                (0, _) | (_, 0) => Kind::Zero,
                (_, 1) => Kind::Discard,
                (_, 2) => Kind::Punch,
                (_, 3) => Kind::Flush,
                (_, 4) => Kind::Fua,
                (_, _) => Kind::Write,
            };
            let (sector, sectors) = match (history.operations.len(), kind) {
                (0, _) => (0, SECTORS),
                (_, Kind::Flush) => (0, 0),
                (_, _) => {
                    let sectors = rng.between(1, 6);
                    (rng.below(SECTORS - sectors + 1), sectors)
                }
            };
            let sector = if kind == Kind::Flush { 0 } else { header.first + sector };
            flying.push((history.operations.len(), false));
            history.operations.push(Operation {
                kind,
                lane: 0,
                sector,
                sectors,
                submitted: history.end,
                completed: NEVER,
                failed: false,
                atomic: header.limits.is_one_request(kind, sector, sectors),
                submitted_ns: 0,
            });
        } else {
            let place = usize::try_from(rng.below(flying.len() as u64)).unwrap();
            let (number, done) = flying[place];
            let operation = history.operations[number];
            if !done {
                let value =
                    if operation.kind.writes() { Value::Of(u32::try_from(number).unwrap()) } else { Value::Zero };
                let range = covered(&history, device.len(), &operation);
                device[range].fill(value);
                flying[place].1 = true;
                // What the device holds now is one more thing that it held at this very moment.
                held.last_mut().unwrap().clone_from(&device);
                continue;
            }
            flying.remove(place);
            history.operations[number].completed = history.end;
        }
        history.end += 1;
        history.wall_ns.push(history.end);
        held.push(device.clone());
    }
    World { history, held }
}

#[test]
fn every_moment_of_a_seeded_history_is_right_under_its_own_bounds() {
    for seed in 0..300 {
        let World { history, held } = world(seed);
        for (moment, image) in held.iter().enumerate() {
            let moment = moment as Moment;
            for bounds in [anywhere(&history), Bounds { after: moment, before: moment }] {
                let verdict = judge(&history, image, bounds);
                assert!(matches!(verdict, Verdict::Right(_)), "seed {seed}, moment {moment}: {verdict:?}");
            }
            let cut = after_power_cut(&history, image, Bounds { after: 0, before: moment });
            assert!(matches!(cut, Verdict::Right(_)), "seed {seed}, moment {moment}: {cut:?}");
        }
    }
}

#[test]
fn an_image_of_another_moment_is_wrong_unless_it_looks_the_same() {
    let mut refused = 0;
    for seed in 0..100 {
        let World { history, held } = world(seed);
        for (moment, image) in held.iter().enumerate() {
            // The present without what completed, and the past with what was submitted later.
            let present = Bounds { after: history.end, before: history.end };
            let past = Bounds { after: 0, before: moment as Moment / 2 };
            refused += u32::from(matches!(judge(&history, image, present), Verdict::Wrong(_)));
            refused += u32::from(matches!(judge(&history, image, past), Verdict::Wrong(_)));
        }
    }
    assert!(refused > 10_000, "only {refused}");
}

/// One sector of a right image goes back to what it held when the image shows something that must have come later.
#[test]
fn one_sector_of_the_past_is_found() {
    let mut found = 0;
    for seed in 0..200 {
        let World { history, held } = world(seed);
        let mut rng = Rng::new(seed);
        let image = held.last().unwrap();
        for _ in 0..20 {
            let sector = usize::try_from(rng.below(SECTORS)).unwrap();
            let old = &held[usize::try_from(rng.below(held.len() as u64)).unwrap()];
            if old[sector] == image[sector] {
                continue;
            }
            let mut mixed = image.clone();
            mixed[sector] = old[sector];
            let bounds = Bounds { after: history.end, before: history.end };
            let legal = could_still_show(&history, sector, old[sector]);
            let verdict = judge(&history, &mixed, bounds);
            if !legal {
                assert!(matches!(verdict, Verdict::Wrong(_)), "seed {seed}, sector {sector}: {:?}", old[sector]);
                found += 1;
            }
        }
    }
    assert!(found > 500, "only {found}");
}

/// Whether that sector, looked at alone, may show that value when everything that completed is in.
fn could_still_show(history: &History, sector: usize, value: Value) -> bool {
    let covering =
        || {
            history.operations.iter().enumerate().filter(|(_, operation)| {
                covered(history, usize::try_from(SECTORS).unwrap(), operation).contains(&sector)
            })
        };
    let newest = covering().filter(|(_, over)| over.completed != NEVER).map(|(_, over)| over.submitted).max();
    let newest = newest.unwrap_or(0);
    match value {
        Value::Foreign | Value::Refused => false,
        Value::Of(number) => history.operations[number as usize].completed >= newest,
        Value::Zero => covering().any(|(_, over)| !over.kind.writes() && over.completed >= newest),
    }
}
