//! What is said over one link: frames in, frames out, nothing waited for.
//!
//! Owns the course of a conversation: OPEN, the grant, chunks in their order, resending, and the hand-over of what the
//! appliance asks for to stream and worker. No socket, no thread and no clock of its own: the shell in `link` brings
//! frames and time, and so does a simulated world.

use super::session::{self, CHUNKS_IN_FLIGHT, Decision, Own, closes, on_granted};
use crate::bell::Rings;
use crate::clock::Now;
use crate::group::Group;
use crate::outbox::Mode;
use crate::stream::{Entry, Hold};
use crate::work::Job;
use control::events::EventKind;
use record::conversation::{Continuation, Member, Relied, ToAppliance, ToSplitter, VERSION, VolumeExtent};
use record::ids::JournalId;
use record::member::{BarrierNote, BookmarkNote};
use record::op::Op;
use record::position::{Label, Session, StreamSeq};
use std::collections::VecDeque;
use std::io;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How often a sign of life is sent.
const ALIVE_EVERY: Duration = Duration::from_secs(1);

/// How a conversation ended without an error.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Parting {
    /// Connect again at once.
    Again,
    /// The appliance said that trying again soon will not help.
    Refused,
}

fn continuation(group: &Group) -> Continuation {
    let (mode, reason) = group.stream.mode();
    let marks = group.stream.marks();
    if group.resync_wanted.load(Ordering::Acquire) {
        return Continuation::Lost { reason: "a resynchronisation was asked for".into() };
    }
    if let Some(session) = group.stream.session() {
        return Continuation::Same { session, laid: marks.laid, released: marks.released };
    }
    let clean = *group.clean.lock().unwrap_or_else(PoisonError::into_inner);
    match (mode, clean) {
        (Mode::Waiting, Some(clean)) => {
            Continuation::CleanAfter { session: Session::new(clean.session), next: StreamSeq::new(clean.next) }
        }
        (Mode::Waiting, None) => Continuation::Lost { reason: "no clean stop before this session".into() },
        (Mode::Active | Mode::Resyncing | Mode::Marking, _) => Continuation::Lost { reason },
    }
}

/// What follows from a grant, in words.
fn told(decision: &Decision) -> String {
    match decision {
        Decision::Continue(from) => format!("goes on at record {from}"),
        Decision::BeginActive => "begins; every write is recorded".to_owned(),
        Decision::BeginResync => "begins with a resynchronisation".to_owned(),
        Decision::BeginMarking(why) => format!("begins, and nothing is recorded: {why}"),
        Decision::End(why) => format!("ends: {why}"),
    }
}

/// Whether the session is over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Over {
    No,
    /// The appliance knows; what was laid before is still on its way.
    Told,
    /// The appliance knows, and what was laid does not matter any more.
    Ended,
}

/// One conversation, from OPEN to its end.
#[derive(Debug)]
pub struct Talk<'a> {
    group: &'a Group,
    link: u64,
    granted: bool,
    /// The number behind the last chunk sent.
    sent: StreamSeq,
    /// The numbers behind chunks that are not durable yet.
    in_flight: VecDeque<StreamSeq>,
    open_since: Option<Now>,
    hurry: bool,
    over: Over,
    /// Extents of a rollback that come in several frames.
    owed: Vec<VolumeExtent>,
    spoke: Now,
}

impl<'a> Talk<'a> {
    /// Opens a conversation on this link.
    pub fn open(group: &'a Group, link: u64) -> io::Result<Self> {
        let open = ToAppliance::Open {
            version: VERSION,
            group: group.id,
            splitter: group.me.id,
            name: group.me.name.clone(),
            life: group.me.life,
            continuation: continuation(group),
            outbox: group.stream.outbox_path().to_string_lossy().into_owned(),
            relied: group.relied().map(|r| Relied { session: r.session, next: r.next }),
        };
        let mut talk = Self {
            group,
            link,
            granted: false,
            sent: StreamSeq::FIRST,
            in_flight: VecDeque::new(),
            open_since: None,
            hurry: false,
            over: Over::No,
            owed: Vec::new(),
            spoke: group.stream.now(),
        };
        talk.say(&open)?;
        Ok(talk)
    }

