//! The backing of a volume: one file or block device, whose bytes are the volume's, address for address.
//!
//! Owns opening it exclusively, its geometry, its fingerprint, where it holds data, and the ladder by which a range is
//! made zero. Deliberately knows no order and no record.
//!
//! I/O is direct (`O_DIRECT`) and goes through one open file description, which holds an exclusive `flock`: the kernel
//! lets go of it only when a dead process's own I/O has drained, so a successor that gets the lock touches nothing too
//! early (PROTOCOL R2).

use crate::ring_io::RingIo;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Bytes that a worker reads or writes at once.
pub const PIECE_BYTES: usize = 512 * 1024;

const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;

/// What a backing is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nature {
    /// A regular file.
    File,
    /// A block device.
    Device,
}

/// Why a backing cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BackingError {
    /// There is nothing at that path.
    #[error("backing {0} does not exist")]
    Missing(PathBuf),
    /// It is neither a regular file nor a block device.
    #[error("backing {0} is neither a file nor a block device")]
    WrongNature(PathBuf),
    /// Somebody else uses it.
    #[error("backing {0} is in use: {1}")]
    InUse(PathBuf, String),
    /// Its size cannot be served.
    #[error("backing {0} is too small: {1} bytes, at least {min} are needed", min = Backing::BYTES_MIN)]
    TooSmall(PathBuf, u64),
    /// Its size is not a whole number of blocks.
    #[error("backing {0} has {1} bytes, which is not a whole number of {2}-byte blocks")]
    OddSize(PathBuf, u64, u32),
    /// Direct I/O is not possible on it.
    #[error("backing {0} does not support direct I/O (O_DIRECT), without which a flush could not be trusted")]
    NoDirectIo(PathBuf),
    /// It is one of our own devices.
    #[error("backing {0} is a device of undisk: a volume on a volume would wait for itself")]
    OwnDevice(PathBuf),
    /// The system refused.
    #[error("{1} backing {0}: {2}")]
    Io(PathBuf, &'static str, #[source] io::Error),
}

/// What a clean stop writes down to notice that the backing was touched since. A file: inode, size, mtime, ctime. A
/// device: size and a hash of samples.
#[derive(Clone, PartialEq, Eq, Debug, serde::Serialize, serde::Deserialize)]
#[serde(tag = "of", rename_all = "kebab-case")]
pub enum Fingerprint {
    /// Of a file; times in nanoseconds since 1970 UTC.
    File { inode: u64, bytes: u64, mtime_ns: i64, ctime_ns: i64 },
    /// Of a device: CRC-32C over the first and last mebibyte and 254 samples of 4 KiB between.
    Device { bytes: u64, samples: u32 },
}

/// An open backing.
#[derive(Debug)]
pub struct Backing {
    path: PathBuf,
    file: File,
    nature: Nature,
    size: SectorCount,
    block: LogicalBlock,
    /// Whether it frees ranges, and whether it zeroes them by itself: until it says that it does not.
    punches: AtomicBool,
    zeroes: AtomicBool,
}

impl Backing {
    /// Smallest backing that is served, in bytes: one mebibyte.
    pub const BYTES_MIN: u64 = 1024 * 1024;

