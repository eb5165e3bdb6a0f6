//! What goes wrong, told so that the caller can branch and a tired administrator can act.
//!
//! Owns the error types of the crate. A message says what was being done, what went wrong, what is safe.

use crate::timeline::{At, Gap, Window, utc};
use record::chunk::BodyError;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::position::{Label, Position, Session, SplitterIncarnation, StreamSeq};
use std::io;
use thiserror::Error;

/// A journal could not do what was asked.
#[derive(Debug, Error)]
pub enum JournalError {
    /// Another process has the directory.
    #[error("journal {journal} is in use by another process; nothing was changed")]
    InUse {
        /// The directory.
        journal: String,
    },
    /// There is no journal.
    #[error("{journal} holds no journal (no file named superblock)")]
    NotAJournal {
        /// The directory.
        journal: String,
    },
    /// There is one already.
    #[error("{journal} already holds a journal; nothing was changed")]
    AlreadyExists {
        /// The directory.
        journal: String,
    },
    /// Neither superblock slot can be read.
    #[error("journal {journal}: neither copy of the superblock is readable; the segments were not touched")]
    SuperblockLost {
        /// The directory.
        journal: String,
    },
    /// Written by a release that uses something this one does not know.
    #[error(
        "journal {journal} is of format {version}, features {features:#x}; this release reads format {known} and knows features {known_features:#x}; nothing was changed"
    )]
    UnknownFormat {
        /// The directory.
        journal: String,
        /// Its version.
        version: u16,
        /// Its incompatible features.
        features: u64,
        /// The version that this release reads.
        known: u16,
        /// The features that it knows.
        known_features: u64,
    },
    /// The system refused.
    #[error("journal {journal}: {doing}: {source}")]
    Io {
        /// The directory.
        journal: String,
        /// What was being done.
        doing: String,
        /// What the system said.
        source: io::Error,
    },
    /// No room for a new segment; nothing was written, and the same can be tried again.
    #[error(
        "journal {journal}: no space for another segment ({source}); nothing was written, what is in the journal is safe, free some space and it goes on"
    )]
    NoSpace {
        /// The directory.
        journal: String,
        /// What the system said.
        source: io::Error,
    },
    /// A write or a sync failed earlier: what the tail holds on disk is unknown until the journal is opened again.
    #[error(
        "journal {journal} takes no more records since a write failed ({reason}); everything acknowledged stays readable; restart the appliance once the disk is sound"
    )]
    Poisoned {
        /// The directory.
        journal: String,
        /// The first failure.
        reason: String,
    },
    /// What the journal knew when its oldest records were given back cannot be read, in no copy.
    #[error(
        "journal {journal}: none of the checkpoints that say what the group was before its oldest segment can be read (folder state); nothing was changed: restore that folder from a backup, or start a new journal"
    )]
    StateLost {
        /// The directory.
        journal: String,
    },
    /// The caller asked for something that does not fit the journal's state.
    #[error("{0}")]
    Refused(String),
    /// An older life of a splitter asked for a session.
    #[error("splitter life {asked} is older than {seen}, which this journal has already seen; nothing was changed")]
    StaleSplitter {
        /// Who asked.
        asked: SplitterIncarnation,
        /// The newest seen.
        seen: SplitterIncarnation,
    },
    /// No such point.
    #[error(transparent)]
    Point(#[from] PointError),
}