    /// What is due now, after all frames that have come.
    pub fn turn(&mut self) -> io::Result<Option<Parting>> {
        if self.group.quits() {
            return Ok(Some(Parting::Again));
        }
        if self.granted {
            if self.group.resync_wanted.load(Ordering::Acquire) {
                return Ok(Some(Parting::Again));
            }
            self.send_chunks()?;
            self.tell_lost()?;
            if self.is_over() && self.group.resync_is_due() {
                // The appliance may not be able to end the session: not again and again without a pause.
                self.group.pause_resync();
                return Ok(Some(Parting::Again));
            }
        }
        self.group.stream.expire_barrier();
        self.group.look_for_link();
        self.group.look_at_strain();
        if self.group.stream.now().since(self.spoke) >= ALIVE_EVERY {
            self.say(&ToAppliance::Alive {})?;
        }
        Ok(None)
    }

    /// How long the next turn may wait for something to ring.
    pub fn patience(&self) -> Duration {
        // Hosts that are held for a barrier go on when their time is up, whatever the appliance does.
        let held =
            self.group.stream.barrier_left().map_or(ALIVE_EVERY, |(_, left)| left.max(Duration::from_micros(200)));
        held.min(self.patience_for_records())
    }

    fn patience_for_records(&self) -> Duration {
        match self.open_since {
            Some(since) if self.in_flight.len() < session::CHUNKS_IN_FLIGHT_SMALL => {
                let gathering = session::gathering(self.group.stream.is_bare());
                gathering.saturating_sub(self.group.stream.now().since(since)).max(Duration::from_micros(200))
            }
            Some(_) | None => ALIVE_EVERY,
        }
    }

    /// Whether it knows of records that are not on their way: it looks at them when their time has come, a chunk is full, or
    /// somebody waits.
    pub fn gathers(&self) -> bool {
        self.open_since.is_some()
    }

    /// Chunks below this number are durable.
    pub fn landed(&mut self, durable: StreamSeq) {
        while self.in_flight.front().is_some_and(|next| *next <= durable) {
            self.in_flight.pop_front();
        }
    }

    /// Whether an ack would change nothing of what it says next: everything that may be sent is on its way, and more may
    /// be at any time.
    pub fn rests(&self) -> bool {
        self.granted
            && self.over == Over::No
            && self.in_flight.len() < session::CHUNKS_IN_FLIGHT_SMALL
            && self.group.stream.mode().0 == Mode::Active
            && !self.group.resync_wanted.load(Ordering::Acquire)
    }

    /// Up to where it has sent, when others may send from there on: it rests, and all that it knows of is on its way.
    pub fn lends(&self) -> Option<StreamSeq> {
        (self.rests() && self.open_since.is_none() && !self.hurry).then_some(self.sent)
    }

    /// Others had sent up to `sent`; what they have not, somebody waits for (`put_off`).
    pub fn took_back(&mut self, sent: Option<StreamSeq>, put_off: bool) {
        if let Some(sent) = sent.filter(|sent| *sent > self.sent) {
            self.sent = sent;
            // They send one chunk at a time.
            self.in_flight.push_back(sent);
        }
        if put_off {
            self.rung(Rings { laid: true, hurry: true, other: false });
        }
    }

    /// Something rang.
    pub fn rung(&mut self, rings: Rings) {
        self.hurry |= rings.hurry;
        if rings.laid && self.open_since.is_none() {
            self.open_since = Some(self.group.stream.now());
        }
    }

