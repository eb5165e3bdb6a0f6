//! `churn check`: reads an image and lets the judge say what it is.
//!
//! Owns how sectors become values, and what is refused before there is anything to judge.

use crate::device::{Buffer, Device};
use crate::history::{History, Moment};
use crate::judge::{Bounds, Rule, Value, Verdict, Violation, after_power_cut, judge};
use crate::log;
use crate::sector::{Content, SECTOR, read};
use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// A moment as it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// So many entries of the log stand before it.
    Entries(Moment),
    /// The wall clock, nanoseconds since 1970 UTC.
    Wall(u64),
}

impl FromStr for When {
    type Err = anyhow::Error;

    /// `N` entries, or `@NS`: nanoseconds since 1970 UTC.
    fn from_str(text: &str) -> Result<Self> {
        let number = |text: &str| text.parse().with_context(|| format!("{text:?} is not a number"));
        match text.strip_prefix('@') {
            Some(ns) => Ok(Self::Wall(number(ns)?)),
            None => Ok(Self::Entries(number(text)?)),
        }
    }
}

/// What must be in, beyond what `after` asks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum AtLeast {
    /// Nothing in particular: any moment of the run will do
    #[default]
    Nothing,
    /// All that completed: the image is of a moment when nothing was in flight any more
    Completed,
    /// All that was flushed: the image is of a disk with a volatile cache that lost power. It need be no cut, and
    /// requests may be torn
    Flushed,
}

/// What is to be checked.
#[derive(Clone, Debug)]
pub struct Order {
    /// The image: a device or a file.
    pub image: PathBuf,
    /// The log of the run.
    pub log: PathBuf,
    /// What must be in.
    pub at_least: AtLeast,
    /// Everything that had completed by then is in.
    pub after: Option<When>,
    /// Nothing that was submitted from then on is in.
    pub before: Option<When>,
    /// How far the wall clock may be off, nanoseconds.
    pub slack_ns: u64,
}

/// What was found.
#[derive(Debug)]
pub struct Found {
    /// The verdict.
    pub verdict: Verdict,
    /// Sectors that show data, that read zero, and that are of another time.
    pub data: u64,
    /// See `data`.
    pub zeros: u64,
    /// See `data`.
    pub foreign: u64,
    /// Operations in the log.
    pub operations: u64,
}

/// Reads and judges.
pub fn check(order: &Order) -> Result<Found> {
    let (header, entries) = log::read(&order.log)?;
    let history = History::new(header, &entries).with_context(|| format!("understand {}", order.log.display()))?;
    let bounds = bounds(order, &history);
    let (values, refused) = read_values(&order.image, &history)?;
    let count = |of: fn(&Value) -> bool| values.iter().filter(|value| of(value)).count() as u64;
    let verdict = match order.at_least {
        AtLeast::Nothing | AtLeast::Completed => judge(&history, &values, bounds),
        AtLeast::Flushed => after_power_cut(&history, &values, bounds),
    };
    let verdict = match (verdict, refused.is_empty()) {
        (verdict, true) => verdict,
        (Verdict::Right(_), false) => Verdict::Wrong(refused),
        (Verdict::Wrong(more), false) => Verdict::Wrong(refused.into_iter().chain(more).collect()),
    };
    Ok(Found {
        verdict,
        data: count(|value| matches!(value, Value::Of(_))),
        zeros: count(|value| *value == Value::Zero),
        foreign: count(|value| *value == Value::Foreign),
        operations: history.operations.len() as u64,
    })
}

fn bounds(order: &Order, history: &History) -> Bounds {
    let after = match order.after {
        None => 0,
        Some(When::Entries(moment)) => moment,
        Some(When::Wall(ns)) => history.moment_surely_by(ns.saturating_sub(order.slack_ns)),
    };
    let before = match order.before {
        None => history.end,
        Some(When::Entries(moment)) => moment,
        Some(When::Wall(ns)) => history.moment_surely_after(ns.saturating_add(order.slack_ns)),
    };
    match order.at_least {
        AtLeast::Completed => Bounds { after: after.max(before), before },
        AtLeast::Nothing | AtLeast::Flushed => Bounds { after, before },
    }
}

/// How much is read at once.
const PIECE: u64 = 1 << 20;

fn read_values(image: &Path, history: &History) -> Result<(Vec<Value>, Vec<Violation>)> {
    let device = Device::open_to_read(image)?;
    let (first, sectors) = (history.header.first, history.header.sectors);
    if first + sectors > device.sectors {
        bail!("{} has {} sectors, too few for a run on {first}+{sectors}", image.display(), device.sectors);
    }
    let mut refused = Vec::new();
    let mut values = Vec::with_capacity(usize::try_from(sectors)?);
    let mut buffer = Buffer::new(usize::try_from(PIECE)?);
    let mut at = 0;
    while at < sectors {
        let bytes = buffer.first(usize::try_from((sectors - at).min(PIECE / 512))? * SECTOR);
        device.read(first + at, bytes).with_context(|| format!("read {} at sector {}", image.display(), first + at))?;
        for (sector, bytes) in (first + at..).zip(bytes.chunks_exact(SECTOR)) {
            values.push(value(history, sector, read(bytes, sector)).unwrap_or_else(|violation| {
                refused.push(violation);
                Value::Refused
            }));
        }
        at += bytes.len() as u64 / 512;
    }
    if refused.len() > 5 {
        let text = format!("and {} sectors more", refused.len() - 5);
        refused.truncate(5);
        refused.push(Violation { rule: Rule::Valid, text });
    }
    Ok((values, refused))
}

/// What a sector's content means for this history.
pub fn value(history: &History, sector: u64, content: Content) -> Result<Value, Violation> {
    let invalid = |text: String| Violation { rule: Rule::Valid, text };
    let stamp = match content {
        Content::Zero => return Ok(Value::Zero),
        Content::Foreign => return Ok(Value::Foreign),
        Content::Damaged => return Err(invalid(format!("sector {sector} is torn or damaged within itself"))),
        Content::Misplaced { stamp, belongs } => {
            let whose = if stamp.run == history.header.run { "this" } else { "another" };
            return Err(invalid(format!(
                "sector {sector} holds what operation {} of {whose} run wrote for sector {belongs}",
                stamp.operation
            )));
        }
        Content::Written(stamp) if stamp.run != history.header.run => return Ok(Value::Foreign),
        Content::Written(stamp) => stamp,
    };
    let number = usize::try_from(stamp.operation).unwrap_or(usize::MAX);
    let Some(operation) = history.operations.get(number) else {
        let text = format!("sector {sector} shows operation {}, which the log does not know", stamp.operation);
        return Err(Violation { rule: Rule::Future, text });
    };
    let same = operation.kind.writes()
        && (operation.sector, operation.sectors, operation.lane) == (stamp.first, u64::from(stamp.sectors), stamp.lane)
        && (operation.sector..operation.sector + operation.sectors).contains(&sector);
    if !same {
        return Err(invalid(format!("sector {sector} shows operation {number}, which was another one by the log")));
    }
    u32::try_from(number).map(Value::Of).map_err(|_| invalid(format!("operation {number} is beyond what is judged")))
}
