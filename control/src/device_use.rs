//! Who uses a block device, as `/proc` and `/sys` tell.
//!
//! Owns the question that comes before a device is taken away or changed under its users: is it mounted, swapped to,
//! held by another device, open? Deliberately never opens the device: a splitter that opens its own device waits for
//! itself. Looks at the partitions as well. What is not seen: a memory mapping whose descriptor was closed, and
//! kernel targets that keep no trace in `/proc` or `/sys/block` (nvmet, LIO). The answer is of the moment: who comes
//! next is for the caller to shut out.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

#[cfg(test)]
mod tests;

/// One use of a device or of a partition of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DeviceUse {
    /// A file system on it is mounted.
    Mounted {
        /// The device or partition.
        node: String,
        /// Where, in the mount namespace of `pid`.
        at: String,
        /// A process that sees the mount.
        pid: u32,
    },
    /// A file system on it lives on without a mount point (`umount -l`, or a mount in a namespace without processes).
    Lingering {
        /// The device or partition.
        node: String,
        /// The kind of file system.
        kind: String,
    },
    /// It is swap space.
    Swap {
        /// The device or partition.
        node: String,
    },
    /// Another block device stands on it (device mapper, md, loop, ...).
    Held {
        /// The device or partition.
        node: String,
        /// The device that stands on it.
        by: String,
    },
    /// A process has it open.
    Open {
        /// The device or partition.
        node: String,
        /// The process.
        pid: u32,
        /// Its command name.
        command: String,
    },
}

impl fmt::Display for DeviceUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mounted { node, at, pid: 1 } => write!(f, "{node} is mounted at {at}"),
            Self::Mounted { node, at, pid } => write!(f, "{node} is mounted at {at} (as process {pid} sees it)"),
            Self::Lingering { node, kind } => write!(f, "a file system ({kind}) on {node} is still in use"),
            Self::Swap { node } => write!(f, "{node} is swap space"),
            Self::Held { node, by } => write!(f, "{node} is held by {by}"),
            Self::Open { node, pid, command } => write!(f, "{node} is open in process {pid} ({command})"),
        }
    }
}

/// All uses in one line, the first few named.
pub fn describe(uses: &[DeviceUse]) -> String {
    const NAMED: usize = 4;
    let text = uses.iter().take(NAMED).map(ToString::to_string).collect::<Vec<_>>().join("; ");
    match uses.len().saturating_sub(NAMED) {
        0 => text,
        more => format!("{text}; and {more} more"),
    }
}

/// Who uses this device (`/dev/ublkb0`) or a partition of it; empty: nobody, or there is no such device. Needs root to
/// see the files of other users' processes.
pub fn uses_of(device: &Path) -> io::Result<Vec<DeviceUse>> {
    Scan::default().uses_of(device)
}

/// Where to look; other roots than `/proc` and `/sys` in tests.
#[derive(Clone, Debug)]
pub struct Scan {
    proc: PathBuf,
    sys: PathBuf,
}

impl Default for Scan {
    fn default() -> Self {
        Self { proc: "/proc".into(), sys: "/sys".into() }
    }
}

/// A device or partition: its name below `/dev`, and its number as `/sys` writes it.
struct Node {
    name: String,
    number: String,
}

impl Node {
    fn path(&self) -> String {
        format!("/dev/{}", self.name)
    }
}

impl Scan {
    /// Looks here instead.
    pub fn at(proc: impl Into<PathBuf>, sys: impl Into<PathBuf>) -> Self {
        Self { proc: proc.into(), sys: sys.into() }
    }

    /// As [`uses_of`].
    pub fn uses_of(&self, device: &Path) -> io::Result<Vec<DeviceUse>> {
        let Some(name) = device.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
        let nodes = self.nodes(name)?;
        let mut found = BTreeSet::new();
        if nodes.is_empty() {
            return Ok(Vec::new());
        }
        self.mounts_and_files(&nodes, &mut found)?;
        self.swaps(&nodes, &mut found)?;
        self.holders(name, &nodes, &mut found)?;
        self.loops(&nodes, &mut found)?;
        self.lingering(&nodes, &mut found);
        Ok(found.into_iter().collect())
    }

    /// The device and its partitions; empty when there is no such device.
    fn nodes(&self, name: &str) -> io::Result<Vec<Node>> {
        let dir = self.sys.join("block").join(name);
        let Some(number) = read_if_there(&dir.join("dev"))? else { return Ok(Vec::new()) };
        let mut nodes = vec![Node { name: name.to_owned(), number: number.trim().to_owned() }];
        for part in entries(&dir)? {
            if let (true, Some(number)) =
                (dir.join(&part).join("partition").exists(), read_if_there(&dir.join(&part).join("dev"))?)
            {
                nodes.push(Node { name: part, number: number.trim().to_owned() });
            }
        }
        Ok(nodes)
    }

    /// Every process's mounts (one process a namespace is enough) and open files.
    fn mounts_and_files(&self, nodes: &[Node], found: &mut BTreeSet<DeviceUse>) -> io::Result<()> {
        let mut namespaces = BTreeSet::new();
        let mut pids: Vec<u32> = entries(&self.proc)?.iter().filter_map(|name| name.parse().ok()).collect();
        // In order, so that process 1 speaks for the namespace that everybody knows.
        pids.sort_unstable();
        for pid in pids {
            // A process may end while we look at it; what it used is free then.
            let dir = self.proc.join(pid.to_string());
            let namespace = fs::read_link(dir.join("ns/mnt")).unwrap_or_default();
            if namespaces.insert(namespace.clone()) || namespace.as_os_str().is_empty() {
                let text = fs::read(dir.join("mountinfo")).unwrap_or_default();
                mounts_in(&String::from_utf8_lossy(&text), pid, nodes, found);
            }
            for fd in entries(&dir.join("fd")).unwrap_or_default() {
                if let Some(node) = Self::open_node(&dir.join("fd").join(fd), nodes) {
                    let command = fs::read_to_string(dir.join("comm")).unwrap_or_default().trim().to_owned();
                    found.insert(DeviceUse::Open { node: node.path(), pid, command });
                }
            }
        }
        Ok(())
    }

