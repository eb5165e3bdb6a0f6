//! Reading a whole journal, with or without a daemon, and telling what of it is damaged.
//!
//! Owns the findings. Never writes.

use crate::compacted;
use crate::device::{Access, Disk, RealDisk};
use crate::error::JournalError;
use crate::index::RunIndex;
use crate::open::{self, Found};
use crate::place::{SEGMENTS, SUPERBLOCK, SegmentNumber, UNDO, UNFINISHED};
use crate::recovery::{Damage, DamageKind, Verdict};
use crate::restore;
use crate::scan::{self, Depth, FooterSeen, Window};
use crate::segment::SegmentHeaderError;
use crate::state::State;
use crate::status::OpCounts;
use crate::superblock;
use crate::undo::verify::Rotten;
use record::geometry::{BLOCK_BYTES, Extent};
use record::header::HEADER_BYTES;
use record::ids::{GroupId, Incarnation, JournalId};
use record::position::Position;
use std::path::Path;

/// What a verification found.
#[derive(Clone, Debug)]
pub struct VerifyReport {
    /// The journal.
    pub journal: JournalId,
    /// Its group.
    pub group: GroupId,
    /// The group's name.
    pub group_name: String,
    /// Segment files read.
    pub segments: u64,
    /// The number of the newest segment; 0 for none.
    pub newest_segment: u32,
    /// Chunks read.
    pub chunks: u64,
    /// Records in them.
    pub records: u64,
    /// Bytes of payload whose checksums were computed.
    pub payload_bytes: u64,
    /// The newest position.
    pub head: Position,
    /// Records of each kind.
    pub counts: OpCounts,
    /// What is wrong, in order of place.
    pub findings: Vec<Finding>,
}

impl VerifyReport {
    /// Whether something is damaged (notes do not count).
    pub fn is_damaged(&self) -> bool {
        self.findings.iter().any(|f| f.severity == Severity::Damage)
    }
}

/// One thing that a verification found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// What.
    pub kind: FindingKind,
    /// The file, relative to the journal's directory.
    pub file: String,
    /// Byte offset in it.
    pub offset: u64,
    /// Bytes concerned; 0 when that is not known.
    pub bytes: u64,
    /// First and last position concerned; `None` when none is.
    pub positions: Option<(Position, Position)>,
    /// The extents whose content at these positions is refused, with the volume's name (empty when unknown).
    pub extents: Vec<(String, Incarnation, Extent)>,
    /// Whether `extents` is all of it. If not, images refuse every sector that was not written again since.
    pub extents_known: bool,
    /// One line for a person: what is wrong, and what is still good.
    pub message: String,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Nothing is lost: an unfinished write at the tail, a copy that can be made again.
    Note,
    /// Something is damaged.
    Damage,
}

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingKind {
    /// One of the two superblock copies.
    Superblock,
    /// A segment's file is not there.
    SegmentMissing,
    /// A segment's file is shorter than its chunks.
    SegmentTruncated,
    /// A segment's own header.
    SegmentHeader,
    /// A chunk's header, or the descriptions of its records.
    ChunkHeader,
    /// A payload.
    Payload,
    /// A segment's footer.
    Footer,
    /// A restore map.
    RestoreMap,
    /// What a replica held before something newer was brought to it.
    Undo,
    /// A checkpoint of the state.
    Checkpoint,
    /// An unfinished write at the tail: torn by a crash, or under way.
    Tail,
    /// A file that belongs to another journal, or to none.
    Foreign,
}

