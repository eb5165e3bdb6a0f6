//! Sending without the link's thread: the right to send lies here while that thread rests.
//!
//! A host of a `sync` group waits for its record to be in the journal, and to wake a thread that only sends it would make its
//! way longer by a tenth. So the link's thread lends its right to send when it goes to sleep, and takes it back when it wakes;
//! meanwhile whoever laid records for which somebody waits sends them, once everything else that its thread could do is done:
//! what was laid together travels together. While a chunk is on its way records gather, and the thread that reads its ack sends
//! them; once they fill a chunk, the link's thread does. Nobody waits for the socket: where it does not take a frame the
//! link's thread is woken and does as ever.
//!
//! Owns the right, what was put off, and for which records somebody waits. What comes back is somebody else's: here it is only
//! handed on who may listen to it ([`Ear`]). Deliberately knows no frame but a chunk's, and nothing of sessions: a thread that has
//! anything to decide does not rest.

use super::Stream;
use crate::bell::Rings;
use crate::lock::lock;
use crate::policy::SplitMode;
use record::conversation::ToAppliance;
use record::op::Op;
use record::position::{Session, StreamSeq};
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

/// When the link hears of a record for which somebody waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tells {
    /// When it is laid.
    AtOnce,
    /// When [`Stream::send_put_off`] is called, which whoever laid it does before its thread waits.
    Later,
}

/// Whether somebody waits for a record, and when the link hears of that.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hurry {
    No,
    Now,
    /// Whoever laid it sees to it that the link does before its thread waits.
    PutOff,
}

impl Hurry {
    /// For a record of the group's own.
    pub(super) fn of(op: Op) -> Self {
        if matches!(op, Op::Flush | Op::Bookmark | Op::ResyncEnd | Op::Barrier) { Self::Now } else { Self::No }
    }

    /// For a record of a host's: whether its host waits for the journal.
    pub(super) fn of_host(mode: SplitMode, tells: Tells) -> Self {
        match (mode, tells) {
            (SplitMode::Sync, Tells::AtOnce) => Self::Now,
            (SplitMode::Sync, Tells::Later) => Self::PutOff,
            (SplitMode::Async | SplitMode::BoundedLag, Tells::AtOnce | Tells::Later) => Self::No,
        }
    }
}

/// The way to the appliance, for a thread that must not wait.
pub trait Road: Send + std::fmt::Debug {
    /// Sends a message if that needs no waiting; `false`: nothing of it went out, or the link is broken.
    fn send_now(&self, message: &ToAppliance) -> bool;
}

/// What comes from the appliance, for a thread that sends to it and can watch a file.
pub trait Ear: Send + Sync + std::fmt::Debug {
    /// From now on the caller listens, if nobody else does: whether it is so.
    fn claim(&self) -> bool;

    /// What whoever listens is to watch.
    fn socket(&self) -> BorrowedFd<'_>;

    /// Deals with all that has come; `false`: the caller does not listen any more. Does not wait.
    fn hear(&self) -> bool;

    /// The caller does not listen any more.
    fn give_back(&self);
}

/// The right to send chunks.
#[derive(Debug)]
pub struct Direct {
    /// The number behind the last chunk sent.
    pub sent: StreamSeq,
    /// On which link.
    pub road: Box<dyn Road>,
    /// What comes back on it.
    pub ear: Arc<dyn Ear>,
}

/// What of it is here.
#[derive(Debug, Default)]
pub(super) struct Sending {
    /// Taken before the state's lock.
    direct: Mutex<Option<Direct>>,
    /// Records were laid of which the link has not heard, and somebody waits for them.
    put_off: AtomicBool,
}

impl Sending {
    pub(super) fn put_off(&self) {
        self.put_off.store(true, Ordering::SeqCst);
    }
}

impl Stream {
    /// The link's thread is about to sleep, and everything that it knows of is on its way.
    pub fn lend(&self, direct: Direct) {
        *lock(&self.sending.direct) = Some(direct);
    }

    /// It is awake: the right to send, if it was lent, and whether somebody waits for records of which it has not heard.
    pub fn take_back(&self) -> (Option<Direct>, bool) {
        let mut direct = lock(&self.sending.direct);
        (direct.take(), self.sending.put_off.swap(false, Ordering::AcqRel))
    }

    /// Sends what was put off, or has it sent. Called by whoever put it off, before its thread waits; does not wait. Answers
    /// with what there is to listen to, if something was put off and the right to send is here.
    pub fn send_put_off(&self) -> Option<Arc<dyn Ear>> {
        let put_off = &self.sending.put_off;
        if !put_off.load(Ordering::Acquire) {
            return None;
        }
        let mut direct = lock(&self.sending.direct);
        self.send_directly(direct.as_mut());
        direct.as_ref().map(|direct| Arc::clone(&direct.ear))
    }

    /// Behind an ack. Always under the lock: whoever has just seen that a chunk is on its way, and left its records to gather,
    /// must not be missed.
    pub fn send_gathered(&self) {
        let mut direct = lock(&self.sending.direct);
        if direct.is_some() {
            self.send_directly(direct.as_mut());
        }
    }

    fn send_directly(&self, direct: Option<&mut Direct>) {
        let put_off = &self.sending.put_off;
        if !put_off.load(Ordering::Acquire) {
            return;
        }
        if let Some(direct) = direct {
            if self.marks().durable < direct.sent {
                // The ack of what is on its way sends them; but where a whole chunk waits, the link's thread has several under way.
                if self.chunk_from(direct.sent, false).is_some() {
                    self.bell.ring(Rings { laid: true, hurry: true, other: true });
                }
                return;
            }
            // In front of closing the chunk: what is laid from here on is put off anew, what was before is in it.
            put_off.store(false, Ordering::SeqCst);
            let Some(chunk) = self.chunk_from(direct.sent, true) else { return };
            let session = self.session().unwrap_or(Session::new(0));
            if direct.road.send_now(&chunk.message(session)) {
                direct.sent = chunk.next;
                if self.outbox.laid() > chunk.next {
                    self.sending.put_off();
                }
                return;
            }
            self.sending.put_off();
        }
        // It stays put off: who takes the right back hears of it.
        self.bell.ring(Rings { laid: true, hurry: true, other: false });
    }
}

#[cfg(test)]
mod tests;
