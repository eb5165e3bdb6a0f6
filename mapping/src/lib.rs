//! Shared memory that huge pages can hold.
//!
//! Owns where a file is mapped, and the wish for huge pages behind it. A splitter writes its outbox all day and the appliance
//! reads it all day; in pages of 4 KiB a third of what that costs is finding the pages, here and when the kernel pins them for
//! a write to the disk. tmpfs has huge pages only where an administrator mounted it so, but `MADV_COLLAPSE` (Linux 6.1)
//! puts what is there already into them, whatever the settings say. All of it is a wish: what cannot be had is done
//! without, and nobody is told. Deliberately knows nothing of what is in the memory.

use memmap2::{Mmap, MmapMut, MmapRaw};
use std::io;

/// A huge page of x86-64, and of arm64 with pages of 4 KiB.
pub const HUGE_PAGE: usize = 2 << 20;
/// Most that is put into huge pages, which is copying it once: a larger outbox would keep its volume waiting when it is made.
const COLLAPSED_MAX: usize = 1 << 30;
/// How often a mapping is moved, at most.
const ATTEMPTS: usize = 4;
/// What mappings are multiples of.
const PAGE: usize = 4096;
/// `MADV_COLLAPSE` of `asm-generic/mman-common.h`, which libc has not yet everywhere.
const MADV_COLLAPSE: libc::c_int = 25;

/// Something that is mapped.
pub trait Mapped {
    /// Where it begins.
    fn start(&self) -> *const u8;
    /// Its bytes.
    fn bytes(&self) -> usize;
}

macro_rules! mapped {
    ($($kind:ty),*) => {$(
        impl Mapped for $kind {
            fn start(&self) -> *const u8 {
                self.as_ptr()
            }

            fn bytes(&self) -> usize {
                self.len()
            }
        }
    )*};
}

mapped!(Mmap, MmapMut, MmapRaw);

/// Maps something, at a multiple of [`HUGE_PAGE`] if that can be had, where only huge pages can lie. `map` is called until it is there, and
/// what it gave before is unmapped.
pub fn placed<M: Mapped>(mut map: impl FnMut() -> io::Result<M>) -> io::Result<M> {
    let mut mapped = map()?;
    let bytes = mapped.bytes().next_multiple_of(PAGE);
    if bytes < HUGE_PAGE {
        return Ok(mapped);
    }
    // The kernel takes the highest hole that fits, and its upper end. So a hole of more than is needed is found by taking all of
    // it, and given back but for what makes its upper end too high. Where another hole was taken nevertheless, smaller than
    // that and higher, the next attempt finds it closed by what is kept.
    let mut kept = Vec::new();
    for _ in 0..ATTEMPTS {
        if mapped.start().addr().is_multiple_of(HUGE_PAGE) {
            break;
        }
        let Some(hole) = Hole::take(bytes + HUGE_PAGE) else { break };
        kept.push(mapped);
        let too_high = (hole.end() - bytes) % HUGE_PAGE;
        let pad = hole.keep_upper(too_high);
        mapped = map()?;
        drop(pad);
    }
    Ok(mapped)
}

/// Addresses at which nothing is mapped, and nothing else will be while this is there.
struct Hole {
    start: *mut libc::c_void,
    bytes: usize,
}

