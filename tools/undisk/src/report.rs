//! What a verb has to say at its end, and how it is printed.
//!
//! Owns the split between results (stdout, for scripts, last), explanations (stdout, for people) and complaints
//! (stderr), and the one JSON object instead of all that.

use control::answer::Outcome;
use control::error::{ControlError, Kind};
use serde::Serialize;
use serde_json::{Map, Value};
use std::io::{self, Write};

/// The version of the JSON that this release prints; fields may be added without a new one.
pub const JSON_VERSION: u32 = 1;

/// The end of a verb.
#[derive(Debug, Default)]
pub struct Report {
    json: Map<String, Value>,
    lines: Vec<String>,
    results: Vec<String>,
    complaints: Vec<String>,
    short_of: Option<Kind>,
}

impl Report {
    /// Nothing to say yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// What `Answer::Done` says.
    pub fn done(outcome: Outcome, message: String) -> Self {
        Self::new().field("outcome", &outcome).field("message", &message).line(message)
    }

    /// A field of the JSON object.
    #[must_use]
    pub fn field<T: Serialize>(mut self, name: &str, value: &T) -> Self {
        self.json.insert(name.to_owned(), crate::json::value(value));
        self
    }

    /// A line for people; `--quiet` leaves it out.
    #[must_use]
    pub fn line(mut self, line: impl Into<String>) -> Self {
        self.lines.push(line.into());
        self
    }

    /// Several of them.
    #[must_use]
    pub fn lines(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.lines.extend(lines);
        self
    }

    /// What another one says, behind what this one says.
    #[must_use]
    pub fn with(mut self, other: Self) -> Self {
        self.json.extend(other.json);
        self.lines.extend(other.lines);
        self.results.extend(other.results);
        self.complaints.extend(other.complaints);
        self.short_of = self.short_of.or(other.short_of);
        self
    }

    /// A line that scripts take; printed last, also with `--quiet`.
    #[must_use]
    pub fn result(mut self, line: impl Into<String>) -> Self {
        self.results.push(line.into());
        self
    }

    /// Several of them.
    #[must_use]
    pub fn results(mut self, lines: impl IntoIterator<Item = String>) -> Self {
        self.results.extend(lines);
        self
    }

    /// Something that is not as it should be: a line on stderr, and this kind's exit status (the first one decides).
    #[must_use]
    pub fn complaint(mut self, kind: Kind, line: impl Into<String>) -> Self {
        self.complaints.push(line.into());
        self.short_of.get_or_insert(kind);
        self
    }

    /// What goes to stdout.
    fn text(&self, json: bool, quiet: bool) -> String {
        if json {
            return object(self.json.clone());
        }
        let lines = self.lines.iter().filter(|_| !quiet).chain(&self.results);
        lines.flat_map(|line| [line.as_str(), "\n"]).collect()
    }

    /// Prints what has come so far of something that goes on; `false` when nobody reads any more.
    pub fn flows(&self, json: bool, quiet: bool) -> bool {
        let text = self.text(json, quiet);
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
    }

    /// Prints everything; the exit status.
    pub fn print(self, json: bool, quiet: bool) -> u8 {
        if let Err(e) = to_stdout(&self.text(json, quiet)) {
            let _ = writeln!(io::stderr(), "undisk: cannot print: {e}");
            return Kind::Failed.exit_status();
        }
        for line in &self.complaints {
            let _ = writeln!(io::stderr(), "undisk: {line}");
        }
        self.short_of.map_or(0, Kind::exit_status)
    }
}

/// Prints an error; the exit status.
pub fn print_error(error: &ControlError, json: bool) -> u8 {
    let status = error.kind.exit_status();
    if json {
        let mut fields = Map::new();
        let mut told = Map::new();
        told.insert("kind".into(), crate::json::value(&error.kind));
        told.insert("exit_status".into(), status.into());
        told.insert("message".into(), error.message.clone().into());
        told.insert("hint".into(), error.hint.clone().into());
        fields.insert("error".into(), told.into());
        // The line below says it as well.
        let _ = to_stdout(&object(fields));
    }
    let hint = error.hint.as_ref().map_or_else(String::new, |hint| format!("hint: {hint}\n"));
    let text = format!("undisk: {}\n{hint}", error.message);
    let _ = io::stderr().write_all(text.as_bytes());
    status
}

/// The object with its version in front, where a person looks first.
fn object(fields: Map<String, Value>) -> String {
    let rest = Value::Object(fields).to_string();
    match rest.strip_prefix('{') {
        Some(rest) if rest != "}" => format!("{{\"undisk_version\":{JSON_VERSION},{rest}\n"),
        Some(_) | None => format!("{{\"undisk_version\":{JSON_VERSION}}}\n"),
    }
}

/// A reader that has seen enough (`| head`) is no failure.
fn to_stdout(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done,
    }
}
