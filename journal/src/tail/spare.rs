//! The next segment's file, made while the one before is still being filled.
//!
//! Making a file takes space, and the file system its time; a chunk should wait for neither. The spare has the name of
//! an unfinished file, so a crash leaves nothing but what the next open removes; it becomes a segment as any other, by
//! its header and its proper name. It is a retired segment's file where one is kept (`pool.rs`), else a new one. That
//! it cannot be made is no failure: it is tried again when it is needed, and only then a full disk is told of. Owns the
//! file in the making.

use super::pool;
use crate::aligned::Aligned;
use crate::device::{Access, Disk, DiskFile};
use crate::place::SegmentNumber;
use record::geometry::BLOCK_BYTES;
use std::fmt;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

/// A file that waits for its header.
#[derive(Debug)]
pub(super) struct Ready {
    /// What it is called until it is a segment.
    pub name: String,
    pub file: Arc<dyn DiskFile>,
    /// Which segment it was.
    pub former: Option<SegmentNumber>,
}

impl Ready {
    /// Makes a segment's file: of a kept one if there is one and it can be had, else a new one.
    pub(super) fn make(
        disk: &dyn Disk,
        number: SegmentNumber,
        bytes: u64,
        access: Access,
        former: Option<SegmentNumber>,
    ) -> io::Result<Self> {
        if let Some(former) = former {
            match pool::reopen(disk, former, access) {
                Ok(file) => return Ok(Self { name: former.unfinished_file(), file, former: Some(former) }),
                Err(error) => {
                    tracing::warn!(
                        "journal {}: the file of segment {former}, which is not needed any more, cannot be used again \
                         ({error})",
                        disk.describe()
                    );
                    let _ = disk.remove(&former.unfinished_file());
                }
            }
        }
        let name = number.unfinished_file();
        let file = disk.create(&name, bytes, access)?;
        // Where the header comes: written over, it changes nothing that the file system keeps of the file.
        file.write_at(&[IoSlice::new(&Aligned::zeroed(BLOCK_BYTES))], 0)?;
        file.sync()?;
        Ok(Self { name, file, former: None })
    }
}

/// A spare, in the making or made.
pub(super) struct Spare {
    number: SegmentNumber,
    bytes: u64,
    made: Receiver<io::Result<Ready>>,
}

impl fmt::Debug for Spare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the spare for segment {}", self.number)
    }
}

impl Spare {
    /// Begins to make the file of a segment.
    pub(super) fn make(
        disk: &Arc<dyn Disk>,
        number: SegmentNumber,
        bytes: u64,
        access: Access,
        former: Option<SegmentNumber>,
    ) -> Self {
        let (tell, made) = sync_channel(1);
        let making = disk.clone();
        let work = move || {
            // Nobody listens any more when the journal is gone.
            let _ = tell.send(Ready::make(making.as_ref(), number, bytes, access, former));
        };
        if let Err(error) = disk.aside(Box::new(work)) {
            tracing::warn!("journal {}: segment {number} cannot be made ahead ({error})", disk.describe());
        }
        Self { number, bytes, made }
    }

    /// Whether it is for this segment.
    pub(super) fn fits(&self, number: SegmentNumber, bytes: u64) -> bool {
        self.number == number && self.bytes == bytes
    }

    /// Waits until nothing is being made any more. `None`: it has to be made when it is needed.
    pub(super) fn made(self) -> Option<Ready> {
        self.made.recv().ok().and_then(Result::ok)
    }

    /// Removes what was made.
    pub(super) fn discard(self, disk: &dyn Disk) {
        if let Some(ready) = self.made() {
            // What stays behind is removed at the next open.
            let _ = disk.remove(&ready.name);
        }
    }
}
