//! A block device, or a file that stands for one, past the page cache.
//!
//! Owns direct I/O, the calls that discard and zero, and what sysfs tells of a device's limits. The only room with
//! system calls that need `unsafe`.

use crate::log::{Kind, Limits};
use anyhow::{Context as _, Result, bail};
use nix::fcntl::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{FileExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

nix::ioctl_write_ptr_bad!(
    /// BLKDISCARD: start and length in bytes.
    block_discard,
    nix::request_code_none!(0x12, 119),
    [u64; 2]
);
nix::ioctl_write_ptr_bad!(
    /// BLKZEROOUT: start and length in bytes.
    block_zero_out,
    nix::request_code_none!(0x12, 127),
    [u64; 2]
);

/// What buffers and places of direct I/O are aligned to.
const ALIGNMENT: usize = 4096;

/// What an open path turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Medium {
    BlockDevice,
    File,
}

/// An open device.
#[derive(Debug)]
pub struct Device {
    file: File,
    medium: Medium,
    /// Sectors in it.
    pub sectors: u64,
    /// Sectors in a logical block.
    pub unit: u64,
    /// What it takes as one request.
    pub limits: Limits,
}

impl Device {
    /// Opens a device to change it. A path that does not exist is refused: a tool that made a file there would test
    /// nothing.
    pub fn open(path: &Path) -> Result<Self> {
        Self::open_with(path, true)
    }

    /// Opens a device, image or file to read it.
    pub fn open_to_read(path: &Path) -> Result<Self> {
        Self::open_with(path, false)
    }

    fn open_with(path: &Path, write: bool) -> Result<Self> {
        let opening = || format!("open {}", path.display());
        let mut options = OpenOptions::new();
        options.read(true).write(write).custom_flags(libc::O_DIRECT);
        let mut file = options
            .open(path)
            // tmpfs of older kernels takes no O_DIRECT; it has no cache to go past either.
            .or_else(|error| match error.raw_os_error() {
                Some(libc::EINVAL) => OpenOptions::new().read(true).write(write).open(path),
                Some(_) | None => Err(error),
            })
            .with_context(opening)?;
        let about = file.metadata().with_context(opening)?;
        let medium = match (about.file_type().is_block_device(), about.is_file()) {
            (true, _) => Medium::BlockDevice,
            (false, true) => Medium::File,
            (false, false) => bail!("{} is neither a block device nor a file", path.display()),
        };
        let sectors = file.seek(SeekFrom::End(0)).with_context(opening)? / 512;
        let (unit, limits) = match medium {
            Medium::BlockDevice => Queue::of(about.rdev())?.limits()?,
            // A file system promises nothing about requests; holes of a file read zero.
            Medium::File => (1, Limits { granularity: 1, discard_zeroes: true, ..Limits::default() }),
        };
        Ok(Self { file, medium, sectors, unit, limits })
    }