    /// Opens a backing and locks it. With `patience` it waits for the lock: a dead predecessor's I/O may still be
    /// draining. Without, a lock that is held is an error at once, and so is anybody else who has the file open.
    pub fn open(path: &Path, patience: Option<Duration>) -> Result<Self, BackingError> {
        let io = |doing| move |error| BackingError::Io(path.into(), doing, error);
        let meta = match std::fs::metadata(path) {
            Ok(meta) => meta,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(BackingError::Missing(path.into()));
            }
            Err(error) => return Err(io("look at")(error)),
        };
        let nature = if meta.file_type().is_block_device() {
            Nature::Device
        } else if meta.is_file() {
            Nature::File
        } else {
            return Err(BackingError::WrongNature(path.into()));
        };
        if nature == Nature::Device && is_ublk(meta.rdev()) {
            return Err(BackingError::OwnDevice(path.into()));
        }
        let exclusive = if nature == Nature::Device { libc::O_EXCL } else { 0 };
        let deadline = Instant::now() + patience.unwrap_or_default();
        let file = loop {
            match OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT | exclusive).open(path) {
                Ok(file) => break file,
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
                    return Err(BackingError::NoDirectIo(path.into()));
                }
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {
                    if Instant::now() >= deadline {
                        let why = "it is mounted, or part of another device (see `lsblk`)";
                        return Err(BackingError::InUse(path.into(), why.into()));
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
                Err(error) => return Err(io("open")(error)),
            }
        };
        let began = Instant::now();
        let mut waited = false;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(std::fs::TryLockError::WouldBlock) if Instant::now() < deadline => {
                    waited = true;
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(std::fs::TryLockError::WouldBlock) => {
                    let why = "another process has locked it (another volume, or a process that is still ending)";
                    return Err(BackingError::InUse(path.into(), why.into()));
                }
                Err(std::fs::TryLockError::Error(error)) => return Err(io("lock")(error)),
            }
        }
        if waited {
            let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(backing = %path.display(), ms, "waited for the I/O of a predecessor to drain");
        }
        if patience.is_none() && nature == Nature::File && is_open_elsewhere(&file) {
            let why = "another process has it open, or it is mounted through a loop device (see `losetup -a`, `lsof`)";
            return Err(BackingError::InUse(path.into(), why.into()));
        }
        let bytes = match nature {
            Nature::File => meta.len(),
            Nature::Device => device_bytes(&file).map_err(io("measure"))?,
        };
        let block = logical_block(&file, nature).map_err(io("ask for the block size of"))?;
        if bytes < Self::BYTES_MIN {
            return Err(BackingError::TooSmall(path.into(), bytes));
        }
        let size = SectorCount::from_bytes(bytes).filter(|_| bytes.is_multiple_of(u64::from(block.bytes())));
        let Some(size) = size else {
            return Err(BackingError::OddSize(path.into(), bytes, block.bytes()));
        };
        Ok(Self {
            path: path.into(),
            file,
            nature,
            size,
            block,
            punches: AtomicBool::new(true),
            zeroes: AtomicBool::new(true),
        })
    }

    /// A backing over a file that is open and locked already, taken for a device of this size: all of it counts as
    /// data, and whoever gives the ring decides what its bytes are. For front ends that are not ublk.
    pub fn over(path: &Path, file: File, size: SectorCount, block: LogicalBlock) -> Self {
        Self {
            path: path.into(),
            file,
            nature: Nature::Device,
            size,
            block,
            punches: AtomicBool::new(true),
            zeroes: AtomicBool::new(true),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What it is.
    pub fn nature(&self) -> Nature {
        self.nature
    }

    /// Its size.
    pub fn size(&self) -> SectorCount {
        self.size
    }

    /// The smallest unit of direct I/O on it.
    pub fn block(&self) -> LogicalBlock {
        self.block
    }

    /// Whether a punch frees space, as far as is known: `false` once it has refused.
    pub fn frees_space(&self) -> bool {
        self.punches.load(Ordering::Relaxed)
    }

    /// Reads an extent into the front of `buf`.
    pub fn read<R: RingIo>(&self, ring: &R, extent: Extent, buf: &mut [u8]) -> impl Future<Output = io::Result<()>> {
        ring.read(&self.file, extent.start().byte_offset(), buf)
    }

    /// Writes an extent.
    pub fn write<R: RingIo>(
        &self,
        ring: &R,
        extent: Extent,
        data: &[u8],
        fua: bool,
    ) -> impl Future<Output = io::Result<()>> {
        ring.write(&self.file, extent.start().byte_offset(), data, fua)
    }

    /// Makes what completed before durable.
    pub async fn flush<R: RingIo>(&self, ring: &R) -> io::Result<()> {
        ring.sync(&self.file).await
    }

    /// Makes an extent read as zeros and frees it where the backing can; where it cannot, zeros are written.
    pub async fn punch<R: RingIo>(&self, ring: &R, extent: Extent) -> io::Result<()> {
        if self.punches.load(Ordering::Relaxed) {
            let offset = extent.start().byte_offset();
            match ring.fallocate(&self.file, PUNCH, offset, extent.bytes()).await {
                Ok(()) => return Ok(()),
                Err(error) if is_unsupported(&error) => {
                    self.punches.store(false, Ordering::Relaxed);
                }
                Err(error) => return Err(error),
            }
        }
        self.zero(ring, extent).await
    }

    /// Makes an extent read as zeros and keeps it allocated.
    pub async fn zero<R: RingIo>(&self, ring: &R, extent: Extent) -> io::Result<()> {
        if self.zeroes.load(Ordering::Relaxed) {
            let offset = extent.start().byte_offset();
            match ring.fallocate(&self.file, ZERO, offset, extent.bytes()).await {
                Ok(()) => return Ok(()),
                Err(error) if is_unsupported(&error) => self.zeroes.store(false, Ordering::Relaxed),
                Err(error) => return Err(error),
            }
        }
        let zeros = AlignedBuffer::new(PIECE_BYTES);
        for piece in extent.pieces((PIECE_BYTES / 512) as u64) {
            let len = usize::try_from(piece.bytes()).map_err(io::Error::other)?;
            ring.write(&self.file, piece.start().byte_offset(), &zeros.bytes()[..len], false).await?;
        }
        Ok(())
    }

    /// The first extent between these sectors that may hold data: with space of its own in a file, all of it on a device.
    /// Another may follow without a gap. In a file, what lies between is a hole now; the caller holds no lock, so a host may
    /// fill it meanwhile, with a record.
    pub fn data_between(&self, from: u64, end: u64) -> io::Result<Option<Extent>> {
        let end = end.min(self.size.get());
        match self.nature {
            Nature::Device => Ok(Extent::between(from, end)),
            Nature::File => {
                let data = allocated::next(&self.file, from * 512, end * 512)?;
                Ok(data.and_then(|data| Extent::between((data.start / 512).max(from), data.end.div_ceil(512).min(end))))
            }
        }
    }

    /// The first extent from sector `from` on that may hold data, as [`Self::data_between`].
    pub fn data_from(&self, from: u64) -> io::Result<Option<Extent>> {
        self.data_between(from, self.size.get())
    }

    /// Bytes that may hold data now: what has space in a file, all of a device.
    pub fn data_bytes(&self) -> io::Result<u64> {
        let (mut at, mut bytes) = (0, 0);
        while let Some(extent) = self.data_from(at)? {
            bytes += extent.bytes();
            at = extent.end();
        }
        Ok(bytes)
    }

    /// The fingerprint of what is there now. Everything written must have been flushed.
    pub fn fingerprint(&self) -> io::Result<Fingerprint> {
        match self.nature {
            Nature::File => {
                let meta = self.file.metadata()?;
                let nanos = |s: i64, n: i64| s * 1_000_000_000 + n;
                Ok(Fingerprint::File {
                    inode: meta.ino(),
                    bytes: meta.len(),
                    mtime_ns: nanos(meta.mtime(), meta.mtime_nsec()),
                    ctime_ns: nanos(meta.ctime(), meta.ctime_nsec()),
                })
            }
            Nature::Device => {
                let mut samples = Vec::new();
                let bytes = self.size.bytes();
                let step = (bytes / 256).next_multiple_of(4096);
                let mut buffer = AlignedBuffer::new(1 << 20);
                for i in 0..256u64 {
                    let (at, len) = match i {
                        0 => (0, 1 << 20),
                        255 => (bytes - (1 << 20), 1 << 20),
                        _ => ((i * step).min(bytes - 4096), 4096),
                    };
                    self.file.read_exact_at(&mut buffer.bytes_mut()[..len], at)?;
                    samples.extend_from_slice(&record::checksum::crc32c(&buffer.bytes()[..len]).to_le_bytes());
                }
                Ok(Fingerprint::Device { bytes, samples: record::checksum::crc32c(&samples) })
            }
        }
    }
}

/// Memory that direct I/O accepts: on a 4 KiB boundary.
#[derive(Debug)]
pub struct AlignedBuffer {
    bytes: Vec<u8>,
    from: usize,
    len: usize,
}

impl AlignedBuffer {
    /// So many zero bytes.
    pub fn new(len: usize) -> Self {
        let bytes = vec![0; len + 4096];
        let from = bytes.as_ptr().align_offset(4096);
        Self { bytes, from, len }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes[self.from..self.from + self.len]
    }

    /// The bytes.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.from..self.from + self.len]
    }
}

