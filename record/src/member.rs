//! The notes that records carry as payload: who joined, which bookmark, how far back.
//!
//! Each note is a small field-tagged byte string: `u16` version, then fields in the order written here. Owns those
//! bytes; deliberately knows nothing of when they are laid.

use crate::geometry::{LogicalBlock, SectorCount};
use crate::ids::{Incarnation, SplitterId, VolumeId};
use crate::position::{Position, Session, SplitterIncarnation};
use crate::streams::STREAMS_MAX;

/// Largest name of a volume, group or bookmark, in bytes.
pub const NAME_BYTES_MAX: usize = 127;

/// A volume's description, as its JOIN record holds it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinNote {
    /// The volume.
    pub volume: VolumeId,
    /// The number that stands for it in records.
    pub incarnation: Incarnation,
    /// Its size.
    pub size: SectorCount,
    /// Its logical block size.
    pub block: LogicalBlock,
    /// The splitter that serves it: the only one whose records may name it.
    pub splitter: SplitterId,
    /// Its name.
    pub name: String,
}

impl JoinNote {
    /// The note as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, 0];
        out.extend_from_slice(&self.volume.to_bytes());
        out.extend_from_slice(&self.incarnation.get().to_le_bytes());
        out.extend_from_slice(&self.size.get().to_le_bytes());
        out.extend_from_slice(&self.block.bytes().to_le_bytes());
        out.extend_from_slice(&self.splitter.to_bytes());
        put_name(&mut out, &self.name);
        out
    }

    /// Reads a note; `None` when it is not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of_version_1(bytes)?;
        let note = Self {
            volume: VolumeId::from_bytes(fields.take()?),
            incarnation: Incarnation::new(u32::from_le_bytes(fields.take()?)),
            size: SectorCount::new(u64::from_le_bytes(fields.take()?))?,
            block: LogicalBlock::new(u32::from_le_bytes(fields.take()?))?,
            splitter: SplitterId::from_bytes(fields.take()?),
            name: fields.name()?,
        };
        fields.end().then_some(note)
    }
}

/// A bookmark's name, as BOOKMARK and `BOOKMARK_REMOVED` hold it. `ticket` ties a record to the request that asked
/// for it (0 where none did).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BookmarkNote {
    /// Which request it answers.
    pub ticket: u64,
    /// The name.
    pub name: String,
}

impl BookmarkNote {
    /// The note as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, 0];
        out.extend_from_slice(&self.ticket.to_le_bytes());
        put_name(&mut out, &self.name);
        out
    }

    /// Reads a note; `None` when it is not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of_version_1(bytes)?;
        let note = Self { ticket: u64::from_le_bytes(fields.take()?), name: fields.name()? };
        fields.end().then_some(note)
    }
}

/// Where the live line goes on, as ROLLBACK holds it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RollbackNote {
    /// The last position of the older line that stays live.
    pub target: Position,
    /// Which rollback it is: the restore map of the same number belongs to it.
    pub id: u64,
}

impl RollbackNote {
    /// The note as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, 0];
        out.extend_from_slice(&self.target.get().to_le_bytes());
        out.extend_from_slice(&self.id.to_le_bytes());
        out
    }

    /// Reads a note; `None` when it is not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of_version_1(bytes)?;
        let note =
            Self { target: Position::new(u64::from_le_bytes(fields.take()?)), id: u64::from_le_bytes(fields.take()?) };
        fields.end().then_some(note)
    }
}

/// A granted or lost session, as `SESSION_GRANTED` and `SESSION_LOST` hold it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SessionNote {
    /// The session.
    pub session: Session,
    /// The splitter that it belongs to.
    pub splitter: SplitterId,
    /// That splitter's life that asked for it.
    pub life: SplitterIncarnation,
    /// Whether nothing was lost between the session before and this one: `false` opens a gap that only a
    /// `RESYNC_END` of this or a later session closes (PROTOCOL R22).
    pub clean: bool,
}

impl SessionNote {
    /// The note as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![1, 0];
        out.extend_from_slice(&self.session.get().to_le_bytes());
        out.extend_from_slice(&self.splitter.to_bytes());
        out.extend_from_slice(&self.life.get().to_le_bytes());
        out.push(u8::from(self.clean));
        out
    }

    /// Reads a note; `None` when it is not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of_version_1(bytes)?;
        let note = Self {
            session: Session::new(u64::from_le_bytes(fields.take()?)),
            splitter: SplitterId::from_bytes(fields.take()?),
            life: SplitterIncarnation::new(u64::from_le_bytes(fields.take()?)),
            clean: match fields.take::<1>()? {
                [0] => false,
                [1] => true,
                [_] => return None,
            },
        };
        fields.end().then_some(note)
    }
}

/// A splitter's part of a barrier, as BARRIER holds it (PROTOCOL R27). The barrier is a point once every session of
/// the list has laid its part and nothing behind it: the position of the last part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BarrierNote {
    /// Which barrier; never used again in a group.
    pub id: u64,
    /// Which request it answers, as in a bookmark; 0 where none did.
    pub ticket: u64,
    /// The sessions that take part, 2 to `STREAMS_MAX`, ascending.
    pub sessions: Vec<Session>,
    /// The bookmark that the point gets; empty for none.
    pub name: String,
}

impl BarrierNote {
    /// The note as bytes.
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.is_sound(), "a barrier's sessions are chosen by the appliance");
        let mut out = vec![1, 0];
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&self.ticket.to_le_bytes());
        out.push(u8::try_from(self.sessions.len()).unwrap_or(u8::MAX));
        for session in &self.sessions {
            out.extend_from_slice(&session.get().to_le_bytes());
        }
        put_name(&mut out, &self.name);
        out
    }

    /// Reads a note; `None` when it is not one of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::of_version_1(bytes)?;
        let (id, ticket) = (u64::from_le_bytes(fields.take()?), u64::from_le_bytes(fields.take()?));
        let [count] = fields.take()?;
        let sessions = (0..count).map(|_| fields.take().map(|bytes| Session::new(u64::from_le_bytes(bytes))));
        let sessions = sessions.collect::<Option<Vec<_>>>()?;
        let note = Self { id, ticket, sessions, name: fields.name()? };
        (fields.end() && note.is_sound()).then_some(note)
    }

    /// Whether it can be a barrier's.
    fn is_sound(&self) -> bool {
        (2..=STREAMS_MAX).contains(&self.sessions.len())
            && self.sessions.windows(2).all(|pair| pair[0] < pair[1])
            && self.name.len() <= NAME_BYTES_MAX
    }
}

fn put_name(out: &mut Vec<u8>, name: &str) {
    let bytes = name.as_bytes();
    assert!(bytes.len() <= NAME_BYTES_MAX, "names are checked where they are parsed");
    #[expect(clippy::cast_possible_truncation, reason = "at most 127 bytes")]
    out.push(bytes.len() as u8);
    out.extend_from_slice(bytes);
}

struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of_version_1(bytes: &'a [u8]) -> Option<Self> {
        bytes.strip_prefix(&[1, 0]).map(Self)
    }

    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn name(&mut self) -> Option<String> {
        let [len] = self.take::<1>()?;
        let (name, rest) = self.0.split_at_checked(usize::from(len))?;
        self.0 = rest;
        (name.len() <= NAME_BYTES_MAX).then(|| String::from_utf8(name.to_vec()).ok())?
    }

    fn end(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests;