    /// The node that this descriptor has open.
    fn open_node<'a>(fd: &Path, nodes: &'a [Node]) -> Option<&'a Node> {
        let target = fs::read_link(fd).ok()?;
        if let Some(node) = nodes.iter().find(|node| target.as_os_str().as_bytes() == node.path().as_bytes()) {
            return Some(node);
        }
        // A node of the same number under another name (a container's own /dev). Only below a folder called dev: to
        // stat whatever anybody has open could wait for a dead network file system.
        if !target.components().any(|part| part.as_os_str() == "dev") {
            return None;
        }
        let number = fs::metadata(fd).ok()?.rdev();
        let number = format!("{}:{}", nix::sys::stat::major(number), nix::sys::stat::minor(number));
        nodes.iter().find(|node| node.number == number && target.as_os_str().as_bytes().starts_with(b"/"))
    }

    fn swaps(&self, nodes: &[Node], found: &mut BTreeSet<DeviceUse>) -> io::Result<()> {
        let text = read_if_there(&self.proc.join("swaps"))?.unwrap_or_default();
        for node in nodes {
            if text.lines().any(|line| line.split_whitespace().next() == Some(&node.path())) {
                found.insert(DeviceUse::Swap { node: node.path() });
            }
        }
        Ok(())
    }

    fn holders(&self, disk: &str, nodes: &[Node], found: &mut BTreeSet<DeviceUse>) -> io::Result<()> {
        for node in nodes {
            let mut dir = self.sys.join("block").join(disk);
            if node.name != disk {
                dir.push(&node.name);
            }
            for by in entries(&dir.join("holders"))? {
                found.insert(DeviceUse::Held { node: node.path(), by: format!("/dev/{by}") });
            }
        }
        Ok(())
    }

    /// Loop devices name their backing file, and are not listed as holders.
    fn loops(&self, nodes: &[Node], found: &mut BTreeSet<DeviceUse>) -> io::Result<()> {
        for name in entries(&self.sys.join("block"))?.into_iter().filter(|name| name.starts_with("loop")) {
            let file = self.sys.join("block").join(&name).join("loop/backing_file");
            let backing = read_if_there(&file)?.unwrap_or_default();
            if let Some(node) = nodes.iter().find(|node| node.path() == backing.trim_end_matches('\n')) {
                found.insert(DeviceUse::Held { node: node.path(), by: format!("/dev/{name}") });
            }
        }
        Ok(())
    }

    /// File systems name the devices that they live on in `/sys/fs/KIND/DEVICE`, for as long as they live.
    fn lingering(&self, nodes: &[Node], found: &mut BTreeSet<DeviceUse>) {
        let fs_dir = self.sys.join("fs");
        for node in nodes {
            let mounted = found
                .iter()
                .any(|known| matches!(known, DeviceUse::Mounted { node: mounted, .. } if *mounted == node.path()));
            if mounted {
                continue;
            }
            for kind in entries(&fs_dir).unwrap_or_default() {
                let dir = fs_dir.join(&kind);
                let by_volume = entries(&dir).unwrap_or_default();
                let lives = dir.join(&node.name).is_dir()
                    || by_volume.iter().any(|volume| dir.join(volume).join("devices").join(&node.name).exists());
                if lives {
                    found.insert(DeviceUse::Lingering { node: node.path(), kind });
                }
            }
        }
    }
}

/// The mounts of our nodes in one `mountinfo` text: by device number, or by source for file systems that number
/// themselves (btrfs).
fn mounts_in(text: &str, pid: u32, nodes: &[Node], found: &mut BTreeSet<DeviceUse>) {
    for line in text.lines() {
        let mut fields = line.split(' ');
        let (Some(number), Some(at)) = (fields.nth(2), fields.nth(1)) else { continue };
        let source = line.split_once(" - ").and_then(|(_, tail)| tail.split(' ').nth(1)).unwrap_or_default();
        if let Some(node) = nodes.iter().find(|node| node.number == number || node.path() == source) {
            found.insert(DeviceUse::Mounted { node: node.path(), at: unescape(at), pid });
        }
    }
}

/// `mountinfo` writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        if let Some(byte) = rest.get(at + 1..at + 4).and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            out.push(char::from(byte));
            rest = &rest[at + 4..];
        } else {
            out.push('\\');
            rest = &rest[at + 1..];
        }
    }
    out.push_str(rest);
    out
}

/// Names in a folder, sorted; none when there is no such folder.
fn entries(dir: &Path) -> io::Result<Vec<String>> {
    let read = match fs::read_dir(dir) {
        Ok(read) => read,
        Err(e) if gone(&e) => return Ok(Vec::new()),
        Err(e) => return Err(e),
    };
    let mut names: Vec<String> = read.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn read_if_there(file: &Path) -> io::Result<Option<String>> {
    match fs::read_to_string(file) {
        Ok(text) => Ok(Some(text)),
        Err(e) if gone(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Not there, or no longer (a device or process that goes away while its files are read).
fn gone(e: &io::Error) -> bool {
    matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || matches!(
            nix::errno::Errno::from_raw(e.raw_os_error().unwrap_or(0)),
            nix::errno::Errno::ENODEV | nix::errno::Errno::ENXIO | nix::errno::Errno::ESRCH
        )
}
