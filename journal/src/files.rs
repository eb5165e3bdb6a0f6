//! The segment files that images read from.
//!
//! Owns the open handles: a bounded number, opened when they are first needed.

use crate::compacted;
use crate::device::{Disk, DiskFile};
use crate::lock::lock;
use crate::place::SegmentNumber;
use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex};

/// Most segment files kept open for reading; beyond it the one that was opened longest ago is closed.
const OPEN_MAX: usize = 128;

/// Segment files, open for reading.
#[derive(Debug)]
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    open: Mutex<Handles>,
}

#[derive(Debug, Default)]
struct Handles {
    by_number: HashMap<SegmentNumber, (u64, Arc<dyn DiskFile>)>,
    opened: u64,
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, open: Mutex::default() }
    }

    /// The disk.
    pub(crate) fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Segments in front of this one are not asked for any more.
    pub(crate) fn forget_before(&self, segment: SegmentNumber) {
        lock(&self.open).by_number.retain(|number, _| *number >= segment);
    }

    /// A segment has left the journal: its file is not held any more.
    pub(crate) fn forget(&self, number: SegmentNumber) {
        lock(&self.open).by_number.remove(&number);
    }

    /// A segment's file.
    pub(crate) fn segment(&self, number: SegmentNumber) -> io::Result<Arc<dyn DiskFile>> {
        let mut handles = lock(&self.open);
        if let Some((_, file)) = handles.by_number.get(&number) {
            return Ok(file.clone());
        }
        let file = compacted::open(self.disk.as_ref(), number)?;
        if handles.by_number.len() >= OPEN_MAX
            && let Some(oldest) = handles.by_number.iter().min_by_key(|(_, (opened, _))| *opened).map(|(n, _)| *n)
        {
            handles.by_number.remove(&oldest);
        }
        handles.opened += 1;
        let opened = handles.opened;
        handles.by_number.insert(number, (opened, file.clone()));
        Ok(file)
    }
}