/// Verifies the journal in a directory, whether a daemon has it open or not. `progress` is told bytes done and in
/// all, now and then.
pub fn verify(directory: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, JournalError> {
    verify_disk(&RealDisk::new(directory), progress)
}

/// The same on any disk.
pub fn verify_disk(disk: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, JournalError> {
    let first = |disk| superblock::load(disk).map(|slots| slots.current.retained.first_segment);
    let mut oldest = first(disk)?;
    let mut report = attempt(disk, progress)?;
    // A daemon may append while we read: what looked damaged at the tail may only have been half there. What is
    // really damaged stays so.
    for _ in 0..3 {
        let newest = SegmentNumber::new(report.newest_segment).file();
        let is_damage = |f: &&Finding| f.severity == Severity::Damage;
        let at_tail = report.findings.iter().filter(is_damage).any(|f| f.file == newest);
        // It may have given segments back meanwhile, too.
        let now = first(disk)?;
        if !at_tail && (now == oldest || !report.is_damaged()) {
            break;
        }
        oldest = now;
        let again = attempt(disk, progress)?;
        let same = again.findings == report.findings;
        report = again;
        if same {
            break;
        }
    }
    Ok(report)
}

fn attempt(disk: &dyn Disk, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, JournalError> {
    let found = open::find_deep(disk, Depth::Everything, |_| RunIndex::default())?;
    let superblock = &found.slots.current;
    let state = &found.state;
    let mut findings = Findings { state, all: Vec::new() };
    for (slot, readable) in found.slots.readable.iter().enumerate() {
        if !readable {
            findings.about(
                Severity::Note,
                FindingKind::Superblock,
                SUPERBLOCK,
                (slot * BLOCK_BYTES) as u64,
                BLOCK_BYTES as u64,
                "one copy of the superblock is not readable; the other is good, and the next open writes this one again",
            );
        }
    }
    for file in &found.unreadable {
        let message =
            "this checkpoint is not readable: a restart takes longer; another one, or the segments, say the same";
        findings.about(Severity::Note, FindingKind::Checkpoint, file, 0, 0, message);
    }
    segments(disk, &found, &mut findings);
    for damage in state.damage().0 {
        findings.damage(damage);
    }
    let payload_bytes = payloads(disk, &found, &mut findings, progress);
    restore_maps(disk, &found, &mut findings);
    captured(disk, &found, &mut findings);
    tail(disk, &found, &mut findings);
    let mut all = findings.all;
    all.sort_by(|a, b| (&a.file, a.offset).cmp(&(&b.file, b.offset)));
    Ok(VerifyReport {
        journal: superblock.journal,
        group: superblock.group,
        group_name: superblock.group_name.clone(),
        segments: found.scan.segments.iter().filter(|s| s.file_bytes.is_some()).count() as u64,
        newest_segment: found.scan.segments.last().map_or(0, |s| s.number.get()),
        chunks: state.chunks().len() as u64,
        records: state.timeline.counts().total(),
        payload_bytes,
        head: state.timeline.head().position,
        counts: state.timeline.counts().clone(),
        findings: all,
    })
}

/// Findings as they are collected.
struct Findings<'a> {
    state: &'a State,
    all: Vec<Finding>,
}

impl Findings<'_> {
    fn about(&mut self, severity: Severity, kind: FindingKind, file: &str, offset: u64, bytes: u64, message: &str) {
        self.all.push(Finding {
            severity,
            kind,
            file: file.to_string(),
            offset,
            bytes,
            positions: None,
            extents: Vec::new(),
            extents_known: true,
            message: format!("{file} at byte {offset}: {message}"),
        });
    }

    fn damage(&mut self, damage: &Damage) {
        let (kind, what) = match damage.kind {
            DamageKind::SegmentMissing => (FindingKind::SegmentMissing, "the segment's file is not there"),
            DamageKind::SegmentTruncated => (FindingKind::SegmentTruncated, "the segment's file is cut short"),
            DamageKind::ChunkHeader => (FindingKind::ChunkHeader, "a chunk's header does not match its checksum"),
            DamageKind::Payload => (FindingKind::Payload, "data does not match its checksum"),
        };
        let named = |volume| self.state.members.get(volume).map_or_else(String::new, |m| m.name.clone());
        let extents: Vec<_> = damage.extents.iter().map(|(volume, e)| (named(*volume), *volume, *e)).collect();
        let positions = damage.positions.map_or_else(String::new, |(first, last)| {
            if first == last { format!(" of seq:{first}") } else { format!(" of seq:{first} to seq:{last}") }
        });
        let lost = match (extents.first(), damage.extents_known) {
            (_, false) => "which sectors they wrote is not known, so every sector not written again since is refused \
                           from there on; points before are good"
                .to_string(),
            (None, true) if damage.note_lost => {
                "what a record says beside data (a name, a volume's description) is lost, the data is good".to_string()
            }
            (None, true) => "nothing is lost by it: a second copy names what it held, and the data is good".to_string(),
            (Some((name, _, extent)), true) => {
                let more = if extents.len() == 1 { String::new() } else { format!(" and {} more", extents.len() - 1) };
                format!("volume '{name}', {extent}{more}: images that need these are refused them, all else is good")
            }
        };
        let file = damage.place.segment.file();
        self.all.push(Finding {
            severity: Severity::Damage,
            kind,
            offset: damage.place.offset,
            bytes: damage.bytes,
            positions: damage.positions,
            extents,
            extents_known: damage.extents_known,
            message: format!("{file} at byte {}: {what}{positions}; {lost}", damage.place.offset),
            file,
        });
    }
}

/// What replicas held before.
fn captured(disk: &dyn Disk, found: &Found, findings: &mut Findings<'_>) {
    match crate::undo::verify::rotten(disk, found.slots.current.journal) {
        Ok(rotten) => {
            for Rotten { file, offset, bytes, volume, extent } in rotten {
                let name = findings.state.members.get(volume).map_or_else(String::new, |member| member.name.clone());
                let message = format!(
                    "{file} at byte {offset}: what the replica of volume '{name}' held at {extent} is damaged; points that need \
                     it are refused it, all else is good"
                );
                findings.all.push(Finding {
                    severity: Severity::Damage,
                    kind: FindingKind::Undo,
                    file,
                    offset,
                    bytes,
                    positions: None,
                    extents: vec![(name, volume, extent)],
                    extents_known: true,
                    message,
                });
            }
        }
        Err(error) => {
            let message = format!("what replicas held before cannot be read: {error}");
            findings.about(Severity::Damage, FindingKind::Undo, UNDO, 0, 0, &message);
        }
    }
}

/// Segment headers, footers, files that do not belong here.
fn segments(disk: &dyn Disk, found: &Found, findings: &mut Findings<'_>) {
    for segment in &found.scan.segments {
        let file = segment.number.file();
        if segment.file_bytes.is_some() {
            let complaint = match segment.header {
                Ok(_) => None,
                Err(SegmentHeaderError::Unreadable) => Some((
                    FindingKind::SegmentHeader,
                    "the segment's own header is damaged; its chunks are read without it".to_string(),
                )),
                Err(SegmentHeaderError::OtherJournal(id)) => {
                    Some((FindingKind::Foreign, format!("a segment of another journal ({id}); nothing of it is used")))
                }
                Err(SegmentHeaderError::OtherSegment(number)) => {
                    Some((FindingKind::Foreign, format!("this is the file of {number}, under a wrong name")))
                }
            };
            if let Some((kind, message)) = complaint {
                findings.about(Severity::Damage, kind, &file, 0, BLOCK_BYTES as u64, &message);
            }
        }
        let told = "a restart reads the segment chunk by chunk instead; nothing is lost, but further damage to it may not \
                    be nameable";
        let bytes = segment.file_bytes.unwrap_or(0);
        let (at, what) = match segment.footer {
            FooterSeen::NotNeeded | FooterSeen::Whole => continue,
            FooterSeen::Unreadable => {
                (bytes.saturating_sub(BLOCK_BYTES as u64), "the segment's footer is not readable")
            }
            FooterSeen::Behind(at) => (at, "the segment's footer lacks chunks"),
        };
        if segment.file_bytes.is_some() {
            let length = bytes.saturating_sub(at);
            findings.about(Severity::Note, FindingKind::Footer, &file, at, length, &format!("{what}; {told}"));
        }
    }
    for name in disk.list(SEGMENTS).unwrap_or_default() {
        if SegmentNumber::of_file(&name).is_none() && !name.ends_with(UNFINISHED) {
            let file = format!("{SEGMENTS}/{name}");
            findings.about(
                Severity::Note,
                FindingKind::Foreign,
                &file,
                0,
                0,
                "not a file of this journal; it is not used",
            );
        }
    }
}

/// Every payload of every chunk. Answers with the bytes that were checked.
fn payloads(disk: &dyn Disk, found: &Found, findings: &mut Findings<'_>, progress: &mut dyn FnMut(u64, u64)) -> u64 {
    let state = &found.state;
    let total = state.used_bytes;
    let (mut done, mut checked) = (0, 0);
    for verdict in &found.decision.verdicts {
        let Verdict::Keep { seen } = verdict else { continue };
        let sighting = &found.scan.sightings[*seen];
        let Some(body) = &sighting.body else { continue };
        let (place, header) = (sighting.seen.place, &sighting.seen.header);
        let damage =
            compacted::open(disk, place.segment).and_then(|file| scan::payload_damage(file.as_ref(), place, body));
        checked += body.records.iter().map(|r| u64::from(r.descriptor.payload_bytes)).sum::<u64>();
        // What is named already by the state of its headers is not named again.
        let named = state.damage().0.iter().any(|d| {
            d.extents_known && d.positions.is_some_and(|(first, last)| (first..=last).contains(&header.first_position))
        });
        if !named && let Some(damage) = open::payload_damage(place, header.first_position, body, damage) {
            findings.damage(&damage);
        }
        done += header.disk_bytes();
        progress(done, total);
    }
    checked
}

fn restore_maps(disk: &dyn Disk, found: &Found, findings: &mut Findings<'_>) {
    for (id, map) in restore::load_all(disk, found.slots.current.journal).unwrap_or_default() {
        if map.is_none() {
            findings.about(
                Severity::Damage,
                FindingKind::RestoreMap,
                &restore::file_of(id),
                0,
                0,
                "the restore map is damaged; at the next open all that any rollback changed is restored again",
            );
        }
    }
}

/// An unfinished write at the tail, or something durable that is missing there.
fn tail(disk: &dyn Disk, found: &Found, findings: &mut Findings<'_>) {
    for alarm in &found.alarms {
        let newest = found.scan.segments.last().map_or(SegmentNumber::FIRST, |s| s.number).file();
        let at = found.decision.append_at.map_or(0, |place| place.offset);
        findings.about(Severity::Damage, FindingKind::Tail, &newest, at, 0, alarm);
    }
    let Some(place) = found.decision.append_at else { return };
    let file = place.segment.file();
    let bytes = found.scan.segment(place.segment).and_then(|s| s.file_bytes).unwrap_or(0);
    let torn = disk.open(&file, Access::Read).is_ok_and(|file| {
        let mut window = Window::new(file.as_ref(), bytes);
        window.get(place.offset, HEADER_BYTES).is_some_and(|block| block.iter().any(|byte| *byte != 0))
    });
    if found.decision.dropped > 0 || torn {
        findings.about(
            Severity::Note,
            FindingKind::Tail,
            &file,
            place.offset,
            0,
            "a write that was under way, or was cut off by a crash and never acknowledged as committed",
        );
    }
}
