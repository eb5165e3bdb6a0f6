//! Which parts of a file have space of their own.
//!
//! Owns the asking. `SEEK_HOLE` calls a hole whatever reads as zeros without a look at the disk, space that was taken and never
//! written (`fallocate`, `FALLOC_FL_ZERO_RANGE`) among it; whoever restores such a hole gives space away that the volume had. So
//! the file system is asked for its extents first (`FS_IOC_FIEMAP` of `linux/fiemap.h`), and where it does not tell, for
//! holes. What lies in the space is not said: it may be zeros.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

/// Extents asked for at once.
const EXTENTS: usize = 32;
/// `FS_IOC_FIEMAP`: `_IOWR('f', 11, struct fiemap)`.
const FS_IOC_FIEMAP: u64 = 0xc020_660b;

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
struct FiemapExtent {
    logical: u64,
    physical: u64,
    length: u64,
    reserved64: [u64; 2],
    flags: u32,
    reserved: [u32; 3],
}

/// `struct fiemap`, with its extents behind it.
#[repr(C)]
struct Fiemap {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
    extents: [FiemapExtent; EXTENTS],
}

/// The first part of `from..end`, in bytes, that has space of its own; another one may follow without a gap. `None`: there is none.
pub fn next(file: &File, from: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    if from >= end {
        return Ok(None);
    }
    match by_extents(file, from, end) {
        Err(error) if matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOTTY | libc::EINVAL)) => {
            by_holes(file, from, end)
        }
        told => told,
    }
}

fn by_extents(file: &File, from: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    #[expect(clippy::cast_possible_truncation, reason = "a handful")]
    let count = EXTENTS as u32;
    let extents = [FiemapExtent::default(); EXTENTS];
    let mut asked = Fiemap { start: from, length: end - from, flags: 0, mapped: 0, count, reserved: 0, extents };
    loop {
        #[expect(unsafe_code, reason = "libc has no such call")]
        // SAFETY: the request is `struct fiemap` followed by as many extents as it says there is room for, as the kernel reads
        // and writes it; it lives until the call is over.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FIEMAP as _, &raw mut asked) };
        if result == 0 {
            break;
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
    let mapped = asked.extents.iter().take(asked.mapped as usize);
    // Newest kernels begin the first one where it was asked for, others where it begins.
    let mut parts = mapped
        .map(|extent| extent.logical.max(from)..extent.logical.saturating_add(extent.length).min(end))
        .filter(|part| !part.is_empty());
    let Some(mut first) = parts.next() else { return Ok(None) };
    for part in parts {
        if part.start > first.end {
            break;
        }
        first.end = first.end.max(part.end);
    }
    Ok(Some(first))
}

fn by_holes(file: &File, from: u64, end: u64) -> io::Result<Option<Range<u64>>> {
    let Some(start) = seek(file, from, libc::SEEK_DATA)?.filter(|start| *start < end) else { return Ok(None) };
    let stop = seek(file, start, libc::SEEK_HOLE)?.unwrap_or(end).min(end);
    Ok(Some(start.max(from)..stop))
}

fn seek(file: &File, from: u64, whence: libc::c_int) -> io::Result<Option<u64>> {
    let from = i64::try_from(from).map_err(io::Error::other)?;
    #[expect(unsafe_code, reason = "a file that is borrowed cannot seek through the library")]
    // SAFETY: lseek touches no memory. Nobody else depends on the file's position: all I/O names its offset.
    let at = unsafe { libc::lseek(file.as_raw_fd(), from, whence) };
    if at >= 0 {
        return u64::try_from(at).map(Some).map_err(io::Error::other);
    }
    let error = io::Error::last_os_error();
    if error.raw_os_error() == Some(libc::ENXIO) { Ok(None) } else { Err(error) }
}

#[cfg(test)]
mod tests;
