//! churn: a discard-heavy workload for any block device that remembers its history, and the judge of any image against
//! it.
//!
//! `churn run` changes a device from many lanes at once. Every sector that it writes says what it is ([`sector`]), and
//! every operation is in the log before it is submitted ([`log`]). `churn check` reads an image - the device itself, a
//! snapshot, a copy - and says whether it is one moment of that history ([`judge`]). It knows nothing of undisk: an
//! image is whatever shows the device's content.
//!
//! `docs/churn.md` is the page for its users.

pub mod rng;
pub mod sector;

pub mod log;

pub mod plan;

pub mod device;

pub mod run;

pub mod history;

pub mod judge;

pub mod check;

mod args;
mod show;

use crate::args::{Args, Verb};
use crate::judge::Verdict;
use crate::log::Kind;
use clap::Parser as _;
use std::ffi::OsString;
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

/// Runs the program with these arguments, its own name first.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let done = match Args::try_parse_from(arguments) {
        Ok(Args { verb: Verb::Run(args) }) => run(args),
        Ok(Args { verb: Verb::Check(args) }) => check(&args),
        Ok(Args { verb: Verb::Show(args) }) => show::show(&args).map(|()| ExitCode::SUCCESS),
        Err(error) => {
            // Help and version come this way too, with status 0 and on stdout.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    done.unwrap_or_else(|error| {
        eprintln!("churn: {error:#}");
        ExitCode::from(2)
    })
}

fn run(args: args::Run) -> anyhow::Result<ExitCode> {
    let mut mix = args.mix.unwrap_or_default();
    if args.no_discard {
        mix.set(Kind::Discard, 0);
    }
    let order = run::Order {
        device: args.device,
        log: args.log,
        synced_log: args.sync_log,
        seed: args.seed,
        lanes: args.threads * args.depth,
        end: run::End { operations: args.ops, after: args.seconds.map(Duration::from_secs) },
        rate: args.rate,
        region: args.region,
        longest_write: args.longest_write,
        longest_clear: args.longest_discard,
        hot_blocks: args.hot_blocks,
        mix,
        discards_may_keep: args.discards_may_keep,
        go_on: args.go_on,
    };
    let done = run::run(&order)?;
    say(&serde_json::json!({
        "run": format!("{:016x}", done.run), "seed": order.seed, "counts": done.counts, "errors": done.errors,
    }));
    for error in &done.errors {
        eprintln!("churn: {error}");
    }
    Ok(if done.errors.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(args: &args::Check) -> anyhow::Result<ExitCode> {
    let order = check::Order {
        image: args.image.clone(),
        log: args.log.clone(),
        at_least: args.at_least,
        after: args.after,
        before: args.before,
        slack_ns: args.slack * 1_000_000,
    };
    let found = check::check(&order)?;
    let (moment, violations) = match &found.verdict {
        Verdict::Right(moment) => (Some(*moment), Vec::new()),
        Verdict::Wrong(violations) => (None, violations.iter().map(ToString::to_string).collect()),
    };
    if args.json {
        say(&serde_json::json!({
            "right": moment.is_some(), "moment": moment, "violations": violations, "operations": found.operations,
            "data": found.data, "zeros": found.zeros, "foreign": found.foreign,
        }));
    } else if let Some(moment) = moment {
        say(&format_args!(
            "right: moment {moment}; {} sectors of data, {} of zeros, {} of another time",
            found.data, found.zeros, found.foreign
        ));
    }
    for violation in &violations {
        eprintln!("churn: {}: {violation}", args.image.display());
    }
    Ok(if moment.is_some() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Prints a line; a reader that went away is no error.
fn say(line: &dyn std::fmt::Display) {
    let _ = writeln!(std::io::stdout(), "{line}");
}