    fn say(&mut self, message: &ToAppliance) -> io::Result<()> {
        self.spoke = self.group.stream.now();
        if self.group.send(self.link, message) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn send_chunks(&mut self) -> io::Result<()> {
        while self.in_flight.len() < CHUNKS_IN_FLIGHT {
            let held = self.open_since.map(|since| self.group.stream.now().since(since));
            let close = closes(self.in_flight.len(), self.hurry, held, self.group.stream.is_bare());
            let full = self.group.stream.chunk_from(self.sent, false);
            // That one was sent says nothing of what waits behind it.
            let closed = close && full.is_none();
            let chunk = if closed { self.group.stream.chunk_from(self.sent, true) } else { full };
            let Some(chunk) = chunk else {
                if close || !self.group.stream.has_open_records() {
                    (self.open_since, self.hurry) = (None, false);
                }
                return Ok(());
            };
            if closed {
                (self.open_since, self.hurry) = (None, false);
                if self.group.stream.has_open_records() {
                    self.open_since = Some(self.group.stream.now());
                }
            }
            let session = self.group.stream.session().unwrap_or(Session::new(0));
            self.say(&chunk.message(session))?;
            self.sent = chunk.next;
            self.in_flight.push_back(chunk.next);
        }
        Ok(())
    }

    /// Whether the session is over, and nothing of it is worth waiting for: the next one may begin.
    fn is_over(&self) -> bool {
        let marks = self.group.stream.marks();
        match self.over {
            Over::No => false,
            Over::Told => marks.durable >= marks.laid,
            Over::Ended => true,
        }
    }

    /// Once everything that was laid is on its way, the appliance learns that there is no more.
    fn tell_lost(&mut self) -> io::Result<()> {
        let (mode, reason) = self.group.stream.mode();
        if mode != Mode::Marking || self.over != Over::No {
            return Ok(());
        }
        if self.group.stream.has_open_records() {
            self.hurry = true;
            self.open_since.get_or_insert_with(|| self.group.stream.now());
            return Ok(());
        }
        // Not before all of it is durable: the appliance takes no more of a session that is over, and what it has not
        // written yet would never be acknowledged.
        let marks = self.group.stream.marks();
        if marks.durable < marks.laid {
            return Ok(());
        }
        let session = self.group.stream.session().unwrap_or(Session::new(0));
        self.over = Over::Told;
        self.say(&ToAppliance::Lost { session, reason })
    }

    /// A frame came.
    pub fn take(&mut self, frame: ToSplitter) -> io::Result<Option<Parting>> {
        match frame {
            ToSplitter::Granted {
                journal,
                session,
                expected,
                consistent,
                label,
                members,
                indeterminate,
                restoring,
            } => {
                return self.granted(
                    journal,
                    session,
                    expected,
                    consistent,
                    label,
                    &members,
                    &indeterminate,
                    restoring,
                );
            }
            ToSplitter::Refused { retry, reason } => {
                tracing::warn!(group = self.group.name, reason, "the appliance refuses the link");
                return if retry { Err(io::Error::other(reason)) } else { Ok(Some(Parting::Refused)) };
            }
            ToSplitter::Ack { session, received: _, durable, committed } => {
                self.landed(durable);
                self.group.stream.acknowledged(session, durable, committed);
            }
            ToSplitter::Nak { session, expected } => {
                let marks = self.group.stream.marks();
                if self.group.stream.session() == Some(session) {
                    if expected < marks.released || expected > marks.laid {
                        let why = "the journal asked for records that are gone";
                        self.group.stream.mark(why);
                        self.say(&ToAppliance::Lost { session, reason: why.to_owned() })?;
                        self.over = Over::Ended;
                    } else {
                        self.sent = expected;
                        self.in_flight.clear();
                    }
                }
            }
            ToSplitter::SyncAck { volume, bytes } => self.group.set_sync_acked(volume, bytes),
            ToSplitter::Joined { volume } => self.joined(volume),
            ToSplitter::LayBookmark { ticket, name } => self.lay_bookmark(ticket, name)?,
            ToSplitter::RollbackPrepare { id, ticket, name, barrier } => {
                self.prepare_rollback(id, ticket, name, barrier)?;
            }
            ToSplitter::Quiesce { barrier, hold_ms } => {
                self.quiesce(barrier, Duration::from_millis(u64::from(hold_ms)))?;
            }
            ToSplitter::PlaceBarrier { barrier, ticket, sessions, name, label } => {
                self.place_barrier(&BarrierNote { id: barrier, ticket, sessions, name }, label)?;
            }
            ToSplitter::Full { holds } => {
                self.group.stream.set_full(holds);
                tracing::info!(group = self.group.name, holds, "the journal said whether it is full");
            }
            ToSplitter::HealRead { volume, extent } => self.group.jobs.push(Job::Show { volume, extent }),
            ToSplitter::Release { barrier } => self.group.stream.release_barrier(barrier),
            ToSplitter::RollbackAbort { id } => {
                tracing::info!(group = self.group.name, id, "the rollback was called off");
                self.group.abort_rollback(id);
            }
            ToSplitter::Restore { id, mut extents, last } => {
                self.owed.append(&mut extents);
                if last {
                    let extents = std::mem::take(&mut self.owed);
                    if !extents.is_empty() {
                        self.group.stream.set_hold(Some(Hold::Restoring));
                        if self.group.rollback() != Some(id)
                            && let Err(error) = self.group.store_rollback(Some(id))
                        {
                            tracing::error!(group = self.group.name, id, %error, "cannot store that a rollback is under way");
                            return Err(io::Error::other(error));
                        }
                    }
                    self.group.jobs.push_first(Job::Restore { id, extents });
                }
            }
            ToSplitter::RestoreData { volume, extent, pieces, trouble } => {
                let answer = if trouble.is_empty() { Ok(pieces) } else { Err(trouble) };
                self.group.put_content(volume, extent, answer);
            }
            ToSplitter::Forget {} => self.forget(),
            ToSplitter::VerifyHash { volume, extent, at, digest, trouble } => {
                self.group.digests.put(volume, extent, at, digest.ok_or(trouble));
                self.group.wake();
            }
            ToSplitter::Members { members } => self.members(&members),
            ToSplitter::Alive {} => {}
        }
        Ok(None)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one message")]
    fn granted(
        &mut self,
        journal: JournalId,
        session: Session,
        expected: StreamSeq,
        consistent: bool,
        label: Label,
        members: &[Member],
        indeterminate: &[VolumeExtent],
        restoring: Option<u64>,
    ) -> io::Result<Option<Parting>> {
        let group = self.group;
        if journal != group.journal {
            tracing::error!(group = group.name, journal = %group.journal, other = %journal, "the appliance has another journal for this group");
            group.stream.mark("the appliance has another journal for this group");
            return Ok(Some(Parting::Refused));
        }
        let marks = group.stream.marks();
        let own = Own {
            mode: group.stream.mode().0,
            session: group.stream.session(),
            laid: marks.laid,
            released: marks.released,
            // What a committed rollback owes comes first: what is read now would undo a part of it.
            resync_wanted: group.resync_wanted.load(Ordering::Acquire) && restoring.is_none(),
            may_resync: group.may_resync() && restoring.is_none(),
        };
        group.stream.raise_label(label);
        let decision = on_granted(own, session, expected, consistent);
        tracing::info!(group = group.name, %session, %expected, consistent, ?decision, "linked");
        let text = format!("session {session}, {}", told(&decision));
        group.stream.tell(EventKind::SessionGranted, text);
        self.sent = StreamSeq::FIRST;
        match decision {
            Decision::Continue(from) => self.sent = from,
            Decision::BeginActive => group.stream.begin(session, Mode::Active, label),
            Decision::BeginResync => {
                group.stream.begin(session, Mode::Resyncing, label);
                group.resync_wanted.store(false, Ordering::Release);
                group.look_first.store(false, Ordering::Release);
                group.begin_resync();
            }
            Decision::BeginMarking(why) => {
                group.stream.begin_marking(session, label, why);
            }
            Decision::End(why) => {
                // The next connection opens a session of its own.
                group.stream.mark(why);
                self.say(&ToAppliance::Lost { session, reason: why.to_owned() })?;
                self.over = Over::Ended;
                self.sent = marks.laid;
            }
        }
        *group.clean.lock().unwrap_or_else(PoisonError::into_inner) = None;
        self.members(members);
        for owed in indeterminate {
            let Some(volume) = group.volume(owed.volume) else { continue };
            volume.map.regions().need_read(owed.extent);
            if !group.jobs.push_reread(owed.volume, owed.extent) {
                group.stream.mark("too many writes to a backing failed");
            }
        }
        if restoring.is_some() {
            group.stream.set_hold(Some(Hold::Restoring));
        } else {
            group.no_rollback();
        }
        self.granted = true;
        if group.stream.has_open_records() {
            self.open_since = Some(self.group.stream.now());
        }
        group.set_granted();
        Ok(None)
    }

    /// The journal has lost what clearings relied on. No session before every region is dirty, durably.
    fn forget(&self) {
        let group = self.group;
        if group.forgetting.swap(true, Ordering::AcqRel) {
            return;
        }
        let why = "the journal has lost records that it had committed";
        tracing::error!(group = group.name, "{why}; everything is read again");
        group.stream.tell(EventKind::Alarm, format!("{why}; everything is read again"));
        group.stream.mark(why);
        group.jobs.push_first(Job::Everything);
    }

    fn members(&self, members: &[Member]) {
        for member in members {
            let Some(volume) = self.group.volume(member.volume) else {
                continue;
            };
            if member.joined {
                volume.sync.joined.store(true, Ordering::Release);
            } else {
                self.group.jobs.push(Job::Synchronise(member.volume));
            }
        }
    }

    fn joined(&self, volume: record::ids::Incarnation) {
        if let Some(volume) = self.group.volume(volume) {
            volume.sync.joined.store(true, Ordering::Release);
        }
    }

    fn quiesce(&mut self, barrier: u64, limit: Duration) -> io::Result<()> {
        let answer = match self.group.stream.quiesce(barrier, limit) {
            Ok(label) => ToAppliance::Quiesced { barrier, label },
            Err(reason) => ToAppliance::BarrierRefused { barrier, reason },
        };
        self.say(&answer)
    }

    fn place_barrier(&mut self, note: &BarrierNote, label: Label) -> io::Result<()> {
        match self.group.stream.place_barrier(note, label) {
            Ok(()) => Ok(()),
            Err(reason) => {
                self.group.stream.release_barrier(note.id);
                self.say(&ToAppliance::BarrierRefused { barrier: note.id, reason })
            }
        }
    }

    fn prepare_rollback(&mut self, id: u64, ticket: u64, name: String, barrier: Option<u64>) -> io::Result<()> {
        if barrier.is_some_and(|barrier| !self.group.stream.keep_for_rollback(barrier)) {
            let reason = "hosts were let go before the rollback was prepared".to_owned();
            return self.say(&ToAppliance::RollbackRefused { id, reason });
        }
        self.group.jobs.push_first(Job::Prepare { id, ticket, name, held: barrier.is_some() });
        Ok(())
    }

    fn lay_bookmark(&mut self, ticket: u64, name: String) -> io::Result<()> {
        let (mode, reason) = self.group.stream.mode();
        let laid = match mode {
            Mode::Active => {
                let note = BookmarkNote { ticket, name }.encode();
                self.group.stream.lay(Entry::of_group(Op::Bookmark), &note).is_some()
            }
            Mode::Waiting | Mode::Resyncing | Mode::Marking => false,
        };
        if laid {
            return Ok(());
        }
        let reason = match mode {
            Mode::Resyncing => "a resynchronisation is running".to_owned(),
            Mode::Waiting | Mode::Active | Mode::Marking if reason.is_empty() => "the outbox is full".to_owned(),
            Mode::Waiting | Mode::Active | Mode::Marking => reason,
        };
        self.say(&ToAppliance::BookmarkRefused { ticket, reason })
    }
}
