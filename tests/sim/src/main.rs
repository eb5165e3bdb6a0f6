//! `sim`: runs seeds and says which failed, with the command that replays each.

use clap::Parser;
use record::fault::Bug;
use sim::run::{self, How};
use std::process::ExitCode;
use std::time::Instant;

/// Run seeded histories of the whole system.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds
    #[arg(long, default_value_t = 200)]
    seeds: u64,
    /// The first seed
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Worlds at once
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Stop after so many failures
    #[arg(long, default_value_t = 10)]
    failures: usize,
    /// Show what happened in the worlds that fail
    #[arg(long)]
    trace: bool,
    /// Break each rule of the product in turn, and see that a seed notices
    #[arg(long)]
    bugs: bool,
    /// Break only this rule
    #[arg(long)]
    bug: Option<String>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let began = Instant::now();
    if args.bugs || args.bug.is_some() {
        return bugs(&args);
    }
    let report = run::many(args.from..args.from + args.seeds, args.threads, args.failures, How::default());
    for (seed, failed) in &report.failed {
        println!("seed {seed} failed: {}", failed.why);
        println!("  replay: cargo xtask sim --from {seed} --seeds 1 --trace");
        if args.trace
            && let Err(again) = run::one(*seed, How { keep: true, bug: None })
        {
            again.lines.iter().for_each(|line| println!("  {line}"));
            println!("  {}", if again.trace == failed.trace { "the same again" } else { "NOT the same again" });
        }
    }
    let sums = &report.sums;
    println!(
        "sim: {} seeds passed, {} failed in {:.1} s: {} requests, {} strikes, {} images judged, {} gaps, {} polls",
        report.passed,
        report.failed.len(),
        began.elapsed().as_secs_f64(),
        sums.requests,
        sums.strikes,
        sums.images,
        sums.gaps,
        sums.polls
    );
    if report.failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Which seed is the first to notice each broken rule.
fn bugs(args: &Args) -> ExitCode {
    if !cfg!(feature = "faults") {
        eprintln!("sim: built without the feature faults, so no rule can be broken; cargo xtask sim --bugs");
        return ExitCode::from(2);
    }
    let wanted = |bug: &Bug| args.bug.as_ref().is_none_or(|name| *name == format!("{bug:?}"));
    let mut unnoticed = 0;
    for bug in Bug::ALL.into_iter().filter(wanted) {
        let began = Instant::now();
        let how = How { keep: false, bug: Some(bug) };
        let report = run::many(args.from..args.from + args.seeds, args.threads, 1, how);
        let seconds = began.elapsed().as_secs_f64();
        if let Some((seed, failed)) = report.failed.first() {
            println!("{bug:?}: noticed by seed {seed} ({seconds:.1} s): {}", failed.why);
        } else {
            unnoticed += 1;
            println!("{bug:?}: NOT noticed by {} seeds ({seconds:.1} s)", args.seeds);
        }
    }
    println!("sim: {unnoticed} broken rules went unnoticed");
    if unnoticed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
