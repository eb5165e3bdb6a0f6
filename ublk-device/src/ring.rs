//! The queue's own `io_uring` as safe asynchronous operations.
//!
//! Owns the table of operations in flight and the memory that the kernel reads or writes meanwhile. Deliberately does
//! not own the ring itself - libublk keeps one a thread, and the queue's commands go through the same one - nor the
//! loop that waits for completions (`queue.rs`).
//!
//! # The promise that the `unsafe` here rests on
//!
//! The kernel uses an operation's buffer until the operation completes, and a future cannot keep its caller's borrow
//! alive by force. So: **an operation in flight is never abandoned**. The futures of a queue are polled to their end
//! (a queue ends only after its ring has drained), and an operation that is dropped while the kernel still has its
//! buffer ends the process at once, before the buffer can be used for anything else. Do not race these futures
//! against a timeout, and never leak one (`mem::forget`): of that nothing here would learn. [`Ring::sleep`] alone
//! owns all that the kernel sees and may be dropped at any time.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd};
use std::pin::Pin;
use std::process::abort;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::types::{Fd, FsyncFlags, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use libublk::{UblkUringData, with_task_io_ring_mut};

use crate::buffer::IoBuffer;
use fixed::Fixed;

mod fixed;
#[cfg(test)]
mod tests;

/// The most that one read or write of Linux moves, in whole pages.
const MOVE_MAX: usize = 0x7fff_f000;
const RWF_DSYNC: i32 = libc::RWF_DSYNC;
const POLL_EVENTS: u32 = libc::POLLIN as u32;

/// Marks a completion as ours; without it, it belongs to libublk.
const OURS: u64 = UblkUringData::Target as u64;
/// Not an operation of a caller but the read of the queue's eventfd.
const WAKE: u64 = 1 << 61;
/// A completion of which nobody wants to know.
const IGNORED: u64 = 1 << 60;
/// A watched file has something to read; with the number of the watch.
const WATCH: u64 = 1 << 59;

/// Asynchronous operations on the ring of the current queue; stays on the queue's thread.
#[derive(Clone)]
pub struct Ring {
    shared: Rc<Shared>,
    // The ring is the thread's.
    _not_send: PhantomData<*const ()>,
}

struct Shared {
    slots: RefCell<Slots>,
    /// Memory that the ring knows.
    fixed: RefCell<Fixed>,
    /// The read of the eventfd is in the ring.
    wake_armed: Cell<bool>,
    /// The file that is watched.
    watch: Cell<Watch>,
    /// Completions still to come, of every kind of ours.
    in_flight: Cell<u32>,
    /// Where the kernel writes the eventfd's counter.
    wake_counter: Box<Cell<u64>>,
}

/// Which file is watched, and what of it has been seen.
#[derive(Clone, Copy, Default)]
struct Watch {
    /// Of the last one; what comes of those before is of nobody's interest.
    number: u64,
    armed: bool,
    /// There was something to read, or the watch has ended.
    ready: bool,
}

#[derive(Default)]
struct Slots {
    slots: Vec<Slot>,
    free: Vec<usize>,
}

enum Slot {
    Free,
    Waiting {
        waker: Waker,
        /// What the kernel reads of a timeout when it is submitted; dropped with the slot.
        timespec: Option<Box<Timespec>>,
        /// Nobody waits for it any more.
        orphan: bool,
    },
    Complete(i32),
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Ring({} in flight)", self.shared.in_flight.get())
    }
}

impl Ring {
    /// The ring of this thread, made if there is none yet. `entries` is how many submissions it holds; when it is full
    /// it is submitted and the next one follows.
    pub(crate) fn of_this_thread(entries: u32) -> io::Result<Self> {
        libublk::ublk_init_task_ring(|cell| {
            if cell.get().is_none() {
                let ring = IoUring::<squeue::Entry, cqueue::Entry>::builder()
                    .setup_cqsize(entries.saturating_mul(2))
                    .setup_coop_taskrun()
                    .build(entries)?;
                // The cell was empty a line ago, and it is this thread's.
                let _ = cell.set(RefCell::new(ring));
            }
            Ok(())
        })
        .map_err(crate::kernel::io_error)?;
        Ok(Self {
            shared: Rc::new(Shared {
                slots: RefCell::default(),
                fixed: RefCell::default(),
                wake_armed: Cell::new(false),
                watch: Cell::default(),
                in_flight: Cell::new(0),
                wake_counter: Box::default(),
            }),
            _not_send: PhantomData,
        })
    }

