//! Compaction: of a segment stays what some point needs, and nothing else.
//!
//! Goal: a bookmark, a grid point, an open image, what a rollback left and a volume that was joining each keep exactly what
//! they show, block by block; a compacted segment reads the same after a restart, verifies, and is right or refused
//! whatever rots in it. Method: records of whole blocks, one to a chunk, each sector with content of its own; what has to
//! stay is counted from the reference and compared with the number that a compacted segment's head tells.

mod common;

use common::{Group, Volume, at, extent, restart};
use journal::{BaseDevice, FindingKind, Image, Reader, Severity, VerifyReport, verify_disk};
use kit::reference::{Cell, data, fill};
use kit::{MemBase, Rng, SimDisk};
use record::geometry::Extent;
use record::ids::Incarnation;
use record::position::Position;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const BLOCK: usize = 4096;
const SECTORS: u64 = 1536;

/// A group, and what its writes hold.
struct Subject {
    group: Group,
    rng: Rng,
    /// By position, the first token of a write and its extent.
    written: BTreeMap<Position, (u64, Incarnation, Extent)>,
    /// Positions of records with a note.
    noted: BTreeSet<Position>,
}

impl Subject {
    fn new() -> Self {
        Self { group: Group::new(&[SECTORS]), rng: Rng::new(3), written: BTreeMap::new(), noted: BTreeSet::new() }
    }

    fn volume(&self) -> Incarnation {
        self.group.volumes[0].number
    }

    fn write(&mut self, volume: Incarnation, extent: Extent) -> Position {
        let token = self.group.tokens;
        self.group.write(volume, extent);
        assert!(self.group.send());
        self.written.insert(self.group.head(), (token, volume, extent));
        self.group.head()
    }

    /// Writes over most of a volume's blocks, so many times.
    fn wear(&mut self, volume: Incarnation, times: u64) -> Position {
        for _ in 0..times {
            let count = 64 + self.rng.below(64);
            let start = self.rng.below(SECTORS / 8 - count + 1);
            self.write(volume, extent(start * 8, count * 8));
        }
        self.group.head()
    }

    fn bookmark(&mut self, name: &str) -> Position {
        self.group.bookmark(name);
        assert!(self.group.send());
        self.noted.insert(self.group.head());
        self.group.head()
    }

    fn remove_bookmark(&mut self, name: &str) {
        assert!(self.group.journal.remove_bookmark(name, self.group.laying.label()).expect("remove"));
        self.group.catch_up();
        self.noted.insert(self.group.head());
    }

    /// The window begins here, and these older points stay.
    fn thin(&self, points: &[Position], horizon: Position) {
        self.group.journal.keep_points(points).expect("keep");
        assert!(self.group.journal.forget(horizon).expect("forget"));
    }

    /// Blocks of each write that some of these points shows.
    fn needed(&self, points: impl IntoIterator<Item = Position>) -> BTreeMap<Position, BTreeSet<u64>> {
        let by_token: BTreeMap<u64, Position> = self.written.iter().map(|(at, (token, ..))| (*token, *at)).collect();
        let mut needed: BTreeMap<Position, BTreeSet<u64>> = BTreeMap::new();
        for point in points {
            for member in self.group.journal.members() {
                if member.joined.is_none_or(|joined| joined > point) {
                    continue;
                }
                for cell in self.group.reference.cells(member.incarnation, point) {
                    let Cell::Data(token) = cell else { continue };
                    let (first, position) = by_token.range(..=token).next_back().expect("a write");
                    needed.entry(*position).or_default().insert((token - first) / 8);
                }
            }
        }
        needed
    }

    /// Blocks that some of these points shows and none of the others, and no replica holds.
    fn only(&self, points: impl IntoIterator<Item = Position>, others: impl IntoIterator<Item = Position>) -> usize {
        let (distributed, others) = (self.group.journal.space().distributed, self.needed(others));
        let mut needed = self.needed(points);
        needed.retain(|position, _| *position > distributed);
        for (position, blocks) in &mut needed {
            blocks.retain(|block| others.get(position).is_none_or(|others| !others.contains(block)));
        }
        needed.values().map(BTreeSet::len).sum()
    }

