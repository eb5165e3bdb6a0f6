//! Which process plays a part: a file with its pid, locked for as long as it lives.
//!
//! The lock (flock, exclusive) is the truth, the number in the file a convenience: the kernel drops the lock when the
//! process dies, however it dies. Owns taking, reading and awaiting it.

use crate::error::ControlError;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How long [`take`] tries: someone who only asks whether the lock is held holds it for an instant.
const TAKE_PATIENCE: Duration = Duration::from_secs(1);

/// A part that this process plays until it drops this, or dies.
#[derive(Debug)]
pub struct PidFile {
    _lock: Flock<File>,
}

/// Takes the part, and writes this process's pid. Refused while another process has it.
pub fn take(path: &Path) -> Result<PidFile, ControlError> {
    let deadline = Instant::now() + TAKE_PATIENCE;
    let mut file = open(path).map_err(|e| failed("open", path, &e))?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                write_pid(&mut lock).map_err(|e| failed("write", path, &e))?;
                return Ok(PidFile { _lock: lock });
            }
            Err((back, Errno::EWOULDBLOCK)) if Instant::now() < deadline => {
                file = back;
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((mut back, Errno::EWOULDBLOCK)) => {
                let who = read_pid(&mut back).map_or_else(String::new, |pid| format!(" as process {pid}"));
                return Err(ControlError::refused(format!(
                    "it is running already{who} ({} is locked)",
                    path.display()
                )));
            }
            Err((_, e)) => return Err(failed("lock", path, &e.into())),
        }
    }
}

/// Who plays the part: `None` when nobody does, `Some(0)` when somebody does who has not written a pid yet.
pub fn holder(path: &Path) -> io::Result<Option<u32>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    match Flock::lock(file, FlockArg::LockSharedNonblock) {
        Ok(_free) => Ok(None),
        Err((mut file, Errno::EWOULDBLOCK)) => Ok(Some(read_pid(&mut file).unwrap_or(0))),
        Err((_, e)) => Err(e.into()),
    }
}

/// Blocks until nobody plays the part; at once when nobody does.
pub fn wait_free(path: &Path) -> io::Result<()> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    loop {
        match Flock::lock(file, FlockArg::LockShared) {
            Ok(_free) => return Ok(()),
            Err((back, Errno::EINTR)) => file = back,
            Err((_, e)) => return Err(e.into()),
        }
    }
}

/// The lock of a file that need not exist, without a pid in it; `None` while another holds it past the deadline.
pub fn lock_until(path: &Path, deadline: Instant) -> io::Result<Option<PidFile>> {
    let mut file = open(path)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(PidFile { _lock: lock })),
            Err((_, Errno::EWOULDBLOCK)) if Instant::now() >= deadline => return Ok(None),
            Err((back, Errno::EWOULDBLOCK)) => {
                file = back;
                std::thread::sleep(Duration::from_millis(20));
            }
            Err((_, e)) => return Err(e.into()),
        }
    }
}

/// Opened without truncating: whoever has the part has its pid in there.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", std::process::id()).as_bytes())
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.rewind().ok()?;
    // A pid has at most seven digits; do not read more of whatever this file is.
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

fn failed(doing: &str, path: &Path, e: &io::Error) -> ControlError {
    ControlError::failed(format!("cannot {doing} the pid file {}: {e}", path.display()))
}
