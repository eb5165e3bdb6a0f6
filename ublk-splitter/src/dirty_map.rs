//! The dirty map of a volume on disk: which regions the journal may lack, whatever happens to this machine.
//!
//! Owns the file (`docs/formats/dirty-map.md`) and when its pages are written: before the first write into a clean
//! region goes on (PROTOCOL R6), lazily after a clearing (R13); and the note of what clearings rely on (R14). What the
//! bits mean is in `regions`. Deliberately knows no stream: who lays records and who clears is told by `volume` and
//! `work`.
//!
//! A map that is missing or cannot be read makes every region dirty: too much is read again then, never too little.

pub mod layout;

use crate::backing::AlignedBuffer;
use crate::lock::lock;
use crate::regions::{Next, PageWrite, Pin, Regions, Round};
use crate::ring_io::{Blocking, RingIo, block_on};
use layout::{Header, PAGE};
use record::fault::{Bug, bug};
use record::geometry::{Extent, SectorCount};
use record::ids::{JournalId, VolumeId};
use record::position::{Session, StreamSeq};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard};
use tokio::sync::Notify;

#[cfg(test)]
mod tests;

/// What a clearing relied on: the journal has everything of this session below this number (PROTOCOL R14).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Relied {
    /// The session.
    pub session: Session,
    /// The number behind the last record that is relied on.
    pub next: StreamSeq,
}

/// What a map is made with when there is none.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Missing {
    /// The volume is new: nothing is dirty.
    Clean,
    /// Nothing is known: everything is.
    Dirty,
}

/// The dirty map of one volume.
#[derive(Debug)]
pub struct DirtyMap {
    path: PathBuf,
    file: File,
    regions: Mutex<Regions>,
    header: Mutex<Header>,
    /// Signalled when a page write has ended.
    written: Notify,
    /// One header is written at a time.
    writing_header: tokio::sync::Mutex<()>,
}

impl DirtyMap {
    /// Opens the map of a volume, or makes it. Bits that are not on disk yet are written before this returns.
    pub fn open(
        path: &Path,
        volume: VolumeId,
        size: SectorCount,
        journal: JournalId,
        missing: Missing,
    ) -> io::Result<Self> {
        let mut regions = Regions::new(size.get());
        let (bytes, count) = (layout::file_bytes(regions.pages()), regions.count());
        let (file, header, created_clean) = match open_file(path) {
            Ok(file) => {
                let header = read_header(&file, volume, regions.count())
                    .filter(|header| header.journal == journal && !header.distrusted);
                (file, header, false)
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let file = make_file(path, bytes)?;
                let header = Header::new(volume, regions.count(), journal);
                let clean = missing == Missing::Clean;
                (file, clean.then_some(header), clean)
            }
            Err(error) => return Err(error),
        };
        let known = header.is_some() && file.metadata()?.len() == bytes;
        if known && !created_clean {
            let mut buffer = AlignedBuffer::new(PAGE);
            for page in 0..regions.pages() {
                // A page that cannot be read is all ones, like a sector that does not check.
                let read = file.read_exact_at(buffer.bytes_mut(), layout::page_at(page));
                let bits = layout::decode_page(page, read.ok().map(|()| buffer.bytes()));
                regions.load(page, bits.into_iter());
            }
        } else if !known {
            file.set_len(0)?;
            allocate(&file, bytes)?;
            regions.set_all();
        }
        if created_clean {
            regions.rewrite();
        }
        let map = Self {
            path: path.into(),
            file,
            regions: Mutex::new(regions),
            header: Mutex::new(header.unwrap_or_else(|| Header::new(volume, count, journal))),
            written: Notify::new(),
            writing_header: tokio::sync::Mutex::new(()),
        };
        // The pages first: a header says that they can be believed.
        block_on(map.write_lazily(&Blocking))?;
        block_on(map.write_header(&Blocking, |_| ()))?;
        Ok(map)
    }

