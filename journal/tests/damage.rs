//! Rot, cuts and losses.
//!
//! Goal: whatever byte changes and whatever file is cut or lost, each sector of each image is right or refused, the
//! verifier names what is wrong, and the journal goes on. Method: a small journal whose every image is known; change
//! it on a copy of the disk; read everything again.

mod common;

use common::{Group, ID, Volume, at, extent};
use journal::device::Aligned;
use journal::{Finding, FindingKind, Reader, Severity, VerifyReport, verify_disk};
use kit::{Reference, Rng, SimDisk};
use record::chunk::Body;
use record::header::{ChunkHeader, HEADER_BYTES};
use record::ids::Incarnation;
use record::op::Op;
use record::position::Position;
use std::ops::Range;

const SEGMENT: &str = "segments/00000001.seg";

/// A journal that is not open, and what it should say.
struct Subject {
    disk: SimDisk,
    volumes: Vec<Volume>,
    head: Position,
    /// By position, what each volume should hold.
    expected: Vec<Vec<(Incarnation, Vec<u8>)>>,
}

impl Subject {
    fn new(disk: SimDisk, reference: &Reference, volumes: Vec<Volume>, head: Position) -> Self {
        let of = |n| volumes.iter().map(|v| (v.number, reference.bytes(v.number, at(n)))).collect();
        let expected = (0..=head.get()).map(of).collect();
        Self { disk, volumes, head, expected }
    }

    fn expected(&self, volume: Incarnation, position: u64) -> &[u8] {
        let volumes = &self.expected[usize::try_from(position).expect("small")];
        volumes.iter().find(|(v, _)| *v == volume).map_or(&[], |(_, bytes)| bytes)
    }
}

/// A small journal with records of every kind, a rollback and a restart in it.
fn subject(closed: bool) -> Subject {
    let mut rng = Rng::new(5);
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    for round in 0..4 {
        group.write(volume, extent(3, 8));
        group.write(volume, extent(9 + round, 5));
        group.punch(volume, extent(1, 4));
        group.seal();
        for _ in 0..4 {
            group.lay_some(&mut rng);
        }
        group.bookmark(&format!("b{round}"));
        group.send();
    }
    group.rollback(at(9));
    group.write(volume, extent(16, 16));
    group.send();
    group.journal.commit_idle().expect("commit");
    group.catch_up();
    group.write(volume, extent(30, 3));
    group.send();
    group.catch_up();
    if closed {
        group.journal.close().expect("close");
    }
    let head = group.head();
    group.check_all(at(1));
    let Group { disk, reference, volumes, .. } = group;
    Subject::new(disk.killed(), &reference, volumes, head)
}

/// What can still be read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    /// Positions that were shown.
    shown: u64,
    /// Sectors that were refused, over all positions.
    refused: u64,
}

/// Each sector of each image is right or refused.
fn right_or_refused(subject: &Subject, disk: &SimDisk) -> Seen {
    let (reader, _) = Reader::open_on(disk.shared()).expect("a damaged journal opens for reading");
    let known: Vec<_> = reader.members().iter().map(|m| m.incarnation).collect();
    for volume in subject.volumes.iter().filter(|v| known.contains(&v.number)) {
        reader.attach_base_device(volume.number, volume.base.clone()).expect("attach");
    }
    compare(subject, &reader, subject.head)
}

