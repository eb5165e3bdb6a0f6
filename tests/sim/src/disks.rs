//! The disks under backings and dirty maps, and the ring by which the product reaches them.
//!
//! What reads see of a file is a real file in memory, so that the product opens, locks and measures it as it does
//! everywhere. What would survive a power cut is kept beside it: durable sectors, and for each sector the versions that
//! came since. Owns what is in flight: it goes on, or stops half way, when the process that asked for it is killed, shows itself in two
//! halves, ends in any order, and may fail. A power cut keeps, of each sector, any version since the last flush that was
//! submitted after it was complete.
//!
//! Deliberately not here: the journal's own disk (`kit::SimDisk`).

use crate::dice::Dice;
use crate::executor::{Executor, Once, Owner};
use crate::time::{MS, US};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::Path;
use std::rc::Rc;
use ublk_splitter::ring_io::RingIo;

#[cfg(test)]
mod tests;

/// Bytes of a sector: what is written as a whole, or not.
const SECTOR: usize = 512;

type Sector = [u8; SECTOR];

/// A version of a sector that a power cut may take back.
#[derive(Clone)]
struct Version {
    /// Rises with every completion.
    order: u64,
    bytes: Box<Sector>,
}

struct Medium {
    file: File,
    kind: Kind,
    durable: Vec<u8>,
    /// Since the last flush, oldest first.
    since: BTreeMap<usize, Vec<Version>>,
    in_flight: BTreeMap<u64, InFlight>,
}

#[derive(Clone)]
struct InFlight {
    at: usize,
    bytes: Vec<u8>,
    /// Whoever asked is dead, and it stops where it is.
    cancelled: bool,
}

/// What a disk is there for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The content of a volume.
    Backing,
    /// A dirty map.
    Map,
}

/// How disks behave at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Weather {
    /// How many of a hundred writes to backings fail, having changed a part of what they should.
    pub write_errors: u64,
    /// How many of a hundred writes to dirty maps fail.
    pub map_errors: u64,
    /// How many of a hundred flushes fail.
    pub sync_errors: u64,
    /// How many of a hundred reads fail.
    pub read_errors: u64,
    /// How many times slower than usual.
    pub slowness: u64,
}

struct Inner {
    media: Vec<Medium>,
    known: BTreeMap<(u64, u64), usize>,
    weather: Weather,
    next: u64,
    punches: bool,
    zeroes: bool,
}

/// All disks of a host. Clones are the same ones.
#[derive(Clone)]
pub struct Disks {
    inner: Rc<RefCell<Inner>>,
    executor: Executor,
    dice: Dice,
}

impl std::fmt::Debug for Disks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} disks", self.inner.borrow().media.len())
    }
}

impl Disks {
    /// No disk. Whether they can punch holes and zero by themselves is thrown.
    pub fn new(executor: &Executor, dice: &Dice) -> Self {
        let inner = Inner {
            media: Vec::new(),
            known: BTreeMap::new(),
            weather: Weather::default(),
            next: 0,
            punches: !dice.one_in(4),
            zeroes: dice.one_in(2),
        };
        Self { inner: Rc::new(RefCell::new(inner)), executor: executor.clone(), dice: dice.clone() }
    }

