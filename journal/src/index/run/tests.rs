//! How records become entries, and what merging keeps.

use super::merge::{MemoryCursor, Merge};
use super::*;
use std::sync::Arc;

const VOLUME: Incarnation = Incarnation::new(1);

fn run(first: u64, records: &[(u64, u64, Content)]) -> RunData {
    let mut log = Log::from(Position::new(first));
    for (at, (start, count, content)) in (first..).zip(records) {
        log.push(VOLUME, Extent::new(*start, *count).expect("extent"), Position::new(at), *content);
    }
    log.seal(Position::new(first + records.len() as u64 - 1), 0)
}

fn extents(run: &RunData) -> Vec<(u64, Extent)> {
    let mut out = Vec::new();
    for (index, group) in run.groups.iter().enumerate() {
        for entry in run.group(index) {
            let mut of_entry = Vec::new();
            entry.extents(u64::from(group.region) * REGION_SECTORS, &mut of_entry);
            let joined = crate::index::normalise(of_entry);
            out.extend(joined.into_iter().map(|e| (run.id.first.get() + entry.delta(), e)));
        }
    }
    out.sort_unstable_by_key(|(at, extent)| (*at, extent.start()));
    out
}

#[test]
fn a_record_is_cut_at_blocks_and_regions_into_exactly_its_sectors() {
    for (start, count) in
        [(0, 8), (3, 2), (3, 5), (3, 6), (3, 21), (4090, 12), (4095, 2), (4096, 4096), (5, 4096), (0, 1)]
    {
        let run = run(1, &[(start, count, Content::Data)]);
        assert!(run.wide.is_empty());
        let all = extents(&run).into_iter().map(|(_, extent)| extent).collect();
        assert_eq!(crate::index::normalise(all), [Extent::new(start, count).expect("extent")]);
        assert!(run.entries.len() <= 6);
    }
    let wide = run(1, &[(0, 4097, Content::Hole)]);
    assert_eq!((wide.wide.len(), wide.entries.len()), (1, 0));
}

#[test]
fn merging_keeps_what_is_not_covered_by_something_newer() {
    let old = run(1, &[(0, 8, Content::Data), (8, 8, Content::Data), (16, 3, Content::Data), (5000, 8, Content::Data)]);
    let new = run(5, &[(8, 8, Content::Zero), (16, 8, Content::Data), (0, 5, Content::Hole), (0, 5000, Content::Hole)]);
    let id = RunId { first: Position::new(1), last: Position::new(8), level: 1, seal: 0 };
    let cursor = |run: &RunData| Box::new(MemoryCursor::new(Arc::new(run.clone()))) as Box<dyn merge::Cursor>;
    let mut merge = Merge::new(id, vec![cursor(&old), cursor(&new)]);
    let mut building = Building::new(id);
    while !merge.step(1, &mut building).expect("memory") {}
    let merged = building.finish(merge.wide());
    let kept = extents(&merged).into_iter().map(|(at, e)| (at, e.start().index(), e.count().get())).collect::<Vec<_>>();
    // Of the first block sectors 5 to 7 are still the old ones; what is under a wide record is kept.
    assert_eq!(kept, [(1, 0, 8), (4, 5000, 8), (5, 8, 8), (6, 16, 8), (7, 0, 5)]);
    assert_eq!(merged.wide.len(), 1);
}

#[test]
fn many_entries_are_sorted_as_comparing_them_would() {
    for (count, regions, volumes) in [(10, 4, 1), (1500, 3, 1), (3000, 1 << 20, 3), (3000, 1, 1)] {
        let mut log = Log::from(Position::new(5));
        let mut dice = 7_u64;
        for n in 0..count {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (start, sectors) = ((dice >> 20) % (regions * REGION_SECTORS), 1 + (dice >> 50) % 30);
            let volume = Incarnation::new(u32::try_from(1 + (dice >> 40) % volumes).expect("small"));
            let extent = Extent::new(start, sectors).expect("an extent");
            log.push(volume, extent, Position::new(5 + n), Content::Data);
        }
        let mut wanted = log.entries.clone();
        wanted.sort_unstable_by_key(|(key, entry)| (*key, std::cmp::Reverse(*entry)));
        assert!(by_region(log.entries) == wanted, "{count} records over {regions} regions of {volumes} volumes");
    }
}
