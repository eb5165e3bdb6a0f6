//! Everything that a journal's records say, in memory: members, sessions, timeline, index, and what is damaged.
//!
//! Owns the one way in, `apply`, used alike for chunks read at open and for chunks that have just become durable.
//! No file, no clock.

mod saving;

use crate::chunks::{Chunk, Chunks, Kept};
use crate::error::{Asked, PointError};
use crate::index::{Answer, Answered, Content, HeadedIndex, Home, Index, Resolved, RunIndex};
use crate::members::{Member, Members};
use crate::notes::{Change, Event, Notes};
use crate::path::Path;
use crate::place::SegmentNumber;
use crate::recovery::{Damage, Decision, Verdict};
use crate::session::Sessions;
use crate::superblock::Retained;
use crate::timeline::{At, Speaker, Timeline};
use record::chunk::Descriptor;
use record::geometry::Extent;
use record::header::ChunkHeader;
use record::ids::Incarnation;
use record::op::Op;
use record::position::{Position, Session, StreamSeq};
use record::streams::Streams;
pub(crate) use saving::Stretch;

/// Most damaged places that are kept; more are only counted.
pub(crate) const DAMAGE_MAX: usize = 1024;

/// Where the content of a run of sectors is to be read.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// The payload of a record.
    Log { chunk: Kept, record: usize },
    /// Zeros, allocated.
    Zero,
    /// A hole.
    Hole,
    /// The replica.
    Base,
    /// Records from `first` to `last` are lost and may have written here.
    Lost { first: Position, last: Position },
}

/// A run of sectors of an image.
#[derive(Clone, Debug)]
pub(crate) struct Piece {
    pub extent: Extent,
    pub position: Position,
    pub source: Source,
}

/// The state.
#[derive(Debug)]
pub(crate) struct State {
    pub members: Members,
    pub sessions: Sessions,
    pub timeline: Timeline,
    index: HeadedIndex<RunIndex>,
    chunks: Chunks,
    /// The newest record that changed what the volumes hold, which they are, or which line is live.
    last_change: Position,
    /// Stretches of positions of which nothing is known, ascending.
    lost: Vec<(Position, Position)>,
    /// What is damaged; at most `DAMAGE_MAX`.
    damage: Vec<Damage>,
    /// How much was found damaged in all.
    damage_count: u64,
    /// Bytes of chunks, headers included.
    pub used_bytes: u64,
    /// Bytes of payload in them.
    pub payload_bytes: u64,
    /// The largest id of a rollback.
    pub last_rollback: u64,
    retained: Retained,
    /// What the replicas should hold and do not: it could not be read when it was to be brought to them.
    base_lost: Vec<(Incarnation, Extent)>,
}

impl State {
    /// Before the first chunk.
    pub(crate) fn new(index: RunIndex) -> Self {
        Self {
            members: Members::default(),
            sessions: Sessions::default(),
            timeline: Timeline::new(),
            index: HeadedIndex::of(index),
            chunks: Chunks::default(),
            last_change: Position::ORIGIN,
            lost: Vec::new(),
            damage: Vec::new(),
            damage_count: 0,
            used_bytes: 0,
            payload_bytes: 0,
            last_rollback: 0,
            retained: Retained::ALL,
            base_lost: Vec::new(),
        }
    }

    /// The next chunk.
    pub(crate) fn apply(&mut self, chunk: &Chunk, notes: &Notes) {
        assert_eq!(
            chunk.header.first_position,
            self.timeline.head().position.next(),
            "chunks are applied in order of position"
        );
        let session = chunk.body.header.session;
        self.timeline.begin_chunk();
        self.index.behind_mut().chunk(chunk.place, chunk.header.first_position, chunk.body.digest);
        let places = chunk.body.records.iter().map(|record| &record.descriptor);
        self.index.expect(&places.filter_map(|of| Some((of.volume, of.extent?.start()))));
        let mut speaker = Speaker { session, splitter: self.sessions.splitter_of(session) };
        for (place, record) in chunk.body.records.iter().enumerate() {
            if let Some((extent, change)) = Change::of(&record.descriptor) {
                self.apply_change(&record.descriptor, extent, change, speaker);
                continue;
            }
            self.apply_record(&record.descriptor, &Event::of(record, notes.of(place)), speaker);
            // It may have been a grant.
            speaker.splitter = self.sessions.splitter_of(session);
        }
        self.streams_at(&chunk.header.streams);
        self.used_bytes += chunk.header.disk_bytes();
        self.payload_bytes += u64::from(chunk.header.payload_len);
        self.chunks.push(chunk);
    }

