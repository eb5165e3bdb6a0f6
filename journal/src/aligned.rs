//! Memory that direct I/O takes: bytes at an address that is a multiple of 4096.
//!
//! Owns the alignment, by taking a page too much and starting inside it; no `unsafe`.

use record::geometry::BLOCK_BYTES;
use std::fmt;
use std::ops::{Deref, DerefMut};

/// Bytes at a page boundary.
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    len: usize,
}

impl Aligned {
    /// `len` zero bytes.
    pub fn zeroed(len: usize) -> Self {
        let memory = vec![0u8; len + BLOCK_BYTES];
        let start = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        Self { memory, start, len }
    }

    /// A copy of some bytes.
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut memory: Vec<u8> = Vec::with_capacity(bytes.len() + BLOCK_BYTES);
        let start = memory.as_ptr().align_offset(BLOCK_BYTES).min(BLOCK_BYTES);
        memory.resize(start, 0);
        memory.extend_from_slice(bytes);
        Self { memory, start, len: bytes.len() }
    }

    /// The bytes as an array; `None`: there are more or fewer.
    pub fn as_mut_array<const N: usize>(&mut self) -> Option<&mut [u8; N]> {
        (&mut **self).try_into().ok()
    }

    /// Whether direct I/O takes these bytes as they lie.
    pub fn is_aligned(bytes: &[u8]) -> bool {
        bytes.as_ptr().align_offset(BLOCK_BYTES) == 0
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.len]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.len]
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} aligned bytes", self.len)
    }
}
