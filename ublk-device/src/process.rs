//! What a process does to itself before it serves a block device of the machine that it runs on.
//!
//! Owns the calls against waiting for oneself: the kernel may need this process to write a page back before it can
//! give it memory. The mount namespace has a file of its own.

use std::io;

use nix::sys::signal::{SigSet, SigmaskHow, pthread_sigmask};

// `linux/prctl.h`; the libc crate has them for Android only.
const PR_SET_IO_FLUSHER: libc::c_int = 57;
const PR_GET_IO_FLUSHER: libc::c_int = 58;

/// Marks the calling thread as one through which writes to a block device flow (`PR_SET_IO_FLUSHER`): its allocations
/// never wait for I/O, and its writes are not throttled. Checked by reading back. Needs `CAP_SYS_RESOURCE`.
///
/// Queue threads do it themselves; every other thread in the write path must. Threads and children inherit it.
pub fn io_flusher() -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let outcome = unsafe { libc::prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) };
    if outcome != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call takes numbers only.
    match unsafe { libc::prctl(PR_GET_IO_FLUSHER, 0, 0, 0, 0) } {
        1 => Ok(()),
        -1 => Err(io::Error::last_os_error()),
        _ => Err(io::Error::other("the kernel did not take it")),
    }
}

/// Locks all memory of the process, now and later, so that it is never paged out to a device that it serves itself. A page
/// is locked when it is first used (`MCL_ONFAULT`, Linux 4.4): a stack costs what was used of it and not what it may grow
/// to. What must be there before it is used is made so by who maps it, as the buffers of requests are. Needs
/// `CAP_IPC_LOCK` or a limit.
pub fn lock_memory() -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let outcome = unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) };
    if outcome == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Keeps signals away from the calling thread and those that it makes: a signal would cut a control command short.
pub(crate) fn block_signals() -> io::Result<()> {
    pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&SigSet::all()), None)?;
    Ok(())
}
