//! The guest's kernel: Debian's newest 6.12 image for amd64, downloaded and unpacked into the cache, never installed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::packages;
use crate::place::Place;

/// A kernel ready to boot.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// As `uname -r` will say.
    pub release: String,
    /// The bootable image.
    pub image: PathBuf,
    /// `lib/modules/RELEASE`, with `modules.dep` in it.
    pub modules: PathBuf,
}

/// The kernel in the cache; when there is none, it is downloaded (a hundred megabytes, once).
pub fn ensure(place: &Place) -> Result<Kernel> {
    let folder = place.vm_cache()?.join("kernel");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    // Two xtasks at once would unpack over each other; the second waits and then finds the work done.
    let lock = File::create(folder.join("lock")).context("create the lock of the kernel's folder")?;
    lock.lock().context("lock the kernel's folder")?;
    if let Some(kernel) = cached(&folder)? {
        return Ok(kernel);
    }
    fetch(place, &folder)?;
    cached(&folder)?.context("the kernel was unpacked, but no image is in it")
}

fn cached(folder: &Path) -> Result<Option<Kernel>> {
    let root = folder.join("root");
    let Ok(boot) = fs::read_dir(root.join("boot")) else {
        return Ok(None);
    };
    for entry in boot {
        let name = entry.context("read the kernel's boot folder")?.file_name();
        let Some(release) = name.to_str().and_then(|name| name.strip_prefix("vmlinuz-")) else {
            continue;
        };
        return Ok(Some(Kernel {
            release: release.to_owned(),
            image: root.join("boot").join(&name),
            modules: root.join("lib/modules").join(release),
        }));
    }
    Ok(None)
}

fn fetch(place: &Place, folder: &Path) -> Result<()> {
    let mut candidates = candidates()?;
    if candidates.is_empty() {
        packages::refresh_lists(place)?;
        candidates = self::candidates()?;
    }
    let mut failures = String::new();
    // Lists a few days old may name a kernel that the mirror has replaced: refresh once, then take older ones.
    for round in 0..2 {
        for package in candidates.iter().take(3) {
            eprintln!("xtask: downloading {package} for the guest");
            match download(package, folder) {
                Ok(archive) => return unpack(&archive, folder),
                Err(error) => failures = format!("{failures}{error:#}\n"),
            }
        }
        if round == 0 {
            packages::refresh_lists(place)?;
            candidates = self::candidates()?;
        }
    }
    bail!("no kernel image linux-image-6.12* could be downloaded; run apt-get update and try again.\n{failures}");
}

/// Names of downloadable kernels, newest first.
fn candidates() -> Result<Vec<String>> {
    let output = Command::new("apt-cache")
        .args(["search", "--names-only", r"^linux-image-6\.12\."])
        .output()
        .context("run apt-cache search")?;
    Ok(newest_first(&String::from_utf8_lossy(&output.stdout)))
}

/// From apt-cache's lines, the plain amd64 images of 6.12 (no cloud, rt, unsigned or debug build), newest first.
fn newest_first(search: &str) -> Vec<String> {
    let mut names: Vec<&str> =
        search.lines().filter_map(|line| line.split_whitespace().next()).filter(|name| is_plain_image(name)).collect();
    names.sort_by_key(|name| std::cmp::Reverse(numbers(name)));
    names.into_iter().map(str::to_owned).collect()
}

fn is_plain_image(name: &str) -> bool {
    let Some(version) = name.strip_prefix("linux-image-6.12.").and_then(|rest| rest.strip_suffix("-amd64")) else {
        return false;
    };
    // What is left is like "117+deb12" or "9"; "117+deb12-cloud" and "-rt" have a dash more.
    !version.is_empty() && version.chars().all(|c| c.is_ascii_alphanumeric() || c == '+' || c == '.')
}

/// The numbers of a version, for comparing. The 64 of amd64 is none: it would put 115+deb13 above 115+deb13.1.
fn numbers(name: &str) -> Vec<u64> {
    name.trim_end_matches("-amd64")
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|digits| digits.parse().ok())
        .collect()
}

fn download(package: &str, folder: &Path) -> Result<PathBuf> {
    let incoming = folder.join("incoming");
    let _ = fs::remove_dir_all(&incoming);
    fs::create_dir_all(&incoming).with_context(|| format!("create {}", incoming.display()))?;
    let output = Command::new("apt-get")
        .args(["-q", "-o", "Acquire::Retries=3", "download", package])
        .current_dir(&incoming)
        .output()
        .context("run apt-get download")?;
    if !output.status.success() {
        bail!("apt-get download {package}: {}", packages::tail(&String::from_utf8_lossy(&output.stderr), 5));
    }
    let mut files = fs::read_dir(&incoming).context("read the downloaded files")?;
    let file = files.next().context("apt-get download left no file")?.context("read the downloaded files")?;
    Ok(file.path())
}

fn unpack(archive: &Path, folder: &Path) -> Result<()> {
    let fresh = folder.join("unpacking");
    let _ = fs::remove_dir_all(&fresh);
    run(Command::new("dpkg").arg("-x").arg(archive).arg(&fresh))?;
    // Debian 12 ships /lib/modules, Debian 13 /usr/lib/modules; depmod and the guest look in /lib/modules.
    if !fresh.join("lib").exists() {
        std::os::unix::fs::symlink("usr/lib", fresh.join("lib")).context("link lib to usr/lib")?;
    }
    let release = fs::read_dir(fresh.join("lib/modules"))
        .context("read the kernel's modules")?
        .next()
        .context("the kernel package holds no modules")?
        .context("read the kernel's modules")?
        .file_name();
    run(Command::new(tool("depmod")).arg("-b").arg(&fresh).arg(&release))?;
    let root = folder.join("root");
    let _ = fs::remove_dir_all(&root);
    fs::rename(&fresh, &root).context("put the unpacked kernel in its place")?;
    let _ = fs::remove_dir_all(folder.join("incoming"));
    Ok(())
}

/// A program of the administrator's: those are not on every user's PATH.
fn tool(name: &str) -> PathBuf {
    ["/usr/sbin", "/sbin", "/usr/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists())
        .unwrap_or_else(|| name.into())
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    if !output.status.success() {
        bail!("{command:?}: {}", packages::tail(&String::from_utf8_lossy(&output.stderr), 5));
    }
    Ok(())
}

#[cfg(test)]
#[path = "kernel_tests.rs"]
mod tests;
