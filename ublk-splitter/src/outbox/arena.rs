//! The mapped file under an outbox: the only unsafe of the splitter.
//!
//! Owns the mapping and the few ways in which its bytes are touched: whole words, atomically; ranges that one writer
//! owns, by copying. Deliberately knows nothing of records.

use memmap2::{Advice, MmapRaw};
use record::fault::store_happens;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// A file mapped shared, for reading and writing.
#[derive(Debug)]
pub struct Arena {
    map: MmapRaw,
}

impl Arena {
    /// Maps all of a file.
    pub fn map(file: &File) -> io::Result<Self> {
        let map = mapping::placed(|| MmapRaw::map_raw(file))?;
        let arena = Self { map };
        arena.populate();
        Ok(arena)
    }

    /// Puts it into huge pages. Takes as long as copying it, so not while hosts wait for a successor.
    pub fn settle(&self) {
        mapping::into_huge_pages(&self.map);
        // The pages are others now.
        self.populate();
    }

    /// Has all pages there now: space that was taken for the file and never written would be made zeros under the first
    /// write. A wish: without it each page is there when it is first touched.
    fn populate(&self) {
        let _ = self.map.advise(Advice::PopulateWrite);
    }

    fn check(&self, at: usize, len: usize, align: usize) {
        assert!(
            at.checked_add(len).is_some_and(|end| end <= self.map.len()) && at.is_multiple_of(align),
            "an outbox is touched only inside its bounds: {len} bytes at {at} of {}",
            self.map.len()
        );
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        self.check(at, 8, 8);
        // SAFETY: the eight bytes lie in the mapping (checked above), which lives as long as `self` and starts on a
        // page, so they are aligned; every access of this program to them is atomic. The appliance maps the file
        // read-only and never touches these pages.
        unsafe { AtomicU64::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    fn half(&self, at: usize) -> &AtomicU32 {
        self.check(at, 4, 4);
        // SAFETY: as for `word`, with four bytes.
        unsafe { AtomicU32::from_ptr(self.map.as_mut_ptr().add(at).cast()) }
    }

    /// Loads a `u64`; what was stored before it by the thread that stored it is visible from here on.
    pub fn load(&self, at: usize) -> u64 {
        self.word(at).load(Ordering::Acquire)
    }

    /// Stores a `u64` behind everything that this thread wrote before.
    pub fn store(&self, at: usize, value: u64) {
        if !store_happens() {
            return;
        }
        self.word(at).store(value, Ordering::Release);
    }

    /// Loads a `u32` like [`Self::load`].
    pub fn load_half(&self, at: usize) -> u32 {
        self.half(at).load(Ordering::Acquire)
    }

    /// Stores a `u32` like [`Self::store`].
    pub fn store_half(&self, at: usize, value: u32) {
        if !store_happens() {
            return;
        }
        self.half(at).store(value, Ordering::Release);
    }

    /// Copies bytes in. The caller owns the range: nobody else reads or writes it until the caller says so with a
    /// store that the other side loads.
    pub fn write(&self, at: usize, bytes: &[u8]) {
        if !store_happens() {
            return;
        }
        self.check(at, bytes.len(), 1);
        // SAFETY: the range lies in the mapping (checked above); it cannot overlap `bytes`, which the type system
        // keeps out of the mapping: no reference into it is ever handed out. A concurrent reader sees bytes only
        // after a release store (publish word, slot state) that follows this copy.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.map.as_mut_ptr().add(at), bytes.len());
        }
    }

    /// Copies bytes out; the caller has seen, by a load, that their writer is done with them.
    pub fn read(&self, at: usize, len: usize) -> Vec<u8> {
        let mut out = vec![0; len];
        self.read_into(at, &mut out);
        out
    }

    /// The same, into memory of the caller's.
    pub fn read_into(&self, at: usize, out: &mut [u8]) {
        self.check(at, out.len(), 1);
        // SAFETY: the range lies in the mapping (checked above), and `out` does not: no reference into it is ever handed out.
        unsafe {
            std::ptr::copy_nonoverlapping(self.map.as_ptr().add(at), out.as_mut_ptr(), out.len());
        }
    }
}