    /// Takes the file at `path` for a disk; what is in it now, however it came there, is durable.
    pub fn adopt(&self, path: &Path, kind: Kind) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        let meta = file.metadata()?;
        let key = (meta.dev(), meta.ino());
        let mut durable = vec![0; usize::try_from(meta.len()).map_err(io::Error::other)?];
        file.read_exact_at(&mut durable, 0)?;
        let mut inner = self.inner.borrow_mut();
        let medium = Medium { file, kind, durable, since: BTreeMap::new(), in_flight: BTreeMap::new() };
        if let Some(at) = inner.known.get(&key).copied() {
            assert!(inner.media[at].in_flight.is_empty(), "nobody opens a disk under what is in flight");
            inner.media[at] = medium;
        } else {
            let at = inner.media.len();
            inner.media.push(medium);
            inner.known.insert(key, at);
        }
        Ok(())
    }

    /// How the disks behave from now on.
    pub fn set_weather(&self, weather: Weather) {
        self.inner.borrow_mut().weather = weather;
    }

    /// How they behave.
    pub fn weather(&self) -> Weather {
        self.inner.borrow().weather
    }

    /// Whether anything is in flight: then no successor gets the lock of a file yet.
    pub fn busy(&self) -> bool {
        self.inner.borrow().media.iter().any(|medium| !medium.in_flight.is_empty())
    }

    /// The power goes: what is in flight stops where it is, what was not flushed is there in part, or not.
    pub fn power_cut(&self) -> io::Result<()> {
        self.executor.kill(Owner::Disks);
        let mut inner = self.inner.borrow_mut();
        for medium in &mut inner.media {
            // What is in flight is one more version of each of its sectors.
            for flight in std::mem::take(&mut medium.in_flight).into_values() {
                medium.complete(flight.at, &flight.bytes, u64::MAX);
            }
            // Often all or nothing survives; both are worth many of the cases.
            let mood = self.dice.below(4);
            for (sector, versions) in std::mem::take(&mut medium.since) {
                let kept = match mood {
                    0 => None,
                    1 => versions.last(),
                    _ => versions.get(self.dice.index(versions.len() + 1)),
                };
                if let Some(kept) = kept {
                    medium.durable[sector * SECTOR..][..SECTOR].copy_from_slice(&*kept.bytes);
                }
            }
            medium.restore()?;
        }
        inner.weather = Weather::default();
        Ok(())
    }

    fn medium_of(&self, file: &File) -> io::Result<usize> {
        let meta = file.metadata()?;
        let found = self.inner.borrow().known.get(&(meta.dev(), meta.ino())).copied();
        found.ok_or_else(|| io::Error::other("a file that is no disk of this world"))
    }

    fn latency(&self) -> u64 {
        let slowness = self.inner.borrow().weather.slowness.max(1);
        let usual = if self.dice.one_in(16) { self.dice.between(1, 8) * MS } else { self.dice.between(20, 400) * US };
        usual * slowness
    }

    /// A write, or zeros, on its way: durable when done with `dsync`.
    fn submit(&self, file: &File, offset: u64, bytes: Vec<u8>, dsync: bool) -> io::Result<Once<io::Result<()>>> {
        let at = self.medium_of(file)?;
        let start = usize::try_from(offset).map_err(io::Error::other)?;
        let (id, fails) = {
            let mut inner = self.inner.borrow_mut();
            inner.next += 1;
            let id = inner.next;
            let fails = match inner.media[at].kind {
                Kind::Backing => inner.weather.write_errors,
                Kind::Map => inner.weather.map_errors,
            };
            let medium = &mut inner.media[at];
            assert!(start.is_multiple_of(SECTOR) && bytes.len().is_multiple_of(SECTOR), "whole sectors");
            if start + bytes.len() > medium.durable.len() {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            medium.in_flight.insert(id, InFlight { at: start, bytes, cancelled: false });
            (id, fails)
        };
        let fails = self.dice.percent(fails);
        let done = Once::default();
        let (disks, answer) = (self.clone(), done.clone());
        let (first, second) = (self.latency(), self.latency());
        self.executor.spawn(Owner::Disks, async move {
            disks.executor.sleep(first).await;
            let half = disks.half(at, id);
            disks.show(at, id, 0, half);
            disks.executor.sleep(second).await;
            // One that fails has changed what it had changed by then.
            let result = if fails || disks.is_cancelled(at, id) {
                disks.end(at, id, half, false);
                Err(io::Error::from_raw_os_error(libc::EIO))
            } else {
                disks.show(at, id, half, usize::MAX);
                disks.end(at, id, usize::MAX, dsync);
                Ok(())
            };
            answer.set(result);
        });
        Ok(done)
    }

    /// Whoever asked for what is in flight was killed: some of it stops half way, the rest lands.
    pub fn abandon(&self) {
        for medium in &mut self.inner.borrow_mut().media {
            for flight in medium.in_flight.values_mut() {
                flight.cancelled |= self.dice.one_in(3);
            }
        }
    }

    fn is_cancelled(&self, at: usize, id: u64) -> bool {
        self.inner.borrow().media[at].in_flight.get(&id).is_some_and(|flight| flight.cancelled)
    }

    /// A place in the middle of a write, at a sector.
    fn half(&self, at: usize, id: u64) -> usize {
        let sectors = self.inner.borrow().media[at].in_flight.get(&id).map_or(0, |f| f.bytes.len() / SECTOR);
        self.dice.index(sectors + 1) * SECTOR
    }

    /// A part of what is in flight can be read now.
    fn show(&self, at: usize, id: u64, from: usize, to: usize) {
        let inner = self.inner.borrow();
        let medium = &inner.media[at];
        let Some(flight) = medium.in_flight.get(&id) else { return };
        let to = to.min(flight.bytes.len());
        let part = &flight.bytes[from..to];
        medium.file.write_all_at(part, (flight.at + from) as u64).expect("a file in memory takes a write");
    }

    /// What is in flight is over, `until` there.
    fn end(&self, at: usize, id: u64, until: usize, durable: bool) {
        let mut inner = self.inner.borrow_mut();
        inner.next += 1;
        let order = inner.next;
        let medium = &mut inner.media[at];
        let Some(flight) = medium.in_flight.remove(&id) else { return };
        let bytes = &flight.bytes[..until.min(flight.bytes.len())];
        if durable {
            medium.durable[flight.at..flight.at + bytes.len()].copy_from_slice(bytes);
            for sector in flight.at / SECTOR..(flight.at + bytes.len()) / SECTOR {
                medium.since.remove(&sector);
            }
        } else {
            medium.complete(flight.at, bytes, order);
        }
    }
}

