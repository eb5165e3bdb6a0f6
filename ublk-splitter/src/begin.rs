//! From what a predecessor left to a group that can serve.
//!
//! Owns which mode a group starts in, what it knows of the stop before, and what has to be read again (PROTOCOL R3, R29).
//! Deliberately opens nothing: the outbox is open, the row is read, the threads are started by `serve`.

use crate::catalog::{Catalog, GroupRow};
use crate::clock::Source;
use crate::group::{Group, Identity};
use crate::outbox::{Adopted, Mode, Outbox};
use crate::stream::{Hold, Stream};
use record::fault::{Bug, bug};
use record::ids::{GroupId, JournalId};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Why a paused group's writes are not recorded.
pub const PAUSED: &str = "its protection is paused";

/// What a start found wrong with the backings, each why.
#[derive(Clone, Debug, Default)]
pub struct Left {
    /// One was written while undisk did not serve it: an operator has to look.
    pub touched: Option<String>,
    /// One is not there.
    pub absent: Option<String>,
}

/// A group over its outbox, as the predecessor left it or empty.
#[expect(clippy::too_many_arguments, reason = "everything that a group is made of, in one place")]
pub fn begin(
    row: &GroupRow,
    id: GroupId,
    journal: JournalId,
    me: Identity,
    (outbox, adopted): (Outbox, Option<Adopted>),
    left: Left,
    catalog: Arc<Catalog>,
    clock: Source,
) -> Group {
    if let Some(adopted) = &adopted {
        tracing::info!(group = row.name, mode = ?adopted.mode, session = ?adopted.session, laid = %adopted.laid, noops = adopted.noops, "took over the outbox of a predecessor");
    }
    let hold = row.rollback.map(|_| Hold::Restoring);
    let stream = Stream::new(&row.name, outbox, adopted.as_ref(), Mode::Waiting, hold, clock);
    let clean = if adopted.is_some() { None } else { row.clean };
    let look_first = left.touched.is_some() || row.look_first;
    let paused = row.paused.then(|| PAUSED.to_owned());
    if let Some(reason) = left.touched.or(left.absent).or_else(|| row.marking.clone()).or(paused) {
        stream.mark(&reason);
    }
    let clean = if stream.mode().0 == Mode::Marking { None } else { clean };
    let group = Group::new(&row.name, id, journal, me, stream, clean, row.rollback, catalog);
    for (volume, extent) in adopted.iter().flat_map(|adopted| &adopted.failed).filter(|_| !bug(Bug::ForgetReread)) {
        if !group.jobs.push_reread(*volume, *extent) {
            group.stream.mark("too many writes to a backing failed");
        }
    }
    group.paused.store(row.paused, Ordering::Release);
    group.look_first.store(look_first, Ordering::Release);
    group.stream.set_policy(row.policy);
    group
}
