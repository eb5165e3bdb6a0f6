//! The tail: where the next chunk goes.
//!
//! Owns the one place that writes chunks. A chunk is its journal header, the body's header area and its payload, all
//! multiples of 4 KiB, and one write (`flight.rs`). A segment that is full gets its footer, for which room was kept.
//! A crash leaves behind, in front of the tail, whole chunks; at the tail, any part of what was under way; behind it,
//! zeros or chunks of an earlier life that no longer chain.
//!
//! After a failed write nobody knows what the disk holds at the tail: it is poisoned, says so, and takes no more.
//! Running out of space shows only when a segment is made, before anything is written: that can be tried again.

mod ahead;
mod flight;
mod pages;
mod pool;
mod spare;

use crate::aligned::Aligned;
use crate::chunks::Kept;
use crate::device::{Access, Disk, DiskFile, Flight, Part};
use crate::error::JournalError;
use crate::footer;
use crate::mark::TailMark;
use crate::notes::Notes;
use crate::place::{Place, SEGMENTS, SegmentNumber};
use crate::segment::{FIRST_CHUNK_AT, SegmentHeader};
use crate::superblock::{Replica, Retained, Superblock, SuperblockFile};
use ahead::Ahead;
use pages::Pages;
use pool::Pool;
use record::chunk::Body;
use record::fault::{Bug, bug};
use record::geometry::BLOCK_BYTES;
use record::header::HEADER_BYTES;
use record::position::{ChunkNumber, Label, Session, StreamSeq};
use record::streams::Streams;
use spare::{Ready, Spare};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

/// A chunk that has been checked and is to be written.
#[derive(Debug)]
pub(crate) struct Prepared<'a> {
    pub area: &'a [u8],
    pub payload: &'a [u8],
    pub body: Arc<Body>,
    pub notes: Notes,
    /// The newest session of each splitter, and what it expects, once the chunk is in.
    pub streams: Streams,
    /// The largest label once the chunk is in.
    pub label: Label,
}

impl Prepared<'_> {
    fn disk_bytes(&self) -> u64 {
        (HEADER_BYTES + self.area.len() + self.payload.len()) as u64
    }
}

/// The segment that chunks are written to.
#[derive(Debug)]
struct Active {
    number: SegmentNumber,
    file: Arc<dyn DiskFile>,
    /// Bytes of the file.
    bytes: u64,
    /// Where the next chunk goes.
    at: u64,
    /// Up to where its room has been written.
    ahead: Ahead,
    /// What its footer will say.
    footer: footer::Collecting,
}

/// The tail of a journal that is open for writing.
#[derive(Debug)]
pub(crate) struct Tail {
    disk: Arc<dyn Disk>,
    superblock: SuperblockFile,
    mark: TailMark,
    active: Option<Active>,
    /// Headers under way.
    pages: Pages,
    flyers: flight::Flyers,
    /// The next segment's file, once the active one is half full.
    spare: Option<Spare>,
    /// Files of segments that left the journal, for those to come.
    pool: Pool,
    /// The largest number that any segment has.
    newest: SegmentNumber,
    /// Every chunk up to this one is named durable by a later one that is durable itself.
    committed: ChunkNumber,
    /// The newest sessions, and what they expected, when `committed` was the last chunk.
    committed_streams: Streams,
    /// The last chunk that says more than that something is committed.
    worth_naming: ChunkNumber,
    /// What RECOVERY has to say, until it is written.
    beginning: Option<Beginning>,
    poisoned: Option<String>,
    closed: bool,
    footer_missing: bool,
    /// Bytes of the files of all segments but the active one.
    sealed_bytes: u64,
    segments: u64,
    /// Bytes of the files of those that are compacted.
    compacted: BTreeMap<SegmentNumber, u64>,
}

/// An epoch that is still to begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beginning {
    /// Whether the close before was clean.
    pub clean: bool,
    /// Whether it is known what the newest session expects.
    pub stream_known: bool,
}

/// What is found at open.
#[derive(Debug)]
pub(crate) struct Found {
    /// From where to go on, in a new epoch.
    pub mark: TailMark,
    /// The largest number that any segment has; 0 for none.
    pub newest: SegmentNumber,
    /// Bytes of all segment files.
    pub bytes: u64,
    /// How many segment files there are.
    pub segments: u64,
    /// Bytes of those that are compacted.
    pub compacted: BTreeMap<SegmentNumber, u64>,
}

/// How large segments' files are.
#[derive(Debug)]
pub(crate) struct Sizes {
    /// Bytes of one that is not compacted, but for a chunk that needs more.
    pub ordinary: u64,
    compacted: BTreeMap<SegmentNumber, u64>,
}

