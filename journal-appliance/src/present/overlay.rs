//! What is written to a writable image: a bounded scratch file over the past moment, thrown away at closing.
//!
//! Owns which sectors the overlay holds, which read as zeros, and where in the scratch file the former lie. Space is
//! given out in blocks of 4 KiB, but ownership is exact to the sector, so that a damaged block below spoils only the
//! sectors that were never written. Deliberately does not know what lies below: the caller reads it, through
//! [`Below`].

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;

use nix::fcntl::{FallocateFlags, fallocate};
use record::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent, SECTOR_BYTES};

#[cfg(test)]
mod tests;

const ALL: u8 = 0xff;
/// Slots that may come to hold data between two looks at the room that is left: 1 MiB.
const LOOK_SLOTS: usize = 256;

/// Where sectors come from that the overlay does not hold.
pub trait Below {
    /// Why they cannot be read.
    type Error;

    /// Fills `out`, exactly as long as the extent.
    fn read(&self, extent: Extent, out: &mut [u8]) -> Result<(), Self::Error>;
}

/// Whether there is room for more where the scratch file lies. Its own bound is not all: others write there too.
pub trait Room: Send + Sync + std::fmt::Debug {
    /// Looks.
    fn is_left(&self, scratch: &File) -> bool;
}

/// Why the overlay did not take something.
#[derive(Debug, thiserror::Error)]
pub enum OverlayError {
    /// Its bound is reached, or there is no room left where it lies; nothing was changed.
    #[error("the overlay of this image is full")]
    Full,
    /// The scratch file failed.
    #[error("scratch file of the overlay: {0}")]
    Scratch(#[from] io::Error),
}

/// Why a read failed.
#[derive(Debug)]
pub enum ReadError<E> {
    /// The scratch file failed.
    Scratch(io::Error),
    /// What lies below failed.
    Below(E),
}

/// A block of which at least one sector is the overlay's own.
#[derive(Clone, Copy, Debug)]
struct Owned {
    /// Its place in the scratch file, in blocks.
    slot: u32,
    /// Which of its sectors are in the scratch file, one bit each.
    data: u8,
    /// Which read as zeros; disjoint from `data`.
    zero: u8,
}

/// A bounded copy-on-write layer.
#[derive(Debug)]
pub struct Overlay {
    scratch: File,
    slots_max: u32,
    /// Slots from here on were never used.
    fresh: u32,
    free: Vec<u32>,
    blocks: BTreeMap<u64, Owned>,
    /// Runs of whole zero blocks: first block -> the one behind the last. Disjoint from `blocks`, never adjacent.
    zeros: BTreeMap<u64, u64>,
    room: Box<dyn Room>,
    /// Slots that may still come to hold data before the next look at the room.
    unlooked: usize,
}

impl Overlay {
    /// An empty overlay of at most `bytes_max` bytes in an empty scratch file of its own.
    pub fn new(scratch: File, bytes_max: u64, room: Box<dyn Room>) -> Self {
        Self {
            scratch,
            slots_max: u32::try_from(bytes_max / BLOCK_BYTES as u64).unwrap_or(u32::MAX),
            fresh: 0,
            free: Vec::new(),
            blocks: BTreeMap::new(),
            zeros: BTreeMap::new(),
            room,
            unlooked: 0,
        }
    }

    /// Bytes of the scratch file in use.
    pub fn used_bytes(&self) -> u64 {
        self.blocks.len() as u64 * BLOCK_BYTES as u64
    }

    /// The bound, in bytes.
    pub fn max_bytes(&self) -> u64 {
        u64::from(self.slots_max) * BLOCK_BYTES as u64
    }

    /// Fills `out`, exactly as long as the extent, with what a host sees there.
    pub fn read<B: Below>(&self, below: &B, extent: Extent, out: &mut [u8]) -> Result<(), ReadError<B::Error>> {
        assert_eq!(out.len() as u64, extent.bytes(), "a read fills its buffer");
        let mut at = extent.start().index();
        while at < extent.end() {
            let block = at / BLOCK_SECTORS;
            let from = buffer_at(extent, at);
            let end = if let Some(owned) = self.blocks.get(&block) {
                let end = extent.end().min((block + 1) * BLOCK_SECTORS);
                self.read_block(below, block, *owned, at, end, &mut out[from..buffer_at(extent, end)])?;
                end
            } else if let Some(run_end) = self.zero_run_at(block) {
                let end = extent.end().min(run_end * BLOCK_SECTORS);
                out[from..buffer_at(extent, end)].fill(0);
                end
            } else {
                let end = extent.end().min(self.next_own(block).map_or(u64::MAX, |b| b * BLOCK_SECTORS));
                if let Some(piece) = Extent::between(at, end) {
                    below.read(piece, &mut out[from..buffer_at(extent, end)]).map_err(ReadError::Below)?;
                }
                end
            };
            at = end;
        }
        Ok(())
    }

