//! What the splitter does with the appliance's answer: the pure part of the link.
//!
//! Owns the decisions at a grant, a refusal to go on, and when an open chunk is closed. No socket, no clock, no thread.

use crate::outbox::Mode;
use record::position::{Session, StreamSeq};
use std::time::Duration;

/// Chunks on their way and not yet durable, at most.
pub const CHUNKS_IN_FLIGHT: usize = 4;
/// With so many on their way, not even a flush closes a chunk that is not full: gathering costs nobody anything then.
pub const CHUNKS_IN_FLIGHT_SMALL: usize = 2;
/// How long a chunk may be held open to gather records. Nobody waits for it: whoever does has the chunk closed.
pub const GATHER: Duration = Duration::from_millis(10);
/// The same while no record in it has a payload: a description of a discard or of zeros takes 64 bytes and a chunk of its
/// own 8 KiB, so a host that writes zeros slowly would fill the journal with chunks.
pub const GATHER_BARE: Duration = Duration::from_millis(500);

/// What the splitter has when it is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Own {
    /// Its mode.
    pub mode: Mode,
    /// The session of what is in the outbox.
    pub session: Option<Session>,
    /// The number behind the last record laid.
    pub laid: StreamSeq,
    /// Everything below is released.
    pub released: StreamSeq,
    /// An operator wants a resynchronisation.
    pub resync_wanted: bool,
    /// Whether a resynchronisation may begin by itself: not while the group is paused, and not when somebody has to
    /// look first.
    pub may_resync: bool,
}

/// What it does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// Go on with the session, sending from this number.
    Continue(StreamSeq),
    /// Begin the new session; every record before was taken.
    BeginActive,
    /// Begin the new session with RESYNC_BEGIN.
    BeginResync,
    /// Begin the new session without recording: a resynchronisation is owed.
    BeginMarking(&'static str),
    /// The journal's position cannot be: end the session (PROTOCOL R17).
    End(&'static str),
}

/// Decides at a grant.
pub fn on_granted(own: Own, session: Session, expected: StreamSeq, consistent: bool) -> Decision {
    if own.session == Some(session) {
        return if own.resync_wanted {
            Decision::End("a resynchronisation needs a session of its own")
        } else if expected < own.released {
            Decision::End("the journal has lost records that it had committed")
        } else if expected > own.laid {
            Decision::End("the journal has records that this splitter never laid")
        } else if own.mode == Mode::Waiting {
            // Killed in the middle of beginning it: nothing was laid, and nobody wrote without a record.
            if consistent {
                Decision::BeginActive
            } else if own.may_resync {
                Decision::BeginResync
            } else {
                Decision::BeginMarking("the splitter was killed while it began the session")
            }
        } else {
            Decision::Continue(expected)
        };
    }
    let why = match (consistent, own.mode) {
        (true, Mode::Waiting) if !own.resync_wanted => return Decision::BeginActive,
        (true, Mode::Active | Mode::Resyncing) => {
            "the appliance began a new session over records that had not been sent"
        }
        (true, Mode::Waiting | Mode::Marking) => "writes were not recorded before the session",
        (false, Mode::Waiting) => {
            "records may have been lost since the last session (unclean stop, or another backing)"
        }
        (false, Mode::Active | Mode::Resyncing | Mode::Marking) => "records were lost since the last session",
    };
    if own.resync_wanted || own.may_resync { Decision::BeginResync } else { Decision::BeginMarking(why) }
}

/// How long the open chunk may be held; `bare`: no record in it has a payload.
pub const fn gathering(bare: bool) -> Duration {
    if bare { GATHER_BARE } else { GATHER }
}

/// Whether to close the open chunk now.
pub fn closes(in_flight: usize, hurry: bool, held_open: Option<Duration>, bare: bool) -> bool {
    match held_open {
        None => false,
        Some(_) if in_flight >= CHUNKS_IN_FLIGHT_SMALL => false,
        Some(held) => hurry || held >= gathering(bare),
    }
}

#[cfg(test)]
mod tests;
