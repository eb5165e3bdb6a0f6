//! The next segment's file, made while the one before is still being filled.
//!
//! Making a file takes space, and the file system its time; a chunk should wait for neither. The spare has the name of
//! an unfinished file, so a crash leaves nothing but what the next open removes; it becomes a segment as any other, by
//! its header and its proper name. That it cannot be made is no failure: it is tried again when it is needed, and only
//! then a full disk is told of. Owns the file in the making.

use crate::aligned::Aligned;
use crate::device::{Access, Disk, DiskFile};
use crate::place::SegmentNumber;
use record::geometry::BLOCK_BYTES;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// A spare, in the making or made.
pub(super) struct Spare {
    number: SegmentNumber,
    bytes: u64,
    made: Receiver<io::Result<Arc<dyn DiskFile>>>,
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the spare for segment {}", self.number)
    }
}

impl Spare {
    /// Begins to make the file of a segment.
    pub(super) fn make(disk: &Arc<dyn Disk>, number: SegmentNumber, bytes: u64, access: Access) -> Self {
        let (tell, made) = sync_channel(1);
        let making = disk.clone();
        let work = move || {
            let name = number.unfinished_file();
            let file = making.create(&name, bytes, access).and_then(|file| {
                // Where the header comes: written over, it changes nothing that the file system keeps of the file.
                file.write_at(&[IoSlice::new(&Aligned::zeroed(BLOCK_BYTES))], 0)?;
                file.sync()?;
                Ok(file)
            });
            // Nobody listens any more when the journal is gone.
            let _ = tell.send(file);
        };
        if let Err(error) = disk.aside(Box::new(work)) {
            tracing::warn!("journal {}: segment {number} cannot be made ahead ({error})", disk.describe());
        }
        Self { number, bytes, made }
    }

    /// The file, if it is made for this segment; waits for it. `None`: it has to be made now.
    pub(super) fn take(self, number: SegmentNumber, bytes: u64) -> Option<Arc<dyn DiskFile>> {
        let fits = self.number == number && self.bytes == bytes;
        self.made().filter(|_| fits)
    }

    /// Removes what was made.
    pub(super) fn discard(self, disk: &dyn Disk) {
        let name = self.number.unfinished_file();
        if self.made().is_some() {
            // What stays behind is removed at the next open.
            let _ = disk.remove(&name);
        }
    }

    /// Waits until nothing is being made any more.
    pub(super) fn made(self) -> Option<Arc<dyn DiskFile>> {
        self.made.recv().ok().and_then(Result::ok)
    }
}
