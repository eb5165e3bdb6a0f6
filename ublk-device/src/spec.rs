//! What a device is to be, before there is one.
//!
//! Owns the numbers that a caller chooses and the checks that need no kernel. A recovery takes the same value that the
//! start took: the caller remembers it, this crate writes nothing down.

use std::fmt;
use std::path::PathBuf;

use record::geometry::{LogicalBlock, SectorCount};

use crate::error::DeviceError;
use crate::request::Limits;

/// Tags that no request may take, so that a dead process is noticed at once: the kernel learns of the death from an
/// *idle* tag (with all of them in flight it took 30 seconds).
pub(crate) const IDLE_TAGS: u16 = 4;
const DEPTH_MIN: u16 = 8;
const DEPTH_MAX: u16 = 4096;
const PAGE_BYTES: u32 = 4096;
const IO_BYTES_MAX: u32 = 32 << 20;
const PHYSICAL_BLOCK_SECTORS: u64 = 8;

/// Which device: the N of `/dev/ublkbN`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DeviceId(pub u32);

impl DeviceId {
    /// The block device, `/dev/ublkbN`.
    pub fn path(self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkb{}", self.0))
    }

    /// The control side of it, `/dev/ublkcN`: there as long as the device is, even while nobody serves it.
    pub fn char_path(self) -> PathBuf {
        PathBuf::from(format!("/dev/ublkc{}", self.0))
    }

    /// Where the kernel describes the block device.
    pub(crate) fn sysfs(self) -> PathBuf {
        PathBuf::from(format!("/sys/block/ublkb{}", self.0))
    }

    pub(crate) fn char_sysfs(self) -> PathBuf {
        PathBuf::from(format!("/sys/class/ublk-char/ublkc{}", self.0))
    }
}

impl fmt::Display for DeviceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/dev/ublkb{}", self.0)
    }
}

/// Everything that makes up a device. Fixed for its life: on kernels without `UPDATE_SIZE` not even the size can
/// change, and a recovery keeps what the start gave.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceSpec {
    /// The N of `/dev/ublkbN`.
    pub id: DeviceId,
    /// Whose device it is, in errors and logs.
    pub name: String,
    /// Hardware queues, each served by a thread of its own. The kernel gives at most one per CPU.
    pub queues: u16,
    /// Requests that a queue can hold, 8 to 4096. Four of them are kept idle, see `nr_requests` in the kernel.
    pub depth: u16,
    /// Its size, a whole number of logical blocks.
    pub size: SectorCount,
    /// The smallest unit that a host may address.
    pub block: LogicalBlock,
    /// The largest data of one request in bytes: 4 KiB to 32 MiB, whole pages. Larger host writes are split by the
    /// kernel and are then several points in time.
    pub max_io_bytes: u32,
    /// Hosts may only read.
    pub read_only: bool,
    /// The device outlives its process: hosts wait until a successor calls [`crate::recover`], and what was in flight
    /// is delivered to it again. Without, it vanishes with the process and hosts get errors.
    pub recoverable: bool,
    /// The longest discard that comes as one request; zero advertises none.
    pub largest_discard: SectorCount,
    /// The longest write-zeroes that comes as one request; zero makes hosts write zeros as data.
    pub largest_write_zeroes: SectorCount,
}

impl DeviceSpec {
    /// The longest discard and write-zeroes that can be advertised. The kernel's own limit is lower: a block request
    /// has 32 bits of bytes, so a longer one comes in pieces of 4 GiB less 4 KiB.
    pub const LARGEST: SectorCount = match SectorCount::new((u32::MAX / 8 * 8) as u64) {
        Some(count) => count,
        None => SectorCount::ZERO,
    };

    /// A volume: read-write, recoverable, two queues of 64, requests of up to 512 KiB, the largest discards.
    pub fn volume(id: DeviceId, name: &str, size: SectorCount) -> Self {
        Self {
            id,
            name: name.to_owned(),
            queues: 2,
            depth: 64,
            size,
            block: LogicalBlock::SECTOR,
            max_io_bytes: 512 * 1024,
            read_only: false,
            recoverable: true,
            largest_discard: Self::LARGEST,
            largest_write_zeroes: Self::LARGEST,
        }
    }

    /// An image: like a volume, but it vanishes with its process, and one queue of 32 requests of up to 256 KiB does:
    /// its buffers are a quarter as large, and taking them from the machine was half of the time that opening takes.
    pub fn image(id: DeviceId, name: &str, size: SectorCount, read_only: bool) -> Self {
        let volume = Self::volume(id, name, size);
        Self { read_only, recoverable: false, queues: 1, depth: 32, max_io_bytes: 256 * 1024, ..volume }
    }

    /// What its requests must keep to.
    pub fn limits(&self) -> Limits {
        Limits { size: self.size, block: self.block, max_io_bytes: self.max_io_bytes, read_only: self.read_only }
    }

    pub(crate) fn check(&self) -> Result<(), DeviceError> {
        let block_sectors = u64::from(self.block.bytes()) / 512;
        let limit_ok = |limit: SectorCount| {
            limit.get().is_multiple_of(block_sectors.max(PHYSICAL_BLOCK_SECTORS)) && u32::try_from(limit.get()).is_ok()
        };
        let wrong = if self.size == SectorCount::ZERO || !self.size.get().is_multiple_of(block_sectors) {
            format!(
                "its size of {} bytes is not a whole number of {}-byte blocks",
                self.size.bytes(),
                self.block.bytes()
            )
        } else if self.queues == 0 {
            "it has no queue".to_owned()
        } else if !(DEPTH_MIN..=DEPTH_MAX).contains(&self.depth) {
            format!("its queue depth of {} is not from {DEPTH_MIN} to {DEPTH_MAX}", self.depth)
        } else if self.max_io_bytes == 0
            || self.max_io_bytes > IO_BYTES_MAX
            || !self.max_io_bytes.is_multiple_of(PAGE_BYTES)
        {
            format!("its largest request of {} bytes is not whole pages up to 32 MiB", self.max_io_bytes)
        } else if !limit_ok(self.largest_discard) || !limit_ok(self.largest_write_zeroes) {
            "its largest discard or write-zeroes is not a whole number of 4 KiB blocks below 2 TiB".to_owned()
        } else {
            return Ok(());
        };
        Err(DeviceError::InvalidSpec { device: self.id, name: self.name.clone(), wrong })
    }
}
