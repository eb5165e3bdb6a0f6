//! A guest: one command run under Debian's kernel in QEMU, over a read-only view of this host's root.
//!
//! Owns the life of QEMU (every run has a deadline, and QEMU dies with us) and the folder of the run; what a suite or a
//! demo runs in it is theirs. The guest's side of the bargain is `tests/vm/guest`.

mod begin;
mod cpio;
mod disk;
mod initramfs;
mod kernel;
mod modules;
mod power;
mod qemu;
mod relay;

use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

pub use self::disk::{Disk, parse_size};
pub use self::power::Power;
pub use self::qemu::Clock;
pub use self::relay::Stream;

use crate::packages;
use crate::place::Place;
use crate::quote::quote;
use crate::scratch::Scratch;

/// A machine to boot and what to run in it.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Memory, in MiB.
    pub memory_mib: u32,
    /// Virtual CPUs; one under [`Clock::Instructions`].
    pub cpus: u32,
    /// What drives the guest's clock.
    pub clock: Clock,
    /// Disks that outlive the guest, in the order of `/dev/vda`, `/dev/vdb`, ...
    pub disks: Vec<Disk>,
    /// The folder that is writable at `/out`; `None` gives one that goes away with the run.
    pub out: Option<PathBuf>,
    /// QEMU is killed when the run takes longer than this. A boot that did not come up is not counted.
    pub timeout: Duration,
    /// Whether the kernel's console is copied to stderr.
    pub kernel_log: bool,
    /// Whether udev runs in the guest. Without it, devtmpfs alone makes the device nodes.
    pub udev: bool,
    /// Environment of the command, beyond what every command gets.
    pub environment: Vec<(String, OsString)>,
    /// Host folders that the command needs even when they lie below `/tmp`, `/run` or `/mnt`, which are the guest's own.
    pub carried: Vec<PathBuf>,
    /// What `undisk-vm-cut` cuts first: the power of disks that lose what was not flushed.
    pub power: Option<Arc<Power>>,
    /// A plugin of QEMU's and its arguments, as `-plugin` takes them.
    pub plugin: Option<String>,
}

