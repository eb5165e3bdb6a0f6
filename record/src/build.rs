//! Building a chunk body in ordinary memory.
//!
//! For the journal's own records and for tests; the outbox lays host writes in shared memory with the same layout
//! functions of `chunk`. Owns nothing but the bytes under construction.

use crate::checksum::Salt;
use crate::chunk::{
    BodyHeader, CRC_BYTES, DESCRIPTOR_BYTES, Descriptor, FIXED_BYTES, HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX, block_crc,
    check_shape, header_len, place_payload,
};
use crate::geometry::BLOCK_BYTES;
use crate::ids::JournalId;
use crate::position::{Session, StreamSeq};

/// A chunk body under construction.
#[derive(Debug)]
pub struct BodyBuilder {
    journal: JournalId,
    session: Session,
    first_seq: StreamSeq,
    descriptors: Vec<Descriptor>,
    crcs: Vec<u32>,
    payload: Vec<u8>,
}

/// A finished chunk body: both areas, each a multiple of 4 KiB long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BodyBytes {
    /// The header area.
    pub header: Vec<u8>,
    /// The payload area.
    pub payload: Vec<u8>,
}

impl BodyBuilder {
    /// An empty body of this stream.
    pub fn new(journal: JournalId, session: Session, first_seq: StreamSeq) -> Self {
        Self { journal, session, first_seq, descriptors: Vec::new(), crcs: Vec::new(), payload: Vec::new() }
    }

    /// How many records it holds.
    pub fn len(&self) -> usize {
        self.descriptors.len()
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.descriptors.is_empty()
    }

    /// Adds a record; where its payload lies is decided here. `false`, and nothing added, when the chunk is full (or
    /// the payload longer than any chunk holds). A record that no reader would accept is a mistake of the caller's
    /// and panics.
    pub fn push(&mut self, mut descriptor: Descriptor, payload: &[u8]) -> bool {
        if let Err(why) = check_shape(descriptor.op, descriptor.volume, descriptor.extent, payload.len()) {
            panic!("{} record of {} payload bytes: {why}", descriptor.op, payload.len());
        }
        let at = place_payload(self.payload.len(), payload.len());
        let crcs = payload.len().div_ceil(BLOCK_BYTES);
        if at + payload.len() > PAYLOAD_BYTES_MAX
            || header_len(self.descriptors.len() + 1, self.crcs.len() + crcs) > HEADER_BYTES_MAX
        {
            return false;
        }
        let (Ok(offset), Ok(bytes)) = (u32::try_from(at), u32::try_from(payload.len())) else { return false };
        (descriptor.payload_offset, descriptor.payload_bytes) =
            if payload.is_empty() { (0, 0) } else { (offset, bytes) };
        let start = descriptor.extent.map_or(0, |e| e.start().index());
        let salt = Salt::of(self.journal);
        for (i, block) in payload.chunks(BLOCK_BYTES).enumerate() {
            self.crcs.push(block_crc(salt, block, descriptor.volume, start, i, self.session));
        }
        if !payload.is_empty() {
            self.payload.resize(at, 0);
            self.payload.extend_from_slice(payload);
        }
        self.descriptors.push(descriptor);
        true
    }

    /// Seals the body.
    pub fn finish(mut self) -> BodyBytes {
        self.payload.resize(self.payload.len().next_multiple_of(BLOCK_BYTES), 0);
        let mut header = vec![0u8; header_len(self.descriptors.len(), self.crcs.len())];
        let salt = Salt::of(self.journal);
        let mut at = FIXED_BYTES;
        for (place, descriptor) in (0u32..).zip(&self.descriptors) {
            header[at..at + DESCRIPTOR_BYTES].copy_from_slice(&descriptor.encode(
                salt,
                self.session,
                self.first_seq,
                place,
            ));
            at += DESCRIPTOR_BYTES;
        }
        for crc in &self.crcs {
            header[at..at + CRC_BYTES].copy_from_slice(&crc.to_le_bytes());
            at += CRC_BYTES;
        }
        #[expect(clippy::cast_possible_truncation, reason = "push keeps every length below 4 MiB")]
        let fixed = BodyHeader {
            journal: self.journal,
            session: self.session,
            first_seq: self.first_seq,
            records: self.descriptors.len() as u32,
            crcs: self.crcs.len() as u32,
            header_len: header.len() as u32,
            payload_len: self.payload.len() as u32,
        };
        fixed.seal(&mut header);
        BodyBytes { header, payload: self.payload }
    }
}

#[cfg(test)]
mod tests;
