//! A file as `/dev/ublkbN`, sector for sector: the smallest whole use of this crate, and what proves it in a VM.
//!
//! `add` and `recover` serve in the foreground: SIGTERM removes the device, SIGUSR1 leaves it to a successor, SIGKILL
//! is SIGKILL. They print `live PATH` when hosts can use it, and count what they served at the end.

use std::cell::Cell;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::future::poll_fn;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use record::geometry::{Extent, LogicalBlock, SectorCount};
use ublk_device::{
    DeviceId, DeviceSpec, Ending, Errno, IoBuffer, Kind, QueueContext, QueueService, Request, Ring, Service,
};

const USAGE: &str = "usage: passthrough add|recover --id N --file F --size BYTES [--queues N] [--depth N] [--block BYTES]
         [--io BYTES] [--image] [--read-only] [--delay-thread] [--slow MS] [--trace FILE] [--own-namespace] [--lock-memory]
         [--fail-queue N] [--panic-at SECTOR]
       passthrough list | features | delete --id N";

fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(io::stderr).init();
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("passthrough: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let verb = words.next().ok_or(USAGE)?;
    let mut options = HashMap::new();
    while let Some(word) = words.next() {
        let name = word.strip_prefix("--").ok_or(USAGE)?.to_owned();
        let flag = ["image", "read-only", "delay-thread", "own-namespace", "lock-memory"].contains(&name.as_str());
        let value = if flag { String::new() } else { words.next().ok_or(USAGE)? };
        options.insert(name, value);
    }
    let number = |name: &str, default: u64| -> Result<u64, Box<dyn std::error::Error>> {
        Ok(options.get(name).map_or(Ok(default), |value| value.parse())?)
    };
    let id = DeviceId(u32::try_from(number("id", 0)?)?);
    match verb.as_str() {
        "features" => println!("features {}", ublk_device::features()?),
        "list" => {
            for device in ublk_device::list()? {
                println!("{} {:?} pid {} recoverable {}", device.id, device.state, device.pid, device.recoverable);
            }
        }
        "delete" => ublk_device::delete(id)?,
        "add" | "recover" => {
            // Before any thread.
            if options.contains_key("own-namespace") {
                ublk_device::own_mount_namespace()?;
            }
            if options.contains_key("lock-memory") {
                ublk_device::lock_memory()?;
            }
            // For every thread that follows.
            let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGUSR1, Signal::SIGINT]);
            signals.thread_block()?;
            let size = SectorCount::from_bytes(number("size", 0)?).ok_or("--size: whole sectors")?;
            let image = options.contains_key("image");
            let read_only = options.contains_key("read-only");
            let spec = DeviceSpec {
                queues: u16::try_from(number("queues", 2)?)?,
                depth: u16::try_from(number("depth", 64)?)?,
                block: LogicalBlock::new(u32::try_from(number("block", 512)?)?).ok_or("--block: 512 to 4096")?,
                max_io_bytes: u32::try_from(number("io", 512 * 1024)?)?,
                recoverable: !image,
                read_only,
                ..DeviceSpec::volume(id, "passthrough", size)
            };
            let service = PassThrough {
                file: Arc::new(open(options.get("file").ok_or(USAGE)?, size.bytes(), read_only)?),
                others: options.contains_key("delay-thread").then(other_thread),
                slow: Duration::from_millis(number("slow", 0)?),
                trace: options.get("trace").map(|path| File::create(path).map(Mutex::new)).transpose()?.map(Arc::new),
                fail_queue: options.get("fail-queue").map(|queue| queue.parse()).transpose()?,
                panic_at: options.get("panic-at").map(|sector| sector.parse()).transpose()?,
                counts: Arc::default(),
            };
            serve(verb == "recover", &spec, service, signals)?;
        }
        _ => return Err(USAGE.into()),
    }
    Ok(())
}