    /// Reads into `buffer`, a whole number of sectors, from `sector` on.
    pub fn read(&self, sector: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, sector * 512)
    }

    /// Writes `bytes` at `sector`; with `durable`, as a FUA write.
    pub fn write(&self, sector: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        if !durable {
            return self.file.write_all_at(bytes, sector * 512);
        }
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        let offset = i64::try_from(sector * 512).map_err(io::Error::other)?;
        // SAFETY: the vector names `bytes`, which outlive the call and are only read by it.
        let done = unsafe { libc::pwritev2(self.file.as_raw_fd(), &raw const vector, 1, offset, libc::RWF_DSYNC) };
        match usize::try_from(done) {
            Ok(count) if count == bytes.len() => Ok(()),
            Ok(count) => Err(io::Error::other(format!("wrote {count} of {} bytes", bytes.len()))),
            Err(_) => Err(io::Error::last_os_error()),
        }
    }

    /// Does an operation that carries no data.
    pub fn clear(&self, kind: Kind, sector: u64, sectors: u64) -> io::Result<()> {
        let range = [sector * 512, sectors * 512];
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let zeros = FallocateFlags::FALLOC_FL_ZERO_RANGE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        match (kind, self.medium) {
            (Kind::Flush, _) => self.file.sync_data(),
            (Kind::Discard, Medium::BlockDevice) => {
                // SAFETY: the call reads two numbers behind the pointer, which it is given.
                unsafe { block_discard(self.file.as_raw_fd(), &raw const range) }?;
                Ok(())
            }
            (Kind::Zero, Medium::BlockDevice) => {
                // SAFETY: as above.
                unsafe { block_zero_out(self.file.as_raw_fd(), &raw const range) }?;
                Ok(())
            }
            (Kind::Discard, Medium::File) | (Kind::Punch, _) => self.allocate(hole, range),
            (Kind::Zero, Medium::File) => match self.allocate(zeros, range) {
                // tmpfs, for one, knows no such thing.
                Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.write_zeros(sector, sectors),
                done => done,
            },
            (Kind::Write | Kind::Fua, _) => Err(io::Error::other("a write carries data")),
        }
    }

    fn allocate(&self, flags: FallocateFlags, range: [u64; 2]) -> io::Result<()> {
        let number = |value: u64| i64::try_from(value).map_err(io::Error::other);
        Ok(nix::fcntl::fallocate(&self.file, flags, number(range[0])?, number(range[1])?)?)
    }

    fn write_zeros(&self, sector: u64, sectors: u64) -> io::Result<()> {
        let mut zeros = Buffer::new(1 << 20);
        let end = sector + sectors;
        let mut at = sector;
        while at < end {
            let piece = (end - at).min(2048);
            self.write(at, zeros.first(usize::try_from(piece * 512).unwrap_or(0)), false)?;
            at += piece;
        }
        Ok(())
    }

    /// Whether it takes this kind of operation at all.
    pub fn takes(&self, kind: Kind) -> bool {
        match kind {
            Kind::Discard => self.medium == Medium::File || self.limits.discard > 0,
            // Without write-zeroes, the kernel refuses this one, and writes zeros for the other.
            Kind::Punch => self.medium == Medium::File || self.limits.zero > 0,
            Kind::Write | Kind::Fua | Kind::Zero | Kind::Flush => true,
        }
    }
}

/// What the kernel tells of a device's queue.
struct Queue(PathBuf);

impl Queue {
    fn of(device: u64) -> Result<Self> {
        let (major, minor) = (libc::major(device), libc::minor(device));
        let folder = PathBuf::from(format!("/sys/dev/block/{major}:{minor}"));
        // A partition has its disk's queue.
        let queue = [folder.join("queue"), folder.join("../queue")].into_iter().find(|queue| queue.exists());
        Ok(Self(queue.with_context(|| format!("{} has no queue", folder.display()))?))
    }

    fn number(&self, name: &str) -> Result<u64> {
        let path = self.0.join(name);
        let text = std::fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        text.trim().parse().with_context(|| format!("{}: {:?} is not a number", path.display(), text.trim()))
    }

    fn limits(&self) -> Result<(u64, Limits)> {
        let limits = Limits {
            write: self.number("max_sectors_kb")? * 2,
            discard: self.number("discard_max_bytes")? / 512,
            zero: self.number("write_zeroes_max_bytes")? / 512,
            granularity: (self.number("discard_granularity")? / 512).max(1),
            discard_zeroes: true,
        };
        Ok(((self.number("logical_block_size")? / 512).max(1), limits))
    }
}

/// A buffer that direct I/O takes.
#[derive(Debug)]
pub struct Buffer {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Buffer {
    /// A buffer of `len` bytes.
    pub fn new(len: usize) -> Self {
        let memory = vec![0; len + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT);
        Self { memory, start, len }
    }

    /// Its first `len` bytes.
    pub fn first(&mut self, len: usize) -> &mut [u8] {
        &mut self.memory[self.start..self.start + len.min(self.len)]
    }
}
