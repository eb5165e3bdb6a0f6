//! What it costs to take writes in, on this machine and this disk: one line `RATIO name value` each.
//!
//! Goal: what `cargo xtask bench engine` reports of the write path. Method: a journal in FOLDER takes chunks of random
//! records of 4 KiB, then of 64 KiB, in chunks as a splitter seals them and as many at once as an appliance hands over,
//! out of shared memory and right behind their sealing; beside it the very bytes of the payload are written to a file that
//! has been written before, in the same pieces, each durable (`O_DIRECT`, `RWF_DSYNC`): one behind the other, which is what
//! counts as raw; and, for `_of_four_at_once`, with four under way. The three alternate in slices, and every figure is the
//! median over the slices, so that whatever else the machine does meets all of them. Raw is the same whatever is measured
//! beside it. The journal is one that has been running: whenever it begins a segment its oldest is retired, as retention
//! does, and the slices count once it goes round in files that were written before, about as many bytes of them as raw goes
//! round in; retiring is part of what is measured. Beside that, `_fresh`, a young journal, each of whose segments is a new
//! file. Processor time is that of this process while it is inside the journal. Bytes are those that the process hands to
//! the disk (`/proc/self/io`), all of them: headers, footers, superblocks.
//!
//! `ingest_figures FOLDER [SLICES]`

use journal::device::{Access, Aligned, Disk, DiskFile, Flight, IN_FLIGHT_MAX, Part, RealDisk};
use journal::place::SegmentNumber;
use journal::{Create, JoinRequest, Journal};
use memmap2::MmapMut;
use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::memfd::{MFdFlags, memfd_create};
use record::build::BodyBuilder;
use record::chunk::Descriptor;
use record::conversation::Continuation;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use record::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::op::Op;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};
use std::fs;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

/// Payload of a slice.
const SLICE_BYTES: usize = 32 << 20;
/// Payload of a chunk, as a splitter under load seals it (a slot of its outbox).
const CHUNK_BYTES: usize = 1 << 20;
/// Chunks that an appliance hands over at once.
const BATCH_CHUNKS: usize = 16;
/// Of the file that raw writes go round in: no slice meets what the one before left in a cache.
const RAW_BYTES: u64 = 512 << 20;
/// Segments that a journal keeps; some more files of it wait to be used again.
const SEGMENTS_KEPT: u64 = 6;
/// Slices after which a journal that retires segments writes only into files that were segments before.
const SLICES_AHEAD: usize = 20;
/// Of the volume.
const SECTORS: u64 = 1 << 31;
const ID: JournalId = JournalId::from_bytes(*b"journal of bench");
const SPLITTER: SplitterId = SplitterId::from_bytes([1; 16]);

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().ok_or("usage: ingest_figures FOLDER [SLICES]")?;
    let slices = arguments.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(15);
    let folder = Path::new(&folder);
    for (record_bytes, name) in [(4096, "4k"), (65536, "64k")] {
        let figures = ingest(&folder.join(name), record_bytes, slices, Life::Running)?;
        let Figures { ratio, flown, raw, cpu, bytes } = figures;
        eprintln!("{name}: raw {:.0} MB/s", raw / 1e6);
        let fresh = ingest(&folder.join(name), record_bytes, slices, Life::Young)?.ratio;
        println!("RATIO ingest_{name} {ratio:.3}");
        println!("RATIO ingest_{name}_of_four_at_once {flown:.3}");
        println!("RATIO ingest_{name}_fresh {fresh:.3}");
        println!("RATIO cpu_s_per_gb_{name} {cpu:.3}");
        println!("RATIO bytes_per_byte_{name} {bytes:.4}");
    }
    Ok(())
}

/// What segments are made of.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Life {
    /// Of those that are not needed any more.
    Running,
    /// Of new files.
    Young,
}