/// Opens the backing past the page cache where it can be done, and takes it for itself: the lock is on the very
/// description that the I/O goes through, so it is granted only once a dead predecessor's I/O has landed.
fn open(path: &str, bytes: u64, read_only: bool) -> io::Result<File> {
    let open =
        |flags| OpenOptions::new().read(true).write(!read_only).create(!read_only).custom_flags(flags).open(path);
    let file = open(libc::O_DIRECT).or_else(|_| open(0))?;
    file.lock()?;
    if file.metadata()?.is_file() && file.metadata()?.len() < bytes {
        file.set_len(bytes)?;
    }
    Ok(file)
}

fn serve(
    recover: bool,
    spec: &DeviceSpec,
    service: PassThrough,
    signals: SigSet,
) -> Result<(), Box<dyn std::error::Error>> {
    let counts = Arc::clone(&service.counts);
    let service = Arc::new(service);
    let begun = Instant::now();
    let device = if recover { ublk_device::recover(spec, service)? } else { ublk_device::start(spec, service)? };
    println!("live {}", device.path().display());
    println!("after {} ms", begun.elapsed().as_millis());
    io::stdout().flush()?;
    let (sender, signalled) = channel();
    thread::spawn(move || {
        while let Ok(signal) = signals.wait() {
            let _ = sender.send(signal);
        }
    });
    let watch = device.watch();
    loop {
        match signalled.recv_timeout(Duration::from_millis(50)) {
            Ok(Signal::SIGUSR1) => {
                device.abandon()?;
                break;
            }
            Ok(_) => {
                device.stop()?;
                break;
            }
            Err(RecvTimeoutError::Timeout) if watch.ending().is_none() => {}
            Err(_) => break,
        }
    }
    let ending = watch.wait(Duration::from_secs(1)).unwrap_or(Ending::StoppedByOthers);
    println!("ended {ending:?}");
    for (kind, (requests, bytes, largest)) in &*counts.lock().unwrap_or_else(PoisonError::into_inner) {
        println!("served {kind} requests {requests} bytes {bytes} largest {largest}");
    }
    Ok(())
}

type Counts = Arc<Mutex<HashMap<String, (u64, u64, u64)>>>;
type Trace = Option<Arc<Mutex<File>>>;

struct PassThrough {
    file: Arc<File>,
    others: Option<Sender<Arc<Flag>>>,
    slow: Duration,
    trace: Trace,
    fail_queue: Option<u16>,
    panic_at: Option<u64>,
    counts: Counts,
}

impl Service for PassThrough {
    type Queue = PassQueue;

    fn open_queue(&self, context: QueueContext) -> io::Result<PassQueue> {
        if self.fail_queue == Some(context.queue) {
            return Err(io::Error::other("asked to fail"));
        }
        Ok(PassQueue {
            file: Arc::clone(&self.file),
            zeros: IoBuffer::new(1 << 20)?,
            others: self.others.clone(),
            slow: self.slow,
            handled: Cell::new(0),
            trace: self.trace.clone(),
            panic_at: self.panic_at,
            counts: Arc::clone(&self.counts),
        })
    }
}

struct PassQueue {
    file: Arc<File>,
    zeros: IoBuffer,
    others: Option<Sender<Arc<Flag>>>,
    slow: Duration,
    handled: Cell<u64>,
    trace: Trace,
    panic_at: Option<u64>,
    counts: Counts,
}

