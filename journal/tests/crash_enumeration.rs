//! The power cut at every moment, and what it may leave.
//!
//! Goal: no acknowledged record is lost and none is invented, whatever is left of what was under way. Method: every
//! write, sync and change of names of a history is recorded, and of up to four chunks under way when each began and
//! ended. For every moment - every prefix - some worlds that a power cut may leave are read: any subset of what was
//! under way, reordered and torn by 512 bytes or by 4 KiB. Some of them are opened for writing, and lose power again.
//!
//! `ROUNDS=n` reads n times as many; 1,000 worlds a moment is `ROUNDS=250`. `SEED=n` is one history.

mod common;

use common::{Group, at, extent};
use journal::Reader;
use journal::device::Access;
use journal::place::SegmentNumber;
use kit::disk::Moment;
use kit::{Reference, Rng, SimDisk};
use record::op::Op;
use record::position::Position;

/// Worlds read of each moment.
const WORLDS: u64 = 4;

/// A history with its moments. What is said at a moment is how much was acknowledged by then.
struct Recorded {
    group: Group,
    moments: Vec<Moment>,
}

fn acknowledged(group: &mut Group) {
    group.catch_up();
    group.disk.say(group.head().get());
}

/// How long a history is, and what it is written over.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sort {
    Short,
    /// It fills segments.
    Long,
    /// And those are files that hold another segment, whole and valid: its life before.
    Used,
}

/// A segment like the first one, chunk for chunk, leaves the journal. It has the number of none, so nobody misses it.
fn retire_a_copy(group: &Group) {
    let gone = SegmentNumber::new(0);
    let first = group.disk.content(&SegmentNumber::FIRST.file());
    group.disk.shared().create(&gone.file(), 0, Access::Buffered).expect("a file");
    group.disk.put(&gone.file(), &first);
    assert_eq!(group.journal.retire(gone).expect("retire"), first.len() as u64);
}

fn record(seed: u64, sort: Sort) -> Recorded {
    let long = sort != Sort::Short;
    let mut rng = Rng::new(seed);
    let mut group = Group::new(if long { &[1500] } else { &[40, 24] });
    if sort == Sort::Used {
        // One segment is full.
        while group.journal.status().segments < 2 {
            let volume = group.volumes[0].number;
            group.write(volume, extent(rng.below(800), 300 + rng.below(300)));
            group.lay_some(&mut rng);
            assert!(group.send());
        }
        group.catch_up();
        retire_a_copy(&group);
    }
    group.disk.keep_moments();
    acknowledged(&mut group);
    for round in 0..5 {
        if sort == Sort::Used && !group.disk.names().iter().any(|name| name.starts_with("segments/00000000.seg")) {
            retire_a_copy(&group);
        }
        // A batch of several chunks: up to four of them are under way at once.
        for _ in 0..=rng.below(6) {
            if long && rng.one_in(3) {
                let volume = group.volumes[0].number;
                group.write(volume, extent(rng.below(800), 300 + rng.below(300)));
            }
            for _ in 0..=rng.below(2) {
                group.lay_some(&mut rng);
            }
            group.seal();
        }
        assert!(group.send());
        acknowledged(&mut group);
        match round {
            1 => {
                let target = at(group.head().get() - rng.below(3));
                group.rollback(target);
            }
            2 => drop(group.journal.commit_idle().expect("commit")),
            _ => group.mark(Op::Flush),
        }
        acknowledged(&mut group);
    }
    assert!(group.send());
    acknowledged(&mut group);
    if seed.is_multiple_of(2) {
        group.journal.close().expect("close");
    }
    Recorded { moments: group.disk.take_moments(), group }
}

/// Images at a few positions, with the newest, are what the reference remembers.
fn check(reader: &Reader, group: &Group, reference: &Reference, head: Position, rng: &mut Rng) {
    for volume in &group.volumes {
        reader.attach_base_device(volume.number, volume.base.clone()).expect("attach");
    }
    for n in [head.get(), 1 + rng.below(head.get())] {
        let Ok(image) = reader.image(at(n)) else { continue };
        for member in image.members() {
            let whole = extent(0, member.size.get());
            let mut bytes = vec![0xaa; usize::try_from(whole.bytes()).expect("small")];
            image.read(member.incarnation, whole, &mut bytes).expect("a sound image");
            assert!(bytes == reference.bytes(member.incarnation, at(n)), "seq:{n} differs");
        }
    }
}

