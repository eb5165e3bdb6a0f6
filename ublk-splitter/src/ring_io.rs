//! What a volume needs of the ring that it runs on.
//!
//! Owns the trait by which the same volume runs behind ublk, on the queue's own ring, and behind the in-process front
//! end of the tests, with ordinary system calls.

use crate::stream::direct::Tells;
use std::fs::File;
use std::future::Future;
use std::io;

/// Reads, writes and syncs of a backing, each finished when its future is.
pub trait RingIo {
    /// When the link hears of a record for which a host waits.
    const TELLS: Tells = Tells::AtOnce;

    /// Reads until `buf` is full; a file that ends early is an error.
    fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> impl Future<Output = io::Result<()>>;
    /// Writes all of `buf`; with `dsync` it is durable when done.
    fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> impl Future<Output = io::Result<()>>;
    /// Makes everything that completed before durable.
    fn sync(&self, file: &File) -> impl Future<Output = io::Result<()>>;
    /// `fallocate(2)` with these `FALLOC_FL_*` bits.
    fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> impl Future<Output = io::Result<()>>;
}

impl RingIo for ublk_device::ring::Ring {
    // `VolumeQueue::before_wait` sends what was put off.
    const TELLS: Tells = Tells::Later;

    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let wanted = buf.len();
        let got = self.read_at(file, offset, buf).await?;
        if got == wanted { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }

    // The ring's own futures, and none around them: each would cost something whenever it goes on.
    fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> impl Future<Output = io::Result<()>> {
        self.write_at(file, offset, buf, dsync)
    }

    fn sync(&self, file: &File) -> impl Future<Output = io::Result<()>> {
        self.fsync(file, true)
    }

    fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> impl Future<Output = io::Result<()>> {
        ublk_device::ring::Ring::fallocate(self, file, mode, offset, len)
    }
}

/// The same by ordinary system calls, for threads that may block: workers, and the in-process front end.
#[derive(Clone, Copy, Debug, Default)]
pub struct Blocking;

impl RingIo for Blocking {
    async fn read(&self, file: &File, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(file, buf, offset)
    }

    async fn write(&self, file: &File, offset: u64, buf: &[u8], dsync: bool) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(file, buf, offset)?;
        if dsync { file.sync_data() } else { Ok(()) }
    }

    async fn sync(&self, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    async fn fallocate(&self, file: &File, mode: i32, offset: u64, len: u64) -> io::Result<()> {
        let flags = nix::fcntl::FallocateFlags::from_bits_retain(mode);
        let (offset, len) = (i64::try_from(offset), i64::try_from(len));
        match (offset, len) {
            (Ok(offset), Ok(len)) => nix::fcntl::fallocate(file, flags, offset, len).map_err(io::Error::from),
            (Err(_), _) | (_, Err(_)) => Err(io::ErrorKind::InvalidInput.into()),
        }
    }
}

/// Runs a future of [`Blocking`] to its end; it never really waits.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = std::pin::pin!(future);
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut context = std::task::Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut context) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

struct Unpark(std::thread::Thread);

impl std::task::Wake for Unpark {
    fn wake(self: std::sync::Arc<Self>) {
        self.0.unpark();
    }
}
