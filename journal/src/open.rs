//! Opening a journal: what is on disk becomes state.
//!
//! Owns the steps of recovery in their order (PROTOCOL R26): read both superblocks, scan, decide, replay, name what
//! is damaged; for a writer, sync what is kept, cut, and begin an epoch with a durable RECOVERY record before
//! anybody is answered.

use crate::base_lost;
use crate::checkpoints::{self, From, Start};
use crate::chunks::Chunk;
use crate::compacted;
use crate::device::{Access, Disk};
use crate::error::JournalError;
use crate::footer;
use crate::grid;
use crate::index::{RunIndex, Shelf, normalise};
use crate::mark::TailMark;
use crate::notes::Notes;
use crate::place::{BASE_LOST, GRID, Place, RESTORE, SEGMENTS, STATE, SegmentNumber, UNFINISHED};
use crate::recovery::{self, Damage, DamageKind, Decision, Seen, Verdict, Witness};
use crate::scan::{self, Depth, RecordDamage, Scan, Sighting};
use crate::segment::FIRST_CHUNK_AT;
use crate::state::State;
use crate::status::RecoveryReport;
use crate::superblock::{self, Slots, Superblock};
use crate::tail;
use record::chunk::{Body, Record};
use record::geometry::{Extent, SECTOR_BYTES};
use record::header::HEADER_BYTES;
use record::ids::{Incarnation, JournalId};
use record::op::Op;
use record::position::{JournalEpoch, Position};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;

/// What was found on disk, and what it means.
#[derive(Debug)]
pub(crate) struct Found {
    pub slots: Slots,
    /// The checkpoints that there are.
    pub checkpoints: Vec<(SegmentNumber, Position)>,
    /// Files in their folder that cannot be read.
    pub unreadable: Vec<String>,
    /// Segments in front of those that were read, and bytes of their files.
    pub in_front: BTreeMap<SegmentNumber, u64>,
    pub scan: Scan,
    pub decision: Decision,
    pub state: State,
    pub alarms: Vec<String>,
}

/// Reads a journal, for its one writer or for a reader. Writes nothing.
pub(crate) fn find(disk: &Arc<dyn Disk>, writes: bool) -> Result<Found, JournalError> {
    find_deep(disk.as_ref(), Depth::Recovery, |id| RunIndex::on(Shelf::new(disk.clone(), id, writes)))
}

/// How often whoever only reads begins anew when the one writer gives segments back meanwhile.
const TRIES: usize = 4;

/// Reads a journal, as deeply as asked. Writes nothing.
pub(crate) fn find_deep(
    disk: &dyn Disk,
    depth: Depth,
    index: impl Fn(JournalId) -> RunIndex,
) -> Result<Found, JournalError> {
    let first = || superblock::load(disk).map(|slots| slots.current.retained.first_segment);
    let mut before = first()?;
    for _ in 1..TRIES {
        let found = find_once(disk, depth, &index);
        let now = first()?;
        if now == before {
            return found;
        }
        before = now;
    }
    find_once(disk, depth, &index)
}

