//! The command line: what can be asked, and nothing of how it is done.

use crate::check::{AtLeast, When};
use crate::plan::Mix;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

/// A discard-heavy workload that remembers what it did, and the judge of any image against that
#[derive(Debug, Parser)]
#[command(name = "churn", version, max_term_width = 100, subcommand_required = true)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    Run(Run),
    Check(Check),
    Show(Show),
}

/// Change a device: writes, discards, zeroing, flushes, from many lanes at once. ALL OF THE REGION IS OVERWRITTEN
///
/// Ends at --ops or --seconds, at SIGTERM, or at the first error. Exit status: 0 all came back well, 1 something failed.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub struct Run {
    /// The block device (or a file)
    pub device: PathBuf,
    /// The history, a new file. Put it where it survives what is going to happen
    #[arg(long, value_name = "FILE")]
    pub log: PathBuf,
    /// Have every entry on disk before its operation is submitted, for a log that must survive a power cut
    #[arg(long)]
    pub sync_log: bool,
    /// Where all chance comes from
    #[arg(long, value_name = "N")]
    pub seed: u64,
    /// Threads
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// Operations in flight for each thread
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=128))]
    pub depth: u16,
    /// End after so many operations
    #[arg(long, value_name = "N")]
    pub ops: Option<u64>,
    /// End after so many seconds
    #[arg(long, value_name = "N")]
    pub seconds: Option<u64>,
    /// Operations a second, all threads together
    #[arg(long, value_name = "N")]
    pub rate: Option<u64>,
    /// Change only this region, in sectors of 512 bytes
    #[arg(long, value_name = "FIRST+SECTORS", value_parser = region)]
    pub region: Option<(u64, u64)>,
    /// The longest write, in sectors (256, or what the device takes as one request)
    #[arg(long, value_name = "SECTORS", value_parser = clap::value_parser!(u64).range(1..=65536))]
    pub longest_write: Option<u64>,
    /// The longest discard or zeroing, in sectors (all of the region)
    #[arg(long, value_name = "SECTORS", value_parser = clap::value_parser!(u64).range(1..))]
    pub longest_discard: Option<u64>,
    /// Every operation changes one of the first N blocks of 4096 bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub hot_blocks: Option<u64>,
    /// How often each kind is chosen: write, fua, discard, zero, punch, flush; what is not named is left out
    #[arg(long, value_name = "KIND=WEIGHT,...")]
    pub mix: Option<Mix>,
    /// No discards
    #[arg(long)]
    pub no_discard: bool,
    /// The device may keep what was discarded
    #[arg(long)]
    pub discards_may_keep: bool,
    /// Go on after an operation failed
    #[arg(long)]
    pub go_on: bool,
}

/// Judge an image: is it one moment of that history? Exit status: 0 it is, 1 it is not, 2 nothing could be judged
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The image: a block device or a file
    pub image: PathBuf,
    /// The history of the run
    #[arg(long, value_name = "FILE")]
    pub log: PathBuf,
    /// What must be in
    #[arg(long, value_name = "WHAT", default_value = "nothing")]
    pub at_least: AtLeast,
    /// Everything that had completed by then is in: so many entries of the log, or @ nanoseconds since 1970 UTC
    #[arg(long, value_name = "N|@NS")]
    pub after: Option<When>,
    /// Nothing that was submitted from then on is in
    #[arg(long, value_name = "N|@NS")]
    pub before: Option<When>,
    /// How far off wall-clock times may be, in milliseconds
    #[arg(long, value_name = "MS", default_value_t = 20)]
    pub slack: u64,
    /// One JSON object
    #[arg(short = 'J', long)]
    pub json: bool,
}

/// Print a history: what it holds, or its operations
#[derive(Debug, clap::Args)]
pub struct Show {
    /// The history
    pub log: PathBuf,
    /// A line for every operation
    #[arg(long)]
    pub operations: bool,
    /// Of the operations, only those that cover this sector
    #[arg(long, value_name = "S")]
    pub sector: Option<u64>,
}

fn region(text: &str) -> Result<(u64, u64), String> {
    let parse = |text: &str| text.parse::<u64>().map_err(|_| format!("{text:?} is not a number"));
    let (first, sectors) = text.split_once('+').ok_or_else(|| format!("{text:?} is not FIRST+SECTORS"))?;
    Ok((parse(first)?, parse(sectors)?))
}
