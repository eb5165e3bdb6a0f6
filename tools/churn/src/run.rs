//! `churn run`: the lanes that change a device, and what they note of it.
//!
//! Owns the threads. A lane submits one operation, waits for it, notes its end, and goes on; `depth` lanes make a thread
//! of the command line (discards and zeroings are calls that wait, so each needs a thread of the system).

use crate::device::{Buffer, Device};
use crate::log::{Event, Header, Kind, Writer};
use crate::plan::{Mix, Plan, Shape};
use crate::rng::mix;
use crate::sector::{SECTOR, Stamp, fill};
use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{SigSet, Signal};
use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// The longest write unless the command line says otherwise, sectors.
pub const LONGEST_WRITE: u64 = 256;

/// What is to be run.
#[derive(Clone, Debug)]
pub struct Order {
    /// The device.
    pub device: PathBuf,
    /// The log to make.
    pub log: PathBuf,
    /// Whether every beginning is on disk before its operation is submitted.
    pub synced_log: bool,
    /// Where all chance comes from.
    pub seed: u64,
    /// Lanes: threads times depth.
    pub lanes: u16,
    /// When to end by itself.
    pub end: End,
    /// Operations a second, all lanes together; `None`: as fast as it goes.
    pub rate: Option<u64>,
    /// The region: first sector and sectors; `None`: all of the device.
    pub region: Option<(u64, u64)>,
    /// The longest write, sectors.
    pub longest_write: Option<u64>,
    /// The longest discard or zeroing, sectors.
    pub longest_clear: Option<u64>,
    /// See [`Shape::hot_blocks`].
    pub hot_blocks: Option<u64>,
    /// What is done how often. What the device does not take is left out.
    pub mix: Mix,
    /// Whether a discarded sector of this device may keep what it had.
    pub discards_may_keep: bool,
    /// Whether to go on after an operation failed.
    pub go_on: bool,
}

/// When a run ends by itself.
#[derive(Clone, Copy, Debug, Default)]
pub struct End {
    /// After so many operations.
    pub operations: Option<u64>,
    /// After so long.
    pub after: Option<Duration>,
}

/// What a run did.
#[derive(Debug, Default)]
pub struct Done {
    /// The run's number, as in its sectors and its log.
    pub run: u64,
    /// Operations of each kind that came back well.
    pub counts: BTreeMap<&'static str, u64>,
    /// What failed, one line each.
    pub errors: Vec<String>,
}

/// Errors that are told; each is in the log.
const TOLD: usize = 20;

struct Common<'a> {
    order: &'a Order,
    device: &'a Device,
    log: &'a Writer,
    run: u64,
    shape: Shape,
    stop: &'a AtomicBool,
    begun: AtomicU64,
    started: Instant,
    counts: Mutex<BTreeMap<&'static str, u64>>,
    errors: Mutex<Vec<String>>,
}

/// Runs until the end that was ordered, SIGTERM or SIGINT, or the first error. The first operation makes the region
/// zero, so that the history begins with a known state; the last one is a flush.
pub fn run(order: &Order) -> Result<Done> {
    let device = Device::open(&order.device)?;
    let shape = shape(order, &device)?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos());
    let run = mix(order.seed ^ mix(u64::try_from(now & u128::from(u64::MAX)).unwrap_or(0)));
    let mut limits = device.limits;
    limits.discard_zeroes &= !order.discards_may_keep;
    let header = Header { run, seed: order.seed, first: shape.first, sectors: shape.sectors, limits };
    let log = Writer::create(&order.log, &header, order.synced_log)?;
    // Whoever waits for the signals must be the only one who gets them: before there is any other thread.
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block().context("block signals")?;
    let stop = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&stop);
    thread::spawn(move || {
        if signals.wait().is_ok() {
            told.store(true, Ordering::Relaxed);
        }
    });
    let common = Common {
        order,
        device: &device,
        log: &log,
        run,
        shape,
        stop: &stop,
        begun: AtomicU64::new(0),
        started: Instant::now(),
        counts: Mutex::default(),
        errors: Mutex::default(),
    };
    common.whole()?;
    let Common { counts, errors, .. } = common;
    let counts = counts.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Done { run, counts, errors: errors.into_inner().unwrap_or_else(PoisonError::into_inner) })
}

