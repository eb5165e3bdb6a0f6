//! The server: several disks, each behind a socket of its own, that lose their power together.
//!
//! Owns sockets and threads. All disks are behind one lock, so that a cut is one instant for all of them. A connection
//! from before a cut is never answered again: to its client the disk is silent, as a dead one is; the next connection
//! finds what survived.
//!
//! The control socket takes lines: `cut SEED`, `status`, `flush`, `quit`; it answers each with one line.

use crate::cache::{Disk, Medium};
use crate::nbd::{self, End, Export, Fate, Request};
use crate::rng::Rng;
use anyhow::{Context as _, Result};
use nix::fcntl::FallocateFlags;
use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// A file as durable content. What it holds outlives us, not the machine: nobody cuts the machine's power.
#[derive(Debug)]
pub struct FileMedium(File);

impl Medium for FileMedium {
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(into, at)
    }

    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, at)
    }

    fn zero(&mut self, at: u64, len: u64) -> io::Result<()> {
        let hole = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        let number = |value: u64| i64::try_from(value).map_err(io::Error::other);
        Ok(nix::fcntl::fallocate(&self.0, hole, number(at)?, number(len)?)?)
    }
}

/// Opens the file behind a disk; one that is missing is made, sparse, at `size`.
pub fn open(path: &Path, size: Option<u64>) -> Result<(FileMedium, u64)> {
    let naming = || format!("open the disk {}", path.display());
    let mut options = OpenOptions::new();
    options.read(true).write(true);
    let file = match size {
        Some(size) => {
            let file = options.create(true).truncate(false).open(path).with_context(naming)?;
            if file.metadata().with_context(naming)?.len() < size {
                file.set_len(size).with_context(naming)?;
            }
            file
        }
        None => options.open(path).with_context(naming)?,
    };
    let size = file.metadata().with_context(naming)?.len();
    Ok((FileMedium(file), size))
}

/// The disks and how often their power was cut.
#[derive(Debug)]
struct World<M> {
    disks: Vec<Disk<M>>,
    cuts: u64,
}

/// A row of disks with one power supply.
#[derive(Debug)]
pub struct Rack<M>(Arc<Mutex<World<M>>>, u64);

impl<M> Clone for Rack<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0), self.1)
    }
}

impl<M: Medium + 'static> Rack<M> {
    /// These disks; torn changes are torn into pieces of so many bytes.
    pub fn new(disks: Vec<Disk<M>>, piece: u64) -> Self {
        Self(Arc::new(Mutex::new(World { disks, cuts: 0 })), piece.max(512))
    }

    fn world(&self) -> MutexGuard<'_, World<M>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Cuts the power of all disks; one line that says what it cost.
    pub fn cut(&self, seed: u64) -> io::Result<String> {
        let mut world = self.world();
        world.cuts += 1;
        let mut told = format!("cut with seed {seed}");
        let mut rng = Rng::new(seed);
        for (number, disk) in world.disks.iter_mut().enumerate() {
            let toll = disk.cut(&mut rng, self.1)?;
            told = format!("{told}; disk {number}: {toll}");
        }
        Ok(told)
    }

    /// One line for each disk: what is not durable yet.
    pub fn status(&self) -> String {
        let world = self.world();
        let counts: Vec<String> = world.disks.iter().map(|disk| disk.volatile().to_string()).collect();
        format!("{} cuts; not flushed: {}", world.cuts, counts.join(" "))
    }

    /// Makes everything durable.
    pub fn flush(&self) -> io::Result<()> {
        self.world().disks.iter_mut().try_for_each(Disk::flush)
    }

    /// Takes clients of disk `number` at `socket`, for ever.
    pub fn listen(&self, number: usize, socket: &Path) -> Result<()> {
        let listener = bind(socket)?;
        let rack = self.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let rack = rack.clone();
                thread::spawn(move || rack.talk(number, &client));
            }
        });
        Ok(())
    }

    /// One client's whole conversation.
    pub fn talk(&self, number: usize, client: &UnixStream) {
        let export = Connection { rack: self.clone(), number, since: self.world().cuts };
        match nbd::serve(client, &export) {
            Ok(End::Closed) => {}
            // A dead disk does not hang up either.
            Ok(End::Gone) => {
                let _ = io::copy(&mut client.take(u64::MAX), &mut io::sink());
            }
            Err(error) => eprintln!("powerdisk: disk {number}: {error}"),
        }
    }

    /// Takes orders at `socket` until one of them is to quit.
    pub fn obey(&self, socket: &Path) -> Result<()> {
        for client in bind(socket)?.incoming().flatten() {
            let mut line = String::new();
            if BufReader::new(&client).read_line(&mut line).is_err() {
                continue;
            }
            let words: Vec<&str> = line.split_whitespace().collect();
            let answer = match words.as_slice() {
                ["quit"] => return Ok(()),
                ["status"] => self.status(),
                ["flush"] => self.flush().map_or_else(|error| format!("error: {error}"), |()| "flushed".to_owned()),
                ["cut", seed] => match seed.parse() {
                    Ok(seed) => self.cut(seed).unwrap_or_else(|error| format!("error: {error}")),
                    Err(_) => format!("error: {seed:?} is not a seed"),
                },
                _ => "error: say cut SEED, status, flush or quit".to_owned(),
            };
            println!("powerdisk: {answer}");
            // Who does not wait for the answer does not want it.
            let _ = writeln!(&client, "{answer}");
        }
        Ok(())
    }
}

fn bind(socket: &Path) -> Result<UnixListener> {
    // What a killed server left there answers nobody.
    let _ = std::fs::remove_file(socket);
    UnixListener::bind(socket).with_context(|| format!("listen at {}", PathBuf::from(socket).display()))
}

/// One client's view of a disk.
struct Connection<M> {
    rack: Rack<M>,
    number: usize,
    /// Cuts when it connected.
    since: u64,
}

impl<M: Medium + 'static> Export for Connection<M> {
    fn size(&self) -> u64 {
        self.rack.world().disks[self.number].size()
    }

    fn request(&self, request: Request) -> Fate {
        let mut world = self.rack.world();
        if world.cuts != self.since {
            return Fate::Gone;
        }
        let disk = &mut world.disks[self.number];
        let done = match request {
            Request::Read { at, len } => {
                let mut bytes = vec![0; usize::try_from(len).unwrap_or(0)];
                return match disk.read(at, &mut bytes) {
                    Ok(()) => Fate::Done(bytes),
                    Err(error) => Fate::Failed(error),
                };
            }
            Request::Write { at, bytes, durable } => disk.write(at, bytes, durable),
            Request::Zero { at, len, durable } => disk.zero(at, len, durable),
            Request::Flush => disk.flush(),
        };
        done.map_or_else(Fate::Failed, |()| Fate::Done(Vec::new()))
    }
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
