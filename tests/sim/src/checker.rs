//! Whether what is shown could have been.
//!
//! Knows every request (`history`) and judges content: of images, of what hosts read, of volumes after a power cut. A
//! request A is *before* B when A was answered before B was asked. An image is legal when every sector holds what
//! somebody wrote there (Valid), nothing is missing that was in the journal by then (Durable), nothing is in it that was
//! asked only later (no Future), with B it has every A before B (downward-Closed), and each request is in it as a whole
//! or not at all (Atomic): for two writes A before B, an image holds neither, only A, or both with B on top.
//!
//! Deliberately knows nothing of records, sessions' rules or resynchronisation: only what hosts were told.

use crate::content::Cell;
use crate::history::{Change, History, Op, Outcome, Stamp, Tick};
use record::position::Position;
use std::collections::{BTreeMap, BTreeSet};

#[cfg(test)]
mod tests;

/// What is to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Claim<'a> {
    /// For whoever reads about it.
    pub what: &'a str,
    /// Which era's requests may be seen.
    pub era: usize,
    /// Nothing that was asked later may be seen.
    pub until: Tick,
    /// What must be in it.
    pub needs: Needs,
    /// Whether with a request everything before it must be in it, and all of the request. Not so of a disk after a
    /// power cut.
    pub closed: bool,
}

/// What must be in some content.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Needs {
    /// Everything that was answered when the stream was no further than this.
    Stamped(Stamp),
    /// Everything that was answered before this.
    Answered(Tick),
    /// What a flush that succeeded, or the request itself, made durable.
    Flushed,
    /// Nothing.
    Nothing,
}

fn needed(history: &History, claim: &Claim<'_>, op: &Op) -> bool {
    if op.outcome != Outcome::Done {
        return false;
    }
    match claim.needs {
        Needs::Stamped(floor) => {
            op.stamp.is_some_and(|s| s.session < floor.session || (s.session == floor.session && s.laid <= floor.laid))
        }
        Needs::Answered(before) => op.completed < before,
        Needs::Flushed => {
            op.fua || history.flushes.iter().any(|(volume, asked)| *volume == op.volume && op.completed < *asked)
        }
        Needs::Nothing => false,
    }
}

