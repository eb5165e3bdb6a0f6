//! The real disk: a directory, through the system calls.
//!
//! Owns flags and fall-backs: `O_DIRECT` where the file system takes it, the page cache with `O_DSYNC` where not.
//! The lock is `flock` on the directory. That alone does not keep a dead process's writes away: what it had in its
//! ring may be under way when its file descriptors are closed. So a file that a ring writes is locked by the very open
//! file that is written through, which the kernel lets go of only when the last write is done, and a successor waits
//! for that (PROTOCOL R2). Everything else is synchronous system calls, which end before the process does.

use super::{Access, Disk, DiskFile, Flight};
use crate::lock::lock;
use nix::fcntl::{FallocateFlags, Flock, FlockArg, fallocate};
use nix::sys::uio::pwritev;
use record::geometry::BLOCK_BYTES;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, IoSlice};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

#[expect(unsafe_code, reason = "the kernel reads memory while a write is under way")]
mod ring;

use ring::Ring;

/// Most slices that one system call takes (`IOV_MAX`).
const SLICES_MAX: usize = 1024;
/// Parts of a write for which no memory is taken: a chunk has no more.
const PARTS_FEW: usize = 4;

/// A directory of the file system.
#[derive(Debug)]
pub struct RealDisk {
    root: PathBuf,
    /// What its files are written through when several writes are to be under way; made when it is first needed.
    ring: Arc<Mutex<Ring>>,
}

impl RealDisk {
    /// The directory at `root`, which must exist by the time it is used.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into(), ring: Arc::default() }
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    fn path(&self, name: &str) -> PathBuf {
        if name.is_empty() { self.root.clone() } else { self.root.join(name) }
    }

    fn file(&self, file: File) -> RealFile {
        RealFile { file, ring: self.ring.clone(), locked: AtomicBool::new(false) }
    }
}

impl Disk for RealDisk {
    fn describe(&self) -> String {
        self.root.display().to_string()
    }