struct Figures {
    /// Of raw.
    ratio: f64,
    /// Of raw writes of which four are under way.
    flown: f64,
    /// Bytes a second, raw.
    raw: f64,
    cpu: f64,
    bytes: f64,
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn ingest(folder: &Path, record_bytes: usize, slices: usize, life: Life) -> Result<Figures, Failure> {
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    let mut writer = Writer::new(&folder.join("journal"), record_bytes, life)?;
    let mut raw = Raw::new(folder)?;
    let (mut ratios, mut flights, mut raws, mut cpus) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let mut handed = 0;
    // For warming up.
    let ahead = match life {
        Life::Running => SLICES_AHEAD,
        Life::Young => 1,
    };
    let mut outbox = Outbox::new(SLICE_BYTES / CHUNK_BYTES)?;
    for slice in 0..ahead + slices {
        let (mut ours, mut cpu, mut bytes) = (0.0, 0.0, 0);
        for first in (0..SLICE_BYTES / CHUNK_BYTES).step_by(BATCH_CHUNKS) {
            let batch = first..first + BATCH_CHUNKS;
            writer.lay(&mut outbox, batch.clone());
            let (before, began, used) = (written(), Instant::now(), cpu_seconds()?);
            writer.append(&outbox, batch)?;
            (ours, cpu) = (ours + began.elapsed().as_secs_f64(), cpu + cpu_seconds()? - used);
            bytes += written() - before;
        }
        let one = raw.one_by_one(&outbox)?;
        let flown = raw.flown(&outbox)?;
        if slice >= ahead {
            handed += bytes;
            ratios.push(one / ours);
            flights.push(flown / ours);
            raws.push(SLICE_BYTES as f64 / one);
            cpus.push(cpu * 1e9 / SLICE_BYTES as f64);
        }
    }
    let before = written();
    writer.journal.close()?;
    handed += written() - before;
    let bytes = handed as f64 / (slices * SLICE_BYTES) as f64;
    fs::remove_dir_all(folder)?;
    Ok(Figures { ratio: median(ratios), flown: median(flights), raw: median(raws), cpu: median(cpus), bytes })
}

/// Chunks in shared memory, in slots that are filled again and again, as in a splitter's outbox.
struct Outbox {
    memory: MmapMut,
    /// Of each slot, the bytes of its header area and of its payload area.
    lengths: Vec<(usize, usize)>,
}

/// Bytes of a slot: a header area, and a payload area.
const AREA_BYTES: usize = 16 << 10;
const SLOT_BYTES: usize = AREA_BYTES + CHUNK_BYTES;

impl Outbox {
    fn new(slots: usize) -> Result<Self, Failure> {
        let file = fs::File::from(memfd_create("outbox", MFdFlags::MFD_CLOEXEC)?);
        // As an outbox has it: all of its memory, before it is mapped.
        fallocate(&file, FallocateFlags::empty(), 0, i64::try_from(slots * SLOT_BYTES)?)?;
        #[expect(unsafe_code, reason = "shared memory, as an outbox is")]
        // SAFETY: the file is this function's own; nobody else has it, to write it or to make it shorter.
        let memory = mapping::placed(|| unsafe { MmapMut::map_mut(&file) })?;
        mapping::into_huge_pages(&memory);
        Ok(Self { memory, lengths: vec![(0, 0); slots] })
    }

    fn fill(&mut self, slot: usize, area: &[u8], payload: &[u8]) {
        self.lengths[slot] = (area.len(), payload.len());
        let memory = &mut self.memory[slot * SLOT_BYTES..][..SLOT_BYTES];
        memory[..area.len()].copy_from_slice(area);
        memory[AREA_BYTES..][..payload.len()].copy_from_slice(payload);
    }

    /// Header area and payload area of each.
    fn chunks(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.memory
            .chunks(SLOT_BYTES)
            .zip(&self.lengths)
            .map(|(slot, (area, payload))| (&slot[..*area], &slot[AREA_BYTES..][..*payload]))
    }
}

/// A journal and the stream of a splitter.
struct Writer {
    journal: Journal,
    life: Life,
    /// Its oldest segment.
    oldest: SegmentNumber,
    session: Session,
    next: StreamSeq,
    label: u64,
    volume: Incarnation,
    record: Vec<u8>,
    dice: u64,
}

impl Writer {
    fn new(folder: &Path, record_bytes: usize, life: Life) -> Result<Self, Failure> {
        let now = Label::from_nanos(1_800_000_000_000_000_000);
        let group = GroupId::from_bytes([2; 16]);
        let segment_bytes = Create::SEGMENT_BYTES;
        let create = Create { journal: ID, group, group_name: "bench".into(), now, segment_bytes };
        Journal::create(folder, &create)?;
        let journal = Journal::open(folder)?.journal;
        let request = JoinRequest {
            volume: VolumeId::from_bytes([3; 16]),
            name: "v".into(),
            size: SectorCount::new(SECTORS).ok_or("a size")?,
            block: LogicalBlock::SECTOR,
            splitter: SPLITTER,
        };
        let volume = journal.join(&request, now)?;
        let replica = folder.with_extension("replica");
        fs::File::create(&replica)?;
        journal.attach_base(volume, &replica)?;
        journal.joined(volume, now)?;
        let lost = Continuation::Lost { reason: "the first".into() };
        let granted = journal.grant(SPLITTER, SplitterIncarnation::FIRST, &lost)?;
        let record = (0..record_bytes).map(|i| (i * 31 % 251).to_le_bytes()[0]).collect();
        Ok(Self {
            journal,
            life,
            oldest: SegmentNumber::FIRST,
            session: granted.session,
            next: granted.expected,
            label: now.nanos(),
            volume,
            record,
            dice: 7,
        })
    }

