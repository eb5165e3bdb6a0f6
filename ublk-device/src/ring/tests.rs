//! Operations do to a file what their names say, and an abandoned one ends the process rather than touch memory.

use std::fs::{File, OpenOptions};
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::pin::{Pin, pin};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use super::Ring;
use crate::executor::{Executor, Wakeups};

/// Runs a task on a ring of this thread until it ends, then drains the ring.
fn run<'t, F: Future<Output = ()> + 't>(ring: &Ring, task: F) {
    let wakeups = Wakeups::new().expect("eventfd");
    {
        let mut executor = Executor::new(Arc::clone(&wakeups));
        executor.add(task);
        loop {
            executor.turn();
            if executor.live() == 0 {
                break;
            }
            ring.arm_wake(wakeups.event()).expect("arm");
            ring.turn(wakeups.park(|| false), |_| {}).expect("turn");
            wakeups.unpark();
        }
    }
    while ring.in_flight() > 0 {
        wakeups.event().write(1).expect("eventfd");
        ring.turn(true, |_| {}).expect("turn");
    }
}

fn ring() -> Ring {
    Ring::of_this_thread(8).expect("io_uring")
}

fn file(content: &[u8]) -> File {
    let mut file = tempfile::tempfile().expect("tempfile");
    file.write_all(content).expect("write");
    file
}

#[test]
fn several_reads_at_once_end_each_for_itself() {
    let ring = ring();
    let data: Vec<u8> = (0..40_000u32).map(|i| (i % 251) as u8).collect();
    let (good, closed) = (file(&data), File::create("/dev/null").expect("write only"));
    run(&ring, async {
        // More than the ring takes at once.
        let mut buffers = vec![vec![0; 1000]; 30];
        let mut reads: Vec<(&File, u64, &mut [u8])> = Vec::new();
        for (number, buffer) in buffers.iter_mut().enumerate() {
            let file = if number == 7 { &closed } else { &good };
            reads.push((file, 1500 * number as u64, buffer));
        }
        let outcomes = ring.read_all(reads).await;
        assert_eq!(outcomes.len(), 30);
        for (number, (outcome, buffer)) in outcomes.into_iter().zip(&buffers).enumerate() {
            let from = (1500 * number).min(data.len());
            let expected = &data[from..(from + 1000).min(data.len())];
            match outcome {
                Ok(read) => assert!(number != 7 && read == expected.len() && buffer[..read] == *expected, "{number}"),
                Err(error) => assert!(number == 7 && error.raw_os_error() == Some(libc::EBADF), "{number}: {error}"),
            }
        }
        assert!(ring.read_all(Vec::<(&File, u64, &mut [u8])>::new()).await.is_empty());
    });
}

#[test]
fn what_is_written_is_read_back_and_a_read_ends_with_the_file() {
    let ring = ring();
    let file = file(&[]);
    run(&ring, async {
        for dsync in [false, true] {
            let data: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
            ring.write_at(&file, 4096, &data, dsync).await.expect("write");
            ring.fsync(&file, dsync).await.expect("fsync");
            let mut back = vec![0xee; data.len() + 100];
            assert_eq!(ring.read_at(&file, 4096, &mut back).await.expect("read"), data.len());
            assert_eq!(back[..data.len()], data);
            assert!(back[data.len()..].iter().all(|byte| *byte == 0xee));
        }
        assert_eq!(ring.read_at(&file, 1 << 30, &mut [0; 8]).await.expect("read"), 0);
        assert_eq!(ring.read_at(&file, 0, &mut []).await.expect("read"), 0);
    });
}

#[test]
fn a_punched_range_reads_zero_and_its_neighbours_stay() {
    let ring = ring();
    let file = file(&[7; 3 * 4096]);
    run(&ring, async {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        ring.fallocate(&file, mode, 4096, 4096).await.expect("punch");
        let mut back = vec![1; 3 * 4096];
        assert_eq!(ring.read_at(&file, 0, &mut back).await.expect("read"), back.len());
        assert!(back[..4096].iter().chain(&back[8192..]).all(|byte| *byte == 7));
        assert!(back[4096..8192].iter().all(|byte| *byte == 0));
    });
}

#[test]
fn an_operation_fails_with_the_kernels_errno() {
    let ring = ring();
    let named = tempfile::NamedTempFile::new().expect("tempfile");
    let read_only = OpenOptions::new().read(true).open(named.path()).expect("open");
    run(&ring, async {
        let error = ring.write_at(&read_only, 0, &[0; 512], false).await.expect_err("read-only");
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        let error = ring.fallocate(&read_only, 0, 0, 0).await.expect_err("empty");
        assert!(error.raw_os_error().is_some());
    });
}

