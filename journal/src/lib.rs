//! The storage engine: one journal per consistency group, in one directory.
//!
//! Owns segments and their footers, recovery, the index of versions, points, images, restore maps and the offline
//! verifier. Knows files, never sockets, never a block device of its own making; has no clock: every label comes
//! from the caller. What decides (recovery, sessions, timeline, index) is free of files, so that the simulated
//! disk of `tests/kit` drives the very code that runs on a real one.
//!
//! Start at [`Journal`] (the one writer of a directory) and [`Reader`] (points and images, of a running journal or
//! of a directory that nobody else changes). `docs/formats/segment.md` has the bytes.
// One room has some, behind a safe face: device/real/ring.rs.
#![deny(unsafe_code)]

mod aligned;
pub mod device;
pub mod place;

mod footer;
mod grid;
mod notes;
mod segment;
mod superblock;

pub mod index;
pub mod retention;

mod members;
mod need;
mod path;
mod recovery;
mod session;
mod timeline;

mod base;
mod base_lost;
mod bodies;
mod checkpoint;
mod checkpoints;
mod chunks;
mod compacted;
mod compaction;
mod dating;
mod distribution;
mod files;
mod image;
mod intake;
mod journal;
mod lately;
mod lock;
mod lower;
mod mark;
mod open;
mod overlay;
mod reader;
mod restore;
mod rollback;
mod scan;
mod state;
mod status;
mod tail;
mod undo;
mod verify;
mod whole;

mod error;

pub use base::{BaseDevice, FileBase};
pub use error::{AppendError, Asked, Cause, JournalError, PointError, ReadFailure};
pub use grid::GRID_MAX;
pub use image::{Direct, Image, ImagePiece, PieceKind, Reading};
pub use journal::{
    Compacted, Create, Distributed, FollowBounds, Followed, Healed, HeldBack, Journal, Opened, Reclaimed, Scrubbed,
    SegmentUse, Space,
};
pub use members::{JoinRequest, Member};
pub use reader::Reader;
pub use recovery::{Damage, DamageKind};
pub use restore::RestoreMap;
pub use rollback::{ChangedSet, RestoreContent, RestorePiece};
pub use session::{Granted, Watermarks};
pub use status::{OpCounts, RecoveryReport, Status};
pub use timeline::{At, Bookmark, Gap, GapCause, Mark, MarkKind, TimelineView, Window};
pub use verify::{Finding, FindingKind, Severity, VerifyReport, verify, verify_disk};
