//! The splitter's outbox, as seen from here: a file on tmpfs, mapped read-only.
//!
//! Owns the mapping and the checks before a byte of it is touched. Deliberately writes nothing and trusts no number
//! that came over the link. What a chunk says is decoded elsewhere; here it is only bytes.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap};
use record::chunk::{HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX};
use record::geometry::BLOCK_BYTES;

#[cfg(test)]
mod tests;

/// Where a sealed chunk lies in an outbox, in bytes, as the splitter told it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Place {
    /// Start of its header area.
    pub header_at: u64,
    /// Length of its header area.
    pub header_len: u32,
    /// Start of its payload area.
    pub payload_at: u64,
    /// Length of its payload area.
    pub payload_len: u32,
}

impl Place {
    /// Bytes of both areas.
    pub fn bytes(&self) -> u64 {
        u64::from(self.header_len) + u64::from(self.payload_len)
    }
}

/// A chunk's header area and payload area.
pub type Areas<'a> = (&'a [u8], &'a [u8]);

/// Why an outbox or a place in it cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum OutboxError {
    /// The file.
    #[error("map the outbox {path}: {source}")]
    File {
        /// Where.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A place that no chunk can have.
    #[error("the splitter names a chunk at {place:?} of its outbox of {len} bytes, where none can be")]
    Place {
        /// The place.
        place: Place,
        /// The file's length.
        len: u64,
    },
}

/// A mapped outbox.
#[derive(Debug)]
pub struct Outbox {
    path: PathBuf,
    file: File,
    map: Mmap,
}

impl Outbox {
    /// Maps the file. Absolute paths only: a relative one would mean another file here than there.
    pub fn open(path: &Path) -> Result<Self, OutboxError> {
        let wrong = |source| OutboxError::File { path: path.to_owned(), source };
        if !path.is_absolute() {
            return Err(wrong(io::Error::new(io::ErrorKind::InvalidInput, "the path is not absolute")));
        }
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(wrong)?;
        if !file.metadata().map_err(wrong)?.is_file() {
            return Err(wrong(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        let map = map(&file).map_err(wrong)?;
        Ok(Self { path: path.to_owned(), file, map })
    }

    /// Both areas of a chunk. The bytes are the splitter's; it neither changes nor reuses them before they are
    /// acknowledged as committed, so the slices must not be read after that.
    pub fn chunk(&mut self, place: Place) -> Result<Areas<'_>, OutboxError> {
        let len = self.refresh()?;
        self.areas(place, len)
    }

    /// Both areas of several chunks.
    pub fn chunks(&mut self, places: impl Iterator<Item = Place>) -> Result<Vec<Areas<'_>>, OutboxError> {
        let len = self.refresh()?;
        places.map(|place| self.areas(place, len)).collect()
    }

    /// The file's length now. Looked up each time: touching a page that a shrunken file no longer has would kill
    /// this process. By seeking, which asks for nothing else; nothing is read through the descriptor.
    fn refresh(&mut self) -> Result<u64, OutboxError> {
        let wrong = |source| OutboxError::File { path: self.path.clone(), source };
        let len = self.file.seek(SeekFrom::End(0)).map_err(wrong)?;
        if len > self.map.len() as u64 {
            self.map = map(&self.file).map_err(wrong)?;
        }
        Ok(len)
    }

    fn areas(&self, place: Place, len: u64) -> Result<Areas<'_>, OutboxError> {
        let header = area(place.header_at, place.header_len, HEADER_BYTES_MAX, len).filter(|a| !a.is_empty());
        let payload = area(place.payload_at, place.payload_len, PAYLOAD_BYTES_MAX, len);
        let header = header.and_then(|area| self.map.get(area));
        let payload = payload.and_then(|area| self.map.get(area));
        match (header, payload) {
            (Some(header), Some(payload)) => Ok((header, payload)),
            (_, None) | (None, _) => Err(OutboxError::Place { place, len }),
        }
    }
}

fn area(at: u64, len: u32, max: usize, file: u64) -> Option<std::ops::Range<usize>> {
    let end = at.checked_add(u64::from(len))?;
    let sound = at.is_multiple_of(BLOCK_BYTES as u64)
        && (len as usize).is_multiple_of(BLOCK_BYTES)
        && len as usize <= max
        && end <= file;
    if !sound {
        return None;
    }
    Some(usize::try_from(at).ok()?..usize::try_from(end).ok()?)
}

fn map(file: &File) -> io::Result<Mmap> {
    // SAFETY: the mapping is only read, and only at places that the splitter has sealed: by the protocol it leaves
    // those bytes alone until they are acknowledged as committed, and lengths are checked against the file before
    // each use. Both processes are root's.
    let map = mapping::placed(|| unsafe { Mmap::map(file) })?;
    // A wish: without it each page is there when it is first read.
    let _ = map.advise(Advice::PopulateRead);
    Ok(map)
}
