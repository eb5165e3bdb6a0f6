//! Where a journal's tail is after a crash, and what of it is damaged.
//!
//! Owns the decision of PROTOCOL R26. Pure: headers that were seen on disk go in; what to keep, what is lost and
//! where the tail is come out.
//!
//! K is the largest committed mark in any valid header, wherever it was seen, and what the marks in superblock and
//! segment headers say. A chunk up to K was durable once: if it is not valid now it is damaged, named, and what lies
//! behind it is kept. The first chunk behind K that is not valid ends the journal: it was never acknowledged as
//! committed, the splitter still has it, and whatever lies behind it is dropped, valid or not.

use crate::mark::TailMark;
use crate::place::Place;
use record::geometry::Extent;
use record::header::ChunkHeader;
use record::ids::Incarnation;
use record::position::{ChunkNumber, JournalEpoch, Label, Position, Session};
use record::streams::Streams;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ops::Bound;

/// A damaged place of a journal: named, kept, and not served.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Damage {
    /// Where: the start of the damaged bytes.
    pub place: Place,
    /// How many bytes; 0 when that is not known.
    pub bytes: u64,
    /// What is damaged.
    pub kind: DamageKind,
    /// The positions that it concerns, first and last; `None` when it concerns none.
    pub positions: Option<(Position, Position)>,
    /// The extents whose content at these positions is refused. Empty and `extents_known`: nothing is lost.
    pub extents: Vec<(Incarnation, Extent)>,
    /// Whether `extents` is all of it. If not, every sector not written again since is refused.
    pub extents_known: bool,
    /// Whether the note of a record (a name, a volume's description, a rollback's target) is lost with it.
    pub note_lost: bool,
}

/// What is damaged.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum DamageKind {
    /// A segment's file is not there.
    SegmentMissing,
    /// A segment's file is shorter than its chunks.
    SegmentTruncated,
    /// A chunk's header, or the descriptions of its records.
    ChunkHeader,
    /// A payload.
    Payload,
}

/// Where a header was read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Witness {
    /// In the segment, where it belongs, or in a footer that names the segment whole.
    Segment,
    /// In the segment's footer, beside a segment that does not show it: the chunk was durable once.
    Footer,
}

/// A valid journal header that was seen.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    pub witness: Witness,
    pub place: Place,
    pub header: ChunkHeader,
    /// Its checksum.
    pub crc: u32,
    /// Whether the body's header area is valid and the one that the header names.
    pub body_ok: bool,
    /// Whether the payload is valid; only asked behind K.
    pub payload_ok: bool,
}

/// What to do with one chunk, or a run of chunks, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// The chunk is whole in its headers: by its place in the list that was given.
    Keep { seen: usize },
    /// The journal header is valid, the descriptions are lost.
    Descriptions { seen: usize },
    /// Nothing is left of these chunks.
    Lost {
        chunks: (ChunkNumber, ChunkNumber),
        positions: Option<(Position, Position)>,
        /// Where the chunk in front of them ends; `None` at the beginning.
        after: Option<Place>,
        /// Where the chunk behind them starts; `None` at the tail.
        before: Option<Place>,
        /// Whether the next chunk tells what its session expects.
        stream_known: bool,
    },
}

/// Where the tail is, and what is in front of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Decision {
    /// The last chunk known to be committed.
    pub committed: ChunkNumber,
    /// What to do, in order.
    pub verdicts: Vec<Verdict>,
    /// From where the journal goes on. Its epoch is the largest seen anywhere.
    pub tail: TailMark,
    /// Where the next chunk could stand: right behind the last one, if that is whole and in its segment.
    pub append_at: Option<Place>,
    /// Whether it is known what the newest session expects.
    pub stream_known: bool,
    /// The largest session seen anywhere: none up to it is granted again.
    pub burnt: Session,
    /// Valid headers behind the cut that belong to dropped chunks.
    pub dropped: usize,
}

/// K.
pub(crate) fn committed(seen: &[Seen], marks: &[TailMark]) -> ChunkNumber {
    let by_headers = seen.iter().map(|s| s.header.committed);
    by_headers.chain(marks.iter().map(TailMark::last_chunk)).max().unwrap_or(ChunkNumber::new(0))
}

/// What is known in front of the chunk that is looked for.
#[expect(clippy::struct_excessive_bools, reason = "four things that are known, or not, each on its own")]
#[derive(Clone, Copy)]
struct Expected {
    mark: TailMark,
    /// Whether `mark.previous` is known, so that the chain can be followed.
    chained: bool,
    /// Whether `mark.next_position` is exact.
    positioned: bool,
    after: Option<Place>,
    /// Whether the next chunk may stand at `after`.
    appendable: bool,
    stream_known: bool,
}