fn find_once(disk: &dyn Disk, depth: Depth, index: &impl Fn(JournalId) -> RunIndex) -> Result<Found, JournalError> {
    let slots = superblock::load(disk)?;
    let superblock = &slots.current;
    let in_front = match depth {
        Depth::Recovery => whole_in_front(disk, superblock)?,
        Depth::Everything => None,
    };
    let from = if in_front.is_some() { From::Newest } else { From::Oldest };
    let read = |from| {
        let start = checkpoints::start(disk, superblock, from, || index(superblock.journal))?;
        let scan = scan::scan(disk, superblock, depth, start.segment, &start.mark)?;
        Ok::<_, JournalError>((start, scan))
    };
    let (mut start, mut scan) = read(from)?;
    if from == From::Newest && !start.fits(&scan) {
        (start, scan) = read(From::Oldest)?;
    }
    let Start { segment, mark, mut state, known, unreadable } = start;
    let lacking = base_lost::load(disk, superblock.journal)?;
    let lacking_known = lacking.is_some();
    let all = || state.members.all().filter_map(|m| Extent::whole(m.size).map(|e| (m.incarnation, e))).collect();
    let lacking = lacking.unwrap_or_else(all);
    state.keep(superblock.retained, lacking);
    let grid = grid::load(disk, superblock.journal)?;
    state.timeline.set_grid(grid.as_deref().unwrap_or_default());
    let marks = scan.marks(superblock);
    let committed = recovery::committed(&scan.seen(), &marks);
    for sighting in &mut scan.sightings {
        if sighting.seen.header.number > committed && sighting.seen.witness == Witness::Segment {
            sighting.seen.payload_ok = payload_is_whole(disk, sighting);
        }
    }
    let decision = recovery::decide(&mark, &scan.seen(), &marks);
    let mut state = state.replay(&decision, |i| {
        let sighting = &scan.sightings[i];
        let header = sighting.seen.header;
        let chunk = sighting
            .body
            .clone()
            .map(|body| (Chunk { place: sighting.seen.place, header, body }, notes_of(&scan, sighting).clone()));
        (header, chunk)
    });
    for damage in damage(disk, &scan, &decision) {
        state.note_damage(damage);
    }
    let mut alarms = alarms(disk, &scan, &decision);
    if !lacking_known {
        alarms.push(format!(
            "journal {}: the file {BASE_LOST}, which says what the replicas lack, is damaged: whatever was not written since is \
             refused; undisk group resync --full reads it again from the volumes",
            disk.describe()
        ));
    }
    if grid.is_none() {
        alarms.push(format!(
            "journal {}: both copies in the file {GRID}, which says which points older than the window stay, are damaged: these \
             points cannot be opened any more; the window and bookmarks are not concerned",
            disk.describe()
        ));
    }
    let in_front = in_front.unwrap_or_default();
    let in_front = in_front.range(..segment).map(|(number, bytes)| (*number, *bytes)).collect();
    Ok(Found { slots, checkpoints: known, unreadable, in_front, scan, decision, state, alarms })
}

/// The bytes of all segments but the newest, if every one of them is there and as long as the others: otherwise all of
/// them are read, so that what is missing is named.
fn whole_in_front(
    disk: &dyn Disk,
    superblock: &Superblock,
) -> Result<Option<BTreeMap<SegmentNumber, u64>>, JournalError> {
    let mut bytes = BTreeMap::new();
    let numbers = scan::numbers(disk, superblock)?;
    let newest = numbers.last().copied();
    for number in numbers {
        // An ordinary one need not be looked into; there are many.
        let ordinary = disk.open(&number.file(), Access::Read).and_then(|file| file.len());
        let of_one = match ordinary {
            Ok(of_one) if of_one >= superblock.segment_bytes => of_one,
            Ok(_) | Err(_) => {
                let Some(found) = scan::open_segment(disk, number)? else { return Ok(None) };
                let (Ok(of_one), Ok(stored)) = (found.len(), found.stored()) else { return Ok(None) };
                if of_one < superblock.segment_bytes && Some(number) != newest {
                    return Ok(None);
                }
                stored
            }
        };
        bytes.insert(number, of_one);
    }
    bytes.pop_last();
    Ok(Some(bytes))
}

fn payload_is_whole(disk: &dyn Disk, sighting: &Sighting) -> bool {
    let Some(body) = &sighting.body else { return false };
    let place = sighting.seen.place;
    compacted::open(disk, place.segment)
        .and_then(|file| scan::payload_damage(file.as_ref(), place, body))
        .is_ok_and(|damage| damage.is_empty())
}

/// A chunk's notes: its own, or where they are damaged, the footer's.
fn notes_of<'a>(scan: &'a Scan, sighting: &'a Sighting) -> &'a Notes {
    let complete = |s: &Sighting| s.body.as_ref().is_some_and(|body| s.notes.complete_for(body));
    if complete(sighting) {
        return &sighting.notes;
    }
    let twin = scan.sightings.iter().find(|other| {
        other.seen.crc == sighting.seen.crc && other.seen.header == sighting.seen.header && complete(other)
    });
    twin.map_or(&sighting.notes, |twin| &twin.notes)
}

