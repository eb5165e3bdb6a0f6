//! The command line: what can be asked, and nothing of how it is done.

use clap::{Args as ClapArgs, Parser, Subcommand};
use control::point::PointSpec;
use std::path::PathBuf;

/// Reads and verifies a journal with no daemon
#[derive(Debug, Parser)]
#[command(name = "inspect", version, max_term_width = 100, subcommand_required = true)]
pub struct Args {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Check every byte and name what is damaged: exit 0 when nothing is, 1 when something is
    Verify(Verify),
    /// Print the records, one a line
    Dump(Dump),
    /// Print the timeline: window, gaps, bookmarks, marks
    Points(Points),
    /// Write a volume as it was at a point to a sparse file
    Extract(Extract),
    /// Write sectors of a volume as they were at a point to standard output
    Read(Read),
    /// Follow sectors through the history: a line for each position at which they change
    Trace(Trace),
}

#[derive(Debug, ClapArgs)]
pub struct Journal {
    /// The journal's directory
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}

#[derive(Debug, ClapArgs)]
pub struct Replicas {
    /// Where the replica is that a volume joined with; without it, sectors not written since are refused. VOLUME= may be
    /// left out where only one volume is read
    #[arg(long, value_name = "[VOLUME=]PATH")]
    pub replica: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub struct Verify {
    #[command(flatten)]
    pub journal: Journal,
    /// One JSON object
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Dump {
    #[command(flatten)]
    pub journal: Journal,
    /// First position
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub from: u64,
    /// Last position
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    pub to: u64,
    /// One JSON object a line
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Points {
    #[command(flatten)]
    pub journal: Journal,
    /// One JSON object
    #[arg(short = 'J', long)]
    pub json: bool,
}

#[derive(Debug, ClapArgs)]
pub struct Extract {
    #[command(flatten)]
    pub journal: Journal,
    /// latest, oldest, #BOOKMARK, seq:N, -5m, 2026-11-22T10:00[:SS[.frac]][Z|+hh:mm] or @EPOCH
    #[arg(long, allow_hyphen_values = true)]
    pub point: PointSpec,
    /// The volume, by name
    #[arg(long)]
    pub volume: String,
    /// The file to make; it must not exist
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    #[command(flatten)]
    pub replicas: Replicas,
}

#[derive(Debug, ClapArgs)]
pub struct Sectors {
    /// The first sector (of 512 bytes)
    #[arg(long, value_name = "S")]
    pub sector: u64,
    /// How many sectors
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub sectors: u64,
}

#[derive(Debug, ClapArgs)]
pub struct Read {
    #[command(flatten)]
    pub journal: Journal,
    /// The position
    #[arg(long, value_name = "N", required_unless_present = "point")]
    pub seq: Option<u64>,
    /// The point, in any spelling
    #[arg(long, conflicts_with = "seq", allow_hyphen_values = true)]
    pub point: Option<PointSpec>,
    /// The volume, by name
    #[arg(long)]
    pub volume: String,
    #[command(flatten)]
    pub sectors: Sectors,
    #[command(flatten)]
    pub replicas: Replicas,
}

#[derive(Debug, ClapArgs)]
pub struct Trace {
    #[command(flatten)]
    pub journal: Journal,
    /// The volume, by name; several are followed side by side
    #[arg(long, required = true)]
    pub volume: Vec<String>,
    #[command(flatten)]
    pub sectors: Sectors,
    /// First position; the window's first unless given
    #[arg(long, value_name = "N")]
    pub from: Option<u64>,
    /// Last position; the window's last unless given
    #[arg(long, value_name = "N")]
    pub to: Option<u64>,
    /// A line for every position, changed or not
    #[arg(long)]
    pub every: bool,
    /// One JSON object a line
    #[arg(short = 'J', long)]
    pub json: bool,
    #[command(flatten)]
    pub replicas: Replicas,
}
