//! A replica in memory.

use journal::BaseDevice;
use record::geometry::{Extent, SECTOR_BYTES};
use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Bytes of a sector, as an index.
const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// A sparse replica: a sector that nobody wrote is a hole.
#[derive(Debug)]
pub struct MemBase {
    sectors: Mutex<Vec<Option<Sector>>>,
}

impl MemBase {
    /// An empty replica of so many sectors.
    pub fn new(sectors: u64) -> Self {
        Self { sectors: Mutex::new(vec![None; usize::try_from(sectors).unwrap_or(0)]) }
    }

    fn sectors(&self) -> MutexGuard<'_, Vec<Option<Sector>>> {
        self.sectors.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn range(extent: Extent) -> std::ops::Range<usize> {
        let index = |sector: u64| usize::try_from(sector).unwrap_or(usize::MAX);
        index(extent.start().index())..index(extent.end())
    }
}

impl BaseDevice for MemBase {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.sectors().len() as u64 * SECTOR_BYTES)
    }

    fn read(&self, extent: Extent, buffer: &mut [u8]) -> io::Result<()> {
        let sectors = self.sectors();
        let found = sectors.get(Self::range(extent)).ok_or(io::ErrorKind::UnexpectedEof)?;
        for (sector, out) in found.iter().zip(buffer.chunks_exact_mut(SECTOR)) {
            out.copy_from_slice(&sector.unwrap_or([0; SECTOR]));
        }
        Ok(())
    }

    fn write(&self, extent: Extent, data: &[u8]) -> io::Result<()> {
        let mut sectors = self.sectors();
        let found = sectors.get_mut(Self::range(extent)).ok_or(io::ErrorKind::UnexpectedEof)?;
        for (sector, bytes) in found.iter_mut().zip(data.chunks_exact(SECTOR)) {
            sector.insert([0; SECTOR]).copy_from_slice(bytes);
        }
        Ok(())
    }

    fn zero(&self, extent: Extent) -> io::Result<()> {
        let mut sectors = self.sectors();
        sectors.get_mut(Self::range(extent)).ok_or(io::ErrorKind::UnexpectedEof)?.fill(None);
        Ok(())
    }

    fn reset(&self) -> io::Result<()> {
        self.sectors().fill(None);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn holes(&self, extent: Extent) -> Vec<Extent> {
        let sectors = self.sectors();
        let holes = (extent.start().index()..extent.end()).zip(&sectors[Self::range(extent)]);
        holes.filter(|(_, sector)| sector.is_none()).filter_map(|(at, _)| Extent::new(at, 1)).collect()
    }
}
