//! The command line of undisk.
//!
//! Owns the grammar (one file a verb), what is printed and the exit status, and the supervisor that `undisk up`
//! leaves behind. Deliberately decides nothing about volumes or journals: it asks the daemons, by `control`.
#![forbid(unsafe_code)]

mod config;
mod confirm;
mod grammar;
mod in_use;
mod json;
mod problems;
mod progress;
mod report;
mod session;
mod table;
mod usage;

mod bookmark;
mod down;
mod events;
mod group;
mod image;
mod journal;
mod point;
mod rollback;
mod status;
mod supervise;
mod systemd;
mod up;
mod volume;

use std::ffi::OsString;

pub use grammar::command;

/// Runs a command line (with the program's name in front) and returns its exit status.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    match grammar::parse(&arguments) {
        Ok(invocation) => invocation.run(),
        Err(usage) => usage.print(),
    }
}
