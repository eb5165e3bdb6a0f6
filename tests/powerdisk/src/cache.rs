//! One disk: what is durable, and what only its cache holds.
//!
//! Owns what a flush, a FUA write and a power cut mean. Does no I/O of its own: the durable content is behind [`Medium`].
//!
//! A change is *volatile* until a flush, or from the beginning durable (FUA). A cut looks at all volatile changes in the
//! order in which they came, and the seed decides for each: kept, lost, or torn - each piece of it kept or lost. What is
//! kept is laid over the durable content in that order, so that an older change never wins over a newer one that
//! survived. One cut in four loses everything, one in four loses a tail only: both are favourites of real disks.

use crate::rng::Rng;
use std::collections::BTreeMap;
use std::fmt;
use std::io;

/// Where durable content is.
pub trait Medium: Send {
    /// Reads at a byte offset.
    fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()>;
    /// Writes at a byte offset.
    fn write(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;
    /// Makes a range read zero.
    fn zero(&mut self, at: u64, len: u64) -> io::Result<()>;
}

/// When a change is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durable {
    /// At the next flush.
    Later,
    /// Now.
    Now,
}

/// A change that may still be lost.
#[derive(Debug)]
struct Change {
    at: u64,
    len: u64,
    /// `None`: zeros.
    bytes: Option<Vec<u8>>,
    durable: Durable,
}

/// What a cut did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Toll {
    /// Changes that were not flushed.
    pub volatile: u64,
    /// Of them kept.
    pub kept: u64,
    /// Of them lost.
    pub lost: u64,
    /// Of them torn.
    pub torn: u64,
}

impl fmt::Display for Toll {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { volatile, kept, lost, torn } = self;
        write!(out, "{volatile} not flushed: {kept} kept, {lost} lost, {torn} torn")
    }
}

/// A run of bytes whose newest content is in a change.
#[derive(Clone, Copy, Debug)]
struct Span {
    end: u64,
    change: usize,
}

/// A disk.
#[derive(Debug)]
pub struct Disk<M> {
    medium: M,
    size: u64,
    /// Bytes of data that the cache may hold; when it holds more, all of it is written back, as disks do.
    room: u64,
    held: u64,
    changes: Vec<Change>,
    /// By first byte: what reads find in the cache.
    newest: BTreeMap<u64, Span>,
}

impl<M: Medium> Disk<M> {
    /// A disk of `size` bytes over `medium`.
    pub fn new(medium: M, size: u64, room: u64) -> Self {
        Self { medium, size, room, held: 0, changes: Vec::new(), newest: BTreeMap::new() }
    }

    /// Its size in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Changes that are not durable yet.
    pub fn volatile(&self) -> u64 {
        self.changes.iter().filter(|change| change.durable == Durable::Later).count() as u64
    }

    fn check(&self, at: u64, len: u64) -> io::Result<()> {
        match at.checked_add(len) {
            Some(end) if end <= self.size => Ok(()),
            Some(_) | None => Err(io::Error::new(io::ErrorKind::InvalidInput, "beyond the end of the disk")),
        }
    }

    /// Reads what was written last, durable or not.
    pub fn read(&self, at: u64, into: &mut [u8]) -> io::Result<()> {
        self.check(at, into.len() as u64)?;
        self.medium.read(at, into)?;
        let end = at + into.len() as u64;
        let before = self.newest.range(..at).next_back();
        for (begin, span) in before.into_iter().chain(self.newest.range(at..end)) {
            let (from, to) = ((*begin).max(at), span.end.min(end));
            if from >= to {
                continue;
            }
            let target = &mut into[index(from - at)..index(to - at)];
            let change = &self.changes[span.change];
            match &change.bytes {
                Some(bytes) => target.copy_from_slice(&bytes[index(from - change.at)..index(to - change.at)]),
                None => target.fill(0),
            }
        }
        Ok(())
    }

    /// Writes.
    pub fn write(&mut self, at: u64, bytes: Vec<u8>, durable: Durable) -> io::Result<()> {
        self.change(Change { at, len: bytes.len() as u64, bytes: Some(bytes), durable })
    }

    /// Makes a range read zero: a trim, or a write of zeros.
    pub fn zero(&mut self, at: u64, len: u64, durable: Durable) -> io::Result<()> {
        self.change(Change { at, len, bytes: None, durable })
    }

