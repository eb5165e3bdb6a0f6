//! A run: what the records of a stretch of positions changed, sorted by place.
//!
//! Owns its entries: their packing, how a record becomes entries, and how entries are put in order. A run is immutable. Of
//! the lowest level it has every version of its stretch, newest first within each region of 2 MiB, so that it answers for
//! any position inside; of a higher level only what is not covered by something newer in it, so that it answers for its
//! end. Its bytes are `bytes`', merging is `merge`'s. Deliberately knows no file and no path.

pub(crate) mod bytes;
pub(crate) mod merge;

use super::Content;
use super::head::REGION_BLOCKS;
use record::geometry::{BLOCK_SECTORS, Extent};
use record::ids::Incarnation;
use record::position::Position;
use std::io;
use std::ops::RangeInclusive;

/// Sectors of a region.
pub(crate) const REGION_SECTORS: u64 = REGION_BLOCKS as u64 * BLOCK_SECTORS;
/// Most positions that a run covers.
pub(crate) const SPAN_MAX: u64 = 1 << 36;
/// All sectors of a block.
const WHOLE: u8 = 0xff;

/// Which run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct RunId {
    /// The position of its newest record.
    pub last: Position,
    /// Of its oldest.
    pub first: Position,
    /// 0: every version. Above: of so many generations of merging.
    pub level: u8,
    /// A checksum over what the journal took in there: a run of the same name of another history has another.
    pub seal: u32,
}

impl RunId {
    /// Whether every position of it lies in the stretch.
    pub(crate) fn within(&self, first: Position, last: Position) -> bool {
        first <= self.first && self.last <= last
    }
}

/// What a record did to some blocks of one region.
///
/// ```text
/// 63..28 position, from the run's first   27..26 kind   25..17 first block   16..8 blocks - 1   7..0 sectors of each
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Entry(pub u64);

impl Entry {
    fn new(delta: u64, content: Content, block: u64, count: u64, mask: u8) -> Self {
        let kind = match content {
            Content::Data => 0,
            Content::Zero => 1,
            Content::Hole => 2,
        };
        Self(delta << 28 | kind << 26 | block << 17 | (count - 1) << 8 | u64::from(mask))
    }

    /// How far from the run's first position.
    pub(crate) fn delta(self) -> u64 {
        self.0 >> 28
    }

    /// The same entry in a run whose first position is `by` older.
    pub(crate) fn moved(self, by: u64) -> Self {
        Self(self.0 + (by << 28))
    }

    /// `None` for a kind that there is not.
    pub(crate) fn content(self) -> Option<Content> {
        match self.0 >> 26 & 3 {
            0 => Some(Content::Data),
            1 => Some(Content::Zero),
            2 => Some(Content::Hole),
            _ => None,
        }
    }

    /// The blocks of the region.
    pub(crate) fn blocks(self) -> std::ops::Range<usize> {
        let first = (self.0 >> 17 & 0x1ff) as usize;
        let count = (self.0 >> 8 & 0x1ff) as usize + 1;
        first..(first + count).min(REGION_BLOCKS)
    }

    /// Appends the sectors, of a region that starts at `start`.
    pub(crate) fn extents(self, start: u64, out: &mut Vec<Extent>) {
        let blocks = self.blocks();
        let sector = |block: usize| start + block as u64 * BLOCK_SECTORS;
        if self.mask() == WHOLE {
            out.extend(Extent::between(sector(blocks.start), sector(blocks.end)));
            return;
        }
        for block in blocks {
            let of_mask = (0..BLOCK_SECTORS).filter(|bit| self.mask() & (1 << bit) != 0);
            out.extend(of_mask.filter_map(|bit| Extent::new(sector(block) + bit, 1)));
        }
    }

    /// Which sectors of each of the blocks.
    pub(crate) fn mask(self) -> u8 {
        (self.0 & 0xff) as u8
    }
}

/// A record of more than a region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Wide {
    pub volume: Incarnation,
    pub extent: Extent,
    pub position: Position,
    pub content: Content,
}

/// The regions of one volume, in a run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct VolumeGroups {
    pub volume: Incarnation,
    /// The first of its groups.
    pub first: u32,
    /// How many.
    pub count: u32,
}

/// The entries of one region.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Group {
    pub region: u32,
    /// Behind the last of its entries.
    pub end: u32,
}

/// A run in memory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct RunData {
    pub id: RunId,
    /// By volume.
    pub volumes: Vec<VolumeGroups>,
    /// By volume and region.
    pub groups: Vec<Group>,
    /// By group; newest first.
    pub entries: Vec<Entry>,
    /// Newest first.
    pub wide: Vec<Wide>,
}

