//! Files of segments that nobody needs any more, kept for the segments to come.
//!
//! A durable write over what was written before changes nothing that the file system keeps of a file; one into fresh
//! space makes it commit. So a retired segment's file becomes the next segment (ENGINE 25). Until then it has the name of
//! an unfinished file: never mistaken for a segment, and removed at the next open. What stands in it is of another
//! segment by every header's own word, the footer's too, so nothing of it is ever read as the new one's.
//!
//! Owns which files are kept. Deliberately does not know why a segment is not needed any more: whoever retires one
//! vouches for it.

use super::Tail;
use crate::device::{Access, Disk, DiskFile};
use crate::place::{SEGMENTS, SegmentNumber};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::sync::Arc;

/// Files that are kept whatever the journal's size.
const POOL_LEAST: u64 = 2;
/// Most files that are kept; of more, as of those that have another size, the space is given back.
const POOL_MAX: u64 = 16;
/// One file for so many segments: as many come free at once.
const ONE_IN: u64 = 64;

/// The files that are kept, by the segments that they were, all of the ordinary size.
#[derive(Debug, Default)]
pub(super) struct Pool(VecDeque<SegmentNumber>);

impl Pool {
    /// The one that waits longest.
    pub(super) fn take(&mut self) -> Option<SegmentNumber> {
        self.0.pop_front()
    }

    /// One that was taken was not needed.
    pub(super) fn give_back(&mut self, former: SegmentNumber) {
        self.0.push_front(former);
    }

    /// Removes all of them.
    pub(super) fn discard(&mut self, disk: &dyn Disk) {
        for former in self.0.drain(..) {
            // What stays behind is removed at the next open.
            let _ = disk.remove(&former.unfinished_file());
        }
    }
}

impl Tail {
    /// Takes a segment out of the journal; answers with the bytes that left it, 0 when it had left before. The caller
    /// vouches that no image, run or reader needs it, and that this is durable. That it is gone is durable when the next
    /// segment is there; a crash before may bring it back as it was.
    pub(crate) fn retire(&mut self, number: SegmentNumber) -> io::Result<u64> {
        if number >= self.newest {
            return Err(io::Error::new(ErrorKind::InvalidInput, format!("segment {number} is the newest, or none")));
        }
        let name = number.file();
        let bytes = match self.disk.open(&name, Access::Read) {
            Ok(file) => file.len()?,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(error),
        };
        let most = (self.segments / ONE_IN).clamp(POOL_LEAST, POOL_MAX);
        let ordinary = bytes == self.superblock.current().segment_bytes;
        if ordinary && (self.pool.0.len() as u64) < most && self.writable().is_ok() {
            self.disk.rename(&name, &number.unfinished_file())?;
            self.pool.0.push_back(number);
        } else {
            self.disk.remove(&name)?;
        }
        self.compacted.remove(&number);
        self.sealed_bytes = self.sealed_bytes.saturating_sub(bytes);
        self.segments = self.segments.saturating_sub(1);
        Ok(bytes)
    }
}

/// A kept file, to be written over. That it has lost its segment's name is durable by then: no crash leaves that name on
/// what is another segment.
pub(super) fn reopen(disk: &dyn Disk, former: SegmentNumber, access: Access) -> io::Result<Arc<dyn DiskFile>> {
    disk.sync_folder(SEGMENTS)?;
    disk.open(&former.unfinished_file(), access)
}
