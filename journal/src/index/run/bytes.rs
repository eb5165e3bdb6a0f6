//! A run as bytes: `docs/formats/run.md` has the page.
//!
//! Owns the layout, writing it block by block, and reading single regions of it. Every block is checked when it is read, with
//! the journal's salt, its own number and the run's seal: a block of another run, place or journal is no block of this one.

use super::merge::Cursor;
use super::{Directory, Entry, Group, Groups, RunData, RunId, SPAN_MAX, Sink, VolumeGroups, Wide};
use crate::device::DiskFile;
use crate::index::Content;
use crate::mark::{u32_at, u64_at};
use record::checksum::Salt;
use record::geometry::{BLOCK_BYTES, Extent};
use record::ids::{Incarnation, JournalId};
use record::position::Position;
use std::io::{self, ErrorKind, IoSlice};
use std::ops::RangeInclusive;
use std::sync::Arc;

const MAGIC: u32 = u32::from_le_bytes(*b"UDRN");
/// Version of the format. 1: the first.
pub(crate) const VERSION: u16 = 1;
/// Bytes of a block in front of its number and checksum.
const USED_BYTES: usize = BLOCK_BYTES - 8;
/// Entries, or groups, in a block.
const PER_BLOCK: usize = USED_BYTES / 8;
/// Blocks that are written at once.
const WRITTEN_AT_ONCE: usize = 64;
const VOLUME_BYTES: usize = 16;
const WIDE_BYTES: usize = 32;
/// Most bytes of a tail that a reader takes.
const TAIL_BYTES_MAX: u64 = 1 << 30;

/// How a run's blocks are checked.
#[derive(Clone, Copy, Debug)]
struct Seal {
    salt: Salt,
    seal: u32,
}

impl Seal {
    /// Puts number and checksum behind a block's bytes.
    fn put(self, block: &mut [u8], number: u64) {
        block[USED_BYTES..USED_BYTES + 4].copy_from_slice(&self.number(number).to_le_bytes());
        let crc = self.salt.header(&block[..BLOCK_BYTES - 4]);
        block[BLOCK_BYTES - 4..].copy_from_slice(&crc.to_le_bytes());
    }

    fn fits(self, block: &[u8], number: u64) -> bool {
        block.len() == BLOCK_BYTES
            && self.salt.header(&block[..BLOCK_BYTES - 4]) == u32_at(block, BLOCK_BYTES - 4)
            && u32_at(block, USED_BYTES) == self.number(number)
    }

    #[expect(clippy::cast_possible_truncation, reason = "a run has fewer than 2^32 blocks")]
    fn number(self, number: u64) -> u32 {
        number as u32 ^ self.seal
    }
}

fn blocks_for(items: u64) -> u64 {
    items.div_ceil(PER_BLOCK as u64)
}

// ---- writing

/// A run on its way into a file.
#[derive(Debug)]
pub(crate) struct RunWriter {
    file: Arc<dyn DiskFile>,
    seal: Seal,
    journal: JournalId,
    id: RunId,
    directory: Directory,
    /// Blocks that are not written yet; the last may be unfinished.
    buffer: Vec<u8>,
    /// Bytes used of the unfinished block.
    used: usize,
    /// The number of the first block in `buffer`.
    next: u64,
}

impl RunWriter {
    /// Into an empty file.
    pub(crate) fn new(file: Arc<dyn DiskFile>, journal: JournalId, id: RunId) -> Self {
        let seal = Seal { salt: Salt::of(journal), seal: id.seal };
        Self { file, seal, journal, id, directory: Directory::default(), buffer: Vec::new(), used: USED_BYTES, next: 1 }
    }

    /// Bytes that go behind the last ones; none cross a block.
    fn word(&mut self, word: [u8; 8]) -> io::Result<()> {
        if self.used == USED_BYTES {
            self.begin_block()?;
        }
        let at = self.buffer.len() - BLOCK_BYTES + self.used;
        self.buffer[at..at + 8].copy_from_slice(&word);
        self.used += 8;
        Ok(())
    }

    fn begin_block(&mut self) -> io::Result<()> {
        self.end_block();
        if self.buffer.len() >= WRITTEN_AT_ONCE * BLOCK_BYTES {
            self.flush()?;
        }
        self.buffer.resize(self.buffer.len() + BLOCK_BYTES, 0);
        self.used = 0;
        Ok(())
    }

    /// The last block is complete.
    fn end_block(&mut self) {
        if let Some(start) = self.buffer.len().checked_sub(BLOCK_BYTES) {
            let number = self.next + (start / BLOCK_BYTES) as u64;
            self.seal.put(&mut self.buffer[start..], number);
        }
        self.used = USED_BYTES;
    }

    fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_at(&[IoSlice::new(&self.buffer)], self.next * BLOCK_BYTES as u64)?;
            self.next += (self.buffer.len() / BLOCK_BYTES) as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    /// Everything behind the entries, then the header.
    pub(crate) fn finish(mut self, wide: &[Wide]) -> io::Result<()> {
        self.end_block();
        let directory = std::mem::take(&mut self.directory);
        for group in &directory.groups {
            self.word(pair(group.region, group.end))?;
        }
        self.end_block();
        let tail = tail(&directory, wide);
        for word in tail.chunks_exact(8) {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(word);
            self.word(bytes)?;
        }
        self.end_block();
        self.flush()?;
        let mut block = vec![0_u8; BLOCK_BYTES];
        block[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        block[4..6].copy_from_slice(&VERSION.to_le_bytes());
        block[6] = self.id.level;
        block[8..24].copy_from_slice(&self.journal.to_bytes());
        block[24..32].copy_from_slice(&self.id.first.get().to_le_bytes());
        block[32..40].copy_from_slice(&self.id.last.get().to_le_bytes());
        block[40..44].copy_from_slice(&self.id.seal.to_le_bytes());
        block[44..52].copy_from_slice(&directory.entries.to_le_bytes());
        block[52..60].copy_from_slice(&(directory.groups.len() as u64).to_le_bytes());
        block[60..68].copy_from_slice(&(directory.volumes.len() as u64).to_le_bytes());
        block[68..76].copy_from_slice(&(wide.len() as u64).to_le_bytes());
        self.seal.put(&mut block, 0);
        self.file.write_at(&[IoSlice::new(&block)], 0)
    }
}

impl Sink for RunWriter {
    fn push(&mut self, volume: Incarnation, region: u32, entries: &[Entry]) -> io::Result<()> {
        self.directory.push(volume, region, entries.len())?;
        entries.iter().try_for_each(|entry| self.word(entry.0.to_le_bytes()))
    }
}

fn pair(a: u32, b: u32) -> [u8; 8] {
    (u64::from(a) | u64::from(b) << 32).to_le_bytes()
}

/// Volumes, wide records, and the first group of each block of the directory.
fn tail(directory: &Directory, wide: &[Wide]) -> Vec<u8> {
    let mut out = Vec::new();
    for of in &directory.volumes {
        out.extend(pair(of.volume.get(), of.first));
        out.extend(pair(of.count, 0));
    }
    for one in wide {
        let kind = match one.content {
            Content::Data => 0,
            Content::Zero => 1,
            Content::Hole => 2,
        };
        out.extend(pair(one.volume.get(), kind));
        out.extend(one.position.get().to_le_bytes());
        out.extend(one.extent.start().index().to_le_bytes());
        out.extend(one.extent.count().get().to_le_bytes());
    }
    let mut start = 0;
    for groups in directory.groups.chunks(PER_BLOCK) {
        out.extend(pair(groups[0].region, start));
        start = groups.last().map_or(start, |group| group.end);
    }
    out
}

/// All of a run in memory, into an empty file.
pub(crate) fn write(file: Arc<dyn DiskFile>, journal: JournalId, run: &RunData) -> io::Result<()> {
    let mut writer = RunWriter::new(file, journal, run.id);
    for of in &run.volumes {
        for index in of.first as usize..(of.first + of.count) as usize {
            writer.push(of.volume, run.groups[index].region, run.group(index))?;
        }
    }
    writer.finish(&run.wide)
}

// ---- reading

/// A run in a file. What is kept of it in memory is its tail.
#[derive(Debug)]
pub(crate) struct RunFile {
    file: Arc<dyn DiskFile>,
    seal: Seal,
    id: RunId,
    entries: u64,
    groups: u64,
    volumes: Vec<VolumeGroups>,
    wide: Vec<Wide>,
    /// The first group of each block of the directory: region, and where its entries start.
    fences: Vec<(u32, u32)>,
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, format!("{what} of a run is damaged"))
}