    /// Takes `data`, exactly as long as the extent.
    pub fn write(&mut self, extent: Extent, data: &[u8]) -> Result<(), OverlayError> {
        assert_eq!(data.len() as u64, extent.bytes(), "a write is as long as its extent");
        let parts = parts(extent);
        let missing = parts.clone().filter(|p| !self.blocks.contains_key(&p.block)).count();
        // Every part may split a run of zeros.
        if missing > self.slots_left() || self.zeros.len() + 1 > self.runs_max() {
            return Err(OverlayError::Full);
        }
        self.claim(parts.clone().filter(|p| self.blocks.get(&p.block).is_none_or(|o| o.data == 0)).count())?;
        for part in parts {
            let slot = self.blocks.get(&part.block).map(|o| o.slot);
            let (slot, new) = slot.map_or_else(|| (self.take_slot(), true), |slot| (slot, false));
            let bytes = &data[buffer_at(extent, part.from)..buffer_at(extent, part.end)];
            let at = slot_at(slot) + (part.from % BLOCK_SECTORS) * SECTOR_BYTES;
            if let Err(error) = self.scratch.write_all_at(bytes, at) {
                if new {
                    self.free.push(slot);
                }
                // A scratch file system that fills up is the same to the host as the bound.
                return Err(if error.raw_os_error() == Some(libc::ENOSPC) { OverlayError::Full } else { error.into() });
            }
            let zero = if new && self.leave_zero_run(part.block) { ALL } else { 0 };
            let owned = self.blocks.entry(part.block).or_insert(Owned { slot, data: 0, zero });
            owned.data |= part.mask();
            owned.zero &= !part.mask();
        }
        Ok(())
    }

    /// Makes the extent read as zeros: a discard, or a write of zeros.
    pub fn zero(&mut self, extent: Extent) -> Result<(), OverlayError> {
        let (head, whole, tail) = split(extent);
        let edges = head.into_iter().chain(tail);
        let missing = edges
            .clone()
            .filter(|p| !self.blocks.contains_key(&p.block) && self.zero_run_at(p.block).is_none())
            .count();
        if missing > self.slots_left() || self.zeros.len() + 3 > self.runs_max() {
            return Err(OverlayError::Full);
        }
        for part in edges {
            if self.zero_run_at(part.block).is_some() {
                continue;
            }
            let slot = self.blocks.get(&part.block).map(|o| o.slot);
            let slot = slot.unwrap_or_else(|| self.take_slot());
            let owned = self.blocks.entry(part.block).or_insert(Owned { slot, data: 0, zero: 0 });
            owned.zero |= part.mask();
            owned.data &= !part.mask();
            if owned.zero == ALL {
                self.zero_blocks(part.block, part.block + 1);
            }
        }
        if let Some((first, end)) = whole {
            self.zero_blocks(first, end);
        }
        Ok(())
    }

    fn read_block<B: Below>(
        &self,
        below: &B,
        block: u64,
        owned: Owned,
        from: u64,
        end: u64,
        out: &mut [u8],
    ) -> Result<(), ReadError<B::Error>> {
        let source = |sector: u64| {
            let bit = 1u8 << (sector % BLOCK_SECTORS);
            if owned.data & bit != 0 {
                Source::Scratch
            } else if owned.zero & bit != 0 {
                Source::Zero
            } else {
                Source::Below
            }
        };
        let mut at = from;
        while at < end {
            let kind = source(at);
            let mut stop = at + 1;
            while stop < end && source(stop) == kind {
                stop += 1;
            }
            let bytes = &mut out[sectors_bytes(at - from)..sectors_bytes(stop - from)];
            match kind {
                Source::Scratch => {
                    let offset = slot_at(owned.slot) + (at - block * BLOCK_SECTORS) * SECTOR_BYTES;
                    self.scratch.read_exact_at(bytes, offset).map_err(ReadError::Scratch)?;
                }
                Source::Zero => bytes.fill(0),
                Source::Below => {
                    if let Some(piece) = Extent::between(at, stop) {
                        below.read(piece, bytes).map_err(ReadError::Below)?;
                    }
                }
            }
            at = stop;
        }
        Ok(())
    }

    /// The end of the run of zero blocks that `block` lies in.
    fn zero_run_at(&self, block: u64) -> Option<u64> {
        self.zeros.range(..=block).next_back().filter(|(_, end)| **end > block).map(|(_, end)| *end)
    }

    /// The first block from `block` on that is not wholly the one's below.
    fn next_own(&self, block: u64) -> Option<u64> {
        let owned = self.blocks.range(block..).next().map(|(b, _)| *b);
        let zeros = self.zeros.range(block..).next().map(|(b, _)| *b);
        match (owned, zeros) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (one, None) | (None, one) => one,
        }
    }

