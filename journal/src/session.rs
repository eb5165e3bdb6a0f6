//! Who may append, and what comes next.
//!
//! Owns the rules of sessions: granting, fencing, continuing (PROTOCOL R17, R20, R22, R24), each splitter's by itself.
//! Pure: what is to be recorded comes out, the journal records it.

use crate::checkpoint::{In, Out};
use record::chunk::BodyHeader;
use record::conversation::Continuation;
use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::{Incarnation, JournalId, SplitterId};
use record::member::SessionNote;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};
use record::streams::{STREAMS_BYTES, StreamAt, Streams};
use std::collections::{BTreeMap, BTreeSet};

/// How far a session is; each the number behind the last record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Watermarks {
    /// Whose session it is.
    pub splitter: SplitterId,
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
    /// The newest session granted to each splitter, and what it expects next.
    streams: Streams,
    /// Splitters whose newest session takes no more records.
    ended: BTreeSet<SplitterId>,
    /// The newest life of each splitter that was seen.
    lives: BTreeMap<SplitterId, SplitterIncarnation>,
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
    /// It is, and its stream stands here.
    Next(StreamAt),
    /// The journal has it already.
    Duplicate,
    /// Another session than the one that may append.
    Fenced { current: Session },
    /// Something is missing before it, or half of it is here already.
    Gap { expected: StreamSeq },
}

impl Default for Sessions {
    fn default() -> Self {
        Self { streams: Streams::NONE, ended: BTreeSet::new(), lives: BTreeMap::new(), burnt: Session::new(0) }
    }
}

impl Sessions {
    /// The newest session of each splitter, and what it expects next.
    pub(crate) fn streams(&self) -> &Streams {
        &self.streams
    }

    /// The splitter whose newest session this is.
    pub(crate) fn splitter_of(&self, session: Session) -> Option<SplitterId> {
        self.streams.with_session(session).map(|at| at.splitter)
    }

    /// The newest life of a splitter that was seen; 0 before the first.
    pub(crate) fn life(&self, splitter: SplitterId) -> SplitterIncarnation {
        self.lives.get(&splitter).copied().unwrap_or(SplitterIncarnation::new(0))
    }

    /// Whether this session is a splitter's newest and may append.
    pub(crate) fn is_open(&self, session: Session) -> bool {
        self.splitter_of(session).is_some_and(|splitter| !self.ended.contains(&splitter))
    }

    /// Whether the journal has everything of a splitter's session below a number, as far as it can tell: the session is
    /// over and a newer one was granted since (whatever was missing then was found missing then), or it got so far.
    pub(crate) fn holds(&self, splitter: SplitterId, session: Session, next: StreamSeq) -> bool {
        match self.streams.of(splitter) {
            None => false,
            Some(at) => at.session > session || (at.session == session && at.next >= next),
        }
    }

    /// What a splitter's OPEN leads to. `Err` with the newest life seen when an older one asks.
    pub(crate) fn plan_grant(
        &self,
        splitter: SplitterId,
        life: SplitterIncarnation,
        continuation: &Continuation,
    ) -> Result<GrantPlan, SplitterIncarnation> {
        let seen = self.lives.get(&splitter).copied();
        if let Some(seen) = seen.filter(|seen| life < *seen && !bug(Bug::AcceptStaleSession)) {
            return Err(seen);
        }
        // A session of another splitter is nobody's to continue.
        let same = |session: Session| {
            self.streams.of(splitter).filter(|at| at.session == session && !self.ended.contains(&splitter))
        };
        let fresh = |clean| {
            let session = self.streams.newest().max(self.burnt).next();
            GrantPlan { record: Some(SessionNote { session, splitter, life, clean }), fresh: true }
        };
        Ok(match continuation {
            Continuation::Same { session, laid, released } => match same(*session) {
                Some(at) if (*released..=*laid).contains(&at.next) => {
                    let note = SessionNote { session: *session, splitter, life, clean: true };
                    GrantPlan { record: (seen != Some(life)).then_some(note), fresh: false }
                }
                Some(_) | None => fresh(false),
            },
            Continuation::CleanAfter { session, next } => fresh(same(*session).is_some_and(|at| at.next == *next)),
            // Nothing can have been lost before the first session: every volume that joined was read after.
            Continuation::Lost { .. } => fresh(self.streams.of(splitter).is_none()),
        })
    }

    /// Whether a chunk may be appended now. `streams` is what is expected once the chunks in front of it in the same
    /// batch are in.
    pub(crate) fn turn(&self, chunk: &BodyHeader, streams: &Streams) -> Turn {
        let Some(at) = streams.with_session(chunk.session).filter(|_| self.is_open(chunk.session)) else {
            return Turn::Fenced { current: self.streams.newest() };
        };
        let end = chunk.first_seq.plus(u64::from(chunk.records));
        if chunk.first_seq == at.next {
            Turn::Next(at)
        } else if end <= at.next {
            Turn::Duplicate
        } else {
            Turn::Gap { expected: at.next }
        }
    }

    /// SESSION_GRANTED.
    pub(crate) fn granted(&mut self, note: &SessionNote) {
        if self.splitter_of(note.session) != Some(note.splitter) {
            self.streams.set(StreamAt { splitter: note.splitter, session: note.session, next: StreamSeq::FIRST });
        }
        self.ended.remove(&note.splitter);
        self.lives.entry(note.splitter).and_modify(|life| *life = note.life.max(*life)).or_insert(note.life);
        self.burn(note.session);
    }

    /// SESSION_LOST.
    pub(crate) fn lost(&mut self, note: &SessionNote) {
        if self.splitter_of(note.session) == Some(note.splitter) {
            self.ended.insert(note.splitter);
        }
    }

    /// A chunk says that these are the newest sessions and what they expect next. Answers with those of which the
    /// journal's records did not say so: their grants are missing.
    pub(crate) fn at(&mut self, streams: &Streams) -> Vec<StreamAt> {
        let unknown = |at: &&StreamAt| self.streams.of(at.splitter).map(|known| known.session) != Some(at.session);
        let unknown: Vec<StreamAt> = streams.iter().filter(unknown).copied().collect();
        for at in &unknown {
            self.ended.remove(&at.splitter);
        }
        self.streams = *streams;
        self.burn(streams.newest());
        unknown
    }

    /// What the newest sessions expect is not known any more: they take no more records.
    pub(crate) fn end(&mut self) {
        self.ended = self.streams.iter().map(|at| at.splitter).collect();
    }

    /// For a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        out.fixed(&self.streams.encode());
        out.list(self.ended.iter(), |out, splitter| out.splitter(*splitter));
        out.list(self.lives.iter(), |out, (splitter, life)| {
            out.splitter(*splitter);
            out.u64(life.get());
        });
        out.u64(self.burnt.get());
    }

    /// From a checkpoint.
    pub(crate) fn restore(input: &mut In<'_>) -> Option<Self> {
        Some(Self {
            streams: Streams::decode(&input.fixed::<STREAMS_BYTES>()?)?,
            ended: input.list(In::splitter)?,
            lives: input.list(|input| Some((input.splitter()?, SplitterIncarnation::new(input.u64()?))))?,
            burnt: Session::new(input.u64()?),
        })
    }

    /// This session is never granted again.
    pub(crate) fn burn(&mut self, session: Session) {
        self.burnt = self.burnt.max(session);
    }
}
