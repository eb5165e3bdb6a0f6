//! What a group does behind the hosts' backs, one job after another.
//!
//! Owns the queue of jobs, what a job works with (`Hands`: I/O and a way to wait, so that the same code runs on a thread
//! that blocks and in a simulated world), and what becomes of a job that did not come to its end. The jobs themselves:
//! `replica` brings a new volume into the journal, `resync` reads again what the journal lacks, `restore` is rollback's
//! side on the production volumes, `verify` compares a volume with its newest image (on its asker's thread). Deliberately never waited for by a host, but for the extent that is being read, and
//! but for a rollback.
//!
//! The queue of jobs is bounded by its kinds: one rollback, one resynchronisation, one synchronisation a volume, and a
//! re-read for each failed write of the host, up to a limit beyond which recording ends.

pub mod clean;
mod heal;
mod replica;
mod restore;
pub mod resync;
pub mod verify;

use crate::group::Group;
use crate::ring_io::{Blocking, RingIo};
use crate::volume::Volume;
use record::conversation::VolumeExtent;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::member::BookmarkNote;
use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

/// Extents of failed writes that wait to be read again, at most; with more, everything is read again.
const REREADS_MAX: usize = 4096;
/// How often a wait looks whether it has become pointless.
const TICK: Duration = Duration::from_millis(100);
/// How often a wait for hosts that are being held looks: they notice every millisecond of it.
const SHORT_TICK: Duration = Duration::from_millis(5);
/// How often a worker without a job looks after what comes with time.
const IDLE: Duration = Duration::from_secs(1);
/// Between two attempts at a job whose backing failed.
const RETRY: Duration = Duration::from_secs(1);

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Job {
    /// Bring the replica of a volume that has not joined to its content.
    Synchronise(Incarnation),
    /// RESYNC_BEGIN was laid: read what is dirty and lay RESYNC_END.
    Resynchronise,
    /// Nothing is known any more: make every region dirty, durably, and begin a resynchronisation.
    Everything,
    /// Read an extent again whose content is unknown.
    Reread { volume: Incarnation, extent: Extent },
    /// Quiesce for a rollback; `held`: hosts are held already, behind a barrier that is the bookmark.
    Prepare { id: u64, ticket: u64, name: String, held: bool },
    /// The extents that a committed rollback owes are known: bring them in.
    Restore { id: u64, extents: Vec<VolumeExtent> },
    /// Show the appliance what the backing holds there: its journal has lost it.
    Show { volume: Incarnation, extent: Extent },
    /// End.
    Quit,
}

/// The queue of a group's jobs.
#[derive(Clone, Debug, Default)]
pub struct Jobs(Arc<(Mutex<VecDeque<Job>>, Condvar)>);

impl Jobs {
    /// Adds a job, unless the same one waits already.
    pub fn push(&self, job: Job) {
        let mut queue = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !queue.contains(&job) {
            queue.push_back(job);
        }
        self.0.1.notify_one();
    }

    /// Reads an extent again, unless too much waits to be read again: `false` then.
    pub fn push_reread(&self, volume: Incarnation, extent: Extent) -> bool {
        let full = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).len() >= REREADS_MAX;
        if !full {
            self.push(Job::Reread { volume, extent });
        }
        !full
    }

    /// Puts a job in front of all others.
    pub fn push_first(&self, job: Job) {
        let mut queue = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        queue.push_front(job);
        self.0.1.notify_one();
    }

    /// The next job, if one waits.
    pub fn try_next(&self) -> Option<Job> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }

    fn next(&self, limit: Duration) -> Option<Job> {
        let queue = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut queue, _) =
            self.0.1.wait_timeout_while(queue, limit, |queue| queue.is_empty()).unwrap_or_else(PoisonError::into_inner);
        queue.pop_front()
    }
}

