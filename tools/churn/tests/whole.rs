//! Goal: the program's two halves fit: what `run` does to a file, `check` accepts, and nothing else.
//!
//! Method: a file of 4 MiB as the device; its copies, changed by hand, as wrong images.

#![expect(clippy::unwrap_used, reason = "a test that cannot set its scene has failed")]

use churn::check::{AtLeast, Found, Order as Check, When, check};
use churn::history::{History, Operation};
use churn::judge::{Rule, Verdict};
use churn::log;
use churn::plan::Mix;
use churn::run::{Done, End, Order, run};
use std::fs;
use std::path::{Path, PathBuf};

const SIZE: u64 = 4 << 20;

struct Bench {
    folder: tempfile::TempDir,
}

impl Bench {
    fn new() -> Self {
        let bench = Self { folder: tempfile::tempdir().unwrap() };
        fs::File::create(bench.path("device")).unwrap().set_len(SIZE).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn run(&self, seed: u64, log: &str, hot_blocks: Option<u64>) -> Done {
        let order = Order {
            device: self.path("device"),
            log: self.path(log),
            synced_log: false,
            seed,
            lanes: 8,
            end: End { operations: Some(800), after: None },
            rate: None,
            region: Some((64, 4096)),
            longest_write: None,
            longest_clear: None,
            hot_blocks,
            mix: Mix::default(),
            discards_may_keep: false,
            go_on: false,
        };
        run(&order).unwrap()
    }

    /// Whether the last change of this sector is a write, in whatever order operations that overlapped in time ran.
    fn is_surely_data(&self, sector: usize, log: &str) -> bool {
        let (header, entries) = log::read(&self.path(log)).unwrap();
        let history = History::new(header, &entries).unwrap();
        let covers =
            |operation: &Operation| (operation.sector..operation.sector + operation.sectors).contains(&(sector as u64));
        let writes_last = history.operations.iter().filter(|operation| covers(operation) && operation.kind.writes());
        let begun = writes_last.map(|operation| operation.submitted).max().unwrap();
        history
            .operations
            .iter()
            .all(|operation| !covers(operation) || operation.kind.writes() || operation.completed < begun)
    }

    fn check(&self, image: &Path, log: &str, at_least: AtLeast) -> Found {
        self.check_between(image, log, at_least, None, None)
    }

    fn check_between(
        &self,
        image: &Path,
        log: &str,
        at_least: AtLeast,
        after: Option<When>,
        before: Option<When>,
    ) -> Found {
        check(&Check { image: image.to_owned(), log: self.path(log), at_least, after, before, slack_ns: 0 }).unwrap()
    }
}

fn is_right(found: &Found) -> bool {
    matches!(found.verdict, Verdict::Right(_))
}

fn rules(found: &Found) -> Vec<Rule> {
    match &found.verdict {
        Verdict::Right(_) => Vec::new(),
        Verdict::Wrong(violations) => violations.iter().map(|violation| violation.rule).collect(),
    }
}

#[test]
fn what_a_run_left_is_right_and_every_change_of_it_is_found() {
    let bench = Bench::new();
    let done = bench.run(5, "log", None);
    assert_eq!(done.errors, Vec::<String>::new());
    assert!(done.counts.values().sum::<u64>() >= 800 && done.counts.len() == 6, "{:?}", done.counts);
    let device = bench.path("device");
    for at_least in [AtLeast::Nothing, AtLeast::Completed, AtLeast::Flushed] {
        let found = bench.check(&device, "log", at_least);
        assert!(is_right(&found) && found.data > 0, "{at_least:?}: {found:?}");
    }
    // A flipped bit, a sector in another's place, data where zeros are.
    let bytes = fs::read(&device).unwrap();
    // Not where a zeroing ran beside the write that is shown: there zeros are a legal end of the same run.
    let data_at =
        (64..4160).find(|sector| bytes[sector * 512] == b'u' && bench.is_surely_data(*sector, "log")).unwrap();
    let zero_at = (64..4160).find(|sector| bytes[sector * 512] == 0).unwrap();
    let image = bench.path("image");
    let wrong = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut changed = bytes.clone();
        change(&mut changed);
        fs::write(&image, &changed).unwrap();
        rules(&bench.check(&image, "log", AtLeast::Completed))
    };
    assert_eq!(wrong(&|bytes| bytes[data_at * 512 + 100] ^= 4), [Rule::Valid]);
    assert_eq!(wrong(&|bytes| bytes.copy_within(data_at * 512..data_at * 512 + 512, zero_at * 512)), [Rule::Valid]);
    assert!(wrong(&|bytes| bytes[zero_at * 512..zero_at * 512 + 512].fill(7)).contains(&Rule::Durable));
    assert!(wrong(&|bytes| bytes[data_at * 512..data_at * 512 + 512].fill(0)).contains(&Rule::Durable));
}

#[test]
fn an_image_of_another_run_is_of_another_time() {
    let bench = Bench::new();
    bench.run(5, "log", None);
    let image = bench.path("image");
    fs::copy(bench.path("device"), &image).unwrap();
    bench.run(5, "second", None);
    assert!(is_right(&bench.check(&bench.path("device"), "second", AtLeast::Completed)));
    let found = bench.check(&image, "second", AtLeast::Completed);
    assert!(!is_right(&found) && found.foreign > 0, "{found:?}");
    // As the time before the second run it is right.
    let before = Some(When::Entries(1));
    assert!(is_right(&bench.check_between(&image, "second", AtLeast::Nothing, None, before)));
    // Under the first run's log the second's content is foreign.
    assert!(!is_right(&bench.check(&bench.path("device"), "log", AtLeast::Completed)));
}

#[test]
fn what_a_living_run_shows_is_what_it_will_have_done() {
    let bench = Bench::new();
    bench.run(9, "log", Some(1));
    let device = bench.path("device");
    assert!(is_right(&bench.check(&device, "log", AtLeast::Completed)));
    let entries = (fs::metadata(bench.path("log")).unwrap().len() - 128) / 40;
    let all = Some(When::Entries(entries));
    assert!(is_right(&bench.check_between(&device, "log", AtLeast::Nothing, all, all)));
    // The present is not right as the past.
    let half = Some(When::Entries(entries / 2));
    let found = bench.check_between(&device, "log", AtLeast::Nothing, None, half);
    assert!(is_right(&found) == (found.data == 0), "{found:?}");
    let by_clock = Some(When::Wall(u64::MAX));
    assert!(is_right(&bench.check_between(&device, "log", AtLeast::Completed, by_clock, by_clock)));
}
