//! The guest's lasting disks: how they are spelled on the command line and how they come into being.

use std::fmt;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::{Context, Result, bail};

/// A disk the guest sees as `/dev/vda`, `/dev/vdb`, ... in the order given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Disk {
    /// A raw file on the host.
    File {
        /// Where it is.
        path: PathBuf,
        /// Its size in bytes; `None` takes the file as it is.
        size: Option<u64>,
    },
    /// An NBD export behind a Unix socket: whoever serves it decides what a flush is worth.
    Nbd {
        /// The socket.
        socket: PathBuf,
    },
}

impl FromStr for Disk {
    type Err = anyhow::Error;

    /// `FILE`, `FILE:SIZE` or `nbd:unix:SOCKET`. A file's name may hold colons as long as what follows the last is not a size.
    fn from_str(text: &str) -> Result<Self> {
        if let Some(socket) = text.strip_prefix("nbd:unix:") {
            if socket.is_empty() {
                bail!("nbd:unix: needs the path of a socket behind it");
            }
            return Ok(Self::Nbd { socket: socket.into() });
        }
        let (path, size) = match text.rsplit_once(':') {
            Some((path, size)) if size.starts_with(|first: char| first.is_ascii_digit()) => {
                (path, Some(parse_size(size)?))
            }
            _ => (text, None),
        };
        if path.is_empty() {
            bail!("a disk needs a file: FILE, FILE:SIZE or nbd:unix:SOCKET");
        }
        Ok(Self::File { path: path.into(), size })
    }
}

impl Disk {
    /// Makes a missing file, sparse and of the size asked for. A file of another size is refused: it is somebody's data.
    pub fn prepare(&self) -> Result<()> {
        let Self::File { path, size } = self else {
            return Ok(());
        };
        match (fs::metadata(path), size) {
            (Ok(found), Some(size)) if found.is_file() && found.len() != *size => bail!(
                "{} holds {} bytes, not the {size} asked for; leave the size away to take it as it is, or remove it",
                path.display(),
                found.len()
            ),
            (Ok(_), _) => Ok(()),
            (Err(_), Some(size)) => create_sparse(path, *size),
            (Err(error), None) => Err(error)
                .with_context(|| format!("open the disk {} (give a size to have it made: FILE:2G)", path.display())),
        }
    }

    /// The value of QEMU's `-drive` option. Commas in a path are doubled, as QEMU wants it.
    pub fn drive(&self, id: &str) -> String {
        // writeback: completed writes outlive a killed QEMU, and a flush from the guest is an fdatasync on the host.
        let common = format!("if=none,id={id},format=raw,cache=writeback,discard=unmap,detect-zeroes=off");
        match self {
            Self::File { path, .. } => format!("{common},file={}", escape(path)),
            Self::Nbd { socket } => format!("{common},file=nbd:unix:{}", escape(socket)),
        }
    }

    /// Makes the path absolute, since QEMU runs in a folder of its own.
    #[must_use]
    pub fn below(self, folder: &Path) -> Self {
        match self {
            Self::File { path, size } => Self::File { path: folder.join(path), size },
            Self::Nbd { socket } => Self::Nbd { socket: folder.join(socket) },
        }
    }
}

impl fmt::Display for Disk {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, .. } => write!(out, "{}", path.display()),
            Self::Nbd { socket } => write!(out, "nbd:unix:{}", socket.display()),
        }
    }
}

/// A size in bytes, or with a suffix K, M, G or T (powers of 1024, `KiB` and the like allowed).
pub fn parse_size(text: &str) -> Result<u64> {
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].trim_end_matches("iB").to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => bail!("{text:?} is not a size; write it like 512M or 2G"),
    };
    let number: u64 = digits.parse().with_context(|| format!("{text:?} is not a size; write it like 512M or 2G"))?;
    number
        .checked_mul(1 << shift)
        .filter(|bytes| *bytes > 0 && bytes.is_multiple_of(512))
        .with_context(|| format!("{text:?} is not a size that a disk can have"))
}

fn create_sparse(path: &Path, size: u64) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    }
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    file.and_then(|file| file.set_len(size)).with_context(|| format!("create the disk {}", path.display()))
}

fn escape(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests;
