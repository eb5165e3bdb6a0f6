//! A volume is compared with its newest image while hosts write, and what was changed behind our back is found.
//!
//! Goal: writes in flight are never taken for a difference, damage is told to the block, repair records the volume's
//! content, and what cannot be compared says why. Method: a model of an appliance that remembers every record and answers
//! for exactly the moment that it is asked about, over a real socket, once it has the records; it may cut the link.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use record::chunk::Body;
use record::conversation::frame::{FRAME_HEAD_BYTES, Message as _, frame_head};
use record::conversation::{Member, ToAppliance, ToSplitter};
use record::digest::Digest;
use record::geometry::Extent;
use record::ids::{BootId, GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::op::Op;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;
use ublk_device::request::Kind;
use ublk_splitter::backing::{AlignedBuffer, Backing};
use ublk_splitter::catalog::Catalog;
use ublk_splitter::dirty_map::{DirtyMap, Missing};
use ublk_splitter::group::{Group, Identity};
use ublk_splitter::outbox::{Mode, Outbox, Owner};
use ublk_splitter::policy::{Policy, SplitMode};
use ublk_splitter::ring_io::{Blocking, block_on};
use ublk_splitter::stream::Stream;
use ublk_splitter::volume::{Counts, Synchronisation, Volume};
use ublk_splitter::work::verify::{Found, VerifyError, verify};

const GROUP: GroupId = GroupId::from_bytes([2; 16]);
const JOURNAL: JournalId = JournalId::from_bytes([3; 16]);
const V: Incarnation = Incarnation::new(1);
const BYTES: usize = 4 << 20;

/// Every record: what it made of which extent.
#[derive(Default)]
struct History {
    records: Vec<Option<(Extent, Vec<u8>)>>,
    /// An extent that cannot be read.
    rotten: Option<Extent>,
}

fn range(extent: Extent) -> std::ops::Range<usize> {
    let start = usize::try_from(extent.start().byte_offset()).unwrap();
    start..start + usize::try_from(extent.bytes()).unwrap()
}

impl History {
    fn next(&self) -> StreamSeq {
        StreamSeq::new(1 + self.records.len() as u64)
    }

    fn content(&self, below: StreamSeq) -> Vec<u8> {
        let mut content = vec![0; BYTES];
        for (extent, bytes) in self.records.iter().take(usize::try_from(below.get() - 1).unwrap()).flatten() {
            content[range(*extent)].copy_from_slice(bytes);
        }
        content
    }

    fn take(&mut self, body: &Body, payload: &[u8]) {
        // Sent again after a cut, perhaps.
        let next = self.next();
        for record in body.records.iter().filter(|record| record.seq >= next) {
            let d = &record.descriptor;
            self.records.push(d.extent.map(|extent| match d.op {
                Op::Write => {
                    let from = d.payload_offset as usize;
                    (extent, payload[from..from + range(extent).len()].to_vec())
                }
                Op::Punch | Op::Zero => (extent, vec![0; range(extent).len()]),
                other => panic!("{other} was not expected"),
            }));
        }
    }

    fn answer(&self, extent: Extent, at: StreamSeq) -> ToSplitter {
        let (digest, trouble) = if self.rotten.is_some_and(|rotten| rotten.intersection(extent).is_some()) {
            (None, "data of seq:7 is damaged".to_owned())
        } else {
            (Some(Digest::of(&self.content(at)[range(extent)])), String::new())
        };
        ToSplitter::VerifyHash { volume: V, extent, at, digest, trouble }
    }
}

fn receive(stream: &mut UnixStream) -> Option<ToAppliance> {
    let mut head = [0u8; FRAME_HEAD_BYTES];
    stream.read_exact(&mut head).ok()?;
    let (len, crc) = frame_head(head).unwrap();
    let mut body = vec![0; len];
    stream.read_exact(&mut body).ok()?;
    Some(ToAppliance::decode(&body, crc).unwrap())
}

/// Serves one connection; cuts it after so many answers.
fn serve(mut stream: UnixStream, history: &Mutex<History>, answers: &AtomicUsize) {
    let mut outbox = None;
    let mut asked: Vec<(Extent, StreamSeq)> = Vec::new();
    while let Some(message) = receive(&mut stream) {
        let mut history = history.lock().unwrap();
        let mut said = Vec::new();
        match message {
            ToAppliance::Open { outbox: path, .. } => {
                outbox = Some(File::open(Path::new(&path)).unwrap());
                said.push(ToSplitter::Granted {
                    journal: JOURNAL,
                    session: Session::new(1),
                    expected: history.next(),
                    consistent: true,
                    label: Label::default(),
                    members: vec![Member { id: VolumeId::from_bytes([4; 16]), volume: V, joined: true }],
                    indeterminate: vec![],
                    restoring: None,
                });
            }
            ToAppliance::Chunk { header_at, header_len, payload_at, payload_len, .. } => {
                let file = outbox.as_ref().unwrap();
                let (mut header, mut payload) = (vec![0; header_len as usize], vec![0; payload_len as usize]);
                file.read_exact_at(&mut header, header_at).unwrap();
                file.read_exact_at(&mut payload, payload_at).unwrap();
                history.take(&Body::decode(&header, JOURNAL).unwrap(), &payload);
                let next = history.next();
                said.push(ToSplitter::Ack { session: Session::new(1), received: next, durable: next, committed: next });
            }
            ToAppliance::VerifyRead { session, volume, extent, at } => {
                assert_eq!((session, volume), (Session::new(1), V));
                asked.push((extent, at));
            }
            _ => {}
        }
        let (ready, waiting): (Vec<_>, Vec<_>) = asked.into_iter().partition(|(_, at)| *at <= history.next());
        asked = waiting;
        for (extent, at) in ready {
            if answers.fetch_update(Ordering::AcqRel, Ordering::Acquire, |left| left.checked_sub(1)).is_err() {
                answers.store(300, Ordering::Release);
                return;
            }
            said.push(history.answer(extent, at));
        }
        drop(history);
        if said.iter().any(|frame| stream.write_all(&frame.encode()).is_err()) {
            return;
        }
    }
}

struct World {
    dir: tempfile::TempDir,
    group: Arc<Group>,
    volume: Arc<Volume>,
    history: Arc<Mutex<History>>,
    answers: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let backing = dir.path().join("backing");
        File::create(&backing).unwrap().set_len(BYTES as u64).unwrap();
        let owner = Owner { boot: BootId::from_bytes([1; 16]), group: GROUP, journal: JOURNAL };
        let (outbox, _) = Outbox::open(&dir.path().join("box"), owner, 64, Mode::Waiting).unwrap();
        let stream = Stream::new("g", outbox, None, Mode::Waiting, None, ublk_splitter::clock::of_host);
        let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
        let me = Identity {
            id: SplitterId::from_bytes([9; 16]),
            name: "main".to_owned(),
            life: SplitterIncarnation::new(1),
        };
        let group = Arc::new(Group::new("g", GROUP, JOURNAL, me, stream, None, None, catalog));
        let size = record::geometry::SectorCount::from_bytes(BYTES as u64).unwrap();
        let id = VolumeId::from_bytes([4; 16]);
        let volume = Arc::new(Volume {
            name: "v".into(),
            id,
            incarnation: V,
            backing: Backing::open(&backing, None).unwrap(),
            map: DirtyMap::open(&dir.path().join("v.map"), id, size, JOURNAL, Missing::Clean).unwrap(),
            stream: Arc::clone(&group.stream),
            jobs: group.jobs.clone(),
            counts: Counts::default(),
            sync: Synchronisation::default(),
        });
        group.add_volume(Arc::clone(&volume));
        // The model is slower than hosts that do nothing but write.
        group.stream.set_policy(Policy { mode: SplitMode::BoundedLag, lag_bytes: 1 << 20, ..Policy::default() });
        let (history, answers) = (Arc::new(Mutex::new(History::default())), Arc::new(AtomicUsize::new(usize::MAX)));
        let mut world = Self { dir, group, volume, history, answers, threads: Vec::new() };
        world.link();
        world
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("link.sock")
    }

    fn link(&mut self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let (history, answers) = (Arc::clone(&self.history), Arc::clone(&self.answers));
        let group = Arc::clone(&self.group);
        self.threads.push(std::thread::spawn(move || {
            for stream in listener.incoming() {
                if group.quits() {
                    return;
                }
                serve(stream.unwrap(), &history, &answers);
            }
        }));
        let (group, socket) = (Arc::clone(&self.group), self.socket());
        self.threads.push(std::thread::spawn(move || ublk_splitter::link::run(&group, &socket)));
        assert!(self.group.wait_granted(Duration::from_secs(10)));
    }

    fn write(&self, start: u64, sectors: u64, byte: u8) {
        for extent in Extent::new(start, sectors).unwrap().pieces(1024) {
            let mut buffer = AlignedBuffer::new(usize::try_from(extent.bytes()).unwrap());
            buffer.bytes_mut().fill(byte);
            block_on(self.volume.serve(Kind::Write { extent, fua: false }, buffer.bytes_mut(), &Blocking)).unwrap();
        }
    }

    /// Changes the backing behind our back.
    fn damage(&self, sector: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(self.volume.backing.path()).unwrap();
        file.write_all_at(bytes, sector * 512).unwrap();
    }

    fn verify(&self, repair: bool) -> Result<Found, VerifyError> {
        block_on(verify(&self.group, &Blocking, &self.volume, repair, |_| ()))
    }

    /// Runs `during` while hosts write all over the first mebibyte.
    fn while_hosts_write<T>(&self, during: impl FnOnce() -> T) -> T {
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for thread in 0..3u8 {
                let over = &over;
                scope.spawn(move || {
                    let mut turn = u64::from(thread);
                    while !over.load(Ordering::Acquire) {
                        turn = turn.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        self.write(turn >> 33 & 1023, 1 + (turn >> 45 & 7), (turn >> 56) as u8);
                    }
                });
            }
            let result = during();
            over.store(true, Ordering::Release);
            result
        })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.group.quit();
        drop(UnixStream::connect(self.socket()));
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn same() -> Found {
    Found { bytes: BYTES as u64, ..Found::default() }
}

