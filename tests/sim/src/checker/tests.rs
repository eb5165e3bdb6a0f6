//! What the checker must find, and what it must let pass.

use super::*;
use record::geometry::Extent;

const FREE: Stamp = Stamp { session: 1, laid: u64::MAX };

struct Told {
    history: History,
}

fn told() -> Told {
    Told { history: History::new(vec![vec![Cell::Zero; 8], vec![Cell::Of(0); 8]]) }
}

impl Told {
    fn ask(&mut self, volume: u32, start: u64, count: u64) -> u64 {
        self.history.submit(volume, Extent::new(start, count).unwrap(), Change::Data, false)
    }

    fn zero(&mut self, volume: u32, start: u64, count: u64) -> u64 {
        self.history.submit(volume, Extent::new(start, count).unwrap(), Change::Zeros, false)
    }

    fn answer(&mut self, id: u64, laid: u64) {
        self.history.complete(id, Outcome::Done, Stamp { session: 1, laid });
    }

    fn judge(&self, needs: Needs, first: [u64; 8]) -> Result<(), String> {
        let cells = first.iter().map(|id| if *id == 0 { Cell::Zero } else { Cell::Of(*id) }).collect();
        let claim = Claim { what: "image", era: 0, until: Tick::MAX, needs, closed: true };
        judge(&self.history, claim, &[(1, cells), (2, vec![Cell::Of(0); 8])])
    }
}

#[test]
fn of_two_writes_one_after_the_other_there_are_three_cases() {
    let mut told = told();
    let a = told.ask(1, 0, 2);
    told.answer(a, 2);
    let b = told.ask(1, 1, 2);
    told.answer(b, 3);
    for legal in [[0; 8], [a, a, 0, 0, 0, 0, 0, 0], [a, b, b, 0, 0, 0, 0, 0]] {
        told.judge(Needs::Nothing, legal).unwrap();
    }
    for wrong in
        [[0, b, b, 0, 0, 0, 0, 0], [a, a, b, 0, 0, 0, 0, 0], [a, 0, 0, 0, 0, 0, 0, 0], [a, b, 0, 0, 0, 0, 0, 0]]
    {
        told.judge(Needs::Nothing, wrong).unwrap_err();
    }
    told.judge(Needs::Answered(Tick::MAX), [a, a, 0, 0, 0, 0, 0, 0]).unwrap_err();
    told.judge(Needs::Stamped(Stamp { session: 1, laid: 2 }), [0; 8]).unwrap_err();
    told.judge(Needs::Stamped(Stamp { session: 1, laid: 2 }), [a, a, 0, 0, 0, 0, 0, 0]).unwrap();
}

#[test]
fn of_two_writes_at_once_either_wins_but_everywhere() {
    let mut told = told();
    let (a, b) = (told.ask(1, 0, 3), told.ask(1, 1, 3));
    told.answer(a, 2);
    told.answer(b, 3);
    told.judge(Needs::Answered(Tick::MAX), [a, a, a, b, 0, 0, 0, 0]).unwrap();
    told.judge(Needs::Answered(Tick::MAX), [a, b, b, b, 0, 0, 0, 0]).unwrap();
    told.judge(Needs::Answered(Tick::MAX), [a, a, b, b, 0, 0, 0, 0]).unwrap_err();
}

#[test]
fn a_failed_write_may_show_any_part_and_still_has_a_past() {
    let mut told = told();
    let a = told.ask(1, 5, 1);
    told.answer(a, 2);
    let b = told.ask(1, 0, 3);
    told.history.complete(b, Outcome::Failed, FREE);
    told.judge(Needs::Nothing, [0, b, 0, 0, 0, a, 0, 0]).unwrap();
    told.judge(Needs::Nothing, [0, b, 0, 0, 0, 0, 0, 0]).unwrap_err();
}

#[test]
fn a_write_that_a_discard_took_away_must_not_come_back() {
    let mut told = told();
    let a = told.ask(1, 0, 2);
    told.answer(a, 2);
    let gone = told.zero(1, 0, 2);
    told.answer(gone, 3);
    told.judge(Needs::Answered(Tick::MAX), [0; 8]).unwrap();
    told.judge(Needs::Answered(Tick::MAX), [a, a, 0, 0, 0, 0, 0, 0]).unwrap_err();
    let again = told.ask(1, 0, 1);
    told.judge(Needs::Nothing, [again, a, 0, 0, 0, 0, 0, 0]).unwrap_err();
    told.judge(Needs::Nothing, [again, 0, 0, 0, 0, 0, 0, 0]).unwrap();
}

#[test]
fn order_holds_across_volumes() {
    let mut told = told();
    let a = told.ask(2, 0, 1);
    told.answer(a, 2);
    let b = told.ask(1, 0, 1);
    told.answer(b, 3);
    told.judge(Needs::Nothing, [b, 0, 0, 0, 0, 0, 0, 0]).unwrap_err();
    told.judge(Needs::Nothing, [0; 8]).unwrap();
}

#[test]
fn nothing_of_the_future_and_nothing_of_nobody() {
    let mut told = told();
    let a = told.ask(1, 0, 1);
    let claim = Claim { what: "image", era: 0, until: 0, needs: Needs::Nothing, closed: true };
    let mut cells = vec![Cell::Zero; 8];
    cells[0] = Cell::Of(a);
    judge(&told.history, claim, &[(1, cells.clone())]).unwrap_err();
    cells[0] = Cell::Garbage;
    judge(&told.history, claim, &[(1, cells)]).unwrap_err();
}

#[test]
fn after_a_power_cut_only_what_was_flushed_must_be_there() {
    let mut told = told();
    let (a, b) = (told.ask(1, 0, 1), told.ask(1, 1, 1));
    told.answer(a, 2);
    let asked = told.history.tick();
    told.history.flushes.push((1, asked));
    told.answer(b, 3);
    let c = told.ask(1, 2, 1);
    told.answer(c, 4);
    let claim = Claim { what: "volume", era: 0, until: Tick::MAX, needs: Needs::Flushed, closed: false };
    let cells =
        |ids: [u64; 3]| vec![(1, ids.iter().map(|id| if *id == 0 { Cell::Zero } else { Cell::Of(*id) }).collect())];
    judge(&told.history, claim, &cells([a, 0, c])).unwrap();
    judge(&told.history, claim, &cells([0, b, c])).unwrap_err();
}
