//! The chunk body: what a splitter lays, the link carries and the journal stores, byte for byte.
//!
//! ```text
//! header area (header_len bytes, a multiple of 4096)        payload area (payload_len bytes, a multiple of 4096)
//! | fixed header 128 | descriptor 48 x n | crc 4 x m | 0.. |  | payloads; whole 4 KiB multiples lie 4 KiB aligned |
//! ```
//!
//! `docs/formats/chunk.md` is the byte-exact page. Owns encoding, decoding and checking; deliberately does not know
//! files, slots or sockets. The decoder takes hostile bytes: it never panics, never allocates by an unchecked
//! length, and refuses whatever it does not understand.

use crate::checksum::Salt;
use crate::crcs::Crcs;
use crate::geometry::{BLOCK_BYTES, BLOCK_SECTORS, Extent, SECTOR_BYTES, Sector};
use crate::ids::{Incarnation, JournalId};
use crate::op::{Op, OpFlags};
use crate::position::{Label, Session, StreamSeq};
use crate::zeros::is_zero;

/// First bytes of a chunk body.
pub const MAGIC: u32 = u32::from_le_bytes(*b"UDCB");
/// Version of the chunk body. 1: the first.
pub const VERSION: u16 = 1;
/// Bytes of the fixed header.
pub const FIXED_BYTES: usize = 128;
/// Bytes of one record's descriptor.
pub const DESCRIPTOR_BYTES: usize = 48;
/// Bytes of one payload checksum.
pub const CRC_BYTES: usize = 4;
/// Largest header area that a reader accepts, in bytes.
pub const HEADER_BYTES_MAX: usize = 64 * 1024;
/// Largest payload area that a reader accepts, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Largest payload of a record that is not a WRITE (a bookmark's name, a volume's description), in bytes.
pub const NOTE_BYTES_MAX: usize = 4096;

const CRC_AT: usize = FIXED_BYTES - 4;
/// First byte behind the last field of the fixed header: from here to the checksum it is zeros.
const FIELDS_END: usize = 56;
const SECTOR: usize = 512;
const _: () = assert!(SECTOR as u64 == SECTOR_BYTES && BLOCK_BYTES.is_multiple_of(SECTOR));

/// What one record says, without its payload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptor {
    /// What was done.
    pub op: Op,
    /// How it was asked for.
    pub flags: OpFlags,
    /// To which volume; `Incarnation::NONE` where it concerns none.
    pub volume: Incarnation,
    /// Where; `None` exactly when the operation has no extent.
    pub extent: Option<Extent>,
    /// When, by the group's hybrid logical clock.
    pub label: Label,
    /// The host's wall clock minus the label, in milliseconds, held within 24 days: how far the clock was off.
    pub wall_minus_label_ms: i32,
    /// Where its payload starts in the payload area, in bytes: a multiple of 512.
    pub payload_offset: u32,
    /// Bytes of payload: the extent's for a WRITE, at most `NOTE_BYTES_MAX` for a note, else 0.
    pub payload_bytes: u32,
}

impl Descriptor {
    /// A descriptor without payload.
    pub fn bare(op: Op, volume: Incarnation, extent: Option<Extent>, label: Label) -> Self {
        Self {
            op,
            flags: OpFlags::NONE,
            volume,
            extent,
            label,
            wall_minus_label_ms: 0,
            payload_offset: 0,
            payload_bytes: 0,
        }
    }

    /// How many checksums its payload has.
    pub const fn crc_count(&self) -> usize {
        (self.payload_bytes as usize).div_ceil(BLOCK_BYTES)
    }