/// Compares the positions up to `last`; behind it the journal went on otherwise.
fn compare(subject: &Subject, reader: &Reader, last: Position) -> Seen {
    let mut seen = Seen::default();
    for n in 1..=last.min(subject.head).get() {
        let Ok(image) = reader.image(at(n)) else { continue };
        seen.shown += 1;
        for member in image.members() {
            let whole = extent(0, member.size.get());
            let mut bytes = Aligned::copy_of(&vec![0xaa; usize::try_from(whole.bytes()).expect("small")]);
            let refused = image.read(member.incarnation, whole, &mut bytes).err().map_or_else(Vec::new, |f| f.damaged);
            let expected = subject.expected(member.incarnation, n);
            for sector in 0..member.size.get() {
                let range =
                    usize::try_from(sector * 512).expect("small")..usize::try_from(sector * 512 + 512).expect("small");
                if refused.iter().any(|e| e.contains(extent(sector, 1))) {
                    seen.refused += 1;
                    assert!(bytes[range].iter().all(|b| *b == 0), "a refused sector leaks");
                } else {
                    assert!(bytes[range.clone()] == expected[range], "sector {sector} is wrong at seq:{n}");
                }
            }
        }
    }
    seen
}

fn verified(disk: &SimDisk) -> VerifyReport {
    verify_disk(disk, &mut |done, total| assert!(done <= total)).expect("verify")
}

fn names(report: &VerifyReport, file: &str, kind: FindingKind) -> bool {
    report.findings.iter().any(|f| f.file == file && f.kind == kind)
}

/// The footer of a segment is not readable any more; `false` when it has none that looks like one.
fn lose_footer(disk: &SimDisk, segment: &str) -> bool {
    let content = disk.content(segment);
    let at = content.len().saturating_sub(512);
    disk.flip(segment, at, 1);
    content[at..].starts_with(b"UDSF")
}

/// Where a segment's bytes are, by what they are: headers and descriptions, payload, and neither.
struct Map {
    headers: Vec<Range<usize>>,
    payloads: Vec<Range<usize>>,
    end: usize,
}

fn map(segment: &[u8]) -> Map {
    let mut map = Map { headers: Vec::new(), payloads: Vec::new(), end: HEADER_BYTES };
    while let Some((header, _)) = ChunkHeader::decode(&segment[map.end..], ID) {
        let area = map.end + HEADER_BYTES;
        let payload = area + header.body_header_len as usize;
        let Ok(body) = Body::decode(&segment[area..payload], ID) else { break };
        map.headers.push(map.end..payload);
        for record in &body.records {
            let start = payload + record.descriptor.payload_offset as usize;
            if record.descriptor.payload_bytes > 0 {
                map.payloads.push(start..start + record.descriptor.payload_bytes as usize);
            }
        }
        map.end += usize::try_from(header.disk_bytes()).expect("small");
    }
    map
}

/// Offsets to flip: all of the non-zero bytes of `range` and one in `stride` of the others, or all of them when
/// `EVERY=1` is set.
fn offsets(
    bytes: &[u8],
    range: impl IntoIterator<Item = usize>,
    nonzero: usize,
    stride: usize,
    rng: &mut Rng,
) -> Vec<usize> {
    let every = std::env::var_os("EVERY").is_some();
    range.into_iter().filter(|at| every || rng.index(if bytes[*at] == 0 { stride } else { nonzero }) == 0).collect()
}

#[test]
fn a_flipped_bit_in_a_payload_is_refused_named_and_confined_to_its_block() {
    for closed in [true, false] {
        let subject = subject(closed);
        let content = subject.disk.content(SEGMENT);
        let map = map(&content);
        let whole = right_or_refused(&subject, &subject.disk);
        assert_eq!(whole.refused, 0);
        assert!(!verified(&subject.disk).is_damaged());
        let mut rng = Rng::new(1);
        // Behind K a damaged payload is a torn tail; what is in front of it is damage.
        let committed = map.payloads.len() - usize::from(!closed);
        for range in &map.payloads[..committed] {
            for at in offsets(&content, range.clone(), 400, 400, &mut rng) {
                let disk = subject.disk.copy();
                disk.flip(SEGMENT, at, 1 << rng.below(8));
                let seen = right_or_refused(&subject, &disk);
                assert_eq!(seen.shown, whole.shown, "every point is still offered");
                assert!(seen.refused <= 8 * whole.shown, "one block at most: {seen:?}");
                let report = verified(&disk);
                assert!(names(&report, SEGMENT, FindingKind::Payload), "byte {at}: {:?}", report.findings);
                let finding = report.findings.iter().find(|f| f.kind == FindingKind::Payload).expect("found");
                let block = usize::try_from(finding.offset).expect("small");
                assert!((block..block + 4096).contains(&at), "byte {at} is named as {finding:?}");
            }
        }
    }
}

