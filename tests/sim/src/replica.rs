//! A replica that forgets at a power cut what was not synced.
//!
//! Owns two copies of a volume's joined content: what reads see, and what is durable.

use journal::BaseDevice;
use record::geometry::{Extent, SECTOR_BYTES};
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// A replica in memory.
#[derive(Debug)]
pub struct Replica(Mutex<Copies>);

#[derive(Debug)]
struct Copies {
    seen: Vec<u8>,
    durable: Vec<u8>,
}

impl Replica {
    /// All zeros, of so many sectors.
    pub fn new(sectors: u64) -> Self {
        let bytes = vec![0; usize::try_from(sectors * SECTOR_BYTES).unwrap_or(0)];
        Self(Mutex::new(Copies { seen: bytes.clone(), durable: bytes }))
    }

    fn copies(&self) -> MutexGuard<'_, Copies> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The power goes; what was not synced is kept or not, as a whole.
    pub fn power_cut(&self, keep: bool) {
        let mut copies = self.copies();
        let Copies { seen, durable } = &mut *copies;
        if keep {
            durable.clone_from(seen);
        } else {
            seen.clone_from(durable);
        }
    }

    fn range(extent: Extent) -> Range<usize> {
        let index = |sector: u64| usize::try_from(sector * SECTOR_BYTES).unwrap_or(usize::MAX);
        index(extent.start().index())..index(extent.end())
    }

    fn change(&self, extent: Extent, change: impl FnOnce(&mut [u8])) -> io::Result<()> {
        change(self.copies().seen.get_mut(Self::range(extent)).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl BaseDevice for Replica {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.copies().seen.len() as u64)
    }

    fn read(&self, extent: Extent, buffer: &mut [u8]) -> io::Result<()> {
        buffer.copy_from_slice(self.copies().seen.get(Self::range(extent)).ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write(&self, extent: Extent, data: &[u8]) -> io::Result<()> {
        self.change(extent, |bytes| bytes.copy_from_slice(data))
    }

    fn zero(&self, extent: Extent) -> io::Result<()> {
        self.change(extent, |bytes| bytes.fill(0))
    }

    fn reset(&self) -> io::Result<()> {
        self.copies().seen.fill(0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut copies = self.copies();
        let Copies { seen, durable } = &mut *copies;
        durable.clone_from(seen);
        Ok(())
    }

    fn holes(&self, _: Extent) -> Vec<Extent> {
        Vec::new()
    }
}
