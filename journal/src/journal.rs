//! The journal of one consistency group: its one writer.
//!
//! Owns the order in which things become durable. Chunks of a splitter's session come in sealed; the journal's own
//! records (membership, sessions, rollbacks) are made here. Everything is synchronous: when a call returns `Ok`,
//! what it did is durable.

mod compacting;
mod following;
mod healing;
mod making;
mod membership;
mod retaining;
mod retiring;
mod rolling_back;
mod scrubbing;
mod thinning;

pub use compacting::Compacted;
pub use following::{FollowBounds, Followed};
pub use healing::Healed;
pub use making::{Create, Opened};
pub use retaining::{Distributed, HeldBack, Reclaimed, SegmentUse, Space};
pub use scrubbing::Scrubbed;

use crate::checkpoints::Checkpoints;
use crate::chunks::Chunk;
use crate::compaction::Compaction;
use crate::error::{AppendError, JournalError, PointError};
use crate::image::Image;
use crate::intake;
use crate::lock::{lock, read, write};
use crate::notes::Notes;
use crate::reader::Reader;
use crate::session::{Granted, Watermarks};
use crate::state::State;
use crate::status::Status;
use crate::tail::{Prepared, Tail};
use crate::timeline::TimelineView;
use following::Following;
use record::build::BodyBuilder;
use record::chunk::{Body, Descriptor};
use record::conversation::Continuation;
use record::fault::{Bug, bug};
use record::ids::{GroupId, Incarnation, JournalId, SplitterId};
use record::member::{BookmarkNote, SessionNote};
use record::op::Op;
use record::point::Point;
use record::position::{Label, Position, Session, SplitterIncarnation, StreamSeq};
use record::streams::{STREAMS_MAX, StreamAt, Streams};
use retaining::Move;
use rolling_back::Restore;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

/// A journal. Shared by reference; every method may be called from any thread, appends take turns.
pub struct Journal {
    reader: Reader,
    /// Held while records are appended; taken before `restore`, and before the state's lock.
    tail: Mutex<Tail>,
    restore: Mutex<Restore>,
    /// Taken last of all but the state's lock.
    checkpoints: Mutex<Checkpoints>,
    /// Held while the replicas are brought nearer; taken before `tail`.
    moving: Mutex<Option<Move>>,
    /// The replicas on their way to the newest point, or back; taken behind `moving`.
    following: Mutex<Option<Following>>,
    /// How often something was captured since the journal was opened, beside the moves of the replicas.
    folded: AtomicU64,
    /// Whether there may be files of segments that are not the journal's any more.
    given_up: AtomicBool,
    /// Which segments are compacted next; held while one is, taken before `moving`.
    compaction: Mutex<Compaction>,
    /// Bytes of chunks that were taken in since the journal was opened.
    written: AtomicU64,
    /// Keeps other writers out while the journal is open.
    guard: Mutex<Option<Box<dyn Send + Sync>>>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "journal {}", self.reader.core.describe())
    }
}

impl Journal {
    // ---- asking, closing

    /// What can be read of it; the reader stays good while the journal lives and after.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// The journal's id.
    pub fn id(&self) -> JournalId {
        self.reader.id()
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.reader.group()
    }

    /// The group's name.
    pub fn group_name(&self) -> &str {
        self.reader.group_name()
    }

    /// Its state.
    pub fn status(&self) -> Status {
        let core = &self.reader.core;
        // Before the lock that appends wait for: it may have to wait for a file that is being made.
        let undo_bytes = self.undo_bytes();
        let tail = lock(&self.tail);
        let state = read(&core.state);
        let (segments, disk_bytes) = tail.disk_use();
        let disk_bytes = disk_bytes + undo_bytes;
        let (damage, damage_count) = state.damage();
        Status {
            head: state.timeline.head(),
            epoch: tail.mark().epoch,
            watermarks: Self::all_marks(&tail, &state),
            segments,
            disk_bytes,
            used_bytes: state.used_bytes,
            payload_bytes: state.payload_bytes,
            chunks: state.chunks().len() as u64,
            counts: state.timeline.counts().clone(),
            damage: damage.to_vec(),
            damage_count,
            poisoned: tail.poisoned().map(str::to_string),
            needs_resync: state.timeline.gap_is_open(),
            footer_missing: tail.footer_missing(),
            images: lock(&core.images).values().sum(),
        }
    }

    /// Whether points are being refused until a resynchronisation is complete.
    pub fn has_open_gap(&self) -> bool {
        read(&self.reader.core.state).timeline.gap_is_open()
    }

    /// Closes cleanly: the next open finds the mark and has nothing to search for. Appending is refused from here on;
    /// readers and images stay good.
    pub fn close(&self) -> Result<(), JournalError> {
        let closed = lock(&self.tail).close();
        lock(&self.guard).take();
        closed
    }

    // ---- sessions and appending