impl Hole {
    /// So many bytes of them, a multiple of [`PAGE`].
    fn take(bytes: usize) -> Option<Self> {
        let (protection, flags) = (libc::PROT_NONE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
        #[expect(unsafe_code, reason = "addresses are taken without memory")]
        // SAFETY: a new mapping, wherever there is room, which nobody else knows.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, flags, -1, 0) };
        (start != libc::MAP_FAILED).then_some(Self { start, bytes })
    }

    fn end(&self) -> usize {
        self.start.addr() + self.bytes
    }

    /// Gives back all but so many bytes at the upper end, a multiple of [`PAGE`].
    fn keep_upper(mut self, bytes: usize) -> Self {
        let lower = self.bytes - bytes;
        #[expect(unsafe_code, reason = "addresses are given back")]
        // SAFETY: the range is the lower part of this mapping, in which nobody has anything.
        if unsafe { libc::munmap(self.start, lower) } == 0 {
            (self.start, self.bytes) = (self.start.wrapping_byte_add(lower), bytes);
        }
        self
    }
}

impl Drop for Hole {
    fn drop(&mut self) {
        if self.bytes > 0 {
            #[expect(unsafe_code, reason = "addresses are given back")]
            // SAFETY: all of this mapping, in which nobody has anything.
            let _ = unsafe { libc::munmap(self.start, self.bytes) };
        }
    }
}

/// Puts what is there of a mapping's pages into huge pages, for everybody who maps the file. Takes as long as copying it.
pub fn into_huge_pages(mapped: &impl Mapped) {
    if !mapped.start().addr().is_multiple_of(HUGE_PAGE) || mapped.bytes() > COLLAPSED_MAX {
        return;
    }
    // A wish: an older kernel does not know it, a full one has no huge page left.
    #[expect(unsafe_code, reason = "the kernel is told how to keep memory")]
    // SAFETY: the range is one whole mapping, which lives as long as the borrow. The call changes in which pages the
    // content lies, never the content, nor what may be done with it.
    let _ = unsafe { libc::madvise(mapped.start().cast_mut().cast(), mapped.bytes(), MADV_COLLAPSE) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::fs::File;

    #[test]
    fn what_is_mapped_is_the_file_wherever_it_lies_and_in_whatever_pages() {
        for bytes in [4096, HUGE_PAGE, 3 * HUGE_PAGE + 8192] {
            let file = File::from(memfd_create("mapping", MFdFlags::MFD_CLOEXEC).expect("memfd"));
            file.set_len(bytes as u64).expect("length");
            #[expect(unsafe_code, reason = "shared memory")]
            // SAFETY: the file is this test's own.
            let map = || unsafe { MmapMut::map_mut(&file) };
            let mut written = placed(map).expect("mapped");
            let mut calls = 0;
            let read = placed(|| {
                calls += 1;
                map()
            });
            let read = read.expect("mapped");
            assert!(calls <= ATTEMPTS + 1);
            for (n, byte) in written.iter_mut().enumerate() {
                *byte = (n % 251).to_le_bytes()[0];
            }
            into_huge_pages(&written);
            assert_eq!((written.len(), read.len()), (bytes, bytes));
            assert!(read.iter().enumerate().all(|(n, byte)| *byte == (n % 251).to_le_bytes()[0]));
            written[bytes - 1] = 255;
            assert_eq!(read[bytes - 1], 255, "one memory");
            if bytes >= HUGE_PAGE {
                println!("at {:?} and {:?}", written.start(), read.start());
            }
        }
    }

    #[test]
    fn among_holes_of_every_size_it_lies_where_huge_pages_can() {
        let bytes = 5 * HUGE_PAGE + PAGE;
        let file = File::from(memfd_create("mapping", MFdFlags::MFD_CLOEXEC).expect("memfd"));
        file.set_len(bytes as u64).expect("length");
        // Holes between what is kept: smaller and larger ones than the mapping, none at such a multiple.
        let mut holes = Vec::new();
        let walls: Vec<_> = (1..40_usize)
            .map(|n| {
                holes.push(Hole::take(n * (HUGE_PAGE / 4 + PAGE)).expect("addresses"));
                Hole::take(3 * PAGE).expect("addresses")
            })
            .collect();
        drop(holes);
        #[expect(unsafe_code, reason = "shared memory")]
        // SAFETY: the file is this test's own.
        let mapped = placed(|| unsafe { MmapMut::map_mut(&file) }).expect("mapped");
        assert_eq!(mapped.start().addr() % HUGE_PAGE, 0, "at {:?}", mapped.start());
        drop(walls);
    }

    #[test]
    fn what_cannot_be_mapped_is_an_error() {
        assert!(placed(|| Err::<Mmap, _>(io::Error::other("no"))).is_err());
    }
}
