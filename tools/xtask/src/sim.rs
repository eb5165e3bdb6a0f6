//! `cargo xtask sim`: seeded histories of the whole system, any number of them.

use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::{bounded, packages};

/// Run unless another number is asked for.
const SEEDS: u64 = 2000;
/// The same where a rule is broken: one of them is first noticed by a seed in the second or third thousand.
const SEEDS_BROKEN: u64 = 10_000;
/// Seeds may be many.
const SECONDS: u64 = 24 * 60 * 60;

/// Run seeded histories of the whole system in a simulated world (docs/simulation.md); a seed that fails says how to
/// replay it.
///
/// The product is built with its feature `faults`: processes are killed between two stores to shared memory too, and
/// --bugs can break its rules one at a time.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// How many seeds [default: 2000; 10000 for a broken rule, of which only those up to the first that notices are run]
    #[arg(long, value_name = "N")]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, value_name = "S", default_value_t = 0)]
    from: u64,
    /// Worlds at once
    #[arg(long, value_name = "N", default_value_t = 2)]
    threads: usize,
    /// Show what happened in the worlds that fail
    #[arg(long)]
    trace: bool,
    /// Break each rule of the product in turn, and see that a seed notices
    #[arg(long)]
    bugs: bool,
    /// Break only this rule
    #[arg(long, value_name = "NAME")]
    bug: Option<String>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    packages::ensure(&place)?;
    let broken = args.bugs || args.bug.is_some();
    let seeds = args.seeds.unwrap_or(if broken { SEEDS_BROKEN } else { SEEDS });
    let number = |name: &str, n: u64| [format!("--{name}"), n.to_string()];
    let mut command = bounded::command("cargo", SECONDS);
    command.args(["run", "--package", "sim", "--features", "faults", "--quiet", "--"]);
    command.args(number("seeds", seeds)).args(number("from", args.from));
    command.args(number("threads", args.threads as u64));
    command.args(args.trace.then_some("--trace")).args(args.bugs.then_some("--bugs"));
    command.args(args.bug.iter().flat_map(|bug| ["--bug", bug]));
    let status = command.current_dir(place.root()).status().context("run cargo")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
