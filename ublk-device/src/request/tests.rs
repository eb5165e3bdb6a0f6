//! Every descriptor becomes the request that the kernel meant, or an errno: never a panic, never an extent outside.

use proptest::prelude::*;
use record::geometry::{Extent, LogicalBlock, SectorCount};

use super::{Descriptor, FLAG_FUA, FLAG_NOUNMAP, Kind, Limits};
use crate::errno::Errno;

const META: u32 = 1 << 11;
const FAILFAST: u32 = 0b111 << 8;

fn limits() -> Limits {
    Limits {
        size: SectorCount::new(2048).expect("small"),
        block: LogicalBlock::SECTOR,
        max_io_bytes: 512 * 1024,
        read_only: false,
    }
}

fn parse(op_flags: u32, start: u64, sectors: u32) -> Result<Kind, Errno> {
    Descriptor { op_flags, sectors, start }.parse(&limits())
}

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("fits")
}

#[test]
fn every_operation_is_recognised_whatever_hints_come_with_it() {
    for hints in [0, META, FAILFAST, META | FAILFAST] {
        assert_eq!(parse(hints, 7, 1), Ok(Kind::Read(extent(7, 1))));
        assert_eq!(parse(1 | hints, 7, 8), Ok(Kind::Write { extent: extent(7, 8), fua: false }));
        assert_eq!(parse(2 | hints, u64::MAX, 0), Ok(Kind::Flush));
        assert_eq!(parse(3 | hints, 0, 2048), Ok(Kind::Discard(extent(0, 2048))));
        assert_eq!(parse(5 | hints, 1, 5), Ok(Kind::WriteZeroes { extent: extent(1, 5), nounmap: false, fua: false }));
    }
}

#[test]
fn fua_and_nounmap_are_read_from_the_unshifted_word() {
    assert_eq!(parse(1 | 1 << 13, 0, 1), Ok(Kind::Write { extent: extent(0, 1), fua: true }));
    assert_eq!(parse(5 | 1 << 15, 0, 1), Ok(Kind::WriteZeroes { extent: extent(0, 1), nounmap: true, fua: false }));
    assert_eq!(
        parse(5 | FLAG_FUA | FLAG_NOUNMAP, 0, 1),
        Ok(Kind::WriteZeroes { extent: extent(0, 1), nounmap: true, fua: true })
    );
    // What a reader of the shifted word would have taken for FUA and NOUNMAP.
    assert_eq!(parse(1 | 1 << 21, 0, 1), Ok(Kind::Write { extent: extent(0, 1), fua: false }));
    assert_eq!(parse(5 | 1 << 23, 0, 1), Ok(Kind::WriteZeroes { extent: extent(0, 1), nounmap: false, fua: false }));
}

#[test]
fn past_the_end_is_eio() {
    assert_eq!(parse(0, 2047, 1), Ok(Kind::Read(extent(2047, 1))));
    for (start, sectors) in [(2048, 1), (2047, 2), (0, 2049), (u64::MAX, 1), (u64::MAX - 3, 8), (u64::MAX / 512, 1)] {
        for op in [0, 1, 3, 5] {
            if op < 2 && sectors > 1024 {
                continue;
            }
            assert_eq!(parse(op, start, sectors), Err(Errno::EIO), "op {op} at {start}+{sectors}");
        }
    }
}

#[test]
fn empty_unaligned_and_too_large_are_einval() {
    for op in [0, 1, 3, 5] {
        assert_eq!(parse(op, 0, 0), Err(Errno::EINVAL));
    }
    assert_eq!(parse(0, 0, 1024), Ok(Kind::Read(extent(0, 1024))));
    assert_eq!(parse(0, 0, 1025), Err(Errno::EINVAL));
    assert_eq!(parse(1, 0, 1025), Err(Errno::EINVAL));
    let coarse = Limits { block: LogicalBlock::new(4096).expect("valid"), ..limits() };
    for (start, sectors) in [(1, 8), (8, 7), (4, 4)] {
        for op in [0, 1, 3, 5] {
            assert_eq!(Descriptor { op_flags: op, sectors, start }.parse(&coarse), Err(Errno::EINVAL));
        }
    }
    assert_eq!(Descriptor { op_flags: 0, sectors: 8, start: 8 }.parse(&coarse), Ok(Kind::Read(extent(8, 8))));
}

#[test]
fn a_read_only_device_refuses_every_change_and_serves_the_rest() {
    let limits = Limits { read_only: true, ..limits() };
    for op in [1, 3, 5] {
        assert_eq!(Descriptor { op_flags: op, sectors: 1, start: 0 }.parse(&limits), Err(Errno::EROFS));
    }
    assert_eq!(Descriptor { op_flags: 0, sectors: 1, start: 0 }.parse(&limits), Ok(Kind::Read(extent(0, 1))));
    assert_eq!(Descriptor { op_flags: 2, sectors: 0, start: 0 }.parse(&limits), Ok(Kind::Flush));
}

#[test]
fn other_operations_are_refused() {
    for op in (4..=255u32).filter(|op| *op != 5) {
        assert_eq!(parse(op, 0, 1), Err(Errno::EOPNOTSUPP), "op {op}");
    }
}

proptest! {
    #[test]
    fn whatever_comes_the_extent_lies_inside_and_is_aligned(
        op_flags: u32, sectors: u32, start: u64, size in 0u64..1 << 40, shift in 9u32..=12, read_only: bool,
    ) {
        let block = LogicalBlock::new(1 << shift).expect("valid");
        let size = SectorCount::new(size).expect("small");
        let limits = Limits { size, block, max_io_bytes: 512 * 1024, read_only };
        if let Ok(kind) = (Descriptor { op_flags, sectors, start }).parse(&limits) {
            prop_assert!(!(read_only && kind.changes()));
            prop_assert!(kind.data_bytes() <= 512 * 1024);
            if let Some(extent) = kind.extent() {
                prop_assert!(extent.fits(size));
                prop_assert_eq!(extent.start().byte_offset() % u64::from(block.bytes()), 0);
                prop_assert_eq!(extent.bytes() % u64::from(block.bytes()), 0);
            }
        }
    }
}
