//! Which connection speaks for a splitter in a group, and what becomes of what it says.
//!
//! A pure state machine: no socket, file or clock. A group has one for each of its splitters. Owns fencing (a newer OPEN ends the older connection before
//! anything is granted, and an older one's late OPEN ends nothing, PROTOCOL R20), the order of chunks (exactly the next one, R24), what is acknowledged and when,
//! and the course of initial synchronisations. Deliberately does no journal work: it says what is to be done, in
//! order, and is told how it went.

use std::collections::{BTreeMap, VecDeque};

use record::conversation::{Bytes, ToSplitter};
use record::fault::{Bug, bug};
use record::geometry::{Extent, SectorCount};
use record::ids::Incarnation;
use record::position::{Session, SplitterIncarnation, StreamSeq};

use super::link::{LinkId, Opening};
use super::outbox::Place;

#[cfg(test)]
mod tests;

/// Milliseconds of a clock that never goes back.
pub type Millis = u64;

/// Chunks in one append. Four are on their way at once; with no more than four the disk would have nothing to do while the first of
/// them is checked and the last indexed.
pub const BATCH_CHUNKS: usize = 16;
/// Bytes in one append, as long as it has more than one chunk: a quarter of a usual outbox.
pub const BATCH_BYTES: u64 = 16 << 20;
/// How long nothing may come before the committed mark is written for its own sake.
const IDLE_MS: Millis = 50;
/// How long until a journal that did not take something is tried again.
const RETRY_MS: Millis = 1000;
/// Chunks that may wait for a disk with room. Only their places wait, the bytes stay in the outbox, which is what
/// really bounds them.
const WAITING_MAX: usize = 64 * 1024;

/// A sealed chunk in the outbox.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChunkAt {
    /// Number of its first record.
    pub first: StreamSeq,
    /// The number behind its last record.
    pub next: StreamSeq,
    /// Where it lies.
    pub place: Place,
}

/// How far the journal is with a session; each the number behind the last record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Marks {
    /// Durable: also what it expects next.
    pub durable: StreamSeq,
    /// Known to be durable on disk.
    pub committed: StreamSeq,
}

/// Why chunks were not taken.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Setback {
    /// The disk is full: nothing was written, the same can be tried again.
    Full {
        /// Whether hosts are to wait for that.
        holds: bool,
    },
    /// The journal expects another one.
    Expected(StreamSeq),
    /// They cannot be taken, now or later.
    Broken(String),
}

/// A volume of the group, as far as synchronisation goes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Volume {
    /// Its size.
    pub size: SectorCount,
    /// Whether its synchronisation is complete.
    pub joined: bool,
}

/// What happened.
#[derive(Debug)]
pub enum Input {
    /// A splitter wants to speak.
    Open(LinkId, Opening),
    /// The journal granted what [`Action::Grant`] asked for.
    Granted(Session, Marks),
    /// The journal did not.
    Denied {
        /// Whether trying again may help.
        retry: bool,
        /// Why not.
        reason: String,
    },
    /// A chunk is there.
    Chunk(LinkId, Session, ChunkAt),
    /// A volume's synchronisation starts.
    SyncBegin(LinkId, Incarnation),
    /// Content of it.
    SyncData(LinkId, Incarnation, Extent, Bytes),
    /// Zeros of it.
    SyncZero(LinkId, Incarnation, Extent),
    /// All of it was sent.
    SyncEnd(LinkId, Incarnation),
    /// Records were lost.
    Lost(LinkId, Session, String),
    /// What came makes no sense.
    Nonsense(LinkId, String),
    /// The connection is over.
    Gone(LinkId),
    /// The chunks of [`Action::Append`] are durable.
    Appended(Marks),
    /// They are not.
    NotAppended(Setback),
    /// [`Action::CommitIdle`] is done.
    Committed(Marks),
    /// It could not be done.
    NotCommitted,
    /// The volumes are these now.
    Volumes(BTreeMap<Incarnation, Volume>),
    /// The replica took what [`Action::Base`] said.
    BaseDone(Incarnation, u64),
    /// A volume has joined, durably.
    Joined(Incarnation),
    /// The replica did not take it.
    BaseFailed(Incarnation, String),
    /// Time passed.
    Tick,
}