impl Sizes {
    /// Bytes of the segment's file that ends with this chunk.
    pub(crate) fn of(&self, last: &Kept) -> u64 {
        let written = || self.ordinary.max(last.place.offset + last.disk_bytes());
        self.compacted.get(&last.place.segment).copied().unwrap_or_else(written)
    }
}

impl Tail {
    /// A tail without an active segment.
    pub(crate) fn new(disk: Arc<dyn Disk>, superblock: SuperblockFile, found: &Found) -> Self {
        Self {
            disk,
            superblock,
            mark: found.mark,
            active: None,
            pages: Pages::default(),
            flyers: flight::Flyers::default(),
            spare: None,
            pool: Pool::default(),
            newest: found.newest,
            committed: ChunkNumber::new(0),
            committed_streams: Streams::NONE,
            worth_naming: ChunkNumber::new(0),
            beginning: None,
            poisoned: None,
            closed: false,
            footer_missing: false,
            sealed_bytes: found.bytes,
            segments: found.segments,
            compacted: found.compacted.clone(),
        }
    }

    /// Goes on in a segment that exists and has `bytes` bytes, at `place`. `footer` is what it holds up to
    /// there.
    pub(crate) fn resume(&mut self, place: Place, bytes: u64, footer: footer::Collecting) -> io::Result<()> {
        let file = self.disk.open(&place.segment.file(), segment_access())?;
        self.sealed_bytes = self.sealed_bytes.saturating_sub(bytes);
        // What stands behind is zeros, or of a life that is over: it may be written over.
        let ahead = Ahead::young(place.offset);
        self.active = Some(Active { number: place.segment, file, bytes, at: place.offset, ahead, footer });
        Ok(())
    }

    // ---- segments

    /// Makes the next segment, with room for this chunk, while the active one gets its footer.
    fn roll(&mut self, first: &Prepared<'_>) -> Result<(), JournalError> {
        let Some(sealed) = self.active.as_ref().map(|active| active.file.clone()) else {
            return self.next_segment(first);
        };
        let mut outcome = Ok(());
        sealed.fly(false, &mut |flight| {
            self.begin_footer(flight);
            let segment = self.active.as_ref().map_or(self.newest, |active| active.number);
            outcome = self.next_segment(first);
            self.footer_written(flight, segment);
        });
        outcome
    }

    /// Makes the next segment, with room for this chunk.
    fn next_segment(&mut self, first: &Prepared<'_>) -> Result<(), JournalError> {
        let need = first.disk_bytes() + footer::Collecting::new().bytes_now() + footer::bytes_more(&first.body);
        let number = self.newest.next();
        let ordinary = self.superblock.current().segment_bytes;
        let bytes = ordinary.max((FIRST_CHUNK_AT + need).next_multiple_of(BLOCK_BYTES as u64));
        let (file, ahead) = self.make_segment(number, bytes).map_err(|source| self.segment_failure(number, source))?;
        self.disk.sync_folder(SEGMENTS).map_err(|source| self.segment_failure(number, source))?;
        if let Some(sealed) = self.active.take() {
            self.sealed_bytes += sealed.bytes;
        }
        self.newest = number;
        self.segments += 1;
        self.active =
            Some(Active { number, file, bytes, at: FIRST_CHUNK_AT, ahead, footer: footer::Collecting::new() });
        let mark = self.mark;
        self.store(|superblock| {
            superblock.last_segment = number;
            superblock.clean = false;
            superblock.mark = mark;
        })
    }

    /// Begins to make the next segment's file when the active one is half full. A failure shows when it is needed.
    fn make_ahead(&mut self) {
        let half_full = self.active.as_ref().is_some_and(|active| active.at > active.bytes / 2);
        if half_full && self.spare.is_none() {
            let bytes = self.superblock.current().segment_bytes;
            let former = self.pool.take();
            self.spare = Some(Spare::make(&self.disk, self.newest.next(), bytes, segment_access(), former));
        }
    }

    /// A file of so many bytes that waits for its header: the spare, if it fits.
    fn ready(&mut self, number: SegmentNumber, bytes: u64) -> io::Result<Ready> {
        if let Some(spare) = self.spare.take() {
            let fits = spare.fits(number, bytes);
            match spare.made() {
                Some(ready) if fits => return Ok(ready),
                Some(Ready { former: Some(former), .. }) => self.pool.give_back(former),
                // A new one has this segment's name and is made over.
                Some(_) | None => {}
            }
        }
        let former = if bytes == self.superblock.current().segment_bytes { self.pool.take() } else { None };
        Ready::make(self.disk.as_ref(), number, bytes, segment_access(), former)
    }

