//! What a live device's block queue is told through sysfs.
//!
//! Owns the settings that make a death of the serving process short for its hosts, and checks that they took. They
//! survive a recovery; what is right already is left alone.

use std::fs;
use std::io;
use std::path::Path;

use crate::spec::{DeviceSpec, IDLE_TAGS};

/// The net below the idle tags, milliseconds: should root raise `nr_requests` again, the kernel looks this often
/// whether the process lives. A slow living process is never failed by it.
const IO_TIMEOUT_MS: u32 = 2000;

/// Sets scheduler, `nr_requests`, `io_timeout` and `max_sectors_kb`, in this order: `nr_requests` shrinks the driver's
/// own tags only while the scheduler is none, and then holds whatever scheduler comes later.
///
/// The device serves without them; what could not be set is a warning in the log.
pub(crate) fn tune(spec: &DeviceSpec, depth: u16) {
    let queue = spec.id.sysfs().join("queue");
    set(&queue, "scheduler", "none");
    set(&queue, "nr_requests", &(depth - IDLE_TAGS).to_string());
    set(&queue, "io_timeout", &IO_TIMEOUT_MS.to_string());
    // The default stops at 1280 KiB, however large the device's requests may be.
    if spec.max_io_bytes > 1280 * 1024 {
        set(&queue, "max_sectors_kb", &(spec.max_io_bytes / 1024).to_string());
    }
}

fn set(queue: &Path, name: &str, value: &str) {
    let path = queue.join(name);
    let outcome = read(&path).and_then(|now| {
        // Setting freezes the queue until what is in flight is done: not without need.
        if now == value {
            return Ok(());
        }
        fs::write(&path, value)?;
        let now = read(&path)?;
        if now == value { Ok(()) } else { Err(io::Error::other(format!("it reads back as {now}"))) }
    });
    if let Err(error) = outcome {
        tracing::warn!(path = %path.display(), value, %error, "a setting of the block queue did not take");
    }
}

fn read(path: &Path) -> io::Result<String> {
    let now = fs::read_to_string(path)?;
    // A scheduler file lists all of them, the chosen one in brackets.
    let chosen = now.split_whitespace().find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    Ok(chosen.unwrap_or(now.trim()).to_owned())
}