    /// Every compacted segment has exactly what these points need, where each record is a chunk: of it a block of header
    /// and one of descriptions, and its note; of the segment its header and its footer. Answers with how many are.
    fn assert_exact(&self, points: impl IntoIterator<Item = Position>) -> usize {
        let needed = self.needed(points);
        let mut segments = 0;
        for (file, first, last) in self.behind() {
            let content = self.group.disk.content(&file);
            if !is_compacted(&content) {
                continue;
            }
            let expected = (first..=last).map(at).map(|position| {
                let blocks = needed.get(&position).map_or(0, |blocks| blocks.len() as u64);
                2 + u64::from(self.noted.contains(&position)) + blocks
            });
            assert_eq!(kept(&content), 2 + expected.sum::<u64>(), "{file}");
            segments += 1;
        }
        segments
    }

    /// Files of segments but the first, which holds what the test did not lay, with their first and last positions.
    fn behind(&self) -> Vec<(String, u64, u64)> {
        let ends: Vec<u64> = self.group.journal.space().segments.iter().map(|s| s.last.position.get()).collect();
        let files = segments_of(&self.group.disk).into_iter().skip(1);
        files.zip(ends.windows(2)).map(|(file, ends)| (file, ends[0] + 1, ends[1])).collect()
    }

    /// What the first volume holds at these points.
    fn held(&self, points: &[Position]) -> BTreeMap<Position, Vec<u8>> {
        points.iter().map(|point| (*point, self.group.reference.bytes(self.volume(), *point))).collect()
    }

    fn bytes(&self) -> u64 {
        self.group.journal.space().segments.iter().map(|segment| segment.bytes).sum()
    }
}

fn segments_of(disk: &SimDisk) -> Vec<String> {
    let is_segment = |name: &String| name.starts_with("segments/") && !name.contains(".new");
    disk.names().into_iter().filter(is_segment).collect()
}

/// From here on a restart reads the segments.
fn lose_checkpoints(disk: &SimDisk) {
    for name in disk.names().into_iter().filter(|name| name.starts_with("state/")) {
        disk.lose(&name);
    }
}

fn flip_all(disk: &SimDisk, file: &str, bytes: &[usize]) {
    for byte in bytes {
        disk.flip(file, *byte, 1);
    }
}

fn is_compacted(content: &[u8]) -> bool {
    content.starts_with(b"UDSC")
}

/// Blocks that a compacted segment keeps, as its head tells.
fn kept(content: &[u8]) -> u64 {
    u64::from_le_bytes(content[40..48].try_into().expect("eight bytes"))
}

/// Follows, gives back and compacts until there is no more; answers with the segments that were compacted.
fn settle(group: &Group) -> u64 {
    while group.journal.distribute(1 << 20).expect("distribute").more {}
    group.journal.reclaim().expect("reclaim");
    let mut segments = 0;
    loop {
        let compacted = group.journal.compact().expect("compact");
        assert!(!compacted.later, "little is copied here");
        segments += u64::from(compacted.freed > 0);
        if !compacted.more {
            return segments;
        }
    }
}

fn from(horizon: Position, head: Position) -> impl Iterator<Item = Position> {
    (horizon.get()..=head.get()).map(at)
}

#[test]
fn a_bookmark_keeps_exactly_what_it_shows_and_nothing_when_it_is_removed() {
    let mut subject = Subject::new();
    let volume = subject.volume();
    let first = subject.bookmark("from the beginning");
    subject.wear(volume, 12);
    let marked = subject.bookmark("kept");
    let horizon = subject.wear(volume, 30);
    subject.thin(&[], horizon);
    assert!(settle(&subject.group) > 0);
    assert!(subject.assert_exact([first, marked, horizon]) > 3);
    assert!(subject.only([marked], [first, horizon]) > 0, "more than the replica holds");
    for point in [first, marked, horizon] {
        subject.group.check(point);
    }
    subject.remove_bookmark("kept");
    assert!(settle(&subject.group) > 0);
    assert!(subject.assert_exact([first, horizon]) > 3);
    let bytes = subject.bytes();
    subject.remove_bookmark("from the beginning");
    settle(&subject.group);
    assert!(subject.bytes() < bytes);
    subject.group.check(subject.group.head());
}

#[test]
fn grid_points_keep_exactly_what_they_show_and_one_that_goes_leaves_nothing() {
    let mut subject = Subject::new();
    let volume = subject.volume();
    let mut points: Vec<Position> = (0..6).map(|_| subject.wear(volume, 6)).collect();
    let horizon = subject.wear(volume, 6);
    subject.thin(&points, horizon);
    assert!(settle(&subject.group) > 0);
    assert!(subject.assert_exact(points.iter().copied().chain([horizon])) > 3);
    // In the middle, so that no replica may follow.
    points.remove(3);
    subject.group.journal.keep_points(&points).expect("keep");
    assert!(settle(&subject.group) > 0, "what only it had shown");
    assert!(subject.assert_exact(points.iter().copied().chain([horizon])) > 3);
    for point in points {
        subject.group.check(point);
    }
}