#[test]
fn a_volume_that_is_being_written_is_the_same_as_its_image() {
    let world = World::new();
    world.write(0, 2048, 1);
    world.while_hosts_write(|| {
        for _ in 0..5 {
            assert_eq!(world.verify(false).unwrap(), same());
        }
    });
    assert_eq!(world.verify(true).unwrap(), same(), "nothing to repair");
}

#[test]
fn a_link_that_is_cut_in_the_middle_costs_time_and_no_truth() {
    let world = World::new();
    world.write(0, 4096, 1);
    world.damage(4000, &[9; 512]);
    world.answers.store(3, Ordering::Release);
    let found = world.while_hosts_write(|| world.verify(false).unwrap());
    assert_eq!(found, Found { differing: vec![Extent::new(4000, 8).unwrap()], ..same() });
    assert!(world.answers.load(Ordering::Acquire) < usize::MAX, "it was cut");
}

#[test]
fn what_was_changed_behind_our_back_is_found_to_the_block_and_repaired() {
    let world = World::new();
    world.write(2048, 4096, 5);
    world.damage(3072, &[9; 8192]);
    world.damage(8184, &[9; 4096]);
    let damaged = vec![Extent::new(3072, 16).unwrap(), Extent::new(8184, 8).unwrap()];
    let (found, repaired) = world.while_hosts_write(|| (world.verify(false).unwrap(), world.verify(true).unwrap()));
    assert_eq!(found, Found { differing: damaged.clone(), ..same() });
    assert_eq!(repaired, Found { differing: damaged, repaired: true, ..same() });
    assert_eq!(world.verify(false).unwrap(), same(), "the history has what the volume holds");
    let history = world.history.lock().unwrap();
    let on_disk = std::fs::read(world.volume.backing.path()).unwrap();
    assert!(history.content(history.next()) == on_disk);
}

#[test]
fn what_cannot_be_read_of_the_image_is_told_with_the_reason() {
    let world = World::new();
    world.write(0, 64, 1);
    world.history.lock().unwrap().rotten = Extent::new(16, 3);
    let found = world.verify(true).unwrap();
    let unreadable = vec![(Extent::new(16, 8).unwrap(), "data of seq:7 is damaged".to_owned())];
    assert_eq!(found, Found { unreadable, ..same() });
}

#[test]
fn a_group_that_does_not_record_is_refused_with_why_and_one_that_ceases_to_breaks_it_off() {
    let world = World::new();
    world.write(0, 4096, 1);
    let broken = std::thread::scope(|scope| {
        let comparing = scope.spawn(|| {
            block_on(verify(&world.group, &Blocking, &world.volume, false, |_| {
                world.group.stream.mark("the outbox burst");
            }))
        });
        comparing.join().unwrap()
    });
    assert!(
        matches!(&broken, Err(VerifyError::BrokeOff { why, .. }) if why.contains("the outbox burst")),
        "{broken:?}"
    );
    let refused = world.verify(false);
    assert!(matches!(&refused, Err(VerifyError::Refused(why)) if why.contains("the outbox burst")), "{refused:?}");
}
