//! The head map in front of an index answers what the index alone answers, on every line.

use super::*;
use crate::index::MemoryIndex;
use crate::path::Rollback;
use kit::Rng;

const VOLUME: Incarnation = Incarnation::new(3);
const SECTORS: u64 = 40_000;

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("extent")
}

fn history(seed: u64) {
    let mut rng = Rng::new(seed);
    let (mut alone, mut headed) = (MemoryIndex::default(), HeadedIndex::<MemoryIndex>::default());
    let mut rollbacks: Vec<Rollback> = Vec::new();
    for n in 1..400 {
        let at = Position::new(n);
        if n > 2 && rng.one_in(40) {
            let target = Position::new(1 + rng.below(n - 1));
            rollbacks.push(Rollback { at, target, id: n });
            let line = Path::of(&rollbacks, Position::ORIGIN, Position::new(u64::MAX));
            headed.rolled_back(VOLUME, &line);
        } else {
            let content = [Content::Data, Content::Zero, Content::Hole][rng.index(3)];
            let longest = [9, 40, 9000, SECTORS - 1][rng.index(4)];
            let count = 1 + rng.below(longest);
            let changed = extent(rng.below(SECTORS - count), count);
            alone.insert(VOLUME, changed, at, content);
            headed.insert(VOLUME, changed, at, content);
        }
        if !rng.one_in(4) {
            continue;
        }
        for position in [n, 1 + rng.below(n)] {
            let path = Path::of(&rollbacks, Position::ORIGIN, Position::new(position));
            let count = 1 + rng.below(SECTORS - 1);
            let part = extent(rng.below(SECTORS - count), count);
            assert_eq!(
                headed.resolve(VOLUME, &path, part),
                alone.resolve(VOLUME, &path, part),
                "seq:{position} of {n}"
            );
        }
    }
}

#[test]
fn a_head_map_in_front_changes_no_answer() {
    for seed in Rng::seeds(1, 4) {
        println!("SEED={seed}");
        history(seed);
    }
}

#[test]
fn the_newest_versions_are_answered_without_the_index_behind() {
    #[derive(Debug, Default)]
    struct Silent;
    impl Index for Silent {
        fn insert(&mut self, _: Incarnation, _: Extent, _: Position, _: Content) {}
        fn resolve(&self, _: Incarnation, _: &Path, extent: Extent) -> Vec<Resolved> {
            panic!("asked for {extent:?}")
        }
        fn touched(&self, _: Incarnation, _: &Path) -> Vec<Extent> {
            Vec::new()
        }
    }
    let mut index = HeadedIndex::<Silent>::default();
    index.insert(VOLUME, extent(0, 100), Position::new(1), Content::Data);
    index.insert(VOLUME, extent(3, 50), Position::new(2), Content::Hole);
    let path = Path::of(&[], Position::ORIGIN, Position::new(2));
    assert_eq!(index.resolve(VOLUME, &path, extent(0, 200)).len(), 4);
}