impl Found {
    /// What a person is told of it.
    pub(crate) fn report(&self) -> RecoveryReport {
        let tail = &self.decision.tail;
        let mark = &self.slots.current.mark;
        let (damage, _) = self.state.damage();
        RecoveryReport {
            clean: self.slots.current.clean
                && mark.next_chunk == tail.next_chunk
                && self.decision.dropped == 0
                && damage.is_empty(),
            epoch: tail.epoch,
            recovered: tail.next_position.previous().unwrap_or(Position::ORIGIN),
            cut: self.decision.append_at.filter(|_| self.decision.dropped > 0),
            committed: self.decision.committed,
            damage: damage.to_vec(),
            alarms: self.alarms.clone(),
            discarded_restore_maps: Vec::new(),
        }
    }

    /// From where a writer goes on, in an epoch above every one ever stored.
    pub(crate) fn tail(&self) -> tail::Found {
        let epoch = JournalEpoch::new(self.decision.tail.epoch.get() + 1);
        let newest = self.scan.segments.iter().map(|s| s.number).max().unwrap_or(SegmentNumber::new(0));
        let read = self.scan.segments.iter().filter(|s| s.file_bytes.is_some());
        let mut files = self.in_front.clone();
        files.extend(read.map(|segment| (segment.number, segment.stored_bytes)));
        let (segments, bytes) = (files.len() as u64, files.values().sum());
        files.retain(|_, bytes| *bytes < self.slots.current.segment_bytes);
        tail::Found { mark: TailMark { epoch, ..self.decision.tail }, newest, segments, bytes, compacted: files }
    }

    /// Where the next chunk goes: the place, and the bytes that its segment has by its own header. `None` when a
    /// new segment is needed: the newest is damaged where we would write, and what is damaged is left as it is.
    pub(crate) fn append_at(&self) -> Option<(Place, u64)> {
        let newest = self.scan.segments.last()?;
        let header = newest.header.as_ref().ok()?;
        // One that was cut short by hand stays as it is.
        newest.file_bytes.filter(|bytes| *bytes >= header.bytes)?;
        let tail = &self.decision.tail;
        let fresh = header.mark.next_chunk == tail.next_chunk && header.mark.previous == tail.previous;
        let place = if fresh {
            Place { segment: newest.number, offset: FIRST_CHUNK_AT }
        } else {
            self.decision.append_at.filter(|place| place.segment == newest.number)?
        };
        (place.offset <= header.bytes).then_some((place, header.bytes))
    }

    /// The footer of a segment that goes on: what is kept of it.
    pub(crate) fn footer_of(&self, segment: SegmentNumber) -> footer::Collecting {
        let mut footer = footer::Collecting::new();
        for verdict in &self.decision.verdicts {
            let (Verdict::Keep { seen } | Verdict::Descriptions { seen }) = verdict else { continue };
            let sighting = &self.scan.sightings[*seen];
            let Seen { place, header, crc, .. } = sighting.seen;
            match &sighting.body {
                _ if place.segment != segment => {}
                Some(body) => {
                    let notes = notes_of(&self.scan, sighting).clone();
                    footer.push(place.offset, &header, crc, body, &notes);
                }
                None => footer.lacks_one(),
            }
        }
        footer
    }
}

/// Waits until nothing of a killed process's is under way to where recovery looks first: a newer segment is made only
/// when everything in the one before is durable, so it can only be the newest.
pub(crate) fn wait_for_writers(disk: &dyn Disk) -> Result<(), JournalError> {
    let failed = |doing: String, source| JournalError::Io { journal: disk.describe(), doing, source };
    let names = match disk.list(SEGMENTS) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(failed("list segments".into(), source)),
    };
    let mut numbers: Vec<SegmentNumber> = names.iter().filter_map(|name| SegmentNumber::of_file(name)).collect();
    numbers.sort_unstable();
    for number in numbers.iter().rev().take(2) {
        let waited = disk.wait_for_writers(&number.file());
        waited.map_err(|source| failed(format!("wait for writers of segment {number}"), source))?;
    }
    Ok(())
}

