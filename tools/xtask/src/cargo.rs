//! Building and testing with cargo, under deadlines.
//!
//! One profile for everything (dev, which the workspace optimises): the VM suites run the very binaries whose libraries
//! the tests were built with, and a cold clone compiles each dependency once.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result, bail};

use crate::bounded;
use crate::place::Place;
use crate::tally::Tally;

/// A cold build of everything takes minutes; this is for a machine that is busy with other work.
const BUILD_SECONDS: u64 = 25 * 60;
/// All tests without the VM, their build included.
const TEST_SECONDS: u64 = 25 * 60;

/// Builds every program, the examples that suites run too, and gives the folder that holds them.
pub fn build(place: &Place) -> Result<PathBuf> {
    eprintln!("xtask: building");
    run(place, &["build", "--workspace", "--bins", "--examples"])?;
    Ok(place.target().join("debug"))
}

/// The same built for release: what is measured is measured as it is shipped.
pub fn build_release(place: &Place) -> Result<PathBuf> {
    eprintln!("xtask: building for release");
    run(place, &["build", "--release", "--workspace", "--bins", "--examples"])?;
    Ok(place.target().join("release"))
}

/// Runs a cargo command to its end; fails when it fails.
pub fn run(place: &Place, arguments: &[&str]) -> Result<()> {
    let status = bounded::command("cargo", BUILD_SECONDS)
        .args(arguments)
        .current_dir(place.root())
        .status()
        .context("run cargo")?;
    match status.code() {
        Some(0) => Ok(()),
        Some(bounded::TIME_UP) => bail!("cargo {} took longer than {BUILD_SECONDS} seconds", arguments.join(" ")),
        Some(_) | None => bail!("cargo {} failed", arguments.join(" ")),
    }
}

/// Runs all tests that need no VM, and counts them. A test program that dies without a summary is a failure too.
pub fn test(place: &Place) -> Result<Tally> {
    eprintln!("xtask: tests without the VM");
    let mut child = bounded::command("cargo", TEST_SECONDS)
        .args(["test", "--workspace", "--no-fail-fast", "--", "--quiet"])
        .current_dir(place.root())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("run cargo test")?;
    let output = child.stdout.take().context("read what cargo test says")?;
    let mut tally = Tally::default();
    for line in BufReader::new(output).split(b'\n') {
        let line = line.context("read what cargo test says")?;
        let line = String::from_utf8_lossy(&line);
        println!("{line}");
        tally.read_cargo(&line);
    }
    let status = child.wait().context("wait for cargo test")?;
    match status.code() {
        Some(0) => {}
        Some(bounded::TIME_UP) => tally.fail(format!("cargo test took longer than {TEST_SECONDS} seconds")),
        Some(_) | None if tally.is_clean() => {
            tally.fail("cargo test: a test program did not build, or died (see above)");
        }
        Some(_) | None => {}
    }
    if tally.is_empty() {
        tally.fail("cargo test ran no test at all");
    }
    Ok(tally)
}