impl QueueService for PassQueue {
    async fn handle(&self, request: Request, buffer: &mut IoBuffer, ring: &Ring) -> Result<(), Errno> {
        self.note(request);
        self.handled.set(self.handled.get() + 1);
        if let Some(others) = self.others.as_ref().filter(|_| self.handled.get().is_multiple_of(16)) {
            Flag::raised_by(others).await;
        }
        if !self.slow.is_zero() {
            ring.sleep(self.slow).await;
        }
        let start = request.kind.extent().map(|extent| extent.start().index());
        assert!(start.is_none() || start != self.panic_at, "asked to panic");
        match request.kind {
            Kind::Read(extent) => {
                let data = &mut buffer[..bytes(extent)];
                let read = ring.read_at(&self.file, extent.start().byte_offset(), data).await?;
                data[read..].fill(0);
            }
            Kind::Write { extent, fua } => {
                let data = &buffer[..bytes(extent)];
                ring.write_at(&self.file, extent.start().byte_offset(), data, fua).await?;
            }
            Kind::Flush => ring.fsync(&self.file, true).await?,
            Kind::Discard(extent) => self.punch(extent, ring).await?,
            Kind::WriteZeroes { extent, nounmap, fua } => {
                if nounmap {
                    self.zero(extent, ring).await?;
                } else {
                    self.punch(extent, ring).await?;
                }
                if fua {
                    ring.fsync(&self.file, true).await?;
                }
            }
        }
        Ok(())
    }
}

impl PassQueue {
    async fn punch(&self, extent: Extent, ring: &Ring) -> io::Result<()> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        match ring.fallocate(&self.file, mode, extent.start().byte_offset(), extent.bytes()).await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => self.zero(extent, ring).await,
            outcome => outcome,
        }
    }

    async fn zero(&self, extent: Extent, ring: &Ring) -> io::Result<()> {
        let mode = libc::FALLOC_FL_ZERO_RANGE | libc::FALLOC_FL_KEEP_SIZE;
        match ring.fallocate(&self.file, mode, extent.start().byte_offset(), extent.bytes()).await {
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => {}
            outcome => return outcome,
        }
        for piece in extent.pieces(self.zeros.len() as u64 / 512) {
            ring.write_at(&self.file, piece.start().byte_offset(), &self.zeros[..bytes(piece)], false).await?;
        }
        Ok(())
    }

    fn note(&self, request: Request) {
        let name = match request.kind {
            Kind::Read(_) => "read",
            Kind::Write { fua: false, .. } => "write",
            Kind::Write { fua: true, .. } => "write-fua",
            Kind::Flush => "flush",
            Kind::Discard(_) => "discard",
            Kind::WriteZeroes { nounmap: true, .. } => "zeroes-nounmap",
            Kind::WriteZeroes { nounmap: false, .. } => "zeroes",
        };
        let length = request.kind.extent().map_or(0, Extent::bytes);
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = counts.entry(name.to_owned()).or_default();
        *entry = (entry.0 + 1, entry.1 + length, entry.2.max(length));
        drop(counts);
        if let Some(trace) = &self.trace {
            let start = request.kind.extent().map_or(0, |extent| extent.start().index());
            let mut trace = trace.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = writeln!(trace, "{name} {start} {length} q{}", request.queue);
        }
    }
}

fn bytes(extent: Extent) -> usize {
    // At most the buffer's length.
    usize::try_from(extent.bytes()).unwrap_or(usize::MAX)
}

/// Something that a thread without a ring says.
#[derive(Default)]
struct Flag(Mutex<(bool, Option<Waker>)>);

impl Flag {
    async fn raised_by(others: &Sender<Arc<Self>>) {
        let flag = Arc::new(Self::default());
        if others.send(Arc::clone(&flag)).is_err() {
            return;
        }
        poll_fn(|context| {
            let mut state = flag.0.lock().unwrap_or_else(PoisonError::into_inner);
            if state.0 {
                return Poll::Ready(());
            }
            state.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

fn other_thread() -> Sender<Arc<Flag>> {
    let (sender, flags) = channel::<Arc<Flag>>();
    thread::spawn(move || {
        for flag in flags {
            // Long enough for the queue to have gone to sleep.
            thread::sleep(Duration::from_micros(200));
            let waker = {
                let mut state = flag.0.lock().unwrap_or_else(PoisonError::into_inner);
                state.0 = true;
                state.1.take()
            };
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    });
    sender
}