impl Medium {
    fn complete(&mut self, at: usize, bytes: &[u8], order: u64) {
        for (i, sector) in bytes.chunks_exact(SECTOR).enumerate() {
            let mut copy = Box::new([0; SECTOR]);
            copy.copy_from_slice(sector);
            self.since.entry(at / SECTOR + i).or_default().push(Version { order, bytes: copy });
        }
    }

    /// Everything that was complete by then is durable.
    fn flush(&mut self, by: u64) {
        let durable = &mut self.durable;
        self.since.retain(|sector, versions| {
            let done = versions.iter().take_while(|version| version.order <= by).count();
            if let Some(newest) = done.checked_sub(1) {
                durable[sector * SECTOR..][..SECTOR].copy_from_slice(&*versions[newest].bytes);
            }
            versions.drain(..done);
            !versions.is_empty()
        });
    }

    /// The file shows what is durable, with holes where there is nothing.
    fn restore(&self) -> io::Result<()> {
        const PAGE: usize = 4096;
        self.file.set_len(0)?;
        self.file.set_len(self.durable.len() as u64)?;
        for (page, bytes) in self.durable.chunks(PAGE).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                self.file.write_all_at(bytes, (page * PAGE) as u64)?;
            }
        }
        Ok(())
    }
}

impl RingIo for Disks {
    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let at = self.medium_of(file)?;
        let half = self.dice.index(buf.len() / SECTOR + 1) * SECTOR;
        let (head, tail) = buf.split_at_mut(half.min(buf.len()));
        let len = head.len() as u64;
        for (part, from) in [(head, offset), (tail, offset + len)] {
            self.executor.sleep(self.latency()).await;
            self.inner.borrow().media[at].file.read_exact_at(part, from)?;
        }
        if self.dice.percent(self.weather().read_errors) {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        Ok(())
    }

    async fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        self.submit(file, offset, buf.to_vec(), dsync)?.get().await
    }

    async fn sync(&self, file: &File) -> io::Result<()> {
        let at = self.medium_of(file)?;
        // What completes while the flush runs is not in it.
        let by = self.inner.borrow().next;
        let done = Once::default();
        let (disks, answer, time) = (self.clone(), done.clone(), self.latency() + self.latency());
        let fails = self.dice.percent(self.weather().sync_errors);
        self.executor.spawn(Owner::Disks, async move {
            disks.executor.sleep(time).await;
            answer.set(if fails {
                Err(io::Error::from_raw_os_error(libc::EIO))
            } else {
                disks.inner.borrow_mut().media[at].flush(by);
                Ok(())
            });
        });
        done.get().await
    }

    async fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        let able = {
            let inner = self.inner.borrow();
            if mode & libc::FALLOC_FL_PUNCH_HOLE == 0 { inner.zeroes } else { inner.punches }
        };
        if !able {
            return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP));
        }
        let zeros = vec![0; usize::try_from(len).map_err(io::Error::other)?];
        self.submit(file, offset, zeros, false)?.get().await
    }
}