/// Chunks were not appended. Nothing of the chunk at fault or behind it was written.
#[derive(Debug, Error)]
pub enum AppendError {
    /// An older session, or one that ended.
    #[error("session {session} is fenced: the journal is at session {current}")]
    Fenced {
        /// The chunk's.
        session: Session,
        /// The newest granted; 0 for none.
        current: Session,
    },
    /// Not the next chunk.
    #[error("the chunk starts at record {got}, the journal expects {expected}")]
    Gap {
        /// What it starts at.
        got: StreamSeq,
        /// What it should start at.
        expected: StreamSeq,
    },
    /// Not a chunk of this journal, or its header does not check.
    #[error("chunk {index} of the batch: {source}")]
    Body {
        /// Which of the batch.
        index: usize,
        /// What is wrong.
        source: BodyError,
    },
    /// The payload does not match its checksums: it changed on the way here.
    #[error("chunk {index} of the batch: the payload of record {seq} does not match its checksum")]
    PayloadChecksum {
        /// Which of the batch.
        index: usize,
        /// Which record.
        seq: StreamSeq,
    },
    /// A record that this journal does not take.
    #[error("chunk {index} of the batch, record {seq}: {why}")]
    Record {
        /// Which of the batch.
        index: usize,
        /// Which record.
        seq: StreamSeq,
        /// Why.
        why: String,
    },
    /// The journal itself could not write.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

/// A point cannot be offered.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PointError {
    /// No volume has joined yet, so there is nothing to show at any position.
    #[error("there is no point yet: no volume of the group has completed its first synchronisation")]
    NoVolume,
    /// No bookmark of that name.
    #[error("there is no bookmark named '{name}'")]
    UnknownBookmark {
        /// The name.
        name: String,
    },
    /// Before the oldest point or behind the newest.
    #[error("{} is outside the window: it reaches from {} to {}", .asked, .window.oldest, .window.newest)]
    OutsideWindow {
        /// What was asked for.
        asked: Asked,
        /// What there is.
        window: Window,
    },
    /// Older than the window, where only grid points and bookmarks are left.
    #[error(
        "{asked} is older than the window, and of that time only some points are left: the nearest before it is {before}, behind it {after}"
    )]
    Thinned {
        /// What was asked for.
        asked: Asked,
        /// The nearest grid point before it.
        before: At,
        /// The nearest behind it, or the oldest of the window.
        after: At,
    },
    /// A position that no record has yet.
    #[error("{} does not exist yet: the window reaches from {} to {}", .asked, .window.oldest, .window.newest)]
    BeyondHead {
        /// What was asked for.
        asked: Asked,
        /// What there is.
        window: Window,
    },
    /// Between two barriers of a group that several splitters serve: their volumes have no common order there.
    #[error(
        "{asked} is no point across the splitters of the group: only barriers are{}{}",
        .before.map_or_else(String::new, |at| format!(", the nearest before it {at}")),
        .after.map_or_else(String::new, |at| format!(", the nearest behind it {at}"))
    )]
    NotABarrier {
        /// What was asked for.
        asked: At,
        /// The nearest barrier before it.
        before: Option<At>,
        /// The nearest behind it.
        after: Option<At>,
    },
    /// In a stretch where the volumes' content is not known.
    #[error("{} lies in a gap ({gap})", .asked)]
    InsideGap {
        /// What was asked for.
        asked: At,
        /// The stretch.
        gap: Gap,
    },
}

/// A point as it was asked for, in an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// By position.
    Position(Position),
    /// By time.
    Time(Label),
}

impl std::fmt::Display for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Position(position) => write!(f, "seq:{position}"),
            Self::Time(label) => f.write_str(&utc(*label)),
        }
    }
}

/// Sectors of an image could not be read. What lies outside `damaged` was read and is right; the rest of the buffer
/// is zeros and must not be served.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("read volume {volume} at seq:{position}: {} of {} refused, first at {}: {cause}", .damaged.len(), if .damaged.len() == 1 { "extent" } else { "extents" }, .damaged.first().map_or_else(String::new, ToString::to_string))]
pub struct ReadFailure {
    /// The volume.
    pub volume: Incarnation,
    /// The image's position.
    pub position: Position,
    /// What was refused, in address order.
    pub damaged: Vec<Extent>,
    /// Why the first was refused.
    pub cause: Cause,
}

/// Why sectors are refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Cause {
    /// A block does not match its checksum.
    #[error("the data of seq:{position} in {place} does not match its checksum")]
    Checksum {
        /// Whose data.
        position: Position,
        /// Where it should be.
        place: String,
    },
    /// The system could not read it.
    #[error("the data of seq:{position} in {place} cannot be read: {error}")]
    Unreadable {
        /// Whose data.
        position: Position,
        /// Where it should be.
        place: String,
        /// What the system said.
        error: String,
    },
    /// Records are lost, and nothing says which sectors they wrote.
    #[error("the records from seq:{first} to seq:{last} are lost and may have written here")]
    LostRecords {
        /// The first.
        first: Position,
        /// The last.
        last: Position,
    },
    /// The replica could not be read.
    #[error("the replica cannot be read: {error}")]
    Replica {
        /// What the system said.
        error: String,
    },
    /// Not a volume of the image, or past its end.
    #[error("the image has no such volume, or the volume is shorter")]
    NotThere,
}
