//! When each position was.
//!
//! A label for every record would be eight bytes for ever. Owns what is kept instead: the labels of the newest records,
//! of positions that mean something, and for each chunk the label in front of it. What lies inside an older chunk is
//! said by the chunk itself: whoever can read finds it there (`Reader`), and until then has the label in front of the
//! chunk, which is never later. Pure.

use super::At;
use record::position::{Label, Position};
use std::collections::{BTreeMap, VecDeque};

/// Newest records of which the label is known without reading.
const RECENT_MAX: usize = 4096;

/// The labels of a timeline.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Labels {
    head: At,
    /// Of the newest positions, the head's last.
    recent: VecDeque<Label>,
    /// Where chunks begin: the position of the first record, and the label in front of it. Ascending.
    starts: Vec<At>,
    /// Positions that mean something.
    noted: BTreeMap<Position, Label>,
}

impl Labels {
    /// The newest position; the origin before the first.
    pub(super) fn head(&self) -> At {
        self.head
    }

    /// The next record is the first of a chunk.
    pub(super) fn begin_chunk(&mut self) {
        let start = At { position: self.head.position.next(), label: self.head.label };
        // A chunk that brings no record has no place of its own.
        match self.starts.last_mut() {
            Some(last) if last.position == start.position => *last = start,
            Some(_) | None => self.starts.push(start),
        }
    }

    /// The next record. Labels never step back.
    pub(super) fn push(&mut self, label: Label) -> At {
        self.head = At { position: self.head.position.next(), label: label.max(self.head.label) };
        if self.recent.len() == RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back(self.head.label);
        self.head
    }

    /// Records up to `last` are lost: nobody knows when they were.
    pub(super) fn lost(&mut self, last: Position) {
        if last <= self.head.position {
            return;
        }
        self.begin_chunk();
        let lost = last.get() - self.head.position.get();
        for _ in 0..lost.min(RECENT_MAX as u64) {
            if self.recent.len() == RECENT_MAX {
                self.recent.pop_front();
            }
            self.recent.push_back(self.head.label);
        }
        self.head.position = last;
    }

    /// A position with its label, or with one that is not later and at most a chunk older.
    pub(super) fn at(&self, position: Position) -> At {
        let label = self.known(position).unwrap_or_else(|| {
            let chunk = self.starts.partition_point(|start| start.position <= position).checked_sub(1);
            chunk.and_then(|i| self.starts.get(i)).map_or(Label::default(), |start| start.label)
        });
        At { position, label }
    }

    /// The label of a position, where it is known exactly; the head's for what is still to come.
    fn known(&self, position: Position) -> Option<Label> {
        if position >= self.head.position {
            return Some(self.head.label);
        }
        let back = usize::try_from(self.head.position.get() - position.get()).ok()?;
        let recent = self.recent.len().checked_sub(back + 1).and_then(|i| self.recent.get(i));
        recent.or_else(|| self.noted.get(&position)).copied()
    }

    /// This position means something: its label is kept.
    pub(super) fn note(&mut self, position: Position) {
        let label = self.at(position).label;
        self.noted.entry(position).or_insert(label);
    }

    /// This position means something, and was then.
    pub(super) fn note_as(&mut self, at: At) {
        self.noted.insert(at.position, at.label);
    }

    /// The chunk that a position is in, and the label in front of it; `None` when its label is known anyway.
    pub(crate) fn to_be_read(&self, position: Position) -> Option<At> {
        if self.known(position).is_some() {
            return None;
        }
        let chunk = self.starts.partition_point(|start| start.position <= position).checked_sub(1);
        chunk.and_then(|i| self.starts.get(i)).copied()
    }

    /// The chunk in which the last position is whose label is not after this one, and the label in front of it. `Err`
    /// with that position, where it is known.
    pub(crate) fn chunk_at(&self, label: Label) -> Result<At, Position> {
        if self.head.label <= label {
            return Err(self.head.position);
        }
        let chunk = self.starts.partition_point(|start| start.label <= label).checked_sub(1);
        chunk.and_then(|i| self.starts.get(i)).copied().ok_or(Position::ORIGIN)
    }

    /// Chunks in front of this position are not there any more. The one that it is in stays.
    pub(super) fn forget_chunks(&mut self, position: Position) {
        let chunk = self.starts.partition_point(|start| start.position <= position).saturating_sub(1);
        self.starts.drain(..chunk);
    }

    /// Positions in front of this one mean nothing any more, but for those that `keep`.
    pub(super) fn forget_notes(&mut self, position: Position, keep: impl Fn(Position) -> bool) {
        self.noted.retain(|at, _| *at >= position || keep(*at));
    }

    /// The positions that mean something, for a checkpoint.
    pub(crate) fn noted(&self) -> impl Iterator<Item = At> {
        self.noted.iter().map(|(position, label)| At { position: *position, label: *label })
    }

    /// Where chunks begin, from this position on.
    pub(crate) fn starts_from(&self, position: Position) -> &[At] {
        let from = self.starts.partition_point(|start| start.position < position);
        self.starts.get(from..).unwrap_or(&[])
    }

    /// From a checkpoint.
    pub(crate) fn restored(head: At, starts: Vec<At>, noted: impl Iterator<Item = At>) -> Self {
        let noted = noted.map(|at| (at.position, at.label)).collect();
        Self { head, recent: VecDeque::from([head.label]), starts, noted }
    }
}

#[cfg(test)]
mod tests;
