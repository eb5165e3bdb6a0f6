//! Where the replica of a volume goes: a sparse file of our own, or a file or block device that was given.
//!
//! Owns the checks before anything is written there: not in use, not too small, nothing on it. What a replica holds
//! belongs to the journal.

use std::ffi::OsString;
use std::fs::{File, FileType, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use control::error::ControlError;
use nix::unistd::{Whence, lseek64};
use record::geometry::SectorCount;

#[cfg(test)]
mod tests;

/// Bytes at each end of a device that must be zero before it is taken.
const LOOK_BYTES: u64 = 1 << 20;

/// What a path is, as far as a replica cares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Found {
    /// Nothing is there: a sparse file is made.
    Nothing,
    /// An empty file, or one that is nothing but a hole.
    EmptyFile,
    /// A block device, large enough, with zeros at both ends.
    Device,
}

/// Looks whether a replica of this size can go there. `others` are the replicas that there are already.
pub fn look(path: &Path, size: SectorCount, others: &[PathBuf]) -> Result<Found, ControlError> {
    let name = path.display();
    let refused =
        |why: String| ControlError::refused(format!("{name} cannot be a replica: {why}; nothing was changed"));
    if !path.is_absolute() {
        return Err(ControlError::usage(format!("{name} cannot be a replica: the path must be absolute")));
    }
    let meta = match std::fs::metadata(path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().unwrap_or(Path::new("/"));
            return if parent.is_dir() {
                Ok(Found::Nothing)
            } else {
                Err(ControlError::not_found(format!(
                    "{name} cannot be a replica: there is no folder {}",
                    parent.display()
                )))
            };
        }
        Err(e) => return Err(ControlError::failed(format!("cannot look at the replica {name}: {e}"))),
    };
    if let Some(other) = others.iter().find(|other| same(&meta, other)) {
        return Err(refused(format!("it is the replica of another volume already ({})", other.display())));
    }
    let kind = meta.file_type();
    if kind.is_file() {
        return match empty_file(path, &meta) {
            Ok(true) => Ok(Found::EmptyFile),
            Ok(false) => Err(refused(format!("it holds {} bytes of something", meta.len()))
                .hint("give a path where nothing is, or remove that file if nobody needs it")),
            Err(e) => Err(ControlError::failed(format!("cannot look at the replica {name}: {e}"))),
        };
    }
    if !kind.is_block_device() {
        return Err(refused(format!("it is {}, neither a file nor a block device", describe(kind))));
    }
    // Exclusively: fails while it is mounted or part of something else.
    let device =
        OpenOptions::new().read(true).custom_flags(libc::O_EXCL | libc::O_CLOEXEC).open(path).map_err(|e| {
            match e.raw_os_error() {
                Some(libc::EBUSY) => refused("it is in use (mounted, or part of another device)".to_owned()),
                Some(_) | None => ControlError::failed(format!("cannot open the replica {name}: {e}")),
            }
        })?;
    let looked = || -> io::Result<(u64, bool)> {
        let end = u64::try_from(lseek64(&device, 0, Whence::SeekEnd)?).unwrap_or(0);
        let clean = zeros(&device, 0, end.min(LOOK_BYTES))? && zeros(&device, end.saturating_sub(LOOK_BYTES), end)?;
        Ok((end, clean))
    };
    let (bytes, clean) = looked().map_err(|e| ControlError::failed(format!("cannot read the replica {name}: {e}")))?;
    if bytes < size.bytes() {
        return Err(refused(format!("it has {bytes} bytes, the volume {}", size.bytes())));
    }
    if !clean {
        return Err(refused("it holds data".to_owned()).hint(format!("if nobody needs it: blkdiscard -z {name}")));
    }
    Ok(Found::Device)
}

/// Makes what [`look`] found fit for a replica; whether a file was made that may be deleted again.
pub fn make(path: &Path, size: SectorCount, found: Found) -> Result<bool, ControlError> {
    let failed = |e: io::Error| ControlError::failed(format!("cannot make the replica {}: {e}", path.display()));
    match found {
        Found::Nothing => {
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
            let made = file.set_len(size.bytes()).and_then(|()| file.sync_all()).and_then(|()| sync_parent(path));
            made.map(|()| true).map_err(|e| {
                let _ = std::fs::remove_file(path);
                failed(e)
            })
        }
        Found::EmptyFile => {
            let file = OpenOptions::new().write(true).open(path).map_err(failed)?;
            file.set_len(size.bytes()).and_then(|()| file.sync_all()).map(|()| false).map_err(failed)
        }
        Found::Device => Ok(false),
    }
}

/// Makes durable that a folder has an entry, or has not.
pub fn sync_parent(path: &Path) -> io::Result<()> {
    File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()
}

/// The replica of a volume among its group's files.
pub fn usual_path(folder: &Path, incarnation: u32) -> PathBuf {
    let mut name = OsString::from("replica-");
    name.push(incarnation.to_string());
    name.push(".img");
    folder.join(name)
}

fn same(meta: &std::fs::Metadata, other: &Path) -> bool {
    std::fs::metadata(other).is_ok_and(|other| {
        if meta.file_type().is_block_device() {
            other.file_type().is_block_device() && other.rdev() == meta.rdev()
        } else {
            (other.dev(), other.ino()) == (meta.dev(), meta.ino())
        }
    })
}

fn empty_file(path: &Path, meta: &std::fs::Metadata) -> io::Result<bool> {
    if meta.len() == 0 {
        return Ok(true);
    }
    match lseek64(File::open(path)?, 0, Whence::SeekData) {
        Ok(_) => Ok(false),
        // No data from here to the end.
        Err(nix::errno::Errno::ENXIO) => Ok(true),
        Err(e) => Err(e.into()),
    }
}

fn zeros(device: &File, from: u64, end: u64) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    let mut at = from;
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        device.read_exact_at(&mut buffer[..want], at)?;
        if buffer[..want].iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += want as u64;
    }
    Ok(true)
}

fn describe(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_char_device() {
        "a character device"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_fifo() {
        "a pipe"
    } else {
        "something else"
    }
}
