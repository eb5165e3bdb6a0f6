//! Who listens to a link, and what of a frame was heard.
//!
//! A host of a `sync` group waits for an ack, and to wake a thread that reads it and wakes the host's queue then would be two
//! wakes on its way where one is enough. So a queue that sends (`stream/direct.rs`) listens as well: its ring watches the
//! socket while it waits for requests. From then on the link's reader sleeps, until the link or the queue ends, more comes
//! than a queue should deal with, or the queue does not read what has come: whatever holds it up then must not hold up the
//! group, and the reader keeps its turn for as long as the link stands.
//!
//! Owns the socket's reading half, the bytes of a frame that is not whole yet, and whose turn it is. What a frame means is
//! its caller's affair. Frames are handed on one by one in their order, whoever reads them.

use super::PATIENCE;
use crate::lock::lock;
use crate::stream::direct::Ear;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use record::conversation::ToSplitter;
use record::conversation::frame::{FRAME_HEAD_BYTES, Message as _, frame_head};
use std::fmt;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Bytes that are read at once: many acks.
const PIECE: usize = 8 * 1024;
/// Whole pieces that a queue reads in a row before it leaves the rest to the reader.
const PIECES_OF_A_QUEUE: u32 = 4;
/// How often the reader looks whether a queue that listens reads. The appliance gives a sign of life as often.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Whose turn to listen it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Turn {
    /// The reader's, until a queue claims it.
    Reader,
    /// A queue's.
    Queue,
    /// The reader's for good: a queue that had it did not read.
    Kept,
    /// Nobody's: the link has ended.
    Over,
}

/// What one pass of reading left.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Left {
    /// Nothing, when it looked.
    Nothing,
    /// More than it was to read.
    More,
    /// The link has ended.
    Over,
}

/// What was read and not handed on.
struct Heard {
    piece: Box<[u8; PIECE]>,
    /// At most one frame that is not whole, besides what is being handed on.
    bytes: Vec<u8>,
}

/// See the module.
pub(super) struct Listening {
    socket: UnixStream,
    deliver: Box<dyn Fn(ToSplitter) + Send + Sync>,
    ended: Box<dyn Fn(String) + Send + Sync>,
    heard: Mutex<Heard>,
    /// How often something was read.
    reads: AtomicU64,
    /// Taken behind `heard` where both are.
    turn: Mutex<Turn>,
    turned: Condvar,
    /// The reader sleeps.
    #[cfg(test)]
    asleep: std::sync::atomic::AtomicBool,
}

impl fmt::Debug for Listening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Listening({:?})", lock(&self.turn))
    }
}

impl Listening {
    /// The reader's turn. `deliver` is told of every frame, `ended` why no more come; neither may wait.
    pub(super) fn new(
        socket: UnixStream,
        deliver: impl Fn(ToSplitter) + Send + Sync + 'static,
        ended: impl Fn(String) + Send + Sync + 'static,
    ) -> Self {
        Self {
            socket,
            deliver: Box::new(deliver),
            ended: Box::new(ended),
            heard: Mutex::new(Heard { piece: Box::new([0; PIECE]), bytes: Vec::new() }),
            reads: AtomicU64::new(0),
            turn: Mutex::new(Turn::Reader),
            turned: Condvar::new(),
            #[cfg(test)]
            asleep: false.into(),
        }
    }

    /// The reader's part: listens while it is its turn, until the link ends.
    pub(super) fn read(&self) {
        while self.wait_for_turn() {
            match self.wait_for_bytes(PATIENCE) {
                Ok(true) => {
                    if self.take_in(u32::MAX) == Left::Over {
                        return;
                    }
                }
                Ok(false) if *lock(&self.turn) == Turn::Queue => {}
                Ok(false) => return self.end(silent()),
                Err(error) => return self.end(error.to_string()),
            }
        }
    }

    /// The link is not used any more: whoever listens stops.
    pub(super) fn close(&self) {
        *lock(&self.turn) = Turn::Over;
        self.turned.notify_all();
    }

    fn end(&self, why: String) {
        (self.ended)(why);
        self.close();
    }

