//! A task goes on promptly when another thread wakes it, and no wake-up is ever lost.

use std::future::poll_fn;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;

use super::{Executor, Wakeups};
use crate::ring::Ring;

/// A value that another thread will put there.
#[derive(Default)]
struct Slot(Mutex<(Option<u32>, Option<Waker>)>);

impl Slot {
    fn put(&self, value: u32) {
        let waker = {
            let mut slot = self.0.lock().expect("lock");
            slot.0 = Some(value);
            slot.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    async fn take(&self) -> u32 {
        poll_fn(|context| {
            let mut slot = self.0.lock().expect("lock");
            if let Some(value) = slot.0.take() {
                return Poll::Ready(value);
            }
            slot.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

fn run(mut executor: Executor<'_>, wakeups: &Arc<Wakeups>) {
    let ring = Ring::of_this_thread(8).expect("io_uring");
    while {
        executor.turn();
        executor.live() > 0
    } {
        ring.arm_wake(wakeups.event()).expect("arm");
        // A lost wake-up would wait here for ever; the test runner's time limit says so.
        ring.turn(wakeups.park(|| false), |_| {}).expect("turn");
        wakeups.unpark();
    }
    drop(executor);
    while ring.in_flight() > 0 {
        wakeups.event().write(1).expect("eventfd");
        ring.turn(true, |_| {}).expect("turn");
    }
}

#[test]
fn thousands_of_wake_ups_from_another_thread_all_arrive() {
    const TASKS: usize = 8;
    const ROUNDS: u32 = 2000;
    let slots: Vec<_> = (0..TASKS).map(|_| Arc::new(Slot::default())).collect();
    let (asks, asked) = channel::<(usize, u32)>();
    let other = {
        let slots = slots.clone();
        thread::spawn(move || {
            for (task, round) in asked {
                slots[task].put(round + 1);
            }
        })
    };
    let wakeups = Wakeups::new().expect("eventfd");
    let mut executor = Executor::new(Arc::clone(&wakeups));
    for (task, slot) in slots.iter().enumerate() {
        let asks: Sender<_> = asks.clone();
        executor.add(async move {
            for round in 0..ROUNDS {
                asks.send((task, round)).expect("other thread");
                assert_eq!(slot.take().await, round + 1);
            }
        });
    }
    drop(asks);
    run(executor, &wakeups);
    other.join().expect("other thread");
}

#[test]
fn a_wake_up_between_the_last_look_and_the_wait_is_seen() {
    let wakeups = Wakeups::new().expect("eventfd");
    assert!(wakeups.park(|| false), "nothing to do");
    // Another thread comes now: it must write the eventfd, since the list has been looked at.
    thread::scope(|scope| {
        scope.spawn(|| wakeups.push(3));
    });
    assert_eq!(wakeups.event().read().expect("read"), 1);
    wakeups.unpark();
    assert!(!wakeups.park(|| false), "a task is ready: no wait");
}

#[test]
fn something_else_to_do_keeps_the_queue_from_waiting() {
    let wakeups = Wakeups::new().expect("eventfd");
    assert!(!wakeups.park(|| true));
    assert!(wakeups.park(|| false));
}

#[test]
fn a_wake_up_after_the_queue_has_gone_does_no_harm() {
    let slot = Arc::new(Slot::default());
    let wakeups = Wakeups::new().expect("eventfd");
    let mut executor = Executor::new(Arc::clone(&wakeups));
    let its = Arc::clone(&slot);
    executor.add(async move {
        its.take().await;
    });
    executor.turn();
    drop(executor);
    drop(wakeups);
    slot.put(1);
}