    /// The descriptor as bytes, its own checksum included.
    pub fn encode(&self, salt: Salt, session: Session, first: StreamSeq, place: u32) -> [u8; DESCRIPTOR_BYTES] {
        let mut out = [0u8; DESCRIPTOR_BYTES];
        out[0] = self.op.to_u8();
        out[1] = self.flags.bits();
        out[4..8].copy_from_slice(&self.volume.get().to_le_bytes());
        let (start, count) = self.extent.map_or((0, 0), |e| (e.start().index(), e.count().get()));
        out[8..16].copy_from_slice(&start.to_le_bytes());
        out[16..24].copy_from_slice(&count.to_le_bytes());
        out[24..32].copy_from_slice(&self.label.nanos().to_le_bytes());
        out[32..36].copy_from_slice(&self.payload_offset.to_le_bytes());
        out[36..40].copy_from_slice(&self.payload_bytes.to_le_bytes());
        out[40..44].copy_from_slice(&self.wall_minus_label_ms.to_le_bytes());
        let crc = salt.record(&out[..44], session, first.get(), place);
        out[44..48].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// What a descriptor is about, without any check of it: for whoever wrote it. `None` when it has no extent.
    pub fn peek(bytes: &[u8; DESCRIPTOR_BYTES]) -> Option<(Op, Incarnation, Extent)> {
        let extent = Extent::new(u64_at(bytes, 8), u64_at(bytes, 16))?;
        Some((Op::from_u8(bytes[0])?, Incarnation::new(u32_at(bytes, 4)), extent))
    }

    fn decode(bytes: &[u8; DESCRIPTOR_BYTES], payload_len: u32) -> Result<Self, BodyError> {
        let op = Op::from_u8(bytes[0]).ok_or(BodyError::UnknownOp(bytes[0]))?;
        let flags = OpFlags::from_bits(bytes[1]).ok_or(BodyError::Malformed("unknown flag of a record"))?;
        if bytes[2..4] != [0, 0] {
            return Err(BodyError::Malformed("reserved bytes of a record are in use"));
        }
        let (start, count) = (u64_at(bytes, 8), u64_at(bytes, 16));
        let extent = match (start, count) {
            (0, 0) => None,
            (start, count) => Some(Extent::new(start, count).ok_or(BodyError::Malformed("extent is empty or wraps"))?),
        };
        let volume = Incarnation::new(u32_at(bytes, 4));
        let (payload_offset, payload_bytes) = (u32_at(bytes, 32), u32_at(bytes, 36));
        check_shape(op, volume, extent, payload_bytes as usize)?;
        let end = u64::from(payload_offset) + u64::from(payload_bytes);
        if end > u64::from(payload_len) {
            return Err(BodyError::Malformed("payload lies outside the chunk"));
        }
        if place_payload(payload_offset as usize, payload_bytes as usize) != payload_offset as usize {
            return Err(BodyError::Malformed("payload is not aligned"));
        }
        Ok(Self {
            op,
            flags,
            volume,
            extent,
            label: Label::from_nanos(u64_at(bytes, 24)),
            wall_minus_label_ms: i32::from_le_bytes([bytes[40], bytes[41], bytes[42], bytes[43]]),
            payload_offset,
            payload_bytes,
        })
    }
}

/// What every record must be, checked alike before it is built and after it is read: an operation on sectors names a
/// volume and its sectors, a WRITE has exactly its extent's bytes, only a note has other payload.
pub(crate) fn check_shape(
    op: Op,
    volume: Incarnation,
    extent: Option<Extent>,
    payload_bytes: usize,
) -> Result<(), BodyError> {
    if op.has_extent() != extent.is_some() {
        return Err(BodyError::Malformed("extent does not fit the operation"));
    }
    if extent.is_some() && volume == Incarnation::NONE {
        return Err(BodyError::Malformed("extent of no volume"));
    }
    let fits = match op {
        Op::Write => extent.is_some_and(|e| e.bytes() == payload_bytes as u64),
        Op::Punch | Op::Zero | Op::Flush | Op::Noop | Op::Indeterminate | Op::ResyncBegin | Op::ResyncEnd => {
            payload_bytes == 0
        }
        Op::Bookmark
        | Op::BookmarkRemoved
        | Op::Join
        | Op::Joined
        | Op::Leave
        | Op::Rollback
        | Op::Recovery
        | Op::Commit
        | Op::SessionGranted
        | Op::SessionLost
        | Op::Barrier => payload_bytes <= NOTE_BYTES_MAX,
    };
    if fits { Ok(()) } else { Err(BodyError::Malformed("payload length does not fit the operation")) }
}

/// Where the next payload goes in a payload area filled up to `used` bytes: whole multiples of 4 KiB on a 4 KiB
/// boundary, so that they can be read back with direct I/O; the rest packed by sector (ENGINE 29).
pub const fn place_payload(used: usize, bytes: usize) -> usize {
    if bytes > 0 && bytes.is_multiple_of(BLOCK_BYTES) {
        used.next_multiple_of(BLOCK_BYTES)
    } else {
        used.next_multiple_of(SECTOR)
    }
}

/// Where the descriptors and checksums of a header area end, in bytes.
const fn table_end(records: usize, crcs: usize) -> usize {
    FIXED_BYTES + records * DESCRIPTOR_BYTES + crcs * CRC_BYTES
}

/// Bytes of the header area of a chunk with so many records and payload checksums.
pub const fn header_len(records: usize, crcs: usize) -> usize {
    table_end(records, crcs).next_multiple_of(BLOCK_BYTES)
}

/// The fixed header of a chunk body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BodyHeader {
    /// The journal that the chunk is for.
    pub journal: JournalId,
    /// The stream that it belongs to; session 0 is the journal's own stream.
    pub session: Session,
    /// The stream number of its first record.
    pub first_seq: StreamSeq,
    /// How many records.
    pub records: u32,
    /// How many payload checksums.
    pub crcs: u32,
    /// Bytes of the header area.
    pub header_len: u32,
    /// Bytes of the payload area.
    pub payload_len: u32,
}

