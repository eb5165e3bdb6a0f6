//! Which regions of a volume the journal may lack: the pure part of the dirty map.
//!
//! Owns one bit a region and when it may change: a bit is set, durably, before the first write into a clean region
//! (PROTOCOL R6), and cleared once nothing can be missing any more (R13). What R13 asks of a region's past is kept for
//! all regions at once, in rounds: whatever was touched since the round began stays dirty, and for the rest the number
//! at the round's beginning and a flush submitted after it speak. So hot regions stay marked and cost nothing more, and
//! memory is three bits a region however long the history. Deliberately does no I/O: `dirty_map` does.

use record::geometry::Extent;
use record::position::Session;
use std::collections::BTreeSet;
use std::ops::Range;

#[cfg(test)]
mod tests;

/// Sectors of a region: 256 KiB.
pub const REGION_SECTORS: u64 = 512;
/// Regions whose bits stand in one page of the map: eight sectors of 504 bytes of bits.
pub const PAGE_REGIONS: u64 = 8 * 504 * 8;

/// Regions that are marked ahead of a host that writes in sequence: 8 MiB.
const AHEAD: u64 = 32;

const _: () = assert!(PAGE_REGIONS.is_multiple_of(64), "a word of bits is of one page");

/// A request's hold on its regions; while it lasts, none of them is cleared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Pin(u64);

/// One page of the map that has to be written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageWrite {
    /// Which, from 0.
    pub page: u64,
    /// What its bits are worth: handed back to [`Regions::written`].
    version: u64,
}

/// What somebody who has pinned an extent does next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Every bit of it is durable.
    Go,
    /// Write this page, say so with [`Regions::written`], and ask again.
    Write(PageWrite),
    /// Somebody else is writing the page: ask again when a write has ended.
    Wait,
}

/// A page, as far as writing it goes.
#[derive(Clone, Debug, Default)]
struct Page {
    /// Rises with every change of its bits.
    version: u64,
    /// What is on disk.
    durable: u64,
    /// Two copies of one page are never on their way (R6).
    writing: bool,
    /// Bits that were set and are not on disk yet, each with the version that has them.
    fresh: Vec<(u64, Range<u64>)>,
}

/// One bit a region.
#[derive(Clone, Debug)]
struct Bits(Vec<u64>);

impl Bits {
    fn new(regions: u64) -> Self {
        Self(vec![0; index(regions.div_ceil(64))])
    }

    /// Sets a range; whether any bit of it was clear.
    fn set(&mut self, range: Range<u64>) -> bool {
        if let Some((word, bit)) = single(&range) {
            let clear = self.0[word] & bit == 0;
            self.0[word] |= bit;
            return clear;
        }
        let mut changed = false;
        for (word, mask) in words(range) {
            changed |= self.0[word] & mask != mask;
            self.0[word] |= mask;
        }
        changed
    }

    fn clear(&mut self, range: Range<u64>) {
        for (word, mask) in words(range) {
            self.0[word] &= !mask;
        }
    }

    /// Whether every bit of a range is set.
    fn has(&self, range: Range<u64>) -> bool {
        if let Some((word, bit)) = single(&range) {
            return self.0[word] & bit != 0;
        }
        words(range).all(|(word, mask)| self.0[word] & mask == mask)
    }

    fn get(&self, region: u64) -> bool {
        self.0[index(region / 64)] >> (region % 64) & 1 == 1
    }

    fn count(&self) -> u64 {
        self.0.iter().map(|word| u64::from(word.count_ones())).sum()
    }

    /// The first run of set bits at or behind `from`, of so many at most.
    fn run_from(&self, from: u64, most: u64) -> Option<Range<u64>> {
        let mut word = index(from / 64);
        let mut bits = self.0.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.0.get(word)?;
        }
        let start = word as u64 * 64 + u64::from(bits.trailing_zeros());
        let mut end = start + 1;
        while end < start + most && self.0.get(index(end / 64)).is_some_and(|w| w >> (end % 64) & 1 == 1) {
            end += 1;
        }
        Some(start..end)
    }
}

