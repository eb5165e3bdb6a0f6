//! The order is thrown, the time is virtual, the dead stay dead.

use super::*;
use crate::time::S;

fn order(seed: u64) -> (Vec<u64>, u64) {
    time::begin();
    let executor = Executor::new(&Dice::new(seed));
    let seen = Rc::new(RefCell::new(Vec::new()));
    for n in 0..8 {
        let (seen, its) = (Rc::clone(&seen), executor.clone());
        executor.spawn(Owner::World, async move {
            seen.borrow_mut().push(n);
            its.sleep(n * S).await;
            seen.borrow_mut().push(100 + n);
        });
    }
    while executor.step() != Step::Idle {}
    (seen.take(), time::now())
}

#[test]
fn the_seed_decides_who_runs_and_only_the_seed() {
    assert_eq!(order(7), order(7));
    let orders: BTreeSet<_> = (0..20).map(|seed| order(seed).0).collect();
    assert!(orders.len() > 10, "{} orders", orders.len());
    assert_eq!(order(1).1, 7 * S, "no time is spent on anything but waiting");
}

#[test]
fn a_killed_owner_s_tasks_go_where_they_stand() {
    time::begin();
    let executor = Executor::new(&Dice::new(1));
    let seen = Rc::new(Cell::new(0));
    for owner in [Owner::Splitter, Owner::Appliance] {
        let (seen, its) = (Rc::clone(&seen), executor.clone());
        executor.spawn(owner, async move {
            its.sleep(1).await;
            seen.set(seen.get() + 1);
        });
    }
    executor.step();
    executor.kill(Owner::Splitter);
    while executor.step() != Step::Idle {}
    assert_eq!(seen.get(), 1);
}

#[test]
fn a_poll_that_is_cut_off_is_told_from_a_panic() {
    time::begin();
    let executor = Executor::new(&Dice::new(1));
    executor.spawn(Owner::Splitter, async { resume_unwind(Box::new(Killed)) });
    assert_eq!(executor.step(), Step::Killed(Owner::Splitter));
    executor.spawn(Owner::Splitter, async { resume_unwind(Box::new("a defect")) });
    assert!(catch_unwind(AssertUnwindSafe(|| executor.step())).is_err());
}

#[test]
fn a_ring_between_looking_and_waiting_is_not_missed() {
    time::begin();
    let executor = Executor::new(&Dice::new(1));
    let signal = Signal::default();
    let done = Rc::new(Cell::new(false));
    let (waits, its) = (signal.wait(), Rc::clone(&done));
    executor.spawn(Owner::World, async move {
        waits.await;
        its.set(true);
    });
    signal.ring();
    while executor.step() != Step::Idle {}
    assert!(done.get());
}
