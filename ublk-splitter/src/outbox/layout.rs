//! Where things lie in an outbox file (`docs/formats/outbox.md`).
//!
//! ```text
//! page 0        header: static part with checksum, then words that change
//! pages 1..     two control pages a slot: state, first number, reserve word, publish words; payload checksums
//! then          slots: 16 KiB header area, 1 MiB payload area each
//! then          the in-flight table: 32 bytes an entry (`table`)
//! ```
//!
//! Everything the appliance maps is 4 KiB aligned. The file lives on tmpfs and in one boot only: its version may
//! change with any release, and a file of another version is discarded like one of another boot.

use record::chunk::{DESCRIPTOR_BYTES, FIXED_BYTES, header_len};
use record::geometry::BLOCK_BYTES;

/// Bytes of a page of the file.
pub const PAGE: usize = 4096;
/// Bytes of a slot's header area.
pub const HEADER_AREA: usize = 16 * 1024;
/// Bytes of a slot's payload area.
pub const PAYLOAD_AREA: usize = 1024 * 1024;
/// Bytes of a slot with both areas.
pub const SLOT: usize = HEADER_AREA + PAYLOAD_AREA;
/// Control pages of a slot.
pub const CONTROL: usize = 2 * PAGE;
/// Most records in a slot.
pub const RECORDS_MAX: usize = (HEADER_AREA - FIXED_BYTES) / DESCRIPTOR_BYTES;
/// Most payload checksums in a slot.
pub const CRCS_MAX: usize = PAGE / 4;
/// Fewest and most slots of an outbox: two, so that one can fill while the other is on its way; and what a `u32` of
/// megabytes names without doubt.
pub const SLOTS: std::ops::RangeInclusive<usize> = 2..=16 * 1024;

/// First bytes of an outbox.
pub const MAGIC: u32 = u32::from_le_bytes(*b"UDOB");
/// Version of the layout. 1: the first; 2: with an in-flight table.
pub const VERSION: u32 = 2;

/// Bytes of the static part of the header that its checksum covers.
pub const STATIC_BYTES: usize = 128;
/// Where the static part's checksum stands.
pub const STATIC_CRC_AT: usize = 128;
/// Where the words that change stand, each a `u64`.
pub const SESSION_AT: usize = 256;
/// The mode, as a number.
pub const MODE_AT: usize = 264;
/// Everything below this stream number has been released.
pub const RELEASED_AT: usize = 272;
/// The newest label handed out by records that are already released.
pub const LABEL_AT: usize = 280;
/// Why the mode is marking: a length byte, then text.
pub const REASON_AT: usize = 512;
/// Most bytes of that text.
pub const REASON_MAX: usize = 255;

/// In a slot's first control page: its state.
pub const STATE_AT: usize = 0;
/// The stream number of its first record.
pub const FIRST_AT: usize = 8;
/// What is reserved: see [`Reserved`].
pub const RESERVED_AT: usize = 16;
/// The lengths of a sealed slot: header area in the low half, payload area in the high half.
pub const SEALED_AT: usize = 24;
/// One publish word a record, `u32` each.
pub const PUBLISH_AT: usize = 64;

const _: () = assert!(PUBLISH_AT + RECORDS_MAX * 4 <= PAGE, "publish words fit their page");
const _: () = assert!(HEADER_AREA.is_multiple_of(PAGE) && PAYLOAD_AREA.is_multiple_of(PAGE));

/// Where a slot's control pages start.
pub const fn control_at(slot: usize) -> usize {
    PAGE + slot * CONTROL
}

/// Where a slot's header area starts, in an outbox of so many slots.
pub const fn header_at(slot: usize, slots: usize) -> usize {
    PAGE + slots * CONTROL + slot * SLOT
}

/// Where a slot's payload area starts.
pub const fn payload_at(slot: usize, slots: usize) -> usize {
    header_at(slot, slots) + HEADER_AREA
}

/// Where the in-flight table starts.
pub const fn table_at(slots: usize) -> usize {
    header_at(slots, slots)
}

/// Bytes of an outbox of so many slots.
pub const fn file_bytes(slots: usize) -> usize {
    table_at(slots) + super::table::TABLE_BYTES
}

/// What is reserved in a slot. One word, so that a process killed between two stores never leaves half of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reserved {
    /// Records.
    pub records: usize,
    /// Payload checksums.
    pub crcs: usize,
    /// Bytes of the payload area.
    pub payload: usize,
}

impl Reserved {
    /// The word.
    pub const fn pack(self) -> u64 {
        (self.records as u64) | (self.crcs as u64) << 16 | (self.payload as u64) << 32
    }

    /// Reads the word.
    pub const fn unpack(word: u64) -> Self {
        Self { records: (word & 0xffff) as usize, crcs: (word >> 16 & 0xffff) as usize, payload: (word >> 32) as usize }
    }

    /// Whether the numbers can be those of a slot.
    pub const fn is_sane(self) -> bool {
        self.records <= RECORDS_MAX && self.crcs <= CRCS_MAX && self.payload <= PAYLOAD_AREA
    }

    /// With one more record of so many payload bytes: where its payload goes, and what is reserved then. `None` when
    /// the slot is too full for it.
    pub fn with(self, payload_bytes: usize) -> Option<(usize, Self)> {
        let at = record::chunk::place_payload(self.payload, payload_bytes);
        let next = Self {
            records: self.records + 1,
            crcs: self.crcs + payload_bytes.div_ceil(BLOCK_BYTES),
            payload: if payload_bytes == 0 { self.payload } else { at + payload_bytes },
        };
        let fits = next.is_sane() && header_len(next.records, next.crcs) <= HEADER_AREA;
        fits.then_some((at, next))
    }
}
