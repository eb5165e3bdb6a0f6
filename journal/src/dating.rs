//! When a record was, and which record was the last at a time.
//!
//! The timeline keeps labels of chunks and of positions that mean something. Owns the last step: reading the chunk that
//! a position, or a moment, lies in. Where it cannot be read the label in front of the chunk serves, which is never later.

use crate::error::PointError;
use crate::lock::read;
use crate::reader::Core;
use crate::timeline::{At, Labels};
use record::position::{Label, Position};

impl Core {
    /// A position with its label.
    pub(crate) fn at(&self, position: Position) -> At {
        let (known, chunk) = self.with_labels(|labels| labels.to_be_read(position)).map_or_else(
            || (read(&self.state).timeline.at(position), None),
            |start| (At { position, label: start.label }, Some(start)),
        );
        let Some(start) = chunk else { return known };
        let before = |(at, _): &(Position, Label)| *at <= position;
        let label = self.labels_from(start).into_iter().take_while(before).last().map_or(start.label, |(_, l)| l);
        At { position, label }
    }

    /// The last position whose label is not after this one; the origin when there is none.
    pub(crate) fn position_at(&self, label: Label) -> Position {
        let start = match self.with_labels(|labels| labels.chunk_at(label)) {
            Ok(start) => start,
            Err(position) => return position,
        };
        let labels = self.labels_from(start);
        let not_after = labels.iter().take_while(|(_, l)| *l <= label).last();
        not_after.map(|(position, _)| *position).or_else(|| start.position.previous()).unwrap_or(Position::ORIGIN)
    }

    fn with_labels<T>(&self, ask: impl FnOnce(&Labels) -> T) -> T {
        ask(read(&self.state).timeline.labels())
    }

    /// The positions of the chunk that begins here, with their labels; none when it is lost.
    fn labels_from(&self, start: At) -> Vec<(Position, Label)> {
        let Some((chunk, _)) = read(&self.state).chunks().holding(start.position) else { return Vec::new() };
        let Ok(body) = self.bodies.of(&self.files, &chunk) else { return Vec::new() };
        let mut label = start.label;
        let records = body.records.iter().zip(0..);
        records
            .map(|(record, i)| {
                label = label.max(record.descriptor.label);
                (chunk.first.plus(i), label)
            })
            .collect()
    }

    /// The same error, with the exact time of what was asked for.
    pub(crate) fn dated(&self, error: PointError) -> PointError {
        match error {
            PointError::InsideGap { asked, gap } => PointError::InsideGap { asked: self.at(asked.position), gap },
            PointError::NotABarrier { asked, before, after } => {
                PointError::NotABarrier { asked: self.at(asked.position), before, after }
            }
            other => other,
        }
    }
}
