//! Grid points: points that stay although they are older than the window.
//!
//! ```text
//! 0 magic u32  4 version u16  8 journal 16  24 count u64  32 count x { position u64, label u64 }, ascending
//! then crc32c, salted, over all before it, and zeros up to a multiple of 4096; and all of it once more
//! ```
//!
//! Owns the file `grid`. It is replaced as a whole, and durable before anything relies on it: before the horizon passes a
//! new one, and before anything is given up that only those needed that are not in it any more (ENGINE 7). Twice, since
//! nothing else says which of the older positions can be opened. Which points these are is decided in `retention`.

use crate::device::Disk;
use crate::error::JournalError;
use crate::mark::u64_at;
use crate::place::GRID;
use crate::superblock::VERSION;
use crate::timeline::At;
use crate::whole;
use record::checksum::Salt;
use record::geometry::BLOCK_BYTES;
use record::ids::JournalId;
use record::position::{Label, Position};
use std::io::{self, ErrorKind};

/// Most grid points of a journal.
pub const GRID_MAX: usize = 65_536;

const MAGIC: u32 = u32::from_le_bytes(*b"UDGP");
const POINTS_AT: usize = 32;
const POINT_BYTES: usize = 16;
const COPIES: usize = 2;

/// The grid points, ascending; none where there is no such file. `None` when both copies are damaged.
pub(crate) fn load(disk: &dyn Disk, journal: JournalId) -> Result<Option<Vec<At>>, JournalError> {
    match whole::read(disk, GRID) {
        Ok(bytes) => {
            let (first, second) = bytes.split_at(bytes.len() / COPIES);
            Ok(decode(first, journal).or_else(|| decode(second, journal)))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Some(Vec::new())),
        Err(source) => {
            Err(JournalError::Io { journal: disk.describe(), doing: format!("read the file {GRID}"), source })
        }
    }
}

/// From now on these are the grid points; durable when it returns.
pub(crate) fn store(disk: &dyn Disk, journal: JournalId, points: &[At]) -> io::Result<()> {
    whole::write(disk, GRID, &encode(journal, points).repeat(COPIES))?;
    disk.sync_folder("")
}

fn encode(journal: JournalId, points: &[At]) -> Vec<u8> {
    let mut out = vec![0u8; POINTS_AT];
    out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
    out[4..6].copy_from_slice(&VERSION.to_le_bytes());
    out[8..24].copy_from_slice(&journal.to_bytes());
    out[24..32].copy_from_slice(&(points.len() as u64).to_le_bytes());
    for point in points {
        out.extend_from_slice(&point.position.get().to_le_bytes());
        out.extend_from_slice(&point.label.nanos().to_le_bytes());
    }
    let crc = Salt::of(journal).header(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    out.resize(out.len().next_multiple_of(BLOCK_BYTES), 0);
    out
}

fn decode(bytes: &[u8], journal: JournalId) -> Option<Vec<At>> {
    let head = bytes.get(..POINTS_AT)?;
    let count = usize::try_from(u64_at(head, 24)).ok().filter(|count| *count <= GRID_MAX)?;
    let end = POINTS_AT + count * POINT_BYTES;
    let (body, crc) = (bytes.get(..end)?, bytes.get(end..end + 4)?);
    if head[0..4] != MAGIC.to_le_bytes()
        || head[4..6] != VERSION.to_le_bytes()
        || head[8..24] != journal.to_bytes()
        || Salt::of(journal).header(body).to_le_bytes() != *crc
    {
        return None;
    }
    let point =
        |bytes: &[u8]| At { position: Position::new(u64_at(bytes, 0)), label: Label::from_nanos(u64_at(bytes, 8)) };
    let points: Vec<At> = body[POINTS_AT..].chunks_exact(POINT_BYTES).map(point).collect();
    points.is_sorted_by(|a, b| a.position < b.position).then_some(points)
}

#[cfg(test)]
mod tests;
