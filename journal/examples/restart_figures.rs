//! How long a journal of a long history takes until it accepts writes again, on this machine and this disk.
//!
//! Goal: what `cargo xtask bench engine` reports of restarts. Method: records without payload (discards of 4 KiB, random over
//! 1 TiB) fill a journal in FOLDER; it is dropped as a killed process leaves it, and opened again until RECOVERY is durable:
//! `restart_ms`, the median of five. The same after a tenth of the records: `restart_ms_of_a_tenth`. What a first image takes
//! to open and read 4 KiB after such a restart is `restart_first_read_ms`.
//!
//! `restart_figures FOLDER [RECORDS]`: 10,000,000 unless told otherwise; 100,000,000 take some 6 GiB.

use journal::{Create, FileBase, JoinRequest, Journal};
use record::build::BodyBuilder;
use record::chunk::Descriptor;
use record::conversation::Continuation;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use record::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::op::{Op, OpFlags};
use record::point::Point;
use record::position::{Label, Session, SplitterIncarnation, StreamSeq};
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

const SECTORS: u64 = 1 << 31;
const BLOCKS: u64 = SECTORS / 8;
const CHUNK_RECORDS: u64 = 1000;
/// Chunks that are handed over at once.
const BATCH: u64 = 32;
const RESTARTS: usize = 5;
const ID: JournalId = JournalId::from_bytes(*b"journal of bench");
const SPLITTER: SplitterId = SplitterId::from_bytes([1; 16]);

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args_os().skip(1);
    let folder = arguments.next().ok_or("usage: restart_figures FOLDER [RECORDS]")?;
    let records: u64 = arguments.next().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(10_000_000);
    let folder = Path::new(&folder).join("restart");
    if folder.exists() {
        fs::remove_dir_all(&folder)?;
    }
    fs::create_dir_all(&folder)?;
    let mut history = History::begin(&folder)?;
    history.lay(records / 10)?;
    let (tenth, _) = history.restart()?;
    history.lay(records - records / 10)?;
    let (whole, first_read) = history.restart()?;
    println!("RATIO restart_ms {whole:.3}");
    println!("RATIO restart_ms_of_a_tenth {tenth:.3}");
    println!("RATIO restart_first_read_ms {first_read:.3}");
    drop(history);
    fs::remove_dir_all(&folder)?;
    Ok(())
}

/// A journal in the making.
struct History {
    folder: std::path::PathBuf,
    journal: Option<Journal>,
    volume: Incarnation,
    session: Session,
    next: StreamSeq,
    label: Label,
    dice: u64,
}

impl History {
    fn begin(folder: &Path) -> Result<Self, Failure> {
        let path = folder.join("journal");
        let create = Create {
            journal: ID,
            group: GroupId::from_bytes([2; 16]),
            group_name: "bench".into(),
            now: Label::from_nanos(1),
            segment_bytes: Create::SEGMENT_BYTES,
        };
        Journal::create(&path, &create)?;
        let journal = Journal::open(&path)?.journal;
        let granted =
            journal.grant(SPLITTER, SplitterIncarnation::FIRST, &Continuation::Lost { reason: "new".into() })?;
        let request = JoinRequest {
            volume: VolumeId::from_bytes([3; 16]),
            name: "v".into(),
            size: SectorCount::new(SECTORS).ok_or("a size")?,
            block: LogicalBlock::SECTOR,
            splitter: SPLITTER,
        };
        let volume = journal.join(&request, Label::from_nanos(1))?;
        let replica = folder.join("replica");
        fs::File::create(&replica)?.set_len(SECTORS * 512)?;
        journal.reader().attach_base_device(volume, Arc::new(FileBase::open(&replica, SECTORS * 512, true)?))?;
        journal.joined(volume, Label::from_nanos(2))?;
        Ok(Self {
            folder: folder.to_owned(),
            journal: Some(journal),
            volume,
            session: granted.session,
            next: granted.expected,
            label: granted.label,
            dice: 0x9e37_79b9_7f4a_7c15,
        })
    }

    fn extent(&mut self) -> Result<Extent, Failure> {
        // xorshift64: G. Marsaglia, "Xorshift RNGs".
        self.dice ^= self.dice << 13;
        self.dice ^= self.dice >> 7;
        self.dice ^= self.dice << 17;
        Ok(Extent::new(self.dice % BLOCKS * 8, 8).ok_or("an extent")?)
    }

    fn lay(&mut self, records: u64) -> Result<(), Failure> {
        let mut left = records;
        while left > 0 {
            let mut bodies = Vec::new();
            while left > 0 && (bodies.len() as u64) < BATCH {
                let mut builder = BodyBuilder::new(ID, self.session, self.next);
                let count = left.min(CHUNK_RECORDS);
                for _ in 0..count {
                    self.label = Label::from_nanos(self.label.nanos() + 10_000);
                    let descriptor = Descriptor {
                        op: Op::Punch,
                        flags: OpFlags::default(),
                        volume: self.volume,
                        extent: Some(self.extent()?),
                        label: self.label,
                        payload_offset: 0,
                        payload_bytes: 0,
                        wall_minus_label_ms: 0,
                    };
                    assert!(builder.push(descriptor, &[]), "a chunk takes {CHUNK_RECORDS} records");
                }
                self.next = self.next.plus(count);
                left -= count;
                bodies.push(builder.finish());
            }
            let chunks: Vec<_> = bodies.iter().map(|body| (&body.header[..], &body.payload[..])).collect();
            self.journal.as_ref().ok_or("open")?.append_many(self.session, &chunks)?;
        }
        Ok(())
    }

    /// Milliseconds of a restart, and of the first image's first read behind it.
    fn restart(&mut self) -> Result<(f64, f64), Failure> {
        let (mut restarts, mut reads) = (Vec::new(), Vec::new());
        for _ in 0..RESTARTS {
            self.journal = None;
            let began = Instant::now();
            let journal = Journal::open(&self.folder.join("journal"))?.journal;
            restarts.push(began.elapsed().as_secs_f64() * 1e3);
            journal.attach_base(self.volume, &self.folder.join("replica"))?;
            let began = Instant::now();
            let image = journal.image(journal.resolve(&Point::Latest, false)?)?;
            let mut buffer = vec![0; 4096];
            image.read(self.volume, self.extent()?, &mut buffer)?;
            reads.push(began.elapsed().as_secs_f64() * 1e3);
            let same = Continuation::Same { session: self.session, laid: self.next, released: StreamSeq::FIRST };
            journal.grant(SPLITTER, SplitterIncarnation::FIRST, &same)?;
            self.journal = Some(journal);
        }
        Ok((median(restarts), median(reads)))
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
