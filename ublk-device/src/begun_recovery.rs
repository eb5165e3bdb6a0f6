//! Recoveries that somebody began and did not end.
//!
//! Owns the way around a hole in the driver (6.12). `START_USER_RECOVERY` forgets who served each queue. From then on
//! it is refused (`EINVAL`) until some queue has fetched all of its tags; and if it comes when only *some* queues have
//! (the process that had begun was killed in between), it dereferences a null pointer and takes the device's lock to
//! the grave. So before each recovery, queues that nobody serves are completed with commands that are given up at
//! once: every queue then has had a server, who is gone, which is all that the driver needs to start afresh.
//!
//! Rests on a queue being fetched whole or not at all, however suddenly a process dies: all of its tags go to the
//! driver in one system call, here and in `queue.rs`.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::thread;

use io_uring::types::Fd;
use io_uring::{IoUring, cqueue, opcode, squeue};
use libublk::sys;

use crate::spec::DeviceId;

/// Where commands that never get a request would put its data.
static NOWHERE: [u8; 4096] = [0; 4096];

// The layout that `fetch` writes.
const _: () = assert!(size_of::<sys::ublksrv_io_cmd>() == 16);

/// Completes every queue that has no server and lets it go again; does nothing to the others. `EBUSY` while another
/// process has the device open: the dead one's last I/O, or somebody who recovers it.
///
/// No request can come in by this: the driver hands none out before a recovery's end.
pub(crate) fn settle(id: DeviceId, queues: u16, depth: u16) -> io::Result<()> {
    // A thread of its own: the driver takes its end for the server's.
    thread::scope(|scope| {
        let settle = move || {
            let device = OpenOptions::new().read(true).write(true).open(id.char_path())?;
            let rings = (0..queues).map(|queue| complete(&device, queue, depth)).collect::<io::Result<Vec<_>>>()?;
            for (queue, mut ring) in (0..queues).zip(rings) {
                // Refused commands complete at once; the others end with their ring.
                if ring.completion().next().is_none() {
                    tracing::info!(device = %id, queue, "gave up a recovery that somebody began and did not end");
                }
            }
            Ok(())
        };
        let thread = thread::Builder::new().name(format!("ublk{}-settle", id.0)).spawn_scoped(scope, settle)?;
        thread.join().unwrap_or_else(|_| Err(io::Error::other("its thread panicked")))
    })
}

/// Fetches every tag of a queue, in one system call. Refused, tag by tag, if the queue has or had a server.
fn complete(device: &File, queue: u16, depth: u16) -> io::Result<IoUring<squeue::Entry, cqueue::Entry>> {
    let mut ring = IoUring::<squeue::Entry, cqueue::Entry>::builder().build(u32::from(depth))?;
    for tag in 0..depth {
        let entry = opcode::UringCmd16::new(Fd(device.as_raw_fd()), sys::UBLK_U_IO_FETCH_REQ)
            .cmd(fetch(queue, tag))
            .build()
            .user_data(tag.into());
        // SAFETY: the command names static memory only.
        unsafe { ring.submission().push(&entry) }.map_err(|_| io::Error::from(io::ErrorKind::WouldBlock))?;
    }
    ring.submit()?;
    Ok(ring)
}

/// `struct ublksrv_io_cmd`.
fn fetch(queue: u16, tag: u16) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes[0..2].copy_from_slice(&queue.to_ne_bytes());
    bytes[2..4].copy_from_slice(&tag.to_ne_bytes());
    bytes[8..16].copy_from_slice(&(NOWHERE.as_ptr().expose_provenance() as u64).to_ne_bytes());
    bytes
}