    fn lock(&self) -> io::Result<Box<dyn Send + Sync>> {
        let directory = File::open(&self.root)?;
        match Flock::lock(directory, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Box::new(lock)),
            Err((_, errno)) => Err(errno.into()),
        }
    }

    fn wait_for_writers(&self, name: &str) -> io::Result<()> {
        // The lock goes with the file.
        File::open(self.path(name))?.lock()
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(self.path(folder))? {
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    fn make_folder(&self, folder: &str) -> io::Result<()> {
        fs::create_dir_all(self.path(folder))
    }

    fn create(&self, name: &str, bytes: u64, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let path = self.path(name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let made = open_as(&path, &mut options, access).and_then(|file| {
            allocate(&file, bytes)?;
            Ok(file)
        });
        match made {
            Ok(file) => Ok(Arc::new(self.file(file))),
            Err(error) => {
                // Nothing half made stays behind; that it cannot be removed changes nothing for the caller.
                let _ = fs::remove_file(&path);
                Err(error)
            }
        }
    }

    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>> {
        let mut options = OpenOptions::new();
        options.read(true).write(match access {
            Access::Read => false,
            Access::Durable | Access::Buffered => true,
        });
        let file = open_as(&self.path(name), &mut options, access)?;
        Ok(Arc::new(self.file(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path(from), self.path(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path(name))
    }

    fn aside(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()> {
        // It inherits what the thread that asks has said of itself (PR_SET_IO_FLUSHER).
        thread::Builder::new().name("journal-aside".into()).spawn(work).map(drop)
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        File::open(self.path(folder))?.sync_all()
    }
}

/// Opens with the flags that `access` asks for; without `O_DIRECT` where the file system refuses it.
fn open_as(path: &Path, options: &mut OpenOptions, access: Access) -> io::Result<File> {
    use nix::fcntl::OFlag;
    let (direct, always) = match access {
        Access::Read => (true, OFlag::empty()),
        Access::Durable => (true, OFlag::O_DSYNC),
        Access::Buffered => (false, OFlag::empty()),
    };
    if direct {
        match options.custom_flags((always | OFlag::O_DIRECT).bits()).open(path) {
            Err(error) if error.kind() == ErrorKind::InvalidInput => {}
            other => return other,
        }
    }
    options.custom_flags(always.bits()).open(path)
}

/// Extends a file to `bytes`, with space behind every one of them, so that a later write cannot meet a full disk.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    let from = file.metadata()?.len();
    if bytes <= from {
        return Ok(());
    }
    let (Ok(offset), Ok(len)) = (i64::try_from(from), i64::try_from(bytes - from)) else {
        return Err(ErrorKind::FileTooLarge.into());
    };
    match fallocate(file, FallocateFlags::empty(), offset, len) {
        Ok(()) => Ok(()),
        Err(nix::errno::Errno::EOPNOTSUPP) => write_zeros(file, from, bytes),
        Err(errno) => Err(errno.into()),
    }
}

/// What `fallocate` does, on a file system that has none of it.
fn write_zeros(file: &File, from: u64, to: u64) -> io::Result<()> {
    let zeros = crate::aligned::Aligned::zeroed(1 << 20);
    let mut at = from;
    while at < to {
        let step = (to - at).min(zeros.len() as u64);
        // At most 1 MiB.
        #[expect(clippy::cast_possible_truncation, reason = "a step is at most 1 MiB")]
        file.write_all_at(&zeros[..step as usize], at)?;
        at += step;
    }
    Ok(())
}

#[derive(Debug)]
struct RealFile {
    file: File,
    ring: Arc<Mutex<Ring>>,
    /// Whether this open file holds the lock on what it writes.
    locked: AtomicBool,
}

impl RealFile {
    /// Nobody else writes the file through a ring, now and until the last write through this one is done.
    fn lock_for_flight(&self) -> io::Result<()> {
        if !self.locked.load(Ordering::Relaxed) {
            self.file.try_lock()?;
            self.locked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }
}

impl DiskFile for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.file.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            // A regular file stops short only at its end, and a direct read must not go on off the alignment.
            if !done.is_multiple_of(BLOCK_BYTES) {
                break;
            }
        }
        Ok(done)
    }

    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        Some(self.file.as_fd())
    }

    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()> {
        let mut offset = offset;
        for group in slices.chunks(SLICES_MAX) {
            let (mut few, mut many) = ([IoSlice::new(&[]); PARTS_FEW], Vec::new());
            let mut left = if let Some(few) = few.get_mut(..group.len()) {
                few.copy_from_slice(group);
                few
            } else {
                many.extend_from_slice(group);
                &mut many[..]
            };
            IoSlice::advance_slices(&mut left, 0);
            while !left.is_empty() {
                let at = i64::try_from(offset).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
                match pwritev(&self.file, left, at) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(n) => {
                        offset += n as u64;
                        IoSlice::advance_slices(&mut left, n);
                    }
                    Err(nix::errno::Errno::EINTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(())
    }

    fn fly<'b>(&self, alone: bool, steps: &mut dyn FnMut(&mut dyn Flight<'b>)) {
        let refused = self.lock_for_flight().err();
        if alone {
            // The ring would give a durable write to a thread of its own, and wake this one when it is done.
            Ring::Nowhere.fly(self, &self.file, refused, steps);
        } else {
            lock(&self.ring).fly(self, &self.file, refused, steps);
        }
    }

    fn allocated(&self) -> io::Result<u64> {
        // st_blocks counts in units of 512 bytes, whatever the file system's own are.
        Ok(self.file.metadata()?.blocks() * 512)
    }

    fn punch(&self, bytes: Range<u64>) -> io::Result<()> {
        let (Ok(offset), Ok(len)) = (i64::try_from(bytes.start), i64::try_from(bytes.end - bytes.start)) else {
            return Err(ErrorKind::FileTooLarge.into());
        };
        let mode = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match fallocate(&self.file, mode, offset, len) {
            // Where no hole can be made the room stays taken, and is used again.
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        if bytes < self.len()? { self.file.set_len(bytes) } else { allocate(&self.file, bytes) }
    }
}
