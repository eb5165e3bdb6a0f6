//! Checking what a splitter sends before it is written.
//!
//! Owns the rules for a sealed chunk: whose it is, whether it is the next one, whether every record is one that a
//! splitter may lay on a volume of the group, and whether the payload is what was sealed. Takes hostile bytes.
//!
//! Labels are not checked: positions order, and the timeline takes each label as at least that of the one before.

use crate::error::AppendError;
use crate::notes::Notes;
use crate::session::Turn;
use crate::state::State;
use crate::tail::Prepared;
use record::checksum::Salt;
use record::chunk::{Body, BodyError, Record};
use record::ids::{Incarnation, JournalId, SplitterId};
use record::member::{BarrierNote, BookmarkNote};
use record::op::Op;
use record::position::Label;
use record::streams::{StreamAt, Streams};
use std::sync::Arc;

/// A batch of chunks that is being checked, one by one, while those in front are written.
#[derive(Debug)]
pub(crate) struct Checking<'c, 'a> {
    chunks: &'c [(&'a [u8], &'a [u8])],
    index: usize,
    /// As they are once all that were let through are in.
    streams: Streams,
    label: Label,
    refused: Option<AppendError>,
}

impl<'c, 'a> Checking<'c, 'a> {
    /// Nothing checked yet. `label`: the largest in the journal.
    pub(crate) fn new(state: &State, label: Label, chunks: &'c [(&'a [u8], &'a [u8])]) -> Self {
        Self { chunks, index: 0, streams: *state.sessions.streams(), label, refused: None }
    }

    /// The next chunk that is to be written; those that the journal has already are left out. Ends at the first one
    /// that is refused.
    pub(crate) fn next(&mut self, journal: JournalId, state: &State) -> Option<Prepared<'a>> {
        while self.refused.is_none() {
            let (area, payload) = *self.chunks.get(self.index)?;
            match self.check(journal, state, area, payload) {
                Ok(prepared) => {
                    self.index += 1;
                    if prepared.is_some() {
                        return prepared;
                    }
                }
                Err(refused) => self.refused = Some(refused),
            }
        }
        None
    }

    /// Why the first chunk that was not let through was refused.
    pub(crate) fn refused(self) -> Option<AppendError> {
        self.refused
    }

    fn check(
        &mut self,
        journal: JournalId,
        state: &State,
        area: &'a [u8],
        payload: &'a [u8],
    ) -> Result<Option<Prepared<'a>>, AppendError> {
        let index = self.index;
        let body = Body::decode(area, journal).map_err(|source| AppendError::Body { index, source })?;
        let at = match state.sessions.turn(&body.header, &self.streams) {
            Turn::Duplicate => return Ok(None),
            Turn::Next(at) => at,
            Turn::Fenced { current } => return Err(AppendError::Fenced { session: body.header.session, current }),
            Turn::Gap { expected } => return Err(AppendError::Gap { got: body.header.first_seq, expected }),
        };
        check_body(state, at.splitter, index, area, payload, &body)?;
        self.streams.set(StreamAt { next: body.next_seq(), ..at });
        self.label = body.records.iter().map(|record| record.descriptor.label).fold(self.label, Label::max);
        let notes = Notes::collect(&body, |offset, len| slice(payload, offset, len).map(<[u8]>::to_vec));
        let (streams, label) = (self.streams, self.label);
        Ok(Some(Prepared { area, payload, body: Arc::new(body), notes, streams, label }))
    }
}

fn slice(payload: &[u8], offset: u32, len: u32) -> Option<&[u8]> {
    payload.get(offset as usize..(offset as usize).checked_add(len as usize)?)
}

fn check_body(
    state: &State,
    splitter: SplitterId,
    index: usize,
    area: &[u8],
    payload: &[u8],
    body: &Body,
) -> Result<(), AppendError> {
    let lengths_fit =
        area.len() == body.header.header_len as usize && payload.len() == body.header.payload_len as usize;
    if !lengths_fit || body.records.is_empty() {
        return Err(AppendError::Body { index, source: BodyError::BadLength });
    }
    let salt = Salt::of(body.header.journal);
    for record in &body.records {
        let descriptor = &record.descriptor;
        check_record(state, splitter, record).map_err(|why| AppendError::Record { index, seq: record.seq, why })?;
        let bytes = slice(payload, descriptor.payload_offset, descriptor.payload_bytes);
        match bytes {
            Some(bytes) if body.is_sound(record, bytes, salt) => {
                let readable = match descriptor.op {
                    Op::Bookmark => BookmarkNote::decode(bytes).is_some(),
                    Op::Barrier => BarrierNote::decode(bytes).is_some(),
                    _ => true,
                };
                if !readable {
                    let why = format!("the note of {} cannot be read", descriptor.op);
                    return Err(AppendError::Record { index, seq: record.seq, why });
                }
            }
            Some(_) | None => return Err(AppendError::PayloadChecksum { index, seq: record.seq }),
        }
    }
    Ok(())
}

fn check_record(state: &State, splitter: SplitterId, record: &Record) -> Result<(), String> {
    let descriptor = &record.descriptor;
    match descriptor.op {
        Op::Write
        | Op::Punch
        | Op::Zero
        | Op::Flush
        | Op::Bookmark
        | Op::Noop
        | Op::Indeterminate
        | Op::ResyncBegin
        | Op::ResyncEnd
        | Op::Barrier => {}
        Op::Join
        | Op::Joined
        | Op::Leave
        | Op::Rollback
        | Op::BookmarkRemoved
        | Op::Recovery
        | Op::Commit
        | Op::SessionGranted
        | Op::SessionLost => return Err(format!("{} is laid by the journal only", descriptor.op)),
    }
    let volume = descriptor.volume;
    let Some(extent) = descriptor.extent else {
        return if volume == Incarnation::NONE || state.members.present(volume).is_some() {
            Ok(())
        } else {
            Err(format!("volume {volume} is no member of the group"))
        };
    };
    match state.members.present(volume) {
        Some(member) if member.splitter != splitter => {
            Err(format!("volume '{}' is served by another splitter, {}", member.name, member.splitter))
        }
        Some(member) if extent.fits(member.size) => Ok(()),
        Some(member) => Err(format!("{extent} is past the end of volume '{}' ({} sectors)", member.name, member.size)),
        None => Err(format!("volume {volume} is no member of the group")),
    }
}