fn shape(order: &Order, device: &Device) -> Result<Shape> {
    let (first, sectors) = order.region.unwrap_or((0, device.sectors));
    let fits = first.checked_add(sectors).is_some_and(|end| end <= device.sectors);
    if !fits || sectors < 8 || first % 8 != 0 {
        bail!(
            "{}: sectors {first}+{sectors} are no region of its {} sectors that begins at a whole 4096 bytes",
            order.device.display(),
            device.sectors
        );
    }
    let mut mix = order.mix;
    for kind in Kind::ALL.into_iter().filter(|kind| !device.takes(*kind)) {
        mix.set(kind, 0);
    }
    if mix.weight(Kind::Write) + mix.weight(Kind::Fua) == 0 {
        bail!("a run without writes leaves nothing to check");
    }
    let in_one_piece = if device.limits.write == 0 { LONGEST_WRITE } else { device.limits.write };
    Ok(Shape {
        first,
        sectors: sectors / 8 * 8,
        unit: device.unit,
        longest_write: order.longest_write.unwrap_or(LONGEST_WRITE.min(in_one_piece)).min(sectors),
        longest_clear: order.longest_clear.unwrap_or(sectors).min(sectors),
        hot_blocks: order.hot_blocks,
        mix,
    })
}

impl Common<'_> {
    fn whole(&self) -> Result<()> {
        let mut buffer = Buffer::new(usize::try_from(self.shape.longest_write)? * SECTOR);
        self.perform(0, Kind::Zero, self.shape.first, self.shape.sectors, &mut buffer)?;
        thread::scope(|scope| {
            let lanes: Vec<_> = (0..self.order.lanes).map(|lane| scope.spawn(move || self.lane(lane))).collect();
            lanes.into_iter().try_for_each(|lane| lane.join().map_err(|_| anyhow::anyhow!("a lane panicked"))?)
        })?;
        if !self.stop.load(Ordering::Relaxed) || self.errors().is_empty() {
            self.perform(0, Kind::Flush, 0, 0, &mut buffer)?;
        }
        self.log.ended()
    }

    fn lane(&self, lane: u16) -> Result<()> {
        let mut plan = Plan::new(self.order.seed, lane, self.shape);
        let mut buffer = Buffer::new(usize::try_from(self.shape.longest_write.max(8))? * SECTOR);
        let ended = loop {
            if !self.may_begin() {
                break Ok(());
            }
            let step = plan.step();
            if let Err(error) = self.perform(lane, step.kind, step.sector, step.sectors, &mut buffer) {
                break Err(error);
            }
        };
        if ended.is_err() {
            self.stop.store(true, Ordering::Relaxed);
        }
        ended
    }

    /// Whether there is another operation to begin; waits for its turn when a rate was ordered.
    fn may_begin(&self) -> bool {
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        if self.order.end.operations.is_some_and(|most| number >= most) {
            return false;
        }
        let due = self.order.rate.map(|rate| Duration::from_nanos(number.saturating_mul(1_000_000_000) / rate.max(1)));
        loop {
            let elapsed = self.started.elapsed();
            if self.stop.load(Ordering::Relaxed) || self.order.end.after.is_some_and(|after| elapsed >= after) {
                return false;
            }
            match due.and_then(|due| due.checked_sub(elapsed)).filter(|left| !left.is_zero()) {
                Some(left) => thread::sleep(left.min(Duration::from_millis(50))),
                None => return true,
            }
        }
    }

    fn perform(&self, lane: u16, kind: Kind, sector: u64, sectors: u64, buffer: &mut Buffer) -> Result<()> {
        let operation = self.log.submitted(kind, lane, sector, sectors)?;
        let done = if kind.writes() {
            let stamp = Stamp { run: self.run, operation, first: sector, sectors: u32::try_from(sectors)?, lane };
            let bytes = buffer.first(usize::try_from(sectors)? * SECTOR);
            for (place, bytes) in (sector..).zip(bytes.chunks_exact_mut(SECTOR)) {
                fill(bytes, &stamp, place);
            }
            self.device.write(sector, bytes, kind == Kind::Fua)
        } else {
            self.device.clear(kind, sector, sectors)
        };
        let event = match &done {
            Ok(()) => Event::Completed,
            Err(error) => Event::Failed(error.raw_os_error().unwrap_or(libc::EIO)),
        };
        self.log.came_back(event, kind, lane, operation, sector, sectors);
        match done {
            Ok(()) => {
                *self.counts.lock().unwrap_or_else(PoisonError::into_inner).entry(kind.name()).or_default() += 1;
            }
            Err(error) => self.failed(operation, kind, sector, sectors, &error),
        }
        Ok(())
    }

    fn failed(&self, operation: u64, kind: Kind, sector: u64, sectors: u64, error: &io::Error) {
        let mut errors = self.errors();
        if errors.len() < TOLD {
            errors.push(format!("operation {operation}: {} of sectors {sector}+{sectors}: {error}", kind.name()));
        }
        if !self.order.go_on {
            self.stop.store(true, Ordering::Relaxed);
        }
    }

    fn errors(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.errors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