    /// What a header says of the streams. Sessions that nobody granted, as far as we can read: their grants are lost,
    /// and whether they were clean.
    fn streams_at(&mut self, streams: &Streams) {
        for at in self.sessions.at(streams) {
            self.timeline.consistency_unknown(Some(at.splitter), at.session);
        }
    }

    fn apply_change(&mut self, descriptor: &Descriptor, extent: Extent, change: Change, speaker: Speaker) {
        let at = self.timeline.head().position.next();
        self.members.seen(descriptor.volume);
        self.last_change = at;
        self.index.insert(descriptor.volume, extent, at, Content::of(change));
        self.timeline.changed(descriptor, extent, change, speaker);
    }

    fn apply_record(&mut self, descriptor: &Descriptor, event: &Event, speaker: Speaker) {
        let at = self.timeline.head().position.next();
        self.members.seen(descriptor.volume);
        if changes(descriptor.op) {
            self.last_change = at;
        }
        match event {
            Event::Join(note) => self.members.join(note.clone(), at),
            Event::Joined(volume) => self.members.joined(*volume, at),
            Event::Leave(volume) => self.members.leave(*volume, at),
            Event::SessionGranted(note) => self.sessions.granted(note),
            Event::SessionLost(note) => self.sessions.lost(note),
            Event::Rollback(note) => self.last_rollback = self.last_rollback.max(note.id),
            Event::Unreadable(Op::SessionGranted | Op::SessionLost) => {
                // Of whichever splitter it was.
                let known: Vec<_> = self.sessions.streams().iter().map(|at| Some(at.splitter)).collect();
                for splitter in if known.is_empty() { vec![None] } else { known } {
                    self.timeline.consistency_unknown(splitter, Session::new(0));
                }
            }
            // Where the live line went on is not known: nothing older can be shown from here on.
            Event::Unreadable(Op::Rollback) => self.lost.push((at, at)),
            Event::Flush
            | Event::Bookmark(_)
            | Event::Noop
            | Event::Indeterminate(..)
            | Event::ResyncBegin
            | Event::ResyncEnd
            | Event::BookmarkRemoved(_)
            | Event::Recovery(_)
            | Event::Commit
            | Event::Barrier(_)
            | Event::Unreadable(_) => {}
        }
        // What most records say has no use for it, and a copy of it would be memory taken for each.
        let named = match event {
            Event::Joined(_) | Event::Leave(_) => self.members.get(descriptor.volume),
            _ => None,
        };
        let name = named.map(|member| member.name.clone());
        let left = named.filter(|_| matches!(event, Event::Leave(_))).map(|member| member.splitter);
        self.timeline.apply(descriptor.op, descriptor.label, event, speaker, name.as_deref());
        if let Event::Rollback(note) = event {
            for member in self.members.all().filter(|m| m.joined.is_some_and(|joined| joined <= note.target)) {
                let line = self.path(member, Position::new(u64::MAX));
                self.index.rolled_back(member.incarnation, &line);
            }
        }
        if matches!(event, Event::Joined(_) | Event::Leave(_)) {
            self.timeline.set_shared(self.members.are_shared());
        }
        if let Some(splitter) = left.filter(|splitter| !self.members.served_by(*splitter)) {
            self.timeline.serves_nothing(splitter);
        }
    }

    /// Records up to `last` are lost, and nobody knows what they said.
    pub(crate) fn apply_lost(&mut self, last: Position) {
        let first = self.timeline.head().position.next();
        if first <= last {
            self.lost.push((first, last));
            self.timeline.lost(last);
        }
    }

    /// All that was found on disk behind this state, as it was decided. `chunk` gives the headers and notes that were
    /// seen.
    pub(crate) fn replay(
        self,
        decision: &Decision,
        mut chunk: impl FnMut(usize) -> (ChunkHeader, Option<(Chunk, Notes)>),
    ) -> Self {
        let mut state = self;
        for verdict in &decision.verdicts {
            match verdict {
                Verdict::Keep { seen } | Verdict::Descriptions { seen } => match chunk(*seen) {
                    (_, Some((chunk, notes))) => state.apply(&chunk, &notes),
                    (header, None) => {
                        if let Some(last) = header.next_position.previous() {
                            state.apply_lost(last);
                        }
                        state.streams_at(&header.streams);
                    }
                },
                Verdict::Lost { positions, .. } => {
                    if let Some((_, last)) = positions {
                        state.apply_lost(*last);
                    }
                }
            }
        }
        state.sessions.burn(decision.burnt);
        // Where the newest chunks are lost, a mark says where the sessions were.
        state.streams_at(&decision.tail.streams);
        state
    }

    // ---- what is kept of the past

