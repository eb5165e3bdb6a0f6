//! One virtual volume: what happens to a request.
//!
//! Owns the life of a request from the typed `Kind` to the host's answer: its record, its turn, its I/O on the backing,
//! and what is said when the backing fails. The map from virtual to backing addresses is the identity in this release.
//! Generic over the ring, so that the same code runs behind ublk and behind the in-process front end of the tests.

use crate::backing::Backing;
use crate::clock;
use crate::dirty_map::DirtyMap;
use crate::regions::Pin;
use crate::ring_io::RingIo;
use crate::stream::direct::Ear;
use crate::stream::taking::{Receipt, Taken};
use crate::stream::{Entry, Stream};
use crate::work::Jobs;
use control::answer::IoCounts;
use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::{Incarnation, VolumeId};
use record::op::{Op, OpFlags};
use std::cell::RefCell;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use ublk_device::buffer::IoBuffer;
use ublk_device::errno::Errno;
use ublk_device::request::{Kind, Request};
use ublk_device::ring::Ring;
use ublk_device::service::{QueueContext, QueueService, Service};

/// How many of each kind of request, and their bytes.
#[derive(Debug, Default)]
pub struct Counts {
    reads: AtomicU64,
    read_bytes: AtomicU64,
    writes: AtomicU64,
    written_bytes: AtomicU64,
    punches: AtomicU64,
    punched_bytes: AtomicU64,
    zeroes: AtomicU64,
    zeroed_bytes: AtomicU64,
    flushes: AtomicU64,
    errors: AtomicU64,
}

