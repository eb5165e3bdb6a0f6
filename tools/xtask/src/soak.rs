//! `cargo xtask soak`: one VM suite at the full counts.

use std::fs;
use std::process::ExitCode;

use anyhow::{Context, Result};

use crate::place::Place;
use crate::suite::{self, Rounds, Run, Show};
use crate::{cargo, packages, test};

/// Run one VM suite at the counts that the issues name; all it prints is shown.
///
/// /out outlives a soak that is interrupted or fails, so that a suite which notes its progress there (kill, hammer, link_proxy) goes
/// on behind its last good round. Removing target/vm/soak/NAME begins anew.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The suite: a file of tests/vm/suites, without its ending
    name: String,
    /// This many rounds instead
    #[arg(long, value_name = "N")]
    rounds: Option<u64>,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    packages::ensure(&place)?;
    let suite = suite::named(&place, &args.name)?;
    let binaries = cargo::build(&place)?;
    let seed = test::seed()?;
    println!("SEED={seed}");
    let out = place.vm_cache()?.join("soak").join(suite.name());
    let run = Run {
        place: &place,
        binaries: &binaries,
        rounds: args.rounds.map_or(Rounds::Full, Rounds::Number),
        seed,
        show: Show::Everything,
        out: out.clone(),
        plugin: None,
    };
    let tally = suite.run(&run)?;
    println!("undisk: {tally}");
    if !tally.is_clean() {
        return Ok(ExitCode::FAILURE);
    }
    fs::remove_dir_all(&out).with_context(|| format!("remove {}", out.display()))?;
    Ok(ExitCode::SUCCESS)
}
