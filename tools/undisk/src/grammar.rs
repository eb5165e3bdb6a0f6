//! The grammar: nouns, verbs and the options that every command has.
//!
//! Owns which commands there are and who runs them. The options of a verb stand in the verb's own file.

use crate::report::{Report, print_error};
use crate::session::Session;
use crate::usage::UsageError;
use crate::{bookmark, down, events, group, image, journal, point, rollback, status, supervise, up, volume};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use control::error::ControlError;
use std::ffi::OsString;

/// Undo for block devices: every write is a point in time.
#[derive(Debug, Parser)]
#[command(
    name = "undisk",
    version,
    arg_required_else_help = false,
    disable_help_subcommand = true,
    after_help = "Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but degraded, 4 not found, 5 refused for safety, \
                  6 daemon unreachable, 7 timed out."
)]
pub struct Invocation {
    #[command(subcommand)]
    noun: Noun,
    #[command(flatten)]
    common: Common,
}

/// Options of every command.
#[derive(Clone, Debug, Args)]
pub struct Common {
    /// Print one JSON object (docs/formats/json.md)
    #[arg(short = 'J', long, global = true)]
    pub json: bool,
    /// Print only the result, no explanations
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Show progress on stderr although it is no terminal
    #[arg(long, global = true)]
    pub progress: bool,
    /// Of several splitters on this host, the one with this name
    #[arg(long, global = true, value_name = "NAME")]
    pub splitter: Option<String>,
    /// Give up waiting after so long, as in 90s or 10m; what was asked goes on in the daemon
    #[arg(long, global = true, value_name = "SPAN")]
    pub timeout: Option<String>,
}

#[derive(Debug, Subcommand)]
enum Noun {
    /// Start both daemons on this host, or what is missing of them
    Up(up::Up),
    /// Stop both daemons; refused while a device is open or mounted
    Down(down::Down),
    /// Show how everything is, on one screen; exit status 3 if anything is degraded
    Status,
    /// Virtual volumes: block devices whose every write is recorded
    #[command(subcommand, arg_required_else_help = false)]
    Volume(volume::Verb),
    /// Consistency groups: volumes that share one order of writes and one journal
    #[command(subcommand, arg_required_else_help = false)]
    Group(group::Verb),
    /// Names for moments
    #[command(subcommand, arg_required_else_help = false)]
    Bookmark(bookmark::Verb),
    /// Moments that can be opened
    #[command(subcommand, arg_required_else_help = false)]
    Point(point::Verb),
    /// Past moments as block devices
    #[command(subcommand, arg_required_else_help = false)]
    Image(image::Verb),
    /// Roll the volumes of a group back to a moment
    Rollback(rollback::Rollback),
    /// Journals: what they hold, and whether they are whole
    #[command(subcommand, arg_required_else_help = false)]
    Journal(journal::Verb),
    /// What happened, newest last
    Events(events::Show),
    /// Same as volume list
    #[command(hide = true)]
    Volumes(volume::list::List),
    /// Same as group list
    #[command(hide = true)]
    Groups(group::list::List),
    /// Same as bookmark list
    #[command(hide = true)]
    Bookmarks(bookmark::list::List),
    /// Same as point list
    #[command(hide = true)]
    Points(point::list::List),
    /// Same as image list
    #[command(hide = true)]
    Images(image::list::List),
    /// Same as journal status
    #[command(hide = true)]
    Journals(journal::status::Status),
    /// Keep both daemons running (started by up)
    #[command(hide = true)]
    Supervise,
}

/// The whole grammar, for man pages and completions.
pub fn command() -> clap::Command {
    Invocation::command()
}

/// Reads a command line.
pub fn parse(arguments: &[OsString]) -> Result<Invocation, UsageError> {
    let outcome = command().try_get_matches_from(arguments).and_then(|found| Invocation::from_arg_matches(&found));
    outcome.map_err(|error| UsageError::new(error, arguments))
}

impl Invocation {
    /// Does what was asked, prints what came of it, and returns the exit status.
    pub fn run(self) -> u8 {
        let json = self.common.json;
        let quiet = self.common.quiet;
        match Session::new(&self.common).and_then(|session| self.noun.run(&session)) {
            Ok(report) => report.print(json, quiet),
            Err(error) => print_error(&error, json),
        }
    }
}

impl Noun {
    fn run(self, session: &Session) -> Result<Report, ControlError> {
        match self {
            Self::Up(verb) => verb.run(session),
            Self::Down(verb) => verb.run(session),
            Self::Status => status::run(session),
            Self::Volume(verb) => verb.run(session),
            Self::Group(verb) => verb.run(session),
            Self::Bookmark(verb) => verb.run(session),
            Self::Point(verb) => verb.run(session),
            Self::Image(verb) => verb.run(session),
            Self::Rollback(verb) => verb.run(session),
            Self::Journal(verb) => verb.run(session),
            Self::Events(verb) => verb.run(session),
            Self::Volumes(verb) => verb.run(session),
            Self::Groups(verb) => verb.run(session),
            Self::Bookmarks(verb) => verb.run(session),
            Self::Points(verb) => verb.run(session),
            Self::Images(verb) => verb.run(session),
            Self::Journals(verb) => verb.run(session),
            Self::Supervise => supervise::run(session),
        }
    }
}