    /// What is kept of the past, and what the replicas should hold and do not.
    pub(crate) fn keep(&mut self, retained: Retained, base_lost: Vec<(Incarnation, Extent)>) {
        self.timeline.set_horizon(retained.horizon);
        (self.retained, self.base_lost) = (retained, base_lost);
        self.forget(retained.first_segment, retained.first_position);
    }

    /// Positions before this one are no points any more, but for bookmarks.
    pub(crate) fn set_horizon(&mut self, horizon: At) {
        self.retained.horizon = horizon;
        self.timeline.set_horizon(horizon);
    }

    /// What is kept of the past.
    pub(crate) fn retained(&self) -> &Retained {
        &self.retained
    }

    /// What the replicas should hold and do not.
    pub(crate) fn base_lost(&self) -> &[(Incarnation, Extent)] {
        &self.base_lost
    }

    /// The replicas hold the content of this position: what was lost in front of it is told by `base_lost` from here on.
    pub(crate) fn distributed(&mut self, to: Position, base_lost: Vec<(Incarnation, Extent)>) {
        self.retained.distributed = to;
        self.base_lost = base_lost;
    }

    /// Segments in front of this one, which begins with that record, are not in the journal any more.
    pub(crate) fn forget(&mut self, segment: SegmentNumber, first: Position) {
        (self.retained.first_segment, self.retained.first_position) = (segment, first);
        for chunk in self.chunks.forget(segment) {
            self.used_bytes = self.used_bytes.saturating_sub(chunk.disk_bytes());
            self.payload_bytes = self.payload_bytes.saturating_sub(u64::from(chunk.payload_bytes));
        }
        self.timeline.forget(first);
        self.index.behind_mut().forget(first);
        self.damage.retain(|damage| damage.place.segment >= segment);
    }

    // ---- asking

    /// Chunks in order of position.
    pub(crate) fn chunks(&self) -> &Chunks {
        &self.chunks
    }

    /// The path of a position for a volume.
    pub(crate) fn path(&self, member: &Member, at: Position) -> Path {
        // A volume that has not joined was at no target yet.
        let joined = member.joined.unwrap_or(Position::new(u64::MAX));
        Path::of(self.timeline.rollbacks(), joined, at)
    }

    /// Which versions an extent of a volume has; to be read without a lock.
    pub(crate) fn ask(&self, member: &Member, path: &Path, extent: Extent) -> Answer {
        self.index.ask(member.incarnation, path, extent)
    }

    /// What an extent of a volume is made of, in address order, without a hole between pieces: what was asked for.
    pub(crate) fn pieces(&self, member: &Member, path: &Path, answered: Answered) -> Vec<Piece> {
        // Lost records may have written anywhere: what is older than the newest lost one is not known any more.
        // What was lost before the content of the replicas is told by `base_lost`.
        let distributed = self.retained.distributed;
        let lost = self.lost.iter().chain(&answered.lost).filter(|(_, last)| *last > distributed);
        let newest_lost = lost.filter_map(|(first, last)| {
            path.newest_at_or_before(*last).filter(|newest| newest >= first).map(|n| (*first, n))
        });
        let newest_lost = newest_lost.max_by_key(|(_, newest)| *newest);
        let piece = |resolved: Resolved| {
            // The replica was complete no earlier than the volume's JOIN.
            let written = match resolved.home {
                Home::Record(_) => resolved.position,
                Home::Base => member.join,
            };
            // Where the index still knows that it is zeros or a hole, it knows better than the replica which.
            let home = match resolved.home {
                Home::Record(Content::Data) if resolved.position <= distributed => Home::Base,
                home => home,
            };
            let source = match (newest_lost, home) {
                (Some((first, last)), _) if last > written => Source::Lost { first, last },
                (_, Home::Record(Content::Data)) => self.log(resolved.position),
                (_, Home::Record(Content::Zero)) => Source::Zero,
                (_, Home::Record(Content::Hole)) => Source::Hole,
                (_, Home::Base) => Source::Base,
            };
            Piece { extent: resolved.extent, position: resolved.position, source }
        };
        let pieces = answered.runs.into_iter().map(piece);
        pieces.flat_map(|piece| self.base_pieces(member.incarnation, piece)).collect()
    }

