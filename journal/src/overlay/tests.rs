//! The cache of answers: what it says is what the index says, and it asks once for each region.

use super::*;
use crate::index::{Content, Home, Index, RunIndex};
use crate::path::Path;
use crate::place::{Place, SegmentNumber};
use kit::Rng;
use record::position::Position;
use std::cell::Cell;

const VOLUME: Incarnation = Incarnation::new(1);
const SECTORS: u64 = 30_001;

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("extent")
}

fn index() -> RunIndex {
    let mut rng = Rng::new(1);
    let mut index = RunIndex::default();
    for n in 1..400 {
        let segment = SegmentNumber::new(u32::try_from(n / 10 + 1).expect("few"));
        index.chunk(Place { segment, offset: 4096 * n }, Position::new(n), 0);
        let count = 1 + rng.below(60);
        index.insert(VOLUME, extent(rng.below(SECTORS - count), count), Position::new(n), Content::Data);
    }
    index
}

#[test]
fn the_cache_says_what_the_index_says() {
    let (index, overlay, path) = (index(), Overlay::default(), Path::straight(Position::new(250)));
    let mut rng = Rng::new(2);
    for _ in 0..200 {
        let longest = [8, 300, 5000, SECTORS - 1][rng.index(4)];
        let count = 1 + rng.below(longest);
        let part = extent(rng.below(SECTORS - count), count);
        let found = overlay.resolve(VOLUME, extent(0, SECTORS), part, |part| index.ask(VOLUME, &path, part));
        assert_eq!(found.runs, index.resolve(VOLUME, &path, part), "{part:?}");
    }
}

#[test]
fn who_reads_from_one_end_to_the_other_asks_once_for_each_region() {
    let (index, overlay, path) = (index(), Overlay::default(), Path::straight(Position::new(250)));
    let whole = Cell::new(0);
    for part in extent(0, SECTORS).pieces(64) {
        overlay.resolve(VOLUME, extent(0, SECTORS), part, |asked| {
            whole.set(whole.get() + u64::from(asked.count().get() > 64));
            index.ask(VOLUME, &path, asked)
        });
    }
    assert_eq!(whole.get(), SECTORS.div_ceil(REGION_SECTORS));
}

#[test]
fn of_what_is_known_without_reading_nothing_is_kept() {
    let overlay = Overlay::default();
    let known = Resolved { extent: extent(0, 8), position: Position::new(3), home: Home::Record(Content::Data) };
    let found = overlay.resolve(VOLUME, extent(0, 8), extent(0, 8), |_| Answer::known(vec![known]));
    assert_eq!(found.runs, [known]);
    assert!(lock(&overlay.lately).find((VOLUME, 0)).is_none());
}
