//! Goal: no number from the link makes the appliance touch memory that is not a chunk.

use super::*;
use std::os::unix::fs::FileExt;

fn outbox(blocks: u64) -> (tempfile::NamedTempFile, Outbox) {
    let file = tempfile::NamedTempFile::new().expect("file");
    file.as_file().set_len(blocks * 4096).expect("length");
    let outbox = Outbox::open(file.path()).expect("map");
    (file, outbox)
}

fn place(header_at: u64, header_len: u32, payload_at: u64, payload_len: u32) -> Place {
    Place { header_at, header_len, payload_at, payload_len }
}

#[test]
fn a_chunk_is_the_bytes_at_its_place() {
    let (file, mut outbox) = outbox(4);
    file.as_file().write_all_at(&[3; 8192], 4096).expect("write");
    let (header, payload) = outbox.chunk(place(0, 4096, 4096, 8192)).expect("chunk");
    assert_eq!((header, payload), (&[0; 4096][..], &[3; 8192][..]));
    assert!(outbox.chunk(place(0, 4096, 0, 0)).expect("no payload").1.is_empty());
}

#[test]
fn places_outside_the_file_or_off_the_grid_are_refused() {
    let (_file, mut outbox) = outbox(4);
    for wrong in [
        place(0, 0, 0, 0),
        place(1, 4096, 4096, 4096),
        place(0, 4095, 4096, 4096),
        place(0, 4096, 4096, 100),
        place(0, 4096, 512, 4096),
        place(4 * 4096, 4096, 0, 4096),
        place(0, 4096, 3 * 4096, 8192),
        place(u64::MAX - 4095, 4096, 0, 4096),
        place(0, 68 * 1024, 0, 4096),
        place(0, 4096, 0, u32::MAX),
    ] {
        assert!(matches!(outbox.chunk(wrong), Err(OutboxError::Place { .. })), "{wrong:?}");
    }
}

#[test]
fn a_file_that_shrank_or_grew_is_noticed_before_it_is_touched() {
    let (file, mut outbox) = outbox(4);
    file.as_file().set_len(4096).expect("shrink");
    assert!(outbox.chunk(place(0, 4096, 4096, 4096)).is_err());
    file.as_file().set_len(32 * 4096).expect("grow");
    assert!(outbox.chunk(place(0, 4096, 31 * 4096, 4096)).is_ok());
}

#[test]
fn what_is_no_regular_file_by_an_absolute_path_is_no_outbox() {
    assert!(Outbox::open(Path::new("outbox")).is_err());
    assert!(Outbox::open(Path::new("/proc/self")).is_err());
    assert!(Outbox::open(Path::new("/nowhere/outbox")).is_err());
}
