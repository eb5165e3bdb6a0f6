//! Replicas for tests: one in memory, one on a simulated disk, which loses what was not synced.

use crate::SimDisk;
use journal::BaseDevice;
use journal::device::{Access, Disk, DiskFile};
use record::geometry::{Extent, SECTOR_BYTES};
use std::io::{self, IoSlice};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

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

    fn allocate_zeros(&self, extent: Extent) -> io::Result<()> {
        let mut sectors = self.sectors();
        let found = sectors.get_mut(Self::range(extent)).ok_or(io::ErrorKind::UnexpectedEof)?;
        found.fill(Some([0; SECTOR]));
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

/// A replica that is a file of a simulated disk: it stops when that stops, and loses what was not synced. Of holes it
/// knows nothing.
#[derive(Debug)]
pub struct DiskBase {
    file: Arc<dyn DiskFile>,
    bytes: u64,
}

impl DiskBase {
    /// Opens the file, or makes it.
    pub fn on(disk: &SimDisk, name: &str, sectors: u64) -> io::Result<Self> {
        let bytes = sectors * SECTOR_BYTES;
        let file = match disk.open(name, Access::Buffered) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = disk.create(name, bytes, Access::Buffered)?;
                file.sync()?;
                disk.sync_folder("")?;
                file
            }
            Err(error) => return Err(error),
        };
        Ok(Self { file, bytes })
    }
}

impl BaseDevice for DiskBase {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read(&self, extent: Extent, buffer: &mut [u8]) -> io::Result<()> {
        let read = self.file.read_at(buffer, extent.start().byte_offset())?;
        if read == buffer.len() { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    fn write(&self, extent: Extent, data: &[u8]) -> io::Result<()> {
        self.file.write_at(&[IoSlice::new(data)], extent.start().byte_offset())
    }

    fn zero(&self, extent: Extent) -> io::Result<()> {
        let zeros = vec![0; usize::try_from(extent.bytes()).map_err(io::Error::other)?];
        self.write(extent, &zeros)
    }

    fn reset(&self) -> io::Result<()> {
        Extent::from_bytes(0, self.bytes).map_or(Ok(()), |all| self.zero(all))
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn holes(&self, _extent: Extent) -> Vec<Extent> {
        Vec::new()
    }
}