/// The world that is left holds what was acknowledged, and at most what was laid.
fn read(recorded: &Recorded, disk: &SimDisk, at_least: u64, at_most: u64, rng: &mut Rng) -> Position {
    let (reader, report) = Reader::open_on(disk.shared()).expect("a power cut leaves a journal that opens");
    assert!(report.damage.is_empty(), "a power cut is no damage: {:?}", report.damage);
    assert!(report.alarms.is_empty(), "an honest disk loses nothing durable: {:?}", report.alarms);
    let head = report.recovered;
    assert!(head.get() >= at_least, "acknowledged up to {at_least}, recovered {head}");
    assert!(head.get() <= at_most, "laid up to {at_most}, recovered {head}");
    check(&reader, &recorded.group, &recorded.group.reference, head, rng);
    head
}

/// A writer goes on there, and the power goes once more.
fn goes_on(recorded: &Recorded, disk: &SimDisk, head: Position, rng: &mut Rng) {
    disk.keep_moments();
    let (mut group, report) = Group::open(disk.clone(), recorded.group.volumes.clone()).expect("open for writing");
    assert_eq!(report.recovered, head);
    group.reference = recorded.group.reference.clone();
    group.reference.cut(head);
    group.catch_up();
    group.disk.say(group.head().get());
    group.open_session(&common::lost());
    let volume = group.volumes[0].number;
    group.disk.say(group.head().get());
    for n in 0..3 {
        group.write(volume, extent(n, 5));
        group.seal();
    }
    assert!(group.send());
    let moments = group.disk.take_moments();
    let moment = &moments[rng.index(moments.len())];
    let left = moment.power_cut(rng, 512);
    let (reader, report) = Reader::open_on(left.shared()).expect("open");
    assert!(report.damage.is_empty() && report.alarms.is_empty(), "{report:?}");
    assert!(report.recovered.get() >= moment.word.max(head.get()) && report.recovered <= group.head());
    check(&reader, &group, &group.reference, report.recovered, rng);
}

fn enumerate(seed: u64, sort: Sort, worlds: u64) -> (u64, u64) {
    let recorded = record(seed, sort);
    let last = recorded.group.head().get();
    let (mut read_worlds, mut full) = (0, 0);
    for (n, moment) in recorded.moments.iter().enumerate() {
        full += u64::from(moment.under_way() == journal::device::IN_FLIGHT_MAX);
        let next_word = recorded.moments[n..].iter().map(|later| later.word).find(|word| *word > moment.word);
        let mut rng = Rng::new(seed ^ ((n as u64) << 20));
        for world in 0..worlds {
            let disk = moment.power_cut(&mut rng, if world % 2 == 0 { 512 } else { 4096 });
            let head = read(&recorded, &disk, moment.word, next_word.unwrap_or(last), &mut rng);
            if rng.one_in(5) {
                goes_on(&recorded, &disk, head, &mut rng);
            }
            read_worlds += 1;
        }
    }
    (read_worlds, full)
}

fn worlds() -> u64 {
    std::env::var("ROUNDS").ok().and_then(|rounds| rounds.parse::<u64>().ok()).unwrap_or(1) * WORLDS
}

fn seeds(first: u64, count: u64) -> std::ops::Range<u64> {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse::<u64>().ok());
    seed.map_or(first..first + count, |seed| seed..seed + 1)
}

#[test]
fn nothing_acknowledged_is_lost_and_nothing_invented_whatever_a_power_cut_leaves() {
    let (mut read, mut full) = (0, 0);
    for seed in seeds(1, 4) {
        println!("SEED={seed}");
        let (worlds, moments) = enumerate(seed, Sort::Short, worlds());
        (read, full) = (read + worlds, full + moments);
    }
    println!("{read} worlds; four chunks were under way at {full} moments");
    assert!(full > 0);
}

#[test]
fn nor_when_segments_are_sealed_and_made() {
    let mut read = 0;
    for seed in seeds(11, 2) {
        println!("SEED={seed}");
        read += enumerate(seed, Sort::Long, worlds()).0;
    }
    println!("{read} worlds");
}

#[test]
fn nor_when_they_are_made_of_files_that_were_segments_before() {
    let mut read = 0;
    for seed in seeds(21, 2) {
        println!("SEED={seed}");
        read += enumerate(seed, Sort::Used, worlds()).0;
    }
    println!("{read} worlds");
}