    fn change(&mut self, change: Change) -> io::Result<()> {
        self.check(change.at, change.len)?;
        if change.len == 0 {
            return Ok(());
        }
        let (begin, end) = (change.at, change.at + change.len);
        self.cut_spans(begin, end);
        self.newest.insert(begin, Span { end, change: self.changes.len() });
        self.held += change.bytes.as_ref().map_or(64, |bytes| bytes.len() as u64);
        self.changes.push(change);
        if self.held > self.room { self.flush() } else { Ok(()) }
    }

    /// Takes [begin, end) out of what reads find in the cache.
    fn cut_spans(&mut self, begin: u64, end: u64) {
        let before = self.newest.range(..begin).next_back().map(|(first, span)| (*first, *span));
        if let Some((first, span)) = before.filter(|(_, span)| span.end > begin) {
            self.newest.insert(first, Span { end: begin, ..span });
            if span.end > end {
                self.newest.insert(end, span);
            }
        }
        let inside: Vec<(u64, Span)> = self.newest.range(begin..end).map(|(first, span)| (*first, *span)).collect();
        for (first, span) in inside {
            self.newest.remove(&first);
            if span.end > end {
                self.newest.insert(end, span);
            }
        }
    }

    /// Makes everything durable.
    pub fn flush(&mut self) -> io::Result<()> {
        for change in &self.changes {
            match &change.bytes {
                Some(bytes) => self.medium.write(change.at, bytes)?,
                None => self.medium.zero(change.at, change.len)?,
            }
        }
        self.forget();
        Ok(())
    }

    fn forget(&mut self) {
        self.changes.clear();
        self.newest.clear();
        self.held = 0;
    }

    /// The power is gone: decides what survives. `piece`: bytes that are kept or lost as a whole when a change is torn.
    pub fn cut(&mut self, rng: &mut Rng, piece: u64) -> io::Result<Toll> {
        let mut toll = Toll { volatile: self.volatile(), ..Toll::default() };
        let style = Style::choose(rng, toll.volatile);
        let mut number = 0;
        for change in &self.changes {
            let fate = match change.durable {
                Durable::Now => Fate::Kept,
                Durable::Later => {
                    number += 1;
                    style.fate(rng, number - 1)
                }
            };
            let counted = u64::from(change.durable == Durable::Later);
            match fate {
                Fate::Kept => {
                    toll.kept += counted;
                    lay(&mut self.medium, change, 0, change.len)?;
                }
                Fate::Lost => toll.lost += counted,
                Fate::Torn => {
                    toll.torn += counted;
                    let mut from = 0;
                    while from < change.len {
                        // Pieces lie at multiples of their size on the disk, not in the request.
                        let to = ((change.at + from) / piece * piece + piece - change.at).min(change.len);
                        if rng.below(2) == 0 {
                            lay(&mut self.medium, change, from, to)?;
                        }
                        from = to;
                    }
                }
            }
        }
        self.forget();
        Ok(toll)
    }

    /// The durable content.
    pub fn medium(&self) -> &M {
        &self.medium
    }
}

fn lay(medium: &mut impl Medium, change: &Change, from: u64, to: u64) -> io::Result<()> {
    match &change.bytes {
        Some(bytes) => medium.write(change.at + from, &bytes[index(from)..index(to)]),
        None => medium.zero(change.at + from, to - from),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Lost,
    Torn,
}

/// What kind of a cut it is.
#[derive(Clone, Copy, Debug)]
enum Style {
    Everything,
    /// The first so many are kept, the next one is torn.
    Tail(u64),
    Anything,
}

impl Style {
    fn choose(rng: &mut Rng, volatile: u64) -> Self {
        match rng.below(4) {
            0 => Self::Everything,
            1 => Self::Tail(rng.below(volatile + 1)),
            _ => Self::Anything,
        }
    }

    fn fate(self, rng: &mut Rng, number: u64) -> Fate {
        match self {
            Self::Tail(kept) if number < kept => Fate::Kept,
            Self::Tail(kept) if number == kept => Fate::Torn,
            Self::Everything | Self::Tail(_) => Fate::Lost,
            Self::Anything => match rng.below(3) {
                0 => Fate::Kept,
                1 => Fate::Lost,
                _ => Fate::Torn,
            },
        }
    }
}

/// Offsets inside one request, which is in memory.
fn index(offset: u64) -> usize {
    usize::try_from(offset).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
