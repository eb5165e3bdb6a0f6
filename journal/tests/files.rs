//! The same on a real file system: direct I/O, locks, sparse replicas, many readers at once.

mod common;

use common::{ID, SPLITTER, extent, join_request, lost};
use journal::device::Aligned;
use journal::{BaseDevice, Cause, Create, FileBase, Journal, JournalError, Opened, Reader, verify};
use kit::reference::data;
use kit::{Laying, Rng};
use record::ids::GroupId;
use record::op::Op;
use record::point::Point;
use record::position::{Label, SplitterIncarnation};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tempfile::TempDir;

fn made() -> TempDir {
    let directory = TempDir::new().expect("a directory");
    let create = Create {
        journal: ID,
        group: GroupId::from_bytes([2; 16]),
        group_name: "real".into(),
        now: Label::from_nanos(1),
        segment_bytes: Create::SEGMENT_BYTES_MIN,
    };
    Journal::create(&directory.path().join("j"), &create).expect("create");
    assert!(matches!(Journal::create(&directory.path().join("j"), &create), Err(JournalError::AlreadyExists { .. })));
    directory
}

fn replica(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("replica");
    if !path.exists() {
        fs::File::create(&path).expect("replica");
    }
    path
}

#[test]
fn a_journal_on_a_real_file_system_is_written_read_verified_and_opened_again() {
    let directory = made();
    let path = directory.path().join("j");
    let Opened { journal, .. } = Journal::open(&path).expect("open");
    assert!(matches!(Journal::open(&path), Err(JournalError::InUse { .. })));
    let granted = journal.grant(SPLITTER, SplitterIncarnation::FIRST, &lost()).expect("grant");
    let volume = journal.join(&join_request(1, "v", 4096), Label::from_nanos(1)).expect("join");
    journal.attach_base(volume, &replica(directory.path())).expect("attach");
    journal.base_reset(volume).expect("reset");
    journal.base_write(volume, extent(8, 8), &data(1_000_000, extent(8, 8))).expect("write");
    journal.joined(volume, Label::from_nanos(2)).expect("joined");
    let mut laying = Laying::new(ID, granted.session, granted.expected, granted.label);
    let mut rng = Rng::new(1);
    let mut expected = vec![0u8; 4096 * 512];
    expected[8 * 512..16 * 512].copy_from_slice(&data(1_000_000, extent(8, 8)));
    for i in 0..60u64 {
        // Payloads in memory that is not aligned: they are copied; the journal must not care.
        let at = extent(rng.below(4000), 1 + rng.below(90));
        if i % 7 == 3 {
            laying.change(Op::Punch, volume, at);
        } else {
            laying.write(volume, at, data(i * 100 + 1, at));
        }
        let from = usize::try_from(at.start().byte_offset()).expect("small");
        let bytes =
            if i % 7 == 3 { vec![0; usize::try_from(at.bytes()).expect("small")] } else { data(i * 100 + 1, at) };
        expected[from..from + bytes.len()].copy_from_slice(&bytes);
        let body = laying.seal().expect("laid");
        journal.append_many(granted.session, &[(&body.header, &body.payload)]).expect("append");
    }
    let check = |reader: &Reader| {
        let image = reader.image(reader.resolve(&Point::Latest, false).expect("latest")).expect("image");
        let mut bytes = vec![1; expected.len()];
        image.read(volume, extent(0, 4096), &mut bytes).expect("read");
        assert!(bytes == expected);
    };
    check(journal.reader());
    assert!(journal.status().segments > 1, "it spans segments");
    // A reader and the verifier beside the running writer.
    let (reader, _) = Reader::open(&path).expect("reader");
    reader.attach_base(volume, &replica(directory.path())).expect("attach");
    check(&reader);
    let report = verify(&path, &mut |_, _| {}).expect("verify");
    assert!(report.findings.is_empty(), "{:?}", report.findings);
    let on_disk = || -> u64 {
        let entries = fs::read_dir(path.join("segments")).expect("list");
        entries.map(|entry| entry.expect("entry").metadata().expect("meta").len()).sum()
    };
    assert_eq!(journal.status().disk_bytes, on_disk());
    journal.close().expect("close");
    let Opened { journal, report } = Journal::open(&path).expect("open again");
    assert!(report.clean && report.damage.is_empty());
    journal.attach_base(volume, &replica(directory.path())).expect("attach");
    check(journal.reader());
    assert_eq!(journal.status().disk_bytes, on_disk());
    drop(journal);
    let Opened { report, .. } = Journal::open(&path).expect("and after a kill");
    assert!(!report.clean && report.damage.is_empty());
}

