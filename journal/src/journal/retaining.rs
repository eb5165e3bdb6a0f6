//! What a journal takes, and giving up its oldest points: a placeholder that keeps the signatures.

use super::Journal;
use crate::error::JournalError;
use crate::lock::lock;
use crate::timeline::At;
use record::point::Point;
use record::position::{Label, Position};

/// What one segment of the journal holds, oldest first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentUse {
    /// Bytes of its file.
    pub bytes: u64,
    /// Its last record.
    pub last: At,
}

/// What the journal's files take.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Space {
    /// The oldest position that may be offered as a point, pins aside; `ORIGIN`: all.
    pub horizon: At,
    /// The content of the replicas.
    pub distributed: Position,
    /// The segments, oldest first.
    pub segments: Vec<SegmentUse>,
    /// Bytes of everything else.
    pub other_bytes: u64,
}

/// What a piece of distribution did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Distributed {
    /// The content of the replicas.
    pub to: Position,
    /// Whether there is more to do.
    pub more: bool,
    /// What keeps the replicas from following the horizon.
    pub held_back_by: Option<HeldBack>,
}

/// What keeps the replicas from following the horizon.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum HeldBack {
    /// A bookmark of this name.
    Bookmark(String),
    /// An open image of this position.
    Image(Position),
    /// The initial synchronisation of this volume.
    Joining(String),
    /// A replica: whose, and why.
    Replica(String),
}

/// What was removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reclaimed {
    /// Files.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Journal {
    /// What the journal's files take, and from where on its points are offered.
    pub fn space(&self) -> Space {
        let (segments, bytes) = lock(&self.tail).disk_use();
        let head = self.timeline().head;
        let each = bytes.checked_div(segments).unwrap_or(0);
        Space {
            horizon: At { position: Position::ORIGIN, label: Label::default() },
            distributed: Position::ORIGIN,
            segments: (0..segments).map(|_| SegmentUse { bytes: each, last: head }).collect(),
            other_bytes: 0,
        }
    }

    /// The last position whose label is not after this one; `ORIGIN` when there is none.
    pub fn position_at(&self, label: Label) -> Position {
        self.resolve(&Point::Time(label), true).unwrap_or(Position::ORIGIN)
    }

    /// Positions before `horizon` are no points any more.
    pub fn forget(&self, _horizon: Position) -> Result<(), JournalError> {
        Ok(())
    }

    /// Brings the replicas nearer to the oldest point.
    pub fn distribute(&self, _bytes: u64) -> Result<Distributed, JournalError> {
        Ok(Distributed { to: Position::ORIGIN, more: false, held_back_by: None })
    }

    /// Removes segments that no point and no distribution needs.
    pub fn reclaim(&self) -> Result<Reclaimed, JournalError> {
        Ok(Reclaimed { segments: 0, bytes: 0 })
    }
}
