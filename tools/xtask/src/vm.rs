//! `cargo xtask vm`: runs one command in the guest and exits as it did.

use std::ffi::OsString;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::guest::{Clock, Disk, Ending, Guest, Outcome, Stream};
use crate::place::Place;

/// Run a command in a QEMU guest with Debian's 6.12 kernel, over a read-only view of this host's root.
///
/// The command runs as root in the current folder; whatever it writes goes to memory, except below /out and on its disks.
/// It gets UNDISK_*, CARGO_*, RUST_* and SEED from this environment. When it ends, file systems are synced and the guest
/// is switched off; `undisk-vm-cut [STATUS]` in the guest cuts its power at once instead.
/// Exit status: the command's; 124 when the time was up, 125 when the guest died.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Let one instruction be one nanosecond of guest time (one CPU): measurements repeat
    #[arg(long)]
    icount: bool,
    /// Memory in MiB
    #[arg(long, value_name = "M", default_value_t = 2048)]
    mem: u32,
    /// Virtual CPUs
    #[arg(long, value_name = "N", default_value_t = 2)]
    cpus: u32,
    /// A disk that outlives the guest (/dev/vda, vdb, ... in this order); a missing file is made, sparse, at SIZE
    #[arg(long = "disk", value_name = "FILE[:SIZE]|nbd:unix:SOCK")]
    disks: Vec<Disk>,
    /// The host folder that is writable at /out
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Seconds until the guest is killed
    #[arg(long, value_name = "SECS", default_value_t = 600)]
    timeout: u64,
    /// Copy the kernel's console to stderr
    #[arg(long)]
    kernel_log: bool,
    /// Run udev in the guest (this host's rules)
    #[arg(long)]
    udev: bool,
    /// The command and its arguments; for a pipeline, say bash -c '...'
    #[arg(required = true, trailing_var_arg = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Runs the verb.
pub fn run(args: Args) -> Result<ExitCode> {
    let place = Place::find()?;
    let here = std::env::current_dir().context("ask for the current folder")?;
    let guest = Guest {
        memory_mib: args.mem,
        cpus: args.cpus,
        clock: if args.icount { Clock::Instructions } else { Clock::Host },
        disks: args.disks.into_iter().map(|disk| disk.below(&here)).collect(),
        out: args.out.map(|folder| here.join(folder)),
        timeout: Duration::from_secs(args.timeout),
        kernel_log: args.kernel_log,
        udev: args.udev,
        ..Guest::default()
    };
    let outcome = guest.run(&place, &args.command, &mut print)?;
    if let (Some(boot), true) = (outcome.boot, guest.kernel_log) {
        eprintln!("xtask: the command began {:.1} seconds after power-on", boot.as_secs_f64());
    }
    report(&outcome, guest.timeout);
    Ok(ExitCode::from(outcome.ending.exit_status()))
}

/// Passes the guest's output on to ours.
pub fn print(stream: Stream, bytes: &[u8]) {
    // A reader that went away (xtask vm ... | head) is no reason to leave the guest's disks in disorder.
    let _ = match stream {
        Stream::Out => io::stdout().write_all(bytes).and_then(|()| io::stdout().flush()),
        Stream::Err | Stream::Kernel => io::stderr().write_all(bytes),
    };
}

/// Says on stderr what the command's own output cannot say.
pub fn report(outcome: &Outcome, timeout: Duration) {
    for complaint in &outcome.complaints {
        eprintln!("xtask: the guest's kernel: {complaint}");
    }
    let what = match outcome.ending {
        Ending::Exited(_) => return,
        Ending::Deadline => format!("the guest was killed after {} seconds", timeout.as_secs()),
        Ending::Died => "the guest died before its command ended".to_owned(),
    };
    eprintln!("--- the end of its kernel's log ---\n{}\n---", outcome.kernel_tail.trim_end());
    eprintln!("xtask: {what}");
}
