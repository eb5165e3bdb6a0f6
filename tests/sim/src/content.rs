//! What stands in a sector: which request wrote it, and that it was meant for there.
//!
//! Owns the bytes that stand for a request's number, and reading them back. Every write of a world has content of its
//! own, so a sector tells who wrote it.

use record::geometry::Extent;

/// Bytes of a sector.
pub const SECTOR: usize = 512;

/// What a sector holds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Cell {
    /// Zeros.
    Zero,
    /// What the request of this number wrote; 0: what the volume began with.
    Of(u64),
    /// Nothing that anybody wrote there.
    Garbage,
    /// Refused, as it must be: the journal's copy has gone bad.
    Refused,
}

fn place(volume: u32, sector: u64) -> u64 {
    (u64::from(volume) << 48 | sector).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1
}

/// The bytes of an extent as a request writes them.
pub fn bytes(op: u64, volume: u32, extent: Extent) -> Vec<u8> {
    let mut out = Vec::with_capacity(usize::try_from(extent.bytes()).unwrap_or(0));
    for sector in extent.start().index()..extent.end() {
        for _ in 0..SECTOR / 16 {
            out.extend_from_slice(&op.to_le_bytes());
            out.extend_from_slice(&place(volume, sector).to_le_bytes());
        }
    }
    out
}

/// What stands in these sectors of a volume, from `first` on.
pub fn cells(volume: u32, first: u64, bytes: &[u8]) -> Vec<Cell> {
    bytes.chunks_exact(SECTOR).zip(first..).map(|(sector, at)| cell(volume, at, sector)).collect()
}

fn cell(volume: u32, at: u64, sector: &[u8]) -> Cell {
    let (head, rest) = sector.split_at(16);
    if !rest.chunks_exact(16).all(|part| part == head) {
        return Cell::Garbage;
    }
    if head.iter().all(|byte| *byte == 0) {
        return Cell::Zero;
    }
    let word = |from: usize| head[from..from + 8].iter().rev().fold(0u64, |word, byte| word << 8 | u64::from(*byte));
    if word(8) == place(volume, at) { Cell::Of(word(0)) } else { Cell::Garbage }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sector_tells_who_wrote_it_and_only_where_it_was_written() {
        let extent = Extent::new(7, 3).unwrap();
        let written = bytes(12, 2, extent);
        assert_eq!(cells(2, 7, &written), vec![Cell::Of(12); 3]);
        assert_eq!(cells(2, 8, &written), vec![Cell::Garbage; 3], "moved by a sector");
        assert_eq!(cells(1, 7, &written), vec![Cell::Garbage; 3], "on another volume");
        assert_eq!(cells(1, 7, &[0; 512]), vec![Cell::Zero]);
        let mut torn = written[..512].to_vec();
        torn[500] ^= 1;
        assert_eq!(cells(2, 7, &torn), vec![Cell::Garbage]);
    }
}