/// The word of a range that has one region, as most of what is written has, and its bit.
fn single(range: &Range<u64>) -> Option<(usize, u64)> {
    (range.end - range.start == 1).then(|| (index(range.start / 64), 1 << (range.start % 64)))
}

/// The words of a range, each with the bits of it that are in the range.
fn words(range: Range<u64>) -> impl Iterator<Item = (usize, u64)> {
    let (start, end) = (range.start, range.end);
    (start / 64..end.div_ceil(64)).map(move |word| {
        let low = start.saturating_sub(word * 64).min(64);
        let high = (end - word * 64).min(64);
        let below = |n: u64| if n == 64 { u64::MAX } else { (1 << n) - 1 };
        (index(word), below(high) & !below(low))
    })
}

fn index(n: u64) -> usize {
    usize::try_from(n).unwrap_or(usize::MAX)
}

/// A round of clearing: what was not touched since it began can be cleared by it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Round(u64);

/// The regions of one volume.
#[derive(Debug)]
pub struct Regions {
    count: u64,
    dirty: Bits,
    /// Touched since the round began.
    touched: Bits,
    /// Not read yet by the resynchronisation of this session.
    to_read: Bits,
    to_read_in: Option<Session>,
    pages: Vec<Page>,
    pins: Vec<(Pin, Range<u64>)>,
    last_pin: u64,
    /// Content unknown until it has been read again.
    needs_read: BTreeSet<Extent>,
    round: u64,
}

