//! One queue: its thread, its loop, and the life of each tag.
//!
//! Owns the way from the kernel's command to the service and back. Each tag is a task: fetch, handle, commit with the
//! answer (which fetches the next request). Deliberately keeps no state between requests.
//!
//! # When a queue cannot go on
//!
//! Before the start, an error goes back to [`crate::start`], which undoes everything. After it, hosts have requests
//! in our hands, and a queue that leaves alone would keep them for ever: so a panic, a ring that fails or a command
//! that the driver refuses ends the whole process. A recoverable device then waits for a successor.

use std::cell::Cell;
use std::io;
use std::mem;
use std::process::abort;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use io_uring::IoUring;
use libublk::helpers::IoBuf;
use libublk::io::{UblkDev, UblkQueue};
use libublk::uring_async::ublk_wake_task;
use libublk::{BufDesc, UblkError, sys, with_task_io_ring_mut};

use crate::buffer::IoBuffer;
use crate::errno::Errno;
use crate::executor::{Executor, Wakeups};
use crate::kernel::io_error;
use crate::process::io_flusher;
use crate::request::{self, Descriptor, Kind, Request};
use crate::ring::{Ring, is_transient};
use crate::service::{QueueContext, QueueService, Service};

const _: () = assert!(
    request::OP_READ == sys::UBLK_IO_OP_READ
        && request::OP_WRITE == sys::UBLK_IO_OP_WRITE
        && request::OP_FLUSH == sys::UBLK_IO_OP_FLUSH
        && request::OP_DISCARD == sys::UBLK_IO_OP_DISCARD
        && request::OP_WRITE_ZEROES == sys::UBLK_IO_OP_WRITE_ZEROES
        && request::FLAG_FUA == sys::UBLK_IO_F_FUA
        && request::FLAG_NOUNMAP == sys::UBLK_IO_F_NOUNMAP
);

/// What the device's owner holds of a running queue.
#[derive(Debug)]
pub(crate) struct Gate {
    abandoned: AtomicBool,
    wakeups: Arc<Wakeups>,
}

impl Gate {
    /// Lets the queue end without answering anything more: what is in flight is finished and then left to a
    /// successor, to whom the kernel delivers it again.
    pub(crate) fn abandon(&self) {
        self.abandoned.store(true, Ordering::SeqCst);
        self.wakeups.end_wait();
    }

    fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::SeqCst)
    }
}

/// A queue that could start serving.
pub(crate) struct Queue<'d, Q> {
    context: QueueContext,
    service: Q,
    gate: Arc<Gate>,
    buffers: Vec<IoBuffer>,
    ring: Ring,
    kernel: UblkQueue<'d>,
}

impl<'d, Q: QueueService> Queue<'d, Q> {
    /// Makes everything that a queue needs, on its own thread; nothing is asked of the kernel's queue yet.
    pub(crate) fn open<S: Service<Queue = Q>>(
        context: QueueContext,
        device: &'d UblkDev,
        service: &S,
    ) -> io::Result<Self> {
        if let Err(error) = io_flusher() {
            tracing::warn!(
                device = %context.device, queue = context.queue, %error,
                "cannot become an I/O flusher: under memory pressure the host and this process can wait for each other"
            );
        }
        // Room for all tags and more: the queue's first fetch must reach the driver whole (`begun_recovery.rs`).
        let ring = Ring::of_this_thread(u32::from(context.depth) * 2)?;
        let wakeups = Wakeups::new()?;
        let buffers = (0..context.depth)
            .map(|_| IoBuffer::new(context.limits.max_io_bytes as usize))
            .collect::<io::Result<Vec<_>>>()?;
        let service = service.open_queue(context)?;
        let kernel = UblkQueue::new(context.queue, device).map_err(io_error)?;
        let gate = Arc::new(Gate { abandoned: AtomicBool::new(false), wakeups });
        Ok(Self { context, service, gate, buffers, ring, kernel })
    }

    pub(crate) fn gate(&self) -> Arc<Gate> {
        Arc::clone(&self.gate)
    }

    /// Serves until the device is stopped or abandoned. Answers the buffers: they must outlive the thread's ring,
    /// which goes with the thread.
    pub(crate) fn serve(mut self) -> Vec<IoBuffer> {
        let _guard = AbortOnPanic;
        let handling = Cell::new(0);
        // libublk wants one registered buffer a tag before it lets the device start; the requests' data goes to
        // our own buffers, by address.
        let registered = IoBuf::<u8>::new(4096);
        let mut buffers = mem::take(&mut self.buffers);
        // SAFETY: nothing is taken out of `buffers`, whose memory is mapped, and they are answered to whom keeps them
        // until the thread and its ring are gone.
        unsafe { self.ring.lend(&buffers) };
        {
            let mut executor = Executor::new(Arc::clone(&self.gate.wakeups));
            for (tag, buffer) in (0..self.context.depth).zip(&mut buffers) {
                executor.add(
                    TagTask {
                        tag,
                        context: &self.context,
                        service: &self.service,
                        gate: &self.gate,
                        handling: &handling,
                        ring: &self.ring,
                        kernel: &self.kernel,
                        registered: &registered,
                    }
                    .serve(buffer),
                );
            }
            loop {
                let abandoned = self.gate.is_abandoned();
                executor.turn();
                if executor.live() == 0 || (abandoned && handling.get() == 0) {
                    break;
                }
                self.service.before_wait(&self.ring);
                self.wait(abandoned).unwrap_or_else(|error| self.fatal("wait for requests", &error));
                if self.ring.was_ready() {
                    self.service.ready(&self.ring);
                }
            }
            // Tasks that are left wait for a request, nothing else.
        }
        self.drain().unwrap_or_else(|error| self.fatal("drain the ring", &error));
        if self.gate.is_abandoned() {
            // Commands are in the kernel still. Closing their ring gives them back; libublk's queue could not be
            // dropped before (it would wait for them).
            let fresh = IoUring::new(2).unwrap_or_else(|error| self.fatal("make a ring", &error));
            with_task_io_ring_mut(|ring| drop(mem::replace(ring, fresh)));
        }
        buffers
    }