impl BodyHeader {
    /// Writes the fixed header into `area`, the whole header area with descriptors and checksums already in place and
    /// zeros behind them, and seals it with the checksum over all of it, which is also the answer. `area` must be
    /// `header_len` bytes.
    pub fn seal(&self, area: &mut [u8]) -> u32 {
        assert_eq!(area.len(), self.header_len as usize, "a header area is sealed whole");
        debug_assert!(
            is_zero(&area[table_end(self.records as usize, self.crcs as usize)..]),
            "zeros are behind the table"
        );
        area[..FIXED_BYTES].fill(0);
        area[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        area[4..6].copy_from_slice(&VERSION.to_le_bytes());
        area[8..24].copy_from_slice(&self.journal.to_bytes());
        area[24..32].copy_from_slice(&self.session.get().to_le_bytes());
        area[32..40].copy_from_slice(&self.first_seq.get().to_le_bytes());
        area[40..44].copy_from_slice(&self.records.to_le_bytes());
        area[44..48].copy_from_slice(&self.crcs.to_le_bytes());
        area[48..52].copy_from_slice(&self.header_len.to_le_bytes());
        area[52..56].copy_from_slice(&self.payload_len.to_le_bytes());
        let table = table_end(self.records as usize, self.crcs as usize);
        let crc = Salt::of(self.journal).header_before_zeros(&area[..table], area.len() - table);
        area[CRC_AT..FIXED_BYTES].copy_from_slice(&crc.to_le_bytes());
        crc
    }
}

/// Why bytes are not a chunk body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// They do not begin like one.
    NotAChunk,
    /// A version that this release does not read.
    UnknownVersion(u16),
    /// An operation that this release does not know.
    UnknownOp(u8),
    /// The chunk of another journal.
    OtherJournal(JournalId),
    /// A length or count beyond what any chunk has, or beyond the bytes at hand.
    BadLength,
    /// The checksum over the header area does not match.
    HeaderChecksum,
    /// The checksum of this record's description does not match.
    RecordChecksum(u32),
    /// Checksums match, but what they cover makes no sense.
    Malformed(&'static str),
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotAChunk => f.write_str("not a chunk"),
            Self::UnknownVersion(v) => write!(f, "chunk version {v}, this release reads {VERSION}"),
            Self::UnknownOp(n) => write!(f, "operation {n} is not known to this release"),
            Self::OtherJournal(id) => write!(f, "chunk of journal {id}"),
            Self::BadLength => f.write_str("lengths of the chunk make no sense"),
            Self::HeaderChecksum => f.write_str("checksum of the chunk's header does not match"),
            Self::RecordChecksum(i) => write!(f, "checksum of record {i} of the chunk does not match"),
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for BodyError {}

/// One record of a decoded chunk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// Its number in the stream.
    pub seq: StreamSeq,
    /// What it says.
    pub descriptor: Descriptor,
    /// A checksum for each 4 KiB of its payload, the last one for what is left.
    pub crcs: Crcs,
}

/// A decoded and checked header area.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Body {
    /// The fixed header.
    pub header: BodyHeader,
    /// The checksum that seals the header area: the digest of the whole body, since it covers the payload's
    /// checksums.
    pub digest: u32,
    /// The records, in order.
    pub records: Vec<Record>,
}

