//! `cargo xtask`: the one gate to checking, testing and showing undisk. One file a verb; `guest` is the machine that the
//! verbs share. Builds without any system library, so that it can install what the rest needs.

mod bench;
mod bounded;
mod cargo;
mod check;
mod demo;
mod guest;
mod packages;
mod place;
mod quote;
mod scratch;
mod sim;
mod soak;
mod suite;
mod tally;
mod test;
mod tidy;
mod vm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::place::Place;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The one gate: check, test, soak, sim, bench, demo, vm")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Install the Debian packages and the guest's kernel, as far as they are missing
    Packages,
    Check(check::Args),
    Test(test::Args),
    Soak(soak::Args),
    Sim(sim::Args),
    Bench(bench::Args),
    Demo(demo::Args),
    Vm(vm::Args),
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Packages => install(),
        Verb::Check(args) => check::run(args),
        Verb::Test(args) => Ok(test::run(&args)),
        Verb::Soak(args) => soak::run(&args),
        Verb::Sim(args) => sim::run(&args),
        Verb::Bench(args) => bench::run(&args),
        Verb::Demo(args) => demo::run(&args),
        Verb::Vm(args) => vm::run(args),
    };
    result.unwrap_or_else(|error| {
        eprintln!("xtask: {error:#}");
        ExitCode::FAILURE
    })
}

fn install() -> anyhow::Result<ExitCode> {
    let place = Place::find()?;
    packages::ensure(&place)?;
    let release = guest::kernel_release(&place)?;
    println!("everything is installed; the guest's kernel is {release}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_guests_command_keeps_its_own_options() {
        let line = "xtask vm --icount --mem 512 --disk a.img:1G --disk nbd:unix:s -- ls --all -- x";
        let cli = Cli::try_parse_from(line.split(' ')).unwrap();
        let Verb::Vm(args) = cli.verb else { panic!("not the verb asked for") };
        let text = format!("{args:?}");
        assert!(text.contains(r#"command: ["ls", "--all", "--", "x"]"#), "{text}");
        assert!(text.contains("mem: 512") && text.contains("icount: true") && text.contains("Nbd"), "{text}");
    }

    #[test]
    fn a_wrong_disk_is_refused_before_anything_boots() {
        assert!(Cli::try_parse_from(["xtask", "vm", "--disk", "a:1Q", "--", "true"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "vm"]).is_err());
        assert!(Cli::try_parse_from(["xtask", "test", "--only", "x", "--no-vm"]).is_err());
    }
}