impl RunFile {
    /// Opens a run of a journal. Takes hostile bytes.
    pub(crate) fn open(file: Arc<dyn DiskFile>, journal: JournalId) -> io::Result<Self> {
        let block = block(file.as_ref(), 0)?;
        let salt = Salt::of(journal);
        let seal = Seal { salt, seal: u32_at(&block, 40) };
        let ours = u32_at(&block, 0) == MAGIC
            && u16::from_le_bytes([block[4], block[5]]) == VERSION
            && block[8..24] == journal.to_bytes()
            && seal.fits(&block, 0);
        if !ours {
            return Err(damaged("the header"));
        }
        let [entries, groups, volumes, wide] = [44, 52, 60, 68].map(|at| u64_at(&block, at));
        let (first, last) = (u64_at(&block, 24), u64_at(&block, 32));
        let id = RunId { first: Position::new(first), last: Position::new(last), level: block[6], seal: seal.seal };
        let fences = blocks_for(groups);
        let tail_bytes = [(volumes, VOLUME_BYTES), (wide, WIDE_BYTES), (fences, 8)]
            .iter()
            .try_fold(0_u64, |sum, (count, bytes)| sum.checked_add(count.checked_mul(*bytes as u64)?));
        let tail_bytes = tail_bytes.filter(|bytes| *bytes <= TAIL_BYTES_MAX && last.wrapping_sub(first) < SPAN_MAX);
        let fits = u32::try_from(entries).is_ok() && groups <= entries;
        let tail_bytes = tail_bytes.filter(|_| fits).ok_or_else(|| damaged("the header"))?;
        let run = Self { file, seal, id, entries, groups, volumes: Vec::new(), wide: Vec::new(), fences: Vec::new() };
        run.with_tail(tail_bytes, volumes, wide)
    }

    fn with_tail(mut self, tail_bytes: u64, volumes: u64, wide: u64) -> io::Result<Self> {
        let start = 1 + blocks_for(self.entries) + blocks_for(self.groups);
        let mut tail = Vec::new();
        for number in start..start + tail_bytes.div_ceil(USED_BYTES as u64) {
            tail.extend_from_slice(&self.block(number)?[..USED_BYTES]);
        }
        let mut words = tail.chunks_exact(8).map(|word| u64_at(word, 0));
        let mut word = || words.next().ok_or_else(|| damaged("the tail"));
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
        let halves = |word: u64| (word as u32, (word >> 32) as u32);
        for _ in 0..volumes {
            let ((volume, first), (count, _)) = (halves(word()?), halves(word()?));
            let end = u64::from(first) + u64::from(count);
            if end > self.groups || count == 0 {
                return Err(damaged("the tail"));
            }
            self.volumes.push(VolumeGroups { volume: Incarnation::new(volume), first, count });
        }
        for _ in 0..wide {
            let (volume, kind) = halves(word()?);
            let (position, start, count) = (Position::new(word()?), word()?, word()?);
            let content = match kind {
                0 => Content::Data,
                1 => Content::Zero,
                2 => Content::Hole,
                _ => return Err(damaged("the tail")),
            };
            let extent = Extent::new(start, count).ok_or_else(|| damaged("the tail"))?;
            self.wide.push(Wide { volume: Incarnation::new(volume), extent, position, content });
        }
        for _ in 0..blocks_for(self.groups) {
            self.fences.push(halves(word()?));
        }
        Ok(self)
    }

    fn block(&self, number: u64) -> io::Result<Vec<u8>> {
        let block = block(self.file.as_ref(), number)?;
        if self.seal.fits(&block, number) { Ok(block) } else { Err(damaged("a block")) }
    }

    /// The groups in a block of the directory.
    fn directory(&self, block: usize) -> io::Result<Vec<Group>> {
        let bytes = self.block(1 + blocks_for(self.entries) + block as u64)?;
        let count = (self.groups - (block * PER_BLOCK) as u64).min(PER_BLOCK as u64);
        let groups = bytes.chunks_exact(8).take(usize::try_from(count).unwrap_or(PER_BLOCK));
        Ok(groups.map(|word| Group { region: u32_at(word, 0), end: u32_at(word, 4) }).collect())
    }

    /// Appends entries from `start` to `end`.
    fn read_entries(&self, start: u32, end: u32, out: &mut Vec<Entry>) -> io::Result<()> {
        if start > end || u64::from(end) > self.entries {
            return Err(damaged("the directory"));
        }
        let mut at = start as usize;
        while at < end as usize {
            let number = at / PER_BLOCK;
            let until = (end as usize).min((number + 1) * PER_BLOCK);
            let block = self.block(1 + number as u64)?;
            let (from, to) = (at - number * PER_BLOCK, until - number * PER_BLOCK);
            out.extend(block[from * 8..to * 8].chunks_exact(8).map(|word| Entry(u64_at(word, 0))));
            at = until;
        }
        Ok(())
    }

