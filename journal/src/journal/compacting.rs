//! Compacting segments that hold what no point needs.
//!
//! Owns the order (ENGINE 8, 24): which points there are is durable before it is asked what they need; what they need is
//! durable in the new file before that has the segment's name; the old file goes with its name. Whoever reads from the old
//! one goes on reading from it. What is needed is decided in `need`, which segment is next in `compaction`.

use super::Journal;
use crate::chunks::Kept;
use crate::compacted;
use crate::compaction::{Candidate, Next};
use crate::distribution;
use crate::error::JournalError;
use crate::lock::{lock, read};
use crate::need::Need;
use crate::place::SegmentNumber;
use crate::tail::Sizes;
use record::position::Position;
use std::sync::atomic::Ordering;

/// The newest segments, which are left alone.
const LEFT_ALONE: usize = 2;

/// What one step of compaction came to.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Compacted {
    /// Bytes that came free.
    pub freed: u64,
    /// Bytes that were copied for it.
    pub copied: u64,
    /// Whether there is more to be done at once.
    pub more: bool,
    /// Whether there is something to be compacted, but enough was copied beside what is written.
    pub later: bool,
}

impl Journal {
    /// One step: a segment is looked at, or compacted. Slow: reads and writes data. From any thread; one at a time.
    pub fn compact(&self) -> Result<Compacted, JournalError> {
        let mut compaction = lock(&self.compaction);
        // No segment leaves the journal while it is copied.
        let _moving = lock(&self.moving);
        let core = &self.reader.core;
        let (sizes, target) = {
            let tail = lock(&self.tail);
            tail.writable()?;
            (tail.sizes(), tail.retained().target)
        };
        let (points, horizon) = self.points(target);
        let candidates = self.candidates(&points, horizon, &sizes);
        let chunks_of =
            |candidate: &Candidate| read(&core.state).chunks().within(candidate.first, candidate.last).to_vec();
        let find = |number| candidates.iter().find(|candidate| candidate.number == number);
        let written = self.written.load(Ordering::Relaxed);
        match compaction.next(&candidates, horizon, written, sizes.ordinary) {
            Next::Nothing => Ok(Compacted::default()),
            Next::Later => Ok(Compacted { later: true, ..Compacted::default() }),
            Next::Estimate(number) => {
                let Some(candidate) = find(number) else { return Ok(Compacted::default()) };
                let mut need = Need::new(core, points, candidate.first, candidate.last);
                // One that cannot be read is needed as it is; whoever reads it says what is wrong with it.
                let needed = need.estimate(&chunks_of(candidate)).unwrap_or(candidate.bytes);
                compaction.estimated(candidate, horizon, needed);
                Ok(Compacted { more: true, ..Compacted::default() })
            }
            Next::Compact(number) => {
                let Some(candidate) = find(number) else { return Ok(Compacted::default()) };
                let mut need = Need::new(core, points, candidate.first, candidate.last);
                let (bytes, freed) = self.compact_segment(&mut need, candidate, &chunks_of(candidate))?;
                let copied = if freed > 0 { bytes } else { 0 };
                compaction.compacted(candidate, horizon, bytes, copied);
                Ok(Compacted { freed, copied, more: true, later: false })
            }
        }
    }

    /// Answers with the bytes that the segment then has, and how many came free.
    fn compact_segment(
        &self,
        need: &mut Need<'_>,
        candidate: &Candidate,
        chunks: &[Kept],
    ) -> Result<(u64, u64), JournalError> {
        let core = &self.reader.core;
        let number = candidate.number;
        let failed = |source| core.io(&format!("compact segment {number}"), source);
        let Ok(map) = need.of_segment(number, chunks) else { return Ok((candidate.bytes, 0)) };
        if map.file_bytes() >= candidate.bytes {
            return Ok((candidate.bytes, 0));
        }
        let segment = core.files.segment(number).map_err(failed)?;
        compacted::write(core.files.disk().as_ref(), core.id, number, segment.as_ref(), &map).map_err(failed)?;
        let mut tail = lock(&self.tail);
        let freed = tail.compact(number)?;
        core.files.forget(number);
        Ok((map.file_bytes(), freed))
    }

    /// All points behind the window, the oldest of it for all that are in it, and what lines left go back to, ascending; and
    /// that oldest one. Durable: the state follows the disk. Both are of one moment: were the window to move on between, nobody
    /// would be asked about what lies between the two.
    fn points(&self, target: Position) -> (Vec<Position>, Position) {
        let core = &self.reader.core;
        let state = read(&core.state);
        let images: Vec<Position> = lock(&core.images).keys().copied().collect();
        let older = distribution::older(&state.timeline, images.into_iter());
        let horizon = state.timeline.horizon().position;
        let mut points: Vec<Position> = older.into_iter().map(|(at, _)| at).collect();
        // A move that was begun reads what was there at its end.
        points.extend([target, horizon]);
        points.retain(|point| *point > Position::ORIGIN);
        points.sort_unstable();
        points.dedup();
        (points, horizon)
    }

    /// Segments in front of the oldest point of the window of which something may be given up, oldest first. None where
    /// the replicas may follow to that point: then they leave by themselves.
    fn candidates(&self, points: &[Position], horizon: Position, sizes: &Sizes) -> Vec<Candidate> {
        let core = &self.reader.core;
        let state = read(&core.state);
        let images: Vec<Position> = lock(&core.images).keys().copied().collect();
        let (floor, held) = distribution::common_ancestor(&state.timeline, &state.members, images.into_iter());
        if held.is_none() {
            return Vec::new();
        }
        let all: Vec<&[Kept]> = state.chunks().by_segment().collect();
        let may = all.len().saturating_sub(LEFT_ALONE);
        let damaged = |number| state.damage().0.iter().any(|damage| damage.place.segment == number);
        let candidates = all[..may].iter().filter_map(|chunks| {
            let (first, end) = (chunks.first()?, chunks.last()?);
            let number = first.place.segment;
            let candidate = candidate(number, sizes.of(end), first.first, end.next().previous()?, points, horizon);
            (candidate.last <= horizon && candidate.last > floor && !damaged(number)).then_some(candidate)
        });
        candidates.collect()
    }
}

fn candidate(
    number: SegmentNumber,
    bytes: u64,
    first: Position,
    last: Position,
    points: &[Position],
    horizon: Position,
) -> Candidate {
    let from = points.partition_point(|point| *point < first);
    let behind = points.partition_point(|point| *point <= last);
    let mut near = points.get(from..behind).unwrap_or(&[]).to_vec();
    near.extend(points.get(behind).filter(|point| **point != horizon));
    Candidate { number, bytes, first, last, points: near }
}
