//! Bytes of the journal that go bad while nobody looks.
//!
//! Owns finding a chunk of a splitter's records on the journal's disk and changing a bit of it: of the newest chunk,
//! which nobody has called committed yet, so that the outbox still has it; or of what an older one holds, which has to be
//! named and confined. Anything else that may rot is the business of the journal's own tests.

use crate::dice::Dice;
use crate::world::JOURNAL;
use journal::place::SegmentNumber;
use kit::SimDisk;
use record::chunk::Body;
use record::header::{ChunkHeader, HEADER_BYTES};
use record::op::Op;

/// What went bad.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rotten {
    /// The newest chunk.
    Newest,
    /// What a host wrote, in a chunk that was committed long ago.
    Content,
}

struct Found {
    file: String,
    at: usize,
    header: ChunkHeader,
    body: Body,
}

/// Spoils something, if there is something to spoil.
pub fn spoil(disk: &SimDisk, dice: &Dice, what: Rotten) -> bool {
    let chunks = chunks(disk);
    let chosen = match what {
        Rotten::Newest => chunks.last(),
        // The last few may be of one write with the newest.
        Rotten::Content => chunks.len().checked_sub(8).filter(|old| *old > 0).map(|old| &chunks[dice.index(old)]),
    };
    let Some(chunk) = chosen.filter(|chunk| chunk.body.header.session.get() > 0) else { return false };
    let area = chunk.at + HEADER_BYTES;
    let at = match what {
        Rotten::Newest => area + dice.index(usize::try_from(chunk.header.disk_bytes()).unwrap_or(1) - HEADER_BYTES),
        Rotten::Content => {
            let written: Vec<_> =
                chunk.body.records.iter().map(|r| &r.descriptor).filter(|d| d.op == Op::Write).collect();
            if written.is_empty() {
                return false;
            }
            let descriptor = dice.pick(&written);
            let payload = area + chunk.header.body_header_len as usize;
            payload + descriptor.payload_offset as usize + dice.index(descriptor.payload_bytes.max(1) as usize)
        }
    };
    disk.flip(&chunk.file, at, 1 << dice.below(8));
    true
}

/// All chunks in their order.
fn chunks(disk: &SimDisk) -> Vec<Found> {
    let names = disk.names();
    let mut found: Vec<Found> = Vec::new();
    for number in 1.. {
        let file = SegmentNumber::new(number).file();
        if !names.contains(&file) {
            return found;
        }
        let bytes = disk.content(&file);
        let mut at = HEADER_BYTES;
        while let Some(head) = bytes.get(at..at + HEADER_BYTES) {
            let Some((header, _)) = ChunkHeader::decode(head, JOURNAL) else { break };
            // Behind a cut, what was cut may still lie there.
            if found.last().is_some_and(|last| last.header.number.next() != header.number) {
                break;
            }
            let body_at = at + HEADER_BYTES;
            let area = bytes.get(body_at..body_at + header.body_header_len as usize).unwrap_or_default();
            let Ok(body) = Body::decode(area, JOURNAL) else { break };
            let next = at + usize::try_from(header.disk_bytes()).unwrap_or(usize::MAX);
            found.push(Found { file: file.clone(), at, header, body });
            at = next;
        }
    }
    found
}
