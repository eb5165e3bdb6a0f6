//! Who runs next: a single thread, seeded, with a time of its own.
//!
//! Owns the tasks of a world, whom they belong to, and the virtual time. Which of the ready tasks is polled is thrown;
//! when none is ready, time goes on to the next moment for which somebody waits. A process that is killed loses its
//! tasks between two polls, or in the middle of one when the product is told to stop at a store to shared memory
//! ([`Killed`]). Nothing here looks at a real clock.

use crate::dice::Dice;
use crate::time;
use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

#[cfg(test)]
mod tests;

/// Whom a task belongs to: it dies with its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// Nobody: it ends with the world.
    World,
    /// Those who use the volumes.
    Hosts,
    /// The splitter's process.
    Splitter,
    /// The appliance's process.
    Appliance,
    /// The disks: what is in flight, whoever asked for it.
    Disks,
}

/// What unwinds when a process was killed in the middle of a poll.
pub use record::fault::CutOff as Killed;

type TaskId = u64;
type Boxed = Pin<Box<dyn Future<Output = ()>>>;

struct Task {
    owner: Owner,
    /// `None` while it is being polled.
    future: Option<Boxed>,
}

struct Flag {
    id: TaskId,
    ready: Arc<Mutex<BTreeSet<TaskId>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(self.id);
    }
}

struct Inner {
    dice: Dice,
    tasks: RefCell<BTreeMap<TaskId, Task>>,
    ready: Arc<Mutex<BTreeSet<TaskId>>>,
    timers: RefCell<BTreeMap<(u64, u64), Waker>>,
    next: Cell<u64>,
    polls: Cell<u64>,
}

/// The executor of a world. Clones are the same one.
#[derive(Clone)]
pub struct Executor(Rc<Inner>);

impl std::fmt::Debug for Executor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "executor with {} tasks", self.0.tasks.borrow().len())
    }
}

/// What a step came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A task was polled, or time went on.
    Ran,
    /// A task's process was killed in the middle of a poll.
    Killed(Owner),
    /// Nobody is ready and nobody waits for a time.
    Idle,
}

impl Executor {
    /// An executor without tasks.
    pub fn new(dice: &Dice) -> Self {
        Self(Rc::new(Inner {
            dice: dice.clone(),
            tasks: RefCell::default(),
            ready: Arc::default(),
            timers: RefCell::default(),
            next: Cell::new(0),
            polls: Cell::new(0),
        }))
    }

    fn number(&self) -> u64 {
        self.0.next.set(self.0.next.get() + 1);
        self.0.next.get()
    }

    /// How many polls there were.
    pub fn polls(&self) -> u64 {
        self.0.polls.get()
    }

    /// Adds a task.
    pub fn spawn(&self, owner: Owner, future: impl Future<Output = ()> + 'static) {
        let id = self.number();
        self.0.tasks.borrow_mut().insert(id, Task { owner, future: Some(Box::pin(future)) });
        self.0.ready.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
    }

    /// Drops every task of an owner, where it stands.
    pub fn kill(&self, owner: Owner) {
        let ids: Vec<_> =
            self.0.tasks.borrow().iter().filter(|(_, task)| task.owner == owner).map(|(id, _)| *id).collect();
        for id in ids {
            // Dropped outside of the borrow: what a future holds may wake or look.
            let task = self.0.tasks.borrow_mut().remove(&id);
            drop(task);
        }
    }

    /// Polls one ready task, or lets time go on.
    pub fn step(&self) -> Step {
        let chosen = {
            let mut ready = self.0.ready.lock().unwrap_or_else(PoisonError::into_inner);
            let chosen =
                if ready.is_empty() { None } else { ready.iter().nth(self.0.dice.index(ready.len())).copied() };
            if let Some(id) = chosen {
                ready.remove(&id);
            }
            chosen
        };
        match chosen {
            Some(id) => self.poll(id),
            None => self.wait(),
        }
    }

