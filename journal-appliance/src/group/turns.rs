//! Who takes a turn, and what waits for one.
//!
//! Owns the mailbox, the group's thread, and that one turn is taken at a time. An event that comes while nothing waits and
//! nobody has a turn may be dealt with by whoever brings it: in a `sync` group a host waits for a chunk, and a thread
//! woken for it would make its way longer by as much as the journal's own work. What comes of one connection keeps its order:
//! an event leaves the mailbox only under the turn that deals with it, and nobody takes a turn past one that waits there.
//! Knows nothing of what an event is.
//!
//! Bounded: when `MAILBOX` events wait, whoever brings another waits.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Events that may wait. When so many do, readers of links wait (and their splitters' sends with them), and so do
/// operators' requests.
const MAILBOX: usize = 256;

/// Something to which things happen in turn.
pub(super) trait TakesTurns: Send + 'static {
    /// What happens.
    type Event: Send;

    /// Said on the thread, before its first turn.
    fn begins(&self) {}

    /// Deals with what `next` brings, up to a limit, and with what is due. `Break` at the end: no turn follows.
    fn turn(&mut self, next: &mut dyn FnMut() -> Option<Self::Event>) -> ControlFlow<()>;

    /// How long the next turn may wait if nothing comes.
    fn patience(&self) -> Duration;
}

/// Nothing is taken any more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended;

#[derive(Debug)]
struct Waiting<E> {
    events: VecDeque<E>,
    closed: bool,
    /// When a turn is due although nothing came. Changed only by who has the turn.
    due: Instant,
    /// Until when the thread sleeps, if it does.
    sleeps_until: Option<Instant>,
    /// Threads that wait for room.
    blocked: usize,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Turns<T: TakesTurns> {
    /// Held for a turn; nothing in it once the last is over. Taken before `waiting`.
    taker: Mutex<Option<T>>,
    waiting: Mutex<Waiting<T::Event>>,
    came: Condvar,
    room: Condvar,
}

impl<T: TakesTurns> Turns<T> {
    /// Starts the thread that takes a turn when something waits or is due.
    pub(super) fn start(name: String, taker: T) -> std::io::Result<(Arc<Self>, JoinHandle<()>)> {
        let due = Instant::now() + taker.patience();
        let turns = Arc::new(Self {
            taker: Mutex::new(Some(taker)),
            waiting: Mutex::new(Waiting {
                events: VecDeque::new(),
                closed: false,
                due,
                sleeps_until: None,
                blocked: 0,
            }),
            came: Condvar::new(),
            room: Condvar::new(),
        });
        let thread = thread::Builder::new().name(name).spawn({
            let turns = Arc::clone(&turns);
            move || {
                // By a panic too: whoever brings something must not wait for a thread that is gone.
                let _closing = Closing(&*turns);
                if let Ok(Some(taker)) = turns.taker.lock().as_deref() {
                    taker.begins();
                }
                turns.run();
            }
        })?;
        Ok((turns, thread))
    }

    /// Leaves an event for the thread; waits while the mailbox is full.
    pub(super) fn send(&self, event: T::Event) -> Result<(), Ended> {
        let mut waiting = self.waiting();
        waiting.blocked += 1;
        waiting = self
            .room
            .wait_while(waiting, |waiting| !waiting.closed && waiting.events.len() >= MAILBOX)
            .unwrap_or_else(PoisonError::into_inner);
        waiting.blocked -= 1;
        if waiting.closed {
            return Err(Ended);
        }
        waiting.events.push_back(event);
        let sleeps = waiting.sleeps_until.take().is_some();
        drop(waiting);
        if sleeps {
            self.came.notify_one();
        }
        Ok(())
    }

    /// Takes a turn for an event here and now, if nothing waits and nobody has a turn; else leaves it for the thread.
    pub(super) fn bring(&self, event: T::Event) -> Result<(), Ended> {
        match self.turn_here(event) {
            None => Ok(()),
            Some(event) => self.send(event),
        }
    }

    fn turn_here(&self, event: T::Event) -> Option<T::Event> {
        // Where a turn has ended in a panic the thread sees to it.
        let Ok(mut held) = self.taker.try_lock() else { return Some(event) };
        let Some(taker) = held.as_mut() else { return Some(event) };
        if !self.waiting().events.is_empty() {
            return Some(event);
        }
        let mut event = Some(event);
        let ended = taker.turn(&mut || event.take()).is_break();
        if ended {
            *held = None;
            self.close();
        } else {
            self.turn_is_over(taker);
        }
        // A turn takes at least one event.
        event
    }

    fn run(&self) {
        loop {
            self.sleep();
            // A turn that a reader took has ended in a panic: nobody knows what it left behind.
            let Ok(mut held) = self.taker.lock() else { return };
            let Some(taker) = held.as_mut() else { return };
            if taker.turn(&mut || self.next()).is_break() {
                *held = None;
                return;
            }
            self.turn_is_over(taker);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting<T::Event>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asked only by who has the turn.
    fn next(&self) -> Option<T::Event> {
        let mut waiting = self.waiting();
        let event = waiting.events.pop_front();
        let blocked = waiting.blocked > 0;
        drop(waiting);
        if blocked {
            self.room.notify_one();
        }
        event
    }

    /// Said before the turn is given back: the thread sleeps no longer than until the next is due.
    fn turn_is_over(&self, taker: &T) {
        let due = Instant::now() + taker.patience();
        let mut waiting = self.waiting();
        waiting.due = due;
        let late = waiting.sleeps_until.take_if(|until| *until > due).is_some();
        drop(waiting);
        if late {
            self.came.notify_one();
        }
    }

    /// Until something waits or is due, or there is no turn any more.
    fn sleep(&self) {
        let mut waiting = self.waiting();
        while waiting.events.is_empty() && !waiting.closed {
            let left = waiting.due.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            waiting.sleeps_until = Some(waiting.due);
            (waiting, _) = self.came.wait_timeout(waiting, left).unwrap_or_else(PoisonError::into_inner);
        }
        waiting.sleeps_until = None;
    }

    fn close(&self) {
        let mut waiting = self.waiting();
        waiting.closed = true;
        // Whoever waits for an answer to one learns that there will be none.
        let left = std::mem::take(&mut waiting.events);
        drop(waiting);
        drop(left);
        self.came.notify_all();
        self.room.notify_all();
    }
}

struct Closing<'t, T: TakesTurns>(&'t Turns<T>);

impl<T: TakesTurns> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[cfg(test)]
mod tests;