    /// A piece of the replica, without what the replica should hold and does not.
    fn base_pieces(&self, volume: Incarnation, piece: Piece) -> Vec<Piece> {
        let lost = self.base_lost.iter().filter(|(of, extent)| *of == volume && extent.overlaps(piece.extent));
        let lost: Vec<Extent> = match piece.source {
            Source::Base => lost.filter_map(|(_, extent)| extent.intersection(piece.extent)).collect(),
            Source::Log { .. } | Source::Zero | Source::Hole | Source::Lost { .. } => Vec::new(),
        };
        if lost.is_empty() {
            return vec![piece];
        }
        let distributed = self.retained.distributed;
        let refused = Source::Lost { first: distributed, last: distributed };
        let sound = crate::index::subtract(&[piece.extent], &lost);
        let mut out: Vec<Piece> = sound.into_iter().map(|extent| Piece { extent, ..piece.clone() }).collect();
        out.extend(lost.into_iter().map(|extent| Piece { extent, source: refused.clone(), ..piece.clone() }));
        out.sort_by_key(|piece| piece.extent.start());
        out
    }

    fn log(&self, position: Position) -> Source {
        match self.chunks.holding(position) {
            Some((chunk, record)) => Source::Log { chunk, record },
            None => Source::Lost { first: position, last: position },
        }
    }

    /// The sectors of a volume that records at these positions changed.
    pub(crate) fn touched(&self, volume: Incarnation, positions: &Path) -> Vec<Extent> {
        self.index.touched(volume, positions)
    }

    /// The same, to be read without a lock.
    pub(crate) fn touched_later(&self, volume: Incarnation, positions: &Path) -> impl FnOnce() -> Vec<Extent> + use<> {
        self.index.behind().touched_later(volume, positions)
    }

    /// Whether records behind `from`, up to `to`, are lost.
    pub(crate) fn has_lost(&self, from: Position, to: Position) -> bool {
        self.lost.iter().any(|(first, last)| *first <= to && *last > from)
    }

    /// Whether a position can be offered.
    pub(crate) fn offered(&self, position: Position) -> Result<Position, PointError> {
        self.timeline.offered(position, Asked::Position(position))
    }

    /// The newest position whose image has exactly the records of this session below `at`, and everything that the
    /// journal did by itself between the last of them and the next one; `None` unless the session is the current one
    /// and they are all here.
    pub(crate) fn behind(&self, session: Session, at: StreamSeq) -> Option<Position> {
        let stream = self.sessions.streams().with_session(session)?;
        if at >= stream.next {
            return (at == stream.next).then(|| self.timeline.head().position);
        }
        // From the end: `at` was laid a moment ago.
        let holds = self.chunks.newest_first().filter(|chunk| chunk.session == session).find(|c| c.first_seq <= at)?;
        // Otherwise the chunk that brought `at` is lost.
        (at < holds.next_seq()).then(|| holds.first.plus(at.get() - holds.first_seq.get())).and_then(Position::previous)
    }

    /// Whether a record behind `position` changed what the volumes hold, which they are, or which line is live.
    pub(crate) fn changed_behind(&self, position: Position) -> bool {
        self.last_change > position
    }

    /// The index is given a moment: what is to be written is, and runs are merged a bit.
    pub(crate) fn tend_index(&mut self) {
        self.index.behind_mut().tend();
    }

    /// All of the journal is taken in: what of the index's files is of another history goes.
    pub(crate) fn tidy_index(&mut self) {
        self.index.behind_mut().tidy();
    }

    // ---- damage

    /// Something was found damaged. `false` when it was known.
    pub(crate) fn note_damage(&mut self, damage: Damage) -> bool {
        if self.damage.contains(&damage) {
            return false;
        }
        self.damage_count += 1;
        if self.damage.len() < DAMAGE_MAX {
            self.damage.push(damage);
        }
        true
    }

    /// Something that was damaged is so no more, but for what is left of it.
    pub(crate) fn healed(&mut self, damage: &Damage, left: Option<Damage>) {
        let before = self.damage.len();
        self.damage.retain(|known| known != damage);
        self.damage_count -= (before - self.damage.len()) as u64;
        if let Some(left) = left {
            self.note_damage(left);
        }
    }

    /// What is damaged, and how much was found in all.
    pub(crate) fn damage(&self) -> (&[Damage], u64) {
        (&self.damage, self.damage_count)
    }
}

/// Whether a record of this sort changes what the volumes hold, which they are, or which line is live.
fn changes(op: Op) -> bool {
    match op {
        Op::Write
        | Op::Punch
        | Op::Zero
        | Op::Indeterminate
        | Op::ResyncBegin
        | Op::ResyncEnd
        | Op::Join
        | Op::Joined
        | Op::Leave
        | Op::Rollback
        | Op::SessionLost => true,
        Op::Flush
        | Op::Bookmark
        | Op::Noop
        | Op::BookmarkRemoved
        | Op::Recovery
        | Op::Commit
        | Op::Barrier
        | Op::SessionGranted => false,
    }
}
