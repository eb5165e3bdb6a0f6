//! What is told of a file, against what was done to it, by both ways of asking.

use super::*;
use nix::fcntl::{FallocateFlags, fallocate};
use std::os::unix::fs::FileExt;

type Ask = fn(&File, u64, u64) -> io::Result<Option<Range<u64>>>;

const BLOCK: u64 = 4096;

/// A file of 100 blocks with space at some of them.
fn file(folder: &std::path::Path) -> File {
    let file = File::options().read(true).write(true).create_new(true).open(folder.join("f")).expect("a file");
    file.set_len(100 * BLOCK).expect("length");
    for block in [10, 11, 12, 40, 99] {
        file.write_all_at(&[7; 4096], block * BLOCK).expect("write");
    }
    file.sync_all().expect("sync");
    file
}

/// Every block that has space.
fn blocks(file: &File, ask: Ask, from: u64, end: u64) -> Vec<u64> {
    let (mut at, mut out) = (from * BLOCK, Vec::new());
    while let Some(part) = ask(file, at, end * BLOCK).expect("told") {
        assert!(part.start >= at && part.end <= end * BLOCK && !part.is_empty(), "{part:?} in {at}..");
        out.extend(part.start / BLOCK..part.end.div_ceil(BLOCK));
        at = part.end;
    }
    out
}

#[test]
fn what_was_written_has_space_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    let file = file(folder.path());
    for ask in [next as Ask, by_holes as Ask] {
        assert_eq!(blocks(&file, ask, 0, 100), [10, 11, 12, 40, 99]);
        assert_eq!(blocks(&file, ask, 11, 40), [11, 12]);
        assert_eq!(blocks(&file, ask, 41, 99), [0; 0]);
        assert_eq!(blocks(&file, ask, 50, 50), [0; 0]);
    }
}

#[test]
fn space_that_was_taken_and_never_written_is_space() {
    let folder = tempfile::tempdir().expect("folder");
    let file = file(folder.path());
    let taken = fallocate(&file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 20 * 4096, 5 * 4096);
    let zeroed = fallocate(&file, FallocateFlags::FALLOC_FL_ZERO_RANGE, 11 * 4096, 4096);
    if taken.is_err() || zeroed.is_err() || by_extents(&file, 0, 4096).is_err() {
        // A file system without such space, or one that does not tell of it.
        println!("nothing to be seen on this file system");
        return;
    }
    file.sync_all().expect("sync");
    assert_eq!(blocks(&file, next, 0, 100), [10, 11, 12, 20, 21, 22, 23, 24, 40, 99]);
}

#[test]
fn more_extents_than_are_told_at_once_are_all_told() {
    let folder = tempfile::tempdir().expect("folder");
    let file = file(folder.path());
    file.set_len(1000 * BLOCK).expect("length");
    let all: Vec<u64> = (100..1000).step_by(3).collect();
    for block in &all {
        file.write_all_at(&[7; 4096], block * BLOCK).expect("write");
    }
    file.sync_all().expect("sync");
    assert_eq!(blocks(&file, next, 100, 1000), all);
}
