//! `cargo xtask demo`: the main job for real, told on the terminal. The story itself is `tests/vm/demo/demo.py`.

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::guest::{Disk, Guest};
use crate::place::Place;
use crate::scratch::Scratch;
use crate::{bounded, cargo, packages, vm};

const STORY: &str = "tests/vm/demo/demo.py";
const PYTHON: &str = "/usr/bin/python3";
/// Size of each of the two disks that the story uses.
const DISK: u64 = 6 << 30;
const SECONDS: u64 = 1500;

/// Run the demonstration: a disaster on a real file system, undone.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// On this machine's own kernel instead of a guest (root, and a kernel with ublk)
    #[arg(long)]
    native: bool,
}

/// Runs the verb.
pub fn run(args: &Args) -> Result<ExitCode> {
    let place = Place::find()?;
    packages::ensure(&place)?;
    let story = place.root().join(STORY);
    if !story.is_file() {
        bail!("{} is missing", story.display());
    }
    let binaries = cargo::build(&place)?;
    if args.native { native(&place, &story, &binaries) } else { in_guest(&place, &story, &binaries) }
}

fn in_guest(place: &Place, story: &Path, binaries: &Path) -> Result<ExitCode> {
    let scratch = Scratch::create(place, "disks")?;
    let disks = make_disks(&scratch)?;
    let guest = Guest {
        memory_mib: 3072,
        disks: disks.iter().map(|path| Disk::File { path: path.clone(), size: None }).collect(),
        timeout: Duration::from_secs(SECONDS),
        environment: vec![
            ("UNDISK_BIN".to_owned(), binaries.as_os_str().to_owned()),
            ("UNDISK_DISKS".to_owned(), "/dev/vda /dev/vdb".into()),
        ],
        carried: vec![binaries.to_owned()],
        ..Guest::default()
    };
    eprintln!("xtask: booting a guest with Debian's 6.12 kernel");
    let outcome = guest.run(place, &[PYTHON.into(), story.into()], &mut vm::print)?;
    vm::report(&outcome, guest.timeout);
    Ok(ExitCode::from(outcome.ending.exit_status()))
}

fn native(place: &Place, story: &Path, binaries: &Path) -> Result<ExitCode> {
    if !Path::new("/dev/ublk-control").exists() {
        // The module may be there and nobody asked for it yet; the next check tells.
        let _ = Command::new("modprobe").arg("ublk_drv").status();
    }
    if !Path::new("/dev/ublk-control").exists() {
        bail!("this kernel has no ublk (there is no /dev/ublk-control after modprobe ublk_drv); leave --native away");
    }
    let scratch = Scratch::create(place, "disks")?;
    let disks = make_disks(&scratch)?;
    let mut loops = Loops(Vec::new());
    for file in &disks {
        loops.attach(file)?;
    }
    let status = bounded::command(PYTHON, SECONDS)
        .arg(story)
        .current_dir(place.root())
        .env("UNDISK_BIN", binaries)
        .env("UNDISK_DISKS", loops.0.join(" "))
        .status()
        .context("run the story")?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}

/// The two sparse files behind the story's disks.
fn make_disks(scratch: &Scratch) -> Result<Vec<PathBuf>> {
    let paths = vec![scratch.path("0.img"), scratch.path("1.img")];
    for path in &paths {
        Disk::File { path: path.clone(), size: Some(DISK) }.prepare()?;
    }
    Ok(paths)
}

/// Loop devices, detached at the end.
struct Loops(Vec<String>);

impl Loops {
    fn attach(&mut self, file: &Path) -> Result<()> {
        let output = Command::new("losetup")
            .args(["--find", "--show", "--direct-io=on"])
            .arg(file)
            .output()
            .context("run losetup")?;
        if !output.status.success() {
            bail!("losetup {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
        }
        self.0.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
        Ok(())
    }
}

impl Drop for Loops {
    fn drop(&mut self) {
        for device in &self.0 {
            // A device still in use detaches itself when its last user goes.
            let _ = Command::new("losetup").args(["--detach", device]).status();
        }
    }
}