    /// Takes one block out of the run of zeros around it; whether there was one.
    fn leave_zero_run(&mut self, block: u64) -> bool {
        let Some((&first, &end)) = self.zeros.range(..=block).next_back() else { return false };
        if end <= block {
            return false;
        }
        self.zeros.remove(&first);
        if first < block {
            self.zeros.insert(first, block);
        }
        if block + 1 < end {
            self.zeros.insert(block + 1, end);
        }
        true
    }

    /// Makes whole blocks zero: gives their slots back and merges the run with its neighbours.
    fn zero_blocks(&mut self, first: u64, end: u64) {
        let mut freed: Vec<u32> = Vec::new();
        while let Some((&block, owned)) = self.blocks.range(first..end).next() {
            freed.push(owned.slot);
            self.blocks.remove(&block);
        }
        self.give_back(freed);
        let (mut first, mut end) = (first, end);
        // Every run that overlaps or touches becomes part of the new one.
        while let Some((&run, &run_end)) = self.zeros.range(..=end).next_back() {
            if run_end < first {
                break;
            }
            self.zeros.remove(&run);
            first = first.min(run);
            end = end.max(run_end);
        }
        self.zeros.insert(first, end);
    }

    fn give_back(&mut self, mut slots: Vec<u32>) {
        slots.sort_unstable();
        for run in slots.chunk_by(|a, b| a + 1 == *b) {
            let len = run.len() * BLOCK_BYTES;
            let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
            if let (Ok(at), Ok(len)) = (i64::try_from(slot_at(run[0])), i64::try_from(len)) {
                // Only frees disk space earlier; a file system that cannot is no trouble.
                let _ = fallocate(self.scratch.as_fd(), hole, at, len);
            }
        }
        self.free.extend(slots);
    }

    /// So many slots more are to hold data: looks at the room now and then, and every time once there is none.
    fn claim(&mut self, slots: usize) -> Result<(), OverlayError> {
        if slots > self.unlooked {
            if !self.room.is_left(&self.scratch) {
                self.unlooked = 0;
                return Err(OverlayError::Full);
            }
            self.unlooked = LOOK_SLOTS.max(slots);
        }
        self.unlooked -= slots;
        Ok(())
    }

    fn slots_left(&self) -> usize {
        (self.slots_max - self.fresh) as usize + self.free.len()
    }

    /// Bounds the memory of a host that zeroes every other block.
    fn runs_max(&self) -> usize {
        (self.slots_max as usize).max(1024)
    }

    /// A slot; the caller has checked that one is left.
    fn take_slot(&mut self) -> u32 {
        self.free.pop().unwrap_or_else(|| {
            assert!(self.fresh < self.slots_max, "slots are counted before they are taken");
            self.fresh += 1;
            self.fresh - 1
        })
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Scratch,
    Zero,
    Below,
}

/// The part of an extent that lies in one block; never empty.
#[derive(Clone, Copy, Debug)]
struct Part {
    block: u64,
    from: u64,
    end: u64,
}

impl Part {
    fn mask(self) -> u8 {
        let first = self.from % BLOCK_SECTORS;
        let count = self.end - self.from;
        (u8::MAX >> (BLOCK_SECTORS - count)) << first
    }
}

fn parts(extent: Extent) -> impl Iterator<Item = Part> + Clone {
    let (start, end) = (extent.start().index(), extent.end());
    (start / BLOCK_SECTORS..end.div_ceil(BLOCK_SECTORS)).map(move |block| Part {
        block,
        from: start.max(block * BLOCK_SECTORS),
        end: end.min((block + 1) * BLOCK_SECTORS),
    })
}

/// An extent as a partial first block, whole blocks and a partial last block.
fn split(extent: Extent) -> (Option<Part>, Option<(u64, u64)>, Option<Part>) {
    let (start, end) = (extent.start().index(), extent.end());
    let (first, last) = (start.div_ceil(BLOCK_SECTORS), end / BLOCK_SECTORS);
    if first > last {
        // Inside one block, touching neither edge.
        return (Some(Part { block: last, from: start, end }), None, None);
    }
    let head = (start < first * BLOCK_SECTORS).then(|| Part {
        block: start / BLOCK_SECTORS,
        from: start,
        end: first * BLOCK_SECTORS,
    });
    let tail = (last * BLOCK_SECTORS < end).then_some(Part { block: last, from: last * BLOCK_SECTORS, end });
    (head, (first < last).then_some((first, last)), tail)
}

fn slot_at(slot: u32) -> u64 {
    u64::from(slot) * BLOCK_BYTES as u64
}

/// Where in the buffer of an extent the sector lies. Buffers are memory, so it fits.
fn buffer_at(extent: Extent, sector: u64) -> usize {
    sectors_bytes(sector - extent.start().index())
}

fn sectors_bytes(sectors: u64) -> usize {
    usize::try_from(sectors * SECTOR_BYTES).unwrap_or(usize::MAX)
}