impl Counts {
    fn count(&self, kind: &Kind) {
        let add = |count: &AtomicU64, bytes: &AtomicU64, extent: &Extent| {
            count.fetch_add(1, Ordering::Relaxed);
            bytes.fetch_add(extent.bytes(), Ordering::Relaxed);
        };
        match kind {
            Kind::Read(extent) => add(&self.reads, &self.read_bytes, extent),
            Kind::Write { extent, .. } => add(&self.writes, &self.written_bytes, extent),
            Kind::Discard(extent) => add(&self.punches, &self.punched_bytes, extent),
            Kind::WriteZeroes { extent, .. } => add(&self.zeroes, &self.zeroed_bytes, extent),
            Kind::Flush => {
                self.flushes.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// The numbers now.
    pub fn get(&self) -> IoCounts {
        let get = |n: &AtomicU64| n.load(Ordering::Relaxed);
        IoCounts {
            reads: get(&self.reads),
            read_bytes: get(&self.read_bytes),
            writes: get(&self.writes),
            written_bytes: get(&self.written_bytes),
            punches: get(&self.punches),
            punched_bytes: get(&self.punched_bytes),
            zeroes: get(&self.zeroes),
            zeroed_bytes: get(&self.zeroed_bytes),
            flushes: get(&self.flushes),
            errors: get(&self.errors),
        }
    }
}

/// Initial synchronisation of a volume.
#[derive(Debug, Default)]
pub struct Synchronisation {
    /// Whether it is complete.
    pub joined: AtomicBool,
    /// Bytes looked at.
    pub done: AtomicU64,
    /// Bytes in all.
    pub total: AtomicU64,
}

/// A volume that is being served.
#[derive(Debug)]
pub struct Volume {
    /// Its name.
    pub name: String,
    /// Its id.
    pub id: VolumeId,
    /// Its number in records.
    pub incarnation: Incarnation,
    /// Its content.
    pub backing: Backing,
    /// Which of its regions the journal may lack.
    pub map: DirtyMap,
    /// Its group's stream.
    pub stream: Arc<Stream>,
    /// Its group's worker.
    pub jobs: Jobs,
    /// What it served.
    pub counts: Counts,
    /// How far its initial synchronisation is.
    pub sync: Synchronisation,
}

impl Volume {
    /// Serves one request; its answer is the host's.
    pub async fn serve<R: RingIo>(&self, kind: Kind, buffer: &mut [u8], ring: &R) -> Result<(), Errno> {
        self.counts.count(&kind);
        let result = match kind {
            Kind::Read(extent) => self.read(extent, buffer, ring).await,
            Kind::Write { extent, fua } => self.write(extent, fua, buffer, ring).await,
            Kind::Discard(extent) => {
                let entry = self.entry(Op::Punch, OpFlags::NONE);
                self.zero(entry, extent, false, false, ring).await
            }
            Kind::WriteZeroes { extent, nounmap, fua } => {
                // Zeroing that may deallocate frees like a discard; only NOUNMAP must keep its allocation.
                let op = if nounmap { Op::Zero } else { Op::Punch };
                let flags = if nounmap { OpFlags::NOUNMAP } else { OpFlags::NONE };
                let flags = if fua { flags.with(OpFlags::FUA) } else { flags };
                self.zero(self.entry(op, flags), extent, nounmap, fua, ring).await
            }
            Kind::Flush => self.flush(ring).await,
        };
        if result.is_err() {
            self.counts.errors.fetch_add(1, Ordering::Relaxed);
        }
        result
    }

    fn entry(&self, op: Op, flags: OpFlags) -> Entry {
        Entry { op, flags, volume: self.incarnation, extent: None }
    }

    async fn read<R: RingIo>(&self, extent: Extent, buffer: &mut [u8], ring: &R) -> Result<(), Errno> {
        self.stream.readable().await;
        let bytes = length(extent)?;
        let buffer = buffer.get_mut(..bytes).ok_or(Errno::EINVAL)?;
        Ok(self.backing.read(ring, extent, buffer).await?)
    }

    async fn write<R: RingIo>(&self, extent: Extent, fua: bool, buffer: &[u8], ring: &R) -> Result<(), Errno> {
        let bytes = length(extent)?;
        let data = buffer.get(..bytes).ok_or(Errno::EINVAL)?;
        let flags = if fua { OpFlags::FUA } else { OpFlags::NONE };
        // From here to the backing each wait that most writes do not need is asked for before it is awaited: a future costs its
        // making, and something whenever a request goes on.
        let (pin, settled) = self.map.hold(extent);
        let pin = if settled { pin } else { self.settle(ring, extent, pin).await? };
        let entry = self.entry(Op::Write, flags);
        let mut taken = match self.stream.take_at_once(entry, extent, data, R::TELLS) {
            Ok(taken) => taken,
            Err(woken) => {
                woken.await;
                self.stream.take(entry, extent, data, R::TELLS).await
            }
        };
        if taken.waits() {
            taken.turn().await;
        }
        let done = self.backing.write(ring, extent, data, fua && !bug(Bug::FuaIgnored)).await;
        if let Some(waiting) = self.conclude(extent, pin, taken, done)? {
            self.answer(waiting).await;
        }
        Ok(())
    }

    async fn zero<R: RingIo>(
        &self,
        entry: Entry,
        extent: Extent,
        keep: bool,
        fua: bool,
        ring: &R,
    ) -> Result<(), Errno> {
        let (pin, settled) = self.map.hold(extent);
        let pin = if settled { pin } else { self.settle(ring, extent, pin).await? };
        let mut taken = self.stream.take(entry, extent, &[], R::TELLS).await;
        taken.turn().await;
        let mut done =
            if keep { self.backing.zero(ring, extent).await } else { self.backing.punch(ring, extent).await };
        if fua && done.is_ok() {
            done = self.backing.flush(ring).await;
        }
        if let Some(waiting) = self.conclude(extent, pin, taken, done)? {
            self.answer(waiting).await;
        }
        Ok(())
    }

    /// Marks the regions of an extent, which are held, durably, before anything of it is laid or written (PROTOCOL R6). When a
    /// page of the map cannot be written, recording ends, and the map says of itself that it is not to be believed. When
    /// not even that can be stored, the host gets an error: a power cut would otherwise leave a write that the journal
    /// lacks and nobody knows of.
    async fn settle<R: RingIo>(&self, ring: &R, extent: Extent, pin: Pin) -> Result<Pin, Errno> {
        if let Err(error) = self.map.settle(ring, extent).await {
            let (map, name) = (self.map.path().display(), &self.name);
            self.stream.mark(&format!("the dirty map {map} of volume {name} cannot be written: {error}"));
            if let Err(error) = self.map.distrust(ring).await {
                tracing::error!(volume = self.name, %extent, %error, "refused a write: its dirty map cannot be written at all");
                self.map.unpin(pin);
                return Err(error.into());
            }
        }
        Ok(pin)
    }

    /// Gives the extent back, after saying what happened to it: a failed write leaves it unknown until it has been
    /// read again (PROTOCOL R10). Only then the host gets its answer; `Some`: behind [`Self::answer`].
    fn conclude(&self, extent: Extent, pin: Pin, taken: Taken, done: io::Result<()>) -> Result<Option<Waiting>, Errno> {
        let receipt = taken.receipt();
        let error = match done {
            Ok(()) => {
                if self.stream.finish(taken) {
                    return Ok(Some(Waiting { receipt, pin }));
                }
                self.map.unpin(pin);
                return Ok(None);
            }
            Err(error) => error,
        };
        tracing::warn!(volume = self.name, %extent, %error, "backing failed; the host is told, the extent will be read again");
        self.map.regions().need_read(extent);
        if taken.seq.is_some() && !bug(Bug::NoIndeterminate) {
            let entry = Entry { extent: Some(extent), ..self.entry(Op::Indeterminate, OpFlags::NONE) };
            if self.stream.lay(entry, &[]).is_some() && !self.jobs.push_reread(self.incarnation, extent) {
                self.stream.mark(&format!("too many writes to the backing of volume {} failed", self.name));
            }
        }
        self.stream.finish(taken);
        self.map.unpin(pin);
        Err(error.into())
    }

    /// Waits until the host may be answered for a request that is finished.
    async fn answer(&self, waiting: Waiting) {
        self.stream.answerable(waiting.receipt).await;
        self.map.unpin(waiting.pin);
    }

    /// A flush is never shared with one that was already running (PROTOCOL R12); its record says that everything that
    /// completed before is durable on the backing, and is laid only once that is true.
    async fn flush<R: RingIo>(&self, ring: &R) -> Result<(), Errno> {
        if !bug(Bug::FlushSkipsBacking) {
            self.backing.flush(ring).await?;
        }
        let receipt = self.stream.lay_flush(self.incarnation, R::TELLS);
        self.stream.answerable(receipt).await;
        Ok(())
    }
}

/// A request that is finished and whose host may have to wait for the journal.
#[derive(Debug)]
struct Waiting {
    receipt: Receipt,
    /// Its regions are held until the host is answered.
    pin: Pin,
}

fn length(extent: Extent) -> Result<usize, Errno> {
    usize::try_from(extent.bytes()).map_err(|_| Errno::EINVAL)
}

/// A volume behind ublk.
#[derive(Debug)]
pub struct VolumeService(pub Arc<Volume>);

/// One queue of it.
#[derive(Debug)]
pub struct VolumeQueue {
    volume: Arc<Volume>,
    /// What it listens to.
    ear: RefCell<Option<Arc<dyn Ear>>>,
}

impl Service for VolumeService {
    type Queue = VolumeQueue;

    fn open_queue(&self, _context: QueueContext) -> std::io::Result<Self::Queue> {
        Ok(VolumeQueue { volume: Arc::clone(&self.0), ear: RefCell::default() })
    }
}

impl QueueService for VolumeQueue {
    fn handle(&self, request: Request, buffer: &mut IoBuffer, ring: &Ring) -> impl Future<Output = Result<(), Errno>> {
        self.volume.serve(request.kind, buffer, ring)
    }

    fn before_wait(&self, ring: &Ring) {
        clock::new_turn();
        let heard_by = self.volume.stream.send_put_off();
        let mut ear = self.ear.borrow_mut();
        if ear.is_none() {
            *ear = heard_by.filter(|ear| ear.claim());
        }
        if let Some(listened_to) = &*ear
            && let Err(error) = ring.watch(&listened_to.socket())
        {
            tracing::warn!(volume = self.volume.name, %error, "a queue cannot listen to the appliance; the link's thread does");
            listened_to.give_back();
            *ear = None;
        }
    }

    fn ready(&self, ring: &Ring) {
        let mut ear = self.ear.borrow_mut();
        if ear.as_ref().is_some_and(|ear| !ear.hear()) {
            ring.unwatch();
            *ear = None;
        }
    }
}

impl Drop for VolumeQueue {
    fn drop(&mut self) {
        if let Some(ear) = self.ear.get_mut() {
            ear.give_back();
        }
    }
}

#[cfg(test)]
mod tests;
