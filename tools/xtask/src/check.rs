//! `cargo xtask check`: everything that can be known in a few minutes, without the VM.

use std::process::ExitCode;

use anyhow::Result;

use crate::place::Place;
use crate::{cargo, packages, tidy};

/// Check formatting, clippy without a warning, the tidiness of the sources, and all tests that need no VM.
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs the verb: every step, even after one failed.
pub fn run(_: Args) -> Result<ExitCode> {
    let place = Place::find()?;
    packages::ensure(&place)?;
    let mut failures = Vec::new();
    for (name, arguments) in [
        ("fmt", &["fmt", "--all", "--", "--check"][..]),
        ("clippy", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"][..]),
    ] {
        eprintln!("xtask: {name}");
        if let Err(error) = cargo::run(&place, arguments) {
            eprintln!("xtask: {error:#}");
            failures.push(name);
        }
    }
    let offences = tidy::offences(&place)?;
    if !offences.is_empty() {
        failures.push("tidy");
    }
    for offence in offences {
        eprintln!("xtask: {offence}");
    }
    let tally = cargo::test(&place)?;
    if !tally.is_clean() {
        failures.push("test");
    }
    println!("undisk: {tally}");
    if failures.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("xtask: failed: {}", failures.join(", "));
    Ok(ExitCode::FAILURE)
}