    /// Waits until something happens, unless a task can go on; wakes whom it concerns.
    fn wait(&self, abandoned: bool) -> io::Result<()> {
        let wakeups = &self.gate.wakeups;
        self.ring.arm_wake(wakeups.event())?;
        let wait = wakeups.park(|| self.gate.is_abandoned() != abandoned);
        let outcome = self.kernel.flush_and_wake_io_tasks(
            |user_data, entry, _last| {
                if Ring::is_ours(user_data) {
                    self.ring.complete(entry);
                } else {
                    ublk_wake_task(user_data, entry);
                }
            },
            usize::from(wait),
        );
        let outcome = match outcome {
            Ok(_) => Ok(()),
            // All commands are back from the kernel; requests may still be with us.
            Err(UblkError::QueueIsDown) => self.ring.turn(wait, |entry| ublk_wake_task(entry.user_data(), entry)),
            Err(error) => match io_error(error) {
                error if is_transient(&error) => Ok(()),
                error => Err(error),
            },
        };
        wakeups.unpark();
        outcome
    }

    /// Waits until the kernel uses none of our memory: the eventfd's counter and timeouts that nobody waits for.
    fn drain(&self) -> io::Result<()> {
        self.ring.unwatch();
        while self.ring.in_flight() > 0 {
            self.gate.wakeups.event().write(1)?;
            self.ring.turn(true, |_| {})?;
        }
        Ok(())
    }

    fn fatal(&self, doing: &str, error: &io::Error) -> ! {
        fatal(&self.context, doing, error)
    }
}

struct TagTask<'q, 'd, Q> {
    tag: u16,
    context: &'q QueueContext,
    service: &'q Q,
    gate: &'q Gate,
    handling: &'q Cell<u32>,
    ring: &'q Ring,
    kernel: &'q UblkQueue<'d>,
    registered: &'q IoBuf<u8>,
}

impl<Q: QueueService> TagTask<'_, '_, Q> {
    async fn serve(self, buffer: &mut IoBuffer) {
        // The kernel copies a write's data to this address before it hands the request over, and a read's data from
        // it at the commit; in between it does not touch it, and meanwhile we do not.
        let address = buffer.as_ptr();
        let mut fetched =
            self.kernel.submit_io_prep_cmd(self.tag, BufDesc::RawAddress(address), 0, Some(self.registered)).await;
        loop {
            match fetched {
                Ok(0) => {}
                Err(UblkError::QueueIsDown) => return,
                Ok(other) => self.refused(&io::Error::from_raw_os_error(other.abs())),
                Err(error) => self.refused(&io_error(error)),
            }
            if self.gate.is_abandoned() {
                return;
            }
            let result = self.handle(buffer).await;
            // After a stop nobody waits for the answer, and the command would never come back. An abandoned request
            // is the successor's.
            if self.kernel.is_stopping() || self.gate.is_abandoned() {
                return;
            }
            fetched = self.kernel.submit_io_commit_cmd(self.tag, BufDesc::RawAddress(address), result).await;
        }
    }

    /// The request's answer as the driver wants it: bytes or a negative errno. Less than the whole length would make
    /// the driver ask again for the rest.
    async fn handle(&self, buffer: &mut IoBuffer) -> i32 {
        let shared = self.kernel.get_iod(self.tag);
        let descriptor =
            Descriptor { op_flags: shared.op_flags, sectors: shared.nr_sectors, start: shared.start_sector };
        self.handling.set(self.handling.get() + 1);
        let answer = match descriptor.parse(&self.context.limits) {
            Ok(kind) => {
                let request = Request { tag: self.tag, queue: self.context.queue, kind };
                self.service.handle(request, buffer, self.ring).await.map(|()| kind)
            }
            Err(errno) => {
                tracing::debug!(device = %self.context.device, ?descriptor, ?errno, "refused a request");
                Err(errno)
            }
        };
        self.handling.set(self.handling.get() - 1);
        match answer {
            Ok(kind) => data_bytes(kind),
            Err(errno) => -errno.raw(),
        }
    }

    fn refused(&self, error: &io::Error) -> ! {
        fatal(self.context, "get the next request from the driver", error)
    }
}

fn data_bytes(kind: Kind) -> i32 {
    // At most 32 MiB, see `DeviceSpec::check`.
    i32::try_from(kind.data_bytes()).unwrap_or(-Errno::EIO.raw())
}

fn fatal(context: &QueueContext, doing: &str, error: &io::Error) -> ! {
    let QueueContext { device, queue, .. } = context;
    tracing::error!(%device, queue, doing, %error, "a queue cannot go on: ending the process, so that a successor can take over");
    eprintln!(
        "{device}: queue {queue} cannot go on: {doing}: {error}; ending the process, so that a successor can take over"
    );
    abort()
}

/// Ends the process if its thread panics: half a device would keep its hosts waiting for ever.
pub(crate) struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("a thread that serves a block device has panicked: ending the process");
            abort();
        }
    }
}
