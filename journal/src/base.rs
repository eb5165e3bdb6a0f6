//! The replica volume: the content that a volume joined with.
//!
//! Owns access to it as a sparse file or a block device. In this first engine only initial synchronisation writes
//! it; images read through to it.

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};
use record::geometry::{Extent, SECTOR_BYTES};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;

/// Bytes of zeros written at once where nothing else makes zeros.
const ZEROS_BYTES: usize = 1 << 20;

/// Where a volume's joined content is.
pub trait BaseDevice: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn bytes(&self) -> io::Result<u64>;
    /// Reads all of the buffer.
    fn read(&self, extent: Extent, buffer: &mut [u8]) -> io::Result<()>;
    /// Writes.
    fn write(&self, extent: Extent, data: &[u8]) -> io::Result<()>;
    /// Makes exactly these sectors read zero, freeing their space where it can.
    fn zero(&self, extent: Extent) -> io::Result<()>;
    /// Makes exactly these sectors read zero, with space of their own where it can.
    fn allocate_zeros(&self, extent: Extent) -> io::Result<()> {
        self.zero(extent)
    }
    /// Makes all of it read zero, freeing its space where it can.
    fn reset(&self) -> io::Result<()>;
    /// Makes it durable.
    fn sync(&self) -> io::Result<()>;
    /// The parts of an extent that have no space allocated, in address order; none when that is not known.
    fn holes(&self, extent: Extent) -> Vec<Extent>;
}

/// A sparse file or a block device.
#[derive(Debug)]
pub struct FileBase {
    file: File,
    bytes: u64,
    is_device: bool,
}

impl FileBase {
    /// Opens a replica that exists. One that is shorter than `bytes` is refused: what it lost would read as zeros.
    pub fn open(path: &Path, bytes: u64, writable: bool) -> io::Result<Self> {
        let base = Self::look(path, bytes, writable)?;
        let has = base.length()?;
        if has < bytes { Err(too_short(has, bytes)) } else { Ok(base) }
    }

    /// Opens, for writing, the replica of a volume that is only joining, whose content is still to come: a regular
    /// file shorter than `bytes` is extended with a hole; a device that is too small is refused.
    pub fn open_joining(path: &Path, bytes: u64) -> io::Result<Self> {
        let base = Self::look(path, bytes, true)?;
        let has = base.length()?;
        if has < bytes {
            if base.is_device {
                return Err(too_short(has, bytes));
            }
            base.file.set_len(bytes)?;
        }
        Ok(base)
    }

    fn look(path: &Path, bytes: u64, writable: bool) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(writable).open(path)?;
        let kind = file.metadata()?.file_type();
        let is_device = kind.is_block_device();
        if !is_device && !kind.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "neither a regular file nor a block device"));
        }
        Ok(Self { file, bytes, is_device })
    }

    fn length(&self) -> io::Result<u64> {
        (&self.file).seek(SeekFrom::End(0))
    }

    /// Zeroes a range of bytes: as a hole, or with zeros where no hole can be made.
    fn punch(&self, start: u64, len: u64) -> io::Result<()> {
        // On a block device the kernel zeroes for this, unmapping, and refuses when it cannot (it never leaves
        // stale data); ZERO_RANGE writes the zeros if need be.
        self.zeroed(&[FallocateFlags::FALLOC_FL_PUNCH_HOLE, FallocateFlags::FALLOC_FL_ZERO_RANGE], start, len)
    }

    /// Zeroes a range of bytes by the first of these means that there is, or with zeros.
    fn zeroed(&self, modes: &[FallocateFlags], start: u64, len: u64) -> io::Result<()> {
        let (Ok(offset), Ok(length)) = (i64::try_from(start), i64::try_from(len)) else {
            return Err(ErrorKind::FileTooLarge.into());
        };
        for mode in modes {
            match fallocate(&self.file, *mode | FallocateFlags::FALLOC_FL_KEEP_SIZE, offset, length) {
                Ok(()) => return Ok(()),
                Err(Errno::EOPNOTSUPP | Errno::EINVAL) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        let zeros = vec![0u8; ZEROS_BYTES];
        let end = start + len;
        let mut at = start;
        while at < end {
            #[expect(clippy::cast_possible_truncation, reason = "at most 1 MiB")]
            let step = (end - at).min(ZEROS_BYTES as u64) as usize;
            self.file.write_all_at(&zeros[..step], at)?;
            at += step as u64;
        }
        Ok(())
    }
}

fn too_short(has: u64, bytes: u64) -> io::Error {
    let why = format!("it was cut short: it has {has} bytes, the volume has {bytes}");
    io::Error::new(ErrorKind::InvalidInput, why)
}

impl BaseDevice for FileBase {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.bytes)
    }

    fn read(&self, extent: Extent, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, extent.start().byte_offset())
    }

    fn write(&self, extent: Extent, data: &[u8]) -> io::Result<()> {
        self.file.write_all_at(data, extent.start().byte_offset())
    }

    fn zero(&self, extent: Extent) -> io::Result<()> {
        self.punch(extent.start().byte_offset(), extent.bytes())
    }

    fn allocate_zeros(&self, extent: Extent) -> io::Result<()> {
        self.zeroed(&[FallocateFlags::FALLOC_FL_ZERO_RANGE], extent.start().byte_offset(), extent.bytes())
    }

    fn reset(&self) -> io::Result<()> {
        if self.is_device {
            return self.punch(0, self.bytes);
        }
        self.file.set_len(0)?;
        self.file.set_len(self.bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    fn holes(&self, extent: Extent) -> Vec<Extent> {
        let (mut at, end) = (extent.start().byte_offset(), extent.end() * SECTOR_BYTES);
        let mut holes = Vec::new();
        if self.is_device {
            return holes;
        }
        while at < end {
            let Ok(data) = allocated::next(&self.file, at, end) else { return Vec::new() };
            let data = data.unwrap_or(end..end);
            // Rounded inwards: a sector that is a hole only in part holds data.
            holes.extend(Extent::between(at.div_ceil(SECTOR_BYTES), data.start / SECTOR_BYTES));
            at = data.end;
        }
        holes
    }
}