#[test]
fn an_open_image_keeps_exactly_what_it_shows_and_nothing_when_it_is_closed() {
    let mut subject = Subject::new();
    let volume = subject.volume();
    let first = subject.bookmark("from the beginning");
    let shown = subject.wear(volume, 12);
    let horizon = subject.wear(volume, 30);
    let image: Image = subject.group.journal.image(shown).expect("a point");
    subject.thin(&[], horizon);
    assert!(settle(&subject.group) > 0);
    assert!(subject.assert_exact([first, shown, horizon]) > 3);
    assert!(subject.only([shown], [first, horizon]) > 0, "more than the replica holds");
    subject.group.check_image(&image);
    assert!(subject.group.journal.image(shown).is_err(), "it is no point for anybody else");
    drop(image);
    assert!(settle(&subject.group) > 0);
    assert!(subject.assert_exact([first, horizon]) > 3);
}

#[test]
fn a_rollback_keeps_exactly_what_its_target_and_the_line_that_it_left_show() {
    let mut subject = Subject::new();
    let volume = subject.volume();
    let first = subject.bookmark("from the beginning");
    let target = subject.wear(volume, 10);
    let left = subject.wear(volume, 16);
    subject.group.rollback(target);
    subject.noted.insert(subject.group.head());
    let rolled_back = subject.group.head();
    subject.wear(volume, 8);
    // The target is older than the window, what it was left for is not.
    let horizon = at(left.get() - 2);
    subject.thin(&[], horizon);
    assert!(settle(&subject.group) > 0);
    assert!(subject.assert_exact(from(horizon, subject.group.head()).chain([first])) > 2);
    assert!(
        subject.only([rolled_back], from(horizon, left).chain([first])) > 0,
        "more than the line that was left, or the replica"
    );
    for point in from(horizon, subject.group.head()) {
        subject.group.check(point);
    }
    // Then only the new line is left.
    let horizon = rolled_back.next();
    subject.thin(&[], horizon);
    settle(&subject.group);
    for point in from(horizon, subject.group.head()) {
        subject.group.check(point);
    }
}

#[test]
fn of_a_volume_that_was_joining_stays_exactly_what_it_shows_once_it_has_joined() {
    let mut subject = Subject::new();
    let first = subject.volume();
    subject.wear(first, 4);
    // As Group::join, with writes while the replica is filled.
    let label = subject.group.laying.label();
    let joining = subject.group.journal.join(&common::join_request(2, "joining", SECTORS), label).expect("join");
    let base: Arc<dyn BaseDevice> = Arc::new(MemBase::new(SECTORS));
    subject.group.journal.attach_base_device(joining, base.clone()).expect("attach");
    subject.group.catch_up();
    subject.noted.insert(subject.group.head());
    let token = subject.group.token(SECTORS);
    let whole = extent(0, SECTORS);
    subject.group.journal.base_reset(joining).expect("reset");
    subject.group.journal.base_write(joining, whole, &data(token, whole)).expect("write");
    subject.group.reference.prepare(joining, (0..SECTORS).map(|i| Cell::Joined(token + i)).collect());
    let horizon = subject.wear(joining, 20);
    subject.wear(joining, 3);
    subject.group.journal.joined(joining, subject.group.laying.label()).expect("joined");
    subject.group.reference.joined(joining);
    let joined = subject.group.head();
    subject.group.volumes.push(Volume { number: joining, sectors: SECTORS, base, file: None, left: None });
    subject.wear(first, 3);
    let kept = subject.wear(joining, 3);
    subject.thin(&[], horizon);
    assert!(settle(&subject.group) > 0);
    assert!(subject.assert_exact(from(horizon, subject.group.head())) > 3);
    for point in [horizon, at(joined.get() - 1), joined, joined.next(), kept] {
        subject.group.check(point);
    }
    let horizon = subject.wear(joining, 12);
    subject.thin(&[joined], horizon);
    settle(&subject.group);
    for point in [joined, horizon] {
        subject.group.check(point);
    }
}

/// A journal with grid points in compacted segments, the first of which is the journal's first; and those points.
fn thinned() -> (Subject, Vec<Position>) {
    let mut subject = Subject::new();
    let volume = subject.volume();
    let mut points = vec![subject.bookmark("from the beginning")];
    points.extend((0..3).map(|_| subject.wear(volume, 5)));
    let horizon = subject.wear(volume, 8);
    subject.thin(&points[1..], horizon);
    assert!(settle(&subject.group) > 0);
    points.push(horizon);
    (subject, points)
}