/// Decides. `marks` are those of the superblock and of the segments' own headers; `from` is the tail in front of the first
/// chunk that was looked for.
pub(crate) fn decide(from: &TailMark, seen: &[Seen], marks: &[TailMark]) -> Decision {
    let committed = committed(seen, marks);
    let mut by_number: Vec<usize> = (0..seen.len()).collect();
    by_number.sort_by_key(|i| seen[*i].header.number);
    let search = Search { seen, marks, by_number, committed, newer: Newer::of(seen) };
    let mut verdicts = Vec::new();
    let mut at =
        Expected { mark: *from, chained: true, positioned: true, after: None, appendable: false, stream_known: true };
    loop {
        search.anchor(&mut at);
        if let Some(i) = search.pick(&at) {
            verdicts.push(if seen[i].body_ok { Verdict::Keep { seen: i } } else { Verdict::Descriptions { seen: i } });
            at = search.behind(i);
        } else if at.mark.next_chunk <= committed {
            let (verdict, next) = search.lost(&at);
            verdicts.push(verdict);
            at = next;
        } else {
            break;
        }
    }
    let epochs = seen.iter().map(|s| s.header.epoch).chain(marks.iter().map(|m| m.epoch));
    let epoch = epochs.chain([from.epoch]).max();
    // Labels never step back, whatever was dropped; before the first chunk there is the time of creation.
    let label = marks.iter().map(|m| m.label).max();
    let burnt =
        seen.iter().map(|s| &s.header.streams).chain(marks.iter().map(|m| &m.streams)).map(Streams::newest).max();
    let dropped = search.segment_chunks_from(at.mark.next_chunk, at.mark.epoch);
    let tail = TailMark {
        epoch: epoch.unwrap_or(JournalEpoch::new(0)),
        label: at.mark.label.max(label.unwrap_or(Label::from_nanos(0))),
        ..at.mark
    };
    Decision {
        committed,
        verdicts,
        tail,
        append_at: at.after.filter(|_| at.appendable),
        stream_known: at.stream_known,
        burnt: burnt.unwrap_or(Session::new(0)),
        dropped,
    }
}

/// Of every epoch the smallest number, and the first place, that any header of a newer one has.
///
/// An epoch begins behind everything that was kept of the ones before it. So a chunk that a newer epoch's has beside it
/// or in front of it, by number or by place, was cut: it lay behind a hole. Where rot takes the chunks that were written
/// at the cut, it must not be taken for what comes next.
struct Newer(BTreeMap<JournalEpoch, (ChunkNumber, Place)>);

impl Newer {
    fn of(seen: &[Seen]) -> Self {
        let mut first: BTreeMap<JournalEpoch, (ChunkNumber, Place)> = BTreeMap::new();
        for Seen { header, place, .. } in seen {
            let (number, at) = first.entry(header.epoch).or_insert((header.number, *place));
            (*number, *at) = (header.number.min(*number), (*place).min(*at));
        }
        let mut least: Option<(ChunkNumber, Place)> = None;
        for (number, at) in first.values_mut().rev() {
            let (n, p) = least.map_or((*number, *at), |(n, p)| (n.min(*number), p.min(*at)));
            (*number, *at) = (n, p);
            least = Some((n, p));
        }
        Self(first)
    }

    fn refutes(&self, seen: &Seen) -> bool {
        let newer = self.0.range((Bound::Excluded(seen.header.epoch), Bound::Unbounded)).next();
        newer.is_some_and(|(_, (number, place))| *number <= seen.header.number || *place <= seen.place)
    }
}

struct Search<'a> {
    seen: &'a [Seen],
    marks: &'a [TailMark],
    by_number: Vec<usize>,
    committed: ChunkNumber,
    newer: Newer,
}

