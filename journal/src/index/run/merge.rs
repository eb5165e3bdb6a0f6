//! Several runs become one that answers for their end.
//!
//! Owns the rule what is kept: an entry of which something is not covered by newer ones, whole. Goes region by region, as
//! much at once as it is told, so that merging a year never holds up a moment. Reads nothing by itself: `Cursor`s do.

use super::{Entry, RunData, RunId, Sink, Wide};
use crate::index::head::REGION_BLOCKS;
use record::ids::Incarnation;
use std::io;

/// A wide record is compared with so many newer ones.
const COMPARED_MAX: usize = 256;

/// A run that is read from its beginning to its end.
pub(crate) trait Cursor: Send + Sync + std::fmt::Debug {
    /// Which run.
    fn id(&self) -> RunId;
    /// The group that it stands at; `None` at the end.
    fn at(&self) -> Option<(Incarnation, u32)>;
    /// Appends that group's entries, and goes to the next one.
    fn take(&mut self, out: &mut Vec<Entry>) -> io::Result<()>;
    /// All wide records, newest first.
    fn wide(&self) -> Vec<Wide>;
}

/// Runs that are being merged.
#[derive(Debug)]
pub(crate) struct Merge {
    /// Newest first.
    children: Vec<Box<dyn Cursor>>,
    /// Where each of them stands, as `key`: asking for it again and again would be most of the work.
    stand: Vec<u64>,
    id: RunId,
}

/// A cursor's group as a number in order; the end is behind all others.
fn key(child: &dyn Cursor) -> u64 {
    child.at().map_or(u64::MAX, |(volume, region)| u64::from(volume.get()) << 32 | u64::from(region))
}

impl Merge {
    /// Of runs whose stretches lie one behind the other.
    pub(crate) fn new(id: RunId, mut children: Vec<Box<dyn Cursor>>) -> Self {
        children.sort_by_key(|child| std::cmp::Reverse(child.id()));
        let stand = children.iter().map(|child| key(child.as_ref())).collect();
        Self { children, stand, id }
    }

    /// Which run it will be.
    pub(crate) fn id(&self) -> RunId {
        self.id
    }

    /// Goes on until about so many entries were looked at; `true` when all is done.
    pub(crate) fn step(&mut self, budget: usize, sink: &mut dyn Sink) -> io::Result<bool> {
        let mut looked = 0;
        let (mut all, mut one, mut kept) = (Vec::new(), Vec::new(), Vec::new());
        while looked < budget {
            let next = self.stand.iter().copied().min().unwrap_or(u64::MAX);
            if next == u64::MAX {
                return Ok(true);
            }
            all.clear();
            for (child, stand) in self.children.iter_mut().zip(&mut self.stand).filter(|(_, stand)| **stand == next) {
                one.clear();
                child.take(&mut one)?;
                *stand = key(child.as_ref());
                let by = child.id().first.get() - self.id.first.get();
                all.extend(one.iter().map(|entry| entry.moved(by)));
            }
            looked += all.len() + 1;
            kept.clear();
            keep_visible(&all, &mut kept);
            #[expect(clippy::cast_possible_truncation, reason = "the halves of a key")]
            sink.push(Incarnation::new((next >> 32) as u32), next as u32, &kept)?;
        }
        Ok(self.stand.iter().all(|stand| *stand == u64::MAX))
    }

    /// The wide records of the run: those that no newer one covers, as far as that is cheap to tell.
    pub(crate) fn wide(&self) -> Vec<Wide> {
        let mut wide: Vec<Wide> = Vec::new();
        for one in self.children.iter().flat_map(|child| child.wide()) {
            let newest = wide.iter().take(COMPARED_MAX);
            if !newest.clone().any(|newer| newer.volume == one.volume && newer.extent.contains(one.extent)) {
                wide.push(one);
            }
        }
        wide
    }
}

/// Those of a region's entries, newest first, that are not covered by newer ones.
fn keep_visible(all: &[Entry], kept: &mut Vec<Entry>) {
    if let [only] = all {
        kept.push(*only);
        return;
    }
    let mut covered = [0_u8; REGION_BLOCKS];
    for entry in all {
        let mask = entry.mask();
        let mut visible = false;
        for block in &mut covered[entry.blocks()] {
            visible |= mask & !*block != 0;
            *block |= mask;
        }
        if visible {
            kept.push(*entry);
        }
    }
}

/// A run in memory, from its beginning to its end.
#[derive(Debug)]
pub(crate) struct MemoryCursor {
    run: std::sync::Arc<RunData>,
    /// Of `volumes`.
    volume: usize,
    /// Of `groups`.
    group: usize,
}

impl MemoryCursor {
    pub(crate) fn new(run: std::sync::Arc<RunData>) -> Self {
        Self { run, volume: 0, group: 0 }
    }
}

impl Cursor for MemoryCursor {
    fn id(&self) -> RunId {
        self.run.id
    }

    fn at(&self) -> Option<(Incarnation, u32)> {
        let group = self.run.groups.get(self.group)?;
        Some((self.run.volumes.get(self.volume)?.volume, group.region))
    }

    fn take(&mut self, out: &mut Vec<Entry>) -> io::Result<()> {
        out.extend_from_slice(self.run.group(self.group));
        self.group += 1;
        let of = self.run.volumes.get(self.volume);
        if of.is_some_and(|of| self.group >= (of.first + of.count) as usize) {
            self.volume += 1;
        }
        Ok(())
    }

    fn wide(&self) -> Vec<Wide> {
        self.run.wide.clone()
    }
}
