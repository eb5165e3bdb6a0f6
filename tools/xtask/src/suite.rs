//! A VM suite: one script of `tests/vm/suites`, what it needs, and what became of it.
//!
//! The contract, which `tests/vm/guest/README.md` tells suite authors: a header line `# vm: ...` names the needs; the
//! script prints `ok NAME` or `not ok NAME: reason` for each case and exits 0 or 1.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::guest::{Clock, Disk, Ending, Guest, Outcome, Power, Stream, parse_size};
use crate::packages;
use crate::place::Place;
use crate::scratch::Scratch;
use crate::tally::{Line, Tally};

/// One suite.
#[derive(Debug, Clone)]
pub struct Suite {
    name: String,
    script: PathBuf,
    needs: Needs,
}

/// What a suite asks for in its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needs {
    disks: Vec<u64>,
    memory_mib: u32,
    cpus: u32,
    timeout: u64,
    timeout_full: Option<u64>,
    boots: u32,
    /// Disks that lose what was not flushed when the power is cut.
    power: Vec<u64>,
    cuts: Option<Cuts>,
    udev: bool,
    icount: bool,
    soak: bool,
}

/// How often the power is cut: the last of the boots but one ends so, and each before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Cuts {
    quick: u32,
    full: u32,
}

/// How often a suite repeats what it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rounds {
    /// Enough for a gate.
    Quick,
    /// The counts that the issues name.
    Full,
    /// This many.
    Number(u64),
}

/// How much of a suite's output is shown as it comes. All of it is in its log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Nothing but what goes wrong: stdout is for something else.
    Nothing,
    /// The verdicts only.
    Cases,
    /// Every line, of stderr too.
    Everything,
}

/// A soak may take this many times what the gate allows, unless the header says otherwise.
const FULL_FACTOR: u64 = 10;
/// Lines of a failed suite's log that are shown.
const TAIL: usize = 60;

impl Rounds {
    fn value(self) -> String {
        match self {
            Self::Quick => "quick".to_owned(),
            Self::Full => "full".to_owned(),
            Self::Number(number) => number.to_string(),
        }
    }
}

impl Default for Needs {
    fn default() -> Self {
        Self {
            disks: Vec::new(),
            memory_mib: 2048,
            cpus: 2,
            timeout: 600,
            timeout_full: None,
            boots: 1,
            power: Vec::new(),
            cuts: None,
            udev: false,
            icount: false,
            soak: false,
        }
    }
}

impl Needs {
    /// Reads the words behind `# vm:`, like `disks=2x2G,512M mem=2048 cpus=2 timeout=600 timeout-full=7200 boots=2 udev icount`
    /// or `power=3x1G cuts=2,20`.
    pub fn parse(words: &str) -> Result<Self> {
        let mut needs = Self::default();
        for word in words.split_whitespace() {
            let (key, value) = word.split_once('=').unwrap_or((word, ""));
            let number = || value.parse::<u32>().with_context(|| format!("{word:?} needs a number"));
            match key {
                "disks" => needs.disks = parse_disks(value)?,
                "mem" => needs.memory_mib = number()?,
                "cpus" => needs.cpus = number()?,
                "timeout" => needs.timeout = u64::from(number()?),
                "timeout-full" => needs.timeout_full = Some(u64::from(number()?)),
                "boots" => needs.boots = number()?,
                "power" => needs.power = parse_disks(value)?,
                "cuts" => needs.cuts = Some(parse_cuts(value)?),
                "udev" if value.is_empty() => needs.udev = true,
                "icount" if value.is_empty() => needs.icount = true,
                "soak" if value.is_empty() => needs.soak = true,
                _ => bail!(
                    "the header's {word:?} is not known (disks, mem, cpus, timeout, timeout-full, boots, power, cuts, udev, icount, soak)"
                ),
            }
        }
        if needs.boots == 0 {
            bail!("boots=0 would run nothing");
        }
        if needs.cuts.is_some() && needs.boots != 1 {
            bail!("cuts= says how many boots there are: leave boots= away");
        }
        Ok(needs)
    }

    /// Finds the header among a script's first lines. A suite without one is an oversight, not a default.
    fn of_script(text: &str) -> Result<Self> {
        let header = text.lines().take(20).find_map(|line| line.strip_prefix("# vm:"));
        Self::parse(header.context("no line '# vm: ...' among its first twenty says what it needs")?)
    }

    /// How often the guest is booted.
    fn boots(&self, rounds: Rounds) -> u32 {
        let Some(cuts) = self.cuts else { return self.boots };
        let cuts = match rounds {
            Rounds::Quick => cuts.quick,
            Rounds::Full => cuts.full,
            Rounds::Number(number) => u32::try_from(number).unwrap_or(u32::MAX - 1),
        };
        cuts + 1
    }

    fn deadline(&self, rounds: Rounds) -> Duration {
        let full = self.timeout_full.unwrap_or(self.timeout * FULL_FACTOR);
        Duration::from_secs(match rounds {
            Rounds::Quick => self.timeout,
            Rounds::Full | Rounds::Number(_) => full,
        })
    }
}

