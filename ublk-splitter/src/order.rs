//! Which request goes first: the range lock of a group.
//!
//! Owns the extents of requests that were taken and are not finished, in the order in which they were taken, which is
//! the order of their records. A request may touch its backing once every earlier one that overlaps it has been
//! released, so the journal's order is the disk's order where it matters (PROTOCOL R5, R8). What is read back gets its
//! record only after the read (R19): while such a read is taken, no request that overlaps it may be, or its older record
//! would lose to what was read before it. Pure: no clock, no thread, no waiting; who waits is told by the shell in
//! `stream`.

use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::Incarnation;
use std::collections::BTreeMap;

/// A request's place in the range lock; never used again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Ticket(u64);

#[derive(Clone, Copy, Debug)]
struct Entry {
    ticket: Ticket,
    bounds: Bounds,
    held: bool,
    reading: bool,
}

/// Where an extent begins and ends, in sectors: compared with every request that comes.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    start: u64,
    end: u64,
}

impl Bounds {
    fn of(extent: Extent) -> Self {
        Self { start: extent.start().index(), end: extent.end() }
    }

    fn overlap(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The range lock of one group.
#[derive(Debug, Default)]
pub struct Order {
    last: u64,
    /// Entries that are being read back, and those that are not held.
    reading: usize,
    waiting: usize,
    /// Of every volume that ever had a request: made anew for each, the list would be memory taken for each.
    volumes: BTreeMap<Incarnation, Vec<Entry>>,
}

impl Order {
    /// Takes a place for an extent, behind everything taken before. The second value says whether it is held at once;
    /// if not, `release` will name the ticket when its turn comes.
    pub fn take(&mut self, volume: Incarnation, extent: Extent) -> (Ticket, bool) {
        self.enter(volume, extent, false)
    }

    /// The same for reading an extent back: until it is released, `is_being_read` answers for what overlaps it.
    pub fn take_reading(&mut self, volume: Incarnation, extent: Extent) -> (Ticket, bool) {
        self.enter(volume, extent, true)
    }

    /// Whether a request on this extent may not be taken now: something that overlaps it is being read back, or is
    /// about to be.
    pub fn is_being_read(&self, volume: Incarnation, extent: Extent) -> bool {
        if self.reading == 0 {
            return false;
        }
        let entries = self.volumes.get(&volume).map_or(&[][..], Vec::as_slice);
        let bounds = Bounds::of(extent);
        entries.iter().any(|e| e.reading && e.bounds.overlap(bounds) && !bug(Bug::ResyncOverwrites))
    }

    fn enter(&mut self, volume: Incarnation, extent: Extent, reading: bool) -> (Ticket, bool) {
        self.last += 1;
        let ticket = Ticket(self.last);
        // There already, but for the first request: looking costs less than `entry`, which is ready to put it in.
        let entries = match self.volumes.get_mut(&volume) {
            Some(entries) => entries,
            None => self.volumes.entry(volume).or_default(),
        };
        let bounds = Bounds::of(extent);
        let held = !entries.iter().any(|e| e.bounds.overlap(bounds))
            || bug(Bug::SkipRangeLock)
            || (reading && bug(Bug::ResyncOverwrites));
        entries.push(Entry { ticket, bounds, held, reading });
        self.reading += usize::from(reading);
        self.waiting += usize::from(!held);
        (ticket, held)
    }

    /// Gives a place back; answers with the tickets that are held from now on, in order.
    ///
    /// # Panics
    /// When the ticket is not in the lock: only a defect here can release twice.
    pub fn release(&mut self, volume: Incarnation, ticket: Ticket) -> Vec<Ticket> {
        let entries = self.volumes.get_mut(&volume).expect("a ticket's volume is known until it is released");
        let at = entries.iter().position(|e| e.ticket == ticket).expect("a ticket is released once");
        let gone = entries.remove(at);
        self.reading -= usize::from(gone.reading);
        self.waiting -= usize::from(!gone.held);
        let mut granted = Vec::new();
        if self.waiting == 0 {
            return granted;
        }
        for i in at..entries.len() {
            let entry = entries[i];
            if entry.held || !entry.bounds.overlap(gone.bounds) {
                continue;
            }
            if !entries[..i].iter().any(|e| e.bounds.overlap(entry.bounds)) {
                entries[i].held = true;
                self.waiting -= 1;
                granted.push(entry.ticket);
            }
        }
        granted
    }

    /// How many requests are taken and not finished.
    pub fn in_flight(&self) -> usize {
        self.volumes.values().map(Vec::len).sum()
    }
}

#[cfg(test)]
mod tests;
