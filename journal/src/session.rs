//! Who may append, and what comes next.
//!
//! Owns the rules of sessions: granting, fencing, continuing (PROTOCOL R17, R20, R22, R24). Pure: what is to be
//! recorded comes out, the journal records it.

use record::chunk::BodyHeader;
use record::conversation::Continuation;
use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::{Incarnation, JournalId};
use record::member::SessionNote;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};

/// How far a session is; each the number behind the last record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    /// The session.
    pub session: Session,
    /// Taken in.
    pub received: StreamSeq,
    /// Durable.
    pub durable: StreamSeq,
    /// Durable, and named so by a later chunk that is durable itself: the outbox may let go.
    pub committed: StreamSeq,
}

/// The answer to a splitter that opens a link.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Granted {
    /// The journal.
    pub journal: JournalId,
    /// The session to lay records in.
    pub session: Session,
    /// The number that the journal expects next.
    pub expected: StreamSeq,
    /// Whether the session begins now, at record 1.
    pub fresh: bool,
    /// Whether no gap is open: if not, points are refused until a RESYNC_END.
    pub consistent: bool,
    /// The newest label in the journal.
    pub label: Label,
    /// Extents whose content is unknown until they are read again.
    pub indeterminate: Vec<(Incarnation, Extent)>,
    /// How far the session is.
    pub watermarks: Watermarks,
}

/// The session part of a journal's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sessions {
    /// The newest session granted; `None` before the first.
    current: Option<Session>,
    /// Whether the newest takes no more records.
    ended: bool,
    /// What it expects next.
    next_seq: StreamSeq,
    /// The newest life of a splitter that was seen.
    splitter: Option<SplitterIncarnation>,
    /// No session up to this one is ever granted again, even if its grant was cut off.
    burnt: Session,
}

/// What is to be recorded before a grant can be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct GrantPlan {
    /// The record; `None` when the journal knows all of it already.
    pub record: Option<SessionNote>,
    /// Whether a session begins.
    pub fresh: bool,
}

/// Whether the next chunk is the next chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Turn {
    /// It is.
    Next,
    /// The journal has it already.
    Duplicate,
    /// Another session than the one that may append.
    Fenced { current: Session },
    /// Something is missing before it, or half of it is here already.
    Gap { expected: StreamSeq },
}

impl Default for Sessions {
    fn default() -> Self {
        Self { current: None, ended: false, next_seq: StreamSeq::FIRST, splitter: None, burnt: Session::new(0) }
    }
}

impl Sessions {
    /// The newest session; `None` before the first.
    pub(crate) fn current(&self) -> Option<Session> {
        self.current
    }

    /// The newest session as headers hold it: 0 before the first.
    pub(crate) fn number(&self) -> Session {
        self.current.unwrap_or(Session::new(0))
    }

    /// What the newest session expects next.
    pub(crate) fn next_seq(&self) -> StreamSeq {
        self.next_seq
    }

    /// The newest life of a splitter that was seen; 0 before the first.
    pub(crate) fn splitter(&self) -> SplitterIncarnation {
        self.splitter.unwrap_or(SplitterIncarnation::new(0))
    }

    /// Whether the newest session may append.
    pub(crate) fn is_open(&self, session: Session) -> bool {
        self.current == Some(session) && !self.ended
    }

    /// Whether the journal has everything of a session below a number, as far as it can tell: the session is over and a
    /// newer one was granted since (whatever was missing then was found missing then), or it got so far.
    pub(crate) fn holds(&self, session: Session, next: StreamSeq) -> bool {
        match self.current {
            None => false,
            Some(current) => current > session || (current == session && self.next_seq >= next),
        }
    }

    /// What a splitter's OPEN leads to. `Err` with the newest life seen when an older one asks.
    pub(crate) fn plan_grant(
        &self,
        splitter: SplitterIncarnation,
        continuation: &Continuation,
    ) -> Result<GrantPlan, SplitterIncarnation> {
        if let Some(seen) = self.splitter.filter(|seen| splitter < *seen && !bug(Bug::AcceptStaleSession)) {
            return Err(seen);
        }
        let same = |session: Session| self.is_open(session);
        Ok(match continuation {
            Continuation::Same { session, laid, released }
                if same(*session) && (*released..=*laid).contains(&self.next_seq) =>
            {
                let note = SessionNote { session: *session, splitter, clean: true };
                GrantPlan { record: (self.splitter != Some(splitter)).then_some(note), fresh: false }
            }
            Continuation::CleanAfter { session, next } if same(*session) && *next == self.next_seq => {
                self.fresh(splitter, true)
            }
            Continuation::Same { .. } | Continuation::CleanAfter { .. } => self.fresh(splitter, false),
            // Nothing can have been lost before the first session: every volume that joined was read after.
            Continuation::Lost { .. } => self.fresh(splitter, self.current.is_none()),
        })
    }

    fn fresh(&self, splitter: SplitterIncarnation, clean: bool) -> GrantPlan {
        let session = self.number().max(self.burnt).next();
        GrantPlan { record: Some(SessionNote { session, splitter, clean }), fresh: true }
    }

    /// Whether a chunk may be appended now. `next_seq` is what is expected once the chunks in front of it in the
    /// same batch are in.
    pub(crate) fn turn(&self, chunk: &BodyHeader, next_seq: StreamSeq) -> Turn {
        if !self.is_open(chunk.session) {
            return Turn::Fenced { current: self.number() };
        }
        let end = chunk.first_seq.plus(u64::from(chunk.records));
        if chunk.first_seq == next_seq {
            Turn::Next
        } else if end <= next_seq {
            Turn::Duplicate
        } else {
            Turn::Gap { expected: next_seq }
        }
    }

    /// SESSION_GRANTED.
    pub(crate) fn granted(&mut self, note: &SessionNote) {
        if self.current != Some(note.session) {
            self.current = Some(note.session);
            self.next_seq = StreamSeq::FIRST;
        }
        self.ended = false;
        self.splitter = self.splitter.max(Some(note.splitter));
        self.burn(note.session);
    }

    /// SESSION_LOST.
    pub(crate) fn lost(&mut self, note: &SessionNote) {
        if self.current == Some(note.session) {
            self.ended = true;
        }
    }

    /// A chunk says that this is the newest session and what it expects next. `false` when the journal's records
    /// did not say so: a grant is missing.
    pub(crate) fn at(&mut self, session: Session, next_seq: StreamSeq) -> bool {
        let known = self.number() == session;
        if session > Session::new(0) {
            if !known {
                self.current = Some(session);
                self.ended = false;
            }
            self.next_seq = next_seq;
            self.burn(session);
        }
        known
    }

    /// What the newest session expects is not known any more: it takes no more records.
    pub(crate) fn end(&mut self) {
        self.ended = true;
    }

    /// This session is never granted again.
    pub(crate) fn burn(&mut self, session: Session) {
        self.burnt = self.burnt.max(session);
    }
}
