//! Runs as bytes: what is read is what was written, and of damaged bytes nothing is believed.

use super::*;
use crate::device::{Access, Disk, RealDisk};
use crate::index::run::{Building, Log};
use kit::Rng;
use tempfile::TempDir;

const ID: JournalId = JournalId::from_bytes(*b"a run's journal!");

/// A run with entries of several volumes, regions enough for several blocks of the directory, and wide records.
pub(crate) fn some_run(seed: u64, records: u64) -> RunData {
    let mut rng = Rng::new(seed);
    let mut log = Log::from(Position::new(1000));
    for n in 0..records {
        let volume = Incarnation::new(1 + u32::try_from(rng.below(3)).expect("few"));
        let longest = if rng.one_in(50) { 20_000 } else { 24 };
        let extent = Extent::new(rng.below(1 << 24), 1 + rng.below(longest)).expect("extent");
        let content = [Content::Data, Content::Zero, Content::Hole][rng.index(3)];
        log.push(volume, extent, Position::new(1000 + n), content);
    }
    log.seal(Position::new(1000 + records), 0x5ea1)
}

fn written(run: &RunData) -> Vec<u8> {
    let temporary = TempDir::new().expect("a folder");
    let file = RealDisk::new(temporary.path()).create("run", 0, Access::Buffered).expect("create");
    write(file, ID, run).expect("write");
    std::fs::read(temporary.path().join("run")).expect("read")
}

fn opened(bytes: &[u8]) -> io::Result<RunFile> {
    let temporary = TempDir::new()?;
    std::fs::write(temporary.path().join("run"), bytes)?;
    RunFile::open(RealDisk::new(temporary.path()).open("run", Access::Buffered)?, ID)
}

/// All of a run, through its cursor.
fn read(run: RunFile) -> io::Result<RunData> {
    let run = Arc::new(run);
    let mut cursor = run.cursor()?;
    let mut building = Building::new(run.id);
    while let Some((volume, region)) = cursor.at() {
        let mut entries = Vec::new();
        cursor.take(&mut entries)?;
        building.push(volume, region, &entries)?;
    }
    Ok(building.finish(run.wide.clone()))
}

#[test]
fn a_run_is_read_as_it_was_written() {
    for (seed, records) in [(1, 0), (2, 1), (3, 400), (4, 5000)] {
        let run = some_run(seed, records);
        let file = opened(&written(&run)).expect("open");
        for volume in (0..5).map(Incarnation::new) {
            for range in [0..=u32::MAX, 100..=200, 4000..=4100] {
                let (mut here, mut there) = (Vec::new(), Vec::new());
                run.regions(volume, &range, &mut here).expect("regions");
                file.regions(volume, &range, &mut there).expect("regions");
                assert_eq!(here, there);
                for region in here.iter().chain(&[7]) {
                    let (mut here, mut there) = (Vec::new(), Vec::new());
                    run.entries(volume, *region, &mut here).expect("entries");
                    file.entries(volume, *region, &mut there).expect("entries");
                    assert_eq!(here, there);
                }
            }
        }
        assert!(read(file).expect("read") == run);
    }
}

#[test]
fn of_damaged_bytes_nothing_is_believed() {
    let run = some_run(5, 700);
    let bytes = written(&run);
    let mut rng = Rng::new(6);
    let is_refused = |bytes: &[u8]| opened(bytes).and_then(read).is_err();
    for at in (0..bytes.len()).step_by(61) {
        let mut flipped = bytes.clone();
        flipped[at] ^= 1 << rng.below(8);
        assert!(is_refused(&flipped), "byte {at} of {} is not checked", bytes.len());
    }
    assert!((0..bytes.len()).step_by(4096 / 3).all(|cut| is_refused(&bytes[..cut])));
    // Blocks in each other's places.
    let mut swapped = bytes.clone();
    swapped[4096..8192].copy_from_slice(&bytes[8192..12_288]);
    assert!(is_refused(&swapped));
    // Blocks of another run of the same journal.
    let mut of_other = some_run(7, 700);
    of_other.id.seal = 1;
    let mut mixed = bytes;
    mixed[4096..8192].copy_from_slice(&written(&of_other)[4096..8192]);
    assert!(is_refused(&mixed));
}

/// The frozen run of the first format.
fn frozen() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/run-v1/00-of-600-records.run")
}

#[test]
fn the_first_format_is_read_and_written_as_it_was() {
    let run = some_run(9, 600);
    // For a new version of the format only.
    if std::env::var_os("UNDISK_FREEZE").is_some_and(|mode| mode == "write") && !frozen().exists() {
        std::fs::create_dir_all(frozen().parent().expect("a folder")).expect("make");
        std::fs::write(frozen(), written(&run)).expect("write");
    }
    let kept = std::fs::read(frozen()).expect("the frozen run");
    assert!(opened(&kept).and_then(read).expect("read") == run);
    assert!(written(&run) == kept, "what is written today is the first format still");
}
