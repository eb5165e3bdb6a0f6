//! The front end in memory keeps every promise of `Service`: concurrency, buffers, foreign wake-ups, a clean end.

use std::cell::Cell;
use std::collections::HashSet;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::thread;
use std::time::Duration;

use record::geometry::{Extent, SectorCount};

use super::InProcess;
use crate::{DeviceId, DeviceSpec, Errno, IoBuffer, Kind, QueueContext, QueueService, Request, Ring, Service};

const SECTORS: u64 = 2048;

fn spec() -> DeviceSpec {
    DeviceSpec { depth: 16, ..DeviceSpec::volume(DeviceId(0), "test", SectorCount::new(SECTORS).expect("small")) }
}

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("fits")
}

type Flag = Arc<Mutex<(bool, Option<Waker>)>>;

/// A disk in memory; each answer is given by another thread.
struct Memory {
    bytes: Arc<Mutex<Vec<u8>>>,
    answers: Mutex<Sender<Flag>>,
    threads: Mutex<HashSet<thread::ThreadId>>,
}

struct MemoryQueue {
    bytes: Arc<Mutex<Vec<u8>>>,
    answers: Sender<Flag>,
    /// Not `Send`: a queue's own part stays on its thread.
    handled: Rc<Cell<u64>>,
}

impl Service for Memory {
    type Queue = MemoryQueue;

    fn open_queue(&self, context: QueueContext) -> io::Result<MemoryQueue> {
        assert_eq!(context.queues, 2);
        self.threads.lock().expect("lock").insert(thread::current().id());
        let answers = self.answers.lock().expect("lock").clone();
        Ok(MemoryQueue { bytes: Arc::clone(&self.bytes), answers, handled: Rc::default() })
    }
}

impl QueueService for MemoryQueue {
    async fn handle(&self, request: Request, buffer: &mut IoBuffer, ring: &Ring) -> Result<(), Errno> {
        assert_eq!(buffer.as_ptr().addr() % 4096, 0);
        let flag: Flag = Arc::default();
        self.answers.send(Arc::clone(&flag)).expect("other thread");
        poll_fn(|context| {
            let mut flag = flag.lock().expect("lock");
            if flag.0 {
                return Poll::Ready(());
            }
            flag.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
        ring.sleep(Duration::from_micros(10)).await;
        self.handled.set(self.handled.get() + 1);
        let mut bytes = self.bytes.lock().expect("lock");
        let range = |extent: Extent| {
            let start = usize::try_from(extent.start().byte_offset()).expect("small");
            start..start + usize::try_from(extent.bytes()).expect("small")
        };
        match request.kind {
            Kind::Read(extent) => {
                let range = range(extent);
                buffer[..range.len()].copy_from_slice(&bytes[range]);
            }
            Kind::Write { extent, .. } => {
                let range = range(extent);
                let length = range.len();
                bytes[range].copy_from_slice(&buffer[..length]);
            }
            Kind::Flush => {}
            Kind::Discard(extent) | Kind::WriteZeroes { extent, .. } => bytes[range(extent)].fill(0),
        }
        Ok(())
    }
}

#[test]
fn requests_of_two_queues_are_served_at_the_same_time_and_answered_from_elsewhere() {
    let (answers, wanted) = channel::<Flag>();
    let other = thread::spawn(move || {
        // Waits for a whole queue of requests: they must all be in flight at once.
        let mut held = Vec::new();
        for flag in wanted {
            held.push(flag);
            if held.len() == 8 {
                for flag in held.drain(..).rev() {
                    let waker = {
                        let mut flag = flag.lock().expect("lock");
                        flag.0 = true;
                        flag.1.take()
                    };
                    if let Some(waker) = waker {
                        waker.wake();
                    }
                }
            }
        }
    });
    let service = Arc::new(Memory {
        bytes: Arc::new(Mutex::new(vec![0; usize::try_from(SECTORS * 512).expect("small")])),
        answers: Mutex::new(answers),
        threads: Mutex::default(),
    });
    let front = InProcess::start(&spec(), &service).expect("start");
    assert_eq!(service.threads.lock().expect("lock").len(), 2, "a thread for each queue");
    for round in 0..100u8 {
        let extents: Vec<_> = (0..8).map(|i| extent(i * 16 + u64::from(round), 8)).collect();
        let data = |index: usize| vec![round ^ u8::try_from(index).expect("small"); 8 * 512];
        let writes: Vec<_> = (0..8u16)
            .map(|i| {
                let kind = Kind::Write { extent: extents[usize::from(i)], fua: false };
                front.submit(i % 2, kind, data(usize::from(i)))
            })
            .collect();
        for write in writes {
            assert_eq!(write.wait().0, Ok(()));
        }
        let reads: Vec<_> =
            (0..8u16).map(|i| front.submit((i + 1) % 2, Kind::Read(extents[usize::from(i)]), Vec::new())).collect();
        for (index, read) in reads.into_iter().enumerate() {
            assert_eq!(read.wait(), (Ok(()), data(index)));
        }
    }
    front.stop();
    drop(service);
    other.join().expect("other thread");
}

struct Refusing;

impl Service for Refusing {
    type Queue = MemoryQueue;

    fn open_queue(&self, context: QueueContext) -> io::Result<MemoryQueue> {
        Err(io::Error::other(format!("queue {} has no backing", context.queue)))
    }
}

#[test]
fn a_queue_that_cannot_be_opened_is_the_starts_error() {
    let error = InProcess::start(&spec(), &Arc::new(Refusing)).expect_err("no backing");
    assert_eq!(error.to_string(), "queue 0 has no backing");
}

#[test]
fn a_spec_that_makes_no_device_is_refused() {
    let wrong = [
        DeviceSpec { depth: 7, ..spec() },
        DeviceSpec { queues: 0, ..spec() },
        DeviceSpec { size: SectorCount::ZERO, ..spec() },
        DeviceSpec { max_io_bytes: 512, ..spec() },
        DeviceSpec { max_io_bytes: 64 << 20, ..spec() },
        DeviceSpec { largest_discard: SectorCount::new(9).expect("small"), ..spec() },
    ];
    for spec in wrong {
        let error = InProcess::start(&spec, &Arc::new(Refusing)).expect_err("invalid");
        assert!(
            error.to_string().starts_with("/dev/ublkb0 cannot be made for `test`: its ")
                || error.to_string().starts_with("/dev/ublkb0 cannot be made for `test`: it has"),
            "{error}"
        );
    }
}
