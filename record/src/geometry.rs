//! Where on a volume: sectors, counts of sectors and extents.
//!
//! A sector is 512 bytes, whatever the logical block size of a device: file systems with 1 KiB blocks discard at
//! any sector. Owns the arithmetic; deliberately does not know which volume a sector belongs to.

use std::fmt;

/// Bytes in a sector, the unit of every extent.
pub const SECTOR_BYTES: u64 = 512;
/// Bytes covered by one payload checksum and by one index block.
pub const BLOCK_BYTES: usize = 4096;
/// Sectors in one index block.
pub const BLOCK_SECTORS: u64 = BLOCK_BYTES as u64 / SECTOR_BYTES;

/// The index of a 512-byte sector, counted from the start of a volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sector(u64);

impl Sector {
    /// The first sector of a volume.
    pub const ZERO: Self = Self(0);

    /// A sector by its index. The largest index whose byte offset fits `u64` is `u64::MAX / 512`; beyond it the
    /// answer is `None`.
    pub const fn new(index: u64) -> Option<Self> {
        if index <= u64::MAX / SECTOR_BYTES { Some(Self(index)) } else { None }
    }

    /// The index, in sectors.
    pub const fn index(self) -> u64 {
        self.0
    }

    /// The offset of this sector's first byte, in bytes.
    pub const fn byte_offset(self) -> u64 {
        self.0 * SECTOR_BYTES
    }
}

impl fmt::Debug for Sector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s{}", self.0)
    }
}

impl fmt::Display for Sector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// How many sectors; zero is allowed (the size of an empty volume).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SectorCount(u64);

impl SectorCount {
    /// No sector.
    pub const ZERO: Self = Self(0);

    /// A count of sectors whose length in bytes fits `u64`, else `None`.
    pub const fn new(count: u64) -> Option<Self> {
        if count <= u64::MAX / SECTOR_BYTES { Some(Self(count)) } else { None }
    }

    /// The count of a length in bytes, if it is a whole number of sectors.
    pub const fn from_bytes(bytes: u64) -> Option<Self> {
        if bytes.is_multiple_of(SECTOR_BYTES) { Some(Self(bytes / SECTOR_BYTES)) } else { None }
    }

    /// The count, in sectors.
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The length in bytes.
    pub const fn bytes(self) -> u64 {
        self.0 * SECTOR_BYTES
    }
}

impl fmt::Debug for SectorCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

impl fmt::Display for SectorCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A run of sectors: never empty, never past the last sector that a byte offset can name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Extent {
    start: Sector,
    count: SectorCount,
}

impl Extent {
    /// The extent of `count` sectors from `start`; `None` when it would be empty or run past the last sector.
    pub const fn new(start: u64, count: u64) -> Option<Self> {
        if count == 0 {
            return None;
        }
        let Some(end) = start.checked_add(count) else { return None };
        let (Some(start), Some(_), Some(count)) = (Sector::new(start), Sector::new(end), SectorCount::new(count))
        else {
            return None;
        };
        Some(Self { start, count })
    }

    /// The extent between two sectors, `end` not included; `None` when it would be empty.
    pub const fn between(start: u64, end: u64) -> Option<Self> {
        if start >= end { None } else { Self::new(start, end - start) }
    }

    /// The extent of a range of bytes; `None` when either is not a whole number of sectors, or the range is empty.
    pub const fn from_bytes(offset: u64, len: u64) -> Option<Self> {
        if offset.is_multiple_of(SECTOR_BYTES) && len.is_multiple_of(SECTOR_BYTES) {
            Self::new(offset / SECTOR_BYTES, len / SECTOR_BYTES)
        } else {
            None
        }
    }

    /// All of a volume of this size; `None` for an empty one.
    pub const fn whole(size: SectorCount) -> Option<Self> {
        Self::new(0, size.0)
    }

    /// The first sector.
    pub const fn start(self) -> Sector {
        self.start
    }

    /// How many sectors, at least one.
    pub const fn count(self) -> SectorCount {
        self.count
    }

    /// The index of the first sector behind the extent.
    pub const fn end(self) -> u64 {
        self.start.0 + self.count.0
    }

    /// The length in bytes.
    pub const fn bytes(self) -> u64 {
        self.count.bytes()
    }

    /// Whether both share a sector.
    pub const fn overlaps(self, other: Self) -> bool {
        self.start.0 < other.end() && other.start.0 < self.end()
    }

    /// Whether every sector of `other` lies in this extent.
    pub const fn contains(self, other: Self) -> bool {
        self.start.0 <= other.start.0 && other.end() <= self.end()
    }

    /// The sectors that both have.
    pub fn intersection(self, other: Self) -> Option<Self> {
        Self::between(self.start.0.max(other.start.0), self.end().min(other.end()))
    }

    /// Whether the extent lies in a volume of this size.
    pub const fn fits(self, size: SectorCount) -> bool {
        self.end() <= size.0
    }

    /// The extent cut into consecutive pieces of at most `sectors` (at least one) each, in order.
    pub fn pieces(self, sectors: u64) -> impl Iterator<Item = Self> {
        let step = sectors.max(1);
        let (start, end) = (self.start.0, self.end());
        (0..self.count.0.div_ceil(step)).filter_map(move |i| {
            let from = start + i * step;
            Self::between(from, end.min(from.saturating_add(step)))
        })
    }
}

impl fmt::Debug for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}, {})", self.start.0, self.end())
    }
}

impl fmt::Display for Extent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sectors {}..{}", self.start.0, self.end())
    }
}

/// The smallest unit that a device reads and writes, as it advertises it: a power of two from 512 to 4096 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogicalBlock(u32);

impl LogicalBlock {
    /// 512 bytes, one sector.
    pub const SECTOR: Self = Self(512);

    /// A logical block size in bytes; `None` unless it is 512, 1024, 2048 or 4096.
    pub const fn new(bytes: u32) -> Option<Self> {
        if bytes.is_power_of_two() && bytes >= 512 && bytes <= 4096 { Some(Self(bytes)) } else { None }
    }

    /// In bytes.
    pub const fn bytes(self) -> u32 {
        self.0
    }

    /// The power of two that it is (9 for 512).
    pub const fn shift(self) -> u8 {
        #[expect(clippy::cast_possible_truncation, reason = "trailing zeros of a u32 are at most 32")]
        let shift = self.0.trailing_zeros() as u8;
        shift
    }
}

#[cfg(test)]
mod tests;