/// What can be asked of a run, wherever it is.
pub(crate) trait Groups {
    /// Which run it is.
    fn id(&self) -> RunId;
    /// Appends the regions of a volume, in a range, that have entries, in order.
    fn regions(&self, volume: Incarnation, range: &RangeInclusive<u32>, out: &mut Vec<u32>) -> io::Result<()>;
    /// Appends the entries of a region.
    fn entries(&self, volume: Incarnation, region: u32, out: &mut Vec<Entry>) -> io::Result<()>;
    /// Its wide records, newest first.
    fn wide(&self) -> &[Wide];
}

/// What the records changed since the newest run, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Log {
    /// The first position that it may have.
    pub first: Position,
    /// By volume and region (`key`), and the entry.
    pub entries: Vec<(u64, Entry)>,
    /// Oldest first.
    pub wide: Vec<Wide>,
}

fn key(volume: Incarnation, region: u32) -> u64 {
    u64::from(volume.get()) << 32 | u64::from(region)
}

impl Log {
    /// Without a record.
    pub(crate) fn from(first: Position) -> Self {
        Self { first, entries: Vec::new(), wide: Vec::new() }
    }

    /// The next record.
    pub(crate) fn push(&mut self, volume: Incarnation, extent: Extent, position: Position, content: Content) {
        let delta = position.get() - self.first.get();
        let last_region = (extent.end() - 1) / REGION_SECTORS;
        if extent.count().get() > REGION_SECTORS || last_region > u64::from(u32::MAX) {
            self.wide.push(Wide { volume, extent, position, content });
            return;
        }
        let mut at = extent.start().index();
        if extent.count().get() == BLOCK_SECTORS && at.is_multiple_of(BLOCK_SECTORS) {
            // What most writes are.
            let block = at % REGION_SECTORS / BLOCK_SECTORS;
            #[expect(clippy::cast_possible_truncation, reason = "compared above")]
            let key = key(volume, last_region as u32);
            self.entries.push((key, Entry::new(delta, content, block, 1, WHOLE)));
            return;
        }
        while at < extent.end() {
            let region = at / REGION_SECTORS;
            let end = extent.end().min((region + 1) * REGION_SECTORS);
            #[expect(clippy::cast_possible_truncation, reason = "compared above")]
            let key = key(volume, region as u32);
            pieces(at % REGION_SECTORS, end - region * REGION_SECTORS, |block, count, mask| {
                self.entries.push((key, Entry::new(delta, content, block, count, mask)));
            });
            at = end;
        }
    }

    /// Copies what another log has of a volume in some regions.
    pub(crate) fn take_for(&mut self, other: &Self, volume: Incarnation, regions: &RangeInclusive<u32>) {
        let keys = key(volume, *regions.start())..=key(volume, *regions.end());
        self.entries.extend(other.entries.iter().filter(|(key, _)| keys.contains(key)));
        self.wide.extend(other.wide.iter().filter(|wide| wide.volume == volume));
    }

    /// A run of all of it, whose newest position is `last`.
    pub(crate) fn seal(self, last: Position, seal: u32) -> RunData {
        let sorted = by_region(self.entries);
        let id = RunId { first: self.first, last, level: 0, seal };
        let mut building = Building::new(id);
        building.entries.reserve_exact(sorted.len());
        let mut group = Vec::new();
        for of_region in sorted.chunk_by(|a, b| a.0 == b.0) {
            group.clear();
            group.extend(of_region.iter().map(|(_, entry)| *entry));
            #[expect(clippy::cast_possible_truncation, reason = "the halves of a key")]
            let (volume, region) = ((of_region[0].0 >> 32) as u32, of_region[0].0 as u32);
            // A log is sealed long before it has 2^32 entries.
            let pushed = building.push(Incarnation::new(volume), region, &group);
            assert!(pushed.is_ok(), "a log has fewer entries than a run takes");
        }
        let mut wide = self.wide;
        wide.reverse();
        building.finish(wide)
    }
}

/// Bits of a key that one pass of sorting looks at.
const DIGIT: u32 = 11;
/// Fewer are sorted by comparing them.
const MANY: usize = 1024;

/// A log's entries by region, newest first within each. They came in order, and those of one record from its start on: so
/// backwards they are newest first, and a stable sort by region is all that is needed. With few digits that differ it
/// costs a fraction of comparing.
fn by_region(entries: Vec<(u64, Entry)>) -> Vec<(u64, Entry)> {
    let mut sorted = entries;
    sorted.reverse();
    if sorted.len() < MANY {
        sorted.sort_by_key(|(key, _)| *key);
        return sorted;
    }
    let differing = sorted.iter().fold(0, |bits, (key, _)| bits | (key ^ sorted[0].0));
    let mut other = sorted.clone();
    for shift in (0..u64::BITS).step_by(DIGIT as usize) {
        let mask = (1 << DIGIT) - 1;
        if differing >> shift & mask == 0 {
            continue;
        }
        #[expect(clippy::cast_possible_truncation, reason = "masked to a digit")]
        let digit = |key: u64| (key >> shift & mask) as usize;
        let mut places = [0_usize; 1 << DIGIT];
        for (key, _) in &sorted {
            places[digit(*key)] += 1;
        }
        let mut before = 0;
        for place in &mut places {
            before += std::mem::replace(place, before);
        }
        for entry in &sorted {
            let place = &mut places[digit(entry.0)];
            other[*place] = *entry;
            *place += 1;
        }
        std::mem::swap(&mut sorted, &mut other);
    }
    sorted
}

