//! The map comes back as it was durable, and whatever is damaged comes back as ones.

use super::*;
use crate::regions::{PAGE_REGIONS, REGION_SECTORS};

const VOLUME: VolumeId = VolumeId::from_bytes([4; 16]);
const JOURNAL: JournalId = JournalId::from_bytes([3; 16]);
const REGIONS: u64 = PAGE_REGIONS + 10;

fn open_as(dir: &tempfile::TempDir, journal: JournalId, missing: Missing) -> DirtyMap {
    let size = SectorCount::from_bytes(REGIONS * REGION_SECTORS * 512).unwrap();
    DirtyMap::open(&dir.path().join("maps/v.map"), VOLUME, size, journal, missing).unwrap()
}

fn open(dir: &tempfile::TempDir) -> DirtyMap {
    open_as(dir, JOURNAL, Missing::Clean)
}

fn ext(region: u64) -> Extent {
    Extent::new(region * REGION_SECTORS, 1).unwrap()
}

/// As a write does it.
fn pinned(map: &DirtyMap, ring: &impl RingIo, region: u64) -> (Pin, io::Result<()>) {
    let (pin, settled) = map.hold(ext(region));
    (pin, if settled { Ok(()) } else { block_on(map.settle(ring, ext(region))) })
}

fn touch(map: &DirtyMap, region: u64) {
    let (pin, done) = pinned(map, &Blocking, region);
    done.unwrap();
    map.unpin(pin);
}

#[test]
fn what_was_touched_is_dirty_in_the_next_life_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(&dir);
    assert_eq!(map.regions().dirty(), 0);
    touch(&map, 5);
    touch(&map, PAGE_REGIONS + 3);
    drop(map);
    let map = open(&dir);
    assert_eq!(map.regions().dirty(), 2);
    assert!(map.regions().page_bits(0).nth(5).unwrap() && map.regions().page_bits(1).nth(3).unwrap());
}

#[test]
fn a_map_that_is_missing_makes_everything_dirty_unless_the_volume_is_new() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(open_as(&dir, JOURNAL, Missing::Dirty).regions().dirty(), REGIONS);
    assert_eq!(open(&dir).regions().dirty(), REGIONS, "and stays so");
}

#[test]
fn a_map_of_another_journal_or_with_both_headers_damaged_makes_everything_dirty() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    assert_eq!(open_as(&dir, JournalId::from_bytes([9; 16]), Missing::Clean).regions().dirty(), REGIONS);
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("maps/v.map")).unwrap();
    for slot in 0..2 {
        file.write_all_at(&[0xff; 64], layout::header_at(slot)).unwrap();
    }
    assert_eq!(open(&dir).regions().dirty(), REGIONS);
}

#[test]
fn a_damaged_sector_is_all_ones_and_the_others_are_believed() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(&dir));
    let file = std::fs::OpenOptions::new().write(true).open(dir.path().join("maps/v.map")).unwrap();
    file.write_all_at(&[1], layout::page_at(0) + 512 + 17).unwrap();
    let map = open(&dir);
    assert_eq!(map.regions().dirty(), 504 * 8);
    assert!(map.regions().page_bits(0).nth(504 * 8).unwrap() && !map.regions().page_bits(0).next().unwrap());
}

#[test]
fn clearing_is_written_and_what_it_relies_on_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(&dir);
    touch(&map, 5);
    let round = map.regions().begin_round();
    let relied = Relied { session: Session::new(7), next: StreamSeq::new(9) };
    block_on(map.rely(&Blocking, relied)).unwrap();
    assert_eq!(map.end_round(round), 1);
    block_on(map.write_lazily(&Blocking)).unwrap();
    drop(map);
    let map = open(&dir);
    assert_eq!((map.regions().dirty(), map.relied()), (0, Some(relied)));
    block_on(map.forget(&Blocking)).unwrap();
    drop(map);
    let map = open(&dir);
    assert_eq!((map.regions().dirty(), map.relied()), (REGIONS, None));
}

#[test]
fn a_header_torn_while_it_was_written_leaves_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(&dir);
    let relied = |n| Relied { session: Session::new(1), next: StreamSeq::new(n) };
    block_on(map.rely(&Blocking, relied(4))).unwrap();
    block_on(map.rely(&Blocking, relied(8))).unwrap();
    let newest = lock(&map.header).generation;
    let file = std::fs::OpenOptions::new().write(true).open(map.path()).unwrap();
    file.write_all_at(&[0xee; 8], layout::header_at(newest) + 60).unwrap();
    drop(map);
    assert_eq!(open(&dir).relied(), Some(relied(4)));
}

/// A ring on which writes behind the headers fail, or all of them.
struct Broken {
    headers_too: bool,
}

impl RingIo for Broken {
    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        Blocking.read(file, offset, buf).await
    }
    async fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        if self.headers_too || offset >= layout::page_at(0) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Blocking.write(file, offset, buf, dsync).await
    }
    async fn sync(&self, file: &File) -> io::Result<()> {
        Blocking.sync(file).await
    }
    async fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        Blocking.fallocate(file, mode, offset, len).await
    }
}

#[test]
fn a_map_with_a_page_that_cannot_be_written_is_believed_by_nobody_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(&dir);
    let ring = Broken { headers_too: false };
    let (pin, done) = pinned(&map, &ring, 5);
    done.unwrap_err();
    block_on(map.distrust(&ring)).unwrap();
    map.unpin(pin);
    block_on(map.trust_again(&ring)).unwrap_err();
    block_on(map.trust_again(&Blocking)).unwrap();
    drop(map);
    let map = open(&dir);
    assert_eq!(map.regions().dirty(), 1, "it is believed again");
    pinned(&map, &ring, 9).1.unwrap_err();
    block_on(map.distrust(&ring)).unwrap();
    drop(map);
    assert_eq!(open(&dir).regions().dirty(), REGIONS);
}

#[test]
fn a_map_of_which_nothing_can_be_written_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let map = open(&dir);
    let ring = Broken { headers_too: true };
    pinned(&map, &ring, 5).1.unwrap_err();
    block_on(map.distrust(&ring)).unwrap_err();
}