    /// Fills slots of the outbox with chunks at random places of the volume.
    fn lay(&mut self, outbox: &mut Outbox, slots: Range<usize>) {
        let sectors = self.record.len() as u64 / 512;
        for slot in slots {
            let mut builder = BodyBuilder::new(ID, self.session, self.next);
            for _ in 0..CHUNK_BYTES / self.record.len() {
                // SplitMix64.
                self.dice = self.dice.wrapping_add(0x9e37_79b9_7f4a_7c15);
                let mut z = self.dice;
                z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
                z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
                let start = (z ^ (z >> 31)) % (SECTORS / sectors) * sectors;
                self.record[..8].copy_from_slice(&z.to_le_bytes());
                self.label += 1_000;
                let label = Label::from_nanos(self.label);
                let descriptor = Descriptor::bare(Op::Write, self.volume, Extent::new(start, sectors), label);
                assert!(builder.push(descriptor, &self.record), "a chunk takes this much");
                self.next = self.next.next();
            }
            let body = builder.finish();
            outbox.fill(slot, &body.header, &body.payload);
        }
    }

    fn append(&mut self, outbox: &Outbox, slots: Range<usize>) -> Result<(), Failure> {
        let batch: Vec<(&[u8], &[u8])> = outbox.chunks().skip(slots.start).take(slots.len()).collect();
        self.journal.append_many(self.session, &batch)?;
        while self.life == Life::Running && self.journal.status().segments > SEGMENTS_KEPT {
            self.journal.retire(self.oldest)?;
            self.oldest = self.oldest.next();
        }
        Ok(())
    }
}

/// A file that was written before.
struct Raw {
    file: Arc<dyn DiskFile>,
    at: u64,
}

impl Raw {
    fn new(folder: &Path) -> Result<Self, Failure> {
        let disk = RealDisk::new(folder);
        let file = disk.create("raw", RAW_BYTES, Access::Durable)?;
        let some = Aligned::zeroed(4 << 20);
        for at in (0..RAW_BYTES).step_by(some.len()) {
            file.write_at(&[std::io::IoSlice::new(&some)], at)?;
        }
        Ok(Self { file, at: 0 })
    }

    /// Where the next slice goes.
    fn turn(&mut self) -> u64 {
        let at = self.at;
        self.at = (at + SLICE_BYTES as u64) % RAW_BYTES;
        at
    }

    fn one_by_one(&mut self, outbox: &Outbox) -> Result<f64, Failure> {
        let mut at = self.turn();
        let began = Instant::now();
        for (_, payload) in outbox.chunks() {
            self.file.write_at(&[std::io::IoSlice::new(payload)], at)?;
            at += payload.len() as u64;
        }
        Ok(began.elapsed().as_secs_f64())
    }

    fn flown(&mut self, outbox: &Outbox) -> Result<f64, Failure> {
        let mut at = self.turn();
        let began = Instant::now();
        let mut outcome = Ok(());
        self.file.fly(false, &mut |flight: &mut dyn Flight<'_>| {
            for (begun, (_, payload)) in outbox.chunks().enumerate() {
                if begun >= IN_FLIGHT_MAX
                    && let Some((_, Err(error))) = flight.wait()
                {
                    outcome = Err(error);
                }
                flight.begin(vec![Part::of(payload)], at);
                at += payload.len() as u64;
            }
            while let Some((_, done)) = flight.wait() {
                if let Err(error) = done {
                    outcome = Err(error);
                }
            }
        });
        outcome?;
        Ok(began.elapsed().as_secs_f64())
    }
}

/// Bytes that this process handed to disks.
fn written() -> u64 {
    let io = fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    line.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0)
}

fn cpu_seconds() -> Result<f64, Failure> {
    use nix::sys::resource::{UsageWho, getrusage};
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let seconds = |t: nix::sys::time::TimeVal| t.tv_sec() as f64 + t.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}
