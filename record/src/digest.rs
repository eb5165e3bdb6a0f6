//! Content in 32 bytes: equal digests mean equal content, whoever chose the content.
//!
//! Owns which function that is (BLAKE3, `docs/decisions/0009-blake3.md`). Deliberately not what guards blocks on disk
//! and on the wire against accidents: that is `checksum`.

use std::fmt;

/// The BLAKE3 digest of some content.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Of these bytes.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// A digest of these bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes, as they stand on the wire.
    pub const fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in &self.0[..8] {
            write!(f, "{byte:02x}")?;
        }
        f.write_str("...")
    }
}

#[cfg(test)]
mod tests;
