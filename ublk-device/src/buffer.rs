//! The memory of one tag of a queue.
//!
//! Owns its alignment and its life: it is there before the first request of the tag and goes after the queue's ring.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::{Advice, MmapMut};

/// The data of one request: page-aligned (so fit for `O_DIRECT`), as long as the device's largest request.
///
/// For a write, its first bytes are the host's data when the request is handled; for a read they are what the host
/// gets when it is answered. Anything else in it is left over from earlier requests of the same tag.
pub struct IoBuffer(MmapMut);

impl IoBuffer {
    /// A zeroed buffer of this many bytes, rounded up to pages. All of them are there from now on: a machine that is short
    /// of memory may be so because of writes that this buffer is to take, and must not wait for it.
    pub fn new(bytes: usize) -> io::Result<Self> {
        let memory = MmapMut::map_anon(bytes.max(1))?;
        // A wish: a kernel without huge pages refuses it. Else one that makes them of all memory copies this into them
        // sooner or later, which costs more than thousands of requests.
        let _ = memory.advise(Advice::NoHugePage);
        // Not MAP_POPULATE, of which the kernel does nothing where memory is locked when it is used. (Linux 5.14; ublk is of 6.0.)
        memory.advise(Advice::PopulateWrite)?;
        Ok(Self(memory))
    }
}

impl Deref for IoBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for IoBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

impl fmt::Debug for IoBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IoBuffer({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_of_a_buffer_is_there_before_it_is_touched() {
        const BYTES: usize = 256 * 1024;
        let buffer = IoBuffer::new(BYTES).expect("memory");
        let mut resident = vec![0_u8; BYTES / 4096];
        // SAFETY: the range is the buffer's own mapping, and there is a byte for each of its pages.
        let outcome = unsafe { libc::mincore(buffer.as_ptr().cast_mut().cast(), BYTES, resident.as_mut_ptr()) };
        assert_eq!(outcome, 0);
        assert!(resident.iter().all(|page| page & 1 == 1));
    }
}
