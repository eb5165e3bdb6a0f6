//! Taking a segment out of the journal.
//!
//! Deliberately does not decide which: that is retention's.

use super::Journal;
use crate::lock::lock;
use crate::place::SegmentNumber;
use std::io;

impl Journal {
    /// Takes a segment out; answers with the bytes that left the journal. Whoever calls vouches that nobody needs any of
    /// it, and that this is durable: what only it holds is gone. Not part of the interface: for who measures, and tests.
    #[doc(hidden)]
    pub fn retire(&self, number: SegmentNumber) -> io::Result<u64> {
        let bytes = lock(&self.tail).retire(number)?;
        self.reader.core.files.forget(number);
        Ok(bytes)
    }
}
