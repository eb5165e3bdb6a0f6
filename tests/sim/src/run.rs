//! Running seeds, one behind the other or side by side.
//!
//! Owns the folder of each world, what a panic in the product means (a failure of that seed, never of the run), and the
//! lines that say how it went.

use crate::executor::Killed;
use crate::world::{self, Failed, Passed};
use record::fault::Bug;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, set_hook, take_hook};
use std::path::Path;
use std::sync::Once;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

/// What many seeds came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Worlds that passed.
    pub passed: u64,
    /// Worlds that did not, by seed.
    pub failed: Vec<(u64, Failed)>,
    /// Sums over the worlds that passed.
    pub sums: Passed,
}

/// Folders in memory, where the system has them.
fn folder() -> std::io::Result<tempfile::TempDir> {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("undisk-sim-").tempdir_in(parent)
}

/// A process that is cut off unwinds; that is no news for anybody.
fn quiet(bugs: bool) {
    static ONCE: Once = Once::new();
    if bugs {
        // A rule that is broken on purpose may well end in a panic.
        set_hook(Box::new(|_| {}));
        return;
    }
    ONCE.call_once(|| {
        let usual = take_hook();
        set_hook(Box::new(move |info| {
            if !info.payload().is::<Killed>() {
                usual(info);
            }
        }));
    });
}

/// How worlds are run.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct How {
    /// A failure brings the lines of its trace.
    pub keep: bool,
    /// The rule of the product that is broken; only with the feature `faults`.
    pub bug: Option<Bug>,
}

/// Runs one seed.
pub fn one(seed: u64, how: How) -> Result<Passed, Failed> {
    quiet(how.bug.is_some());
    #[cfg(feature = "faults")]
    record::fault::break_rule(how.bug);
    let outcome = run_in_a_folder(seed, how.keep);
    #[cfg(feature = "faults")]
    {
        record::fault::break_rule(None);
        record::fault::cut_off_after(None);
    }
    outcome
}

fn run_in_a_folder(seed: u64, keep: bool) -> Result<Passed, Failed> {
    let lost = |why: String| Failed { why, trace: 0, lines: Vec::new() };
    let folder = folder().map_err(|e| lost(format!("make a folder: {e}")))?;
    catch_unwind(AssertUnwindSafe(|| world::run(seed, folder.path(), keep))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
        Err(lost(format!("the product panicked: {}", text.unwrap_or("without a word"))))
    })
}

/// Runs seeds on so many threads; ends early after `failures` of them have failed.
pub fn many(seeds: Range<u64>, threads: usize, failures: usize, how: How) -> Report {
    let next = AtomicU64::new(seeds.start);
    let report = Mutex::new(Report::default());
    std::thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= seeds.end {
                        return;
                    }
                    let outcome = one(seed, how);
                    let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                    match outcome {
                        Ok(passed) => {
                            report.passed += 1;
                            report.sums.requests += passed.requests;
                            report.sums.strikes += passed.strikes;
                            report.sums.images += passed.images;
                            report.sums.resynced += passed.resynced;
                            report.sums.gaps += passed.gaps;
                            report.sums.polls += passed.polls;
                        }
                        Err(failed) => report.failed.push((seed, failed)),
                    }
                    if report.failed.len() >= failures {
                        next.store(seeds.end, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
    report.failed.sort_by_key(|(seed, _)| *seed);
    report
}
