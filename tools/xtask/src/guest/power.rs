//! The power of a guest's disks: the server of `tests/powerdisk`, and the moment when everything goes dark.
//!
//! Owns the server's life and the order of a cut: first the disks lose what was not flushed, all at one instant, then
//! QEMU is killed (the caller's part). The other way round QEMU would flush its disks on its way out.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::Disk;

/// A running server.
#[derive(Debug)]
pub struct Power {
    server: Child,
    control: PathBuf,
    disks: Vec<Disk>,
    seed: AtomicU64,
}

/// How long the server may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

impl Power {
    /// Serves disks of these sizes, their durable content in `folder`. `binaries` holds the server's program; all chance
    /// of its cuts comes from `seed`.
    pub fn start(binaries: &Path, folder: &Path, sizes: &[u64], seed: u64) -> Result<Self> {
        let control = folder.join("power.control");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]).arg(binaries.join("powerdisk"));
        command.arg("--control").arg(&control);
        let mut disks = Vec::new();
        for (number, size) in sizes.iter().enumerate() {
            let file = folder.join(format!("power{number}.img"));
            Disk::File { path: file.clone(), size: Some(*size) }.prepare()?;
            let socket = folder.join(format!("power{number}.sock"));
            command.arg("--disk").arg(format!("{}={}", socket.display(), file.display()));
            disks.push(Disk::Nbd { socket });
        }
        let log = File::create(folder.join("power.log")).context("create the log of the disks' server")?;
        let errors = log.try_clone().context("share the log of the disks' server")?;
        let server = command.stdin(Stdio::null()).stdout(log).stderr(errors).spawn().context("start powerdisk")?;
        let mut power = Self { server, control, disks, seed: AtomicU64::new(seed) };
        power.wait(folder)?;
        Ok(power)
    }

    fn wait(&mut self, folder: &Path) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if self.order("status").is_ok() {
                return Ok(());
            }
            let ended = self.server.try_wait().context("wait for powerdisk")?;
            if ended.is_some() || Instant::now() >= deadline {
                let said = fs::read_to_string(folder.join("power.log")).unwrap_or_default();
                bail!("powerdisk does not serve: {}", said.trim());
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The disks, as a guest takes them.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// Cuts the disks' power; one line that says with which seed and at what cost.
    pub fn cut(&self) -> Result<String> {
        let seed = self.seed.fetch_add(1, Ordering::Relaxed);
        self.order(&format!("cut {seed}"))
    }

    fn order(&self, line: &str) -> Result<String> {
        let mut stream = UnixStream::connect(&self.control).context("connect to powerdisk")?;
        stream.set_read_timeout(Some(PATIENCE)).context("bound the wait for powerdisk")?;
        writeln!(stream, "{line}").context("tell powerdisk")?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).context("hear powerdisk")?;
        match answer.trim() {
            "" => bail!("powerdisk hung up"),
            answer if answer.starts_with("error") => bail!("powerdisk: {answer}"),
            answer => Ok(answer.to_owned()),
        }
    }
}

impl Drop for Power {
    fn drop(&mut self) {
        // Both fail only when the process is gone already.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
