//! Volumes that join and leave, and their replicas while they join.

use super::{Journal, bare};
use crate::base::BaseDevice;
use crate::error::JournalError;
use crate::lock::{lock, read};
use crate::members::{JoinRequest, Member};
use record::geometry::Extent;
use record::ids::Incarnation;
use record::op::Op;
use record::position::{Label, Position};
use std::path::Path;
use std::sync::Arc;

impl Journal {
    /// A volume joins; it is hidden until `joined`. Refused when a member has its name or is the same volume.
    pub fn join(&self, request: &JoinRequest, now: Label) -> Result<Incarnation, JournalError> {
        let mut tail = lock(&self.tail);
        let note = read(&self.reader.core.state).members.plan_join(request).map_err(JournalError::Refused)?;
        self.append_own(&mut tail, &[(bare(Op::Join, note.incarnation), note.encode())], None, now)?;
        Ok(note.incarnation)
    }

    /// The number that the next volume to join gets.
    pub fn next_incarnation(&self) -> Result<Incarnation, JournalError> {
        read(&self.reader.core.state).members.next().map_err(JournalError::Refused)
    }

    /// The volume's replica is complete: it is synced, then recorded. The caller sees to it that every record of a
    /// write that a read for the replica may have seen is durable before. Harmless when it has joined already.
    pub fn joined(&self, volume: Incarnation, now: Label) -> Result<Position, JournalError> {
        let member = self.present(volume)?;
        if let Some(at) = member.joined {
            return Ok(at);
        }
        self.base_sync(volume)?;
        let mut tail = lock(&self.tail);
        if let Some(at) = self.present(volume)?.joined {
            return Ok(at);
        }
        self.append_own(&mut tail, &[(bare(Op::Joined, volume), Vec::new())], None, now)
    }

    /// The volume leaves; points before show it for ever. Harmless when it has left already.
    pub fn leave(&self, volume: Incarnation, now: Label) -> Result<Position, JournalError> {
        let mut tail = lock(&self.tail);
        let left =
            read(&self.reader.core.state).members.get(volume).ok_or_else(|| self.reader.core.no_member(volume))?.left;
        match left {
            Some(at) => Ok(at),
            None => self.append_own(&mut tail, &[(bare(Op::Leave, volume), Vec::new())], None, now),
        }
    }

    /// Every membership there was; those that left included.
    pub fn members(&self) -> Vec<Member> {
        self.reader.members()
    }

    fn present(&self, volume: Incarnation) -> Result<Member, JournalError> {
        let state = read(&self.reader.core.state);
        state.members.present(volume).cloned().ok_or_else(|| self.reader.core.no_member(volume))
    }

    /// Tells where a volume's replica is.
    pub fn attach_base(&self, volume: Incarnation, path: &Path) -> Result<(), JournalError> {
        self.reader.attach_base(volume, path)
    }

    /// The same with any device.
    pub fn attach_base_device(&self, volume: Incarnation, base: Arc<dyn BaseDevice>) -> Result<(), JournalError> {
        self.reader.attach_base_device(volume, base)
    }

    /// Makes a joining volume's replica all zeros. Refused once it has joined.
    pub fn base_reset(&self, volume: Incarnation) -> Result<(), JournalError> {
        self.joining_base(volume)?.reset().map_err(|source| self.base_failure("empty", volume, source))
    }

    /// Writes into a joining volume's replica. Durable after `base_sync`. Refused once it has joined.
    pub fn base_write(&self, volume: Incarnation, extent: Extent, data: &[u8]) -> Result<(), JournalError> {
        self.fitting(volume, extent)?;
        if data.len() as u64 != extent.bytes() {
            return Err(JournalError::Refused(format!("{} bytes for {extent} of volume {volume}", data.len())));
        }
        self.joining_base(volume)?.write(extent, data).map_err(|source| self.base_failure("write", volume, source))
    }

    /// Zeroes, with space for them, in a joining volume's replica. Durable after `base_sync`. Refused once it has joined.
    pub fn base_zero(&self, volume: Incarnation, extent: Extent) -> Result<(), JournalError> {
        self.fitting(volume, extent)?;
        self.joining_base(volume)?.allocate_zeros(extent).map_err(|source| self.base_failure("zero", volume, source))
    }

    /// Makes a volume's replica durable.
    pub fn base_sync(&self, volume: Incarnation) -> Result<(), JournalError> {
        self.attached(volume)?.sync().map_err(|source| self.base_failure("sync", volume, source))
    }

    fn attached(&self, volume: Incarnation) -> Result<Arc<dyn BaseDevice>, JournalError> {
        let base = self.reader.core.base(volume);
        base.ok_or_else(|| JournalError::Refused(format!("no replica is attached for volume {volume}")))
    }

    fn joining_base(&self, volume: Incarnation) -> Result<Arc<dyn BaseDevice>, JournalError> {
        if self.present(volume)?.joined.is_some() {
            return Err(JournalError::Refused(format!(
                "volume {volume} has joined: its replica is what older points read, and is not written any more"
            )));
        }
        self.attached(volume)
    }

    fn fitting(&self, volume: Incarnation, extent: Extent) -> Result<(), JournalError> {
        let member = self.present(volume)?;
        if extent.fits(member.size) {
            Ok(())
        } else {
            Err(JournalError::Refused(format!("{extent} is past the end of volume '{}'", member.name)))
        }
    }

    fn base_failure(&self, doing: &str, volume: Incarnation, source: std::io::Error) -> JournalError {
        self.reader.core.io(&format!("{doing} the replica of volume {volume}"), source)
    }
}
