//! Answers of the index that an image has had lately, by region.
//!
//! Owns the cache: who reads an image from one end to the other asks the runs once for each 2 MiB, not once for each read. An
//! image's position never changes, so an answer stays right for as long as the image lives.

use crate::index::{Answer, Answered, REGION_SECTORS, Resolved};
use crate::lately::Lately;
use crate::lock::lock;
use record::geometry::Extent;
use record::ids::Incarnation;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};

/// Most pieces in all answers that are kept, 48 bytes each; of a region that was written sector by sector one has 4096.
const PIECES_MAX: usize = 1 << 17;
/// What an answer takes beside its pieces, in pieces.
const BESIDE: usize = 4;
/// Most regions of one question that go through here.
const REGIONS_MAX: u64 = 4;

/// Answers, by volume and region.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    lately: Mutex<Lately<(Incarnation, u64), Arc<Answered>, PIECES_MAX>>,
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
        let few = regions.end() - regions.start() < REGIONS_MAX;
        let mut out = Answered::default();
        if few && let Some(found) = self.kept(volume, regions.clone()) {
            for answer in found {
                part_of(&answer, extent, &mut out);
            }
            return out;
        }
        let answer = ask(extent);
        if answer.is_known() || !few {
            return answer.finish();
        }
        for region in regions {
            let all = Extent::new(region * REGION_SECTORS, REGION_SECTORS).and_then(|all| all.intersection(whole));
            let Some(all) = all else { continue };
            part_of(&self.region(volume, region, || ask(all).finish()), extent, &mut out);
        }
        out
    }

    /// The answers for these regions, if all of them are kept.
    fn kept(&self, volume: Incarnation, regions: RangeInclusive<u64>) -> Option<Vec<Arc<Answered>>> {
        let mut lately = lock(&self.lately);
        regions.map(|region| lately.find((volume, region))).collect()
    }

    fn region(&self, volume: Incarnation, region: u64, ask: impl FnOnce() -> Answered) -> Arc<Answered> {
        if let Some(answer) = lock(&self.lately).find((volume, region)) {
            return answer;
        }
        // Others read meanwhile; who asks for the same at the same time asks the index as well.
        let answer = Arc::new(ask());
        if answer.lost.is_empty() {
            lock(&self.lately).keep_weighing((volume, region), answer.clone(), answer.runs.len() + BESIDE);
        }
        answer
    }
}

/// What an answer for more says of an extent.
fn part_of(answer: &Answered, extent: Extent, out: &mut Answered) {
    let first = answer.runs.partition_point(|run| run.extent.end() <= extent.start().index());
    let runs = answer.runs[first..].iter().take_while(|run| run.extent.start().index() < extent.end());
    let parts = runs.filter_map(|run| Some(Resolved { extent: run.extent.intersection(extent)?, ..*run }));
    out.append(parts, &answer.lost);
}

#[cfg(test)]
mod tests;
