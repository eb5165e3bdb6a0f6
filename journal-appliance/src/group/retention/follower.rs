//! The thread that brings a group's replicas nearer to its oldest point, and to its newest where they are to be there, and
//! compacts what older points keep.
//!
//! Owns the pieces, the pauses between them, and what came of the last one. Decides nothing: it goes on when it is told
//! to, until there is nothing more to do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use journal::{FollowBounds, HeldBack, Journal};

/// Bytes of one piece.
const PIECE: u64 = 4 << 20;
/// Counting rests so many times as long as it took.
const COUNT_PAUSES: u32 = 50;
/// The longest pause between pieces.
const PAUSE_MAX: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Said {
    ends: AtomicBool,
    hurry: AtomicBool,
    /// Whether replicas go to the newest point, and how many bytes may be held of what they were.
    eager: AtomicBool,
    bounds: Mutex<FollowBounds>,
    /// Bytes held only because of discards, when that was counted, and how long it took.
    discarded: Mutex<(u64, Option<(Instant, Duration)>)>,
    behind: Mutex<Option<Behind>>,
    held_back_by: Mutex<Option<HeldBack>>,
    failure: Mutex<Option<String>>,
}

/// What keeps replicas from the newest point.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Behind {
    /// What they were before takes as much as it may.
    UndoFull(String),
    /// Something else.
    Trouble(String),
}

/// It, as the group's own thread holds it. Ends when it is dropped, after the piece at hand.
#[derive(Debug)]
pub(super) struct Follower {
    orders: Option<SyncSender<()>>,
    said: Arc<Said>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    pub(super) fn start(group: &str, journal: &Arc<Journal>) -> Result<Self, String> {
        let (orders, inbox) = sync_channel(1);
        let said = Arc::new(Said::default());
        let (journal, told) = (Arc::clone(journal), Arc::clone(&said));
        let thread = thread::Builder::new()
            .name(format!("follow {group}"))
            .spawn(move || follow(&journal, &inbox, &told))
            .map_err(|e| e.to_string())?;
        Ok(Self { orders: Some(orders), said, thread: Some(thread) })
    }

    /// How far replicas are to go from now on.
    pub(super) fn set(&self, eager: bool, bounds: FollowBounds) {
        self.said.eager.store(eager, Ordering::Relaxed);
        *self.said.bounds.lock().unwrap_or_else(PoisonError::into_inner) = bounds;
    }

    /// Bytes that are held only because of discards, as they were counted last.
    pub(super) fn discarded(&self) -> u64 {
        self.said.discarded.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    /// What keeps replicas from the newest point.
    pub(super) fn behind(&self) -> Option<Behind> {
        self.said.behind.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// There is something to do; with `hurry` without pauses.
    pub(super) fn go_on(&self, hurry: bool) {
        self.said.hurry.store(hurry, Ordering::Relaxed);
        if let Some(orders) = &self.orders {
            // One that waits already is as good.
            let _ = orders.try_send(());
        }
    }

    pub(super) fn held_back_by(&self) -> Option<HeldBack> {
        self.said.held_back_by.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn failure(&self) -> Option<String> {
        self.said.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.said.ends.store(true, Ordering::Relaxed);
        self.orders = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that brings replicas nearer to the oldest point ended by a panic");
        }
    }
}

fn follow(journal: &Journal, inbox: &Receiver<()>, said: &Said) {
    if let Err(e) = ublk_device::io_flusher() {
        tracing::warn!(error = %e, "a thread that writes replicas is not marked as an I/O flusher");
    }
    while inbox.recv().is_ok() {
        while !said.ends.load(Ordering::Relaxed) {
            let began = Instant::now();
            let (more, held_back_by, failure) = match journal.distribute(PIECE) {
                Ok(piece) => (piece.more, piece.held_back_by, None),
                Err(error) => (false, None, Some(error.to_string())),
            };
            // What the replicas cannot take, since older points need what is in front of it, becomes smaller.
            let (more, failure) = match failure {
                None if !more => match journal.compact() {
                    Ok(step) => (step.more, None),
                    Err(error) => (false, Some(error.to_string())),
                },
                failure => (more, failure),
            };
            let (follows, behind) = go_on(journal, said);
            *said.behind.lock().unwrap_or_else(PoisonError::into_inner) = behind;
            let more = more || follows;
            *said.held_back_by.lock().unwrap_or_else(PoisonError::into_inner) = held_back_by;
            *said.failure.lock().unwrap_or_else(PoisonError::into_inner) = failure;
            if !more {
                break;
            }
            if !said.hurry.load(Ordering::Relaxed) {
                // Half of the disk's time is for everybody else.
                thread::sleep(began.elapsed().min(PAUSE_MAX));
            }
        }
    }
}

/// Brings replicas nearer to the newest point, or back. Answers with whether there is more to be done, and what is in the way.
fn go_on(journal: &Journal, said: &Said) -> (bool, Option<Behind>) {
    let eager = said.eager.load(Ordering::Relaxed);
    let bounds = *said.bounds.lock().unwrap_or_else(PoisonError::into_inner);
    match journal.follow(PIECE, eager, bounds) {
        Ok(followed) if followed.undo_full => (false, followed.held_back_by.map(Behind::UndoFull)),
        Ok(followed) => {
            if !followed.more {
                count_discarded(journal, said);
            }
            (followed.more, followed.held_back_by.map(Behind::Trouble))
        }
        Err(error) => (false, Some(Behind::Trouble(error.to_string()))),
    }
}

/// Counts what is held only because of discards; that takes a look at all that is held, so it has a small part of the time.
fn count_discarded(journal: &Journal, said: &Said) {
    // Not held while it is counted: the group's own thread asks for what was counted last.
    let held = || said.discarded.lock().unwrap_or_else(PoisonError::into_inner);
    if held().1.is_some_and(|(when, took)| when.elapsed() < took * COUNT_PAUSES) {
        return;
    }
    let began = Instant::now();
    match journal.undo_bytes_of_discards() {
        Ok(bytes) => *held() = (bytes, Some((Instant::now(), began.elapsed()))),
        // Whoever needs what cannot be looked at says so.
        Err(error) => tracing::debug!(%error, "what is held because of discards cannot be counted"),
    }
}