#[test]
fn what_somebody_else_has_read_for_an_image_is_checked_as_if_it_had_read_it_itself() {
    let directory = made();
    let Opened { journal, .. } = Journal::open(&directory.path().join("j")).expect("open");
    let granted = journal.grant(SPLITTER, SplitterIncarnation::FIRST, &lost()).expect("grant");
    let volume = journal.join(&join_request(1, "v", 64), Label::from_nanos(1)).expect("join");
    journal.attach_base(volume, &replica(directory.path())).expect("attach");
    journal.joined(volume, Label::from_nanos(2)).expect("joined");
    let mut laying = Laying::new(ID, granted.session, granted.expected, granted.label);
    let mut expected = vec![0u8; 64 * 512];
    // Whole blocks and less, some of them written again out of order; the same place again and again, so that what is needed
    // does not lie side by side.
    let dead = extent(32, 32);
    let written = [extent(0, 32), dead, extent(16, 8), dead, extent(8, 8), dead, dead, extent(50, 5)];
    for (n, at) in (1..).zip(written) {
        laying.write(volume, at, data(n * 100, at));
        let from = usize::try_from(at.start().byte_offset()).expect("small");
        let bytes = data(n * 100, at);
        expected[from..from + bytes.len()].copy_from_slice(&bytes);
        let body = laying.seal().expect("laid");
        journal.append_many(granted.session, &[(&body.header, &body.payload)]).expect("append");
    }
    let image = journal.image(journal.resolve(&Point::Latest, false).expect("latest")).expect("image");
    let whole = extent(0, 64);
    // Into a buffer that direct I/O takes, and into one that it does not; and where every read fails.
    for (shift, fails) in [(0, false), (1, false), (0, true)] {
        let mut memory = Aligned::copy_of(&vec![0xaa; 64 * 512 + 1]);
        let buffer = &mut memory[shift..shift + 64 * 512];
        let lies = buffer.as_ptr_range();
        let mut reading = image.begin(volume, whole).expect("begun");
        let mut outcomes = Vec::new();
        let mut straight = 0;
        for (number, (fd, at, memory)) in reading.direct(buffer) {
            straight += u64::from(lies.contains(&memory.as_ptr()));
            let file = fs::File::from(fd.try_clone_to_owned().expect("a descriptor"));
            let read = file.read_at(memory, at);
            outcomes.push((number, if fails { Err(ErrorKind::PermissionDenied.into()) } else { read }));
        }
        assert!(outcomes.len() > usize::try_from(straight).expect("few"), "not all can go straight");
        assert_eq!(straight > 0, shift == 0, "what can goes straight");
        for (number, outcome) in outcomes {
            reading.done(number, outcome);
        }
        let refused = reading.finish(buffer).err().map_or_else(Vec::new, |failure| failure.damaged);
        assert_eq!(refused.is_empty(), !fails, "{refused:?}");
        for sector in 0..64 {
            let of = usize::try_from(sector * 512).expect("small");
            let is_refused = refused.iter().any(|extent| extent.contains(common::extent(sector, 1)));
            let right = if is_refused { &[0; 512][..] } else { &expected[of..of + 512] };
            assert!(buffer[of..of + 512] == *right, "sector {sector}");
        }
    }
    // Nobody has read anything.
    let mut buffer = vec![0xaa; 64 * 512];
    image.begin(volume, whole).expect("begun").finish(&mut buffer).expect("read");
    assert!(buffer == expected);
}

#[test]
fn a_replica_that_was_cut_short_is_refused_and_everything_else_is_served() {
    let directory = made();
    let path = directory.path().join("j");
    let Opened { journal, .. } = Journal::open(&path).expect("open");
    let granted = journal.grant(SPLITTER, SplitterIncarnation::FIRST, &lost()).expect("grant");
    let volume = journal.join(&join_request(1, "v", 64), Label::from_nanos(1)).expect("join");
    journal.attach_base(volume, &replica(directory.path())).expect("the file of one that joins is extended");
    assert_eq!(fs::metadata(replica(directory.path())).expect("meta").len(), 64 * 512);
    journal.base_write(volume, extent(0, 64), &data(1_000_000, extent(0, 64))).expect("write");
    let joined = journal.joined(volume, Label::from_nanos(2)).expect("joined");
    let mut laying = Laying::new(ID, granted.session, granted.expected, granted.label);
    laying.write(volume, extent(40, 8), data(1, extent(40, 8)));
    let body = laying.seal().expect("laid");
    journal.append_many(granted.session, &[(&body.header, &body.payload)]).expect("append");
    journal.close().expect("close");

    let file = fs::OpenOptions::new().write(true).open(replica(directory.path())).expect("replica");
    file.set_len(16 * 512).expect("cut");
    let Opened { journal, .. } = Journal::open(&path).expect("open again");
    let error = journal.attach_base(volume, &replica(directory.path())).expect_err("cut short");
    assert!(error.to_string().contains("cut short"), "{error}");
    assert_eq!(fs::metadata(replica(directory.path())).expect("meta").len(), 16 * 512, "it stays as it is");
    let image = journal.image(journal.resolve(&Point::Latest, false).expect("latest")).expect("image");
    let mut bytes = vec![1; 8 * 512];
    image.read(volume, extent(40, 8), &mut bytes).expect("the log is served");
    assert!(bytes == data(1, extent(40, 8)));
    let failure = image.read(volume, extent(32, 8), &mut bytes).expect_err("what was cut off is not zeros");
    assert!(matches!(failure.cause, Cause::Replica { .. }), "{failure}");
    assert!(journal.changed_set(joined).is_ok(), "what to restore is known");
    file.set_len(64 * 512).expect("as long as it was");
    journal.attach_base(volume, &replica(directory.path())).expect("attached");
}

