//! A timeline in a checkpoint.
//!
//! Owns its bytes (`docs/formats/state.md`). Where chunks begin stands with the chunks, and is given back from there; the
//! horizon is the superblock's, grid points have a file of their own.

use super::barriers::Barriers;
use super::{At, GapCause, Labels, MarkKind, Timeline, Withheld};
use crate::checkpoint::{In, Out};
use crate::path::Rollback;
use crate::status::OpCounts;
use record::position::{Position, Session};

impl Timeline {
    /// For a checkpoint.
    pub(crate) fn save(&self, out: &mut Out) {
        out.at(self.labels.head());
        out.list(self.labels.noted().collect::<Vec<_>>().into_iter(), Out::at);
        out.list(self.gaps.iter(), withheld);
        out.list(self.owed.iter(), |out, (splitter, session)| {
            out.maybe(*splitter, Out::splitter);
            out.u64(session.get());
        });
        out.position(self.sound);
        out.list(self.unsure.iter(), withheld);
        out.list(self.indeterminate.iter(), |out, extent| out.extent(*extent));
        out.list(self.failures.iter(), |out, (at, volume, extent)| {
            out.position(*at);
            out.extent((*volume, *extent));
        });
        self.barriers.save(out);
        out.list(self.bookmarks.iter(), |out, (name, (at, ticket))| {
            out.bytes(name.as_bytes());
            out.position(*at);
            out.u64(*ticket);
        });
        out.list(self.rollbacks.iter(), |out, rollback| {
            out.position(rollback.at);
            out.position(rollback.target);
            out.u64(rollback.id);
        });
        out.maybe(self.first_joined, Out::position);
        out.list(self.flushes.iter(), |out, at| out.at(*at));
        out.list(self.punches.iter(), |out, at| out.at(*at));
        out.maybe(self.last_punch, Out::label);
        out.list(self.marks.iter(), |out, (at, kind)| {
            out.position(*at);
            mark(out, kind);
        });
        self.counts.save(out);
    }

    /// From a checkpoint. `starts`: where the chunks in front of it begin.
    pub(crate) fn restore(input: &mut In<'_>, starts: Vec<At>) -> Option<Self> {
        let head = input.at()?;
        let noted: Vec<At> = input.list(In::at)?;
        let labels = Labels::restored(head, starts, noted.into_iter());
        Some(Self {
            labels,
            horizon: At::ORIGIN,
            grid: std::collections::BTreeMap::new(),
            gaps: input.list(take_withheld)?,
            owed: input.list(|input| Some((input.maybe(In::splitter)?, Session::new(input.u64()?))))?,
            sound: input.position()?,
            unsure: input.list(take_withheld)?,
            indeterminate: input.list(In::extent)?,
            failures: input.list(|input| {
                let at = input.position()?;
                let (volume, extent) = input.extent()?;
                Some((at, volume, extent))
            })?,
            barriers: Barriers::restore(input)?,
            bookmarks: input.list(|input| Some((input.text()?, (input.position()?, input.u64()?))))?,
            rollbacks: input
                .list(|input| Some(Rollback { at: input.position()?, target: input.position()?, id: input.u64()? }))?,
            first_joined: input.maybe(In::position)?,
            flushes: input.list(In::at)?,
            punches: input.list(In::at)?,
            last_punch: input.maybe(In::label)?,
            marks: input.list(|input| Some((input.position()?, take_mark(input)?)))?,
            counts: OpCounts::restore(input)?,
        })
    }
}

fn withheld(out: &mut Out, stretch: &Withheld) {
    out.position(stretch.begin);
    out.maybe(stretch.end, Out::position);
    out.u8(match stretch.cause {
        GapCause::RecordsLost => 1,
        GapCause::Resync => 2,
        GapCause::FailedWrite => 3,
        GapCause::Damage => 4,
    });
}

fn take_withheld(input: &mut In<'_>) -> Option<Withheld> {
    let (begin, end): (Position, _) = (input.position()?, input.maybe(In::position)?);
    let cause = match input.u8()? {
        1 => GapCause::RecordsLost,
        2 => GapCause::Resync,
        3 => GapCause::FailedWrite,
        4 => GapCause::Damage,
        _ => return None,
    };
    Some(Withheld { begin, end, cause })
}

fn mark(out: &mut Out, kind: &MarkKind) {
    match kind {
        MarkKind::Flush => out.u8(1),
        MarkKind::Barrier => out.u8(2),
        MarkKind::PunchAfterPause => out.u8(3),
        MarkKind::Joined { volume } => {
            out.u8(4);
            out.bytes(volume.as_bytes());
        }
        MarkKind::Left { volume } => {
            out.u8(5);
            out.bytes(volume.as_bytes());
        }
        MarkKind::Rollback { target, id } => {
            out.u8(6);
            out.position(*target);
            out.u64(*id);
        }
        MarkKind::Recovery { clean } => {
            out.u8(7);
            out.flag(*clean);
        }
    }
}

fn take_mark(input: &mut In<'_>) -> Option<MarkKind> {
    Some(match input.u8()? {
        1 => MarkKind::Flush,
        2 => MarkKind::Barrier,
        3 => MarkKind::PunchAfterPause,
        4 => MarkKind::Joined { volume: input.text()? },
        5 => MarkKind::Left { volume: input.text()? },
        6 => MarkKind::Rollback { target: input.position()?, id: input.u64()? },
        7 => MarkKind::Recovery { clean: input.flag()? },
        _ => return None,
    })
}
