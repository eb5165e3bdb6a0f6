//! Watches a running QEMU: passes on what the guest prints, notes when the command began, kills QEMU at the deadline, or
//! when the guest does not come up.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::{Power, begin};

/// What a piece of output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// The command's standard output.
    Out,
    /// The command's standard error.
    Err,
    /// The kernel's console, when it was asked for.
    Kernel,
}

/// How QEMU came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finished {
    /// By itself, as the guest wanted, or with the power that the guest had cut.
    Ended,
    /// By itself, with an error of its own.
    Failed,
    /// By us, at the deadline.
    Killed,
    /// By us, because init had not begun in time.
    Silent,
}

/// How often the files that QEMU writes are looked at.
const TICK: Duration = Duration::from_millis(20);
/// How long QEMU may take to end once the guest has handed back its status.
const POWER_OFF: Duration = Duration::from_secs(20);

/// How long a QEMU may live, and how it may die.
#[derive(Debug)]
pub struct Life<'a> {
    /// When it was started.
    pub started: Instant,
    /// When it is killed.
    pub deadline: Instant,
    /// When it is killed unless init has begun.
    pub begin_by: Instant,
    /// Whether the kernel's console is passed on.
    pub kernel_log: bool,
    /// What is cut first when the guest asks for a power cut.
    pub power: Option<&'a Power>,
}

/// Starts `command` and stays with it to its end. Also gives the time from its start to that of the guest's command.
pub fn watch(
    command: &mut Command,
    run: &Path,
    life: &Life<'_>,
    sink: &mut dyn FnMut(Stream, &[u8]),
) -> Result<(Finished, Option<Duration>)> {
    let Life { started, deadline, begin_by, kernel_log, power } = *life;
    let log = File::create(run.join("qemu")).context("create QEMU's log")?;
    let errors = log.try_clone().context("share QEMU's log")?;
    let child = command.stdout(log).stderr(errors).spawn().context("start QEMU (package qemu-system-x86)")?;
    let mut child = Guard(child);
    let mut tails = vec![Tail::new(run, "stdout", Stream::Out), Tail::new(run, "stderr", Stream::Err)];
    if kernel_log {
        tails.push(Tail::new(run, "console", Stream::Kernel));
    }
    let mut boot = None;
    let mut deadline = deadline;
    let mut status_seen = false;
    let mut begun = false;
    loop {
        let ended = child.0.try_wait().context("wait for QEMU")?;
        for tail in &mut tails {
            tail.pass_on(sink).context("read what the guest printed")?;
        }
        if boot.is_none() && run.join("ctl/booted").exists() {
            boot = Some(started.elapsed());
        }
        if let Some(status) = ended {
            return Ok((if status.success() { Finished::Ended } else { Finished::Failed }, boot));
        }
        if let (Some(power), true) = (power, run.join("ctl/cut").exists()) {
            let told = power.cut()?;
            drop(child);
            for tail in &mut tails {
                tail.pass_on(sink).context("read what the guest printed")?;
            }
            sink(Stream::Out, format!("# {told}\n").as_bytes());
            return Ok((Finished::Ended, boot));
        }
        if !status_seen && run.join("ctl/status").exists() {
            status_seen = true;
            deadline = deadline.min(Instant::now() + POWER_OFF);
        }
        begun = begun || fs::metadata(run.join(begin::MARK)).is_ok_and(|mark| mark.len() > 0);
        let now = Instant::now();
        let over = if now >= deadline {
            Some(Finished::Killed)
        } else if !begun && now >= begin_by {
            Some(Finished::Silent)
        } else {
            None
        };
        if let Some(finished) = over {
            drop(child);
            for tail in &mut tails {
                tail.pass_on(sink).context("read what the guest printed")?;
            }
            return Ok((finished, boot));
        }
        thread::sleep(TICK);
    }
}

/// Kills its process when dropped: no error path leaves a QEMU behind.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A growing file, passed on piece by piece.
struct Tail {
    path: PathBuf,
    stream: Stream,
    file: Option<File>,
}

impl Tail {
    fn new(run: &Path, name: &str, stream: Stream) -> Self {
        Self { path: run.join(name), stream, file: None }
    }

    fn pass_on(&mut self, sink: &mut dyn FnMut(Stream, &[u8])) -> io::Result<()> {
        if self.file.is_none() {
            match fs::File::open(&self.path) {
                Ok(file) => self.file = Some(file),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        let Some(file) = &mut self.file else {
            return Ok(());
        };
        let mut buffer = [0; 16 * 1024];
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            sink(self.stream, &buffer[..count]);
        }
    }
}

#[cfg(test)]
#[path = "relay_tests.rs"]
mod tests;
