//! The memory of one tag of a queue.
//!
//! Owns its alignment and its life: it is there before the first request of the tag and goes after the queue's ring.

use std::fmt;
use std::io;
use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// The data of one request: page-aligned (so fit for `O_DIRECT`), as long as the device's largest request.
///
/// For a write, its first bytes are the host's data when the request is handled; for a read they are what the host
/// gets when it is answered. Anything else in it is left over from earlier requests of the same tag.
pub struct IoBuffer(MmapMut);

impl IoBuffer {
    /// A zeroed buffer of this many bytes, rounded up to pages; pages are taken from the machine when first touched.
    pub fn new(bytes: usize) -> io::Result<Self> {
        Ok(Self(MmapMut::map_anon(bytes.max(1))?))
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