    /// Tells the groups of a volume from a region on, each with where its entries start, until it is told to stop.
    fn groups_from(
        &self,
        volume: Incarnation,
        region: u32,
        mut told: impl FnMut(u32, u32, u32) -> io::Result<bool>,
    ) -> io::Result<()> {
        let Ok(at) = self.volumes.binary_search_by_key(&volume, |of| of.volume) else { return Ok(()) };
        let of = self.volumes[at];
        let (first, end) = (of.first as usize, of.first as usize + of.count as usize);
        let (low, high) = (first / PER_BLOCK, (end - 1) / PER_BLOCK);
        let fences = self.fences.get(low + 1..=high).unwrap_or(&[]);
        for number in low + fences.partition_point(|fence| fence.0 <= region)..=high {
            let mut start = self.fences.get(number).ok_or_else(|| damaged("the tail"))?.1;
            for (index, group) in (number * PER_BLOCK..).zip(self.directory(number)?) {
                if (first..end).contains(&index) && group.region >= region && !told(group.region, start, group.end)? {
                    return Ok(());
                }
                start = group.end;
            }
        }
        Ok(())
    }

    /// All of it, read from the beginning to the end.
    pub(crate) fn cursor(self: &Arc<Self>) -> io::Result<FileCursor> {
        let mut cursor =
            FileCursor { run: self.clone(), volume: 0, group: 0, start: 0, directory: Vec::new(), ahead: None };
        cursor.load()?;
        Ok(cursor)
    }
}

fn block(file: &dyn DiskFile, number: u64) -> io::Result<Vec<u8>> {
    let mut block = vec![0; BLOCK_BYTES];
    let offset = number.checked_mul(BLOCK_BYTES as u64).ok_or_else(|| damaged("the header"))?;
    let read = file.read_at(&mut block, offset)?;
    if read == BLOCK_BYTES { Ok(block) } else { Err(damaged("the end")) }
}

impl Groups for RunFile {
    fn id(&self) -> RunId {
        self.id
    }

    fn regions(&self, volume: Incarnation, range: &RangeInclusive<u32>, out: &mut Vec<u32>) -> io::Result<()> {
        self.groups_from(volume, *range.start(), |region, _, _| {
            let inside = range.contains(&region);
            if inside {
                out.push(region);
            }
            Ok(inside)
        })
    }

    fn entries(&self, volume: Incarnation, region: u32, out: &mut Vec<Entry>) -> io::Result<()> {
        self.groups_from(volume, region, |found, start, end| {
            if found == region {
                self.read_entries(start, end, out)?;
            }
            Ok(false)
        })
    }

    fn wide(&self) -> &[Wide] {
        &self.wide
    }
}

/// A run in a file, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct FileCursor {
    run: Arc<RunFile>,
    volume: usize,
    group: usize,
    /// Where the group's entries start.
    start: u32,
    /// The block of the directory that the group is in.
    directory: Vec<Group>,
    /// The block of entries that was read last.
    ahead: Option<(usize, Vec<u8>)>,
}

impl FileCursor {
    fn load(&mut self) -> io::Result<()> {
        if self.group.is_multiple_of(PER_BLOCK) && (self.group as u64) < self.run.groups {
            self.directory = self.run.directory(self.group / PER_BLOCK)?;
        }
        Ok(())
    }
}

impl Cursor for FileCursor {
    fn id(&self) -> RunId {
        self.run.id
    }

    fn at(&self) -> Option<(Incarnation, u32)> {
        if self.group as u64 >= self.run.groups {
            return None;
        }
        let group = self.directory.get(self.group % PER_BLOCK)?;
        Some((self.run.volumes.get(self.volume)?.volume, group.region))
    }

    fn take(&mut self, out: &mut Vec<Entry>) -> io::Result<()> {
        let group = self.directory.get(self.group % PER_BLOCK).ok_or_else(|| damaged("the directory"))?;
        let end = group.end;
        if end < self.start || u64::from(end) > self.run.entries {
            return Err(damaged("the directory"));
        }
        for index in self.start as usize..end as usize {
            let number = index / PER_BLOCK;
            if self.ahead.as_ref().is_none_or(|(at, _)| *at != number) {
                self.ahead = Some((number, self.run.block(1 + number as u64)?));
            }
            if let Some((_, block)) = &self.ahead {
                out.push(Entry(u64_at(block, index % PER_BLOCK * 8)));
            }
        }
        self.start = end;
        self.group += 1;
        let of = self.run.volumes.get(self.volume);
        if of.is_some_and(|of| self.group >= of.first as usize + of.count as usize) {
            self.volume += 1;
        }
        self.load()
    }

    fn wide(&self) -> Vec<Wide> {
        self.run.wide.clone()
    }
}

#[cfg(test)]
mod tests;
