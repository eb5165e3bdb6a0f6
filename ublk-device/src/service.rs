//! What a device asks of the program that serves it.
//!
//! Owns the two traits and what is promised to their implementations; knows nothing of what they do.

use std::future::Future;
use std::io;

use crate::buffer::IoBuffer;
use crate::errno::Errno;
use crate::request::{Limits, Request};
use crate::ring::Ring;
use crate::spec::DeviceId;

/// What is behind a device; shared by its queues.
pub trait Service: Send + Sync + 'static {
    /// What one queue has for itself.
    type Queue: QueueService;

    /// Makes a queue's own part, once, on the queue's own thread, before any request; it lives there until the queue
    /// ends, so it need not be `Send`. An error undoes the start of the whole device.
    fn open_queue(&self, context: QueueContext) -> io::Result<Self::Queue>;
}

/// Serves the requests of one queue, each as a task on the queue's thread.
pub trait QueueService: 'static {
    /// Serves one request; its answer is the host's answer.
    ///
    /// As many run at the same time as the queue has requests, interleaved at their await points; each has the buffer
    /// of its tag. A future may await operations of `ring` and anything else that wakes it, from any thread.
    ///
    /// It must come to an end: stopping a device waits for every request in flight, and so does the host for ever
    /// (ublk never times out a request of a living process). It must not block the thread. A panic ends the process,
    /// so that a recovery can start from a known state.
    fn handle(&self, request: Request, buffer: &mut IoBuffer, ring: &Ring) -> impl Future<Output = Result<(), Errno>>;

    /// Every request that could go on has, and the queue's thread is about to wait: what was put off until then, so that
    /// several requests share it, is to be done now. Called before each wait; it must not block the thread.
    fn before_wait(&self, _ring: &Ring) {}

    /// What the service watches ([`Ring::watch`]) has something to read, or is closed. All of it is to be read: the next
    /// call comes with what comes in behind it. It must not block the thread.
    fn ready(&self, _ring: &Ring) {}
}

/// Which queue of which device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct QueueContext {
    /// The device.
    pub device: DeviceId,
    /// Which of its queues, from 0.
    pub queue: u16,
    /// How many queues the device has got (the kernel may give fewer than the spec asked).
    pub queues: u16,
    /// How many requests the queue can hold.
    pub depth: u16,
    /// What its requests keep to.
    pub limits: Limits,
}
