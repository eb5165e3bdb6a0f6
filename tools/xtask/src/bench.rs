//! `cargo xtask bench`: what this machine and this disk let the product do, as ratios.
//!
//! Owns which programs measure, and how their lines become an answer. What is measured, and how, stands in those programs:
//! examples of the crates that are measured, each printing `RATIO name value` lines, and, for what needs a ublk device, a
//! suite in the guest, which writes such lines to a file. All of it is built for release.

mod profile;

use std::fmt::Write as _;
use std::fs;
use std::process::{ExitCode, Stdio};

use anyhow::{Context, Result, bail};

use crate::place::Place;
use crate::suite::{self, Rounds, Run, Show};
use crate::{bounded, cargo, packages, test};

/// A cold build for release, and the measuring.
const SECONDS: u64 = 60 * 60;

/// Measure the storage engine, or the path of a request, beside what does less or the same.
///
/// Slices of both alternate, and each figure is the median of them; run it on a machine that does nothing else. Every
/// figure is one line, `RATIO name value`; they are not to be compared between machines.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to measure
    #[arg(value_enum)]
    what: What,
    /// Slices of each
    #[arg(long, value_name = "N", default_value_t = 41)]
    slices: u32,
    /// One JSON object of all figures in place of the lines
    #[arg(long)]
    json: bool,
    /// Leave out what is measured in the guest: reads of images
    #[arg(long)]
    no_vm: bool,
    /// `vm`: latencies by this machine's own clock, with two processors. Noisy: two runs differ, and the guest's processors are
    /// ten times slower than these
    #[arg(long)]
    wall: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum What {
    /// The journal, and reads of images
    Engine,
    /// Reads of images alone
    Image,
    /// The path of a request in the guest, beside what a user would pick instead
    Vm,
    /// More queues, volumes and groups, and idle ones, in the guest
    Scale,
    /// Where the instructions of a request go, by function, in the guest: a table, and stacks for a flame graph
    Profile,
}

/// A program that measures: its crate's example, and the arguments of one run of it.
struct Program {
    example: &'static str,
    arguments: Vec<String>,
}

fn programs(args: &Args, folder: &str) -> Vec<Program> {
    match args.what {
        What::Engine => {
            let ingest = vec![folder.to_string(), args.slices.to_string()];
            let index = |load: &str| Program { example: "index_figures", arguments: vec![load.to_string()] };
            let restart = Program { example: "restart_figures", arguments: vec![folder.to_string()] };
            vec![Program { example: "ingest_figures", arguments: ingest }, index("uniform"), index("skewed"), restart]
        }
        What::Image | What::Vm | What::Scale | What::Profile => Vec::new(),
    }
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    if args.wall && !matches!(args.what, What::Vm) {
        bail!("--wall is for what is measured by the instruction clock: bench vm --wall");
    }
    // On the disk that the checkout is on, not in memory.
    let folder = place.target().join("bench");
    let folder = folder.to_str().context("the target folder's name is not UTF-8")?;
    let mut figures = Vec::new();
    for program in programs(args, folder) {
        if !place.root().join("journal/examples").join(program.example).with_extension("rs").exists() {
            continue;
        }
        let output = bounded::command("cargo", SECONDS)
            .args(["run", "--release", "--quiet", "--package", "journal", "--example", program.example, "--"])
            .args(&program.arguments)
            .current_dir(place.root())
            .stderr(Stdio::inherit())
            .output()
            .context("run cargo")?;
        let text = String::from_utf8_lossy(&output.stdout);
        if !args.json {
            print!("{text}");
        }
        figures.extend(read(&text));
        if !output.status.success() {
            bail!("{} {} failed", program.example, program.arguments.join(" "));
        }
    }
    let suite = match args.what {
        What::Engine | What::Image => IMAGE_READ,
        What::Vm => {
            peers(&place)?;
            BENCH_VM
        }
        What::Scale => BENCH_SCALE,
        What::Profile => {
            profile::run(&place)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    if !args.no_vm {
        let text = in_guest(&place, suite, args.wall)?;
        if !args.json {
            print!("{text}");
        }
        figures.extend(read(&text));
    }
    if args.json {
        println!("{}", json(&figures));
    }
    Ok(ExitCode::SUCCESS)
}

/// The suite that reads an image beside a plain device.
const IMAGE_READ: &str = "image_read";
/// The suite that measures the path of a request beside others.
const BENCH_VM: &str = "bench_vm";
/// The suite that measures many queues, volumes and groups.
const BENCH_SCALE: &str = "bench_scale";
/// The file of a suite's `RATIO` lines, and of what it has for people.
const FIGURES: &str = "figures";
const TABLE: &str = "table";

/// What is measured beside undisk and comes with no Debian: rublk, into the cache. DRBD's tools are a package.
fn peers(place: &Place) -> Result<()> {
    packages::ensure_more(place, &["drbd-utils", "iproute2"])?;
    let root = place.vm_cache()?.join("tools");
    if root.join("bin/rublk").exists() {
        return Ok(());
    }
    eprintln!("xtask: building rublk {RUBLK}, to be measured beside");
    let root = root.to_str().context("the cache's name is not UTF-8")?;
    cargo::run(place, &["install", "rublk", "--version", RUBLK, "--no-default-features", "--locked", "--root", root])
}

/// The published rublk that is measured.
const RUBLK: &str = "0.2.15";

/// The lines of a suite that measures.
fn in_guest(place: &Place, name: &str, wall: bool) -> Result<String> {
    packages::ensure(place)?;
    let suite = suite::named(place, name)?;
    let suite = if wall { suite.by_host_clock() } else { suite };
    let binaries = cargo::build_release(place)?;
    let out = place.vm_cache()?.join("out").join(name);
    // Yesterday's.
    let _ = fs::remove_dir_all(&out);
    let file = out.join(FIGURES);
    let seed = test::seed()?;
    let run = Run { place, binaries: &binaries, rounds: Rounds::Quick, seed, show: Show::Nothing, out, plugin: None };
    let tally = suite.run(&run)?;
    if !tally.is_clean() {
        bail!("{name} failed in the guest");
    }
    if let Ok(table) = fs::read_to_string(file.with_file_name(TABLE)) {
        eprintln!("{table}");
    }
    fs::read_to_string(&file).with_context(|| format!("read {}", file.display()))
}

/// The figures in a program's lines, in order.
fn read(text: &str) -> Vec<(String, f64)> {
    let figure = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "RATIO").then_some(())?;
        let (name, value) = (words.next()?, words.next()?.parse::<f64>().ok().filter(|value| value.is_finite())?);
        Some((name.to_string(), value))
    };
    text.lines().filter_map(figure).collect()
}

/// All of them as one object; of several of one name the first.
fn json(figures: &[(String, f64)]) -> String {
    let mut out = String::from("{");
    for (i, (name, value)) in figures.iter().enumerate() {
        if figures[..i].iter().all(|(before, _)| before != name) {
            let comma = if out.len() > 1 { ", " } else { "" };
            let _ = write!(out, "{comma}\"{name}\": {value}");
        }
    }
    out.push('}');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_read_from_lines_and_told_once_each() {
        let text =
            "noise\nRATIO ingest_4k 0.912\nRATIO broken\nRATIO odd NaN\nRATIO punch_1tib_ms 0.5\nRATIO ingest_4k 2\n";
        let figures = read(text);
        assert_eq!(figures.len(), 3);
        assert_eq!(json(&figures), "{\"ingest_4k\": 0.912, \"punch_1tib_ms\": 0.5}");
        assert_eq!(json(&[]), "{}");
    }
}
