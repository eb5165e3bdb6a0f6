//! A mount table is read as the kernel writes it, and a mount is known to lie on a ublk device whatever is between.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::{Mount, is_on_ublk, parse};

fn mount(device: &str, target: &str, source: &str) -> Mount {
    Mount { device: device.to_owned(), target: PathBuf::from(target), source: source.as_bytes().to_vec() }
}

#[test]
fn the_table_is_read_with_and_without_optional_fields() {
    let table = b"36 35 98:0 /mnt1 /mnt\\0402 rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
        40 35 259:3 / /srv rw - xfs /dev/ublkb0p1 rw\n\
        41 35 0:44 / /tmp/a\\134b\\011c rw shared:9 - btrfs /dev/ublkb1 rw\n\
        broken line\n";
    assert_eq!(
        parse(table),
        [
            mount("98:0", "/mnt 2", "/dev/root"),
            mount("259:3", "/srv", "/dev/ublkb0p1"),
            mount("0:44", "/tmp/a\\b\tc", "/dev/ublkb1"),
        ]
    );
}

/// A `/sys` with a ublk disk, its partition, a mapping on the partition, and a disk that is none of ours.
fn sys() -> tempfile::TempDir {
    let sys = tempfile::tempdir().expect("tempdir");
    let at = |path: &str| sys.path().join(path);
    for folder in ["devices/virtual/block/ublkb0/ublkb0p1", "devices/virtual/block/dm-0/slaves", "devices/pci/sda/sda1"]
    {
        fs::create_dir_all(at(folder)).expect("folder");
    }
    fs::create_dir_all(at("dev/block")).expect("folder");
    let link = |target: &str, name: &str| symlink(at(target), at(name)).expect("link");
    link("devices/virtual/block/ublkb0/ublkb0p1", "devices/virtual/block/dm-0/slaves/ublkb0p1");
    link("devices/virtual/block/ublkb0", "dev/block/259:0");
    link("devices/virtual/block/ublkb0/ublkb0p1", "dev/block/259:1");
    link("devices/virtual/block/dm-0", "dev/block/253:0");
    link("devices/pci/sda", "dev/block/8:0");
    link("devices/pci/sda/sda1", "dev/block/8:1");
    sys
}

#[test]
fn disks_partitions_and_mappings_of_ublk_are_found_and_others_are_not() {
    let sys = sys();
    for (device, expected) in
        [("259:0", true), ("259:1", true), ("253:0", true), ("8:0", false), ("8:1", false), ("0:21", false)]
    {
        assert_eq!(is_on_ublk(&mount(device, "/mnt", "none"), sys.path()), expected, "{device}");
    }
}

#[test]
fn a_source_that_is_no_device_is_no_device_of_ours() {
    for source in ["none", "tmpfs", "server:/export", "/srv/ublkb0", ""] {
        assert!(!is_on_ublk(&mount("0:50", "/mnt", source), Path::new("/nonexistent")), "{source}");
    }
}
