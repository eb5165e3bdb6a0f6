//! The sending side of a connection.
//!
//! Owns what waits to be sent, its bounds, and that frames go out whole and in order. A frame goes out at once where nothing
//! waits in front of it and the socket takes it: an ack is a host's answer, and a thread woken to send it would double its
//! way. None of it waits for the other end.

use super::{LinkId, Peer};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use record::conversation::ToSplitter;
use record::conversation::frame::Message;
use std::io::{self, Write};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

/// Something is said at least so often.
const ALIVE_EVERY: Duration = Duration::from_secs(1);
/// Frames that may wait to be sent; a peer that lets more pile up is not listening, and is dropped.
const QUEUE_FRAMES: usize = 1024;
/// Bytes that may wait to be sent, likewise.
const QUEUE_BYTES: usize = 64 << 20;

/// A peer behind a socket. A frame goes out at once where nothing waits in front of it and the socket takes it; else it
/// waits, within bounds, for a thread that sends it.
#[derive(Debug)]
struct Queue {
    orders: SyncSender<Order>,
    out: Arc<Outgoing>,
    /// Held by who sends: nothing comes between what of a frame went out and what waits.
    sending: Mutex<()>,
}

/// What whoever sends and the thread behind it share.
#[derive(Debug)]
struct Outgoing {
    stream: UnixStream,
    /// Bytes that wait, or are being written.
    queued: AtomicUsize,
    /// Held while bytes are written: those of one frame stay together.
    writing: Mutex<()>,
}

impl Outgoing {
    /// How much of a frame the socket takes now: nothing while others wait in front of it.
    fn at_once(&self, frame: &[u8]) -> io::Result<usize> {
        let Ok(_writing) = self.writing.try_lock() else { return Ok(0) };
        if self.queued.load(Ordering::Acquire) > 0 {
            return Ok(0);
        }
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        match send(self.stream.as_raw_fd(), frame, flags) {
            Ok(taken) => {
                // Before the lock is free: what is left of the frame is in front of whatever is sent next.
                self.queued.fetch_add(frame.len() - taken, Ordering::AcqRel);
                Ok(taken)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Ok(0),
            Err(error) => Err(error.into()),
        }
    }

    fn write(&self, frame: &[u8]) -> io::Result<()> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        (&self.stream).write_all(frame)
    }
}

enum Order {
    Frame(Vec<u8>),
    Close,
}

impl Peer for Queue {
    fn send(&self, message: &ToSplitter) {
        let mut frame = message.encode();
        let bytes = frame.len();
        let _sending = self.sending.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = match self.out.at_once(&frame) {
            Ok(taken) if taken == bytes => return,
            Ok(taken) => taken,
            Err(_) => return self.cut(),
        };
        let queued = &self.out.queued;
        // What is left of a frame of which some went out is counted already.
        let ahead =
            if taken > 0 { queued.load(Ordering::Relaxed) } else { queued.fetch_add(bytes, Ordering::AcqRel) + bytes };
        frame.drain(..taken);
        if ahead > QUEUE_BYTES || self.orders.try_send(Order::Frame(frame)).is_err() {
            self.cut();
        }
    }

    fn close(&self) {
        if let Err(TrySendError::Full(_)) = self.orders.try_send(Order::Close) {
            self.cut();
        }
    }

    fn cut(&self) {
        // Not connected any more is fine.
        let _ = self.out.stream.shutdown(Shutdown::Both);
    }
}

/// The sending side of a connection, with its thread.
pub(super) fn start(id: LinkId, stream: &UnixStream) -> io::Result<Arc<dyn Peer>> {
    let (sender, orders) = sync_channel(QUEUE_FRAMES);
    let out = Arc::new(Outgoing { stream: stream.try_clone()?, queued: AtomicUsize::new(0), writing: Mutex::new(()) });
    thread::Builder::new().name(format!("link-{}-out", id.0)).spawn({
        let out = Arc::clone(&out);
        move || {
            if let Err(e) = write_out(&out, &orders) {
                tracing::debug!(link = id.0, error = %e, "a connection cannot be written to any more");
            }
            // Also wakes the reader, if it still waits.
            let _ = out.stream.shutdown(Shutdown::Both);
        }
    })?;
    Ok(Arc::new(Queue { orders: sender, out, sending: Mutex::new(()) }))
}

fn write_out(out: &Outgoing, orders: &Receiver<Order>) -> io::Result<()> {
    let alive = ToSplitter::Alive {}.encode();
    loop {
        match orders.recv_timeout(ALIVE_EVERY) {
            Ok(Order::Frame(frame)) => {
                out.write(&frame)?;
                out.queued.fetch_sub(frame.len(), Ordering::AcqRel);
            }
            Ok(Order::Close) | Err(RecvTimeoutError::Disconnected) => return Ok(()),
            Err(RecvTimeoutError::Timeout) => out.write(&alive)?,
        }
    }
}

#[cfg(test)]
mod tests;