impl Regions {
    /// The regions of a volume of so many sectors, all clean.
    pub fn new(sectors: u64) -> Self {
        let count = sectors.div_ceil(REGION_SECTORS);
        let bits = Bits::new(count);
        let pages = vec![Page::default(); index(count.div_ceil(PAGE_REGIONS))];
        Self {
            count,
            dirty: bits.clone(),
            touched: bits.clone(),
            to_read: bits,
            to_read_in: None,
            pages,
            pins: Vec::new(),
            last_pin: 0,
            needs_read: BTreeSet::new(),
            round: 0,
        }
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// How many are dirty.
    pub fn dirty(&self) -> u64 {
        self.dirty.count()
    }

    /// How many pages the map has.
    pub fn pages(&self) -> u64 {
        self.pages.len() as u64
    }

    /// The regions that an extent touches.
    fn of(&self, extent: Extent) -> Range<u64> {
        let start = extent.start().index() / REGION_SECTORS;
        start..extent.end().div_ceil(REGION_SECTORS).min(self.count).max(start)
    }

    fn page_range(&self, page: u64) -> Range<u64> {
        page * PAGE_REGIONS..((page + 1) * PAGE_REGIONS).min(self.count)
    }

    fn set(&mut self, range: Range<u64>) {
        for page in range.start / PAGE_REGIONS..range.end.div_ceil(PAGE_REGIONS) {
            let part = self.page_range(page);
            let part = part.start.max(range.start)..part.end.min(range.end);
            if self.dirty.set(part.clone()) {
                let page = &mut self.pages[index(page)];
                page.version += 1;
                page.fresh.push((page.version, part));
            }
        }
    }

    /// The regions to be marked for a request: when it goes on where dirty regions end, some behind it as well, on the
    /// same page. A host that writes on and on then waits for the map once in 8 MiB; what it does not reach becomes clean
    /// in the next round.
    fn with_ahead(&self, range: &Range<u64>) -> Range<u64> {
        let goes_on = range.start > 0 && self.dirty.get(range.start - 1);
        let is_new = range.end > range.start && !self.dirty.get(range.end - 1);
        if !(goes_on && is_new) {
            return range.clone();
        }
        let page_end = self.page_range((range.end - 1) / PAGE_REGIONS).end;
        range.start..(range.end + AHEAD).min(page_end)
    }

    /// Holds the regions of an extent that is about to be changed, and sets their bits. Nothing may be changed before
    /// [`Self::next`] says so.
    pub fn pin(&mut self, extent: Extent) -> Pin {
        let range = self.of(extent);
        self.last_pin += 1;
        let pin = Pin(self.last_pin);
        self.touched.set(range.clone());
        // What is dirty already, as most of what is written is, costs nothing more.
        if !self.dirty.has(range.clone()) {
            self.set(self.with_ahead(&range));
        }
        self.pins.push((pin, range));
        pin
    }

    /// Whether no bit that was set on the extent's pages is missing on disk: [`Self::next`] would say `Go`.
    pub fn is_settled(&self, extent: Extent) -> bool {
        let range = self.of(extent);
        let fresh = |page: u64| !self.pages[index(page)].fresh.is_empty();
        if single(&range).is_some() {
            return !fresh(range.start / PAGE_REGIONS);
        }
        !(range.start / PAGE_REGIONS..range.end.div_ceil(PAGE_REGIONS)).any(fresh)
    }

    /// What whoever pinned this extent does next.
    pub fn next(&mut self, extent: Extent) -> Next {
        let range = self.of(extent);
        let mut wait = false;
        for page in range.start / PAGE_REGIONS..range.end.div_ceil(PAGE_REGIONS) {
            let page_state = &self.pages[index(page)];
            if page_state.fresh.iter().any(|(_, fresh)| fresh.start < range.end && range.start < fresh.end) {
                match self.write_of(page) {
                    Some(write) => return Next::Write(write),
                    None => wait = true,
                }
            }
        }
        if wait { Next::Wait } else { Next::Go }
    }

    fn write_of(&mut self, page: u64) -> Option<PageWrite> {
        let state = &mut self.pages[index(page)];
        if state.writing || state.durable == state.version {
            return None;
        }
        state.writing = true;
        Some(PageWrite { page, version: state.version })
    }

    /// A page that is not on disk as it is in memory, to be written now, lazily.
    pub fn lazy_write(&mut self) -> Option<PageWrite> {
        (0..self.pages()).find_map(|page| self.write_of(page))
    }

    /// Whether everything is on disk as it is in memory.
    pub fn is_written(&self) -> bool {
        self.pages.iter().all(|page| page.durable == page.version && !page.writing)
    }

    /// A write of a page has ended.
    pub fn written(&mut self, write: PageWrite, durable: bool) {
        let page = &mut self.pages[index(write.page)];
        page.writing = false;
        if durable {
            page.durable = write.version;
            page.fresh.retain(|(version, _)| *version > write.version);
        }
    }

    /// The bits of a page, as they are to be written.
    pub fn page_bits(&self, page: u64) -> impl Iterator<Item = bool> + '_ {
        self.page_range(page).map(|region| self.dirty.get(region))
    }

    /// Takes the bits that stand on disk, at the start: what is set there is set.
    pub fn load(&mut self, page: u64, bits: impl Iterator<Item = bool>) {
        for (region, bit) in self.page_range(page).zip(bits) {
            if bit {
                self.dirty.set(region..region + 1);
            }
        }
    }

    /// Every page has to be written, whatever stands there.
    pub fn rewrite(&mut self) {
        for page in &mut self.pages {
            page.version += 1;
        }
    }

    /// A request has ended, in whatever way: what it had pinned may be cleared by a later round.
    pub fn unpin(&mut self, pin: Pin) {
        let Some(at) = self.pins.iter().position(|(p, _)| *p == pin) else { return };
        let (_, range) = self.pins.swap_remove(at);
        self.touched.set(range);
    }

    /// Everything is dirty.
    pub fn set_all(&mut self) {
        self.touched.set(0..self.count);
        self.set(0..self.count);
    }

