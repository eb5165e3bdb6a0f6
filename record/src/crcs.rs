//! The checksums of a record's payload.
//!
//! Owns how they are kept: most payloads are one block, and their one checksum needs no memory of its own.

use std::ops::Deref;

/// Checksums, one for each 4 KiB of a payload, the last one for what is left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Crcs(Kept);

/// One is never kept as several: equal checksums are kept alike.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Kept {
    One(u32),
    Several(Box<[u32]>),
}

impl FromIterator<u32> for Crcs {
    fn from_iter<I: IntoIterator<Item = u32>>(crcs: I) -> Self {
        let mut crcs = crcs.into_iter();
        let Some(first) = crcs.next() else { return Self(Kept::Several(Box::default())) };
        match crcs.next() {
            None => Self(Kept::One(first)),
            Some(second) => Self(Kept::Several([first, second].into_iter().chain(crcs).collect())),
        }
    }
}

impl Deref for Crcs {
    type Target = [u32];

    fn deref(&self) -> &[u32] {
        match &self.0 {
            Kept::One(crc) => std::slice::from_ref(crc),
            Kept::Several(crcs) => crcs,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_what_was_collected() {
        for count in 0..5 {
            let crcs: Crcs = (0..count).collect();
            assert_eq!(*crcs, *(0..count).collect::<Vec<_>>());
        }
    }
}
