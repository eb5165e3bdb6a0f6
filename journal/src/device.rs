//! The disk as the engine sees it: a directory of files, some of which make every write durable before it returns.
//!
//! Owns the two traits and the real body (`real`); the simulated one, which forgets, tears and lies on request,
//! lives in `tests/kit`. Deliberately knows nothing of what the files hold.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice};
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

mod real;

pub use crate::aligned::Aligned;
pub use real::RealDisk;

/// Most writes of a flight that are under way at once (PROTOCOL R25).
pub const IN_FLIGHT_MAX: usize = 4;

/// How a file is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Read only, past the page cache where the file system lets us: what is read is what the medium holds.
    /// Buffers, offsets and lengths are multiples of 4096 at addresses that are multiples of 4096.
    Read,
    /// Read and write; a write is durable when it returns (`O_DIRECT` where the file system takes it, and
    /// `O_DSYNC`). Alignment as for `Read`.
    Durable,
    /// Read and write through the page cache; durable after `sync`. No alignment.
    Buffered,
}

/// One journal's directory. Names are relative to it, with `/` between folder and file.
pub trait Disk: Send + Sync + fmt::Debug {
    /// How to name the directory to a person.
    fn describe(&self) -> String;

    /// Takes the directory for one writer until the guard is dropped. `ErrorKind::WouldBlock` when another has it.
    fn lock(&self) -> io::Result<Box<dyn Send + Sync>>;

    /// Waits until no process writes this file any more: what a killed one had under way is on the disk then, or never
    /// will be. To be asked before anything is read that decides where to go on (PROTOCOL R2).
    fn wait_for_writers(&self, name: &str) -> io::Result<()>;

    /// The names in a folder; `""` is the directory itself.
    fn list(&self, folder: &str) -> io::Result<Vec<String>>;

    /// Makes a folder, or finds it there.
    fn make_folder(&self, folder: &str) -> io::Result<()>;

    /// Makes a file of `bytes` zeros whose space is allocated, for `Durable` or `Buffered` use. Replaces one of
    /// that name. On an error no file of that name is left.
    fn create(&self, name: &str, bytes: u64, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Opens a file that exists.
    fn open(&self, name: &str, access: Access) -> io::Result<Arc<dyn DiskFile>>;

    /// Gives a file another name, in the same folder, replacing what has it. Durable after `sync_folder`.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file. Durable after `sync_folder`.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Does some work beside: on a thread of its own where disks take their time, before this returns where time is
    /// simulated.
    fn aside(&self, work: Box<dyn FnOnce() + Send>) -> io::Result<()>;

    /// Makes what was created, renamed and removed in a folder durable.
    fn sync_folder(&self, folder: &str) -> io::Result<()>;
}

/// An open file.
pub trait DiskFile: Send + Sync + fmt::Debug {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;

    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reads until the buffer is full or the file ends; answers with the bytes read.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;

    /// Writes all of the slices, one behind the other, as one request where the system takes it as one. On a
    /// `Durable` file they are durable when this returns.
    fn write_at(&self, slices: &[IoSlice<'_>], offset: u64) -> io::Result<()>;

    /// Lets `steps` have several writes under way at once. When this returns none is, whatever `steps` did. `alone`: there will
    /// be one, and whoever began it waits for it.
    fn fly<'b>(&self, _alone: bool, steps: &mut dyn FnMut(&mut dyn Flight<'b>)) {
        steps(&mut OneByOne { file: self, begun: 0, done: VecDeque::new() });
    }

    /// The descriptor that reads may go through, with the same offsets and alignment as `read_at`; `None` where only
    /// `read_at` knows what stands where.
    fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    /// Bytes that it takes on the disk.
    fn stored(&self) -> io::Result<u64> {
        self.len()
    }

    /// Bytes that have room of their own on the disk: fewer than it has where it is sparse.
    fn allocated(&self) -> io::Result<u64> {
        self.len()
    }

    /// Nobody needs these bytes any more: their room is given back where that can be done. What is read there is unknown.
    fn punch(&self, bytes: Range<u64>) -> io::Result<()> {
        let mut at = bytes.start;
        while at < bytes.end {
            let step = usize::try_from(bytes.end - at).unwrap_or(usize::MAX).min(1 << 20);
            self.write_at(&[IoSlice::new(&vec![0; step])], at)?;
            at += step as u64;
        }
        Ok(())
    }

    /// Where these bytes stand in the file itself; `None` where they do not stand together there.
    fn place(&self, bytes: Range<u64>) -> Option<u64> {
        Some(bytes.start)
    }

    /// Whether something of these bytes is not there any more, since no point needs it: zeros are read in its place.
    fn lacks(&self, _bytes: Range<u64>) -> bool {
        false
    }

    /// Makes content and length durable.
    fn sync(&self) -> io::Result<()>;

    /// Cuts or extends the file (with zeros, allocated).
    fn set_len(&self, bytes: u64) -> io::Result<()>;
}

/// Bytes of a write: lent for as long as it may take, given away, or kept by several.
#[derive(Debug)]
pub enum Part<'b> {
    /// They lie where direct I/O takes them.
    Lent(&'b [u8]),
    /// They are the write's own.
    Own(Aligned),
    /// Whoever keeps them does not change them before the write has let go.
    Kept(Arc<Aligned>),
}

impl<'b> Part<'b> {
    /// Bytes as direct I/O takes them: where they lie, if that is aligned, else a copy.
    pub fn of(bytes: &'b [u8]) -> Self {
        if Aligned::is_aligned(bytes) { Self::Lent(bytes) } else { Self::Own(Aligned::copy_of(bytes)) }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Lent(bytes) => bytes,
            Self::Own(bytes) => bytes,
            Self::Kept(bytes) => bytes,
        }
    }
}

/// Writes of one file that are under way at the same time.
pub trait Flight<'b> {
    /// Begins to write all of the parts, one behind the other; at most [`IN_FLIGHT_MAX`] may be under way. They reach
    /// the disk in any order, each durable when it is done.
    fn begin(&mut self, parts: Vec<Part<'b>>, offset: u64);

    /// One of them that is done already, as `wait` tells of it; does not wait.
    fn done(&mut self) -> Option<(usize, io::Result<()>)> {
        None
    }

    /// Waits until one of them is done: how many had been begun before it, and how it ended. `None`: none is under way.
    fn wait(&mut self) -> Option<(usize, io::Result<()>)>;
}

/// A flight that does every write when it begins.
struct OneByOne<'f, F: DiskFile + ?Sized> {
    file: &'f F,
    begun: usize,
    done: VecDeque<(usize, io::Result<()>)>,
}

impl<'b, F: DiskFile + ?Sized> Flight<'b> for OneByOne<'_, F> {
    fn begin(&mut self, parts: Vec<Part<'b>>, offset: u64) {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part.bytes())).collect();
        self.done.push_back((self.begun, self.file.write_at(&slices, offset)));
        self.begun += 1;
    }

    fn wait(&mut self) -> Option<(usize, io::Result<()>)> {
        self.done.pop_front()
    }
}
