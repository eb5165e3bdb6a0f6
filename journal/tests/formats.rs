//! Journals of every released format are read for ever.
//!
//! `tests/formats/journal-v1` was written once. Today's reader must find in it exactly what `expected.txt` says, and
//! today's writer must still write it byte for byte: if not, the format has changed and needs a version of its own.

mod common;

use common::{at, extent};
use journal::{Journal, Opened, Reader, verify};
use record::checksum::crc32c;
use record::ids::Incarnation;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn kept() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/journal-v1")
}

/// The journal of `common::fixture::thinned`.
fn thinned() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/thinned-v1")
}

/// The journal of `common::fixture::eager`.
fn eager() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/undo-v1")
}

/// A checkpoint of `common::fixture::checkpoint`, and its journal's superblock.
fn checkpoints() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/state-v1")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the fixture") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("a type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

fn attach(reader: &Reader, folder: &Path) {
    for member in reader.members() {
        reader
            .attach_base(member.incarnation, &folder.join(format!("{}.replica", member.incarnation)))
            .expect("attach");
    }
}

/// What a reader finds, up to a position, in the words of `expected.txt`.
fn found(reader: &Reader, head: u64) -> String {
    let mut out = format!("head {head}\n");
    for bookmark in reader.bookmarks() {
        let _ = writeln!(out, "bookmark {} {}", bookmark.at.position, bookmark.name);
    }
    for n in 0..=head {
        match reader.image(at(n)) {
            Err(_) => {
                let _ = writeln!(out, "refused {n}");
            }
            Ok(image) => {
                for member in image.members() {
                    let mut bytes = vec![0; usize::try_from(member.size.bytes()).expect("small")];
                    image.read(member.incarnation, extent(0, member.size.get()), &mut bytes).expect("a sound image");
                    let _ = writeln!(out, "image {n} volume {} crc32c {:08x}", member.incarnation, crc32c(&bytes));
                }
            }
        }
    }
    out
}

#[test]
fn the_first_format_is_read_as_it_was_written() {
    let expected = fs::read_to_string(kept().join("expected.txt")).expect("the fixture");
    let (images, owed) = expected.split_at(expected.find("owed").expect("a last line"));
    let (reader, report) = Reader::open(&kept().join("journal")).expect("open");
    assert!(report.clean && report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    attach(&reader, &kept());
    let head = reader.timeline().head.position.get();
    assert_eq!(found(&reader, head), images);
    assert_eq!(reader.group_name(), "g");
    assert_eq!(reader.members()[1].name, "v2");
    let report = verify(&kept().join("journal"), &mut |_, _| {}).expect("verify");
    assert!(report.findings.is_empty(), "{:?}", report.findings);

    // A writer takes it over, and everything is as before.
    let directory = TempDir::new().expect("a directory");
    copy(&kept(), directory.path());
    let Opened { journal, report } = Journal::open(&directory.path().join("journal")).expect("open");
    assert!(report.clean && report.discarded_restore_maps.is_empty());
    attach(journal.reader(), directory.path());
    assert_eq!(owed.trim(), format!("owed {}", journal.pending_restore().map_or(0, |map| map.extents.len())));
    assert!(journal.restore_pieces(Incarnation::new(1), extent(0, 40), u64::MAX).is_ok());
    journal.close().expect("close");
    assert_eq!(found(journal.reader(), head), images);
}

#[test]
fn grid_points_and_compacted_segments_are_read_as_they_were_written() {
    let expected = fs::read_to_string(thinned().join("expected.txt")).expect("the fixture");
    let (images, _) = expected.split_at(expected.find("owed").expect("a last line"));
    assert!(images.contains("image 12 ") && images.contains("refused 13") && images.contains("image 25 "), "{images}");
    let (reader, report) = Reader::open(&thinned().join("journal")).expect("open");
    assert!(report.clean && report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    attach(&reader, &thinned());
    assert_eq!(found(&reader, reader.timeline().head.position.get()), images);
    let report = verify(&thinned().join("journal"), &mut |_, _| {}).expect("verify");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
}

#[test]
fn what_replicas_held_before_is_read_as_it_was_written() {
    let expected = fs::read_to_string(eager().join("expected.txt")).expect("the fixture");
    let (images, _) = expected.split_at(expected.find("owed").expect("a last line"));
    let (reader, report) = Reader::open(&eager().join("journal")).expect("open");
    assert!(report.clean && report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    attach(&reader, &eager());
    assert_eq!(found(&reader, reader.timeline().head.position.get()), images);
}

#[test]
fn what_is_written_today_is_the_first_format_still() {
    let first = common::fixture::build().into_iter().map(|(name, bytes)| (kept().join(name), bytes));
    let thinned = common::fixture::thinned().into_iter().map(|(name, bytes)| (thinned().join(name), bytes));
    let eager = common::fixture::eager().into_iter().map(|(name, bytes)| (eager().join(name), bytes));
    for (path, bytes) in first.chain(thinned).chain(eager) {
        let (name, kept) = (path.display(), fs::read(&path).expect("a file of the fixture"));
        let differs = kept.iter().zip(&bytes).position(|(a, b)| a != b);
        assert!(differs.is_none() && kept.len() == bytes.len(), "{name} differs at {differs:?}: is this a new format?");
    }
}

#[test]
fn a_checkpoint_is_written_today_as_it_was_first() {
    for (name, bytes) in common::fixture::checkpoint() {
        let kept = fs::read(checkpoints().join(&name)).expect("a file of the fixture");
        let differs = kept.iter().zip(&bytes).position(|(a, b)| a != b);
        assert!(differs.is_none() && kept.len() == bytes.len(), "{name} differs at {differs:?}: is this a new format?");
    }
}

/// With `UNDISK_FREEZE=write` the missing ones are written: for a new version of a format only.
#[test]
fn every_frozen_file_is_there() {
    let freeze = std::env::var_os("UNDISK_FREEZE").is_some_and(|mode| mode == "write");
    let journal = common::fixture::build().into_iter().map(|(name, bytes)| (kept().join(name), bytes));
    let checkpoint = common::fixture::checkpoint().into_iter().map(|(name, bytes)| (checkpoints().join(name), bytes));
    let thinned = common::fixture::thinned().into_iter().map(|(name, bytes)| (thinned().join(name), bytes));
    let eager = common::fixture::eager().into_iter().map(|(name, bytes)| (eager().join(name), bytes));
    for (path, bytes) in journal.chain(checkpoint).chain(thinned).chain(eager) {
        if freeze && !path.exists() {
            fs::create_dir_all(path.parent().expect("a folder")).expect("make the folder");
            fs::write(&path, bytes).expect("write the file");
        }
        assert!(path.exists(), "{} is missing", path.display());
    }
}
