//! `cargo xtask test`: every kind of test at the counts of the gate, closed by one line of numbers.

use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};

use crate::place::Place;
use crate::suite::{self, Rounds, Run, Show, Suite};
use crate::tally::Tally;
use crate::{cargo, packages};

/// Guests that run side by side.
const GUESTS_AT_ONCE: usize = 2;

/// Install what is missing, build, run all tests, then the VM suites; the last line counts them.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only this VM suite
    #[arg(long, value_name = "NAME", conflicts_with = "no_vm")]
    only: Option<String>,
    /// Leave the VM suites out
    #[arg(long)]
    no_vm: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> ExitCode {
    let mut tally = Tally::default();
    // Whatever stops us is a failure that the closing line counts.
    if let Err(error) = all(args, &mut tally) {
        tally.fail(format!("{error:#}"));
    }
    for failure in tally.failures() {
        println!("failed: {failure}");
    }
    println!("undisk: {tally}");
    if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn all(args: &Args, tally: &mut Tally) -> Result<()> {
    let place = Place::find()?;
    packages::ensure(&place)?;
    let suites = match &args.only {
        Some(name) => vec![suite::named(&place, name)?],
        None if args.no_vm => Vec::new(),
        None => suite::all(&place)?.into_iter().filter(|suite| !suite.is_soak_only()).collect(),
    };
    let binaries = cargo::build(&place)?;
    if args.only.is_none() {
        let tests = cargo::test(&place)?;
        println!("tests without the VM: {} passed", tests.passed());
        tally.add(tests);
    }
    let seed = seed()?;
    println!("SEED={seed}");
    run_suites(&place, &binaries, seed, suites, tally);
    Ok(())
}

/// Two guests at once: one alone leaves half of two cores idle, and each waits for its own disks and deadlines most of
/// the time. The longest first, so that none is left alone at the end.
fn run_suites(place: &Place, binaries: &Path, seed: u64, mut suites: Vec<Suite>, tally: &mut Tally) {
    suites.sort_by_key(|suite| std::cmp::Reverse(suite.patience()));
    let (waiting, done) = (Mutex::new(suites.into_iter()), Mutex::new(tally));
    std::thread::scope(|scope| {
        for _ in 0..GUESTS_AT_ONCE {
            scope.spawn(|| {
                loop {
                    let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(suite) = next else { return };
                    let cases = run_suite(place, binaries, seed, &suite);
                    let mut tally = done.lock().unwrap_or_else(PoisonError::into_inner);
                    match cases {
                        Ok(cases) => tally.add(cases),
                        Err(error) => tally.fail(format!("{}: {error:#}", suite.name())),
                    }
                }
            });
        }
    });
}

fn run_suite(place: &Place, binaries: &Path, seed: u64, suite: &Suite) -> Result<Tally> {
    eprintln!("xtask: suite {}", suite.name());
    // What the suite before us left there, its logs mostly, is of yesterday.
    let out = place.vm_cache()?.join("out").join(suite.name());
    let _ = fs::remove_dir_all(&out);
    suite.run(&Run { place, binaries, rounds: Rounds::Quick, seed, show: Show::Cases, out, plugin: None })
}

/// The seed of this run: `$SEED`, or a fresh one.
pub fn seed() -> Result<u64> {
    if let Some(seed) = std::env::var_os("SEED") {
        let seed = seed.to_string_lossy().into_owned();
        return seed.parse().with_context(|| format!("SEED={seed} is not a number"));
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("ask for the time")?;
    Ok(now.as_secs())
}
