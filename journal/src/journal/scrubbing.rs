//! Reading again what was written long ago, before somebody needs it.
//!
//! Owns one step: chunks from a position on are read as an image would read them, and every checksum is checked. What is
//! damaged is named where reads name it, and nothing else follows from it: a chunk is refused when it is read, by its
//! checksums, whether this has come by or not. When steps are taken, and how fast, is the caller's.

use super::Journal;
use crate::chunks::Kept;
use crate::lock::{read, write};
use crate::open::payload_damage;
use crate::place::{Place, SegmentNumber};
use crate::recovery::{Damage, DamageKind};
use crate::scan;
use record::position::Position;

/// What one step has read.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Scrubbed {
    /// Where to go on; `None`: everything that there was has been read.
    pub next: Option<Position>,
    /// Bytes read.
    pub bytes: u64,
    /// What was found damaged, and was not known to be.
    pub found: Vec<Damage>,
}

impl Journal {
    /// Reads chunks from `from` on and checks them, until so many bytes are read or there are no more; at least one
    /// chunk, 4 MiB at most. Slow; from any thread, beside everything else.
    pub fn scrub(&self, from: Position, bytes: u64) -> Scrubbed {
        let core = &self.reader.core;
        let mut step = Scrubbed::default();
        let chunks: Vec<Kept> = {
            let state = read(&core.state);
            let mut taken = 0;
            let behind = state.chunks().behind(from).iter();
            let some = behind.take_while(|chunk| {
                let more = taken < bytes.max(1);
                taken += chunk.disk_bytes();
                more
            });
            some.copied().collect()
        };
        let mut unreadable: Option<SegmentNumber> = None;
        for chunk in &chunks {
            step.next = Some(chunk.next());
            step.bytes += chunk.disk_bytes();
            let segment = chunk.place.segment;
            if unreadable == Some(segment) {
                continue;
            }
            let damage = self.look_at(chunk);
            if damage.as_ref().is_some_and(|damage| damage.kind == DamageKind::SegmentMissing) {
                unreadable = Some(segment);
            }
            if let Some(damage) = damage
                && self.is_kept(segment)
                && write(&core.state).note_damage(damage.clone())
            {
                step.found.push(damage);
            }
        }
        if read(&core.state).chunks().behind(step.next.unwrap_or(from)).is_empty() {
            step.next = None;
        }
        step
    }

    /// What of a chunk is damaged.
    fn look_at(&self, chunk: &Kept) -> Option<Damage> {
        let core = &self.reader.core;
        let place = chunk.place;
        let positions = chunk.next().previous().map(|last| (chunk.first, last));
        let of = |kind, place, bytes, extents_known| Damage {
            place,
            bytes,
            kind,
            positions,
            extents: Vec::new(),
            extents_known,
            note_lost: false,
        };
        let Ok(file) = core.files.segment(place.segment) else {
            let whole = Place { offset: 0, ..place };
            return Some(Damage { positions: None, ..of(DamageKind::SegmentMissing, whole, 0, false) });
        };
        let area = u64::from(chunk.area_bytes);
        match core.bodies.read_where(&core.files, chunk) {
            Err(_) => Some(of(DamageKind::ChunkHeader, chunk.area_at(), area, false)),
            Ok((body, in_segment)) => {
                let payload = scan::payload_damage(file.as_ref(), place, &body);
                let damage = payload_damage(place, chunk.first, &body, payload);
                // The footer serves in its place: nothing is refused for it, but the disk has begun to forget.
                damage.or_else(|| (!in_segment).then(|| of(DamageKind::ChunkHeader, chunk.area_at(), area, true)))
            }
        }
    }

    /// Whether a segment is the journal's still: the file of one that is not may be another's by now.
    fn is_kept(&self, segment: SegmentNumber) -> bool {
        read(&self.reader.core.state).retained().first_segment <= segment
    }
}
