//! How far the journal is behind: writes, bytes, time.
//!
//! Owns the samples from which the lag is told. Pure: numbers and times are arguments. A sample is taken every ten
//! milliseconds and every 256 KiB, and the bytes are right to within that, never too small; there are never more than
//! `SAMPLES` of them, however long the appliance is away.

use crate::clock::Now;
use record::position::StreamSeq;
use std::collections::VecDeque;
use std::time::Duration;

#[cfg(test)]
mod tests;

const SAMPLES: usize = 1024;
const EVERY: Duration = Duration::from_millis(10);
const EVERY_BYTES: u64 = 256 << 10;

/// What is laid and not durable yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Lag {
    /// Records.
    pub writes: u64,
    /// Bytes of host data.
    pub bytes: u64,
    /// How long ago the oldest of them was laid.
    pub age: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    seq: StreamSeq,
    /// Bytes laid in front of it.
    before: u64,
    at: Now,
}

/// The samples of one session.
#[derive(Clone, Debug, Default)]
pub struct LagMeter {
    samples: VecDeque<Sample>,
    bytes: u64,
    /// When the next sample is due: at this time, and when so many bytes were laid. At once, while there is none.
    due_ns: u64,
    due_bytes: u64,
}

impl LagMeter {
    /// A record was laid.
    pub fn laid(&mut self, seq: StreamSeq, payload: usize, now: Now) {
        if now.boot_ns >= self.due_ns || self.bytes >= self.due_bytes {
            if self.samples.len() >= SAMPLES {
                // Every other one, the oldest stays: what is told is a little more than what is.
                let mut keep = false;
                self.samples.retain(|_| {
                    keep = !keep;
                    keep
                });
            }
            self.samples.push_back(Sample { seq, before: self.bytes, at: now });
            (self.due_ns, self.due_bytes) = (now.plus(EVERY).boot_ns, self.bytes + EVERY_BYTES);
        }
        self.bytes += payload as u64;
    }

    /// Everything below `durable` is durable.
    pub fn durable(&mut self, durable: StreamSeq) {
        while self.samples.get(1).is_some_and(|second| second.seq <= durable) {
            self.samples.pop_front();
        }
    }

    /// The lag, when everything below `durable` is durable and everything below `laid` is laid.
    pub fn lag(&self, durable: StreamSeq, laid: StreamSeq, now: Now) -> Lag {
        let writes = laid.get().saturating_sub(durable.get());
        // What was laid after a pause has a sample of its own, whatever still stands in front of it.
        let oldest = self.samples.partition_point(|sample| sample.seq <= durable).saturating_sub(1);
        match self.samples.get(oldest) {
            Some(oldest) if writes > 0 => Lag { writes, bytes: self.bytes - oldest.before, age: now.since(oldest.at) },
            Some(_) | None => Lag { writes, ..Lag::default() },
        }
    }
}