#[test]
fn more_operations_than_the_ring_holds_all_complete() {
    let ring = ring();
    let file = file(&(0..=255u8).cycle().take(256 * 512).collect::<Vec<_>>());
    run(&ring, async {
        let mut buffers = vec![[0u8; 512]; 256];
        let mut reads: Vec<Pin<Box<dyn Future<Output = io::Result<usize>> + '_>>> = Vec::new();
        for (index, buffer) in buffers.iter_mut().enumerate() {
            reads.push(Box::pin(ring.read_at(&file, index as u64 * 512, buffer)));
        }
        // All in flight before the first is waited for.
        let mut done = vec![None; reads.len()];
        std::future::poll_fn(|context| {
            for (read, done) in reads.iter_mut().zip(&mut done) {
                if done.is_none()
                    && let std::task::Poll::Ready(outcome) = read.as_mut().poll(context)
                {
                    *done = Some(outcome.expect("read"));
                }
            }
            if done.iter().all(Option::is_some) { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
        })
        .await;
        drop(reads);
        assert!(done.iter().all(|read| *read == Some(512)));
        assert!(buffers.iter().all(|buffer| buffer[0] == 0 && buffer[511] == 255));
    });
}

#[test]
fn a_sleep_lasts_and_one_that_is_dropped_holds_nothing_up() {
    let ring = ring();
    let begun = Instant::now();
    run(&ring, async {
        {
            let mut long = pin!(ring.sleep(Duration::from_secs(3600)));
            assert!(long.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        }
        ring.sleep(Duration::from_millis(30)).await;
    });
    assert!(begun.elapsed() >= Duration::from_millis(30));
    assert!(begun.elapsed() < Duration::from_secs(600), "the dropped sleep was waited for");
}

const CHILD: &str = "UBLK_DEVICE_TEST_DROPS_AN_OPERATION";

#[test]
fn dropping_an_operation_in_flight_ends_the_process() {
    if std::env::var_os(CHILD).is_some() {
        let ring = ring();
        // Nobody writes to this pipe: the read stays in flight.
        let (reader, _writer) = io::pipe().expect("pipe");
        let mut buffer = [0; 8];
        let mut read = Box::pin(ring.read_at(&reader, 0, &mut buffer));
        assert!(read.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        drop(read);
        std::process::exit(0);
    }
    let status = Command::new(std::env::current_exe().expect("own path"))
        .args(["--exact", "ring::tests::dropping_an_operation_in_flight_ends_the_process"])
        .env(CHILD, "1")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("run");
    assert_eq!(status.signal(), Some(libc::SIGABRT));
}

/// One wait of a queue whose service reads what it watches.
fn wait_and_read(ring: &Ring, watched: &mut UnixStream) -> Option<Vec<u8>> {
    ring.watch(watched).expect("watch");
    ring.turn(true, |_| {}).expect("turn");
    ring.was_ready().then(|| {
        let mut bytes = vec![0; 100];
        let read = watched.read(&mut bytes).unwrap_or_else(|error| {
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            0
        });
        bytes.truncate(read);
        bytes
    })
}

#[test]
fn whatever_comes_in_at_a_watched_file_ends_a_wait_until_it_is_not_watched_any_more() {
    let ring = ring();
    let (mut near, mut far) = UnixStream::pair().expect("pair");
    near.set_nonblocking(true).expect("nonblocking");
    far.write_all(b"before").expect("write");
    assert_eq!(wait_and_read(&ring, &mut near).as_deref(), Some(&b"before"[..]), "what was there already");
    for n in 0..300_u32 {
        far.write_all(&n.to_le_bytes()).expect("write");
        assert_eq!(wait_and_read(&ring, &mut near).as_deref(), Some(&n.to_le_bytes()[..]));
    }
    assert_eq!(ring.in_flight(), 1, "it was put in once");
    drop(far);
    assert_eq!(wait_and_read(&ring, &mut near).as_deref(), Some(&b""[..]), "its end");
    ring.unwatch();
    let (mut near, mut far) = UnixStream::pair().expect("pair");
    near.set_nonblocking(true).expect("nonblocking");
    far.write_all(b"another").expect("write");
    let mut heard = Vec::new();
    while heard.is_empty() {
        heard.extend(wait_and_read(&ring, &mut near).unwrap_or_default());
    }
    assert_eq!(heard, b"another");
    ring.unwatch();
    far.write_all(b"nobody watches").expect("write");
    while ring.in_flight() > 0 {
        ring.turn(true, |_| {}).expect("turn");
    }
    assert!(!ring.was_ready(), "and it is told to nobody");
}