impl Search<'_> {
    fn numbered(&self, number: ChunkNumber) -> &[usize] {
        let first = self.by_number.partition_point(|i| self.seen[*i].header.number < number);
        let last = self.by_number.partition_point(|i| self.seen[*i].header.number <= number);
        &self.by_number[first..last]
    }

    /// Fills in what a mark knows about the place that we are at, where damage in front left it open.
    fn anchor(&self, at: &mut Expected) {
        if at.chained {
            return;
        }
        let fits = |m: &&TailMark| m.next_chunk == at.mark.next_chunk && m.next_position == at.mark.next_position;
        let here = self.marks.iter().filter(fits).max_by_key(|m| m.epoch);
        if let Some(mark) = here {
            at.mark = *mark;
            (at.chained, at.positioned, at.stream_known) = (true, true, true);
        }
    }

    /// Whether a chunk may stand here at all, chain aside: behind K only a whole one in its segment does.
    fn valid(&self, seen: &Seen) -> bool {
        let durable = seen.header.number <= self.committed;
        (durable || (seen.witness == Witness::Segment && seen.body_ok && seen.payload_ok)) && !self.newer.refutes(seen)
    }

    fn follows(at: &Expected, seen: &Seen) -> bool {
        let header = &seen.header;
        let position = header.first_position;
        header.epoch >= at.mark.epoch
            && (!at.chained || header.previous == at.mark.previous)
            && if at.positioned { position == at.mark.next_position } else { position >= at.mark.next_position }
    }

    /// The chunk that comes next: whole before damaged, in its segment before in the footer, newer before stale.
    fn pick(&self, at: &Expected) -> Option<usize> {
        self.numbered(at.mark.next_chunk)
            .iter()
            .copied()
            .filter(|i| self.valid(&self.seen[*i]) && Self::follows(at, &self.seen[*i]))
            .max_by_key(|i| {
                let seen = &self.seen[*i];
                (seen.header.epoch, seen.body_ok, seen.witness == Witness::Segment)
            })
    }

    fn behind(&self, i: usize) -> Expected {
        let Seen { witness, place, header, crc, body_ok, .. } = self.seen[i];
        Expected {
            mark: TailMark {
                epoch: header.epoch,
                next_chunk: header.number.next(),
                next_position: header.next_position,
                previous: crc,
                streams: header.streams,
                label: header.label,
            },
            chained: true,
            positioned: true,
            after: Some(Place { segment: place.segment, offset: place.offset + header.disk_bytes() }),
            appendable: witness == Witness::Segment && body_ok,
            stream_known: true,
        }
    }

    /// Nothing valid is here, and it was committed once: the next place that is known.
    fn lost(&self, at: &Expected) -> (Verdict, Expected) {
        let mark = &at.mark;
        let acceptable = self.by_number.iter().map(|i| &self.seen[*i]).filter(|seen| {
            let header = &seen.header;
            // Never past the first chunk behind K: if that is not valid, nothing behind it counts.
            header.number > mark.next_chunk
                && header.number <= self.committed.next()
                && header.epoch >= mark.epoch
                && header.first_position >= mark.next_position
                && self.valid(seen)
        });
        // The next number there is; of several chunks with it the newest, the others are stale.
        let chunk = acceptable.min_by_key(|seen| (seen.header.number, Reverse(seen.header.epoch)));
        let ahead = |m: &&TailMark| m.next_chunk > mark.next_chunk && m.next_position >= mark.next_position;
        let anchor = self.marks.iter().filter(ahead).min_by_key(|m| m.next_chunk);
        let by_anchor = anchor.filter(|m| chunk.is_none_or(|c| m.next_chunk <= c.header.number));
        let mut next = Expected { chained: false, appendable: false, ..*at };
        let mut before = None;
        if let Some(anchor) = by_anchor {
            next.mark = *anchor;
            (next.chained, next.positioned, next.stream_known) = (true, true, true);
        } else if let Some(chunk) = chunk {
            next.mark.next_chunk = chunk.header.number;
            next.mark.next_position = chunk.header.first_position;
            (next.positioned, next.stream_known) = (true, true);
            before = Some(chunk.place);
        } else {
            // K is known only from a header behind it that is not valid itself. Its position is behind K's.
            let known = self.by_number.iter().map(|i| &self.seen[*i].header).filter(|h| h.number > self.committed);
            let position = known.map(|h| h.first_position).max();
            next.mark.next_chunk = self.committed.next();
            next.mark.next_position = position.unwrap_or(mark.next_position).max(mark.next_position);
            (next.positioned, next.stream_known) = (true, false);
        }
        let last = next.mark.next_position.previous().filter(|last| *last >= mark.next_position);
        let verdict = Verdict::Lost {
            chunks: (mark.next_chunk, ChunkNumber::new(next.mark.next_chunk.get() - 1)),
            positions: last.map(|last| (mark.next_position, last)),
            after: at.after,
            before,
            stream_known: next.stream_known,
        };
        (verdict, next)
    }

    fn segment_chunks_from(&self, number: ChunkNumber, epoch: JournalEpoch) -> usize {
        let first = self.by_number.partition_point(|i| self.seen[*i].header.number < number);
        self.by_number[first..]
            .iter()
            .filter(|i| self.seen[**i].witness == Witness::Segment && self.seen[**i].header.epoch >= epoch)
            .count()
    }
}

#[cfg(test)]
mod tests;
