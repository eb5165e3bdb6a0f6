//! The head map against a list of every sector's version, and against what it must cost.

use super::*;
use kit::Rng;

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("extent")
}

fn at(n: u64) -> Position {
    Position::new(n)
}

/// Sectors of a bit more than two tracts' ends, so that borders of every level are crossed.
const TRACT_SECTORS: u64 = TRACT_BLOCKS * BLOCK_SECTORS;

type Version = Option<(Position, Home)>;

struct Model {
    map: HeadMap,
    /// Where the window of sectors that is remembered starts.
    from: u64,
    sectors: Vec<Version>,
}

impl Model {
    fn check(&self) {
        let all = extent(self.from, self.sectors.len() as u64);
        let mut next = all.start().index();
        self.map.resolve(all, |part, version| {
            assert_eq!(part.start().index(), next, "without a gap");
            next = part.end();
            for sector in part.start().index()..part.end() {
                let expected = self.sectors[index(sector - self.from)];
                assert_eq!(version, expected, "sector {sector}");
            }
        });
        assert_eq!(next, all.end());
    }

    fn insert(&mut self, start: u64, count: u64, position: u64, content: Content) {
        self.map.insert(extent(start, count), at(position), content);
        let version = Some((at(position), Home::Record(content)));
        let end = (start + count).min(self.from + self.sectors.len() as u64);
        for sector in start.max(self.from)..end {
            self.sectors[index(sector - self.from)] = version;
        }
    }
}

#[test]
fn every_sector_has_the_newest_version_across_borders_of_regions_and_tracts() {
    for seed in Rng::seeds(1, 20) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let window = 20_000;
        let from = TRACT_SECTORS - window / 2;
        let sectors = vec![Some((Position::ORIGIN, Home::Base)); index(window)];
        let mut model = Model { map: HeadMap::new(), from, sectors };
        for position in 1..200 {
            let content = [Content::Data, Content::Zero, Content::Hole][rng.index(3)];
            let longest = [9, 70, 5000, 12_000][rng.index(4)];
            let count = 1 + rng.below(longest);
            let mut start = from + rng.below(window - count);
            if rng.one_in(2) {
                start -= start % 8;
            }
            model.insert(start, count, position, content);
            if rng.one_in(60) {
                // Whole tracts, and both of them.
                model.insert(0, TRACT_SECTORS * (1 + rng.below(2)), position, content);
            }
            if rng.one_in(80) {
                model.map.forget();
                model.sectors.fill(None);
            }
            if rng.one_in(20) {
                model.check();
            }
        }
        model.check();
    }
}

#[test]
fn a_block_keeps_no_more_than_its_newest_version() {
    let mut map = HeadMap::new();
    for position in 1..10_000 {
        map.insert(extent(16, 8), at(position), Content::Data);
        map.insert(extent(24 + position % 8, 1), at(position), Content::Data);
    }
    let tract = TRACT_REGIONS * size_of::<Region>() + size_of::<Detail>() + 34 * 1024;
    assert!(map.heap_bytes() < tract, "{} bytes", map.heap_bytes());
    let Tract::Detailed(detail) = &map.tracts[0] else { panic!("a written tract") };
    assert_eq!(detail.parts.len(), 1);
    assert_eq!(detail.parts[&3].len(), 8);
    // A whole write folds it back.
    map.insert(extent(24, 8), at(10_000), Content::Data);
    assert_eq!(map.block(24), Some((at(10_000), Home::Record(Content::Data))));
}

#[test]
fn a_discard_of_everything_frees_all_of_it_a_little_at_a_time() {
    let mut map = HeadMap::new();
    for tract in 0..16 {
        for region in 0..64 {
            map.insert(extent(tract * TRACT_SECTORS + region * 4096, 8), at(1 + tract), Content::Data);
        }
    }
    let before = map.heap_bytes();
    map.insert(extent(0, 16 * TRACT_SECTORS), at(100), Content::Hole);
    assert_eq!(map.dying.len(), 16, "nothing is freed in the change itself");
    assert!(map.heap_bytes() + 512 >= before);
    for position in 0..16 * 64 {
        map.insert(extent(0, TRACT_SECTORS), at(101 + position), Content::Hole);
    }
    assert!(map.dying.is_empty());
    assert!(map.heap_bytes() < 4096, "{} bytes", map.heap_bytes());
}

#[test]
fn what_is_beyond_its_numbers_is_unknown_and_never_wrong() {
    let mut map = HeadMap::new();
    map.insert(extent(0, 8), at(1 << 46), Content::Data);
    assert_eq!(map.block(0), None);
    assert_eq!(map.block(800), None, "what was there before is not claimed either");
    let mut map = HeadMap::new();
    let far = extent(TRACTS_MAX * TRACT_SECTORS - 8, 16);
    map.insert(far, at(5), Content::Data);
    let mut told = Vec::new();
    map.resolve(far, |part, version| told.push((part.count().get(), version.map(|v| v.0))));
    assert_eq!(told, [(8, Some(at(5))), (8, None)]);
}