#[test]
fn after_a_restart_what_was_compacted_reads_the_same_and_is_not_compacted_again() {
    for clean in [true, false] {
        for checkpoints in [true, false] {
            let (mut subject, points) = thinned();
            let files: Vec<_> = segments_of(&subject.group.disk);
            let content = |disk: &SimDisk| files.iter().map(|file| disk.content(file)).collect::<Vec<_>>();
            let before = content(&subject.group.disk);
            if !checkpoints {
                lose_checkpoints(&subject.group.disk);
            }
            let sizes = |subject: &Subject| {
                let segments = subject.group.journal.space().segments;
                segments.iter().map(|segment| (segment.bytes, segment.last.position)).collect::<Vec<_>>()
            };
            let space = sizes(&subject);
            subject.group = restart(subject.group, clean);
            let after = sizes(&subject);
            assert_eq!(after[..space.len() - 1], space[..space.len() - 1]);
            for point in &points {
                subject.group.check(*point);
            }
            assert_eq!(settle(&subject.group), 0, "it is as small as can be");
            assert_eq!(content(&subject.group.disk)[..files.len() - 2], before[..files.len() - 2]);
            // And it goes on.
            let volume = subject.volume();
            let horizon = subject.wear(volume, 12);
            subject.thin(&points[2..], horizon);
            assert!(settle(&subject.group) > 0);
            for point in points[2..].iter().chain([&points[0], &horizon]) {
                subject.group.check(*point);
            }
        }
    }
}

fn verified(disk: &SimDisk) -> VerifyReport {
    verify_disk(disk, &mut |done, total| assert!(done <= total)).expect("verify")
}

#[test]
fn a_compacted_journal_verifies() {
    for closed in [true, false] {
        let (subject, _) = thinned();
        if closed {
            subject.group.journal.close().expect("close");
        }
        let report = verified(&subject.group.disk);
        assert!(!report.is_damaged(), "{:?}", report.findings);
        assert!(report.findings.iter().all(|finding| finding.kind == FindingKind::Tail), "{:?}", report.findings);
    }
}

/// What of some points, which should hold this, is refused: by point, the sectors. All else is right.
fn right_or_refused(
    subject: &Subject,
    disk: &SimDisk,
    points: &BTreeMap<Position, Vec<u8>>,
) -> BTreeMap<Position, BTreeSet<u64>> {
    let (reader, _) = Reader::open_on(disk.shared()).expect("a damaged journal opens for reading");
    // Where the first segment is lost, and what knows it too, there is no volume and no point.
    for member in reader.members() {
        reader.attach_base_device(member.incarnation, subject.group.volumes[0].base.clone()).expect("attach");
    }
    let mut refused = BTreeMap::new();
    for (point, expected) in points {
        let Ok(image) = reader.image(*point) else { continue };
        let of_point: &mut BTreeSet<u64> = refused.entry(*point).or_default();
        let whole = extent(0, SECTORS);
        let mut bytes = vec![0xaa; usize::try_from(whole.bytes()).expect("small")];
        let damaged = image.read(subject.volume(), whole, &mut bytes).err().map_or_else(Vec::new, |e| e.damaged);
        for (sector, (read, right)) in (0..).zip(bytes.chunks(512).zip(expected.chunks(512))) {
            if damaged.iter().any(|e| e.contains(extent(sector, 1))) {
                assert!(read.iter().all(|byte| *byte == 0), "a refused sector leaks");
                of_point.insert(sector);
            } else {
                assert!(read == right, "sector {sector} is wrong at {point}");
            }
        }
    }
    refused
}

