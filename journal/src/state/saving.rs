//! The state in a checkpoint.
//!
//! Owns its bytes (`docs/formats/state.md`): what the records in front of a place have led to, and, apart from it, the
//! chunks and runs that came since the checkpoint before, so that a long history is written once.

use super::State;
use crate::checkpoint::{In, Out};
use crate::chunks::{Chunks, Kept};
use crate::index::{HeadedIndex, Index, Run, RunId, RunIndex, Span};
use crate::members::Members;
use crate::place::{Place, SegmentNumber};
use crate::recovery::{Damage, DamageKind};
use crate::session::Sessions;
use crate::timeline::{At, Timeline};
use record::position::Position;

/// What came since the checkpoint before.
#[derive(Debug, Default)]
pub(crate) struct Stretch {
    chunks: Vec<Kept>,
    starts: Vec<At>,
    runs: Vec<(RunId, Option<Span>)>,
}

impl Stretch {
    pub(crate) fn restore(input: &mut In<'_>) -> Option<Self> {
        Some(Self { chunks: input.list(Kept::restore)?, starts: input.list(In::at)?, runs: input.list(Run::restore)? })
    }
}

impl State {
    /// All that came is in runs: the next chunk begins here.
    pub(crate) fn end_run(&mut self) {
        let next = self.timeline.head().position.next();
        self.index.behind_mut().end_here(next);
    }

    /// What came since a position, for a checkpoint; answers with how many runs that are.
    pub(crate) fn save_piece(&self, from: Position, out: &mut Out) -> usize {
        out.list(self.chunks.behind(from).iter(), |out, chunk| chunk.save(out));
        out.list(self.timeline.labels().starts_from(from).iter(), |out, start| out.at(*start));
        self.index.behind().save(out)
    }

    /// A checkpoint has the first so many runs of those that came.
    pub(crate) fn saved(&mut self, runs: usize) {
        self.index.behind_mut().saved(runs);
    }

    /// All else, for a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        self.members.save(out);
        self.sessions.save(out);
        self.timeline.save(out);
        out.position(self.last_change);
        out.list(self.lost.iter(), |out, (first, last)| {
            out.position(*first);
            out.position(*last);
        });
        out.list(self.damage.iter(), damage);
        out.u64(self.damage_count);
        out.u64(self.last_rollback);
    }

    /// From a checkpoint and the pieces up to it, oldest first. Chunks in front of `first`, and runs in front of
    /// `first_position`, are not there any more.
    pub(crate) fn restore(
        input: &mut In<'_>,
        pieces: Vec<Stretch>,
        first: SegmentNumber,
        first_position: Position,
        mut index: RunIndex,
    ) -> Option<Self> {
        let (mut chunks, mut starts) = (Chunks::default(), Vec::new());
        for piece in pieces {
            piece
                .chunks
                .into_iter()
                .filter(|chunk| chunk.place.segment >= first)
                .for_each(|chunk| chunks.push_kept(chunk));
            starts.extend(piece.starts.into_iter().filter(|start| start.position >= first_position));
            let runs = piece.runs.into_iter().filter(|(id, _)| id.last >= first_position).collect();
            if !index.restore(runs) {
                return None;
            }
        }
        let used_bytes = chunks.behind(Position::ORIGIN).iter().map(Kept::disk_bytes).sum();
        let payload_bytes = chunks.behind(Position::ORIGIN).iter().map(|chunk| u64::from(chunk.payload_bytes)).sum();
        let state = Self {
            members: Members::restore(input)?,
            sessions: Sessions::restore(input)?,
            timeline: Timeline::restore(input, starts)?,
            index: HeadedIndex::of(index),
            chunks,
            last_change: input.position()?,
            lost: input.list(|input| Some((input.position()?, input.position()?)))?,
            damage: input.list(take_damage)?,
            damage_count: input.u64()?,
            used_bytes,
            payload_bytes,
            last_rollback: input.u64()?,
            ..Self::new(RunIndex::default())
        };
        input.is_empty().then(|| state.with_unknown_heads())
    }

    /// The newest versions are not known by heart: they are looked up in the runs until new ones come.
    fn with_unknown_heads(mut self) -> Self {
        let members: Vec<_> = self.members.all().cloned().collect();
        for member in members {
            let line = self.path(&member, Position::new(u64::MAX));
            self.index.rolled_back(member.incarnation, &line);
        }
        self
    }
}

fn damage(out: &mut Out, damage: &Damage) {
    let Damage { place, bytes, kind, positions, extents, extents_known, note_lost } = damage;
    out.u32(place.segment.get());
    out.u64(place.offset);
    out.u64(*bytes);
    out.u8(match kind {
        DamageKind::SegmentMissing => 1,
        DamageKind::SegmentTruncated => 2,
        DamageKind::ChunkHeader => 3,
        DamageKind::Payload => 4,
    });
    out.maybe(*positions, |out, (first, last)| {
        out.position(first);
        out.position(last);
    });
    out.list(extents.iter(), |out, extent| out.extent(*extent));
    out.flag(*extents_known);
    out.flag(*note_lost);
}

fn take_damage(input: &mut In<'_>) -> Option<Damage> {
    Some(Damage {
        place: Place { segment: SegmentNumber::new(input.u32()?), offset: input.u64()? },
        bytes: input.u64()?,
        kind: match input.u8()? {
            1 => DamageKind::SegmentMissing,
            2 => DamageKind::SegmentTruncated,
            3 => DamageKind::ChunkHeader,
            4 => DamageKind::Payload,
            _ => return None,
        },
        positions: input.maybe(|input| Some((input.position()?, input.position()?)))?,
        extents: input.list(In::extent)?,
        extents_known: input.flag()?,
        note_lost: input.flag()?,
    })
}