impl Body {
    /// Reads only the lengths, so that a caller knows how many bytes to fetch before `decode`.
    pub fn peek(bytes: &[u8]) -> Result<BodyHeader, BodyError> {
        if bytes.len() < FIXED_BYTES || u32_at(bytes, 0) != MAGIC {
            return Err(BodyError::NotAChunk);
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Err(BodyError::UnknownVersion(version));
        }
        let mut journal = [0u8; 16];
        journal.copy_from_slice(&bytes[8..24]);
        let header = BodyHeader {
            journal: JournalId::from_bytes(journal),
            session: Session::new(u64_at(bytes, 24)),
            first_seq: StreamSeq::new(u64_at(bytes, 32)),
            records: u32_at(bytes, 40),
            crcs: u32_at(bytes, 44),
            header_len: u32_at(bytes, 48),
            payload_len: u32_at(bytes, 52),
        };
        let (records, crcs) = (header.records as usize, header.crcs as usize);
        let fits = records <= HEADER_BYTES_MAX / DESCRIPTOR_BYTES
            && crcs <= HEADER_BYTES_MAX / CRC_BYTES
            && header.header_len as usize <= HEADER_BYTES_MAX
            && header.header_len as usize == header_len(records, crcs)
            && header.payload_len as usize <= PAYLOAD_BYTES_MAX
            && (header.payload_len as usize).is_multiple_of(BLOCK_BYTES)
            && header.first_seq.get().checked_add(u64::from(header.records)).is_some();
        if fits { Ok(header) } else { Err(BodyError::BadLength) }
    }

