//! Reading a group's journal again, from one end to the other, before somebody needs it: the scrub.
//!
//! Owns the thread, its pace, and what came of the last pass. A pass takes as long as the policy says, so that a large
//! journal is read faster than a small one; it never has the disk for more than half of the time, and never crawls. What
//! is damaged is named by the journal and told as an event; nothing is changed. A restart begins a new pass.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use control::answer::kept::ScrubStatus;
use control::events::Events;
use journal::Journal;
use record::position::Position;

use crate::events::damaged;

/// Bytes of one step, or one chunk.
const STEP: u64 = 1 << 20;
/// A pass is never slower than this, bytes a second: a small journal is done early, and then there is a rest.
const SLOWEST: u64 = 1 << 20;

/// What the thread is told, and what it tells.
#[derive(Debug, Default)]
struct Shared {
    held: Mutex<Held>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Held {
    ends: bool,
    /// How often all of it is to have been read; `None`: never.
    every: Option<Duration>,
    /// Counts what was set, so that a pass under way notices.
    orders: u64,
    status: ScrubStatus,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits so long, or until something is set; `None`: until something is set.
    fn rest<'s>(&self, held: MutexGuard<'s, Held>, wait: Option<Duration>) -> MutexGuard<'s, Held> {
        match wait {
            Some(wait) => self.changed.wait_timeout(held, wait).unwrap_or_else(PoisonError::into_inner).0,
            None => self.changed.wait(held).unwrap_or_else(PoisonError::into_inner),
        }
    }
}

/// It, as the group's handle holds it. Ends when it is dropped, after the step at hand.
#[derive(Debug)]
pub struct Scrub {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Scrub {
    /// Starts the thread.
    pub fn start(
        group: &str,
        journal: &Arc<Journal>,
        every: Option<Duration>,
        events: &Events,
    ) -> std::io::Result<Self> {
        let shared = Arc::new(Shared::default());
        shared.lock().every = every;
        let (name, journal, told, events) =
            (group.to_owned(), Arc::clone(journal), Arc::clone(&shared), events.clone());
        let thread = thread::Builder::new()
            .name(format!("scrub {group}"))
            .spawn(move || scrub(&name, &journal, &told, &events))?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on all of the journal is read so often; a pass under way goes on at the new pace.
    pub fn set(&self, every: Option<Duration>) {
        let mut held = self.shared.lock();
        held.every = every;
        held.orders += 1;
        self.shared.changed.notify_all();
    }

    /// How far it is.
    pub fn status(&self) -> ScrubStatus {
        self.shared.lock().status
    }
}

impl Drop for Scrub {
    fn drop(&mut self) {
        self.shared.lock().ends = true;
        self.shared.changed.notify_all();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that reads the journal again ended by a panic");
        }
    }
}

/// How long after its beginning a pass has read so much of so many bytes, at the earliest.
fn due(every: Duration, done: u64, total: u64) -> Duration {
    let in_time = every.mul_f64((done as f64 / total.max(1) as f64).min(1.0));
    let crawling = Duration::from_secs_f64(done as f64 / SLOWEST as f64);
    in_time.min(crawling)
}

fn scrub(group: &str, journal: &Journal, shared: &Shared, events: &Events) {
    loop {
        let began = Instant::now();
        let Some(orders) = pass(group, journal, shared, events, began) else { return };
        let mut held = shared.lock();
        // The next one begins when its time has come, or another one was set.
        while !held.ends && held.orders == orders {
            let wait = held.every.map(|every| every.saturating_sub(began.elapsed()));
            if wait == Some(Duration::ZERO) {
                break;
            }
            held = shared.rest(held, wait);
        }
        if held.ends {
            return;
        }
    }
}

/// Reads everything once; answers with how often something had been set when it ended, so that what is set from then on is
/// noticed. `None`: the thread is to end. A pass that is switched off ends early, and is none.
fn pass(group: &str, journal: &Journal, shared: &Shared, events: &Events, began: Instant) -> Option<u64> {
    let mut from = Position::ORIGIN;
    let total = journal.status().used_bytes;
    {
        let mut held = shared.lock();
        held.status = ScrubStatus {
            under_way: held.every.is_some(),
            done_bytes: 0,
            total_bytes: total,
            began_ns: control::time::now(),
            ..held.status
        };
    }
    loop {
        {
            let mut held = shared.lock();
            if held.ends {
                return None;
            }
            if held.every.is_none() {
                held.status.under_way = false;
                return Some(held.orders);
            }
        }
        let reading = Instant::now();
        let step = journal.scrub(from, STEP);
        let took = reading.elapsed();
        for damage in &step.found {
            tracing::error!(group, place = %damage.place, "the scrub found the journal damaged; images that need it are refused there");
            events.tell(damaged(damage).group(group));
        }
        let mut held = shared.lock();
        held.status.done_bytes += step.bytes;
        held.status.found += step.found.len() as u64;
        let Some(next) = step.next else {
            held.status.under_way = false;
            held.status.ended_ns = Some(control::time::now());
            return Some(held.orders);
        };
        from = next;
        // Half of the disk's time is for everybody else, whatever the pace.
        let rested = Instant::now();
        while !held.ends
            && let Some(every) = held.every
        {
            let status = held.status;
            let paced = due(every, status.done_bytes, status.total_bytes).saturating_sub(began.elapsed());
            let wait = paced.max(took.saturating_sub(rested.elapsed()));
            if wait.is_zero() {
                break;
            }
            held = shared.rest(held, Some(wait));
        }
    }
}

#[cfg(test)]
pub(super) mod made;
#[cfg(test)]
mod tests;