/// Removes what a crash left unfinished.
pub(crate) fn remove_unfinished(disk: &dyn Disk) -> Result<(), JournalError> {
    for folder in ["", SEGMENTS, RESTORE, STATE] {
        let names = match disk.list(folder) {
            Ok(names) => names,
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            Err(source) => {
                return Err(JournalError::Io { journal: disk.describe(), doing: format!("list {folder}"), source });
            }
        };
        for name in names.into_iter().filter(|name| name.ends_with(UNFINISHED)) {
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            disk.remove(&path).map_err(|source| JournalError::Io {
                journal: disk.describe(),
                doing: format!("remove unfinished {path}"),
                source,
            })?;
        }
    }
    Ok(())
}

/// Removes what was given back and still has its name, since a crash came between.
pub(crate) fn remove_given_back(disk: &dyn Disk, superblock: &Superblock) -> Result<(), JournalError> {
    let first = superblock.retained.first_segment;
    let gone = |names: Vec<String>| {
        names.into_iter().filter_map(|name| SegmentNumber::of_file(&name)).filter(move |n| *n < first)
    };
    let removed = disk.list(SEGMENTS).and_then(|names| gone(names).try_for_each(|number| disk.remove(&number.file())));
    removed.or_else(|source| match source.kind() {
        ErrorKind::NotFound => Ok(()),
        _ => Err(JournalError::Io {
            journal: disk.describe(),
            doing: "remove segments that were given back".into(),
            source,
        }),
    })
}