#[test]
fn a_damaged_block_is_named_with_its_record_and_extent_and_nothing_else_is_refused() {
    let (subject, points) = thinned();
    let points = subject.held(&points);
    let disk = subject.group.disk.killed();
    let volume = subject.volume();
    // Whose each first sector of a block is.
    let mut owners = BTreeMap::new();
    for (position, (token, _, extent)) in &subject.written {
        for block in 0..extent.count().get() / 8 {
            owners.insert(fill(token + block * 8), (*position, extent.start().index() + block * 8));
        }
    }
    let mut rng = Rng::new(8);
    let mut looked = 0;
    for file in segments_of(&disk).into_iter().filter(|file| is_compacted(&disk.content(file))) {
        let content = disk.content(&file);
        for (block, bytes) in content.chunks(BLOCK).enumerate() {
            let Some((position, start)) =
                <&[u8; 512]>::try_from(&bytes[..512]).ok().and_then(|sector| owners.get(sector)).copied()
            else {
                continue;
            };
            if !rng.one_in(20) {
                continue;
            }
            looked += 1;
            let byte = block * BLOCK + rng.index(BLOCK);
            disk.flip(&file, byte, 1);
            let report = verified(&disk);
            let damage: Vec<_> = report.findings.iter().filter(|f| f.severity == Severity::Damage).collect();
            assert_eq!(damage.len(), 1, "{damage:?}");
            assert_eq!((damage[0].kind, &damage[0].file), (FindingKind::Payload, &file));
            assert_eq!(damage[0].positions, Some((position, position)));
            assert_eq!(damage[0].extents, [("v1".to_string(), volume, extent(start, 8))]);
            let mut shown = 0;
            for (point, refused) in right_or_refused(&subject, &disk, &points) {
                let owner = subject.group.reference.cells(volume, point)[usize::try_from(start).expect("small")];
                let is_shown = owner.bytes()[..] == bytes[..512];
                let expected = if is_shown { (start..start + 8).collect() } else { BTreeSet::new() };
                assert_eq!(refused, expected, "at {point}");
                shown += u64::from(is_shown);
            }
            assert!(shown > 0, "somebody needs what is kept");
            disk.flip(&file, byte, 1);
        }
    }
    assert!(looked > 10, "{looked}");
}

#[test]
fn one_damaged_map_or_head_costs_nothing_and_both_refuse_that_segment_only() {
    let (subject, points) = thinned();
    let points = subject.held(&points);
    let whole = right_or_refused(&subject, &subject.group.disk.killed(), &points);
    assert!(whole.len() == points.len() && whole.values().all(BTreeSet::is_empty));
    let mut refused_somewhere = false;
    for checkpoints in [true, false] {
        let disk = subject.group.disk.killed();
        if !checkpoints {
            lose_checkpoints(&disk);
        }
        for file in segments_of(&disk).into_iter().filter(|file| is_compacted(&disk.content(file))) {
            let end = disk.content(&file).len();
            let (heads, maps) = ([7, end - BLOCK + 7], [BLOCK + 1, end - 2 * BLOCK + 1]);
            for one in heads.into_iter().chain(maps) {
                disk.flip(&file, one, 1);
                let refused = right_or_refused(&subject, &disk, &points);
                assert_eq!(refused, whole, "{file} with a flipped bit at {one}");
                disk.flip(&file, one, 1);
            }
            for both in [heads, maps] {
                flip_all(&disk, &file, &both);
                let refused = right_or_refused(&subject, &disk, &points);
                refused_somewhere |= refused.values().any(|sectors| !sectors.is_empty());
                let report = verified(&disk);
                let damage = report.findings.iter().filter(|f| f.severity == Severity::Damage);
                assert!(damage.count() > 0, "{file}: {:?}", report.findings);
                flip_all(&disk, &file, &both);
            }
        }
    }
    assert!(refused_somewhere);
}

#[test]
fn whatever_byte_of_a_compacted_segment_rots_each_sector_is_right_or_refused() {
    let every = std::env::var("EVERY").ok().and_then(|n| n.parse::<usize>().ok()).unwrap_or(1499).max(1);
    let (subject, points) = thinned();
    let points = subject.held(&points);
    let mut rng = Rng::new(every as u64);
    let (mut flipped, mut refused) = (0, 0);
    for checkpoints in [true, false] {
        let disk = subject.group.disk.killed();
        if !checkpoints {
            lose_checkpoints(&disk);
        }
        let compacted: Vec<_> =
            segments_of(&disk).into_iter().filter(|file| is_compacted(&disk.content(file))).collect();
        for file in compacted.iter().step_by(3) {
            let len = disk.content(file).len();
            let mut byte = rng.index(every);
            while byte < len {
                let bit = 1 << rng.below(8);
                disk.flip(file, byte, bit);
                let seen = right_or_refused(&subject, &disk, &points);
                refused += seen.values().map(BTreeSet::len).sum::<usize>();
                if rng.one_in(16) {
                    verified(&disk);
                }
                disk.flip(file, byte, bit);
                flipped += 1;
                // Heads, maps and headers are few: they are looked at more closely.
                let edge = byte < 6 * BLOCK || byte > len - 4 * BLOCK;
                byte += if edge { every.div_ceil(8) } else { every * 4 };
            }
        }
    }
    println!("{flipped} bytes, {refused} sectors refused");
    assert!(refused > 0);
}
