//! What a record means to the journal: its operation together with its note, read and checked.
//!
//! Owns the step from descriptor and payload to an `Event`, and the note of RECOVERY, which is the journal's own
//! affair. Deliberately knows no file.

use record::chunk::{Body, Descriptor, Record};
use record::geometry::Extent;
use record::ids::Incarnation;
use record::member::{BarrierNote, BookmarkNote, JoinNote, RollbackNote, SessionNote};
use record::op::Op;
use std::collections::BTreeMap;

/// The payloads of a chunk's records that are not WRITEs, by the record's place in the chunk. Only notes whose
/// checksum matches are in here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Notes(BTreeMap<usize, Vec<u8>>);

/// Whether the record has a note.
pub(crate) fn has_note(record: &Record) -> bool {
    record.descriptor.op != Op::Write && record.descriptor.payload_bytes > 0
}

impl Notes {
    /// Collects the notes of a chunk. `payload` gives the bytes at an offset of the payload area, or `None` where
    /// they cannot be read.
    pub(crate) fn collect(body: &Body, mut payload: impl FnMut(u32, u32) -> Option<Vec<u8>>) -> Self {
        let mut notes = BTreeMap::new();
        for (place, record) in body.records.iter().enumerate().filter(|(_, record)| has_note(record)) {
            let descriptor = &record.descriptor;
            if let Some(bytes) = payload(descriptor.payload_offset, descriptor.payload_bytes)
                && body.damaged_blocks(record, &bytes).is_empty()
            {
                notes.insert(place, bytes);
            }
        }
        Self(notes)
    }

    /// The notes of all of the chunk's records, one behind the other; a missing one is zeros.
    pub(crate) fn concatenated(&self, body: &Body) -> Vec<u8> {
        let mut out = Vec::new();
        for (place, record) in body.records.iter().enumerate().filter(|(_, record)| has_note(record)) {
            let end = out.len() + record.descriptor.payload_bytes as usize;
            out.extend_from_slice(self.of(place).unwrap_or(&[]));
            out.resize(end, 0);
        }
        out
    }

    /// The reverse of `concatenated`; `None` when the length does not fit the chunk's records.
    pub(crate) fn split(body: &Body, bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        let mut notes = BTreeMap::new();
        for (place, record) in body.records.iter().enumerate().filter(|(_, record)| has_note(record)) {
            let (note, behind) = rest.split_at_checked(record.descriptor.payload_bytes as usize)?;
            rest = behind;
            if body.damaged_blocks(record, note).is_empty() {
                notes.insert(place, note.to_vec());
            }
        }
        rest.is_empty().then_some(Self(notes))
    }

    /// The note of the record at `place`.
    pub(crate) fn of(&self, place: usize) -> Option<&[u8]> {
        self.0.get(&place).map(Vec::as_slice)
    }

    /// Whether every record of the chunk that has a note has it here.
    pub(crate) fn complete_for(&self, body: &Body) -> bool {
        self.missing_from(body).next().is_none()
    }

    /// The records of the chunk that have a note, but not here.
    pub(crate) fn missing_from<'a>(&'a self, body: &'a Body) -> impl Iterator<Item = &'a Record> {
        let places = body.records.iter().enumerate();
        places.filter(|(place, record)| has_note(record) && !self.0.contains_key(place)).map(|(_, record)| record)
    }
}

/// What RECOVERY says: how the journal was found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RecoveryNote {
    /// Whether the close before was clean.
    pub clean: bool,
}

impl RecoveryNote {
    pub(crate) fn encode(self) -> Vec<u8> {
        vec![1, 0, u8::from(self.clean)]
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [1, 0, 0] => Some(Self { clean: false }),
            [1, 0, 1] => Some(Self { clean: true }),
            _ => None,
        }
    }
}

/// What a record means that changes no volume ([`Change::of`] is for those that do).
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Event {
    Flush,
    Bookmark(BookmarkNote),
    Noop,
    Indeterminate(Incarnation, Extent),
    ResyncBegin,
    ResyncEnd,
    Join(JoinNote),
    Joined(Incarnation),
    Leave(Incarnation),
    Rollback(RollbackNote),
    BookmarkRemoved(String),
    Recovery(RecoveryNote),
    Commit,
    SessionGranted(SessionNote),
    SessionLost(SessionNote),
    Barrier(BarrierNote),
    /// The note cannot be read: rotten, or not one that this release knows. Or a change without an extent.
    Unreadable(Op),
}

/// What was done to an extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Write,
    Punch,
    Zero,
}

impl Change {
    /// What a record changes, and where; `None` when it changes no volume. Most records do: nothing here costs memory.
    pub(crate) fn of(descriptor: &Descriptor) -> Option<(Extent, Self)> {
        let change = match descriptor.op {
            Op::Write => Self::Write,
            Op::Punch => Self::Punch,
            Op::Zero => Self::Zero,
            Op::Indeterminate
            | Op::Flush
            | Op::Noop
            | Op::ResyncBegin
            | Op::ResyncEnd
            | Op::Joined
            | Op::Leave
            | Op::Commit
            | Op::Bookmark
            | Op::BookmarkRemoved
            | Op::Join
            | Op::Rollback
            | Op::Recovery
            | Op::SessionGranted
            | Op::SessionLost
            | Op::Barrier => return None,
        };
        descriptor.extent.map(|extent| (extent, change))
    }
}

impl Event {
    /// The meaning of a record that changes no volume.
    pub(crate) fn of(record: &Record, note: Option<&[u8]>) -> Self {
        let descriptor = &record.descriptor;
        let (op, volume) = (descriptor.op, descriptor.volume);
        let note = note.unwrap_or(&[]);
        let read = match op {
            Op::Write | Op::Punch | Op::Zero => None,
            Op::Indeterminate => descriptor.extent.map(|extent| Self::Indeterminate(volume, extent)),
            Op::Flush => Some(Self::Flush),
            Op::Noop => Some(Self::Noop),
            Op::ResyncBegin => Some(Self::ResyncBegin),
            Op::ResyncEnd => Some(Self::ResyncEnd),
            Op::Joined => Some(Self::Joined(volume)),
            Op::Leave => Some(Self::Leave(volume)),
            Op::Commit => Some(Self::Commit),
            Op::Bookmark => BookmarkNote::decode(note).map(Self::Bookmark),
            Op::BookmarkRemoved => BookmarkNote::decode(note).map(|note| Self::BookmarkRemoved(note.name)),
            Op::Join => JoinNote::decode(note).filter(|join| join.incarnation == volume).map(Self::Join),
            Op::Rollback => RollbackNote::decode(note).map(Self::Rollback),
            Op::Recovery => RecoveryNote::decode(note).map(Self::Recovery),
            Op::SessionGranted => SessionNote::decode(note).map(Self::SessionGranted),
            Op::SessionLost => SessionNote::decode(note).map(Self::SessionLost),
            Op::Barrier => BarrierNote::decode(note).map(Self::Barrier),
        };
        read.unwrap_or(Self::Unreadable(op))
    }
}
