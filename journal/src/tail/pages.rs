//! Memory of chunk headers.
//!
//! Owns a page for each chunk that is under way, used again once its write has let go of it: a page of zeros made anew for
//! each chunk would cost more than what is written into it. Never more pages than were under way at once.

use crate::aligned::Aligned;
use record::header::{ChunkHeader, HEADER_BYTES};
use std::sync::Arc;

/// The pages of headers.
#[derive(Debug, Default)]
pub(super) struct Pages(Vec<Arc<Aligned>>);

impl Pages {
    /// A header's bytes, and its checksum.
    pub(super) fn encode(&mut self, header: &ChunkHeader) -> (Arc<Aligned>, u32) {
        for page in &mut self.0 {
            // Nobody else has it: only headers were ever written into it.
            if let Some(bytes) = Arc::get_mut(page).and_then(|bytes| bytes.as_mut_array::<HEADER_BYTES>()) {
                let crc = header.encode_over(bytes);
                return (Arc::clone(page), crc);
            }
        }
        let (bytes, crc) = header.encode();
        let page = Arc::new(Aligned::copy_of(&bytes));
        self.0.push(Arc::clone(&page));
        (page, crc)
    }
}