    /// Makes the ring know a queue's buffers.
    ///
    /// # Safety
    /// They must stay where they are until the thread's ring is gone.
    pub(crate) unsafe fn lend(&self, buffers: &[IoBuffer]) {
        match with_task_io_ring_mut(|ring| Fixed::new(ring, buffers)) {
            Ok(fixed) => *self.shared.fixed.borrow_mut() = fixed,
            Err(error) => {
                tracing::debug!(%error, "the ring does not take buffers: their pages are pinned for each request");
            }
        }
    }

    /// The number under which the ring knows this memory, if it does.
    fn fixed(&self, memory: &[u8]) -> Option<u16> {
        self.shared.fixed.borrow_mut().index_of(memory, |index, start, bytes| {
            let range = libc::iovec { iov_base: std::ptr::with_exposed_provenance_mut(start), iov_len: bytes };
            // SAFETY: it is part of a buffer that was lent, and whoever lent it keeps it until the ring is gone.
            with_task_io_ring_mut(|ring| unsafe {
                ring.submitter().register_buffers_update(u32::from(index), &[range], None)
            })
        })
    }

    /// Reads from `offset` until `buf` is full or the file ends; answers how many bytes were read. Short reads are
    /// continued. Offset, length and memory must be aligned as the file's `O_DIRECT` asks, if it has it.
    pub async fn read_at(&self, file: &impl AsFd, offset: u64, buf: &mut [u8]) -> io::Result<usize> {
        let fd = Fd(file.as_fd().as_raw_fd());
        let mut done = 0;
        while done < buf.len() {
            let rest = &mut buf[done..];
            let (len, at) = (length(rest.len()), offset + done as u64);
            let entry = match self.fixed(rest) {
                Some(known) => opcode::ReadFixed::new(fd, rest.as_mut_ptr(), len, known).offset(at).build(),
                None => opcode::Read::new(fd, rest.as_mut_ptr(), len).offset(at).build(),
            };
            // SAFETY: `rest` and `file` are borrowed, exclusively and shared, until the operation has completed.
            let moved = unsafe { self.operation(entry) }.await;
            match result(moved) {
                Ok(0) => break,
                Ok(moved) => done += moved as usize,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    /// Reads as [`Self::read_at`] does, several at once; answers with each one's outcome, in their order.
    pub async fn read_all<F: AsFd>(&self, mut reads: Vec<(F, u64, &mut [u8])>) -> Vec<io::Result<usize>> {
        // Most often it is one.
        if let [(file, offset, buf)] = &mut reads[..] {
            return vec![self.read_at(file, *offset, buf).await];
        }
        let mut under_way: Vec<_> = reads
            .into_iter()
            .map(|(file, offset, buf)| (Box::pin(async move { self.read_at(&file, offset, buf).await }), None))
            .collect();
        // To the end of all of them, whatever becomes of one: none may be abandoned.
        poll_fn(|context| {
            for (read, outcome) in &mut under_way {
                if outcome.is_none()
                    && let Poll::Ready(ended) = read.as_mut().poll(context)
                {
                    *outcome = Some(ended);
                }
            }
            if under_way.iter().all(|(_, outcome)| outcome.is_some()) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        under_way.into_iter().filter_map(|(_, outcome)| outcome).collect()
    }

    /// Writes all of `buf` at `offset`. Short writes are continued. With `dsync` the data is
    /// durable when it answers (`RWF_DSYNC`). Alignment as for [`Self::read_at`].
    pub async fn write_at(&self, file: &impl AsFd, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        let fd = Fd(file.as_fd().as_raw_fd());
        let mut done = 0;
        while done < buf.len() {
            let rest = &buf[done..];
            let (len, at, flags) = (length(rest.len()), offset + done as u64, if dsync { RWF_DSYNC } else { 0 });
            let entry = match self.fixed(rest) {
                Some(known) => {
                    opcode::WriteFixed::new(fd, rest.as_ptr(), len, known).offset(at).rw_flags(flags).build()
                }
                None => opcode::Write::new(fd, rest.as_ptr(), len).offset(at).rw_flags(flags).build(),
            };
            // SAFETY: `rest` and `file` are borrowed until the operation has completed.
            let moved = unsafe { self.operation(entry) }.await;
            match result(moved) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(moved) => done += moved as usize,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes what was written to the file before durable; with `datasync`, only what reading it back needs.
    pub async fn fsync(&self, file: &impl AsFd, datasync: bool) -> io::Result<()> {
        let flags = if datasync { FsyncFlags::DATASYNC } else { FsyncFlags::empty() };
        let entry = opcode::Fsync::new(Fd(file.as_fd().as_raw_fd())).flags(flags).build();
        // SAFETY: the entry names no memory; `file` is borrowed until the operation has completed.
        result(unsafe { self.operation(entry) }.await).map(drop)
    }

    /// `fallocate(2)` with the `FALLOC_FL_*` bits of `mode` over `len` bytes at `offset`.
    pub async fn fallocate(&self, file: &impl AsFd, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        let entry = opcode::Fallocate::new(Fd(file.as_fd().as_raw_fd()), len).offset(offset).mode(mode).build();
        // SAFETY: the entry names no memory; `file` is borrowed until the operation has completed.
        result(unsafe { self.operation(entry) }.await).map(drop)
    }

    /// Lets this long pass; may be dropped before.
    pub async fn sleep(&self, duration: Duration) {
        let timespec = Box::new(Timespec::from(duration));
        let entry = opcode::Timeout::new(&raw const *timespec).build();
        Operation { ring: self.clone(), state: Stage::New(entry), timespec: Some(timespec), droppable: true }.await;
    }

    /// An operation whose memory and file stay valid, and whose memory is not used otherwise, until it completes.
    ///
    /// # Safety
    /// The caller must hold both until the returned future is ready. Dropping the future earlier ends the process.
    unsafe fn operation(&self, entry: squeue::Entry) -> Operation {
        Operation { ring: self.clone(), state: Stage::New(entry), timespec: None, droppable: false }
    }

    /// Puts a read of the eventfd into the ring, if none is there, so that a write to it ends the wait.
    pub(crate) fn arm_wake(&self, event: &impl AsFd) -> io::Result<()> {
        if self.shared.wake_armed.replace(true) {
            return Ok(());
        }
        let counter = self.shared.wake_counter.as_ptr().cast::<u8>();
        let entry = opcode::Read::new(Fd(event.as_fd().as_raw_fd()), counter, 8).build().user_data(OURS | WAKE);
        // SAFETY: the counter is on the heap, is read by nobody, and outlives the ring: `Shared` ends the process
        // rather than be dropped while the read is in flight.
        unsafe { push(&entry) }?;
        self.shared.in_flight.set(self.shared.in_flight.get() + 1);
        Ok(())
    }

    /// Watches a file until [`Self::unwatch`]: whenever something comes in, the queue's service hears of it
    /// (`QueueService::ready`). What was there before counts too. One file at a time: while one is watched this does nothing,
    /// whatever file it names, and costs nothing.
    pub fn watch(&self, file: &impl AsFd) -> io::Result<()> {
        let mut watch = self.shared.watch.get();
        if watch.armed {
            return Ok(());
        }
        watch.number += 1;
        let entry = opcode::PollAdd::new(Fd(file.as_fd().as_raw_fd()), POLL_EVENTS).multi(true).build();
        // SAFETY: the entry names no memory, and the kernel holds the file itself while it watches it.
        unsafe { push(&entry.user_data(OURS | WATCH | watch.number)) }?;
        self.shared.in_flight.set(self.shared.in_flight.get() + 1);
        watch.armed = true;
        self.shared.watch.set(watch);
        Ok(())
    }

    /// Watches nothing any more. What is not told of yet is not told.
    pub fn unwatch(&self) {
        let watch = self.shared.watch.get();
        if watch.armed {
            let entry = opcode::PollRemove::new(OURS | WATCH | watch.number).build().user_data(OURS | IGNORED);
            // SAFETY: the entry names no memory.
            if unsafe { push(&entry) }.is_ok() {
                self.shared.in_flight.set(self.shared.in_flight.get() + 1);
            }
        }
        self.shared.watch.set(Watch { number: watch.number, ..Watch::default() });
    }

    /// Whether what is watched had something to read since this was last asked.
    pub(crate) fn was_ready(&self) -> bool {
        let watch = self.shared.watch.get();
        if watch.ready {
            self.shared.watch.set(Watch { ready: false, ..watch });
        }
        watch.ready
    }

    /// Whether a completion is one of ours.
    pub(crate) fn is_ours(user_data: u64) -> bool {
        user_data & OURS != 0
    }

    /// Takes a completion of ours and wakes who waits for it.
    pub(crate) fn complete(&self, entry: &cqueue::Entry) {
        let (user_data, result) = (entry.user_data(), entry.result());
        if user_data & WATCH != 0 {
            self.watched(user_data, cqueue::more(entry.flags()));
            return;
        }
        self.shared.in_flight.set(self.shared.in_flight.get() - 1);
        if user_data & WAKE != 0 {
            self.shared.wake_armed.set(false);
            return;
        }
        if user_data & IGNORED != 0 {
            return;
        }
        self.shared.slots.borrow_mut().complete(user_data & !OURS, result);
    }

    /// `more`: the watch goes on.
    fn watched(&self, user_data: u64, more: bool) {
        if !more {
            self.shared.in_flight.set(self.shared.in_flight.get() - 1);
        }
        let watch = self.shared.watch.get();
        if watch.armed && user_data == (OURS | WATCH | watch.number) {
            // Where it has ended, `watch` begins it anew.
            self.shared.watch.set(Watch { armed: more, ready: true, ..watch });
        }
    }

    /// Completions still to come.
    pub(crate) fn in_flight(&self) -> u32 {
        self.shared.in_flight.get()
    }

    /// Submits what was put into the ring and, if `wait`, waits for a completion; hands every completion over.
    pub(crate) fn turn(&self, wait: bool, mut theirs: impl FnMut(&cqueue::Entry)) -> io::Result<()> {
        match with_task_io_ring_mut(|ring| ring.submit_and_wait(usize::from(wait))) {
            Ok(_) => {}
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
        // One at a time: a waker may put new entries into the ring.
        while let Some(entry) = with_task_io_ring_mut(|ring| ring.completion().next()) {
            if Self::is_ours(entry.user_data()) {
                self.complete(&entry);
            } else {
                theirs(&entry);
            }
        }
        Ok(())
    }

    fn start(&self, entry: &mut squeue::Entry, waker: &Waker, timespec: Option<Box<Timespec>>) -> io::Result<usize> {
        let key =
            self.shared.slots.borrow_mut().insert(Slot::Waiting { waker: waker.clone(), timespec, orphan: false });
        entry.set_user_data(OURS | key as u64);
        // SAFETY: whoever made the `Operation` promised the memory; a timespec lives in the slot.
        match unsafe { push(entry) } {
            Ok(()) => {
                self.shared.in_flight.set(self.shared.in_flight.get() + 1);
                Ok(key)
            }
            Err(error) => {
                self.shared.slots.borrow_mut().remove(key);
                Err(error)
            }
        }
    }

    /// Gives up on a timeout: asks the kernel to end it, and leaves the slot to its completion.
    fn orphan(&self, key: usize) {
        let waiting = self.shared.slots.borrow_mut().orphan(key);
        if waiting {
            let entry = opcode::TimeoutRemove::new(OURS | key as u64).build().user_data(OURS | IGNORED);
            // SAFETY: the entry names no memory.
            if unsafe { push(&entry) }.is_ok() {
                self.shared.in_flight.set(self.shared.in_flight.get() + 1);
            }
        }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.in_flight.get() != 0 {
            tracing::error!("a queue's ring was let go with operations in flight: ending the process");
            abort();
        }
    }
}

impl Slots {
    fn insert(&mut self, slot: Slot) -> usize {
        if let Some(key) = self.free.pop() {
            self.slots[key] = slot;
            key
        } else {
            self.slots.push(slot);
            self.slots.len() - 1
        }
    }

    fn remove(&mut self, key: usize) {
        self.slots[key] = Slot::Free;
        self.free.push(key);
    }

    fn complete(&mut self, key: u64, result: i32) {
        let key = usize::try_from(key).unwrap_or(usize::MAX);
        let Some(slot) = self.slots.get_mut(key) else { return };
        match std::mem::replace(slot, Slot::Complete(result)) {
            Slot::Waiting { orphan: true, .. } => self.remove(key),
            Slot::Waiting { waker, timespec, orphan: false } => {
                drop(timespec);
                waker.wake();
            }
            // Each entry completes exactly once.
            Slot::Free | Slot::Complete(_) => {
                tracing::error!(key, "an operation completed twice: ending the process");
                abort();
            }
        }
    }

    /// Marks the slot as awaited by nobody, if it still waits; frees it if not.
    fn orphan(&mut self, key: usize) -> bool {
        match &mut self.slots[key] {
            Slot::Waiting { orphan, .. } => {
                *orphan = true;
                true
            }
            Slot::Free | Slot::Complete(_) => {
                self.remove(key);
                false
            }
        }
    }

    /// The result, if it is there; otherwise whom to wake when it is.
    fn poll(&mut self, key: usize, context: &Context<'_>) -> Poll<i32> {
        match &mut self.slots[key] {
            Slot::Complete(result) => {
                let result = *result;
                self.remove(key);
                Poll::Ready(result)
            }
            Slot::Waiting { waker, .. } => {
                waker.clone_from(context.waker());
                Poll::Pending
            }
            Slot::Free => Poll::Pending,
        }
    }
}

enum Stage {
    New(squeue::Entry),
    InFlight(usize),
    Done,
}

/// One operation, from its first poll to its completion.
struct Operation {
    ring: Ring,
    state: Stage,
    timespec: Option<Box<Timespec>>,
    /// The kernel sees nothing of the caller's: it may be dropped while in flight.
    droppable: bool,
}

impl Future for Operation {
    type Output = i32;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<i32> {
        let operation = &mut *self;
        // The entry stays where it is until it is in the ring: it is eight words.
        match &mut operation.state {
            Stage::New(entry) => {
                let started = operation.ring.start(entry, context.waker(), operation.timespec.take());
                match started {
                    Ok(key) => {
                        operation.state = Stage::InFlight(key);
                        Poll::Pending
                    }
                    Err(error) => {
                        operation.state = Stage::Done;
                        Poll::Ready(-error.raw_os_error().unwrap_or(libc::EIO))
                    }
                }
            }
            Stage::InFlight(key) => {
                let polled = operation.ring.shared.slots.borrow_mut().poll(*key, context);
                if polled.is_ready() {
                    operation.state = Stage::Done;
                }
                polled
            }
            Stage::Done => Poll::Pending,
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Stage::InFlight(key) = self.state {
            if self.droppable {
                self.ring.orphan(key);
                return;
            }
            if matches!(self.ring.shared.slots.borrow().slots[key], Slot::Waiting { .. }) {
                // The kernel may write into memory that its owner is about to use for something else.
                tracing::error!("a ring operation was dropped while in flight: ending the process");
                abort();
            }
            self.ring.shared.slots.borrow_mut().remove(key);
        }
    }
}

/// Puts an entry into this thread's ring.
///
/// # Safety
/// Everything the entry points to stays valid until its completion is there.
unsafe fn push(entry: &squeue::Entry) -> io::Result<()> {
    loop {
        let pushed = with_task_io_ring_mut(|ring| {
            // SAFETY: the caller promises it.
            unsafe { ring.submission().push(entry) }
        });
        if pushed.is_ok() {
            return Ok(());
        }
        match with_task_io_ring_mut(|ring| ring.submit()) {
            Ok(_) => {}
            Err(error) if is_transient(&error) => {}
            Err(error) => return Err(error),
        }
    }
}

fn length(bytes: usize) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "MOVE_MAX fits")]
    let length = bytes.min(MOVE_MAX) as u32;
    length
}

fn result(raw: i32) -> io::Result<u32> {
    u32::try_from(raw).map_err(|_| io::Error::from_raw_os_error(-raw))
}

/// Errors of `io_uring_enter` after which it is simply called again.
pub(crate) fn is_transient(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EINTR | libc::EAGAIN | libc::EBUSY | libc::ETIME))
}