#[test]
fn a_flipped_bit_in_a_header_loses_nothing_while_the_footer_is_there() {
    let subject = subject(true);
    let content = subject.disk.content(SEGMENT);
    let whole = right_or_refused(&subject, &subject.disk);
    let mut rng = Rng::new(2);
    for range in map(&content).headers {
        for at in offsets(&content, range, 40, 1200, &mut rng) {
            let disk = subject.disk.copy();
            disk.flip(SEGMENT, at, 1 << rng.below(8));
            assert_eq!(right_or_refused(&subject, &disk), whole, "byte {at}");
            let report = verified(&disk);
            assert!(names(&report, SEGMENT, FindingKind::ChunkHeader), "byte {at}: {:?}", report.findings);
            assert!(report.is_damaged());
        }
    }
}

#[test]
fn a_flipped_bit_in_a_header_without_a_footer_refuses_what_it_may_have_written() {
    for closed in [true, false] {
        let subject = subject(closed);
        let content = subject.disk.content(SEGMENT);
        let whole = right_or_refused(&subject, &subject.disk);
        let mut rng = Rng::new(3);
        let mut shown = 0;
        for range in map(&content).headers {
            for at in offsets(&content, range, 60, 2000, &mut rng) {
                let disk = subject.disk.copy();
                assert_eq!(lose_footer(&disk, SEGMENT), closed);
                disk.flip(SEGMENT, at, 1 << rng.below(8));
                let seen = right_or_refused(&subject, &disk);
                shown += u64::from(seen.shown > 0);
                assert!(seen.shown <= whole.shown);
                let report = verified(&disk);
                assert_eq!(names(&report, SEGMENT, FindingKind::Footer), closed, "a clean close writes one");
                let named =
                    names(&report, SEGMENT, FindingKind::ChunkHeader) || names(&report, SEGMENT, FindingKind::Tail);
                assert!(named, "byte {at}: {:?}", report.findings);
            }
        }
        assert!(shown > 0, "what is not concerned is still shown");
    }
}

#[test]
fn a_flipped_bit_anywhere_else_changes_nothing_and_is_named_where_it_counts() {
    let subject = subject(true);
    let whole = right_or_refused(&subject, &subject.disk);
    let mut rng = Rng::new(4);
    for (file, kind) in
        [("superblock", FindingKind::Superblock), (SEGMENT, FindingKind::Footer), (SEGMENT, FindingKind::SegmentHeader)]
    {
        let content = subject.disk.content(file);
        let range: Vec<usize> = match kind {
            // The trailer, and what is packed in front of it in the last block; what lies between them is zeros.
            FindingKind::Footer => {
                let packed = &content[content.len() - 512 + 36..][..4];
                let packed = u32::from_le_bytes([packed[0], packed[1], packed[2], packed[3]]) as usize;
                assert!((1..4096 - 512).contains(&packed), "a small footer has one block: {packed}");
                let start = content.len() - 4096;
                (start..start + packed).chain(content.len() - 512..content.len()).collect()
            }
            FindingKind::SegmentHeader => (0..HEADER_BYTES).collect(),
            _ => (0..content.len()).collect(),
        };
        for at in offsets(&content, range, 30, 250, &mut rng) {
            let disk = subject.disk.copy();
            disk.flip(file, at, 1 << rng.below(8));
            assert_eq!(right_or_refused(&subject, &disk), whole, "byte {at} of {file}");
            let report = verified(&disk);
            assert!(names(&report, file, kind), "byte {at} of {file}: {:?}", report.findings);
        }
    }
    let content = subject.disk.content(SEGMENT);
    let end = map(&content).end;
    for at in (end..content.len()).step_by(50_021) {
        let disk = subject.disk.copy();
        disk.flip(SEGMENT, at, 0x10);
        assert_eq!(right_or_refused(&subject, &disk), whole, "byte {at} behind the tail");
        assert!(!verified(&disk).is_damaged());
    }
}