    /// Whether the journal has everything of this splitter's session below this number. A splitter that relied on it and
    /// is told that it is not so any more has to read everything again (PROTOCOL R14).
    pub fn holds(&self, splitter: SplitterId, session: Session, next: StreamSeq) -> bool {
        read(&self.reader.core.state).sessions.holds(splitter, session, next)
    }

    /// Answers a splitter that opens a link (PROTOCOL R17, R20, R22). What the answer says is durable.
    pub fn grant(
        &self,
        splitter: SplitterId,
        life: SplitterIncarnation,
        continuation: &Continuation,
    ) -> Result<Granted, JournalError> {
        let mut tail = lock(&self.tail);
        tail.writable()?;
        let core = &self.reader.core;
        let plan = read(&core.state).sessions.plan_grant(splitter, life, continuation);
        let plan = plan.map_err(|seen| JournalError::StaleSplitter { asked: life, seen })?;
        if let Some(note) = plan.record {
            let streams = if plan.fresh {
                Some(self.with_stream(StreamAt { splitter, session: note.session, next: StreamSeq::FIRST })?)
            } else {
                None
            };
            let record = (bare(Op::SessionGranted, Incarnation::NONE), note.encode());
            self.append_own(&mut tail, &[record], streams.as_ref(), Label::default())?;
        }
        let state = read(&core.state);
        let at = state.sessions.streams().of(splitter);
        let Some(watermarks) = at.map(|at| Self::marks_of(&tail, at)) else {
            return Err(JournalError::Refused("no session was granted".into()));
        };
        Ok(Granted {
            journal: core.id,
            session: watermarks.session,
            expected: watermarks.durable,
            fresh: plan.fresh,
            consistent: !state.timeline.gap_is_open(),
            label: state.timeline.head().label.max(tail.mark().label),
            indeterminate: state.timeline.indeterminate().to_vec(),
            watermarks,
        })
    }

    /// The table of streams with this one; a splitter that serves nothing any more makes room for it.
    fn with_stream(&self, at: StreamAt) -> Result<Streams, JournalError> {
        let state = read(&self.reader.core.state);
        let mut streams = *state.sessions.streams();
        if streams.of(at.splitter).is_none() && streams.is_full() {
            let idle = streams.iter().map(|at| at.splitter).find(|splitter| !state.members.served_by(*splitter));
            let idle = idle.ok_or_else(|| {
                JournalError::Refused(format!(
                    "group '{}' is served by {STREAMS_MAX} splitters already, the most there can be",
                    self.reader.core.group_name
                ))
            })?;
            streams.remove(idle);
        }
        streams.set(at);
        Ok(streams)
    }

    /// The splitter lost records: the session is over, points behind its last record are refused until a resync of
    /// a later session. Harmless when it is over already.
    pub fn lose(&self, session: Session) -> Result<(), JournalError> {
        let mut tail = lock(&self.tail);
        tail.writable()?;
        let open = {
            let state = read(&self.reader.core.state);
            let splitter = state.sessions.splitter_of(session).filter(|_| state.sessions.is_open(session));
            splitter.map(|splitter| (splitter, state.sessions.life(splitter)))
        };
        if let Some((splitter, life)) = open {
            let note = SessionNote { session, splitter, life, clean: false };
            let record = (bare(Op::SessionLost, Incarnation::NONE), note.encode());
            self.append_own(&mut tail, &[record], None, Label::default())?;
        }
        Ok(())
    }

    /// Appends sealed chunks of one session, each a header area and a payload area, several of them under way at once.
    /// Those that the journal has already are acknowledged again. When one is refused nothing of it or behind it is
    /// written, but those in front of it may be: ask `watermarks`, or send all of them again.
    pub fn append_many(&self, session: Session, chunks: &[(&[u8], &[u8])]) -> Result<Watermarks, AppendError> {
        let mut tail = lock(&self.tail);
        tail.writable()?;
        self.begin_epoch(&mut tail)?;
        let core = &self.reader.core;
        let mut checking = intake::Checking::new(&read(&core.state), tail.mark().label, chunks);
        let mut next = || checking.next(core.id, &read(&core.state));
        tail.append(chunks.len() == 1, &mut next, &mut |chunk, notes| self.take_in(chunk, notes))?;
        if let Some(refused) = checking.refused() {
            return Err(refused);
        }
        let state = read(&core.state);
        let streams = state.sessions.streams();
        let at = streams.with_session(session).ok_or(AppendError::Fenced { session, current: streams.newest() })?;
        Ok(Self::marks_of(&tail, at))
    }

    /// How far a session is; `None` unless it is the newest of its splitter.
    pub fn watermarks(&self, session: Session) -> Option<Watermarks> {
        let tail = lock(&self.tail);
        let at = read(&self.reader.core.state).sessions.streams().with_session(session)?;
        Some(Self::marks_of(&tail, at))
    }

