use super::{Map, open, write};
use crate::aligned::Aligned;
use crate::device::{Access, Disk, RealDisk};
use crate::place::{SEGMENTS, SegmentNumber};
use kit::Rng;
use record::ids::JournalId;
use std::io::IoSlice;
use tempfile::TempDir;

const ID: JournalId = JournalId::from_bytes(*b"journal of tests");
const NUMBER: SegmentNumber = SegmentNumber::FIRST;
const BLOCKS: u64 = 300;
const BLOCK: u64 = 4096;

/// A segment's file with something in every block.
fn segment(disk: &dyn Disk, rng: &mut Rng) -> Vec<u8> {
    disk.make_folder(SEGMENTS).expect("folder");
    let file = disk.create(&NUMBER.file(), BLOCKS * BLOCK, Access::Durable).expect("create");
    let mut bytes = Aligned::zeroed(usize::try_from(BLOCKS * BLOCK).expect("small"));
    bytes.iter_mut().for_each(|byte| *byte = u8::try_from(1 + rng.below(255)).expect("a byte"));
    file.write_at(&[IoSlice::new(&bytes)], 0).expect("write");
    bytes.to_vec()
}

/// Compacts it to some blocks; answers with what then is to be read, and the map.
fn compact(disk: &dyn Disk, whole: &[u8], rng: &mut Rng) -> (Vec<u8>, Map) {
    let mut map = Map::none(BLOCKS * BLOCK);
    let mut left = vec![0; whole.len()];
    for _ in 0..rng.below(30) {
        let from = rng.below(BLOCKS * BLOCK - 1);
        let to = (from + 1 + rng.below(40_000)).min(BLOCKS * BLOCK);
        map.keep(from..to);
        let blocks = usize::try_from(from / BLOCK * BLOCK).expect("small")
            ..usize::try_from(to.div_ceil(BLOCK) * BLOCK).expect("small");
        left[blocks.clone()].copy_from_slice(&whole[blocks]);
    }
    let file = open(disk, NUMBER).expect("open");
    write(disk, ID, NUMBER, file.as_ref(), &map).expect("compact");
    disk.rename(&NUMBER.unfinished_file(), &NUMBER.file()).expect("rename");
    (left, map)
}

#[test]
fn what_is_kept_is_read_where_it_stood_and_all_else_is_zeros() {
    for seed in Rng::seeds(1, 40) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let folder = TempDir::new().expect("a folder");
        let disk = RealDisk::new(folder.path());
        let whole = segment(&disk, &mut rng);
        let (mut left, mut map) = compact(&disk, &whole, &mut rng);
        if rng.one_in(2) {
            // Once more, and less of it.
            let first = map;
            let whole = left.clone();
            (left, map) = compact(&disk, &whole, &mut rng);
            assert!(map.file_bytes() > 0 && first.file_bytes() > 0);
        }
        let file = open(&disk, NUMBER).expect("open");
        assert_eq!(file.len().expect("len"), BLOCKS * BLOCK);
        assert_eq!(file.stored().expect("stored"), map.file_bytes());
        for _ in 0..60 {
            let from = rng.below(BLOCKS);
            let count = 1 + rng.below(BLOCKS - from);
            let mut buffer = Aligned::zeroed(usize::try_from(count * BLOCK).expect("small"));
            assert_eq!(file.read_at(&mut buffer, from * BLOCK).expect("read"), buffer.len());
            let at = usize::try_from(from * BLOCK).expect("small");
            assert!(buffer[..] == left[at..at + buffer.len()]);
            assert_eq!(
                file.lacks(from * BLOCK..(from + count) * BLOCK),
                !map.has(from * BLOCK..(from + count) * BLOCK)
            );
        }
        let mut behind = Aligned::zeroed(4096);
        assert_eq!(file.read_at(&mut behind, BLOCKS * BLOCK).expect("read"), 0);
    }
}

#[test]
fn one_of_two_heads_and_maps_is_enough_and_without_both_nothing_is_read() {
    for (damaged, readable) in [
        (&[0][..], true),
        (&[1], true),
        (&[-2], true),
        (&[-1], true),
        (&[0, -2], true),
        (&[1, -2], false),
        (&[1, -1], true),
    ] {
        let mut rng = Rng::new(5);
        let folder = TempDir::new().expect("a folder");
        let disk = RealDisk::new(folder.path());
        let whole = segment(&disk, &mut rng);
        let (left, map) = compact(&disk, &whole, &mut rng);
        let blocks = i64::try_from(map.file_bytes() / BLOCK).expect("small");
        for block in damaged {
            let block = usize::try_from((block + blocks) % blocks).expect("small");
            let path = folder.path().join(NUMBER.file());
            let mut bytes = std::fs::read(&path).expect("read");
            bytes[block * 4096 + 16] ^= 4;
            std::fs::write(&path, bytes).expect("write");
        }
        let file = open(&disk, NUMBER).expect("open");
        let mut buffer = Aligned::zeroed(whole.len());
        match file.read_at(&mut buffer, 0) {
            Ok(_) => assert!(readable && buffer[..] == left[..], "{damaged:?}"),
            Err(_) => assert!(!readable, "{damaged:?}"),
        }
    }
}
