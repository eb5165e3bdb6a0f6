//! A mount namespace of our own, in which none of our devices is mounted.
//!
//! Owns the rule of UBLK's worst deadlock: a process that is the last holder of a mount of the device that it serves
//! unmounts it at its exit, which writes to a device that nobody serves any more. So mounts of ublk devices - and of
//! partitions, mappings and arrays on them - are detached in a namespace of our own, into which the host's later
//! unmounts propagate. Nothing changes in the host's namespace.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::error::DeviceError;

#[cfg(test)]
mod tests;

/// How deep devices may be stacked before we stop looking.
const STACK_MAX: u32 = 16;

/// Gives the process a mount namespace of its own with slave propagation, and detaches there every mount of a ublk
/// device. An error if one remains: the process must then not serve.
///
/// To be called before the process has any other thread, and before it opens files in a mount that it may detach.
pub fn own_mount_namespace() -> Result<(), DeviceError> {
    let process = |doing, source| DeviceError::Process { doing, source };
    let threads = fs::read_dir("/proc/self/task").map_or(1, Iterator::count);
    if threads != 1 {
        let source = io::Error::other(format!("the process has {threads} threads already"));
        return Err(process("take a mount namespace of our own", source));
    }
    unshare(CloneFlags::CLONE_NEWNS)
        .map_err(|errno| process("take a mount namespace of our own (needs root)", errno.into()))?;
    // Slave, not private: a private copy would keep a file system that the host unmounts later.
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_SLAVE, None::<&str>)
        .map_err(|errno| process("make our mounts slaves of the host's", errno.into()))?;
    let mut previous = usize::MAX;
    loop {
        let table = fs::read("/proc/self/mountinfo").map_err(|source| process("read our mount table", source))?;
        let ours: Vec<Mount> = parse(&table).into_iter().filter(|mount| is_on_ublk(mount, Path::new("/sys"))).collect();
        let Some(first) = ours.first() else { return Ok(()) };
        if ours.len() >= previous {
            let source = io::Error::other(format!(
                "{} stays mounted on {} in this process's own view; unmount it, or what covers it, and try again",
                first.source.to_string_lossy(),
                first.target.display()
            ));
            return Err(process("detach the file systems on our own devices", source));
        }
        previous = ours.len();
        // The latest first: a mount on top of another hides it.
        for mount in ours.iter().rev() {
            match umount2(&mount.target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
                Ok(()) => tracing::info!(target = %mount.target.display(), "detached in our own view"),
                // The next look at the table tells whether it matters.
                Err(error) => tracing::warn!(target = %mount.target.display(), %error, "could not detach"),
            }
        }
    }
}

/// A line of `/proc/self/mountinfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Mount {
    /// `major:minor` of the file system.
    device: String,
    target: PathBuf,
    source: Vec<u8>,
}

impl Mount {
    fn line(line: &[u8]) -> Option<Self> {
        let mut fields = line.split(|byte| *byte == b' ');
        let device = String::from_utf8(fields.nth(2)?.to_vec()).ok()?;
        let target = PathBuf::from(OsStr::from_bytes(&unescape(fields.nth(1)?)));
        // Optional fields end with a dash; then come type and source.
        fields.by_ref().find(|field| *field == b"-")?;
        let source = unescape(fields.nth(1)?);
        Some(Self { device, target, source })
    }
}

trait Lossy {
    fn to_string_lossy(&self) -> String;
}

impl Lossy for Vec<u8> {
    fn to_string_lossy(&self) -> String {
        String::from_utf8_lossy(self).into_owned()
    }
}

fn parse(table: &[u8]) -> Vec<Mount> {
    table.split(|byte| *byte == b'\n').filter_map(Mount::line).collect()
}

/// The kernel writes space, tab, newline and backslash as a backslash with three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\').then(|| tail.get(..3)).flatten().and_then(|digits| {
            let digits = std::str::from_utf8(digits).ok()?;
            u8::from_str_radix(digits, 8).ok()
        });
        if let Some(byte) = octal {
            bytes.push(byte);
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes
}

/// Whether a file system lies on a ublk device, directly or through partitions and mapped devices. By its device
/// number, and by its source for those that have a number of their own (btrfs).
fn is_on_ublk(mount: &Mount, sys: &Path) -> bool {
    if is_ublk_stack(&sys.join("dev/block").join(&mount.device), STACK_MAX) {
        return true;
    }
    let source = Path::new(OsStr::from_bytes(&mount.source));
    let Some(name) = source.strip_prefix("/dev").ok().and_then(|_| fs::canonicalize(source).ok()) else { return false };
    let Some(name) = name.file_name() else { return false };
    name.as_bytes().starts_with(b"ublkb") || is_ublk_stack(&sys.join("class/block").join(name), STACK_MAX)
}

fn is_ublk_stack(entry: &Path, depth: u32) -> bool {
    let Ok(folder) = fs::canonicalize(entry) else { return false };
    let is_named = |path: &Path| path.file_name().is_some_and(|name| name.as_bytes().starts_with(b"ublkb"));
    // A partition's folder lies in its disk's.
    if is_named(&folder) || folder.parent().is_some_and(is_named) {
        return true;
    }
    let Ok(slaves) = fs::read_dir(folder.join("slaves")) else { return false };
    depth > 0 && slaves.flatten().any(|slave| is_ublk_stack(&slave.path(), depth - 1))
}
