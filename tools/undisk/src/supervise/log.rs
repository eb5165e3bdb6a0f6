//! Log files of the processes that the supervisor starts: on tmpfs, and bounded.
//!
//! The daemons write into the files themselves (no pipe that a dead supervisor would leave broken), opened for
//! appending, so that cutting a file down under them is safe. Where systemd runs the daemons, the journal does this.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

#[cfg(test)]
mod tests;

/// A log larger than this many bytes becomes `....log.1`, and starts anew.
const BYTES_MAX: u64 = 4 * 1024 * 1024;
/// How much of the end is searched for the last line.
const TAIL: u64 = 8 * 1024;
/// How much of it is told.
const LINE_CHARS: usize = 300;

/// The log, for appending.
pub fn open_log(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

/// Cuts the log down if it is too large. Best effort: a full tmpfs must not stop the supervisor.
pub fn bound(path: &Path) {
    if std::fs::metadata(path).is_ok_and(|found| found.len() > BYTES_MAX) {
        let _ = std::fs::copy(path, path.with_extension("log.1"));
        let _ = OpenOptions::new().write(true).open(path).and_then(|file| file.set_len(0));
    }
}

/// The last line with anything in it.
pub fn last_line(path: &Path) -> Option<String> {
    let mut file = File::open(path).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL))).ok()?;
    let mut tail = Vec::new();
    file.take(TAIL).read_to_end(&mut tail).ok()?;
    let text = String::from_utf8_lossy(&tail);
    let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().filter(|c| !c.is_control()).take(LINE_CHARS).collect())
}

/// A line in the supervisor's own log, which is its stderr.
pub fn note(line: &str) {
    let _ = writeln!(io::stderr(), "{} {line}", control::time::rfc3339(control::time::now()));
}