/// Opens for writing, appends, and everything is still right or refused; then the same once more.
fn goes_on(subject: &Subject, disk: &SimDisk) {
    let mut kept = subject.head;
    for _ in 0..2 {
        let opened = Group::open(disk.clone(), subject.volumes.clone());
        let (mut group, report) = opened.expect("a damaged journal opens for writing");
        kept = kept.min(report.recovered);
        compare(subject, group.journal.reader(), kept);
        let head = group.head();
        group.open_session(&common::lost());
        if group.journal.members().iter().any(|m| m.joined.is_some()) {
            let volume = group.journal.members()[0].incarnation;
            group.write(volume, extent(0, 7));
            group.mark(Op::Flush);
            let sent = group.laying.seal().expect("something was laid");
            group.journal.append_many(group.session, &[(&sent.header, &sent.payload)]).expect("append");
            assert_eq!(group.head(), head.plus(3));
        }
        group.journal.commit_idle().expect("commit");
        compare(subject, group.journal.reader(), kept);
        drop(group);
    }
}

#[test]
fn a_damaged_journal_goes_on_and_keeps_telling() {
    for closed in [true, false] {
        let subject = subject(closed);
        let content = subject.disk.content(SEGMENT);
        let map = map(&content);
        let mut rng = Rng::new(6);
        for range in map.headers.iter().chain(&map.payloads) {
            for keep_footer in [true, false] {
                let at = range.start + rng.index(range.len().min(200));
                let disk = subject.disk.copy();
                if !keep_footer {
                    lose_footer(&disk, SEGMENT);
                }
                disk.flip(SEGMENT, at, 1 << rng.below(8));
                let before = verified(&disk);
                goes_on(&subject, &disk);
                // That the newest chunk is gone is told until the journal goes on without it; the rest stays.
                let damage = |report: &VerifyReport| {
                    let lasting = |f: &&Finding| f.severity == Severity::Damage && f.kind != FindingKind::Tail;
                    report.findings.iter().filter(lasting).count()
                };
                let after = verified(&disk);
                assert_eq!(damage(&before), damage(&after), "byte {at}: {before:?} {after:?}");
            }
        }
    }
}

#[test]
fn a_segment_cut_short_at_any_length_is_named_and_what_is_left_is_right() {
    for closed in [true, false] {
        let subject = subject(closed);
        let content = subject.disk.content(SEGMENT);
        let end = map(&content).end;
        let mut rng = Rng::new(7);
        let mut lengths: Vec<usize> = (0..=end).step_by(4096).collect();
        lengths.extend((0..20).map(|_| rng.index(end)));
        for len in lengths {
            let disk = subject.disk.copy();
            disk.truncate(SEGMENT, len);
            right_or_refused(&subject, &disk);
            let report = verified(&disk);
            if len < end && closed {
                assert!(report.is_damaged(), "cut to {len}: {:?}", report.findings);
                assert!(names(&report, SEGMENT, FindingKind::SegmentTruncated) || len == 0 || report.is_damaged());
            }
            if rng.one_in(4) {
                goes_on(&subject, &disk);
            }
        }
    }
}

/// A journal of several segments.
fn long_subject() -> Subject {
    let mut group = Group::new(&[1500]);
    let volume = group.volumes[0].number;
    let mut rng = Rng::new(8);
    for i in 0..24 {
        let start = rng.below(700);
        group.write(volume, extent(start, 400 + rng.below(300)));
        group.punch(volume, extent(rng.below(1400), 1 + rng.below(90)));
        group.send();
        if i == 12 {
            group.rollback(at(6));
        }
    }
    group.catch_up();
    group.journal.close().expect("close");
    let head = group.head();
    let Group { disk, reference, volumes, .. } = group;
    assert!(disk.names().iter().filter(|n| n.contains(".seg")).count() >= 4);
    Subject::new(disk.killed(), &reference, volumes, head)
}

