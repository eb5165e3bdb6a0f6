//! A run's operations with their beginnings and ends, made of the entries of its log.
//!
//! Owns the order of events; knows no image.

use crate::log::{Entry, Event, Header, Kind};
use anyhow::{Context as _, Result, bail};

/// The number of entries that stand before an event: a moment of the run. Never a time.
pub type Moment = u64;
/// After every moment.
pub const NEVER: Moment = u64::MAX;

/// One operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operation {
    /// What it does.
    pub kind: Kind,
    /// Who submitted it.
    pub lane: u16,
    /// Its first sector.
    pub sector: u64,
    /// Its sectors; none for a flush.
    pub sectors: u64,
    /// When it was submitted.
    pub submitted: Moment,
    /// When it came back well; [`NEVER`] if it did not, or nobody knows.
    pub completed: Moment,
    /// Whether it came back with an error: any part of it may be in.
    pub failed: bool,
    /// Whether it is in as a whole or not at all.
    pub atomic: bool,
    /// The wall clock at its beginning, nanoseconds since 1970 UTC.
    pub submitted_ns: u64,
}

/// All that a log tells.
#[derive(Clone, Debug)]
pub struct History {
    /// What the run was.
    pub header: Header,
    /// The operations, by number.
    pub operations: Vec<Operation>,
    /// How many entries the log has: the latest moment.
    pub end: Moment,
    /// The wall clock of each entry.
    pub wall_ns: Vec<u64>,
}

impl History {
    /// Puts beginnings and ends together.
    pub fn new(header: Header, entries: &[Entry]) -> Result<Self> {
        let mut operations: Vec<Operation> = Vec::new();
        for (moment, entry) in (0..).zip(entries) {
            match entry.event {
                Event::Submitted => {
                    if entry.operation != operations.len() as u64 {
                        bail!("entry {moment}: operation {} begins out of turn", entry.operation);
                    }
                    operations.push(begun(&header, entry, moment));
                }
                Event::Completed => of(&mut operations, entry, moment)?.completed = moment,
                Event::Failed(_) => {
                    let operation = of(&mut operations, entry, moment)?;
                    (operation.failed, operation.atomic) = (true, false);
                }
                Event::Ended => {}
            }
        }
        let wall_ns = entries.iter().map(|entry| entry.wall_ns).collect();
        Ok(Self { header, operations, end: entries.len() as u64, wall_ns })
    }

    /// The moment up to which every entry was made at `wall_ns` or before: the clock's word for what is surely past.
    pub fn moment_surely_by(&self, wall_ns: u64) -> Moment {
        self.wall_ns.iter().position(|at| *at > wall_ns).unwrap_or(self.wall_ns.len()) as u64
    }

    /// The moment from which on every entry was made after `wall_ns`.
    pub fn moment_surely_after(&self, wall_ns: u64) -> Moment {
        self.wall_ns.iter().rposition(|at| *at <= wall_ns).map_or(0, |last| last + 1) as u64
    }
}

fn begun(header: &Header, entry: &Entry, submitted: Moment) -> Operation {
    Operation {
        kind: entry.kind,
        lane: entry.lane,
        sector: entry.sector,
        sectors: entry.sectors,
        submitted,
        completed: NEVER,
        failed: false,
        atomic: header.limits.is_one_request(entry.kind, entry.sector, entry.sectors),
        submitted_ns: entry.wall_ns,
    }
}

fn of<'a>(operations: &'a mut [Operation], entry: &Entry, moment: Moment) -> Result<&'a mut Operation> {
    usize::try_from(entry.operation)
        .ok()
        .and_then(|number| operations.get_mut(number))
        .with_context(|| format!("entry {moment}: operation {} ends and never began", entry.operation))
}
