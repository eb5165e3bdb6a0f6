//! The program: serves disks until it is told to quit.

use anyhow::{Context as _, Result};
use clap::Parser;
use powerdisk::cache::Disk;
use powerdisk::server::{Rack, open};
use std::path::PathBuf;
use std::process::ExitCode;

/// Serve disks with a volatile cache over NBD; at a cut, what was not flushed may be lost
#[derive(Debug, Parser)]
#[command(name = "powerdisk", max_term_width = 100)]
struct Args {
    /// The socket that takes orders: cut SEED, status, flush, quit
    #[arg(long, value_name = "SOCKET")]
    control: PathBuf,
    /// A disk: the socket to serve it at, and the file that holds what is durable
    #[arg(long = "disk", value_name = "SOCKET=FILE", required = true, value_parser = disk)]
    disks: Vec<(PathBuf, PathBuf)>,
    /// Size of a disk whose file is not there, in bytes
    #[arg(long, value_name = "BYTES")]
    size: Option<u64>,
    /// What is kept or lost as a whole when a change is torn, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 512)]
    piece: u64,
    /// What a disk's cache holds before it writes all of it back, in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 256 << 20)]
    cache: u64,
}

fn disk(text: &str) -> Result<(PathBuf, PathBuf), String> {
    let (socket, file) = text.split_once('=').ok_or_else(|| format!("{text:?} is not SOCKET=FILE"))?;
    Ok((socket.into(), file.into()))
}

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("powerdisk: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let mut disks = Vec::new();
    for (_, file) in &args.disks {
        let (medium, size) = open(file, args.size)?;
        disks.push(Disk::new(medium, size, args.cache));
    }
    let rack = Rack::new(disks, args.piece);
    for (number, (socket, _)) in args.disks.iter().enumerate() {
        rack.listen(number, socket)?;
    }
    rack.obey(&args.control)?;
    // Who says quit means well: a guest that was switched off has flushed.
    rack.flush().context("write back what the caches hold")
}
