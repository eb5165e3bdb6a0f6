//! Runs against the index that keeps every version: on lines with rollbacks, with runs merged several times over, in memory
//! and in files, and opened again.

use super::*;
use crate::device::RealDisk;
use crate::index::{HeadedIndex, MemoryIndex};
use crate::path::Rollback;
use crate::place::SegmentNumber;
use kit::Rng;
use record::ids::JournalId;
use std::path::Path as Folder;
use tempfile::TempDir;

const VOLUMES: [Incarnation; 2] = [Incarnation::new(3), Incarnation::new(9)];
const SECTORS: u64 = 40_000;
const ID: JournalId = JournalId::from_bytes(*b"runs under test!");

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("extent")
}

/// One record: where and what, or a rollback.
#[derive(Clone, Copy, Debug)]
enum Record {
    Change(Incarnation, Extent, Content),
    Rollback(Position),
}

/// Chunks of records, each chunk with the segment that it stands in.
fn chunks(rng: &mut Rng, count: u64) -> Vec<(u32, Vec<Record>)> {
    let mut segment = 1;
    let mut position = 0;
    let mut out = Vec::new();
    for _ in 0..count {
        if rng.one_in(2) {
            segment += 1;
        }
        let mut records = Vec::new();
        for _ in 0..=rng.below(6) {
            position += 1;
            records.push(if position > 2 && rng.one_in(60) {
                Record::Rollback(Position::new(1 + rng.below(position - 1)))
            } else {
                let longest = [9, 40, 5000, SECTORS - 1][rng.index(4)];
                let length = 1 + rng.below(longest);
                let content = [Content::Data, Content::Zero, Content::Hole][rng.index(3)];
                Record::Change(VOLUMES[rng.index(2)], extent(rng.below(SECTORS - length), length), content)
            });
        }
        out.push((segment, records));
    }
    out
}

#[derive(Default)]
struct Model {
    all: MemoryIndex,
    rollbacks: Vec<Rollback>,
    head: u64,
}

impl Model {
    fn path(&self, at: u64) -> Path {
        Path::of(&self.rollbacks, Position::ORIGIN, Position::new(at))
    }

    fn check(&self, index: &HeadedIndex<RunIndex>, rng: &mut Rng) {
        for at in [self.head, 1 + rng.below(self.head), 1 + rng.below(self.head)] {
            let path = self.path(at);
            let count = 1 + rng.below(SECTORS - 1);
            let part = extent(rng.below(SECTORS - count), count);
            for volume in VOLUMES {
                let expected = self.all.resolve(volume, &path, part);
                for answered in
                    [index.ask(volume, &path, part).finish(), index.behind().ask(volume, &path, part).finish()]
                {
                    assert_eq!(answered.runs, expected, "seq:{at} of {}", self.head);
                    assert_eq!(answered.lost, []);
                }
                let other = path.difference(&self.path(1 + rng.below(self.head)));
                assert_eq!(index.touched(volume, &other), self.all.touched(volume, &other), "what changed");
            }
        }
    }
}

/// Puts chunks in; the model learns of them when it is given.
fn put(index: &mut HeadedIndex<RunIndex>, chunks: &[(u32, Vec<Record>)], mut model: Option<(&mut Model, &mut Rng)>) {
    let mut rollbacks = Vec::new();
    let mut at = 0;
    for (number, (segment, records)) in (0..).zip(chunks) {
        let place = Place { segment: SegmentNumber::new(*segment), offset: 4096 * (number + 1) };
        let digest = crc32c(format!("{records:?}").as_bytes());
        index.behind_mut().chunk(place, Position::new(at + 1), digest);
        for record in records {
            at += 1;
            let position = Position::new(at);
            match record {
                Record::Change(volume, extent, content) => {
                    index.insert(*volume, *extent, position, *content);
                    if let Some((model, _)) = &mut model {
                        model.all.insert(*volume, *extent, position, *content);
                    }
                }
                Record::Rollback(target) => {
                    rollbacks.push(Rollback { at: position, target: *target, id: at });
                    let line = Path::of(&rollbacks, Position::ORIGIN, Position::new(u64::MAX));
                    for volume in VOLUMES {
                        index.rolled_back(volume, &line);
                    }
                }
            }
        }
        index.behind_mut().tend();
        if let Some((model, rng)) = &mut model {
            (model.head, model.rollbacks) = (at, rollbacks.clone());
            if rng.one_in(30) {
                model.check(index, rng);
            }
        }
    }
}

/// The runs of the journal in a folder.
fn shelf(folder: &Folder, writes: bool) -> RunIndex {
    RunIndex::on(Shelf::new(Arc::new(RealDisk::new(folder)), ID, writes))
}

/// What the runs' folder holds.
fn files(folder: &Folder) -> Vec<String> {
    let names = std::fs::read_dir(folder.join("runs")).into_iter().flatten().flatten();
    let mut names: Vec<String> = names.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn runs_answer_what_all_versions_answer_in_memory() {
    let mut levels = 0;
    for seed in Rng::seeds(1, 2) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let chunks = chunks(&mut rng, 700);
        let mut index = HeadedIndex::<RunIndex>::default();
        let mut model = Model::default();
        put(&mut index, &chunks, Some((&mut model, &mut rng)));
        levels = levels.max(index.behind().catalog.all().map(|run| run.id.level).max().unwrap_or(0));
    }
    assert_eq!(levels, 2, "runs were merged, and merged again");
}

