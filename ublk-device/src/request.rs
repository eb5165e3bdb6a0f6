//! From the kernel's descriptor to a request that cannot be wrong.
//!
//! Pure: no ring, no device, no kernel. Owns the numbers of the operations and flags as ublk writes them, and the
//! checks against size, logical block and buffer; a request that passed them needs no second look. Deliberately does
//! not decide what to do with it.

use record::geometry::{Extent, LogicalBlock, SectorCount};

use crate::errno::Errno;

#[cfg(test)]
mod tests;

/// One request of a host: one record of the journal, one point in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    /// The slot of the queue that it came in; free again once it is answered.
    pub tag: u16,
    /// The queue that it came in.
    pub queue: u16,
    /// What is asked.
    pub kind: Kind,
}

/// What a host asks. Extents lie in the device and are aligned to its logical block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Fill the first `extent.bytes()` of the buffer. All of them: a host sees whatever is left there.
    Read(Extent),
    /// Store the first `extent.bytes()` of the buffer; with `fua` it is durable before the answer.
    Write {
        /// Where.
        extent: Extent,
        /// Durable before the answer.
        fua: bool,
    },
    /// Whatever was answered before this came is durable before the answer.
    Flush,
    /// The extent is free: it reads as zeros afterwards and may become a hole. Of any length.
    Discard(Extent),
    /// The extent reads as zeros afterwards. Of any length.
    WriteZeroes {
        /// Where.
        extent: Extent,
        /// The extent must stay allocated; without it, it may become a hole.
        nounmap: bool,
        /// Durable before the answer.
        fua: bool,
    },
}

impl Kind {
    /// The sectors that it touches; a flush touches none.
    pub const fn extent(self) -> Option<Extent> {
        match self {
            Self::Read(extent)
            | Self::Write { extent, .. }
            | Self::Discard(extent)
            | Self::WriteZeroes { extent, .. } => Some(extent),
            Self::Flush => None,
        }
    }

    /// How many bytes of the buffer are the request's data.
    pub const fn data_bytes(self) -> u64 {
        match self {
            Self::Read(extent) | Self::Write { extent, .. } => extent.bytes(),
            Self::Flush | Self::Discard(_) | Self::WriteZeroes { .. } => 0,
        }
    }

    /// Whether it changes the volume.
    pub const fn changes(self) -> bool {
        match self {
            Self::Write { .. } | Self::Discard(_) | Self::WriteZeroes { .. } => true,
            Self::Read(_) | Self::Flush => false,
        }
    }
}

/// The kernel's descriptor of one request, copied out of the memory that the driver shares.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// Operation in the low 8 bits; flags are bit positions of the whole word, *not* of the word shifted by 8.
    pub op_flags: u32,
    /// Length in sectors.
    pub sectors: u32,
    /// First sector; all ones for a flush.
    pub start: u64,
}

/// What a device's requests must keep to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// The device's size.
    pub size: SectorCount,
    /// Every extent is a multiple of this.
    pub block: LogicalBlock,
    /// The largest data of one request.
    pub max_io_bytes: u32,
    /// Nothing may change.
    pub read_only: bool,
}

// The numbers of `linux/ublk_cmd.h`; `queue.rs` asserts at compile time that libublk has the same ones.
pub(crate) const OP_READ: u32 = 0;
pub(crate) const OP_WRITE: u32 = 1;
pub(crate) const OP_FLUSH: u32 = 2;
pub(crate) const OP_DISCARD: u32 = 3;
pub(crate) const OP_WRITE_ZEROES: u32 = 5;
pub(crate) const FLAG_FUA: u32 = 1 << 13;
pub(crate) const FLAG_NOUNMAP: u32 = 1 << 15;

impl Descriptor {
    /// What the host asks, checked. `EINVAL` for an empty, unaligned or too large request, `EIO` past the end of
    /// the device, `EROFS` for a change of a read-only one, `EOPNOTSUPP` for an operation that is not served.
    pub fn parse(self, limits: &Limits) -> Result<Kind, Errno> {
        let fua = self.op_flags & FLAG_FUA != 0;
        let kind = match self.op_flags & 0xff {
            OP_READ => Kind::Read(self.data_extent(limits)?),
            OP_WRITE => Kind::Write { extent: self.data_extent(limits)?, fua },
            // Its start is all ones and its length zero; neither means anything.
            OP_FLUSH => Kind::Flush,
            OP_DISCARD => Kind::Discard(self.extent(limits)?),
            OP_WRITE_ZEROES => {
                Kind::WriteZeroes { extent: self.extent(limits)?, nounmap: self.op_flags & FLAG_NOUNMAP != 0, fua }
            }
            _ => return Err(Errno::EOPNOTSUPP),
        };
        if limits.read_only && kind.changes() {
            return Err(Errno::EROFS);
        }
        Ok(kind)
    }

    fn data_extent(self, limits: &Limits) -> Result<Extent, Errno> {
        let extent = self.extent(limits)?;
        if extent.bytes() > u64::from(limits.max_io_bytes) {
            return Err(Errno::EINVAL);
        }
        Ok(extent)
    }

    fn extent(self, limits: &Limits) -> Result<Extent, Errno> {
        if self.sectors == 0 {
            return Err(Errno::EINVAL);
        }
        // Not expressible at all is past the end of every device.
        let extent = Extent::new(self.start, u64::from(self.sectors)).ok_or(Errno::EIO)?;
        if !extent.fits(limits.size) {
            return Err(Errno::EIO);
        }
        let block = u64::from(limits.block.bytes());
        if !extent.start().byte_offset().is_multiple_of(block) || !extent.bytes().is_multiple_of(block) {
            return Err(Errno::EINVAL);
        }
        Ok(extent)
    }
}
