//! Faults on purpose, for simulations only: rules that can be broken one at a time, and stores that a kill can follow.
//!
//! Without the feature `faults`, which no program of the product has, every question here is answered at compile time
//! and nothing is left of it. With it, a simulated world says for its own thread which rule is broken and after how many
//! stores to shared memory a process dies. Owns the names of the rules; where one is kept, one line asks.

/// A rule of the product that can be broken, to see that the simulation notices.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bug {
    /// Chunks are acknowledged before they are durable.
    AckBeforeSync,
    /// What was kept by a recovery is not synced before it is acknowledged.
    RecoveryUnsynced,
    /// Everything durable counts as committed, so the outbox lets go too early.
    ReleaseAtDurable,
    /// Headers say nothing of what is committed.
    DropCommittedMark,
    /// A life of the splitter that is over may still open sessions.
    AcceptStaleSession,
    /// A volume joins before the writes that its replica may have seen are durable.
    JoinTooEarly,
    /// A session that lacks something opens no gap, nor does a resynchronisation.
    PointInsideResync,
    /// A failed write opens no gap.
    IndeterminateIgnored,
    /// A region becomes clean without a flush of the backing.
    ClearWithoutFlush,
    /// A region becomes clean before the journal has what was written there.
    ClearBeforeCommitted,
    /// A host's write does not wait until its dirty bit is durable.
    DirtyBitLate,
    /// Overlapping requests run side by side.
    SkipRangeLock,
    /// A resynchronisation reads without the range lock, and what it lays wins over newer writes.
    ResyncOverwrites,
    /// A number whose record was never completed is taken for a record.
    ForgetNoop,
    /// That records were lost is not stored before hosts go on.
    MarkingNotStored,
    /// A flush of a host is answered without one of the backing.
    FlushSkipsBacking,
    /// A write that has to be durable when it is answered is not.
    FuaIgnored,
    /// A `sync` group answers when the record is in the outbox.
    SyncAnswersEarly,
    /// Requests of a killed process are not waited for.
    ForgetInherited,
    /// A host is told that a write failed, and the history is not.
    NoIndeterminate,
    /// What a killed process was to read again is forgotten.
    ForgetReread,
    /// A resynchronisation ends before it has read everything.
    ResyncEndsEarly,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 22] = [
        Self::AckBeforeSync,
        Self::RecoveryUnsynced,
        Self::ReleaseAtDurable,
        Self::DropCommittedMark,
        Self::AcceptStaleSession,
        Self::JoinTooEarly,
        Self::PointInsideResync,
        Self::IndeterminateIgnored,
        Self::ClearWithoutFlush,
        Self::ClearBeforeCommitted,
        Self::DirtyBitLate,
        Self::SkipRangeLock,
        Self::ResyncOverwrites,
        Self::ForgetNoop,
        Self::MarkingNotStored,
        Self::FlushSkipsBacking,
        Self::FuaIgnored,
        Self::SyncAnswersEarly,
        Self::ForgetInherited,
        Self::NoIndeterminate,
        Self::ForgetReread,
        Self::ResyncEndsEarly,
    ];
}

/// What unwinds when a process is cut off at a store.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CutOff;

#[cfg(feature = "faults")]
mod on {
    use super::{Bug, CutOff};
    use std::cell::Cell;

    thread_local! {
        static BROKEN: Cell<Option<Bug>> = const { Cell::new(None) };
        /// Stores until the process dies; 0: it is dead.
        static STORES: Cell<Option<u64>> = const { Cell::new(None) };
    }

    /// Whether this rule is broken in the world of this thread.
    pub fn bug(rule: Bug) -> bool {
        BROKEN.get() == Some(rule)
    }

    /// Breaks a rule, or none, in the world of this thread.
    pub fn break_rule(rule: Option<Bug>) {
        BROKEN.set(rule);
    }

    /// The process of this thread's world dies at the n-th store from now on (`None`: at none).
    pub fn cut_off_after(stores: Option<u64>) {
        STORES.set(stores);
    }

    /// Asked before a store to shared memory: whether it still happens. Unwinds where the process dies.
    pub fn store_happens() -> bool {
        match STORES.get() {
            None => true,
            Some(0) => false,
            Some(left) => {
                STORES.set(Some(left - 1));
                if left == 1 {
                    std::panic::resume_unwind(Box::new(CutOff));
                }
                true
            }
        }
    }
}

#[cfg(feature = "faults")]
pub use on::{break_rule, bug, cut_off_after, store_happens};

/// Whether this rule is broken in the world of this thread.
#[cfg(not(feature = "faults"))]
#[inline]
pub const fn bug(_: Bug) -> bool {
    false
}

/// Asked before a store to shared memory: whether it still happens. Unwinds where the process dies.
#[cfg(not(feature = "faults"))]
#[inline]
pub const fn store_happens() -> bool {
    true
}