    /// The content of an extent is unknown until [`Self::was_read`].
    pub fn need_read(&mut self, extent: Extent) {
        let range = self.of(extent);
        self.touched.set(range.clone());
        self.set(range);
        self.needs_read.insert(extent);
    }

    /// An extent was read again and recorded.
    pub fn was_read(&mut self, extent: Extent) {
        let range = self.of(extent);
        self.touched.set(range);
        self.needs_read.remove(&extent);
    }

    /// A resynchronisation begins with this session: it has to read every dirty region, and nothing twice (R18, R21).
    pub fn begin_resync(&mut self, session: Session) {
        self.to_read = self.dirty.clone();
        self.to_read_in = Some(session);
        self.needs_read.clear();
    }

    /// How many regions are still to be read for this session; `None` when its resynchronisation has not begun here, or
    /// another one has.
    pub fn unread(&self, session: Session) -> Option<u64> {
        (self.to_read_in == Some(session)).then(|| self.to_read.count())
    }

    /// The next run of regions to be read, from this region on, as sectors of the volume; of so many regions at most.
    pub fn next_unread(&self, session: Session, from: u64, most: u64) -> Option<Extent> {
        if self.to_read_in != Some(session) {
            return None;
        }
        let run = self.to_read.run_from(from, most)?;
        Extent::between(run.start * REGION_SECTORS, run.end * REGION_SECTORS)
    }

    /// An extent of [`Self::next_unread`] was read, and its record laid in that session. What was read for one session
    /// proves nothing in another.
    pub fn resynced(&mut self, session: Session, extent: Extent) {
        let range = self.of(extent);
        self.touched.set(range.clone());
        if self.to_read_in == Some(session) {
            self.to_read.clear(range);
        }
    }

    /// Begins a round of clearing. The caller notes the number behind the last record laid *after* this returns or at
    /// the same time as it: whatever touched a region before has a lower one.
    pub fn begin_round(&mut self) -> Round {
        self.round += 1;
        self.touched = Bits::new(self.count);
        let pinned: Vec<_> = self.pins.iter().map(|(_, range)| range.clone()).collect();
        for range in pinned {
            self.touched.set(range);
        }
        Round(self.round)
    }

    /// Regions that are held dirty though nobody touched them in this round.
    fn kept(&self) -> Bits {
        let mut kept = Bits::new(self.count);
        for (_, range) in &self.pins {
            kept.set(range.clone());
        }
        for extent in &self.needs_read {
            kept.set(self.of(*extent));
        }
        kept
    }

    fn clearable(&self, kept: &Bits, word: usize) -> u64 {
        self.dirty.0[word] & !self.touched.0[word] & !self.to_read.0[word] & !kept.0[word]
    }

    /// Whether a round that ended now would clear anything: only then is a flush of the backing worth it.
    pub fn round_is_worth_it(&self, round: Round) -> bool {
        let kept = self.kept();
        round == Round(self.round) && (0..self.dirty.0.len()).any(|word| self.clearable(&kept, word) != 0)
    }

    /// Ends a round: every write that completed before it began is flushed and its record is committed. Answers with
    /// how many regions became clean; their pages are written lazily.
    pub fn end_round(&mut self, round: Round) -> u64 {
        if round != Round(self.round) {
            return 0;
        }
        let kept = self.kept();
        let mut cleared = 0;
        for word in 0..self.dirty.0.len() {
            let bits = self.clearable(&kept, word);
            if bits != 0 {
                self.dirty.0[word] &= !bits;
                cleared += u64::from(bits.count_ones());
                // A page ends on a word, so that a word is of one page.
                self.pages[index(word as u64 * 64 / PAGE_REGIONS)].version += 1;
            }
        }
        cleared
    }

    /// Gives a round up: what was touched before it began counts as touched again.
    pub fn drop_round(&mut self) {
        self.round += 1;
        self.touched.set(0..self.count);
    }
}