/// What is to be done, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    /// End this connection at once.
    Cut(LinkId),
    /// Tell this connection that it is not served, and end it.
    Refuse {
        /// Which.
        link: LinkId,
        /// Whether trying again may help.
        retry: bool,
        /// Why.
        reason: String,
    },
    /// Ask the journal for a session; then `Granted` or `Denied`.
    Grant(LinkId, Opening),
    /// Say this to the splitter that speaks now.
    Send(ToSplitter),
    /// Append these chunks in one go; then `Appended` or `NotAppended`.
    Append(Session, Vec<ChunkAt>),
    /// Write the committed mark; then `Committed`.
    CommitIdle,
    /// Change a replica; then `BaseDone`, `Joined` or `BaseFailed`.
    Base(Incarnation, BaseStep),
    /// Note durably that the session lost records.
    Lose(Session, String),
    /// Nobody speaks for the splitter any more.
    Unlinked,
}

/// What a replica is to do.
#[derive(Debug, PartialEq, Eq)]
pub enum BaseStep {
    /// Become all zeros.
    Reset,
    /// Take content.
    Write(Extent, Bytes),
    /// Take zeros.
    Zero(Extent),
    /// Become durable, and the volume joins.
    Finish,
}

/// The connection that speaks for the splitter.
#[derive(Debug)]
struct Speaker {
    link: LinkId,
    /// `None` until granted, and again once records were lost.
    session: Option<Session>,
    /// What the next chunk must start with; ahead of `marks.durable` by what waits.
    expected: StreamSeq,
    marks: Marks,
    /// Whether hosts wait because the journal is full.
    holds: bool,
    /// The number that was last asked for; further chunks behind the same hole are not answered again.
    asked: Option<StreamSeq>,
    waiting: VecDeque<ChunkAt>,
    /// Bytes of each synchronisation under way.
    syncs: BTreeMap<Incarnation, u64>,
    /// Why the session is over, once what came before has been appended: it is part of the history.
    ending: Option<String>,
    /// Volumes all of whose content was sent, and that join once every chunk that came before is durable: a read for
    /// the replica may have seen writes that are in them.
    finishing: Vec<Incarnation>,
}

/// The intake of one splitter of a group.
#[derive(Debug, Default)]
pub struct Intake {
    newest: Option<SplitterIncarnation>,
    /// The newest connection on which that life of the splitter opened; they are numbered as they come.
    newest_link: Option<LinkId>,
    speaker: Option<Speaker>,
    volumes: BTreeMap<Incarnation, Volume>,
    /// When the committed mark is due.
    idle_at: Option<Millis>,
    /// When a full disk is tried again.
    retry_at: Option<Millis>,
}

impl Intake {
    /// Whether a splitter has been granted a session and is connected.
    pub fn linked(&self) -> bool {
        self.speaker.as_ref().is_some_and(|s| s.session.is_some())
    }

    /// The connection that speaks.
    pub fn link(&self) -> Option<LinkId> {
        self.speaker.as_ref().map(|s| s.link)
    }

    /// The session that is being taken in.
    pub fn session(&self) -> Option<Session> {
        self.speaker.as_ref().and_then(|s| s.session)
    }