/// Judges the content of some volumes: each by its number, with all its cells. `Err` says what cannot be.
pub fn judge(history: &History, claim: Claim<'_>, volumes: &[(u32, Vec<Cell>)]) -> Result<(), String> {
    let wrong = |why: String| Err(format!("{}: {why}", claim.what));
    let ops = history.ops_of(claim.era);
    let base = &history.eras[claim.era].base;
    let is_base = |volume: u32, at: usize, cell: Cell| base[volume as usize - 1].get(at) == Some(&cell);
    // Who can be seen.
    let mut seen = BTreeSet::new();
    for (volume, cells) in volumes {
        for (at, cell) in cells.iter().enumerate() {
            let id = match cell {
                Cell::Garbage => return wrong(format!("volume {volume} sector {at} holds what nobody wrote there")),
                Cell::Zero | Cell::Refused => continue,
                Cell::Of(id) => *id,
            };
            if is_base(*volume, at, *cell) {
                continue;
            }
            let first = ops.first().map_or(u64::MAX, |op| op.id);
            let found = history.op(id).filter(|op| {
                let covers = op.extent.start().index() <= at as u64 && (at as u64) < op.extent.end();
                op.id >= first && op.id < first + ops.len() as u64 && op.volume == *volume && covers
            });
            let Some(op) = found else {
                return wrong(format!(
                    "volume {volume} sector {at} holds request {id}, which is not what its era could have written there"
                ));
            };
            if op.submitted > claim.until {
                return wrong(format!(
                    "volume {volume} sector {at} holds request {id}, asked at {} only, after {}",
                    op.submitted, claim.until
                ));
            }
            seen.insert(id);
        }
    }
    let must: BTreeSet<u64> = ops
        .iter()
        .filter(|op| (claim.closed && seen.contains(&op.id)) || needed(history, &claim, op))
        .map(|op| op.id)
        .collect();
    // Everything that was answered before the last of these was asked is in it as well.
    let horizon = ops.iter().filter(|op| must.contains(&op.id)).map(|op| op.submitted).max().unwrap_or(0);
    let inside =
        |op: &Op| op.outcome == Outcome::Done && (must.contains(&op.id) || (claim.closed && op.completed < horizon));
    // By sector: who last began among those inside; who can have made zeros; who else was there.
    let mut last: BTreeMap<(u32, usize), &Op> = BTreeMap::new();
    let mut zeros: BTreeMap<(u32, usize), Tick> = BTreeMap::new();
    for op in ops {
        for at in op.extent.start().index()..op.extent.end() {
            let key = (op.volume, usize::try_from(at).unwrap_or(usize::MAX));
            if inside(op) {
                last.insert(key, op);
            }
            if op.change == Change::Zeros && op.submitted <= claim.until {
                let newest = zeros.entry(key).or_default();
                *newest = (*newest).max(op.completed);
            }
        }
    }
    let mut beats = BTreeSet::new();
    for (volume, cells) in volumes {
        for (at, cell) in cells.iter().enumerate() {
            let Some(last) = last.get(&(*volume, at)).filter(|_| *cell != Cell::Refused) else { continue };
            // The latest moment at which whoever made this can have been done.
            let of_op = match cell {
                Cell::Zero => zeros.get(&(*volume, at)).copied(),
                Cell::Of(id) if seen.contains(id) => history.op(*id).map(|op| op.completed),
                Cell::Of(_) | Cell::Garbage | Cell::Refused => None,
            };
            if of_op.unwrap_or(0) < last.submitted {
                return wrong(format!(
                    "volume {volume} sector {at} holds {cell:?}, which was over before request {} was asked (at {}, \
                     answered {}, {:?}), and that one must be in it",
                    last.id, last.submitted, last.completed, last.stamp
                ));
            }
            if let Cell::Of(id) = cell {
                beats.extend((*id != last.id && seen.contains(id)).then_some((*id, last.id)));
            }
        }
    }
    if claim.closed { whole(history, &seen, volumes, &mut beats).or_else(wrong) } else { Ok(()) }
}

/// Two requests that overlap and were on their way together: one of them won everywhere.
fn whole(
    history: &History,
    seen: &BTreeSet<u64>,
    volumes: &[(u32, Vec<Cell>)],
    beats: &mut BTreeSet<(u64, u64)>,
) -> Result<(), String> {
    let done: Vec<&Op> =
        seen.iter().filter_map(|id| history.op(*id)).filter(|op| op.outcome == Outcome::Done).collect();
    for (volume, cells) in volumes {
        let here: Vec<&&Op> = done.iter().filter(|op| op.volume == *volume).collect();
        for op in &here {
            for at in op.extent.start().index()..op.extent.end() {
                let Some(Cell::Of(winner)) = cells.get(usize::try_from(at).unwrap_or(usize::MAX)) else { continue };
                if *winner != op.id && seen.contains(winner) {
                    beats.insert((*winner, op.id));
                }
            }
        }
    }
    let is_done = |id: u64| history.op(id).is_some_and(|op| op.outcome == Outcome::Done);
    match beats.iter().find(|(a, b)| beats.contains(&(*b, *a)) && is_done(*a) && is_done(*b)) {
        Some((a, b)) => Err(format!("requests {a} and {b} overlap, and each covers the other somewhere")),
        None => Ok(()),
    }
}

/// What is claimed of an image at a position.
pub fn claim_of_image<'a>(history: &History, what: &'a str, position: Position) -> Claim<'a> {
    // The first moment at which it was there, and the last at which something older was.
    let until = history.sightings.iter().find(|s| s.head >= position).map_or(Tick::MAX, |s| s.tick);
    let floor = history.sightings.iter().rev().find(|s| s.head <= position);
    let needs = floor.map_or(Needs::Nothing, |s| Needs::Stamped(s.stamp));
    Claim { what, era: history.era_of(position), until, needs, closed: true }
}
