//! The index against a search through all records, on lines with rollbacks, narrow and wide records mixed.

use super::*;
use crate::path::Rollback;
use kit::Rng;

const SECTORS: u64 = 30_000;
const VOLUME: Incarnation = Incarnation::new(1);

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("extent")
}

struct Model {
    index: MemoryIndex,
    records: Vec<(Position, Extent, Content)>,
    rollbacks: Vec<Rollback>,
}

impl Model {
    fn newest(&self, path: &Path, sector: u64) -> (Position, Home) {
        let on = |(at, e, _): &&(Position, Extent, Content)| path.contains(*at) && e.contains(extent(sector, 1));
        let found = self.records.iter().rev().find(on);
        found.map_or((Position::ORIGIN, Home::Base), |(at, _, content)| (*at, Home::Record(*content)))
    }

    fn check(&self, part: Extent, at: Position, rng: &mut Rng) {
        let path = Path::of(&self.rollbacks, Position::ORIGIN, at);
        let mut next = part.start().index();
        let mut last = None;
        for run in self.index.resolve(VOLUME, &path, part) {
            assert_eq!(run.extent.start().index(), next, "runs cover the extent");
            assert_ne!(last, Some((run.position, run.home)), "neighbours of one version are joined");
            last = Some((run.position, run.home));
            next = run.extent.end();
            let inside = run.extent.start().index() + rng.below(run.extent.count().get());
            for sector in [run.extent.start().index(), inside, next - 1] {
                assert_eq!(self.newest(&path, sector), (run.position, run.home), "sector {sector} at {at}");
            }
        }
        assert_eq!(next, part.end());
    }
}

#[test]
fn every_sector_resolves_to_the_newest_record_on_the_line() {
    for seed in Rng::seeds(1, 8) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let mut model = Model { index: MemoryIndex::default(), records: Vec::new(), rollbacks: Vec::new() };
        for n in 1..=150 {
            let at = Position::new(n);
            if rng.one_in(15) {
                model.rollbacks.push(Rollback { at, target: Position::new(rng.below(n)), id: n });
                continue;
            }
            let count = match rng.below(4) {
                0 => NARROW_SECTORS_MAX + 1 + rng.below(SECTORS - NARROW_SECTORS_MAX - 1),
                1 => 1 + rng.below(NARROW_SECTORS_MAX),
                _ => 1 + rng.below(40),
            };
            let what = extent(rng.below(SECTORS - count + 1), count);
            let content = if rng.one_in(2) { Content::Hole } else { Content::Zero };
            model.index.insert(VOLUME, what, at, content);
            model.records.push((at, what, content));
            if n % 10 == 0 {
                let from = rng.below(SECTORS - 1);
                let part = extent(from, 1 + rng.below(SECTORS - from));
                let position = Position::new(rng.below(n + 1));
                model.check(part, position, &mut rng);
                model.check(extent(0, SECTORS), at, &mut rng);
            }
        }
        // What is touched between two positions, sector by sector.
        let path = |at| Path::of(&model.rollbacks, Position::ORIGIN, Position::new(at));
        let differing = path(150).difference(&path(1 + rng.below(149)));
        let touched = model.index.touched(VOLUME, &differing);
        assert!(touched.windows(2).all(|pair| pair[0].end() < pair[1].start().index()), "in order, never touching");
        for _ in 0..500 {
            let sector = extent(rng.below(SECTORS), 1);
            let by_search = model.records.iter().any(|(at, e, _)| differing.contains(*at) && e.contains(sector));
            assert_eq!(touched.iter().any(|e| e.contains(sector)), by_search, "{sector:?}");
        }
    }
}

#[test]
fn a_terabyte_in_one_record_is_one_entry_and_one_run() {
    let mut index = MemoryIndex::default();
    let whole = extent(0, 1 << 31);
    index.insert(VOLUME, whole, Position::new(1), Content::Hole);
    index.insert(VOLUME, extent(77, 3), Position::new(2), Content::Zero);
    index.insert(VOLUME, whole, Position::new(3), Content::Hole);
    let at = |n| index.resolve(VOLUME, &Path::of(&[], Position::ORIGIN, Position::new(n)), whole).len();
    assert_eq!((at(0), at(1), at(2), at(3)), (1, 1, 3, 1));
    assert_eq!(index.volumes.get(&VOLUME).map(|v| (v.narrow.len(), v.wide.len())), Some((1, 2)));
}

#[test]
fn extents_are_joined_and_subtracted_by_sector() {
    let joined = normalise(vec![extent(10, 5), extent(0, 3), extent(3, 2), extent(12, 9), extent(40, 1)]);
    assert_eq!(joined, [extent(0, 5), extent(10, 11), extent(40, 1)]);
    let left = crate::index::subtract(&joined, &[extent(20, 100), extent(2, 1), extent(9, 3)]);
    assert_eq!(left, [extent(0, 2), extent(3, 2), extent(12, 8)]);
    assert_eq!(crate::index::subtract(&joined, &[]), joined);
}