/// Why a job did not come to its end.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    /// The group or the link went away, or the mode changed: whoever changed it starts the job again.
    #[error("{0}")]
    Pointless(&'static str),
    /// Hosts are held for a rollback: later.
    #[error("hosts are held for a rollback")]
    Held,
    /// The backing failed: tried again.
    #[error("{0}")]
    Backing(#[from] io::Error),
}

/// What a job works with.
pub trait Hands: RingIo {
    /// Lets so much time go by, or less when something of the group has changed; `true` when the group quits.
    fn pause(&self, group: &Group, limit: Duration) -> impl Future<Output = bool>;

    /// The next job, or none within this time.
    fn next_job(&self, jobs: &Jobs, limit: Duration) -> impl Future<Output = Option<Job>>;
}

/// On a thread of its own, which may block.
impl Hands for Blocking {
    async fn pause(&self, group: &Group, limit: Duration) -> bool {
        group.wait_quit(limit)
    }

    async fn next_job(&self, jobs: &Jobs, limit: Duration) -> Option<Job> {
        jobs.next(limit)
    }
}

/// Runs a group's jobs until `Job::Quit`.
pub async fn run(group: &Group, hands: &impl Hands) {
    let mut tidied = group.stream.now();
    loop {
        let next = hands.next_job(&group.jobs, IDLE).await;
        // Also between jobs that fail again and again: what else is due must not starve.
        if group.stream.now().since(tidied) >= IDLE {
            tidied = group.stream.now();
            resync::settle_inherited(group);
            clean::tidy(group, hands).await;
        }
        let Some(job) = next else { continue };
        tracing::debug!(group = group.name, ?job, "job");
        let done = match &job {
            Job::Synchronise(volume) => replica::synchronise(group, hands, *volume).await,
            Job::Resynchronise => resync::resynchronise(group, hands).await,
            Job::Everything => resync::everything(group, hands).await,
            Job::Reread { volume, extent } => resync::reread(group, hands, *volume, *extent).await,
            Job::Prepare { id, ticket, name, held } => {
                let bookmark = (!held).then(|| BookmarkNote { ticket: *ticket, name: name.clone() });
                restore::prepare(group, hands, *id, bookmark).await
            }
            Job::Restore { id, extents } => restore::restore(group, hands, *id, extents).await,
            Job::Show { volume, extent } => heal::show(group, hands, *volume, *extent).await,
            Job::Quit => return,
        };
        let pause = match done {
            Ok(()) => continue,
            Err(Stopped::Pointless(why)) => {
                tracing::debug!(group = group.name, ?job, why, "job given up");
                continue;
            }
            Err(Stopped::Held) => TICK,
            Err(Stopped::Backing(error)) => {
                tracing::error!(group = group.name, ?job, %error, "reading or writing the backing failed; trying again");
                RETRY
            }
        };
        if hands.pause(group, pause).await {
            return;
        }
        group.jobs.push(job);
    }
}

/// Waits until `ready`; gives up when the group quits or `pointless` says so.
async fn wait(
    group: &Group,
    hands: &impl Hands,
    mut ready: impl FnMut() -> bool,
    pointless: impl Fn() -> Option<&'static str>,
) -> Result<(), Stopped> {
    while !ready() {
        if let Some(why) = pointless() {
            return Err(Stopped::Pointless(why));
        }
        if hands.pause(group, TICK).await {
            return Err(Stopped::Pointless("the splitter ends"));
        }
    }
    Ok(())
}

/// Waits until `ready`, for so long at most, while hosts are held; whether it is.
async fn wait_at_most(group: &Group, hands: &impl Hands, limit: Duration, ready: impl Fn() -> bool) -> bool {
    let began = group.stream.now();
    while !ready() {
        if group.stream.now().since(began) >= limit || hands.pause(group, SHORT_TICK).await {
            return ready();
        }
    }
    true
}

fn volume_of(group: &Group, volume: Incarnation) -> Result<Arc<Volume>, Stopped> {
    group.volume(volume).ok_or(Stopped::Pointless("the volume was removed"))
}
