//! What the replicas should hold and do not: content that could not be read when it was to be brought to them.
//!
//! Owns the file `base-lost`, in the bytes of a restore map: its target is the position that the replicas hold. Durable
//! before that position is, so that the old content there is never taken for the right one.

use crate::device::Disk;
use crate::error::JournalError;
use crate::place::BASE_LOST;
use crate::restore::{self, RestoreMap};
use record::geometry::Extent;
use record::ids::{Incarnation, JournalId};
use record::position::Position;
use std::io::{self, ErrorKind};

/// What is lost, by volume, in address order; nothing when there is no such file. `None` when it is damaged: then it may be
/// anything.
pub(crate) fn load(disk: &dyn Disk, journal: JournalId) -> Result<Option<Vec<(Incarnation, Extent)>>, JournalError> {
    let io = |source| JournalError::Io { journal: disk.describe(), doing: format!("read {BASE_LOST}"), source };
    match restore::read(disk, journal, BASE_LOST) {
        Ok(map) => Ok(Some(map.extents)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(Vec::new())),
        Err(error) if error.kind() == ErrorKind::InvalidData => Ok(None),
        Err(error) => Err(io(error)),
    }
}

/// Writes what is lost, durably. An empty list is written only over another one.
pub(crate) fn store(
    disk: &dyn Disk,
    journal: JournalId,
    at: Position,
    lost: &[(Incarnation, Extent)],
    before: &[(Incarnation, Extent)],
) -> io::Result<()> {
    if lost == before {
        return Ok(());
    }
    restore::write(disk, journal, BASE_LOST, &RestoreMap { id: 0, target: at, extents: lost.to_vec() })?;
    disk.sync_folder("")
}
