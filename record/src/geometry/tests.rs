//! Sectors and extents cannot be nonsense, and cutting an extent loses nothing of it.

use super::*;
use proptest::prelude::*;

/// Numbers that lie near the ends of what is allowed as often as anywhere else.
fn number() -> impl Strategy<Value = u64> {
    const LAST: u64 = u64::MAX / SECTOR_BYTES;
    prop_oneof![0..64u64, LAST - 64..=LAST + 64, u64::MAX - 64..=u64::MAX, any::<u64>(), 0..1u64 << 40]
}

fn extent() -> impl Strategy<Value = Extent> {
    (number(), number()).prop_filter_map("not an extent", |(start, count)| Extent::new(start, count))
}

/// Extents so close together that they often meet.
fn near() -> impl Strategy<Value = Extent> {
    (0..40u64, 1..40u64).prop_filter_map("not an extent", |(start, count)| Extent::new(start, count))
}

proptest! {
    #[test]
    fn an_extent_is_never_empty_and_never_wraps(start in number(), count in number()) {
        let last_byte = (u128::from(start) + u128::from(count)) * u128::from(SECTOR_BYTES);
        let allowed = count > 0 && last_byte <= u128::from(u64::MAX);
        let made = Extent::new(start, count);
        prop_assert_eq!(made.is_some(), allowed);
        if let Some(extent) = made {
            prop_assert_eq!(extent.start().index(), start);
            prop_assert_eq!(extent.count().get(), count);
            prop_assert_eq!(extent.end(), start + count);
            prop_assert_eq!(u128::from(extent.start().byte_offset()) + u128::from(extent.bytes()), last_byte);
        }
    }

    #[test]
    fn the_ways_to_name_an_extent_agree(extent in extent()) {
        prop_assert_eq!(Extent::between(extent.start().index(), extent.end()), Some(extent));
        prop_assert_eq!(Extent::from_bytes(extent.start().byte_offset(), extent.bytes()), Some(extent));
        for odd in [1, 511] {
            prop_assert_eq!(Extent::from_bytes(extent.start().byte_offset() + odd, extent.bytes()), None);
            prop_assert_eq!(Extent::from_bytes(extent.start().byte_offset(), extent.bytes() - odd), None);
        }
    }

    #[test]
    fn pieces_cover_an_extent_exactly(extent in extent(), pieces in 1..300u64, rest in 0..8u64) {
        let step = (extent.count().get() / pieces).saturating_add(rest);
        let mut at = extent.start().index();
        for piece in extent.pieces(step) {
            prop_assert_eq!(piece.start().index(), at);
            prop_assert!(piece.count().get() <= step.max(1));
            at = piece.end();
            // Only the last piece may be shorter.
            prop_assert!(piece.count().get() == step.max(1) || at == extent.end());
        }
        prop_assert_eq!(at, extent.end());
    }

    #[test]
    fn overlap_intersection_and_containment_agree_with_counting_sectors(a in near(), b in near()) {
        let sectors = |e: Extent| (e.start().index()..e.end()).collect::<std::collections::BTreeSet<_>>();
        let shared: std::collections::BTreeSet<_> = sectors(a).intersection(&sectors(b)).copied().collect();
        prop_assert_eq!(a.overlaps(b), !shared.is_empty());
        prop_assert_eq!(a.intersection(b).map(sectors).unwrap_or_default(), shared.clone());
        prop_assert_eq!(a.contains(b), shared == sectors(b));
    }

    #[test]
    fn an_extent_fits_a_volume_that_holds_its_last_sector(extent in extent(), size in number()) {
        if let Some(size) = SectorCount::new(size) {
            prop_assert_eq!(extent.fits(size), extent.end() <= size.get());
        }
    }

    #[test]
    fn a_sector_and_a_count_have_a_byte_length(n in number()) {
        prop_assert_eq!(Sector::new(n).map(Sector::byte_offset), n.checked_mul(SECTOR_BYTES));
        prop_assert_eq!(SectorCount::new(n).map(SectorCount::bytes), n.checked_mul(SECTOR_BYTES));
        prop_assert_eq!(SectorCount::from_bytes(n).map(SectorCount::bytes), (n % SECTOR_BYTES == 0).then_some(n));
    }

    #[test]
    fn a_logical_block_is_a_power_of_two_from_512_to_4096(n in prop_oneof![0..10_000u32, any::<u32>()]) {
        let made = LogicalBlock::new(n);
        prop_assert_eq!(made.is_some(), [512, 1024, 2048, 4096].contains(&n));
        if let Some(block) = made {
            prop_assert_eq!(1u32 << block.shift(), n);
        }
    }
}

#[test]
fn an_empty_volume_has_no_extent() {
    assert_eq!(Extent::whole(SectorCount::ZERO), None);
    assert_eq!(Extent::whole(SectorCount::new(8).unwrap()), Extent::new(0, 8));
}

#[test]
fn pieces_of_no_sectors_are_pieces_of_one() {
    let extent = Extent::new(7, 3).unwrap();
    let pieces: Vec<Extent> = extent.pieces(0).collect();
    assert_eq!(pieces, [7, 8, 9].map(|s| Extent::new(s, 1).unwrap()));
}

#[test]
fn extents_are_shown_with_their_unit() {
    assert_eq!(Extent::new(8, 2).unwrap().to_string(), "sectors 8..10");
    assert_eq!(format!("{:?}", Extent::new(8, 2).unwrap()), "[8, 10)");
}