impl Default for Guest {
    fn default() -> Self {
        Self {
            memory_mib: 2048,
            cpus: 2,
            clock: Clock::Host,
            disks: Vec::new(),
            out: None,
            timeout: Duration::from_secs(600),
            kernel_log: false,
            udev: false,
            environment: Vec::new(),
            carried: Vec::new(),
            power: None,
            plugin: None,
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The command ended with this status (128 + n when signal n killed it).
    Exited(i32),
    /// The deadline passed; QEMU was killed.
    Deadline,
    /// The guest ended without handing back a status: it did not boot, or its kernel died.
    Died,
}

/// What a run leaves behind.
#[derive(Debug)]
pub struct Outcome {
    /// How it ended.
    pub ending: Ending,
    /// From the start of QEMU to the start of the command, when it got there.
    pub boot: Option<Duration>,
    /// Lines with which the guest's kernel complained about itself (BUG, Oops, WARNING, hung task).
    pub complaints: Vec<String>,
    /// The end of the kernel's log, for whoever has to explain a failure.
    pub kernel_tail: String,
}

/// Exit status handed on for [`Ending::Deadline`], as `timeout(1)` has it.
const STATUS_DEADLINE: u8 = 124;
/// Exit status handed on for [`Ending::Died`].
const STATUS_DIED: u8 = 125;

impl Ending {
    /// The status that a process standing for this run exits with.
    pub fn exit_status(self) -> u8 {
        match self {
            // The guest's shell reports 0 to 255.
            Self::Exited(status) => u8::try_from(status).unwrap_or(STATUS_DIED),
            Self::Deadline => STATUS_DEADLINE,
            Self::Died => STATUS_DIED,
        }
    }
}

/// The release of the guest's kernel, downloaded if need be.
pub fn kernel_release(place: &Place) -> Result<String> {
    Ok(kernel::ensure(place)?.release)
}

/// Folders that are fresh in the guest; what it must see below them is carried over by name.
const HIDDEN: &[&str] = &["/tmp", "/run", "/mnt", "/var/lib/undisk", "/etc/undisk", "/dev/shm"];

impl Guest {
    /// Boots, runs `argv`, switches off. Output goes to `sink` as it comes. `Err` means that the machine could not be set
    /// up at all; a guest that fails is an [`Outcome`]. One that fails before its init begins is booted again, twice at
    /// most.
    pub fn run(&self, place: &Place, argv: &[OsString], sink: &mut dyn FnMut(Stream, &[u8])) -> Result<Outcome> {
        packages::ensure(place)?;
        let kernel = kernel::ensure(place)?;
        let mut boot = 1;
        loop {
            let run = Scratch::create(place, "run")?;
            let (finished, outcome) = self.boot(place, &kernel, &run, argv, sink)?;
            // What QEMU or the deadline ended is no matter of the boot, and without the file nothing is known.
            let came_to_nothing = outcome.ending == Ending::Died && finished != relay::Finished::Failed;
            let mark = fs::read(run.path(begin::MARK)).ok().filter(|_| came_to_nothing);
            let console = fs::read(run.path("console")).unwrap_or_default();
            let line = mark.and_then(|mark| begin::again(&mark, &String::from_utf8_lossy(&console), boot));
            let Some(line) = line else { return Ok(outcome) };
            eprintln!("xtask: {line}");
            boot += 1;
        }
    }

    /// One boot, in the folder of its own `run`.
    fn boot(
        &self,
        place: &Place,
        kernel: &kernel::Kernel,
        run: &Scratch,
        argv: &[OsString],
        sink: &mut dyn FnMut(Stream, &[u8]),
    ) -> Result<(relay::Finished, Outcome)> {
        let cache = place.vm_cache()?;
        for part in ["ctl", "out"] {
            fs::create_dir(run.path(part)).context("create the folder of the run")?;
        }
        for disk in &self.disks {
            disk.prepare()?;
        }
        fs::write(run.path("initramfs"), initramfs::build(kernel, &cache)?).context("write the initramfs")?;
        fs::write(run.path("ctl/command"), self.command_script(place, argv)?).context("write the command")?;
        fs::write(run.path("ctl/settings"), self.settings(place, kernel)?).context("write the settings")?;
        let out = match &self.out {
            Some(folder) => folder.clone(),
            None => run.path("out"),
        };
        fs::create_dir_all(&out).with_context(|| format!("create the result folder {}", out.display()))?;

        let mut command = qemu::command(self, kernel, run.folder(), &out);
        let started = Instant::now();
        let deadline = started + self.timeout;
        let begin_by = started + begin::PATIENCE;
        let power = self.power.as_deref();
        let life = relay::Life { started, deadline, begin_by, kernel_log: self.kernel_log, power };
        let (finished, boot) = relay::watch(&mut command, run.folder(), &life, sink)?;
        let status = fs::read_to_string(run.path("ctl/status")).ok().and_then(|text| text.trim().parse().ok());
        let ending = match (status, finished) {
            (Some(status), _) => Ending::Exited(status),
            (None, relay::Finished::Ended | relay::Finished::Failed | relay::Finished::Silent) => Ending::Died,
            (None, relay::Finished::Killed) => Ending::Deadline,
        };
        Ok((finished, outcome(run, ending, boot)))
    }

    /// The script that the guest's bash runs: environment, folder, command.
    fn command_script(&self, place: &Place, argv: &[OsString]) -> Result<String> {
        let here = std::env::current_dir().context("ask for the current folder")?;
        let mut script = String::from("export HOME=/root LANG=C.UTF-8 TERM=dumb\n");
        let handed = std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value)));
        let environment = handed.filter(|(name, _)| is_handed_over(name)).chain(self.environment.iter().cloned());
        for (name, value) in environment {
            script = format!("{script}export {name}={}\n", quote(&value.to_string_lossy()));
        }
        let path = std::env::var("PATH").unwrap_or_default();
        script = format!(
            "{script}export PATH={}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/run/init/bin\n",
            quote(&path)
        );
        script = format!("{script}export UNDISK_ROOT={}\n", quote(&place.root().to_string_lossy()));
        script = format!("{script}cd {} || exit 126\nexec", quote(&here.to_string_lossy()));
        for word in argv {
            script = format!("{script} {}", quote(&word.to_string_lossy()));
        }
        script.push('\n');
        Ok(script)
    }

    /// The settings that init sources.
    fn settings(&self, place: &Place, kernel: &kernel::Kernel) -> Result<String> {
        let here = std::env::current_dir().context("ask for the current folder")?;
        let mut carried = vec![here, place.root().to_path_buf(), place.target().to_path_buf()];
        carried.extend(self.carried.iter().cloned());
        let carried: Vec<String> = outermost(carried).iter().map(|path| quote(&path.to_string_lossy())).collect();
        let disks: Vec<String> = (0..self.disks.len()).map(disk_name).collect();
        let modules = fs::canonicalize(&kernel.modules).context("find the kernel's modules")?;
        // The guest's own clock measures the patience, which an instruction clock makes meaningless.
        let patience = match self.clock {
            Clock::Host => self.timeout.as_secs().saturating_sub(10),
            Clock::Instructions => 0,
        };
        Ok(format!(
            "KEEP={}\nDISKS={}\nMODULES={}\nUDEV={}\nPOWER={}\nPATIENCE={patience}\n",
            quote(&carried.join(" ")),
            quote(&disks.join(" ")),
            quote(&modules.to_string_lossy()),
            u8::from(self.udev),
            u8::from(self.power.is_some()),
        ))
    }
}