/// Makes everything that is kept durable: what a killed process wrote may lie in the drive's cache only, and the name
/// that it gave a file in memory only.
pub(crate) fn sync_kept(disk: &dyn Disk, scan: &Scan) -> Result<(), JournalError> {
    let failed = |doing: String, source| JournalError::Io { journal: disk.describe(), doing, source };
    // Before a segment is made, everything in the one before is durable; the newest two cover every crash.
    for segment in scan.segments.iter().rev().filter(|s| s.file_bytes.is_some()).take(2) {
        let file = disk.open(&segment.number.file(), Access::Durable).and_then(|file| file.sync());
        file.map_err(|source| failed(format!("sync segment {}", segment.number), source))?;
    }
    for folder in ["", SEGMENTS, RESTORE] {
        match disk.sync_folder(folder) {
            Err(source) if source.kind() != ErrorKind::NotFound => {
                return Err(failed(format!("sync folder {folder}"), source));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

// ---- naming damage

fn damage(disk: &dyn Disk, scan: &Scan, decision: &Decision) -> Vec<Damage> {
    let mut all: Vec<Damage> = Vec::new();
    for verdict in &decision.verdicts {
        let found = match verdict {
            Verdict::Keep { seen } => kept_damage(disk, scan, &scan.sightings[*seen]),
            Verdict::Descriptions { seen } => {
                let sighting = &scan.sightings[*seen];
                let header = &sighting.seen.header;
                let place = sighting.seen.place;
                Some(Damage {
                    place: Place { offset: place.offset + HEADER_BYTES as u64, ..place },
                    bytes: u64::from(header.body_header_len),
                    kind: DamageKind::ChunkHeader,
                    positions: header.next_position.previous().map(|last| (header.first_position, last)),
                    extents: Vec::new(),
                    extents_known: false,
                    note_lost: false,
                })
            }
            Verdict::Lost { positions, after, before, chunks, .. } => {
                Some(lost_damage(scan, chunks.0.get(), *positions, *after, *before))
            }
        };
        if let Some(found) = found {
            match all.last_mut() {
                Some(last) if joins(last, &found) => {
                    last.bytes += found.bytes;
                    if let (Some((_, end)), Some((_, last_end))) = (found.positions, &mut last.positions) {
                        *last_end = end;
                    }
                    last.extents.extend(found.extents);
                    last.note_lost |= found.note_lost;
                }
                Some(_) | None => all.push(found),
            }
        }
    }
    for damage in &mut all {
        damage.extents = by_volume(std::mem::take(&mut damage.extents));
    }
    all
}

/// Whether both are chunks of one lost or cut segment, so that one line tells of both.
fn joins(last: &Damage, next: &Damage) -> bool {
    match next.kind {
        DamageKind::SegmentMissing | DamageKind::SegmentTruncated => {
            last.kind == next.kind
                && last.place.segment == next.place.segment
                && last.extents_known
                && next.extents_known
                && last.positions.is_some()
        }
        DamageKind::ChunkHeader | DamageKind::Payload => false,
    }
}

/// What is damaged of a chunk whose headers are known.
fn kept_damage(disk: &dyn Disk, scan: &Scan, sighting: &Sighting) -> Option<Damage> {
    let body = sighting.body.as_ref()?;
    let header = &sighting.seen.header;
    let place = sighting.seen.place;
    if sighting.seen.witness == Witness::Segment && sighting.notes.complete_for(body) {
        return None;
    }
    let notes = notes_of(scan, sighting);
    let lost_ops: Vec<Op> = notes.missing_from(body).map(|record| record.descriptor.op).collect();
    let segment = scan.segment(place.segment).and_then(|s| s.file_bytes);
    let kind = match (segment, sighting.seen.witness) {
        (None, _) => DamageKind::SegmentMissing,
        (Some(bytes), _) if bytes < place.offset + header.disk_bytes() => DamageKind::SegmentTruncated,
        (Some(_), Witness::Segment) => DamageKind::Payload,
        (Some(_), Witness::Footer) => DamageKind::ChunkHeader,
    };
    let read = compacted::open(disk, place.segment).and_then(|file| scan::payload_damage(file.as_ref(), place, body));
    let of_payload = payload_damage(place, header.first_position, body, read);
    let extents = of_payload.as_ref().map_or_else(Vec::new, |damage| damage.extents.clone());
    // Where a rollback went is lost: from there on nothing older can be shown.
    let extents_known = !lost_ops.contains(&Op::Rollback);
    let note_lost = !lost_ops.is_empty();
    match of_payload {
        Some(damage) if kind == DamageKind::Payload => Some(Damage { extents_known, note_lost, ..damage }),
        Some(_) | None => {
            let positions = header.next_position.previous().map(|last| (header.first_position, last));
            Some(Damage { place, bytes: header.disk_bytes(), kind, positions, extents, extents_known, note_lost })
        }
    }
}

/// What of a chunk's payload is damaged, as it was read. `position`: of its first record.
pub(crate) fn payload_damage(
    place: Place,
    position: Position,
    body: &Body,
    read: std::io::Result<Vec<RecordDamage>>,
) -> Option<Damage> {
    let header = &body.header;
    let payload_at = place.offset + HEADER_BYTES as u64 + u64::from(header.header_len);
    let at = |record: usize| position.plus(record as u64);
    let Ok(records) = read else {
        return Some(Damage {
            place: Place { offset: payload_at, ..place },
            bytes: u64::from(header.payload_len),
            kind: DamageKind::Payload,
            positions: position.plus(u64::from(header.records)).previous().map(|last| (position, last)),
            extents: by_volume(body.records.iter().filter_map(written_extent).collect()),
            extents_known: true,
            note_lost: false,
        });
    };
    let (first, last) = (records.first()?, records.last()?);
    let start = u64::from(body.records[first.record].descriptor.payload_offset)
        + first.ranges.first().map_or(0, |range| range.start as u64);
    let extents = records.iter().flat_map(|d| damaged_extents(&body.records[d.record], &d.ranges));
    Some(Damage {
        place: Place { offset: payload_at + start, ..place },
        bytes: records.iter().flat_map(|d| &d.ranges).map(|range| range.len() as u64).sum(),
        kind: DamageKind::Payload,
        positions: Some((at(first.record), at(last.record))),
        extents: by_volume(extents.collect()),
        extents_known: true,
        note_lost: false,
    })
}

/// What is known of chunks of which nothing is left.
fn lost_damage(
    scan: &Scan,
    first_chunk: u64,
    positions: Option<(Position, Position)>,
    after: Option<Place>,
    before: Option<Place>,
) -> Damage {
    let after = after.unwrap_or(Place { segment: SegmentNumber::FIRST, offset: FIRST_CHUNK_AT });
    let last = before.map_or_else(|| scan.segments.last().map_or(after.segment, |s| s.number), |b| b.segment);
    let between = |s: &&scan::SegmentSeen| (after.segment..=last).contains(&s.number);
    let missing = scan.segments.iter().filter(between).find(|s| s.file_bytes.is_none());
    // The first lost chunk may have been the first of a later segment.
    let starts =
        scan.segments.iter().filter(between).find(|s| {
            s.number > after.segment && s.header.as_ref().is_ok_and(|h| h.mark.next_chunk.get() == first_chunk)
        });
    let (place, bytes, kind) = if let Some(missing) = missing {
        (Place { segment: missing.number, offset: 0 }, 0, DamageKind::SegmentMissing)
    } else {
        let place = starts.map_or(after, |s| Place { segment: s.number, offset: FIRST_CHUNK_AT });
        let bytes = before.filter(|b| b.segment == place.segment).map_or(0, |b| b.offset - place.offset);
        let segment = scan.segment(place.segment);
        let file_bytes = segment.and_then(|s| s.file_bytes).unwrap_or(0);
        let whole = segment.and_then(|s| s.header.as_ref().ok()).map_or(0, |h| h.bytes);
        let truncated = file_bytes < whole || file_bytes <= place.offset;
        let kind = if truncated { DamageKind::SegmentTruncated } else { DamageKind::ChunkHeader };
        (place, bytes, kind)
    };
    Damage { place, bytes, kind, positions, extents: Vec::new(), extents_known: positions.is_none(), note_lost: false }
}

/// The extent of a record whose content is its payload.
fn written_extent(record: &Record) -> Option<(Incarnation, Extent)> {
    let descriptor = &record.descriptor;
    descriptor.extent.filter(|_| descriptor.op == Op::Write).map(|extent| (descriptor.volume, extent))
}

/// The sectors of a record whose payload is damaged in these byte ranges.
pub(crate) fn damaged_extents(record: &Record, ranges: &[std::ops::Range<usize>]) -> Vec<(Incarnation, Extent)> {
    let Some((volume, extent)) = written_extent(record) else { return Vec::new() };
    let sector = |bytes: usize| extent.start().index() + bytes as u64 / SECTOR_BYTES;
    ranges.iter().filter_map(|r| Some((volume, Extent::between(sector(r.start), sector(r.end))?))).collect()
}

/// By volume, in address order, overlapping ones joined.
pub(crate) fn by_volume(mut extents: Vec<(Incarnation, Extent)>) -> Vec<(Incarnation, Extent)> {
    extents.sort_unstable_by_key(|(volume, extent)| (*volume, extent.start()));
    let mut out = Vec::with_capacity(extents.len());
    for group in extents.chunk_by(|a, b| a.0 == b.0) {
        let volume = group[0].0;
        out.extend(normalise(group.iter().map(|(_, e)| *e).collect()).into_iter().map(|e| (volume, e)));
    }
    out
}

/// What must not be on honest hardware: something that was durable is not there, and not even damaged.
fn alarms(disk: &dyn Disk, scan: &Scan, decision: &Decision) -> Vec<String> {
    let tail = &decision.tail;
    let kept_epoch = decision.verdicts.iter().rev().find_map(|verdict| match verdict {
        Verdict::Keep { seen } | Verdict::Descriptions { seen } => Some(scan.sightings[*seen].seen.header.epoch),
        Verdict::Lost { .. } => None,
    });
    let gone = scan.sightings.iter().map(|s| &s.seen).filter(|seen| {
        seen.witness == Witness::Footer
            && seen.header.number >= tail.next_chunk
            && kept_epoch.is_none_or(|epoch| seen.header.epoch >= epoch)
    });
    let last = gone.map(|seen| seen.header.next_position).max();
    last.and_then(Position::previous)
        .filter(|last| *last >= tail.next_position)
        .map(|last| {
            format!(
                "journal {}: records up to seq:{last} were durable, the newest that can be read is seq:{}; what the \
                 splitter still has is sent again, otherwise the group needs a resynchronisation",
                disk.describe(),
                tail.next_position.previous().unwrap_or(Position::ORIGIN)
            )
        })
        .into_iter()
        .collect()
}