    /// `false` when the link has ended.
    fn wait_for_turn(&self) -> bool {
        let mut turn = lock(&self.turn);
        let (mut reads, mut still, mut unread) = (self.reads.load(Ordering::Relaxed), Duration::ZERO, false);
        loop {
            match *turn {
                Turn::Reader | Turn::Kept => return true,
                Turn::Over => return false,
                Turn::Queue => {}
            }
            #[cfg(test)]
            self.asleep.store(true, Ordering::SeqCst);
            let (now, timeout) = self.turned.wait_timeout(turn, LOOK_EVERY).unwrap_or_else(PoisonError::into_inner);
            turn = now;
            if !timeout.timed_out() {
                continue;
            }
            let before = std::mem::replace(&mut reads, self.reads.load(Ordering::Relaxed));
            if before != reads {
                (still, unread) = (Duration::ZERO, false);
                continue;
            }
            still += LOOK_EVERY;
            let is_unread = self.wait_for_bytes(Duration::ZERO).unwrap_or(true);
            if *turn == Turn::Queue && unread && is_unread {
                tracing::warn!(
                    "a queue that listens to the appliance does not go on; the link's own thread listens again"
                );
                *turn = Turn::Kept;
            }
            unread = is_unread;
            if still >= PATIENCE {
                drop(turn);
                self.end(silent());
                return false;
            }
        }
    }

    fn wait_for_bytes(&self, limit: Duration) -> nix::Result<bool> {
        let limit = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], limit) {
            Ok(ready) => Ok(ready > 0),
            // Nothing was waited for: asked again.
            Err(Errno::EINTR) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Reads what is there, so many whole pieces at most, and hands it on.
    fn take_in(&self, pieces: u32) -> Left {
        let mut heard = lock(&self.heard);
        let heard = &mut *heard;
        for _ in 0..pieces {
            let read = match recv(self.socket.as_raw_fd(), &mut heard.piece[..], MsgFlags::MSG_DONTWAIT) {
                Ok(0) => {
                    self.end("the appliance closed the link".to_owned());
                    return Left::Over;
                }
                Ok(read) => read,
                Err(Errno::EAGAIN) => return Left::Nothing,
                Err(Errno::EINTR) => continue,
                Err(error) => {
                    self.end(error.to_string());
                    return Left::Over;
                }
            };
            self.reads.fetch_add(1, Ordering::Relaxed);
            heard.bytes.extend_from_slice(&heard.piece[..read]);
            if let Err(why) = self.hand_on(&mut heard.bytes) {
                self.end(why);
                return Left::Over;
            }
            if read < PIECE {
                return Left::Nothing;
            }
        }
        Left::More
    }

    /// Hands on every whole frame; what is left is the beginning of one.
    fn hand_on(&self, bytes: &mut Vec<u8>) -> Result<(), String> {
        let mut at = 0;
        while let Some((head, behind)) = bytes[at..].split_first_chunk::<FRAME_HEAD_BYTES>() {
            let (len, crc) = frame_head(*head).map_err(|error| error.to_string())?;
            let Some(body) = behind.get(..len) else { break };
            (self.deliver)(ToSplitter::decode(body, crc).map_err(|error| error.to_string())?);
            at += FRAME_HEAD_BYTES + len;
        }
        bytes.drain(..at);
        Ok(())
    }
}

impl Ear for Listening {
    fn claim(&self) -> bool {
        let mut turn = lock(&self.turn);
        match *turn {
            Turn::Reader => {
                *turn = Turn::Queue;
                true
            }
            Turn::Queue | Turn::Kept | Turn::Over => false,
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    fn hear(&self) -> bool {
        if *lock(&self.turn) != Turn::Queue {
            return false;
        }
        match self.take_in(PIECES_OF_A_QUEUE) {
            Left::Nothing => true,
            Left::More => {
                self.give_back();
                false
            }
            Left::Over => false,
        }
    }

    fn give_back(&self) {
        let mut turn = lock(&self.turn);
        if *turn == Turn::Queue {
            *turn = Turn::Reader;
            self.turned.notify_all();
        }
    }
}

fn silent() -> String {
    format!("the appliance was silent for {} s", PATIENCE.as_secs())
}

#[cfg(test)]
mod tests;
