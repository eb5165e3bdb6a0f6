//! What of a segment some point needs (ENGINE 5, 6).
//!
//! A version is needed where a point resolves to it. Along one line that is asked of the first point behind it only: what
//! that one has overwritten, none behind it shows. Where rollbacks made several lines each has its own first point. Owns
//! both: which points have to be asked, and the blocks of a segment that then have to stay. What is not known to be
//! needed by nobody is needed. Deliberately gives nothing up.

use crate::chunks::Kept;
use crate::compacted::Map;
use crate::footer;
use crate::lock::read;
use crate::members::Member;
use crate::path::{Path, Rollback};
use crate::place::SegmentNumber;
use crate::reader::Core;
use crate::segment::FIRST_CHUNK_AT;
use record::chunk::Descriptor;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::op::Op;
use record::position::Position;
use std::collections::BTreeMap;
use std::io;

/// Most chunks of a segment that an estimate looks at, and most records of each.
const CHUNKS_LOOKED_AT: usize = 8;
const RECORDS_LOOKED_AT: usize = 64;

/// The points that have to be asked about versions of one volume.
#[derive(Debug)]
pub(crate) struct Asked {
    /// Up to which position, and behind the stretch before: the paths of the points to be asked.
    stretches: Vec<(Position, Vec<Path>)>,
}

impl Asked {
    /// About versions at positions from `first` to `last`. `points` are ascending; each shows the volume, which joined at
    /// `joined`.
    pub(crate) fn of(
        rollbacks: &[Rollback],
        joined: Position,
        points: &[Position],
        first: Position,
        last: Position,
    ) -> Self {
        let mut ends: Vec<Position> = points.iter().copied().filter(|at| *at >= first && *at < last).collect();
        for rollback in rollbacks {
            ends.extend([Some(rollback.target), rollback.at.previous()].into_iter().flatten());
        }
        ends.retain(|at| *at >= first && *at < last);
        ends.push(last);
        ends.sort_unstable();
        ends.dedup();
        let stretch = |end: Position| {
            let mut asked: Vec<(Position, Path)> = Vec::new();
            let mut newest_line = false;
            for at in points.iter().copied().filter(|at| *at >= end) {
                // Behind the last rollback there is one line, and its first point is asked.
                if newest_line {
                    break;
                }
                let path = Path::of(rollbacks, joined, at);
                if path.contains(end) && !asked.iter().any(|(before, _)| path.contains(*before)) {
                    newest_line = rollbacks.last().is_none_or(|rollback| rollback.at <= end);
                    asked.push((at, path));
                }
            }
            (end, asked.into_iter().map(|(_, path)| path).collect())
        };
        Self { stretches: ends.into_iter().map(stretch).collect() }
    }

    /// The paths of the points to be asked about a version.
    fn about(&self, position: Position) -> &[Path] {
        let at = self.stretches.partition_point(|(end, _)| *end < position);
        self.stretches.get(at).map_or(&[], |(_, paths)| paths)
    }
}

/// What is needed, as far as the points at one moment say: they only become fewer, or are made from others.
#[derive(Debug)]
pub(crate) struct Need<'a> {
    core: &'a Core,
    points: Vec<Position>,
    asked: BTreeMap<Incarnation, Option<(Member, Asked)>>,
    first: Position,
    last: Position,
}

impl<'a> Need<'a> {
    /// Of versions at positions from `first` to `last`, where `points`, ascending, are all there are, or the oldest of the window for
    /// all that are behind it.
    pub(crate) fn new(core: &'a Core, points: Vec<Position>, first: Position, last: Position) -> Self {
        Self { core, points, asked: BTreeMap::new(), first, last }
    }