/// Cuts sectors of a region, `end` not included, into a part of a block, whole blocks, and a part of a block.
fn pieces(start: u64, end: u64, mut piece: impl FnMut(u64, u64, u8)) {
    let mask_from = |sector: u64| WHOLE << (sector % BLOCK_SECTORS);
    let (mut first, last) = (start / BLOCK_SECTORS, end / BLOCK_SECTORS);
    if first == last {
        return piece(first, 1, mask_from(start) & !mask_from(end));
    }
    if !start.is_multiple_of(BLOCK_SECTORS) {
        piece(first, 1, mask_from(start));
        first += 1;
    }
    if first < last {
        piece(first, last - first, WHOLE);
    }
    if !end.is_multiple_of(BLOCK_SECTORS) {
        piece(last, 1, !mask_from(end));
    }
}

/// Where a run is put together: regions come by volume and address.
pub(crate) trait Sink: Send + Sync + std::fmt::Debug {
    /// The next region's entries, newest first.
    fn push(&mut self, volume: Incarnation, region: u32, entries: &[Entry]) -> io::Result<()>;
}

/// What a run's regions are, while they come.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    pub volumes: Vec<VolumeGroups>,
    pub groups: Vec<Group>,
    /// Entries in all.
    pub entries: u64,
}

impl Directory {
    /// The next region, with so many entries.
    pub(crate) fn push(&mut self, volume: Incarnation, region: u32, entries: usize) -> io::Result<()> {
        self.entries += entries as u64;
        let too_many = |_| io::Error::new(io::ErrorKind::FileTooLarge, "a run of more than 2^32 entries");
        let end = u32::try_from(self.entries).map_err(too_many)?;
        match self.volumes.last_mut() {
            Some(last) if last.volume == volume => last.count += 1,
            Some(_) | None => {
                let first = u32::try_from(self.groups.len()).unwrap_or(u32::MAX);
                self.volumes.push(VolumeGroups { volume, first, count: 1 });
            }
        }
        self.groups.push(Group { region, end });
        Ok(())
    }
}

/// A run that is put together in memory.
#[derive(Debug)]
pub(crate) struct Building {
    id: RunId,
    directory: Directory,
    entries: Vec<Entry>,
}

impl Building {
    pub(crate) fn new(id: RunId) -> Self {
        Self { id, directory: Directory::default(), entries: Vec::new() }
    }

    pub(crate) fn finish(self, wide: Vec<Wide>) -> RunData {
        let Self { id, directory: Directory { volumes, groups, .. }, entries } = self;
        RunData { id, volumes, groups, entries, wide }
    }
}

impl Sink for Building {
    fn push(&mut self, volume: Incarnation, region: u32, entries: &[Entry]) -> io::Result<()> {
        self.directory.push(volume, region, entries.len())?;
        self.entries.extend_from_slice(entries);
        Ok(())
    }
}

impl RunData {
    /// A volume's groups.
    fn groups_of(&self, volume: Incarnation) -> std::ops::Range<usize> {
        let found = self.volumes.binary_search_by_key(&volume, |of| of.volume);
        found.map_or(0..0, |at| {
            let of = self.volumes[at];
            of.first as usize..(of.first + of.count) as usize
        })
    }

    /// The entries of a group.
    pub(crate) fn group(&self, index: usize) -> &[Entry] {
        let start = index.checked_sub(1).and_then(|before| self.groups.get(before)).map_or(0, |group| group.end);
        let end = self.groups.get(index).map_or(start, |group| group.end);
        self.entries.get(start as usize..end as usize).unwrap_or(&[])
    }
}

impl Groups for RunData {
    fn id(&self) -> RunId {
        self.id
    }

    fn regions(&self, volume: Incarnation, range: &RangeInclusive<u32>, out: &mut Vec<u32>) -> io::Result<()> {
        let groups = &self.groups[self.groups_of(volume)];
        let from = groups.partition_point(|group| group.region < *range.start());
        out.extend(groups[from..].iter().map(|group| group.region).take_while(|region| region <= range.end()));
        Ok(())
    }

    fn entries(&self, volume: Incarnation, region: u32, out: &mut Vec<Entry>) -> io::Result<()> {
        let range = self.groups_of(volume);
        if let Ok(at) = self.groups[range.clone()].binary_search_by_key(&region, |group| group.region) {
            out.extend_from_slice(self.group(range.start + at));
        }
        Ok(())
    }

    fn wide(&self) -> &[Wide] {
        &self.wide
    }
}

#[cfg(test)]
mod tests;