/// `2x2G,512M` is two disks of 2 GiB and one of 512 MiB.
fn parse_disks(value: &str) -> Result<Vec<u64>> {
    let mut disks = Vec::new();
    for part in value.split(',').filter(|part| !part.is_empty()) {
        let (count, size) = part.split_once('x').unwrap_or(("1", part));
        let count: usize = count.parse().with_context(|| format!("disks={value}: {count:?} is not a number"))?;
        let size = parse_size(size)?;
        disks.extend(std::iter::repeat_n(size, count));
    }
    Ok(disks)
}

/// `2,20` is two power cuts for the gate and twenty for a soak.
fn parse_cuts(value: &str) -> Result<Cuts> {
    let (quick, full) = value.split_once(',').with_context(|| format!("cuts={value}: write it like cuts=2,20"))?;
    let number = |text: &str| text.parse::<u32>().with_context(|| format!("cuts={value}: {text:?} is not a number"));
    Ok(Cuts { quick: number(quick)?, full: number(full)? })
}

/// All suites of the checkout, by name.
pub fn all(place: &Place) -> Result<Vec<Suite>> {
    let folder = place.root().join("tests/vm/suites");
    let mut suites = Vec::new();
    let entries = fs::read_dir(&folder).with_context(|| format!("read the suites in {}", folder.display()))?;
    for entry in entries {
        let script = entry.context("read the suites")?.path();
        let extension = script.extension().and_then(|extension| extension.to_str());
        if !matches!(extension, Some("sh" | "py")) {
            continue;
        }
        let name = script.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = fs::read_to_string(&script).with_context(|| format!("read {}", script.display()))?;
        let needs = Needs::of_script(&text).with_context(|| format!("{}", script.display()))?;
        suites.push(Suite { name, script, needs });
    }
    suites.sort_by(|a, b| a.name.cmp(&b.name));
    if suites.is_empty() {
        bail!("there is no suite in {}", folder.display());
    }
    Ok(suites)
}

/// The suite of that name.
pub fn named(place: &Place, name: &str) -> Result<Suite> {
    let suites = all(place)?;
    let names: Vec<&str> = suites.iter().map(|suite| suite.name.as_str()).collect();
    let known = names.join(", ");
    suites
        .iter()
        .find(|suite| suite.name == name)
        .cloned()
        .with_context(|| format!("no suite {name}; there are {known}"))
}

/// What a suite is run with.
#[derive(Debug, Clone)]
pub struct Run<'a> {
    /// Where everything is.
    pub place: &'a Place,
    /// The folder with the built programs.
    pub binaries: &'a Path,
    /// How often.
    pub rounds: Rounds,
    /// Where all chance comes from.
    pub seed: u64,
    /// What is shown meanwhile.
    pub show: Show,
    /// The folder at `/out`. It outlives the run.
    pub out: PathBuf,
    /// A plugin for QEMU and its arguments.
    pub plugin: Option<String>,
}

impl Suite {
    /// The name: its file's, without the ending.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same with the host's clock and two processors in place of the instruction clock.
    pub fn by_host_clock(mut self) -> Self {
        (self.needs.icount, self.needs.cpus) = (false, 2);
        self
    }

    /// Whether it is left out of the gate: it runs when it is named, by `soak` or `test --only`.
    pub fn is_soak_only(&self) -> bool {
        self.needs.soak
    }

    /// How long it may take at the counts of the gate, all boots together.
    pub fn patience(&self) -> Duration {
        self.needs.deadline(Rounds::Quick) * self.needs.boots(Rounds::Quick)
    }

    /// Runs all boots and counts the cases. Whatever keeps a suite from its cases is a failed case itself.
    pub fn run(&self, run: &Run<'_>) -> Result<Tally> {
        let started = Instant::now();
        let log_folder = run.place.vm_cache()?.join("log");
        fs::create_dir_all(&log_folder).context("create the folder of logs")?;
        let log_path = log_folder.join(format!("{}.log", self.name));
        let mut log = File::create(&log_path).with_context(|| format!("create {}", log_path.display()))?;
        let disks = Scratch::create(run.place, "disks")?;
        let mut tally = Tally::default();
        let power = match self.needs.power.as_slice() {
            [] => None,
            sizes => Some(Arc::new(Power::start(run.binaries, disks.folder(), sizes, run.seed)?)),
        };
        for boot in 1..=self.needs.boots(run.rounds) {
            let guest = self.guest(run, disks.folder(), boot, power.clone());
            let mut cases = Cases { suite: &self.name, tally: &mut tally, line: Vec::new(), show: run.show };
            let outcome = guest.run(run.place, &self.command(), &mut |stream, bytes| {
                // A log that cannot be written loses words, not verdicts.
                let _ = log.write_all(bytes);
                cases.take(stream, bytes);
            })?;
            cases.flush();
            let clean_before = tally.is_clean();
            judge(&self.name, &outcome, guest.timeout, &mut tally);
            if !matches!(outcome.ending, Ending::Exited(0)) && clean_before || outcome.ending == Ending::Died {
                let _ = writeln!(log, "--- the guest's kernel ---\n{}", outcome.kernel_tail);
            }
            if outcome.ending != Ending::Exited(0) {
                break;
            }
        }
        if tally.is_empty() {
            tally.fail(format!("{}: it ran no case", self.name));
        }
        if !tally.is_clean() {
            let text = String::from_utf8_lossy(&fs::read(&log_path).unwrap_or_default()).into_owned();
            println!("--- the end of {} ---\n{}\n---", log_path.display(), packages::tail(&text, TAIL));
        }
        let ended = format!("suite {}: {tally} ({} s)", self.name, started.elapsed().as_secs());
        match run.show {
            Show::Nothing => eprintln!("{ended}"),
            Show::Cases | Show::Everything => println!("{ended}"),
        }
        Ok(tally)
    }

