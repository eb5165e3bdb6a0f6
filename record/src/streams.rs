//! How far each splitter's stream has come: the table that every journal header and mark carries.
//!
//! A group has one stream for each splitter that serves volumes of it. Damage to a chunk must never lose what its
//! session expects next (PROTOCOL V13), so every header says it of all of them. Owns the table and its bytes;
//! deliberately decides nothing about sessions.

use crate::ids::SplitterId;
use crate::position::{Session, StreamSeq};

/// Most splitters that serve one group at a time.
pub const STREAMS_MAX: usize = 8;
/// Bytes of one entry: the splitter, its session, what that expects next.
const ENTRY_BYTES: usize = 32;
/// Bytes of the table: `u32` number of entries, 4 bytes of zeros, the entries by splitter, zeros.
pub const STREAMS_BYTES: usize = 8 + STREAMS_MAX * ENTRY_BYTES;

/// One splitter's stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StreamAt {
    /// Whose.
    pub splitter: SplitterId,
    /// The newest session that it was granted.
    pub session: Session,
    /// The number that the journal expects next in it.
    pub next: StreamSeq,
}

/// The streams of a group, at most one for each splitter, in order of their ids.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Streams {
    len: usize,
    /// Behind `len`: copies of [`UNUSED`], so that equal tables are equal.
    entries: [StreamAt; STREAMS_MAX],
}

const UNUSED: StreamAt =
    StreamAt { splitter: SplitterId::from_bytes([0; 16]), session: Session::new(0), next: StreamSeq::new(0) };

impl Streams {
    /// Before the first session.
    pub const NONE: Self = Self { len: 0, entries: [UNUSED; STREAMS_MAX] };

    /// One splitter's only.
    pub fn one(at: StreamAt) -> Self {
        let mut streams = Self::NONE;
        streams.set(at);
        streams
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = &StreamAt> {
        self.entries[..self.len].iter()
    }

    /// One splitter's.
    pub fn of(&self, splitter: SplitterId) -> Option<StreamAt> {
        self.iter().find(|at| at.splitter == splitter).copied()
    }

    /// The stream whose newest session this is.
    pub fn with_session(&self, session: Session) -> Option<StreamAt> {
        self.iter().find(|at| at.session == session).copied()
    }

    /// The newest session of all; 0 before the first.
    pub fn newest(&self) -> Session {
        self.iter().map(|at| at.session).max().unwrap_or(Session::new(0))
    }

    /// Whether another splitter would find no room.
    pub fn is_full(&self) -> bool {
        self.len == STREAMS_MAX
    }

    /// Enters a stream, in the place of the same splitter's; `false`, and nothing done, when there is no room.
    pub fn set(&mut self, at: StreamAt) -> bool {
        match self.entries[..self.len].binary_search_by_key(&at.splitter, |entry| entry.splitter) {
            Ok(place) => self.entries[place] = at,
            Err(_) if self.is_full() => return false,
            Err(place) => {
                self.entries.copy_within(place..self.len, place + 1);
                self.entries[place] = at;
                self.len += 1;
            }
        }
        true
    }

    /// Forgets a splitter's stream.
    pub fn remove(&mut self, splitter: SplitterId) {
        let place = self.iter().position(|at| at.splitter == splitter);
        if let Some(place) = place {
            self.entries.copy_within(place + 1..self.len, place);
            self.len -= 1;
            self.entries[self.len] = UNUSED;
        }
    }

    /// The table as bytes.
    pub fn encode(&self) -> [u8; STREAMS_BYTES] {
        let mut out = [0; STREAMS_BYTES];
        out[0] = u8::try_from(self.len).unwrap_or(u8::MAX);
        for (at, bytes) in self.iter().zip(out[8..].chunks_exact_mut(ENTRY_BYTES)) {
            bytes[..16].copy_from_slice(&at.splitter.to_bytes());
            bytes[16..24].copy_from_slice(&at.session.get().to_le_bytes());
            bytes[24..].copy_from_slice(&at.next.get().to_le_bytes());
        }
        out
    }

    /// So many bytes at the beginning of an encoded table are not zeros, at most: a multiple of 8.
    pub fn bytes_used(table: &[u8; STREAMS_BYTES]) -> usize {
        (8 + usize::from(table[0]) * ENTRY_BYTES).min(STREAMS_BYTES)
    }

    /// Reads a table; `None` for anything that `encode` does not make.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; STREAMS_BYTES] = bytes.get(..STREAMS_BYTES)?.try_into().ok()?;
        let mut streams = Self::NONE;
        for entry in bytes[8..].chunks_exact(ENTRY_BYTES).take(usize::from(bytes[0])) {
            let number = |at: usize| entry[at..at + 8].iter().rev().fold(0, |n, byte| n << 8 | u64::from(*byte));
            let splitter = SplitterId::from_bytes(entry[..16].try_into().ok()?);
            if !streams.set(StreamAt { splitter, session: Session::new(number(16)), next: StreamSeq::new(number(24)) })
            {
                return None;
            }
        }
        // Every way of writing the same table but one is damage.
        (streams.encode() == *bytes).then_some(streams)
    }
}

#[cfg(test)]
mod tests;