fn is_unsupported(error: &io::Error) -> bool {
    // A file system that cannot, a block device that cannot, and one that refuses the alignment.
    matches!(error.raw_os_error(), Some(libc::EOPNOTSUPP | libc::ENOSYS | libc::ENODEV | libc::EINVAL))
}

fn is_ublk(rdev: u64) -> bool {
    let (major, minor) = (nix::sys::stat::major(rdev), nix::sys::stat::minor(rdev));
    let name = std::fs::read_link(format!("/sys/dev/block/{major}:{minor}"));
    name.is_ok_and(|path| path.components().any(|c| c.as_os_str().to_string_lossy().starts_with("ublkb")))
}

/// Whether anybody else has the file open: the kernel grants a write lease only to a sole opener. A file system
/// without leases answers with an error, and then nothing is known.
fn is_open_elsewhere(file: &File) -> bool {
    let lease = |kind: libc::c_int| {
        // SAFETY: F_SETLEASE takes an int and touches no memory of ours; the descriptor is open.
        let result = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    match lease(libc::F_WRLCK) {
        Ok(()) => {
            // Nothing depends on it any more; closing would release it as well.
            let _ = lease(libc::F_UNLCK);
            false
        }
        Err(error) => matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EBUSY)),
    }
}

fn device_bytes(file: &File) -> io::Result<u64> {
    nix::ioctl_read!(blkgetsize64, 0x12, 114, u64);
    let mut bytes = 0u64;
    // SAFETY: BLKGETSIZE64 writes one u64 to the address given, which is that of `bytes`.
    unsafe { blkgetsize64(file.as_raw_fd(), &raw mut bytes) }?;
    Ok(bytes)
}