    fn command(&self) -> Vec<OsString> {
        let shell = self.script.extension().is_some_and(|extension| extension == "sh");
        let interpreter = if shell { "/bin/bash" } else { "/usr/bin/python3" };
        vec![interpreter.into(), self.script.clone().into()]
    }

    fn guest(&self, run: &Run<'_>, folder: &Path, boot: u32, power: Option<Arc<Power>>) -> Guest {
        let disks = self
            .needs
            .disks
            .iter()
            .enumerate()
            .map(|(number, size)| Disk::File { path: folder.join(format!("{number}.img")), size: Some(*size) });
        let disks = disks.chain(power.iter().flat_map(|power| power.disks().iter().cloned()));
        let environment = vec![
            ("UNDISK_BIN".to_owned(), run.binaries.as_os_str().to_owned()),
            ("UNDISK_ROUNDS".to_owned(), run.rounds.value().into()),
            ("UNDISK_BOOT".to_owned(), boot.to_string().into()),
            ("UNDISK_BOOTS".to_owned(), self.needs.boots(run.rounds).to_string().into()),
            ("SEED".to_owned(), run.seed.to_string().into()),
            ("UNDISK_CLOCK".to_owned(), if self.needs.icount { "instructions" } else { "host" }.into()),
        ];
        Guest {
            memory_mib: self.needs.memory_mib,
            cpus: self.needs.cpus,
            clock: if self.needs.icount { Clock::Instructions } else { Clock::Host },
            disks: disks.collect(),
            out: Some(run.out.clone()),
            timeout: self.needs.deadline(run.rounds),
            udev: self.needs.udev,
            environment,
            carried: vec![run.binaries.to_owned()],
            power,
            plugin: run.plugin.clone(),
            ..Guest::default()
        }
    }
}

/// Turns the ending of a boot into failures where the script itself reported none.
fn judge(name: &str, outcome: &Outcome, timeout: Duration, tally: &mut Tally) {
    match outcome.ending {
        Ending::Exited(0) => {}
        Ending::Exited(_) if !tally.is_clean() => {}
        Ending::Exited(status) => tally.fail(format!("{name}: exit status {status} without a failed case")),
        Ending::Deadline => tally.fail(format!("{name}: killed after {} seconds", timeout.as_secs())),
        Ending::Died => tally.fail(format!("{name}: the guest died")),
    }
    for complaint in &outcome.complaints {
        println!("# the guest's kernel: {complaint}");
        if ["BUG:", "Oops", "general protection"].iter().any(|sign| complaint.contains(sign)) {
            tally.fail(format!("{name}: the guest's kernel: {complaint}"));
        }
    }
}

/// Splits a suite's output into lines, counts the verdicts, and shows what is to be shown.
struct Cases<'a> {
    suite: &'a str,
    tally: &'a mut Tally,
    line: Vec<u8>,
    show: Show,
}

/// A "line" without an end is cut here, so that a suite that prints binary data costs no memory.
const LONGEST_LINE: usize = 64 * 1024;

impl Cases<'_> {
    fn take(&mut self, stream: Stream, bytes: &[u8]) {
        match stream {
            Stream::Err | Stream::Kernel => {
                if self.show == Show::Everything {
                    eprint!("{}", String::from_utf8_lossy(bytes));
                }
            }
            Stream::Out => {
                for byte in bytes {
                    if *byte == b'\n' || self.line.len() >= LONGEST_LINE {
                        self.flush();
                    } else {
                        self.line.push(*byte);
                    }
                }
            }
        }
    }

    fn flush(&mut self) {
        let bytes = std::mem::take(&mut self.line);
        let line = String::from_utf8_lossy(&bytes);
        let kind = self.tally.read_suite(self.suite, &line);
        match self.show {
            // Suites run side by side: each line says whose it is.
            Show::Cases if kind == Line::Case => println!("{}: {line}", self.suite),
            Show::Everything if !line.is_empty() => println!("{line}"),
            Show::Nothing | Show::Cases | Show::Everything => {}
        }
    }
}

#[cfg(test)]
#[path = "suite_tests.rs"]
mod tests;