#[test]
fn readers_never_see_a_torn_or_a_later_image_while_records_are_appended() {
    let directory = made();
    let Opened { journal, .. } = Journal::open(&directory.path().join("j")).expect("open");
    let granted = journal.grant(SPLITTER, SplitterIncarnation::FIRST, &lost()).expect("grant");
    let volume = journal.join(&join_request(1, "v", 64), Label::from_nanos(1)).expect("join");
    journal.attach_base(volume, &replica(directory.path())).expect("attach");
    journal.joined(volume, Label::from_nanos(2)).expect("joined");
    let done = AtomicBool::new(false);
    let first = journal.timeline().head.position.get();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let head = journal.resolve(&Point::Latest, false).expect("latest");
                    let image = journal.image(head).expect("image");
                    let mut bytes = vec![0; 64 * 512];
                    image.read(volume, extent(0, 64), &mut bytes).expect("read");
                    // Record n wrote n everywhere.
                    let n = head.get() - first;
                    let whole = if n == 0 { vec![0; 64 * 512] } else { data(n * 1000, extent(0, 64)) };
                    assert!(bytes == whole, "image at seq:{head}");
                }
            });
        }
        let mut laying = Laying::new(ID, granted.session, granted.expected, granted.label);
        for n in 1..200u64 {
            laying.write(volume, extent(0, 64), data(n * 1000, extent(0, 64)));
            let body = laying.seal().expect("laid");
            journal.append_many(granted.session, &[(&body.header, &body.payload)]).expect("append");
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(journal.status().images, 0, "images are given back");
}

#[test]
fn a_replica_file_is_sparse_and_is_read_and_emptied_by_sectors() {
    let directory = TempDir::new().expect("a directory");
    let path = replica(directory.path());
    assert!(FileBase::open(&path, 1 << 20, false).is_err(), "too short to read");
    assert!(FileBase::open(&path, 1 << 20, true).is_err(), "nor is it extended for whoever may write");
    assert_eq!(fs::metadata(&path).expect("meta").len(), 0);
    let base = FileBase::open_joining(&path, 1 << 20).expect("open");
    assert_eq!(fs::metadata(&path).expect("meta").len(), 1 << 20);
    let at = extent(9, 30);
    base.write(at, &data(5, at)).expect("write");
    base.zero(extent(13, 7)).expect("zero");
    base.sync().expect("sync");
    let mut bytes = vec![1; 2048 * 512];
    base.read(extent(0, 2048), &mut bytes).expect("read");
    let mut expected = vec![0; 2048 * 512];
    expected[9 * 512..39 * 512].copy_from_slice(&data(5, at));
    expected[13 * 512..20 * 512].fill(0);
    assert!(bytes == expected);
    // What is called a hole is one; not all holes need be found.
    for hole in base.holes(extent(3, 2000)) {
        assert!(extent(3, 2000).contains(hole) && !hole.overlaps(extent(9, 4)) && !hole.overlaps(extent(20, 19)));
    }
    assert!(base.holes(extent(512, 512)) == [extent(512, 512)]);
    base.reset().expect("reset");
    assert_eq!(fs::metadata(&path).expect("meta").blocks(), 0);
    base.read(extent(0, 2048), &mut bytes).expect("read");
    assert!(bytes.iter().all(|b| *b == 0));
    assert!(FileBase::open(directory.path(), 0, false).is_err(), "a directory is no replica");
    let shared: Arc<dyn BaseDevice> = Arc::new(base);
    assert_eq!(shared.bytes().expect("bytes"), 1 << 20);
}

#[test]
fn a_directory_that_is_not_there_is_no_journal() {
    let directory = TempDir::new().expect("a directory");
    for path in [directory.path().join("nowhere"), directory.path().to_path_buf()] {
        let error = Journal::open(&path).expect_err("no journal");
        assert!(matches!(error, JournalError::NotAJournal { .. }), "{error}");
        assert!(Reader::open(&path).is_err() && verify(&path, &mut |_, _| {}).is_err());
    }
}