    /// The sectors of a record's that are needed; `None`: all.
    fn sectors(&mut self, position: Position, record: &Descriptor) -> Option<Vec<Extent>> {
        let extent = record.extent.filter(|_| record.op == Op::Write)?;
        let (core, points, first, last) = (self.core, &self.points, self.first, self.last);
        let asked = self.asked.entry(record.volume).or_insert_with(|| {
            let state = read(&core.state);
            let member = state.members.get(record.volume)?.clone();
            let joined = member.joined?;
            let mut shown: Vec<Position> = points.iter().copied().filter(|at| member.shown_at(*at)).collect();
            // The first point that shows it, where it joined behind the oldest of the window: what was written before it
            // had joined is seen there.
            shown.insert(shown.partition_point(|at| *at < joined), joined);
            let asked = Asked::of(state.timeline.rollbacks(), joined, &shown, first, last);
            Some((member, asked))
        });
        let (member, asked) = asked.as_ref()?;
        let mut needed = Vec::new();
        for path in asked.about(position) {
            let answer = read(&core.state).ask(member, path, extent);
            let answered = answer.finish();
            if !answered.lost.is_empty() {
                return None;
            }
            needed.extend(answered.runs.iter().filter(|run| run.position == position).map(|run| run.extent));
        }
        Some(crate::index::normalise(needed))
    }

    /// The blocks of a segment that have to stay. An error where it cannot be read: then nothing of it is given up.
    pub(crate) fn of_segment(&mut self, number: SegmentNumber, chunks: &[Kept]) -> io::Result<Map> {
        let core = self.core;
        let file = core.files.segment(number)?;
        let bytes = file.len()?;
        let mut map = Map::none(bytes);
        map.keep(0..FIRST_CHUNK_AT);
        if let Some(footer) = footer::read(file.as_ref(), bytes, core.id, number) {
            map.keep(footer.at..bytes);
        }
        for chunk in chunks {
            map.keep(chunk.place.offset..chunk.payload_at().offset);
            let body = core.bodies.read(&core.files, chunk)?;
            for (position, record) in (chunk.first.get()..).zip(&body.records) {
                let of = &record.descriptor;
                if let Some(needed) = self.sectors(Position::new(position), of) {
                    for block in needed.iter().flat_map(|extent| chunk.blocks(of, *extent)) {
                        map.keep(block.bytes);
                    }
                } else {
                    let at = chunk.payload_at().offset + u64::from(of.payload_offset);
                    map.keep(at..at + u64::from(of.payload_bytes));
                }
            }
        }
        // What has left before is nowhere to be had.
        map.without_lacking(file.as_ref());
        Ok(map)
    }

    /// About how many bytes of a segment have to stay, from some of its records.
    pub(crate) fn estimate(&mut self, chunks: &[Kept]) -> io::Result<u64> {
        let (mut looked, mut needed, mut headers, mut payload) = (0, 0, 0, 0);
        let step = chunks.len().div_ceil(CHUNKS_LOOKED_AT).max(1);
        for chunk in chunks {
            headers += chunk.disk_bytes() - u64::from(chunk.payload_bytes);
            payload += u64::from(chunk.payload_bytes);
        }
        for chunk in chunks.iter().step_by(step) {
            let body = self.core.bodies.read(&self.core.files, chunk)?;
            let records = body.records.len().div_ceil(RECORDS_LOOKED_AT).max(1);
            for (n, record) in body.records.iter().enumerate().step_by(records) {
                let of = &record.descriptor;
                looked += u64::from(of.payload_bytes);
                needed += match self.sectors(chunk.first.plus(n as u64), of) {
                    Some(extents) => extents.iter().map(|extent| extent.bytes()).sum(),
                    None => u64::from(of.payload_bytes),
                };
            }
        }
        let payload = if looked == 0 { payload } else { u128_part(payload, needed, looked) };
        Ok(headers + payload)
    }
}

/// `whole * part / of`, where that does not fit 64 bits between.
fn u128_part(whole: u64, part: u64, of: u64) -> u64 {
    u64::try_from(u128::from(whole) * u128::from(part) / u128::from(of.max(1))).unwrap_or(whole)
}

#[cfg(test)]
mod tests;
