//! Carrying out what the intake decides: links on one side, the journal on the other.
//!
//! Owns the translation between frames, the intake's inputs and the journal's calls. Deliberately decides nothing
//! that `intake::session` could decide.

use std::path::Path;

use control::events::EventKind;
use journal::{AppendError, Granted, JournalError, Watermarks};
use record::chunk::Body;
use record::conversation::{Member, RESTORE_EXTENTS_MAX, ToAppliance, ToSplitter, VolumeExtent};
use record::ids::{Incarnation, SplitterId};
use record::position::{Session, StreamSeq};

use super::Group;
use super::verify::Question;
use crate::intake::link::{LinkEvent, LinkId, Opening};
use crate::intake::outbox::{Outbox, Place};
use crate::intake::session::{Action, BaseStep, ChunkAt, Input, Marks, Millis, Setback};
use crate::{barrier, rollback};

/// How long after a replica could not be written a splitter may begin again.
const REPLICA_PAUSE_MS: Millis = 1000;

impl Group {
    /// Something came over a link.
    pub(super) fn link_event(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Open { link, opening } => {
                let (id, splitter) = (link.id(), opening.splitter);
                if self.sides.open(link, &opening) {
                    self.feed(splitter, Input::Volumes(self.volumes_of(splitter)));
                }
                self.feed(splitter, Input::Open(id, opening));
            }
            LinkEvent::Frame { link, frame } => {
                // One that was cut, or refused, has nothing more to say.
                if let Some(splitter) = self.sides.of(link) {
                    self.frame(splitter, link, frame);
                }
            }
            LinkEvent::Gone { link, why } => {
                if let Some(splitter) = self.sides.speaking(link) {
                    let name = self.sides.name(splitter);
                    tracing::info!(group = self.name, splitter = name, link = link.0, why, "the splitter's link ended");
                    self.tell(EventKind::LinkEnded, format!("the link of splitter {name} ended: {why}"));
                }
                if let Some((splitter, _)) = self.sides.close(link) {
                    self.feed(splitter, Input::Gone(link));
                    self.sides.keep(&self.participants);
                }
            }
        }
    }

    fn frame(&mut self, splitter: SplitterId, link: LinkId, frame: ToAppliance) {
        let speaks = self.sides.speaking(link) == Some(splitter);
        let input = match frame {
            ToAppliance::Chunk { session, first, header_at, header_len, payload_at, payload_len } => {
                let place = Place { header_at, header_len, payload_at, payload_len };
                if !speaks || self.sides.get(splitter).and_then(|side| side.intake.session()) != Some(session) {
                    return;
                }
                match self.look_at_chunk(splitter, session, first, place) {
                    Ok(chunk) => Input::Chunk(link, session, chunk),
                    Err(why) => Input::Nonsense(link, why),
                }
            }
            ToAppliance::SyncBegin { volume } => Input::SyncBegin(link, volume),
            ToAppliance::SyncData { volume, extent, content } => Input::SyncData(link, volume, extent, content),
            ToAppliance::SyncZero { volume, extent } => Input::SyncZero(link, volume, extent),
            ToAppliance::SyncEnd { volume } => Input::SyncEnd(link, volume),
            ToAppliance::Lost { session, reason } => Input::Lost(link, session, reason),
            // What a connection says that does not speak for its splitter any more.
            ToAppliance::HealData { .. }
            | ToAppliance::BookmarkRefused { .. }
            | ToAppliance::RollbackReady { .. }
            | ToAppliance::RollbackRefused { .. }
            | ToAppliance::RestoreRead { .. }
            | ToAppliance::RestoreDone { .. }
            | ToAppliance::VerifyRead { .. }
            | ToAppliance::Quiesced { .. }
            | ToAppliance::BarrierRefused { .. }
                if !speaks =>
            {
                return;
            }
            ToAppliance::BookmarkRefused { ticket, reason } => return self.bookmark_refused(ticket, &reason),
            ToAppliance::RollbackReady { id } => {
                return self.rollback_said(splitter, rollback::Input::Ready(splitter, id));
            }
            ToAppliance::RollbackRefused { id, reason } => {
                return self.rollback_said(splitter, rollback::Input::Refused(id, reason));
            }
            ToAppliance::RestoreRead { volume, extent } => return self.restore_read(splitter, volume, extent),
            ToAppliance::RestoreDone { id, extents } => return self.restore_done(id, &extents),
            ToAppliance::VerifyRead { session, volume, extent, at } => {
                return self.verify_read(link, Question { session, volume, extent, at });
            }
            ToAppliance::HealData { volume, extent, content, trouble } => {
                return self.heal_data(volume, extent, content.0, &trouble);
            }
            ToAppliance::Quiesced { barrier, label } => {
                return self.barrier_step(barrier::Input::Quiesced(splitter, barrier, label));
            }
            ToAppliance::BarrierRefused { barrier, reason } => {
                return self.barrier_step(barrier::Input::Refused(splitter, barrier, reason));
            }
            ToAppliance::Close {} => {
                tracing::info!(group = self.name, link = link.0, "the splitter took its leave");
                // Its intake hears of it first: it is the connection that still speaks.
                self.feed(splitter, Input::Gone(link));
                if let Some((_, link)) = self.sides.close(link) {
                    link.close();
                }
                return self.sides.keep(&self.participants);
            }
            ToAppliance::Open { .. } => Input::Nonsense(link, "OPEN came twice on one connection".to_owned()),
            ToAppliance::Alive {} => return,
        };
        self.feed(splitter, input);
    }

    /// What a chunk's own header says of its numbers, which must be what the frame said.
    fn look_at_chunk(
        &mut self,
        splitter: SplitterId,
        session: Session,
        first: StreamSeq,
        place: Place,
    ) -> Result<ChunkAt, String> {
        let outbox = self.sides.get_mut(splitter).and_then(|side| side.outbox.as_mut());
        let outbox = outbox.ok_or("a chunk came before the outbox was mapped")?;
        let (header, _) = outbox.chunk(place).map_err(|e| e.to_string())?;
        let header = Body::peek(header).map_err(|e| format!("chunk that starts with record {first}: {e}"))?;
        if header.session != session || header.first_seq != first || header.records == 0 {
            return Err(format!(
                "chunk announced as record {first} of session {session} says record {} of session {}, {} records",
                header.first_seq, header.session, header.records
            ));
        }
        Ok(ChunkAt { first, next: first.plus(u64::from(header.records)), place })
    }

    pub(super) fn act(&mut self, splitter: SplitterId, action: Action) {
        match action {
            Action::Cut(link) => {
                tracing::warn!(group = self.name, link = link.0, "a newer link takes the place of this one");
                if let Some((_, link)) = self.sides.close(link) {
                    link.cut();
                }
            }
            Action::Refuse { link, retry, reason } => {
                if let Some(side) = self.sides.get_mut(splitter) {
                    if side.refused == reason {
                        tracing::debug!(group = self.name, link = link.0, retry, reason, "refused the splitter again");
                    } else {
                        tracing::warn!(group = self.name, link = link.0, retry, reason, "refused the splitter");
                        side.refused.clone_from(&reason);
                    }
                }
                if let Some((_, link)) = self.sides.close(link) {
                    link.send(&ToSplitter::Refused { retry, reason });
                    link.close();
                }
            }
            Action::Grant(link, opening) => self.grant(splitter, link, &opening),
            Action::Send(message) => self.send(splitter, &message),
            Action::Append(session, chunks) => {
                let outcome = self.append(splitter, session, &chunks);
                self.feed(splitter, outcome);
                self.look_at_bookmarks();
                self.look_at_barrier();
                self.look_at_verifying();
            }
            Action::CommitIdle => {
                if !self.commit_own() {
                    self.feed(splitter, Input::NotCommitted);
                }
            }
            Action::Base(volume, step) => {
                let outcome = self.base(volume, step);
                self.feed(splitter, outcome);
            }
            Action::Lose(session, reason) => {
                tracing::warn!(group = self.name, %session, reason, "the splitter lost records: a gap begins");
                if let Err(error) = self.journal.lose(session) {
                    self.journal_failed(&error);
                }
                self.gap.look(&self.name, &self.journal, &self.events);
                self.look_at_bookmarks();
                self.rollback_step(rollback::Input::Unlinked);
            }
            Action::Unlinked => {
                if let Some(side) = self.sides.get_mut(splitter) {
                    side.outbox = None;
                }
                self.forget_verifying();
                self.barrier_step(barrier::Input::Unlinked(splitter));
                self.rollback_step(rollback::Input::Unlinked);
            }
        }
    }

    /// Says something to a splitter, if it is connected.
    pub(super) fn send(&self, splitter: SplitterId, message: &ToSplitter) {
        if let Some(link) = self.sides.speaker(splitter) {
            link.send(message);
        }
    }

    fn grant(&mut self, splitter: SplitterId, link: LinkId, opening: &Opening) {
        // The old mapping first: its outbox may be gone.
        if let Some(side) = self.sides.get_mut(splitter) {
            side.outbox = None;
        }
        if let Some(reason) = self.replica_pause() {
            return self.feed(splitter, Input::Denied { retry: true, reason });
        }
        let granted = Outbox::open(Path::new(&opening.outbox)).map_err(|e| (true, e.to_string())).and_then(|outbox| {
            // Before anything is granted: a new session would make the loss look like one of an older one.
            if opening.relied.as_ref().is_some_and(|r| !self.journal.holds(splitter, r.session, r.next)) {
                tracing::error!(group = self.name, relied = ?opening.relied, "the journal has lost records that it had committed; everything is read again");
                if let Some(link) = self.sides.link(link) {
                    link.send(&ToSplitter::Forget {});
                }
                return Err((true, "the journal has lost records that it had committed: everything has to be read again".to_owned()));
            }
            let granted = self.journal.grant(splitter, opening.life, &opening.continuation).map_err(|error| {
                let retry = !matches!(error, JournalError::StaleSplitter { .. } | JournalError::Refused(_));
                if retry {
                    self.journal_failed(&error);
                }
                (retry, error.to_string())
            })?;
            Ok((outbox, granted))
        });
        match granted {
            Ok((outbox, granted)) => {
                if let Some(side) = self.sides.get_mut(splitter) {
                    side.outbox = Some(outbox);
                    side.refused.clear();
                }
                let name = self.sides.name(splitter);
                tracing::info!(
                    group = self.name, splitter = name, link = link.0, session = %granted.session, expected = %granted.expected,
                    fresh = granted.fresh, consistent = granted.consistent, "granted"
                );
                let word = if granted.fresh { "begins" } else { "goes on" };
                let whole = if granted.consistent { "" } else { "; points are refused until it is resynchronised" };
                self.tell(
                    EventKind::SessionGranted,
                    format!("session {} of splitter {name} {word}{whole}", granted.session),
                );
                // The answer must be the first thing that it hears.
                let answer = self.granted_message(splitter, &granted);
                let input = Input::Granted(granted.session, marks(&granted.watermarks));
                self.feed_and_answer(splitter, input, Some(&answer));
                self.rollback_linked(splitter);
            }
            Err((retry, reason)) => self.feed(splitter, Input::Denied { retry, reason }),
        }
    }

    fn granted_message(&self, splitter: SplitterId, granted: &Granted) -> ToSplitter {
        let members = self.journal.members();
        let own = |volume: Incarnation| members.iter().any(|m| m.incarnation == volume && m.splitter == splitter);
        let indeterminate = granted.indeterminate.iter().filter(|(volume, _)| own(*volume));
        ToSplitter::Granted {
            journal: granted.journal,
            session: granted.session,
            expected: granted.expected,
            consistent: granted.consistent,
            label: granted.label,
            members: self.members(splitter),
            indeterminate: indeterminate.map(|(volume, extent)| owned(*volume, *extent)).collect(),
            restoring: self.rollback_of(splitter),
        }
    }

    /// A splitter's volumes of the group as the conversation names them.
    pub(super) fn members(&self, splitter: SplitterId) -> Vec<Member> {
        let members = self.journal.members();
        let current = members.iter().filter(|m| m.left.is_none() && m.splitter == splitter);
        current.map(|m| Member { id: m.volume, volume: m.incarnation, joined: m.joined.is_some() }).collect()
    }

    fn append(&mut self, splitter: SplitterId, session: Session, chunks: &[ChunkAt]) -> Input {
        let closed = self.retaining.closed().is_some() && !self.takes_anyway();
        let Some(outbox) = self.sides.get_mut(splitter).and_then(|side| side.outbox.as_mut()) else {
            return Input::NotAppended(Setback::Broken("the outbox is not mapped any more".to_owned()));
        };
        if closed {
            return Input::NotAppended(Setback::Full { holds: self.retaining.blocks() });
        }
        let outcome = match outbox.chunks(chunks.iter().map(|c| c.place)) {
            Ok(slices) => {
                let bytes: usize = slices.iter().map(|(header, payload)| header.len() + payload.len()).sum();
                self.journal.append_many(session, &slices).map(|watermarks| (watermarks, bytes))
            }
            Err(error) => return Input::NotAppended(Setback::Broken(error.to_string())),
        };
        match outcome {
            Ok((watermarks, bytes)) => {
                self.set_trouble(None);
                self.took_in(bytes as u64);
                Input::Appended(marks(&watermarks))
            }
            Err(AppendError::Gap { expected, .. }) => Input::NotAppended(Setback::Expected(expected)),
            Err(AppendError::Journal(error @ JournalError::NoSpace { .. })) => {
                self.journal_failed(&error);
                Input::NotAppended(Setback::Full { holds: self.retaining.blocks() })
            }
            Err(AppendError::Journal(error)) => {
                self.journal_failed(&error);
                Input::NotAppended(Setback::Broken(error.to_string()))
            }
            Err(error @ AppendError::Fenced { .. }) => {
                tracing::error!(group = self.name, %session, %error, "the splitter's chunks were not taken");
                Input::NotAppended(Setback::Broken(error.to_string()))
            }
            Err(
                error @ (AppendError::Body { .. } | AppendError::PayloadChecksum { .. } | AppendError::Record { .. }),
            ) => {
                tracing::error!(group = self.name, %session, %error, "the splitter's chunks cannot be taken, now or later: a gap begins");
                // The very same bytes would come again and again. Without this session the splitter reads again what
                // changed, and goes on in another one.
                if let Err(error) = self.journal.lose(session) {
                    self.journal_failed(&error);
                }
                Input::NotAppended(Setback::Broken(error.to_string()))
            }
        }
    }

    fn base(&mut self, volume: Incarnation, step: BaseStep) -> Input {
        let (outcome, bytes) = match step {
            BaseStep::Reset => (self.journal.base_reset(volume), 0),
            BaseStep::Write(extent, content) => (self.journal.base_write(volume, extent, &content.0), extent.bytes()),
            BaseStep::Zero(extent) => (self.journal.base_zero(volume, extent), extent.bytes()),
            BaseStep::Finish => {
                return match self.journal.joined(volume, self.label()) {
                    Ok(position) => {
                        tracing::info!(group = self.name, %volume, %position, "the volume has joined");
                        self.commit_own();
                        Input::Joined(volume)
                    }
                    Err(error) => {
                        self.journal_failed(&error);
                        Input::BaseFailed(volume, error.to_string())
                    }
                };
            }
        };
        match outcome {
            Ok(()) => {
                self.replica_failed = None;
                self.set_replica_trouble(None);
                Input::BaseDone(volume, bytes)
            }
            Err(error) => {
                self.replica_failed = Some(self.now());
                self.set_replica_trouble(Some(format!("the replica of volume {volume} cannot be written: {error}")));
                Input::BaseFailed(volume, error.to_string())
            }
        }
    }

    /// A replica that was not written just now would not be written at once either: its synchronisation begins again
    /// from the start, so not too often.
    fn replica_pause(&self) -> Option<String> {
        let failed = self.replica_failed?;
        (self.now() < failed + REPLICA_PAUSE_MS).then(|| "a replica could not be written just now".to_owned())
    }

    /// Names the journal's newest records as committed, and tells every splitter; whether that could be done.
    pub(super) fn commit_own(&mut self) -> bool {
        match self.journal.commit_idle() {
            Ok(watermarks) => {
                self.set_trouble(None);
                for of in &watermarks {
                    let session = self.sides.get(of.splitter).and_then(|side| side.intake.session());
                    if session == Some(of.session) {
                        self.feed(of.splitter, Input::Committed(marks(of)));
                    }
                }
                true
            }
            Err(error) => {
                self.journal_failed(&error);
                false
            }
        }
    }

    /// A journal that does not take what it is given is a trouble until it does.
    pub(super) fn journal_failed(&self, error: &JournalError) {
        let what_to_do = match error {
            JournalError::NoSpace { .. } => {
                "; the splitter keeps what is written meanwhile in its outbox; it is tried again every second"
            }
            JournalError::Poisoned { .. }
            | JournalError::InUse { .. }
            | JournalError::NotAJournal { .. }
            | JournalError::AlreadyExists { .. }
            | JournalError::SuperblockLost { .. }
            | JournalError::StateLost { .. }
            | JournalError::UnknownFormat { .. }
            | JournalError::Io { .. }
            | JournalError::Refused(_)
            | JournalError::StaleSplitter { .. }
            | JournalError::Point(_) => "",
        };
        self.set_trouble(Some(format!("{error}{what_to_do}")));
    }

    /// Tells a splitter what a committed rollback owes to its volumes, in frames of bounded size.
    pub(super) fn send_owed(&self, splitter: SplitterId, id: u64) {
        let owed: Vec<_> = self.owed(splitter, id).iter().map(|(volume, extent)| owned(*volume, *extent)).collect();
        let mut frames = owed.chunks(RESTORE_EXTENTS_MAX).peekable();
        if frames.peek().is_none() {
            self.send(splitter, &ToSplitter::Restore { id, extents: Vec::new(), last: true });
        }
        while let Some(extents) = frames.next() {
            let last = frames.peek().is_none();
            self.send(splitter, &ToSplitter::Restore { id, extents: extents.to_vec(), last });
        }
    }
}

fn owned(volume: Incarnation, extent: record::geometry::Extent) -> VolumeExtent {
    VolumeExtent { volume, extent }
}

fn marks(watermarks: &Watermarks) -> Marks {
    Marks { durable: watermarks.durable, committed: watermarks.committed }
}