#[test]
fn runs_answer_what_all_versions_answer_in_files_and_opened_again() {
    for seed in Rng::seeds(100, 2) {
        println!("SEED={seed}");
        let mut rng = Rng::new(seed);
        let chunks = chunks(&mut rng, 300);
        let temporary = TempDir::new().expect("a folder");
        let folder = temporary.path();
        let mut index = HeadedIndex::of(shelf(folder, true));
        let mut model = Model::default();
        put(&mut index, &chunks, Some((&mut model, &mut rng)));
        let before = files(folder);
        assert!(before.iter().any(|name| name.starts_with("01-")), "{before:?}");
        let foreign = "runs/00-0000000000000001-0000000000000009-00000000.run";
        std::fs::write(folder.join(foreign), b"of another history").expect("write");
        std::fs::write(folder.join("runs/rubbish"), b"").expect("write");
        // A reader, which writes nothing, finds all of it.
        let mut again = HeadedIndex::of(shelf(folder, false));
        put(&mut again, &chunks, None);
        let in_memory = again.behind().catalog.all().filter(|run| matches!(run.home(), Home::Memory(_))).count();
        assert_eq!(in_memory, 0);
        for _ in 0..6 {
            model.check(&again, &mut rng);
        }
        let mut again = HeadedIndex::of(shelf(folder, true));
        put(&mut again, &chunks, None);
        again.behind_mut().tidy();
        assert_eq!(files(folder), before, "what is of no use is gone, and nothing was made twice");
    }
}

#[test]
fn a_run_that_was_merged_before_a_restart_is_there_once_and_not_merged_again() {
    let mut rng = Rng::new(9);
    let all = chunks(&mut rng, 300);
    let temporary = TempDir::new().expect("a folder");
    let folder = temporary.path();
    put(&mut HeadedIndex::of(shelf(folder, true)), &all, None);
    assert!(files(folder).iter().any(|name| name.starts_with("01-")));
    // A checkpoint knows the runs of the lowest level, and was written before they were merged.
    let mut first = HeadedIndex::of(shelf(folder, false));
    put(&mut first, &all, None);
    let lowest = first.behind().catalog.all().filter(|run| run.id.level == 0);
    let known: Vec<(RunId, Option<Span>)> = lowest.map(|run| (run.id, run.span)).collect();
    for tidy in [false, true] {
        let mut again = shelf(folder, true);
        assert!(again.restore(known.clone()));
        if tidy {
            again.tidy();
        }
        let mut next = known.last().expect("runs").0.last;
        for n in 0..40 {
            again.tend();
            next = next.next();
            again.chunk(Place { segment: SegmentNumber::new(9000 + n), offset: 4096 }, next, n);
            again.insert(VOLUMES[0], extent(u64::from(n), 4), next, Content::Data);
        }
        let mut ids: Vec<RunId> = again.catalog.all().map(|run| run.id).collect();
        let count = ids.len();
        ids.sort_unstable_by_key(|id| (id.level, id.first));
        ids.dedup();
        assert_eq!(ids.len(), count, "each is there once");
        assert!(ids.iter().any(|id| id.level == 1));
        // What a checkpoint then says can be taken back, be it said twice.
        let noted: Vec<_> = again.adopted.iter().map(|run| (run.id, run.span)).collect();
        let mut restored = shelf(folder, false);
        assert!(restored.restore(known.clone()) && restored.restore(noted.clone()));
        assert!(restored.restore(noted.into_iter().rev().take(1).collect()));
    }
}

#[test]
fn of_another_history_nothing_is_taken() {
    let mut rng = Rng::new(7);
    let temporary = TempDir::new().expect("a folder");
    let mut other = chunks(&mut rng, 100);
    put(&mut HeadedIndex::of(shelf(temporary.path(), true)), &other, None);
    // The same positions in the same segments, other places.
    for record in other.iter_mut().flat_map(|(_, records)| records) {
        if let Record::Change(_, extent, _) = record {
            *extent = self::extent(extent.start().index() / 2, extent.count().get());
        }
    }
    let (mut index, mut model) = (HeadedIndex::of(shelf(temporary.path(), true)), Model::default());
    put(&mut index, &other, Some((&mut model, &mut rng)));
    model.check(&index, &mut rng);
}

#[test]
fn what_cannot_be_written_stays_in_memory_and_is_written_later() {
    let mut rng = Rng::new(8);
    let temporary = TempDir::new().expect("a folder");
    let folder = temporary.path();
    std::fs::write(folder.join("runs"), b"in the way").expect("write");
    let mut index = HeadedIndex::of(shelf(folder, true));
    let mut model = Model::default();
    put(&mut index, &chunks(&mut rng, 40), Some((&mut model, &mut rng)));
    model.check(&index, &mut rng);
    std::fs::remove_file(folder.join("runs")).expect("remove");
    for _ in 0..=RESTED {
        index.behind_mut().tend();
    }
    assert!(files(folder).len() > 10);
    model.check(&index, &mut rng);
}

#[test]
fn an_image_of_any_moment_needs_few_runs() {
    let mut index = RunIndex::default();
    for n in 1..=5000_u64 {
        let place = Place { segment: SegmentNumber::new(u32::try_from(n).expect("few")), offset: 4096 };
        index.chunk(place, Position::new(n), 1);
        index.insert(VOLUMES[0], extent(n % 1000 * 8, 8), Position::new(n), Content::Data);
        index.tend();
    }
    for n in 1..=5000 {
        let runs = index.catalog.select(&Path::of(&[], Position::ORIGIN, Position::new(n)));
        assert!(runs.len() <= 4 * FAN_OUT, "{} runs for seq:{n}", runs.len());
        let mut next = n.min(4999);
        for run in runs {
            assert_eq!(run.id.last.get(), next, "without a gap");
            next = run.id.first.get() - 1;
        }
        assert_eq!(next, 0, "to the beginning");
    }
}