fn logical_block(file: &File, nature: Nature) -> io::Result<LogicalBlock> {
    let bytes = match nature {
        Nature::Device => {
            nix::ioctl_read_bad!(blksszget, 0x1268, libc::c_int);
            let mut bytes = 0;
            // SAFETY: BLKSSZGET writes one int to the address given, which is that of `bytes`.
            unsafe { blksszget(file.as_raw_fd(), &raw mut bytes) }?;
            u32::try_from(bytes).unwrap_or(512)
        }
        // The file system's word on direct I/O; where it has none (older kernels, tmpfs) sectors are tried.
        Nature::File => direct_io_alignment(file)?.unwrap_or(512),
    };
    LogicalBlock::new(bytes.max(512)).ok_or_else(|| io::Error::other(format!("block size of {bytes} bytes")))
}

fn direct_io_alignment(file: &File) -> io::Result<Option<u32>> {
    let mut answer = std::mem::MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: the empty path is a valid C string, and `statx` writes at most one `struct statx` to the address given.
    let result = unsafe {
        libc::statx(file.as_raw_fd(), c"".as_ptr(), libc::AT_EMPTY_PATH, libc::STATX_DIOALIGN, answer.as_mut_ptr())
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: all bytes are zero or written by the kernel, and every bit pattern is a valid `struct statx`.
    let answer = unsafe { answer.assume_init() };
    let known = answer.stx_mask & libc::STATX_DIOALIGN != 0 && answer.stx_dio_offset_align != 0;
    Ok(known.then_some(answer.stx_dio_offset_align))
}

#[cfg(test)]
mod tests;