    /// Bytes synchronised so far of each volume whose synchronisation runs.
    pub fn synchronising(&self) -> impl Iterator<Item = (Incarnation, u64)> + '_ {
        self.speaker.iter().flat_map(|s| s.syncs.iter().map(|(volume, bytes)| (*volume, *bytes)))
    }

    /// When [`Input::Tick`] is due.
    pub fn due(&self) -> Option<Millis> {
        match (self.idle_at, self.retry_at) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        }
    }

    /// The chunks that wait, as one append takes them.
    fn batch(&self) -> Option<Action> {
        let speaker = self.speaker.as_ref()?;
        let session = speaker.session?;
        let mut bytes = 0;
        let chunks: Vec<_> = speaker
            .waiting
            .iter()
            .take(BATCH_CHUNKS)
            .enumerate()
            .take_while(|(i, chunk)| {
                bytes += chunk.place.bytes();
                *i == 0 || bytes <= BATCH_BYTES
            })
            .map(|(_, chunk)| *chunk)
            .collect();
        (!chunks.is_empty()).then_some(Action::Append(session, chunks))
    }

    /// Appends what waits, if anything does. The caller decides when: once nothing more is there to be read, or a
    /// batch is full.
    pub fn append_now(&self) -> Option<Action> {
        if self.retry_at.is_some() { None } else { self.batch() }
    }

    /// Whether a whole batch waits.
    pub fn batch_is_full(&self) -> bool {
        self.speaker.as_ref().is_some_and(|s| {
            s.waiting.len() >= BATCH_CHUNKS || s.waiting.iter().map(|c| c.place.bytes()).sum::<u64>() >= BATCH_BYTES
        })
    }

    /// What follows from what happened.
    pub fn step(&mut self, now: Millis, input: Input) -> Vec<Action> {
        match input {
            Input::Open(link, opening) => self.open(link, opening),
            Input::Granted(session, marks) => self.granted(now, session, marks),
            Input::Denied { retry, reason } => self.denied(retry, reason),
            Input::Chunk(link, session, chunk) => self.chunk(link, session, chunk),
            Input::SyncBegin(link, volume) => self.sync(link, volume, None, BaseStep::Reset),
            Input::SyncData(link, volume, extent, content) => {
                if content.0.len() as u64 == extent.bytes() {
                    self.sync(link, volume, Some(extent), BaseStep::Write(extent, content))
                } else {
                    self.nonsense(link, format!("content of {} bytes for {extent}", content.0.len()))
                }
            }
            Input::SyncZero(link, volume, extent) => self.sync(link, volume, Some(extent), BaseStep::Zero(extent)),
            Input::SyncEnd(link, volume) => self.sync(link, volume, None, BaseStep::Finish),
            Input::Lost(link, session, reason) => self.lost(link, session, reason),
            Input::Nonsense(link, why) => self.nonsense(link, why),
            Input::Gone(link) => self.gone(link),
            Input::Appended(marks) => self.appended(now, marks),
            Input::NotAppended(setback) => self.not_appended(now, setback),
            Input::Committed(marks) => self.committed(marks),
            Input::NotCommitted => {
                self.idle_at = Some(now + RETRY_MS);
                Vec::new()
            }
            Input::Volumes(volumes) => {
                self.volumes = volumes;
                Vec::new()
            }
            Input::BaseDone(volume, bytes) => self.base_done(volume, bytes),
            Input::Joined(volume) => self.joined(volume),
            Input::BaseFailed(volume, reason) => self.base_failed(volume, &reason),
            Input::Tick => self.tick(now),
        }
    }

    fn open(&mut self, link: LinkId, opening: Opening) -> Vec<Action> {
        if let Some(newest) = self.newest
            && opening.life < newest
            && !bug(Bug::AcceptStaleSession)
        {
            let reason = format!(
                "this splitter's life {} is older than {newest}, which speaks for the group already",
                opening.life
            );
            return vec![Action::Refuse { link, retry: false, reason }];
        }
        if self.newest == Some(opening.life) && self.newest_link.is_some_and(|newest| link < newest) {
            // Read late, when the splitter had given that connection up: what it says of its outbox is not true any
            // more, and a session granted on it would end the one that goes on.
            let reason = "a newer connection of this splitter has opened already".to_owned();
            return vec![Action::Refuse { link, retry: true, reason }];
        }
        let mut actions = self.end_speaker();
        self.newest = Some(opening.life);
        self.newest_link = Some(link);
        self.speaker = Some(Speaker {
            link,
            session: None,
            expected: StreamSeq::FIRST,
            marks: Marks { durable: StreamSeq::FIRST, committed: StreamSeq::FIRST },
            holds: false,
            asked: None,
            waiting: VecDeque::new(),
            syncs: BTreeMap::new(),
            ending: None,
            finishing: Vec::new(),
        });
        actions.push(Action::Grant(link, opening));
        actions
    }

    /// Ends whoever speaks now. Its last append is over: appends are never under way between two steps.
    fn end_speaker(&mut self) -> Vec<Action> {
        self.idle_at = None;
        self.retry_at = None;
        match self.speaker.take() {
            Some(old) => vec![Action::Cut(old.link), Action::Unlinked],
            None => Vec::new(),
        }
    }

    fn granted(&mut self, now: Millis, session: Session, marks: Marks) -> Vec<Action> {
        let Some(speaker) = &mut self.speaker else { return Vec::new() };
        speaker.session = Some(session);
        speaker.expected = marks.durable;
        speaker.marks = marks;
        // It may have missed what was said before the break, and nothing new need come that would be answered.
        let ack = speaker.ack(session);
        self.note_idle(now);
        vec![ack]
    }

    fn denied(&mut self, retry: bool, reason: String) -> Vec<Action> {
        match self.speaker.take() {
            Some(speaker) => vec![Action::Refuse { link: speaker.link, retry, reason }],
            None => Vec::new(),
        }
    }

    /// The speaker, if this connection is it.
    fn speaker_on(&mut self, link: LinkId) -> Option<&mut Speaker> {
        self.speaker.as_mut().filter(|s| s.link == link)
    }

    fn chunk(&mut self, link: LinkId, session: Session, chunk: ChunkAt) -> Vec<Action> {
        // A fenced connection's late frames, and those of a session that lost records, mean nothing any more.
        let Some(speaker) = self.speaker_on(link) else { return Vec::new() };
        if speaker.session != Some(session) || speaker.ending.is_some() {
            return Vec::new();
        }
        if chunk.next <= speaker.expected {
            // Sent twice, which is legitimate: it may have missed the answer.
            return vec![speaker.ack(session)];
        }
        if chunk.first != speaker.expected {
            if speaker.asked == Some(speaker.expected) {
                return Vec::new();
            }
            speaker.asked = Some(speaker.expected);
            return vec![Action::Send(ToSplitter::Nak { session, expected: speaker.expected })];
        }
        if speaker.waiting.len() >= WAITING_MAX {
            return self.nonsense(link, format!("more than {WAITING_MAX} chunks are waiting"));
        }
        speaker.asked = None;
        speaker.expected = chunk.next;
        speaker.waiting.push_back(chunk);
        self.idle_at = None;
        Vec::new()
    }

    fn appended(&mut self, now: Millis, marks: Marks) -> Vec<Action> {
        self.retry_at = None;
        let Some(speaker) = &mut self.speaker else { return Vec::new() };
        let Some(session) = speaker.session else { return Vec::new() };
        speaker.waiting.retain(|chunk| chunk.next > marks.durable);
        speaker.marks = marks;
        let mut actions = vec![speaker.ack(session)];
        actions.extend(speaker.hold(false));
        if speaker.waiting.is_empty() {
            actions.extend(speaker.finishing.drain(..).map(|volume| Action::Base(volume, BaseStep::Finish)));
        } else if !speaker.finishing.is_empty() || speaker.ending.is_some() {
            actions.extend(self.batch());
        }
        self.note_idle(now);
        actions.extend(self.end_session());
        actions
    }

    fn not_appended(&mut self, now: Millis, setback: Setback) -> Vec<Action> {
        let Some(speaker) = &mut self.speaker else { return Vec::new() };
        let Some(session) = speaker.session else { return Vec::new() };
        match setback {
            Setback::Full { holds } => {
                self.retry_at = Some(now + RETRY_MS);
                speaker.hold(holds).into_iter().collect()
            }
            Setback::Expected(_) if speaker.ending.is_some() => {
                speaker.waiting.clear();
                self.end_session().into_iter().collect()
            }
            Setback::Expected(expected) => {
                speaker.waiting.clear();
                speaker.expected = expected;
                speaker.asked = Some(expected);
                vec![Action::Send(ToSplitter::Nak { session, expected })]
            }
            Setback::Broken(reason) => {
                let link = speaker.link;
                self.nonsense(link, reason)
            }
        }
    }

    fn committed(&mut self, marks: Marks) -> Vec<Action> {
        let Some(speaker) = &mut self.speaker else { return Vec::new() };
        let Some(session) = speaker.session else { return Vec::new() };
        speaker.marks = marks;
        vec![speaker.ack(session)]
    }

    fn note_idle(&mut self, now: Millis) {
        let owed = self.speaker.as_ref().is_some_and(|s| s.waiting.is_empty() && s.marks.committed < s.marks.durable);
        self.idle_at = owed.then_some(now + IDLE_MS);
    }

    fn tick(&mut self, now: Millis) -> Vec<Action> {
        let mut actions = Vec::new();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
            actions.extend(self.batch());
        }
        if self.idle_at.is_some_and(|at| at <= now) {
            self.idle_at = None;
            actions.push(Action::CommitIdle);
        }
        actions
    }

    fn sync(&mut self, link: LinkId, volume: Incarnation, extent: Option<Extent>, step: BaseStep) -> Vec<Action> {
        let known = self.volumes.get(&volume).copied();
        let Some(speaker) = self.speaker_on(link) else { return Vec::new() };
        let Some(known) = known else {
            return self.nonsense(link, format!("volume {volume} is no member of the group"));
        };
        if speaker.session.is_none() {
            return Vec::new();
        }
        if known.joined {
            return self.nonsense(link, format!("volume {volume} has joined already, its replica is in use"));
        }
        if step == BaseStep::Reset {
            speaker.syncs.insert(volume, 0);
        } else if !speaker.syncs.contains_key(&volume) {
            return self.nonsense(link, format!("synchronisation of volume {volume} goes on without a beginning"));
        }
        if let Some(extent) = extent
            && !extent.fits(known.size)
        {
            return self.nonsense(link, format!("synchronisation of volume {volume} at {extent}, past its end"));
        }
        if step == BaseStep::Finish && !speaker.waiting.is_empty() && !bug(Bug::JoinTooEarly) {
            speaker.finishing.push(volume);
            return self.append_now().into_iter().collect();
        }
        vec![Action::Base(volume, step)]
    }

    fn base_done(&mut self, volume: Incarnation, bytes: u64) -> Vec<Action> {
        let Some(done) = self.speaker.as_mut().and_then(|s| s.syncs.get_mut(&volume)) else { return Vec::new() };
        *done += bytes;
        vec![Action::Send(ToSplitter::SyncAck { volume, bytes: *done })]
    }

    fn joined(&mut self, volume: Incarnation) -> Vec<Action> {
        if let Some(known) = self.volumes.get_mut(&volume) {
            known.joined = true;
        }
        let Some(speaker) = &mut self.speaker else { return Vec::new() };
        speaker.syncs.remove(&volume);
        vec![Action::Send(ToSplitter::Joined { volume })]
    }

    fn base_failed(&mut self, volume: Incarnation, reason: &str) -> Vec<Action> {
        let Some(link) = self.link() else { return Vec::new() };
        let reason = format!("synchronise volume {volume}: {reason}");
        // It connects again and starts this volume from the beginning.
        let mut actions = vec![Action::Refuse { link, retry: true, reason }];
        actions.extend(self.leave_speaker());
        actions
    }

    fn lost(&mut self, link: LinkId, session: Session, reason: String) -> Vec<Action> {
        let Some(speaker) = self.speaker_on(link) else { return Vec::new() };
        if speaker.session != Some(session) {
            return Vec::new();
        }
        speaker.ending = Some(reason);
        // What it sent before is whole, and it waits for the answer before it begins anew.
        if !speaker.waiting.is_empty() {
            return self.append_now().into_iter().collect();
        }
        self.end_session().into_iter().collect()
    }

    /// Ends a session that is over, once nothing of it waits.
    fn end_session(&mut self) -> Option<Action> {
        let speaker = self.speaker.as_mut().filter(|s| s.waiting.is_empty())?;
        let reason = speaker.ending.take()?;
        let session = speaker.session.take()?;
        self.idle_at = None;
        self.retry_at = None;
        Some(Action::Lose(session, reason))
    }

    fn nonsense(&mut self, link: LinkId, reason: String) -> Vec<Action> {
        if self.speaker_on(link).is_none() {
            return Vec::new();
        }
        // Both sides begin again at what the journal has; what was not acknowledged is still in the outbox.
        let mut actions = vec![Action::Refuse { link, retry: true, reason }];
        actions.extend(self.leave_speaker());
        actions
    }

    fn gone(&mut self, link: LinkId) -> Vec<Action> {
        if self.speaker_on(link).is_none() { Vec::new() } else { self.leave_speaker() }
    }

    fn leave_speaker(&mut self) -> Vec<Action> {
        self.idle_at = None;
        self.retry_at = None;
        self.speaker.take().map(|_| Action::Unlinked).into_iter().collect()
    }
}

impl Speaker {
    /// Hosts are to wait for room, or not any more; nothing is said twice.
    fn hold(&mut self, holds: bool) -> Option<Action> {
        let news = self.holds != holds;
        self.holds = holds;
        news.then_some(Action::Send(ToSplitter::Full { holds }))
    }

    fn ack(&self, session: Session) -> Action {
        let Marks { durable, committed } = self.marks;
        // Nothing is held back between taking in and making durable, so both are one number.
        Action::Send(ToSplitter::Ack { session, received: durable, durable, committed })
    }
}
