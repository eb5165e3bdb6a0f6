//! `cargo xtask bench profile`: where the instructions of a request go.
//!
//! Owns how the plugin that counts them is built, handed to QEMU, and read. What runs meanwhile is the suite
//! `bench_profile`; whose an address is, `tests/vm/profile/by_function.py` knows.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::place::Place;
use crate::suite::{self, Rounds, Run, Show};
use crate::{cargo, packages, test};

const SUITE: &str = "bench_profile";

/// Counts, and prints a table for each load.
pub fn run(place: &Place) -> Result<()> {
    packages::ensure(place)?;
    // A C compiler comes with every Rust; line tables are read by binutils, which come with every C compiler.
    let sources = place.root().join("tests/vm/profile");
    let tools = place.vm_cache()?.join("tools");
    fs::create_dir_all(&tools).context("create the folder of tools")?;
    let plugin = tools.join("executed.so");
    let mut cc = Command::new("cc");
    cc.args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(&plugin).arg(sources.join("executed.c"));
    if !cc.status().context("run cc")?.success() {
        bail!("executed.c could not be compiled");
    }
    let suite = suite::named(place, SUITE)?;
    let binaries = cargo::build_release(place)?;
    let out = place.vm_cache()?.join("out").join(SUITE);
    // Yesterday's.
    let _ = fs::remove_dir_all(&out);
    // QEMU takes a comma doubled for one of a name.
    let quoted = |path: &std::path::Path| path.to_string_lossy().replace(',', ",,");
    let words = format!("{},dir={}", quoted(&plugin), quoted(&out));
    let seed = test::seed()?;
    let run = Run {
        place,
        binaries: &binaries,
        rounds: Rounds::Quick,
        seed,
        show: Show::Nothing,
        out: out.clone(),
        plugin: Some(words),
    };
    if !suite.run(&run)?.is_clean() {
        bail!("{SUITE} failed in the guest");
    }
    let mut read = Command::new("python3");
    read.arg(sources.join("by_function.py")).arg(&out).arg(&binaries);
    if !read.status().context("run python3")?.success() {
        bail!("the counts could not be read");
    }
    eprintln!("xtask: stacks for a flame graph: {}", out.join("folded-*").display());
    Ok(())
}