    /// The newest session of each splitter.
    fn all_marks(tail: &Tail, state: &State) -> Vec<Watermarks> {
        state.sessions.streams().iter().map(|at| Self::marks_of(tail, *at)).collect()
    }

    fn marks_of(tail: &Tail, at: StreamAt) -> Watermarks {
        let StreamAt { session, next: durable, splitter } = at;
        let committed = if bug(Bug::ReleaseAtDurable) { durable } else { tail.committed_of(session) };
        Watermarks { splitter, session, received: durable, durable, committed }
    }

    /// When something durable is not committed yet, writes a chunk that names it. To be called when the link has
    /// been idle for a while (50 ms is good), and after membership changes. Harmless otherwise. Answers with how far
    /// every splitter's newest session is.
    pub fn commit_idle(&self) -> Result<Vec<Watermarks>, JournalError> {
        let mut tail = lock(&self.tail);
        if tail.owes_commit() {
            self.append_own(&mut tail, &[(bare(Op::Commit, Incarnation::NONE), Vec::new())], None, Label::default())?;
        }
        Ok(Self::all_marks(&tail, &read(&self.reader.core.state)))
    }

    /// Takes a durable chunk into the state.
    fn take_in(&self, chunk: &Chunk, notes: &Notes) {
        self.written.fetch_add(chunk.header.disk_bytes(), Ordering::Relaxed);
        let mut state = write(&self.reader.core.state);
        self.look_at_checkpoints(chunk, &mut state);
        state.apply(chunk, notes);
        state.tend_index();
    }

    /// Appends records of the journal's own stream as one chunk; answers with the position of the first. `streams`
    /// is what the splitters' sessions expect afterwards, where that changes.
    fn append_own(
        &self,
        tail: &mut Tail,
        records: &[(Descriptor, Vec<u8>)],
        streams: Option<&Streams>,
        now: Label,
    ) -> Result<Position, JournalError> {
        let core = &self.reader.core;
        tail.writable()?;
        self.begin_epoch(tail)?;
        let mark = *tail.mark();
        let label = mark.label.max(now);
        let mut builder = BodyBuilder::new(core.id, Session::new(0), StreamSeq::new(mark.next_position.get()));
        for (descriptor, note) in records {
            let fits = builder.push(Descriptor { label, ..*descriptor }, note);
            assert!(fits, "the journal's own records are small");
        }
        let bytes = builder.finish();
        let body = Body::decode(&bytes.header, core.id)
            .map_err(|error| JournalError::Refused(format!("a record of the journal's own is malformed: {error}")))?;
        let notes = Notes::collect(&body, |offset, len| {
            bytes.payload.get(offset as usize..(offset + len) as usize).map(<[u8]>::to_vec)
        });
        let prepared = Prepared {
            area: &bytes.header,
            payload: &bytes.payload,
            body: Arc::new(body),
            notes,
            streams: *streams.unwrap_or(&mark.streams),
            label,
        };
        let mut prepared = Some(prepared);
        tail.append(true, &mut || prepared.take(), &mut |chunk, notes| self.take_in(chunk, notes))?;
        Ok(mark.next_position)
    }

    // ---- points and images

    /// The position of a point, if it can be offered; see [`Reader::resolve`].
    pub fn resolve(&self, point: &Point, any: bool) -> Result<Position, PointError> {
        self.reader.resolve(point, any)
    }

    /// The timeline.
    pub fn timeline(&self) -> TimelineView {
        self.reader.timeline()
    }

    /// The volumes at a position that can be offered.
    pub fn image(&self, position: Position) -> Result<Image, PointError> {
        self.reader.image(position)
    }

    /// The volumes as they are right behind the records of this session below `at`, whatever came since. `None` unless
    /// the session is the newest one and those records are durable.
    pub fn image_behind(&self, session: Session, at: StreamSeq) -> Result<Option<Image>, PointError> {
        let behind = read(&self.reader.core.state).behind(session, at);
        behind.map(|position| self.image(position)).transpose()
    }

    /// Whether a bookmark of that name exists: to be asked before a splitter is told to lay one.
    pub fn bookmark_exists(&self, name: &str) -> bool {
        self.reader.bookmark_exists(name)
    }

    /// Removes a bookmark; `false` when there is none of that name.
    pub fn remove_bookmark(&self, name: &str, now: Label) -> Result<bool, JournalError> {
        let mut tail = lock(&self.tail);
        if !self.bookmark_exists(name) {
            return Ok(false);
        }
        let note = BookmarkNote { ticket: 0, name: name.to_string() }.encode();
        self.append_own(&mut tail, &[(bare(Op::BookmarkRemoved, Incarnation::NONE), note)], None, now)?;
        Ok(true)
    }
}

/// A record of the journal's own; its label is set when it is appended.
fn bare(op: Op, volume: Incarnation) -> Descriptor {
    Descriptor::bare(op, volume, None, Label::default())
}
