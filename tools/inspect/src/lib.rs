//! Reads and verifies a journal with no daemon.
//!
//! Owns the verbs of `inspect` and how they are printed. Links `record` and `journal`, takes the spelling of points
//! and the exit statuses from `control`, and talks to no daemon: it works on a directory that a daemon has open, on one
//! that nobody has, and on a copy. It never writes to a journal.
#![forbid(unsafe_code)]

mod args;
mod dump;
mod extract;
mod open;
mod out;
mod points;
mod read;
mod trace;
mod verify;
mod walk;

use clap::Parser as _;
use control::error::ControlError;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;

/// How a verb ended, when nothing stopped it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ending {
    /// As it should: 0.
    Well,
    /// Damage was found, as was asked: 1.
    Found,
    /// Done, but sectors were refused: 3.
    Refused,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        Self::from(match ending {
            Ending::Well => 0,
            Ending::Found => 1,
            Ending::Refused => 3,
        })
    }
}

/// Runs the program with these arguments, its own name first. Exit statuses are those of `undisk`: 0 well, 1 failed or
/// damage found, 2 usage, 3 sectors were refused, 4 no such journal, volume or point, 5 the point lies in a gap.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args = match args::Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Help and version come this way too, with status 0 and on stdout.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let ended = match args.verb {
        args::Verb::Verify(verb) => verify::run(&verb, &mut out),
        args::Verb::Dump(verb) => dump::run(&verb, &mut out),
        args::Verb::Points(verb) => points::run(&verb, &mut out),
        args::Verb::Extract(verb) => extract::run(&verb, &mut out),
        args::Verb::Read(verb) => read::run(&verb, &mut out),
        args::Verb::Trace(verb) => trace::run(&verb, &mut out),
    };
    let ended = ended.and_then(|ending| out.flush().map_err(|error| out::failed(&error)).map(|()| ending));
    match ended {
        Ok(ending) => ending.into(),
        Err(error) => {
            complain(&error);
            ExitCode::from(error.kind.exit_status())
        }
    }
}

/// The one place that prints an error.
fn complain(error: &ControlError) {
    eprintln!("inspect: {}", error.message);
    if let Some(hint) = &error.hint {
        eprintln!("  {hint}");
    }
}