#[test]
fn a_lost_segment_is_named_and_what_does_not_need_it_is_right() {
    let subject = long_subject();
    let whole = right_or_refused(&subject, &subject.disk);
    for n in 1..=4 {
        let disk = subject.disk.copy();
        disk.lose(&format!("segments/{n:08}.seg"));
        let seen = right_or_refused(&subject, &disk);
        assert!(seen.shown <= whole.shown);
        let report = verified(&disk);
        let missing = |f: &&Finding| f.kind == FindingKind::SegmentMissing;
        let finding = report.findings.iter().find(missing).expect("it is named");
        assert_eq!(finding.file, format!("segments/{n:08}.seg"));
        assert!(finding.positions.is_some() && !finding.extents_known, "{finding:?}");
        goes_on(&subject, &disk);
    }
}

#[test]
fn rot_in_a_sealed_segment_is_named_by_its_footer_and_found_at_open_without_one() {
    let subject = long_subject();
    let whole = right_or_refused(&subject, &subject.disk);
    for n in 1..=3 {
        let segment = format!("segments/{n:08}.seg");
        let headers = map(&subject.disk.content(&segment)).headers;
        for range in [&headers[0], &headers[headers.len() - 1]] {
            let disk = subject.disk.copy();
            disk.flip(&segment, range.start + 50, 1);
            assert_eq!(right_or_refused(&subject, &disk), whole, "the footer has all of it");
            let report = verified(&disk);
            assert!(names(&report, &segment, FindingKind::ChunkHeader), "{:?}", report.findings);
            assert!(lose_footer(&disk, &segment), "a sealed segment has a footer");
            // A restart does not look there as long as a checkpoint says what was there.
            for name in disk.names().iter().filter(|name| name.starts_with("state/")) {
                disk.lose(name);
            }
            let (_, report) = Reader::open_on(disk.shared()).expect("open");
            assert_eq!(report.damage.len(), 1, "the chunks are read one by one");
            assert!(right_or_refused(&subject, &disk).shown <= whole.shown);
            goes_on(&subject, &disk);
        }
    }
}

#[test]
fn a_restart_reads_footers_and_not_the_chunks_of_sealed_segments() {
    let subject = long_subject();
    let segments: Vec<String> = subject.disk.names().into_iter().filter(|name| name.contains(".seg")).collect();
    let (_, sealed) = segments.split_last().expect("some");
    // Whoever read these chunks would find nothing.
    let disk = subject.disk.copy();
    for segment in sealed {
        for range in map(&disk.content(segment)).headers {
            disk.flip(segment, range.start, 1);
        }
    }
    let (reader, report) = Reader::open_on(disk.shared()).expect("open");
    assert!(report.damage.is_empty(), "{report:?}");
    assert_eq!(reader.timeline().head.position, subject.head);
    // A footer that does not fit what follows it does not count for the whole.
    let disk = subject.disk.copy();
    let first = disk.content(&sealed[0]);
    disk.put(&sealed[1], &first);
    let report = verified(&disk);
    assert!(names(&report, &sealed[1], FindingKind::Foreign) && report.is_damaged());
}