/// Variables of the host that every command in the guest sees.
fn is_handed_over(name: &str) -> bool {
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    plain && (name == "SEED" || ["UNDISK_", "CARGO_", "RUST_"].iter().any(|prefix| name.starts_with(prefix)))
}

/// Of the existing folders below a hidden one, those not inside another of them.
fn outermost(folders: Vec<PathBuf>) -> Vec<PathBuf> {
    let hidden = |folder: &PathBuf| HIDDEN.iter().any(|top| folder.starts_with(top));
    let mut folders: Vec<PathBuf> = folders.into_iter().filter(|folder| hidden(folder) && folder.is_dir()).collect();
    folders.sort();
    folders.dedup();
    let all = folders.clone();
    folders.retain(|folder| !all.iter().any(|other| other != folder && folder.starts_with(other)));
    folders
}

/// `vda` for 0, and so on.
fn disk_name(number: usize) -> String {
    let letter = u8::try_from(number).map_or('?', |number| char::from(b'a' + number));
    format!("vd{letter}")
}

/// Gathers what the run left in its folder.
fn outcome(run: &Scratch, ending: Ending, boot: Option<Duration>) -> Outcome {
    let read = |name: &str| String::from_utf8_lossy(&fs::read(run.path(name)).unwrap_or_default()).into_owned();
    let console = read("console");
    let dmesg = read("ctl/dmesg");
    let log = if dmesg.is_empty() { &console } else { &dmesg };
    let mut kernel_tail = packages::tail(log, 60);
    if dmesg.is_empty() {
        kernel_tail = format!("{kernel_tail}\n{}", read("qemu"));
    }
    Outcome { ending, boot, complaints: complaints(log), kernel_tail }
}

/// Lines of a kernel's log that speak of the kernel's own trouble.
fn complaints(log: &str) -> Vec<String> {
    const SIGNS: &[&str] =
        &["BUG:", "Oops", "WARNING: CPU", "Kernel panic", "blocked for more than", "general protection"];
    log.lines().filter(|line| SIGNS.iter().any(|sign| line.contains(sign))).map(str::to_owned).collect()
}

#[cfg(test)]
#[path = "guest_tests.rs"]
mod tests;