    fn wait(&self) -> Step {
        let Some(((at, _), waker)) = self.0.timers.borrow_mut().pop_first() else { return Step::Idle };
        time::advance_to(at);
        waker.wake();
        Step::Ran
    }

    fn poll(&self, id: TaskId) -> Step {
        let taken = self.0.tasks.borrow_mut().get_mut(&id).and_then(|task| Some((task.owner, task.future.take()?)));
        let Some((owner, mut future)) = taken else { return Step::Ran };
        self.0.polls.set(self.0.polls.get() + 1);
        let waker = Waker::from(Arc::new(Flag { id, ready: Arc::clone(&self.0.ready) }));
        let polled = catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(&mut Context::from_waker(&waker))));
        match polled {
            Ok(Poll::Pending) => {
                let mut tasks = self.0.tasks.borrow_mut();
                if let Some(task) = tasks.get_mut(&id) {
                    task.future = Some(future);
                }
            }
            Ok(Poll::Ready(())) => {
                self.0.tasks.borrow_mut().remove(&id);
            }
            Err(panic) => {
                self.0.tasks.borrow_mut().remove(&id);
                return Self::ended(owner, panic);
            }
        }
        Step::Ran
    }

    fn ended(owner: Owner, panic: Box<dyn Any + Send>) -> Step {
        if panic.is::<Killed>() { Step::Killed(owner) } else { resume_unwind(panic) }
    }

    /// Lets so many nanoseconds go by.
    pub fn sleep(&self, ns: u64) -> Sleep {
        Sleep { executor: self.clone(), until: time::now() + ns, registered: false }
    }

    fn wake_at(&self, at: u64, waker: Waker) {
        let key = (at, self.number());
        self.0.timers.borrow_mut().insert(key, waker);
    }
}

/// A wait for a time.
#[derive(Debug)]
pub struct Sleep {
    executor: Executor,
    until: u64,
    registered: bool,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        if time::now() >= self.until {
            return Poll::Ready(());
        }
        if !self.registered {
            self.registered = true;
            self.executor.wake_at(self.until, context.waker().clone());
        }
        Poll::Pending
    }
}

/// Something that tasks wait for, again and again. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Signal(Rc<Waiting>);

#[derive(Debug, Default)]
struct Waiting {
    rung: Cell<u64>,
    wakers: RefCell<Vec<Waker>>,
}

impl Signal {
    /// Wakes everybody who waits.
    pub fn ring(&self) {
        self.0.rung.set(self.0.rung.get() + 1);
        for waker in self.0.wakers.take() {
            waker.wake();
        }
    }

    /// Waits for the next ring after this call.
    pub fn wait(&self) -> impl Future<Output = ()> + use<> {
        let (waiting, seen) = (Rc::clone(&self.0), self.0.rung.get());
        std::future::poll_fn(move |context| {
            if waiting.rung.get() != seen {
                return Poll::Ready(());
            }
            waiting.wakers.borrow_mut().push(context.waker().clone());
            Poll::Pending
        })
    }
}

/// Waits for whichever comes first.
pub async fn either(a: impl Future<Output = ()>, b: impl Future<Output = ()>) {
    let (mut a, mut b) = (std::pin::pin!(a), std::pin::pin!(b));
    std::future::poll_fn(|context| {
        if a.as_mut().poll(context).is_ready() || b.as_mut().poll(context).is_ready() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// A value that comes once.
#[derive(Debug)]
pub struct Once<T>(Rc<RefCell<(Option<T>, Option<Waker>)>>);

impl<T> Clone for Once<T> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Rc::new(RefCell::new((None, None))))
    }
}

impl<T> Once<T> {
    /// Here it is.
    pub fn set(&self, value: T) {
        let waker = {
            let mut inner = self.0.borrow_mut();
            inner.0 = Some(value);
            inner.1.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Waits for it.
    pub async fn get(&self) -> T {
        std::future::poll_fn(|context| {
            let mut inner = self.0.borrow_mut();
            if let Some(value) = inner.0.take() {
                return Poll::Ready(value);
            }
            inner.1 = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }
}
