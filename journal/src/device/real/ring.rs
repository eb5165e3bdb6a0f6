//! Several writes of a file under way at once, through an `io_uring`.
//!
//! Owns the ring and what the kernel reads of memory meanwhile. A write that comes back short, or interrupted, is done
//! once more as a plain system call, whole: the same bytes at the same place. Where the system has no `io_uring` every
//! write is a plain system call.
//!
//! # The promise that the `unsafe` here rests on
//!
//! The kernel reads the memory of a write until the write is done. So a flight owns the vector of addresses and every
//! part that was given to it, what was lent outlives the flight (`'b`), and the flight is never out of our hands:
//! [`Ring::fly`] makes it, lends it, and does not return, nor unwind, before the kernel has nothing left of it.

use super::{DiskFile, PARTS_FEW, RealFile};
use crate::device::{Flight, IN_FLIGHT_MAX, Part};
use io_uring::{IoUring, opcode, types::Fd};
use std::collections::VecDeque;
use std::fmt;
use std::fs::File;
use std::io::{self, ErrorKind, IoSlice};
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

/// A ring, made when it is first used; or none, where there can be none.
#[derive(Default)]
pub(super) enum Ring {
    #[default]
    NotYet,
    There(Box<IoUring>),
    Nowhere,
}

impl fmt::Debug for Ring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotYet => "no ring yet",
            Self::There(_) => "a ring",
            Self::Nowhere => "no ring",
        })
    }
}

impl Ring {
    /// A flight over a file. `refused`: why nothing may be written.
    pub(super) fn fly<'b>(
        &mut self,
        plain: &RealFile,
        file: &File,
        refused: Option<io::Error>,
        steps: &mut dyn FnMut(&mut dyn Flight<'b>),
    ) {
        if matches!(self, Self::NotYet) {
            #[expect(clippy::cast_possible_truncation, reason = "a handful")]
            let ring = IoUring::builder().setup_coop_taskrun().build(2 * IN_FLIGHT_MAX as u32);
            *self = ring.map_or_else(
                |error| {
                    tracing::warn!("no io_uring here ({error}): the journal writes one chunk after the other");
                    Self::Nowhere
                },
                |ring| Self::There(Box::new(ring)),
            );
        }
        let ring = match self {
            Self::There(ring) => Some(&mut **ring),
            Self::NotYet | Self::Nowhere => None,
        };
        let mut flight =
            RingFlight { ring, plain, file, refused, begun: 0, under_way: Vec::new(), done: VecDeque::new() };
        steps(&mut flight);
    }
}

struct RingFlight<'r, 'b> {
    ring: Option<&'r mut IoUring>,
    plain: &'r RealFile,
    file: &'r File,
    refused: Option<io::Error>,
    begun: usize,
    under_way: Vec<UnderWay<'b>>,
    /// What did not go through the ring.
    done: VecDeque<(usize, io::Result<()>)>,
}

/// A write that the kernel has.
struct UnderWay<'b> {
    ticket: usize,
    offset: u64,
    bytes: usize,
    /// Addresses and lengths of the parts, as the kernel reads them (`iovec`); not moved while it may.
    addresses: Vec<Address>,
    parts: Vec<Part<'b>>,
}

/// What an `iovec` is.
type Address = libc::iovec;

impl UnderWay<'_> {
    fn again(&self, file: &RealFile) -> io::Result<()> {
        write_plainly(file, &self.parts, self.offset)
    }

    fn outcome(&self, result: i32, file: &RealFile) -> io::Result<()> {
        match usize::try_from(result) {
            Ok(written) if written == self.bytes => Ok(()),
            Ok(_) => self.again(file),
            Err(_) => match io::Error::from_raw_os_error(-result) {
                error if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => self.again(file),
                error => Err(error),
            },
        }
    }
}

/// As one plain system call. Most writes have few parts: no memory is taken for them.
fn write_plainly(file: &RealFile, parts: &[Part<'_>], offset: u64) -> io::Result<()> {
    let mut few = [IoSlice::new(&[]); PARTS_FEW];
    if let Some(few) = few.get_mut(..parts.len()) {
        for (slice, part) in few.iter_mut().zip(parts) {
            *slice = IoSlice::new(part.bytes());
        }
        return file.write_at(few, offset);
    }
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part.bytes())).collect();
    file.write_at(&slices, offset)
}

impl RingFlight<'_, '_> {
    /// Takes one completion, if there is one.
    fn landed(&mut self) -> Option<(usize, io::Result<()>)> {
        let ring = self.ring.as_mut()?;
        let entry = ring.completion().next()?;
        let at = self.under_way.iter().position(|w| w.ticket as u64 == entry.user_data())?;
        let landed = self.under_way.swap_remove(at);
        Some((landed.ticket, landed.outcome(entry.result(), self.plain)))
    }
}

impl<'b> Flight<'b> for RingFlight<'_, 'b> {
    fn begin(&mut self, parts: Vec<Part<'b>>, offset: u64) {
        let ticket = self.begun;
        self.begun += 1;
        if let Some(refused) = &self.refused {
            self.done.push_back((ticket, Err(io::Error::new(refused.kind(), refused.to_string()))));
            return;
        }
        let (Some(ring), Ok(count)) = (&mut self.ring, u32::try_from(parts.len())) else {
            self.done.push_back((ticket, write_plainly(self.plain, &parts, offset)));
            return;
        };
        let addresses: Vec<Address> = parts
            .iter()
            .map(Part::bytes)
            .map(|bytes| Address { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() })
            .collect();
        let bytes = parts.iter().map(|part| part.bytes().len()).sum();
        let write = UnderWay { ticket, offset, bytes, addresses, parts };
        let entry = opcode::Writev::new(Fd(self.file.as_raw_fd()), write.addresses.as_ptr(), count)
            .offset(offset)
            .rw_flags(libc::RWF_DSYNC)
            .build()
            .user_data(ticket as u64);
        // SAFETY: `write` owns the vector and every part that is not lent, goes to `under_way` without its heap moving,
        // and is dropped only behind its completion; what is lent lives for 'b, the file as long as the flight; and the
        // flight's own drop waits for every completion.
        let pushed = unsafe { ring.submission().push(&entry) };
        if pushed.is_err() {
            self.done.push_back((ticket, write.again(self.plain)));
            return;
        }
        self.under_way.push(write);
        // What the kernel does not take now it takes when we wait.
        let _ = ring.submit();
    }

    fn done(&mut self) -> Option<(usize, io::Result<()>)> {
        self.done.pop_front().or_else(|| self.landed())
    }

    fn wait(&mut self) -> Option<(usize, io::Result<()>)> {
        loop {
            if let Some(done) = Flight::done(self) {
                return Some(done);
            }
            if self.under_way.is_empty() {
                return None;
            }
            if let Some(ring) = &mut self.ring
                && let Err(error) = ring.submit_and_wait(1)
                && error.kind() != ErrorKind::Interrupted
            {
                // The kernel is short of something; it still has our memory, so there is nothing but to ask again.
                thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for RingFlight<'_, '_> {
    fn drop(&mut self) {
        while self.wait().is_some() {}
    }
}

#[cfg(test)]
mod tests;
