//! The end of a device, for whoever wants to know of it.
//!
//! Owns nothing but the news: what it was and who waits for it, on a thread or on any executor.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Why a device is no longer served.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ending {
    /// [`Device::stop`]: it is gone.
    Stopped,
    /// [`Device::abandon`]: it waits for a successor.
    Abandoned,
    /// Someone else stopped it, through the driver. It is gone.
    StoppedByOthers,
}

/// Tells when a device is no longer served.
#[derive(Clone, Debug)]
pub struct Watch(Arc<WatchState>);

#[derive(Default)]
struct WatchState {
    ending: Mutex<(Option<Ending>, Vec<Waker>)>,
    changed: Condvar,
}

impl fmt::Debug for WatchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.lock().0)
    }
}

impl WatchState {
    fn lock(&self) -> MutexGuard<'_, (Option<Ending>, Vec<Waker>)> {
        self.ending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch {
    /// How it ended, if it has.
    pub fn ending(&self) -> Option<Ending> {
        self.0.lock().0
    }

    /// Waits for the end, at most this long.
    pub fn wait(&self, limit: Duration) -> Option<Ending> {
        let state = self.0.lock();
        let (state, _) = self
            .0
            .changed
            .wait_timeout_while(state, limit, |(ending, _)| ending.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.0
    }

    /// The end, awaited; on any executor.
    pub fn ended(&self) -> impl Future<Output = Ending> + Send + 'static {
        Ended(Self(Arc::clone(&self.0)))
    }

    pub(crate) fn new() -> Self {
        Self(Arc::default())
    }

    pub(crate) fn set(&self, ending: Ending) {
        let mut state = self.0.lock();
        state.0 = Some(ending);
        let wakers = std::mem::take(&mut state.1);
        drop(state);
        self.0.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }
}

struct Ended(Watch);

impl Future for Ended {
    type Output = Ending;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Ending> {
        let mut state = self.0.0.lock();
        if let Some(ending) = state.0 {
            return Poll::Ready(ending);
        }
        if !state.1.iter().any(|waker| waker.will_wake(context.waker())) {
            state.1.push(context.waker().clone());
        }
        Poll::Pending
    }
}