    /// A map over a file that is open already and says nothing: for front ends that are not ublk.
    pub fn over(path: &Path, file: File, volume: VolumeId, journal: JournalId, regions: Regions) -> Self {
        let header = Header::new(volume, regions.count(), journal);
        Self {
            path: path.into(),
            file,
            regions: Mutex::new(regions),
            header: Mutex::new(header),
            written: Notify::new(),
            writing_header: tokio::sync::Mutex::new(()),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The regions, for looking at them and changing them where nothing has to be durable first.
    pub fn regions(&self) -> MutexGuard<'_, Regions> {
        lock(&self.regions)
    }

    /// After a page could not be written: the next life of this machine believes none of the bits and reads everything.
    /// An error means that not even this could be stored: then nothing may be written that the map does not know of.
    pub async fn distrust(&self, ring: &impl RingIo) -> io::Result<()> {
        // Behind a header that is being written: what that one says counts.
        let writing = self.writing_header.lock().await;
        if lock(&self.header).distrusted {
            return Ok(());
        }
        self.write_header_locked(ring, &writing, |header| header.distrusted = true).await
    }

    /// Takes [`Self::distrust`] back, once every page is on disk as it is in memory.
    pub async fn trust_again(&self, ring: &impl RingIo) -> io::Result<()> {
        if !lock(&self.header).distrusted {
            return Ok(());
        }
        self.write_lazily(ring).await?;
        if !lock(&self.regions).is_written() {
            return Ok(());
        }
        let writing = self.writing_header.lock().await;
        self.write_header_locked(ring, &writing, |header| header.distrusted = false).await?;
        if lock(&self.regions).is_written() {
            return Ok(());
        }
        // A page failed meanwhile, and whoever it failed for waits for this header.
        self.write_header_locked(ring, &writing, |header| header.distrusted = true).await
    }

    /// Holds the regions of an extent that is about to be changed. Where it answers `false` their bits are not durable yet,
    /// and nothing may be changed before [`Self::settle`] has made them so.
    pub fn hold(&self, extent: Extent) -> (Pin, bool) {
        let mut regions = lock(&self.regions);
        (regions.pin(extent), regions.is_settled(extent))
    }

    /// Makes the bits of regions that are held durable. An error means that they are not, and that the regions are held all
    /// the same.
    pub async fn settle(&self, ring: &impl RingIo, extent: Extent) -> io::Result<()> {
        if bug(Bug::DirtyBitLate) {
            return Ok(());
        }
        loop {
            let ended = self.written.notified();
            let (next, page) = {
                let mut regions = lock(&self.regions);
                match regions.next(extent) {
                    Next::Go => return Ok(()),
                    Next::Wait => (None, None),
                    Next::Write(write) => (Some(write), Some(page_bytes(&regions, write))),
                }
            };
            match (next, page) {
                (Some(write), Some(page)) => self.write(ring, write, &page).await?,
                (Some(_), None) | (None, _) => ended.await,
            }
        }
    }

    async fn write(&self, ring: &impl RingIo, write: PageWrite, page: &AlignedBuffer) -> io::Result<()> {
        let done = ring.write(&self.file, layout::page_at(write.page), page.bytes(), true).await;
        lock(&self.regions).written(write, done.is_ok());
        self.written.notify_waiters();
        done
    }

    /// Lets go of what was pinned.
    pub fn unpin(&self, pin: Pin) {
        lock(&self.regions).unpin(pin);
    }

    /// Writes every page that is not on disk as it is in memory, but for those that somebody is writing.
    pub async fn write_lazily(&self, ring: &impl RingIo) -> io::Result<()> {
        loop {
            let next = {
                let mut regions = lock(&self.regions);
                regions.lazy_write().map(|write| (write, page_bytes(&regions, write)))
            };
            let Some((write, page)) = next else { return Ok(()) };
            self.write(ring, write, &page).await?;
        }
    }

    /// Makes everything dirty, durably.
    pub async fn set_all(&self, ring: &impl RingIo) -> io::Result<()> {
        lock(&self.regions).set_all();
        loop {
            self.write_lazily(ring).await?;
            let ended = self.written.notified();
            if lock(&self.regions).is_written() {
                return Ok(());
            }
            ended.await;
        }
    }

    /// Nothing is known any more: everything is dirty, durably, and nothing is relied on.
    pub async fn forget(&self, ring: &impl RingIo) -> io::Result<()> {
        self.set_all(ring).await?;
        self.write_header(ring, |header| (header.relied, header.distrusted) = (None, false)).await
    }

    /// What clearings have relied on, if any has.
    pub fn relied(&self) -> Option<Relied> {
        lock(&self.header).relied
    }

    /// Notes durably what clearings from now on rely on.
    pub async fn rely(&self, ring: &impl RingIo, relied: Relied) -> io::Result<()> {
        if self.relied().is_some_and(|before| before >= relied) {
            return Ok(());
        }
        self.write_header(ring, |header| header.relied = Some(relied)).await
    }

    /// Writes a changed header behind the present one, which stays until this one is durable.
    async fn write_header(&self, ring: &impl RingIo, change: impl FnOnce(&mut Header)) -> io::Result<()> {
        let writing = self.writing_header.lock().await;
        self.write_header_locked(ring, &writing, change).await
    }

    async fn write_header_locked(
        &self,
        ring: &impl RingIo,
        _one_at_a_time: &tokio::sync::MutexGuard<'_, ()>,
        change: impl FnOnce(&mut Header),
    ) -> io::Result<()> {
        let mut header = lock(&self.header).clone();
        change(&mut header);
        header.generation += 1;
        let bytes = header.encode();
        let mut page = AlignedBuffer::new(PAGE);
        page.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        ring.write(&self.file, layout::header_at(header.generation), page.bytes(), true).await?;
        *lock(&self.header) = header;
        Ok(())
    }

    /// Ends a round of clearing: the backing was flushed after it began, and the journal has everything laid before.
    pub fn end_round(&self, round: Round) -> u64 {
        lock(&self.regions).end_round(round)
    }
}

fn page_bytes(regions: &Regions, write: PageWrite) -> AlignedBuffer {
    let mut page = AlignedBuffer::new(PAGE);
    layout::encode_page(write.page, regions.page_bits(write.page), page.bytes_mut());
    page
}

fn open_with(path: &Path, make: bool) -> io::Result<File> {
    let open =
        |flags| OpenOptions::new().read(true).write(true).create_new(make).mode(0o600).custom_flags(flags).open(path);
    match open(libc::O_DIRECT) {
        // A file system without direct I/O; every write is durable when it returns all the same.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            if make {
                std::fs::remove_file(path)
                    .or_else(|e| if e.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(e) })?;
            }
            open(0)
        }
        other => other,
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    open_with(path, false)
}

fn make_file(path: &Path, bytes: u64) -> io::Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = open_with(path, true)?;
    allocate(&file, bytes)?;
    if let Some(folder) = path.parent() {
        File::open(folder)?.sync_all()?;
    }
    Ok(file)
}

/// Allocated and written once: a full disk is an error here, and not in front of a host's write later.
fn allocate(file: &File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)?;
    let zeros = AlignedBuffer::new(PAGE);
    for at in (0..bytes).step_by(PAGE) {
        file.write_all_at(zeros.bytes(), at)?;
    }
    file.sync_all()
}

/// The newest header that is whole. One that cannot be read is like one that is damaged: the other may do.
fn read_header(file: &File, volume: VolumeId, regions: u64) -> Option<Header> {
    let mut newest: Option<Header> = None;
    let mut buffer = AlignedBuffer::new(PAGE);
    for slot in 0..2 {
        if file.read_exact_at(buffer.bytes_mut(), layout::header_at(slot)).is_err() {
            continue;
        }
        let header = Header::decode(buffer.bytes()).filter(|h| h.volume == volume && h.regions == regions);
        if let Some(header) = header
            && newest.as_ref().is_none_or(|n| n.generation < header.generation)
        {
            newest = Some(header);
        }
    }
    newest
}
