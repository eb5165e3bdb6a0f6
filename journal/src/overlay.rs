//! Answers of the index that an image has had lately, by region.
//!
//! Owns the cache: who reads an image from one end to the other asks the runs once for each 2 MiB, not once for each read. An
//! image's position never changes, so an answer stays right for as long as the image lives.

use crate::index::{Answer, Answered, REGION_SECTORS, Resolved};
use crate::lock::lock;
use record::geometry::Extent;
use record::ids::Incarnation;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

/// Most answers that are kept; of a region that was written sector by sector one has 4096 pieces, 48 bytes each.
const KEPT_MAX: usize = 32;
/// Most regions of one question that go through here.
const REGIONS_MAX: u64 = 4;

/// Answers, those that were had last in front.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    lately: Mutex<VecDeque<Entry>>,
}

#[derive(Clone, Debug)]
struct Entry {
    volume: Incarnation,
    region: u64,
    answer: Arc<Answered>,
}

impl Overlay {
    /// The versions of an extent of a volume. `whole` is the volume; `ask` asks the index.
    pub(crate) fn resolve(
        &self,
        volume: Incarnation,
        whole: Extent,
        extent: Extent,
        ask: impl Fn(Extent) -> Answer,
    ) -> Answered {
        let regions = extent.start().index() / REGION_SECTORS..=(extent.end() - 1) / REGION_SECTORS;
        let answer = ask(extent);
        if answer.is_known() || regions.end() - regions.start() >= REGIONS_MAX {
            return answer.finish();
        }
        let mut out = Answered::default();
        for region in regions {
            let all = Extent::new(region * REGION_SECTORS, REGION_SECTORS).and_then(|all| all.intersection(whole));
            let Some(all) = all else { continue };
            let found = self.region(volume, region, || ask(all).finish());
            let parts = found.runs.iter().filter_map(|run| Some((run, run.extent.intersection(extent)?)));
            out.append(parts.map(|(run, extent)| Resolved { extent, ..*run }), &found.lost);
        }
        out
    }

    fn region(&self, volume: Incarnation, region: u64, ask: impl FnOnce() -> Answered) -> Arc<Answered> {
        {
            let mut lately = lock(&self.lately);
            let found = lately.iter().position(|entry| entry.volume == volume && entry.region == region);
            if let Some(entry) = found.and_then(|at| lately.remove(at)) {
                let answer = entry.answer.clone();
                lately.push_front(entry);
                return answer;
            }
        }
        // Others read meanwhile; who asks for the same at the same time asks the index as well.
        let answer = Arc::new(ask());
        if answer.lost.is_empty() {
            let mut lately = lock(&self.lately);
            lately.push_front(Entry { volume, region, answer: answer.clone() });
            lately.truncate(KEPT_MAX);
        }
        answer
    }
}

#[cfg(test)]
mod tests;