    /// A segment's file gets its name when its header is durable.
    fn make_segment(&mut self, number: SegmentNumber, bytes: u64) -> io::Result<(Arc<dyn DiskFile>, Ahead)> {
        let Ready { name, file, former } = self.ready(number, bytes)?;
        let journal = self.superblock.current().journal;
        let header = SegmentHeader { journal, segment: number, bytes, mark: self.mark };
        let block = Aligned::copy_of(&header.encode());
        let made = file.write_at(&[IoSlice::new(&block)], 0).and_then(|()| self.disk.rename(&name, &number.file()));
        if let Err(error) = made {
            // Nothing half made stays behind, if the disk lets us.
            let _ = self.disk.remove(&name);
            return Err(error);
        }
        Ok((file, if former.is_some() { Ahead::used() } else { Ahead::young(FIRST_CHUNK_AT) }))
    }

    fn segment_failure(&self, number: SegmentNumber, source: io::Error) -> JournalError {
        let journal = self.disk.describe();
        match source.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => JournalError::NoSpace { journal, source },
            _ => JournalError::Io { journal, doing: format!("make segment {number}"), source },
        }
    }

    /// Begins to write the active segment's footer.
    fn begin_footer(&self, flight: &mut dyn Flight<'_>) {
        let Some(active) = &self.active else { return };
        let footer = active.footer.seal(self.superblock.current().journal, active.number, &self.mark);
        // Room was kept for it.
        let at = active.bytes.saturating_sub(footer.len() as u64);
        flight.begin(vec![Part::Own(footer)], at);
    }

    /// Waits for the footer. It is only a second witness, and what makes a restart quick: that it cannot be written is
    /// said, and does not stop the journal.
    fn footer_written(&mut self, flight: &mut dyn Flight<'_>, segment: SegmentNumber) {
        if let Some((_, Err(error))) = flight.wait() {
            self.footer_missing = true;
            tracing::warn!(
                "journal {}: the footer of segment {segment} cannot be written ({error}); the journal goes on, but a \
                 restart takes longer, and damage in that segment may not be nameable",
                self.disk.describe()
            );
        }
    }

    /// Writes the active segment's footer.
    fn write_footer(&mut self) {
        let Some((file, segment)) = self.active.as_ref().map(|active| (active.file.clone(), active.number)) else {
            return;
        };
        file.fly(true, &mut |flight| {
            self.begin_footer(flight);
            self.footer_written(flight, segment);
        });
    }

    // ---- state

    /// Whether records can be appended.
    pub(crate) fn writable(&self) -> Result<(), JournalError> {
        let journal = || self.disk.describe();
        match &self.poisoned {
            Some(reason) => Err(JournalError::Poisoned { journal: journal(), reason: reason.clone() }),
            None if self.closed => Err(JournalError::Refused(format!("journal {} is closed", journal()))),
            None => Ok(()),
        }
    }

    fn poison(&mut self, reason: &str) -> JournalError {
        let journal = self.disk.describe();
        tracing::error!("journal {journal}: {reason}; it takes no more records until it is opened again");
        let reason = self.poisoned.get_or_insert_with(|| reason.to_string()).clone();
        JournalError::Poisoned { journal, reason }
    }

    /// Taken by whoever writes RECOVERY now.
    pub(crate) fn take_beginning(&mut self) -> Option<Beginning> {
        self.beginning.take()
    }

    /// RECOVERY is still to be written.
    pub(crate) fn put_beginning(&mut self, beginning: Beginning) {
        self.beginning = Some(beginning);
    }

    /// Why no records can be appended, if that is so.
    pub(crate) fn poisoned(&self) -> Option<&str> {
        self.poisoned.as_deref()
    }

    /// Between which chunks the tail is.
    pub(crate) fn mark(&self) -> &TailMark {
        &self.mark
    }

    /// What `session` may release.
    pub(crate) fn committed_of(&self, session: Session) -> StreamSeq {
        self.committed_streams.with_session(session).map_or(StreamSeq::FIRST, |at| at.next)
    }

    /// Whether something durable is not named committed yet.
    pub(crate) fn owes_commit(&self) -> bool {
        self.worth_naming > self.committed
    }

    /// Nothing that is in the journal now needs to be named.
    pub(crate) fn nothing_owed(&mut self) {
        self.worth_naming = ChunkNumber::new(0);
    }

    pub(crate) fn footer_missing(&self) -> bool {
        self.footer_missing
    }

    /// Segment files, and bytes of all of them.
    pub(crate) fn disk_use(&self) -> (u64, u64) {
        let active = self.active.as_ref().map_or(0, |active| active.bytes);
        (self.segments, self.sealed_bytes + active)
    }

    /// How large the segments' files are.
    pub(crate) fn sizes(&self) -> Sizes {
        Sizes { ordinary: self.superblock.current().segment_bytes, compacted: self.compacted.clone() }
    }

    /// A sealed segment's file is replaced by what `compacted::write` has laid beside it: durable when it returns. Answers
    /// with the bytes that came free; 0 when the segment has left the journal meanwhile.
    pub(crate) fn compact(&mut self, number: SegmentNumber) -> Result<u64, JournalError> {
        let name = number.unfinished_file();
        if number >= self.newest || number < self.retained().first_segment {
            // What stays behind is removed at the next open.
            let _ = self.disk.remove(&name);
            return Ok(0);
        }
        self.will_thin()?;
        let len = |name: &str| self.disk.open(name, Access::Read).and_then(|file| file.len());
        let replaced = len(&number.file()).and_then(|before| {
            let after = len(&name)?;
            self.disk.rename(&name, &number.file())?;
            self.disk.sync_folder(SEGMENTS)?;
            Ok((before, after))
        });
        let (before, after) = replaced.map_err(|source| JournalError::Io {
            journal: self.disk.describe(),
            doing: format!("replace segment {number} by what is needed of it"),
            source,
        })?;
        self.compacted.insert(number, after);
        self.sealed_bytes = (self.sealed_bytes + after).saturating_sub(before);
        Ok(before.saturating_sub(after))
    }

    /// What is kept of the past changes; durable when it returns.
    pub(crate) fn retain(&mut self, retained: Retained) -> Result<(), JournalError> {
        self.writable()?;
        self.store(|superblock| superblock.retained = retained)
    }

    /// From now on replicas are there; durable when it returns.
    pub(crate) fn set_replica(&mut self, replica: Replica) -> Result<(), JournalError> {
        self.writable()?;
        self.store(|superblock| superblock.replica = replica)
    }

    /// Where replicas are.
    pub(crate) fn replica(&self) -> Replica {
        self.superblock.current().replica
    }

    /// From now on there may be grid points, and segments of which only a part is left; durable when it returns.
    pub(crate) fn will_thin(&mut self) -> Result<(), JournalError> {
        self.writable()?;
        if self.superblock.current().thinned {
            return Ok(());
        }
        self.store(|superblock| superblock.thinned = true)
    }

    /// Writes the superblock, durably.
    fn store(&mut self, change: impl FnOnce(&mut Superblock)) -> Result<(), JournalError> {
        let stored = self.superblock.store(change);
        stored.map_err(|error| self.poison(&format!("write the superblock: {error}")))
    }

    /// What is kept of the past.
    pub(crate) fn retained(&self) -> &Retained {
        &self.superblock.current().retained
    }

    /// Marks the journal as in use: whatever comes next, the end of the last clean close is not its end.
    pub(crate) fn mark_open(&mut self) -> io::Result<()> {
        let newest = self.newest;
        self.superblock.store(|superblock| {
            superblock.clean = false;
            superblock.last_segment = superblock.last_segment.max(newest);
        })
    }

    /// Closes cleanly. No more records are taken, whatever comes out, and the next one to open the journal need not
    /// wait for anything of ours.
    pub(crate) fn close(&mut self) -> Result<(), JournalError> {
        let closed = self.close_marked();
        if let Some(spare) = self.spare.take() {
            spare.discard(self.disk.as_ref());
        }
        self.pool.discard(self.disk.as_ref());
        self.sealed_bytes += self.active.take().map_or(0, |active| active.bytes);
        closed
    }

    fn close_marked(&mut self) -> Result<(), JournalError> {
        self.writable()?;
        self.closed = true;
        if self.beginning.is_some() {
            // The epoch never began: the journal is as it was found.
            return Ok(());
        }
        self.write_footer();
        let mark = self.mark;
        self.store(|superblock| {
            superblock.clean = true;
            superblock.mark = mark;
        })
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        // Whoever opens the journal next must not meet a file in the making.
        if let Some(spare) = self.spare.take() {
            spare.made();
        }
    }
}

/// How a segment's file is written.
fn segment_access() -> Access {
    if bug(Bug::AckBeforeSync) { Access::Buffered } else { Access::Durable }
}
