//! Rolling back: the plan, the restore map that is durable first, the one record that commits, what is owed after.

use super::{Journal, bare};
use crate::error::{JournalError, PointError, ReadFailure};
use crate::lock::{lock, read};
use crate::restore::{self, RestoreMap};
use crate::rollback::{self, ChangedSet, RestorePiece};
use record::conversation::{CONTENT_BYTES_MAX, RESTORE_BYTES_MAX};
use record::geometry::{Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use record::member::RollbackNote;
use record::op::Op;
use record::position::{Label, Position};

/// It is looked whether everything can be read as a splitter will ask for it.
const ASKED_AT_ONCE_SECTORS: u64 = RESTORE_BYTES_MAX / SECTOR_BYTES;
const CHECKED_AT_ONCE_BYTES: u64 = CONTENT_BYTES_MAX as u64;

/// Restore maps: the committed one, and one whose rollback is being prepared.
#[derive(Debug, Default)]
pub(super) struct Restore {
    pub(super) pending: Option<RestoreMap>,
    prepared: Option<Prepare>,
}

#[derive(Debug)]
struct Prepare {
    map: RestoreMap,
    /// The newest position that it was computed for.
    head: Position,
}

impl Journal {
    /// What a rollback to `target` would change. `target` must be a point that can be offered.
    pub fn changed_set(&self, target: Position) -> Result<ChangedSet, PointError> {
        let restore = lock(&self.restore);
        let core = &self.reader.core;
        read(&core.state).offered(target)?;
        let owed = restore.pending.as_ref().map_or(&[][..], |map| &map.extents);
        Ok(rollback::changed_set(core, target, owed))
    }

    /// Whether everything that a rollback would bring back can be read now: reads all of it. `told` hears how many bytes
    /// have been looked at. Once a rollback is committed its hosts wait until everything is back, so what cannot be read
    /// must be known before.
    pub fn check_restorable(&self, changed: &ChangedSet, mut told: impl FnMut(u64)) -> Result<(), JournalError> {
        let target = self.image(changed.target)?;
        let mut looked = 0;
        for (volume, extent) in &changed.extents {
            let mut at = extent.start().index();
            while let Some(rest) = Extent::between(at, extent.end()) {
                let rest = rest.pieces(ASKED_AT_ONCE_SECTORS).next().unwrap_or(rest);
                let front = rollback::restore_front(&self.reader.core, &target, *volume, rest, CHECKED_AT_ONCE_BYTES)
                    .map_err(|failure| {
                    JournalError::Refused(format!("{failure}; nothing was changed, choose another point"))
                })?;
                let end = front.last().map_or(rest.end(), |last| last.extent.end());
                looked += (end - at) * SECTOR_BYTES;
                at = end;
                told(looked);
            }
        }
        Ok(())
    }

    /// An id for the next rollback, larger than any in this journal.
    pub fn next_rollback_id(&self) -> u64 {
        let restore = lock(&self.restore);
        let prepared = restore.prepared.as_ref().map_or(0, |prepare| prepare.map.id);
        read(&self.reader.core.state).last_rollback.max(prepared) + 1
    }

    /// Stores, durably, what a rollback will owe. To be called, with the splitter quiesced and its outbox drained,
    /// before `rollback`; it changes nothing by itself. An earlier one that was only prepared is given up.
    pub fn store_restore_map(&self, id: u64, changed: &ChangedSet) -> Result<(), JournalError> {
        let core = &self.reader.core;
        let mut restore = lock(&self.restore);
        if id <= read(&core.state).last_rollback {
            return Err(JournalError::Refused(format!("rollback {id} is not a new one")));
        }
        if let Some(given_up) = restore.prepared.take() {
            self.remove_map(given_up.map.id)?;
        }
        let map = restore::map_of(id, changed.target, changed.extents.clone());
        restore::store(core.files.disk().as_ref(), core.id, &map)
            .map_err(|source| core.io("write a restore map", source))?;
        restore.prepared = Some(Prepare { map, head: changed.head });
        Ok(())
    }

    /// Gives up on a rollback that was prepared by `store_restore_map`.
    pub fn discard_restore_map(&self, id: u64) -> Result<(), JournalError> {
        let mut restore = lock(&self.restore);
        if restore.prepared.take_if(|prepare| prepare.map.id == id).is_some() {
            self.remove_map(id)?;
        }
        Ok(())
    }

    fn remove_map(&self, id: u64) -> Result<(), JournalError> {
        let core = &self.reader.core;
        restore::remove(core.files.disk().as_ref(), id).map_err(|source| core.io("remove a restore map", source))
    }

    /// Commits: the live line goes on from `note.target`. Refused unless the restore map of `note.id` is stored and
    /// nothing changed since it was computed. Answers with the position of the record.
    pub fn rollback(&self, note: RollbackNote, now: Label) -> Result<Position, JournalError> {
        let core = &self.reader.core;
        let mut tail = lock(&self.tail);
        let mut restore = lock(&self.restore);
        let prepared = restore.prepared.as_ref().filter(|p| p.map.id == note.id && p.map.target == note.target);
        let Some(prepared) = prepared else {
            return Err(JournalError::Refused(format!("rollback {} was not prepared; nothing was changed", note.id)));
        };
        {
            let state = read(&core.state);
            state.offered(note.target)?;
            if state.changed_behind(prepared.head) {
                return Err(JournalError::Refused(format!(
                    "the volumes changed since rollback {} was planned; nothing was changed, plan it again",
                    note.id
                )));
            }
        }
        let record = (bare(Op::Rollback, Incarnation::NONE), note.encode());
        let at = self.append_own(&mut tail, &[record], None, now)?;
        // Committed. What the map before it owed is part of this one.
        let before = restore.pending.take().map(|map| map.id);
        restore.pending = restore.prepared.take().map(|prepared| prepared.map);
        if let Some(before) = before {
            self.forget_map(before);
        }
        if let Some(empty) = restore.pending.take_if(|map| map.extents.is_empty()) {
            self.forget_map(empty.id);
        }
        Ok(at)
    }

    /// Removes a map that nobody needs any more; the next open would do it too.
    fn forget_map(&self, id: u64) {
        if let Err(error) = self.remove_map(id) {
            tracing::warn!("restore map {id} stays until the journal is opened again: {error}");
        }
    }

    /// What the newest rollback still owes the backing.
    pub fn pending_restore(&self) -> Option<RestoreMap> {
        lock(&self.restore).pending.clone()
    }

    /// These extents are in the backing, durably: they are no longer owed. Parts of owed extents are fine. Harmless
    /// for another rollback's id or for what is not owed.
    pub fn restore_done(&self, id: u64, extents: &[(Incarnation, Extent)]) -> Result<(), JournalError> {
        let core = &self.reader.core;
        let mut restore = lock(&self.restore);
        let Some(map) = restore.pending.as_ref().filter(|map| map.id == id) else { return Ok(()) };
        let left = map.without(extents);
        if left.extents.is_empty() {
            self.remove_map(id)?;
            restore.pending = None;
        } else if left != *map {
            restore::store(core.files.disk().as_ref(), core.id, &left)
                .map_err(|source| core.io("write a restore map", source))?;
            restore.pending = Some(left);
        }
        Ok(())
    }

    /// The live content of an extent, as a restore writes it: data, zeros that stay allocated, holes; of a front part of it where
    /// there are more than so many bytes of data, or very many pieces.
    pub fn restore_pieces(
        &self,
        volume: Incarnation,
        extent: Extent,
        bytes: u64,
    ) -> Result<Vec<RestorePiece>, ReadFailure> {
        rollback::restore_front(&self.reader.core, &self.reader.live_image(), volume, extent, bytes)
    }
}
