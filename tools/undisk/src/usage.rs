//! Wrong usage, as one line and what to type next, instead of a page.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};
use std::ffi::OsString;
use std::io::Write;

#[cfg(test)]
mod tests;

/// A command line that is not one of ours, or asks for help.
#[derive(Debug)]
pub struct UsageError {
    error: clap::Error,
    /// The command as far as it was understood: `undisk volume create`.
    understood: String,
}

impl UsageError {
    /// What clap says of these arguments.
    pub fn new(error: clap::Error, arguments: &[OsString]) -> Self {
        Self { error, understood: understood(arguments) }
    }

    /// Prints it; help and version go to stdout with exit status 0, everything else is exit status 2.
    pub fn print(&self) -> u8 {
        if matches!(self.error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
            // Help into a closed pipe is as good as read.
            let _ = self.error.print();
            return 0;
        }
        let _ = writeln!(std::io::stderr(), "undisk: {}\ntry '{} --help'", self.line(), self.understood);
        2
    }

    /// What is wrong, in one line.
    fn line(&self) -> String {
        if self.error.kind() == ErrorKind::MissingSubcommand {
            let command = deepest(&self.understood);
            let known: Vec<_> =
                command.get_subcommands().filter(|sub| !sub.is_hide_set()).map(Command::get_name).collect();
            return format!("'{}' is not complete: it goes on with one of {}", self.understood, known.join(", "));
        }
        let page = self.error.render().to_string();
        let first = page.split("\n\n").next().unwrap_or_default();
        let line = first.trim_start_matches("error:").split_whitespace().collect::<Vec<_>>().join(" ");
        let suggested = [ContextKind::SuggestedSubcommand, ContextKind::SuggestedArg, ContextKind::SuggestedValue];
        match suggested.iter().find_map(|kind| similar(self.error.get(*kind)?)) {
            Some(similar) => format!("{line} (did you mean '{similar}'?)"),
            None => line,
        }
    }
}

/// The first of what clap finds similar.
fn similar(found: &ContextValue) -> Option<String> {
    match found {
        ContextValue::String(one) => Some(one.clone()),
        ContextValue::Strings(several) => several.first().cloned(),
        _ => None,
    }
}

/// The command of these nouns and verbs.
fn deepest(understood: &str) -> Command {
    let mut command = crate::grammar::command();
    for name in understood.split(' ').skip(1) {
        if let Some(next) = command.find_subcommand(name).cloned() {
            command = next;
        }
    }
    command
}

/// The nouns and verbs at the start of a command line.
fn understood(arguments: &[OsString]) -> String {
    let mut command = crate::grammar::command();
    let mut path = vec!["undisk".to_owned()];
    for argument in arguments.iter().skip(1).filter_map(|argument| argument.to_str()) {
        if argument.starts_with('-') {
            continue;
        }
        let Some(next) = command.find_subcommand(argument).cloned() else { break };
        path.push(argument.to_owned());
        command = next;
    }
    path.join(" ")
}
