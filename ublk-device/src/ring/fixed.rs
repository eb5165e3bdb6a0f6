//! Buffers of a queue that its ring knows: the kernel pins their pages once, and not for each request.
//!
//! Owns which memory is registered, and as what. Deliberately does not own the memory. A buffer is registered when it is
//! first used, as far as it is used: pages that no request has needed are not taken from the machine. Where the kernel
//! refuses (`RLIMIT_MEMLOCK`, an older one), operations go on without.

use crate::buffer::IoBuffer;
use io_uring::IoUring;
use std::io;

/// What is registered with a ring.
#[derive(Debug, Default)]
pub struct Fixed {
    /// By address.
    buffers: Vec<Known>,
    /// Where the first begins, and how far each begins behind the one before if they lie one behind the other in memory, as those
    /// that are made together mostly do.
    first: usize,
    stride: usize,
}

#[derive(Debug)]
struct Known {
    start: usize,
    bytes: usize,
    /// So much of it is registered.
    registered: usize,
    /// Its number in the ring's table.
    index: u16,
}

impl Fixed {
    /// Makes the ring's table, empty yet.
    pub fn new(ring: &IoUring, buffers: &[IoBuffer]) -> io::Result<Self> {
        let count = u16::try_from(buffers.len()).map_err(io::Error::other)?;
        ring.submitter().register_buffers_sparse(u32::from(count))?;
        let mut buffers: Vec<_> = (0..count)
            .zip(buffers)
            .map(|(index, buffer)| Known {
                start: buffer.as_ptr().expose_provenance(),
                bytes: buffer.len(),
                registered: 0,
                index,
            })
            .collect();
        buffers.sort_by_key(|known| known.start);
        let first = buffers.first().map_or(0, |known| known.start);
        let behind = buffers.last().map_or(0, |known| known.start - first);
        let stride = behind / buffers.len().saturating_sub(1).max(1);
        Ok(Self { buffers, first, stride })
    }

    /// The number of this memory if it is in the buffer where it likely is, and registered: as nearly always.
    fn likely(&self, start: usize, len: usize) -> Option<u16> {
        let known = self.buffers.get(start.checked_sub(self.first)?.checked_div(self.stride)?)?;
        let into = start.checked_sub(known.start)?;
        (into < known.registered && len <= known.registered - into).then_some(known.index)
    }

    /// The number under which the ring knows this memory; `None`: under none. `register` is asked to register so many
    /// bytes from an address on; when it fails, nothing is registered from then on.
    pub fn index_of(
        &mut self,
        memory: &[u8],
        register: impl FnOnce(u16, usize, usize) -> io::Result<()>,
    ) -> Option<u16> {
        let start = memory.as_ptr().addr();
        let likely = self.likely(start, memory.len());
        if likely.is_some() {
            return likely;
        }
        let behind = self.buffers.partition_point(|known| known.start <= start);
        let known = self.buffers.get_mut(behind.checked_sub(1)?)?;
        let end = start - known.start + memory.len();
        if end > known.bytes {
            return None;
        }
        if end > known.registered {
            let bytes = end.next_power_of_two().min(known.bytes);
            if let Err(error) = register(known.index, known.start, bytes) {
                tracing::debug!(%error, "buffers of a queue are not registered any more");
                self.buffers.clear();
                return None;
            }
            known.registered = bytes;
        }
        Some(known.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_of_a_buffer_is_registered_as_far_as_it_is_used_and_other_memory_never() {
        // Above the others in memory, most likely, and not lent.
        let above = IoBuffer::new(1 << 16).expect("memory");
        let buffers: Vec<_> = (0..3).map(|_| IoBuffer::new(1 << 16).expect("memory")).collect();
        let Ok(ring) = IoUring::new(2) else { panic!("no io_uring on this machine") };
        let mut fixed = Fixed::new(&ring, &buffers).expect("a table");
        let mut asked = Vec::new();
        for (buffer, len) in [(1, 512), (1, 4096), (1, 3000), (2, 5000), (1, 40_000), (1, 1 << 16)] {
            let index = fixed.index_of(&buffers[buffer][..len], |index, start, bytes| {
                assert_eq!(start, buffers[usize::from(index)].as_ptr().addr());
                asked.push((index, bytes));
                Ok(())
            });
            assert_eq!(index, u16::try_from(buffer).ok());
        }
        assert_eq!(asked, [(1, 512), (1, 4096), (2, 8192), (1, 1 << 16)]);
        assert_eq!(fixed.index_of(&buffers[1][500..600], |_, _, _| Err(io::ErrorKind::Other.into())), Some(1));
        for elsewhere in [&vec![0; 4096][..], &above[..4096]] {
            assert_eq!(fixed.index_of(elsewhere, |_, _, _| panic!("memory that was not lent")), None);
        }
        assert_eq!(fixed.index_of(&buffers[0][..1], |_, _, _| Err(io::ErrorKind::Other.into())), None, "refused");
        assert_eq!(fixed.index_of(&buffers[1][..1], |_, _, _| Ok(())), None, "and given up");
    }
}
