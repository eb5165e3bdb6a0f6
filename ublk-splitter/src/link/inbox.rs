//! What came over a link and the link's thread has not dealt with yet.
//!
//! Owns the order of what the appliance says, and the short way for acks: an ack for which only hosts wait is theirs at once, from
//! the thread that read it, since to wake the link's thread first would double their way. Only while no frame in front of it is
//! waiting or being dealt with: a grant or a NAK whose ack overtook it would be taken for a journal that lost records.
//! Bounded by the appliance's pace: it sends answers to what it was sent, and at most `RESTORE_EXTENTS_MAX` extents a
//! frame.

use record::conversation::ToSplitter;
use record::position::{Session, StreamSeq};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    came: Mutex<Came>,
}

/// What is taken out at once.
#[derive(Debug, Default)]
pub(super) struct Came {
    /// In order.
    pub frames: VecDeque<ToSplitter>,
    /// Why no more will come.
    pub end: Option<String>,
    /// The newest ack that went the short way.
    pub durable: Option<StreamSeq>,
    /// The link's thread has dealt with every frame before, and an ack would give it nothing to do.
    rests: bool,
}

impl Inbox {
    fn came(&self) -> MutexGuard<'_, Came> {
        self.came.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A frame came; answers whether the link's thread is to hear of it now. `acknowledge` is told of an ack that goes the
    /// short way: its session, what is durable, what is committed.
    pub(super) fn push(&self, frame: ToSplitter, acknowledge: impl FnOnce(Session, StreamSeq, StreamSeq)) -> bool {
        let mut came = self.came();
        if let (true, ToSplitter::Ack { session, received: _, durable, committed }) = (came.rests, &frame) {
            acknowledge(*session, *durable, *committed);
            came.durable = Some(*durable);
            return false;
        }
        came.rests = false;
        came.frames.push_back(frame);
        true
    }

    /// No more will come.
    pub(super) fn end(&self, why: String) {
        let mut came = self.came();
        (came.end, came.rests) = (Some(why), false);
    }

    /// Everything that came. Until the next `rest` nothing goes the short way.
    pub(super) fn take(&self) -> Came {
        let mut came = self.came();
        let taken = std::mem::take(&mut *came);
        // Whoever asks again hears of the end again.
        came.end.clone_from(&taken.end);
        taken
    }

    /// The link's thread has dealt with what it took and is about to sleep; an ack would give it nothing to do.
    pub(super) fn rest(&self) {
        let mut came = self.came();
        came.rests = came.frames.is_empty() && came.end.is_none();
    }
}

#[cfg(test)]
mod tests;
