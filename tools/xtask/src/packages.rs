//! The Debian packages that building and testing take: which are missing, and how they come.
//!
//! As root they are installed; as anyone else the command to type is printed. The guest's kernel is no package of this
//! list: it is never installed on the host, `guest::kernel` unpacks it into the cache.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::place::Place;

/// What a clean Debian 12 or 13 with Rust lacks. Names that exist on both.
const NEEDED: &[&str] = &[
    "libclang-dev", // bindgen, for libublk
    "libc6-dev",
    "qemu-system-x86",
    "qemu-utils",
    "seabios",
    "ipxe-qemu",
    "busybox-static", // the guest's init
    "kmod",           // depmod for the unpacked kernel, modprobe in the guest
    "cpio",
    "xz-utils",
    "fio",
    "e2fsprogs",
    "xfsprogs",
    "util-linux",
    "fdisk",
    "gdisk",
    "dmsetup",
    "udev", // its daemon runs in the guest only, to test our rule
    "python3",
    "sqlite3",
];

/// Attempts before an apt command is given up: mirrors hiccup, and another apt may hold the lock.
const ATTEMPTS: u32 = 3;

/// Sees to it that every needed package is installed. Quick and silent when nothing is missing.
pub fn ensure(place: &Place) -> Result<()> {
    ensure_more(place, NEEDED)
}

/// The same for packages that only some work needs.
pub fn ensure_more(place: &Place, needed: &[&str]) -> Result<()> {
    let missing = missing(needed)?;
    if missing.is_empty() {
        return Ok(());
    }
    if !is_root() {
        bail!(
            "these packages are missing, and only root may install them. Type:\n  sudo apt-get update && sudo apt-get install -y --no-install-recommends {}",
            missing.join(" ")
        );
    }
    eprintln!("xtask: installing {}", missing.join(" "));
    let log = place.vm_cache()?.join("apt.log");
    for attempt in 1..=ATTEMPTS {
        let mut arguments = vec!["install", "-y", "--no-install-recommends"];
        arguments.extend(missing.iter().map(String::as_str));
        if apt_get(&arguments, &log)? {
            return Ok(());
        }
        if attempt < ATTEMPTS {
            eprintln!("xtask: apt-get install did not get through; refreshing the package lists and trying again");
            // An unreachable third-party mirror fails the update as a whole; what we need may be there all the same.
            let _ = apt_get(&["update"], &log)?;
        }
    }
    let text = fs::read_to_string(&log).unwrap_or_default();
    bail!("apt-get could not install {}:\n{}", missing.join(" "), tail(&text, 30));
}

/// Whether this process may install packages.
fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn missing(needed: &[&str]) -> Result<Vec<String>> {
    let output = Command::new("dpkg-query")
        .args(["-W", "-f", "${Package} ${db:Status-Status}\n"])
        .args(needed)
        .stderr(Stdio::null())
        .output()
        .context("run dpkg-query (the guest is built from Debian packages; other systems are not supported)")?;
    Ok(not_installed(&String::from_utf8_lossy(&output.stdout), needed))
}

/// Which of `needed` the answer of dpkg-query does not call installed.
fn not_installed(answer: &str, needed: &[&str]) -> Vec<String> {
    let installed: Vec<&str> = answer.lines().filter_map(|line| line.strip_suffix(" installed")).collect();
    needed.iter().filter(|name| !installed.contains(*name)).map(|name| (*name).to_owned()).collect()
}

/// Runs apt-get with its output appended to `log`; says whether it succeeded.
fn apt_get(arguments: &[&str], log: &Path) -> Result<bool> {
    let file =
        File::options().create(true).append(true).open(log).with_context(|| format!("open {}", log.display()))?;
    let errors = file.try_clone().context("share the log of apt-get")?;
    let status = Command::new("apt-get")
        .args(["-q", "-o", "Acquire::Retries=3", "-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"])
        .args(arguments)
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .stdout(file)
        .stderr(errors)
        .status()
        .context("run apt-get")?;
    Ok(status.success())
}

/// Refreshes the package lists (root only); failing is for the caller's next step to notice.
pub fn refresh_lists(place: &Place) -> Result<()> {
    if is_root() {
        let _ = apt_get(&["update"], &place.vm_cache()?.join("apt.log"))?;
    }
    Ok(())
}

/// The last `count` lines.
pub fn tail(text: &str, count: usize) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].join("\n")
}

#[cfg(test)]
#[path = "packages_tests.rs"]
mod tests;
