//! The guest's first root: busybox, the modules of the boot in order, and the scripts of `tests/vm/guest`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, bail};

use super::cpio::Archive;
use super::kernel::Kernel;
use super::modules::{self, AT_BOOT, Load};

const INIT: &str = include_str!("../../../../tests/vm/guest/init.sh");
const RUN: &str = include_str!("../../../../tests/vm/guest/run.sh");
const CUT: &str = include_str!("../../../../tests/vm/guest/cut.sh");

/// Builds the archive for `kernel`. Unpacked modules are kept below `cache` for the next boot.
pub fn build(kernel: &Kernel, cache: &Path) -> Result<Vec<u8>> {
    let loads = order(kernel)?;
    let plain = cache.join("modules").join(&kernel.release);
    fs::create_dir_all(&plain).with_context(|| format!("create {}", plain.display()))?;

    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "modules"] {
        archive.folder(folder);
    }
    archive.character_device("dev/console", 5, 1);
    archive.character_device("dev/port", 1, 4);
    archive.file("init", 0o755, INIT.as_bytes());
    archive.file("run.sh", 0o755, RUN.as_bytes());
    archive.file("undisk-vm-cut", 0o755, CUT.as_bytes());
    archive.file("bin/busybox", 0o755, &busybox()?);
    let mut list = String::new();
    for load in &loads {
        let file = format!("{}.ko", modules::module_name(&load.path));
        archive.file(&format!("modules/{file}"), 0o644, &unpacked(kernel, load, &plain.join(&file))?);
        list = format!("{list}{file} {}\n", load.parameters);
    }
    archive.file("modules/order", 0o644, list.as_bytes());
    Ok(archive.finish())
}

fn order(kernel: &Kernel) -> Result<Vec<Load>> {
    let read = |name: &str| {
        let path = kernel.modules.join(name);
        fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))
    };
    modules::load_order(&read("modules.dep")?, &read("modules.builtin")?, AT_BOOT)
}

fn busybox() -> Result<Vec<u8>> {
    // Debian 13 has it in /usr/bin only; 12 may still have /bin apart.
    let path = ["/bin/busybox", "/usr/bin/busybox"].iter().find(|path| Path::new(path).exists());
    let path = path.context("busybox is missing (package busybox-static)")?;
    fs::read(path).with_context(|| format!("read {path}"))
}

/// The module's bytes, from the cache when they were unpacked before.
fn unpacked(kernel: &Kernel, load: &Load, cached: &PathBuf) -> Result<Vec<u8>> {
    if let Ok(bytes) = fs::read(cached) {
        return Ok(bytes);
    }
    let packed = kernel.modules.join(&load.path);
    let bytes = match packed.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => fs::read(&packed).with_context(|| format!("read {}", packed.display()))?,
        Some("xz") => decompress("xz", &packed)?,
        Some("zst") => decompress("zstd", &packed)?,
        _ => bail!("{} is packed in a way that is not known here", packed.display()),
    };
    keep(cached, &bytes)?;
    Ok(bytes)
}

/// Puts the bytes at `path`, all of them at once: whoever reads there, another guest of ours or another xtask, finds the
/// whole file or none. However many write it side by side, each does so in a file of its own, and the last one stays.
fn keep(path: &Path, bytes: &[u8]) -> Result<()> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let number = MADE.fetch_add(1, Ordering::Relaxed);
    let fresh = path.with_extension(format!("new{}-{number}", std::process::id()));
    fs::write(&fresh, bytes)
        .and_then(|()| fs::rename(&fresh, path))
        .with_context(|| format!("keep an unpacked module as {}", path.display()))
}

fn decompress(program: &str, file: &Path) -> Result<Vec<u8>> {
    let output = Command::new(program)
        .args(["-d", "-c"])
        .arg(file)
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("run {program} on {}", file.display()))?;
    if !output.status.success() {
        bail!("{program} -d {}: {}", file.display(), String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

#[cfg(test)]
#[path = "initramfs_tests.rs"]
mod tests;
