//! A backing is opened exclusively, measured, made zero exactly, and recognised again.

use super::*;
use crate::ring_io::{Blocking, block_on};

fn file(dir: &tempfile::TempDir, bytes: u64) -> PathBuf {
    let path = dir.path().join("backing");
    File::create(&path).unwrap().set_len(bytes).unwrap();
    path
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn fill(backing: &Backing, extent: Extent, byte: u8) {
    let mut buffer = AlignedBuffer::new(usize::try_from(extent.bytes()).unwrap());
    buffer.bytes_mut().fill(byte);
    block_on(backing.write(&Blocking, extent, buffer.bytes(), true)).unwrap();
}

#[test]
fn a_missing_small_or_odd_backing_is_refused_by_name() {
    let dir = folder();
    let missing = dir.path().join("none");
    assert!(matches!(Backing::open(&missing, None), Err(BackingError::Missing(p)) if p == missing));
    assert!(matches!(Backing::open(&file(&dir, 4096), None), Err(BackingError::TooSmall(_, 4096))));
    assert!(matches!(Backing::open(&file(&dir, (2 << 20) + 100), None), Err(BackingError::OddSize(..))));
    assert!(matches!(Backing::open(dir.path(), None), Err(BackingError::WrongNature(_))));
}

#[test]
fn a_backing_that_somebody_has_open_or_locked_is_refused() {
    let dir = folder();
    let path = file(&dir, 4 << 20);
    {
        let _reader = File::open(&path).unwrap();
        assert!(matches!(Backing::open(&path, None), Err(BackingError::InUse(..))));
    }
    let _held = Backing::open(&path, None).unwrap();
    assert!(matches!(Backing::open(&path, None), Err(BackingError::InUse(..))));
}

#[test]
fn exactly_the_sectors_punched_read_as_zeros() {
    let dir = folder();
    let backing = Backing::open(&file(&dir, 4 << 20), None).unwrap();
    let all = Extent::new(0, 64).unwrap();
    fill(&backing, all, 0xaa);
    block_on(backing.punch(&Blocking, Extent::new(3, 9).unwrap())).unwrap();
    block_on(backing.zero(&Blocking, Extent::new(33, 1).unwrap())).unwrap();
    let mut buffer = AlignedBuffer::new(64 * 512);
    block_on(backing.read(&Blocking, all, buffer.bytes_mut())).unwrap();
    for (sector, bytes) in buffer.bytes().chunks(512).enumerate() {
        let zero = (3..12).contains(&sector) || sector == 33;
        assert!(bytes.iter().all(|b| *b == if zero { 0 } else { 0xaa }), "sector {sector}");
    }
}

#[test]
fn only_allocated_extents_count_as_data() {
    let dir = folder();
    let backing = Backing::open(&file(&dir, 8 << 20), None).unwrap();
    assert_eq!(backing.data_from(0).unwrap(), None);
    fill(&backing, Extent::new(4096, 128).unwrap(), 1);
    let data = backing.data_from(0).unwrap().expect("there is data now");
    assert!(data.contains(Extent::new(4096, 128).unwrap()) && data.bytes() < 1 << 20);
    assert_eq!(backing.data_from(data.end()).unwrap(), None);
    assert_eq!(backing.data_bytes().unwrap(), data.bytes());
}

#[test]
fn a_fingerprint_changes_with_a_write_behind_our_back_and_not_without() {
    let dir = folder();
    let path = file(&dir, 4 << 20);
    let before = Backing::open(&path, None).unwrap().fingerprint().unwrap();
    assert_eq!(Backing::open(&path, None).unwrap().fingerprint().unwrap(), before);
    OpenOptions::new().write(true).open(&path).unwrap().write_all_at(&[1], 100).unwrap();
    assert_ne!(Backing::open(&path, None).unwrap().fingerprint().unwrap(), before);
}
