//! The tasks of one queue and who wakes them.
//!
//! Owns the list of tasks that can go on, and the eventfd that ends the queue thread's wait when another thread wakes
//! one of them: that thread blocks in `io_uring_enter` and learns of nothing but completions. Deliberately a few lines
//! instead of an executor crate: the number of tasks is fixed, and nothing is allocated for a wake-up.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Wake, Waker};

use nix::sys::eventfd::{EfdFlags, EventFd};

#[cfg(test)]
mod tests;

thread_local! {
    /// Which wake-up list belongs to this thread, by its address: whoever wakes a task of it here need not write the
    /// eventfd, since the thread looks at the list before it waits.
    static OWN: Cell<usize> = const { Cell::new(0) };
}

/// The tasks that can go on, and the way to end the wait for one. Outlives the queue in wakers that others hold.
#[derive(Debug)]
pub(crate) struct Wakeups {
    /// Bounded: each task is in it at most once.
    ready: Mutex<Vec<u32>>,
    /// The thread waits, or is about to and will look at the list once more.
    parked: AtomicBool,
    event: EventFd,
}

impl Wakeups {
    pub(crate) fn new() -> io::Result<Arc<Self>> {
        let event = EventFd::from_flags(EfdFlags::EFD_CLOEXEC)?;
        Ok(Arc::new(Self { ready: Mutex::default(), parked: AtomicBool::new(false), event }))
    }

    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    fn push(self: &Arc<Self>, task: u32) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).push(task);
        if OWN.get() != Arc::as_ptr(self).addr() {
            self.end_wait();
        }
    }

    /// Ends the thread's wait, if it waits. Either it set `parked` before this looked, and is woken; or it sets it
    /// later, and then finds what the caller put into the list (or elsewhere) before.
    pub(crate) fn end_wait(&self) {
        if self.parked.swap(false, Ordering::SeqCst) {
            // The counter cannot overflow: only who finds `parked` writes, once for each wait.
            let _ = self.event.write(1);
        }
    }

    /// Says that the thread is about to wait; `false` if it must not, because there is something to do.
    pub(crate) fn park(&self, more: impl FnOnce() -> bool) -> bool {
        self.parked.store(true, Ordering::SeqCst);
        let idle = self.ready.lock().unwrap_or_else(PoisonError::into_inner).is_empty() && !more();
        if !idle {
            self.parked.store(false, Ordering::SeqCst);
        }
        idle
    }

    pub(crate) fn unpark(&self) {
        self.parked.store(false, Ordering::SeqCst);
    }
}

struct TaskWaker {
    wakeups: Arc<Wakeups>,
    task: u32,
    queued: AtomicBool,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::SeqCst) {
            self.wakeups.push(self.task);
        }
    }
}

struct Task<'t> {
    /// Gone when finished.
    future: Option<Pin<Box<dyn Future<Output = ()> + 't>>>,
    state: Arc<TaskWaker>,
    waker: Waker,
}

/// A fixed set of tasks, polled on one thread.
pub(crate) struct Executor<'t> {
    tasks: Vec<Task<'t>>,
    wakeups: Arc<Wakeups>,
    live: usize,
    /// The list last taken, kept for its memory.
    batch: Vec<u32>,
}

impl<'t> Executor<'t> {
    /// An executor of the current thread.
    pub(crate) fn new(wakeups: Arc<Wakeups>) -> Self {
        OWN.set(Arc::as_ptr(&wakeups).addr());
        Self { tasks: Vec::new(), wakeups, live: 0, batch: Vec::new() }
    }

    /// Adds a task; it runs at the next turn.
    pub(crate) fn add(&mut self, future: impl Future<Output = ()> + 't) {
        #[expect(clippy::cast_possible_truncation, reason = "a queue has at most 4096 tags")]
        let task = self.tasks.len() as u32;
        let state = Arc::new(TaskWaker { wakeups: Arc::clone(&self.wakeups), task, queued: AtomicBool::new(false) });
        let waker = Waker::from(Arc::clone(&state));
        waker.wake_by_ref();
        self.tasks.push(Task { future: Some(Box::pin(future)), state, waker });
        self.live += 1;
    }

    /// Polls every task that can go on, once.
    pub(crate) fn turn(&mut self) {
        let mut batch = mem::take(&mut self.batch);
        mem::swap(&mut batch, &mut *self.wakeups.ready.lock().unwrap_or_else(PoisonError::into_inner));
        for index in batch.drain(..) {
            let task = &mut self.tasks[index as usize];
            // Before the poll: a wake-up during it must count.
            task.state.queued.store(false, Ordering::SeqCst);
            let Some(future) = &mut task.future else { continue };
            if future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready() {
                task.future = None;
                self.live -= 1;
            }
        }
        self.batch = batch;
    }

    /// Tasks that have not finished.
    pub(crate) fn live(&self) -> usize {
        self.live
    }
}

impl Drop for Executor<'_> {
    fn drop(&mut self) {
        OWN.set(0);
    }
}
