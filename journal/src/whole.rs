//! Small files that are read and written whole.
//!
//! Owns how one replaces another: it is written beside it, is durable, and only then has its name.

use crate::aligned::Aligned;
use crate::device::{Access, Disk};
use crate::place::UNFINISHED;
use record::geometry::BLOCK_BYTES;
use std::io::{self, ErrorKind, IoSlice};

/// All bytes of a small file.
pub(crate) fn read(disk: &dyn Disk, name: &str) -> io::Result<Vec<u8>> {
    let file = disk.open(name, Access::Read)?;
    let len = usize::try_from(file.len()?).map_err(|_| io::Error::from(ErrorKind::FileTooLarge))?;
    let mut buffer = Aligned::zeroed(len.next_multiple_of(BLOCK_BYTES));
    let read = file.read_at(&mut buffer, 0)?;
    Ok(buffer[..read.min(len)].to_vec())
}

/// Writes a small file, replacing what has its name: durable, but for the name, when it returns.
pub(crate) fn write(disk: &dyn Disk, name: &str, bytes: &[u8]) -> io::Result<()> {
    let unfinished = format!("{name}{UNFINISHED}");
    let file = disk.create(&unfinished, 0, Access::Buffered)?;
    let written = file
        .write_at(&[IoSlice::new(bytes)], 0)
        .and_then(|()| file.sync())
        .and_then(|()| disk.rename(&unfinished, name));
    if written.is_err() {
        // Nothing half made stays behind, if the disk lets us.
        let _ = disk.remove(&unfinished);
    }
    written
}