    /// Decodes and checks a header area of a journal.
    pub fn decode(bytes: &[u8], journal: JournalId) -> Result<Self, BodyError> {
        let header = Self::peek(bytes)?;
        if header.journal != journal {
            return Err(BodyError::OtherJournal(header.journal));
        }
        let area = bytes.get(..header.header_len as usize).ok_or(BodyError::BadLength)?;
        let salt = Salt::of(journal);
        let digest = u32_at(area, CRC_AT);
        let mut crc_at = table_end(header.records as usize, 0);
        let crc_end = table_end(header.records as usize, header.crcs as usize);
        let (table, behind) = area.split_at(crc_end);
        let ends_in_zeros = is_zero(behind);
        // To see that they are zeros costs half of what their checksum does.
        let (summed, zeros) = if ends_in_zeros { (table, behind.len()) } else { (area, 0) };
        if salt.header_around(summed, CRC_AT, zeros) != digest {
            return Err(BodyError::HeaderChecksum);
        }
        if !ends_in_zeros || ![6..8, FIELDS_END..CRC_AT].into_iter().all(|range| is_zero(&area[range])) {
            return Err(BodyError::Malformed("reserved bytes of the chunk are in use"));
        }
        let mut records = Vec::with_capacity(header.records as usize);
        for place in 0..header.records {
            let at = FIXED_BYTES + place as usize * DESCRIPTOR_BYTES;
            let mut bytes = [0u8; DESCRIPTOR_BYTES];
            bytes.copy_from_slice(&area[at..at + DESCRIPTOR_BYTES]);
            if salt.record(&bytes[..44], header.session, header.first_seq.get(), place) != u32_at(&bytes, 44) {
                return Err(BodyError::RecordChecksum(place));
            }
            let descriptor = Descriptor::decode(&bytes, header.payload_len)?;
            let end = crc_at + descriptor.crc_count() * CRC_BYTES;
            if end > crc_end {
                return Err(BodyError::Malformed("more payload than checksums"));
            }
            let crcs = area[crc_at..end].chunks_exact(CRC_BYTES).map(|c| u32_at(c, 0)).collect();
            crc_at = end;
            records.push(Record { seq: header.first_seq.plus(u64::from(place)), descriptor, crcs });
        }
        if crc_at != crc_end {
            return Err(BodyError::Malformed("more checksums than payload"));
        }
        Ok(Self { header, digest, records })
    }

    /// The number behind the last record's.
    pub fn next_seq(&self) -> StreamSeq {
        self.header.first_seq.plus(u64::from(self.header.records))
    }

    /// Checks one record's payload (its bytes only, not the whole payload area) and answers with the byte ranges of
    /// it that do not match their checksum, in order; empty when all is well. Blocks that `payload` is too short to
    /// hold are damaged too: what could not be read is never right.
    pub fn damaged_blocks(&self, record: &Record, payload: &[u8]) -> Vec<std::ops::Range<usize>> {
        self.damaged(record, payload, Salt::of(self.header.journal)).collect()
    }

    /// Whether all of a record's payload is what its checksums say; `salt` is that of the chunk's journal.
    pub fn is_sound(&self, record: &Record, payload: &[u8], salt: Salt) -> bool {
        let descriptor = &record.descriptor;
        if let (Some(extent), [crc], BLOCK_BYTES) = (descriptor.extent, &*record.crcs, payload.len())
            && descriptor.payload_bytes as usize == BLOCK_BYTES
        {
            // What most records are.
            return salt.block(payload, descriptor.volume, extent.start(), self.header.session) == *crc;
        }
        self.damaged(record, payload, salt).next().is_none()
    }

    fn damaged(&self, record: &Record, payload: &[u8], salt: Salt) -> impl Iterator<Item = std::ops::Range<usize>> {
        let descriptor = &record.descriptor;
        let start = descriptor.extent.map_or(0, |e| e.start().index());
        let bytes = descriptor.payload_bytes as usize;
        (0..descriptor.crc_count())
            .map(move |i| (i, i * BLOCK_BYTES..bytes.min((i + 1) * BLOCK_BYTES)))
            .filter(move |(i, range)| match (payload.get(range.clone()), record.crcs.get(*i)) {
                (Some(block), Some(crc)) => {
                    block_crc(salt, block, descriptor.volume, start, *i, self.header.session) != *crc
                }
                (None, _) | (_, None) => true,
            })
            .map(|(_, range)| range)
    }
}

/// The checksum of the `index`-th 4 KiB block of a payload whose record starts at sector `start`.
pub fn block_crc(salt: Salt, block: &[u8], volume: Incarnation, start: u64, index: usize, session: Session) -> u32 {
    // An index of at most 4 MiB / 4 KiB cannot carry a valid start past the last sector; a wrapped one only fails
    // the comparison.
    let sector = Sector::new(start.saturating_add(index as u64 * BLOCK_SECTORS));
    salt.block(block, volume, sector.unwrap_or_default(), session)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | (u64::from(u32_at(bytes, at + 4)) << 32)
}

#[cfg(test)]
mod tests;