#[test]
fn a_segment_of_another_journal_is_refused() {
    let subject = long_subject();
    let disk = subject.disk.copy();
    // Another journal's segment under the right name.
    let other = SimDisk::new();
    let create = journal::Create {
        journal: record::ids::JournalId::from_bytes([9; 16]),
        group: record::ids::GroupId::from_bytes([9; 16]),
        group_name: "other".into(),
        now: record::position::Label::from_nanos(5),
        segment_bytes: journal::Create::SEGMENT_BYTES_MIN,
    };
    journal::Journal::create_on(&other, &create).expect("create");
    drop(journal::Journal::open_on(other.shared()).expect("open"));
    disk.put("segments/00000002.seg", &other.content(SEGMENT));
    let seen = right_or_refused(&subject, &disk);
    assert!(seen.refused > 0);
    let report = verified(&disk);
    assert!(names(&report, "segments/00000002.seg", FindingKind::Foreign), "{:?}", report.findings);
}

#[test]
fn chunks_of_an_earlier_life_do_not_come_back() {
    let mut group = Group::new(&[40]);
    let volume = group.volumes[0].number;
    group.journal.commit_idle().expect("commit");
    group.catch_up();
    // Three chunks of one record each in one write; a crash tears the first. RECOVERY takes exactly its place, so
    // that the others stand where the next chunks would be searched, with the right numbers and positions.
    let start = map(&group.disk.content(SEGMENT)).end;
    for i in 0..3 {
        group.write(volume, extent(i, 1));
        group.seal();
    }
    let (reference, outbox) = (group.reference.clone(), group.outbox.clone());
    assert!(group.send());
    group.disk.flip(SEGMENT, start, 1);
    let Group { disk, laying, session, volumes, .. } = group;
    let disk = disk.killed();
    for round in 0..3 {
        let (mut group, report) = Group::open(disk.killed(), volumes.clone()).expect("open");
        assert_eq!(report.recovered, reference.head());
        assert!(report.damage.is_empty());
        group.reference = reference.clone();
        group.catch_up();
        group.check_all(at(1));
        // A power cut at once, or after one more chunk, or after all of them.
        group.laying = laying.clone();
        group.session = session;
        group.outbox = outbox[..round].to_vec();
        let same = record::conversation::Continuation::Same {
            session,
            laid: laying.next(),
            released: record::position::StreamSeq::FIRST,
        };
        assert!(group.open_session(&same));
        group.outbox = outbox[..round].to_vec();
        assert!(group.send());
        let (disk, reference) = (group.disk.power_cut(&mut Rng::new(round as u64)), group.reference.clone());
        drop(group);
        let (mut group, report) = Group::open(disk, volumes.clone()).expect("open");
        assert_eq!(report.recovered, reference.head());
        assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
        group.reference = reference;
        group.catch_up();
        group.check_all(at(1));
    }
}

#[test]
fn rot_of_the_first_record_after_a_clean_close_does_not_hide_what_follows() {
    let group = Group::new(&[40]);
    group.journal.close().expect("close");
    let start = map(&group.disk.content(SEGMENT)).end;
    let Group { disk, reference, volumes, session, laying, .. } = group;
    let (mut group, report) = Group::open(disk, volumes.clone()).expect("open");
    assert!(report.clean);
    group.reference = reference;
    group.catch_up();
    (group.session, group.laying) = (session, laying);
    let volume = volumes[0].number;
    for i in 0..3 {
        group.write(volume, extent(i, 9));
        assert!(group.send());
    }
    group.journal.commit_idle().expect("commit");
    group.catch_up();
    let head = group.head();
    // The footer of the close before tells of what it had then, and only of that.
    for keep_footer in [true, false] {
        let disk = group.disk.killed();
        disk.flip(SEGMENT, start + 20, 4);
        if !keep_footer {
            assert!(lose_footer(&disk, SEGMENT));
        }
        let subject = Subject::new(disk.copy(), &group.reference, volumes.clone(), head);
        let seen = right_or_refused(&subject, &disk);
        assert!(seen.shown >= 3, "{seen:?}");
        assert!(seen.refused > 0);
        let (again, report) = Group::open(disk, volumes.clone()).expect("open");
        assert_eq!(report.recovered, head);
        assert_eq!(report.damage.len(), 1);
        drop(again);
    }
}
