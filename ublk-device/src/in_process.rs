//! The same front end without a kernel: a [`Service`] served from memory, in this process.
//!
//! Owns queues, tags, buffers, rings and wake-ups exactly as a device has them, so that what works here works behind
//! ublk; a caller's [`InProcess::submit`] stands in for the host. Needs `io_uring`, but neither root nor ublk. For
//! tests and benches of services.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use std::thread::{self, JoinHandle};

use crate::buffer::IoBuffer;
use crate::errno::Errno;
use crate::executor::{Executor, Wakeups};
use crate::queue::AbortOnPanic;
use crate::request::{Kind, Request};
use crate::ring::Ring;
use crate::service::{QueueContext, QueueService, Service};
use crate::spec::DeviceSpec;

#[cfg(test)]
mod tests;

/// A running front end in memory.
#[derive(Debug)]
pub struct InProcess {
    queues: Vec<InProcessQueue>,
}

#[derive(Debug)]
struct InProcessQueue {
    inbox: Arc<Inbox>,
    thread: JoinHandle<()>,
}

/// The answer to a request, to be waited for.
#[derive(Debug)]
pub struct Completion(Receiver<(Result<(), Errno>, Vec<u8>)>);

impl Completion {
    /// Waits for the answer; with it come the request's data bytes, as the service left them in its buffer.
    pub fn wait(self) -> (Result<(), Errno>, Vec<u8>) {
        self.0.recv().unwrap_or((Err(Errno::ENODEV), Vec::new()))
    }

    /// The answer, if it is there.
    pub fn try_take(&self) -> Option<(Result<(), Errno>, Vec<u8>)> {
        self.0.try_recv().ok()
    }
}

struct Job {
    kind: Kind,
    data: Vec<u8>,
    answer: Sender<(Result<(), Errno>, Vec<u8>)>,
}

#[derive(Default)]
struct Inbox {
    state: Mutex<InboxState>,
    room: Condvar,
}

#[derive(Default)]
struct InboxState {
    /// Bounded by the depth: whoever submits waits for room.
    jobs: VecDeque<Job>,
    /// Tags without a request.
    idle: Vec<Waker>,
    depth: usize,
    closed: bool,
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Inbox({} waiting)", self.lock().jobs.len())
    }
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, InboxState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next request; `None` once the front end is closed.
    async fn next(&self) -> Option<Job> {
        poll_fn(|context| {
            let mut state = self.lock();
            if let Some(job) = state.jobs.pop_front() {
                self.room.notify_one();
                return Poll::Ready(Some(job));
            }
            if state.closed {
                return Poll::Ready(None);
            }
            state.idle.push(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}

impl InProcess {
    /// Starts a thread for each queue of the spec. Its number and names mean nothing here.
    pub fn start<S: Service>(spec: &DeviceSpec, service: &Arc<S>) -> io::Result<Self> {
        spec.check().map_err(io::Error::other)?;
        let mut front = Self { queues: Vec::new() };
        for queue in 0..spec.queues {
            let context =
                QueueContext { device: spec.id, queue, queues: spec.queues, depth: spec.depth, limits: spec.limits() };
            let inbox = Arc::new(Inbox::default());
            inbox.lock().depth = usize::from(spec.depth);
            let (ready, outcome) = channel();
            let (service, its) = (Arc::clone(service), Arc::clone(&inbox));
            let thread = thread::Builder::new().name(format!("in-process-q{queue}")).spawn(move || {
                let _guard = AbortOnPanic;
                run(context, &*service, &its, &ready);
            })?;
            match outcome.recv() {
                Ok(Ok(())) => front.queues.push(InProcessQueue { inbox, thread }),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::Error::other("a queue's thread ended")),
            }
        }
        Ok(front)
    }

    /// Hands a request to a queue, as a host would; waits while the queue is full. `data` is what a write stores; for
    /// every other kind it may be empty. The request must keep to the spec's limits.
    pub fn submit(&self, queue: u16, kind: Kind, data: Vec<u8>) -> Completion {
        let (answer, outcome) = channel();
        let inbox = &self.queues[usize::from(queue)].inbox;
        let state = inbox.lock();
        let mut state = inbox
            .room
            .wait_while(state, |state| state.jobs.len() >= state.depth && !state.closed)
            .unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.jobs.push_back(Job { kind, data, answer });
            let waker = state.idle.pop();
            drop(state);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
        Completion(outcome)
    }

    /// Finishes the requests in flight and ends.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for InProcess {
    fn drop(&mut self) {
        for queue in self.queues.drain(..) {
            let wakers = {
                let mut state = queue.inbox.lock();
                state.closed = true;
                std::mem::take(&mut state.idle)
            };
            queue.inbox.room.notify_all();
            for waker in wakers {
                waker.wake();
            }
            // A panic in it has ended the process.
            let _ = queue.thread.join();
        }
    }
}

fn run<S: Service>(context: QueueContext, service: &S, inbox: &Inbox, ready: &Sender<io::Result<()>>) {
    let opened = (|| {
        let ring = Ring::of_this_thread(u32::from(context.depth) * 2)?;
        let wakeups = Wakeups::new()?;
        let buffers = (0..context.depth)
            .map(|_| IoBuffer::new(context.limits.max_io_bytes as usize))
            .collect::<io::Result<Vec<_>>>()?;
        Ok((ring, wakeups, buffers, service.open_queue(context)?))
    })();
    let (ring, wakeups, mut buffers, service) = match opened {
        Ok(opened) => opened,
        Err(error) => {
            let _ = ready.send(Err(error));
            return;
        }
    };
    let _ = ready.send(Ok(()));
    {
        let mut executor = Executor::new(Arc::clone(&wakeups));
        for (tag, buffer) in (0..context.depth).zip(&mut buffers) {
            executor.add(serve(tag, context.queue, &service, buffer, &ring, inbox));
        }
        loop {
            executor.turn();
            if executor.live() == 0 {
                break;
            }
            service.before_wait(&ring);
            let outcome = ring.arm_wake(wakeups.event()).and_then(|()| ring.turn(wakeups.park(|| false), |_| {}));
            wakeups.unpark();
            if let Err(error) = outcome {
                panic!("the ring of an in-process queue failed: {error}");
            }
            if ring.was_ready() {
                service.ready(&ring);
            }
        }
    }
    ring.unwatch();
    while ring.in_flight() > 0 {
        let outcome = wakeups.event().write(1).map_err(io::Error::from).and_then(|_| ring.turn(true, |_| {}));
        if let Err(error) = outcome {
            panic!("the ring of an in-process queue failed: {error}");
        }
    }
}

async fn serve<Q: QueueService>(tag: u16, queue: u16, service: &Q, buffer: &mut IoBuffer, ring: &Ring, inbox: &Inbox) {
    while let Some(Job { kind, data, answer }) = inbox.next().await {
        let copied = data.len().min(buffer.len());
        buffer[..copied].copy_from_slice(&data[..copied]);
        let outcome = service.handle(Request { tag, queue, kind }, buffer, ring).await;
        let length = usize::try_from(kind.data_bytes()).unwrap_or(usize::MAX).min(buffer.len());
        // Nobody may be waiting for it.
        let _ = answer.send((outcome, buffer[..length].to_vec()));
    }
}
