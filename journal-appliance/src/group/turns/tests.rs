//! Goal: one turn at a time, each connection's events in order, nothing due is late because a reader had the turn, and
//! nobody waits for a thread that is gone. Method: a taker that notes who gave it which turn.

use super::{Ended, MAILBOX, TakesTurns, Turns};
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

/// Nothing here waits that long.
const LONG: Duration = Duration::from_secs(600);

enum Event {
    /// From which connection, its how manyth.
    Numbered(usize, usize),
    /// From now on a turn is due so soon.
    Patience(Duration),
    /// The turn lasts until something comes.
    Hold(Receiver<()>),
    Panic,
    Stop,
}

#[derive(Default)]
struct Seen {
    events: Vec<(usize, usize)>,
    /// By whom each event was dealt with.
    by: Vec<ThreadId>,
    /// Turns without an event.
    idle: usize,
}

struct Taker {
    seen: Arc<Mutex<Seen>>,
    busy: AtomicBool,
    patience: Duration,
}

impl TakesTurns for Taker {
    type Event = Event;

    fn turn(&mut self, next: &mut dyn FnMut() -> Option<Event>) -> ControlFlow<()> {
        assert!(!self.busy.swap(true, Ordering::SeqCst), "two turns at once");
        let event = next();
        let mut flow = ControlFlow::Continue(());
        {
            let mut seen = self.seen.lock().expect("seen");
            seen.idle += usize::from(event.is_none());
            if event.is_some() {
                seen.by.push(thread::current().id());
            }
            if let Some(Event::Numbered(from, n)) = event {
                seen.events.push((from, n));
            }
        }
        match event {
            Some(Event::Patience(patience)) => self.patience = patience,
            Some(Event::Hold(until)) => until.recv().expect("somebody lets go"),
            Some(Event::Panic) => panic!("on purpose"),
            Some(Event::Stop) => flow = ControlFlow::Break(()),
            Some(Event::Numbered(..)) | None => {}
        }
        self.busy.store(false, Ordering::SeqCst);
        flow
    }

    fn patience(&self) -> Duration {
        self.patience
    }
}

struct World {
    turns: Arc<Turns<Taker>>,
    seen: Arc<Mutex<Seen>>,
    thread: thread::JoinHandle<()>,
}

fn world() -> World {
    let seen = Arc::<Mutex<Seen>>::default();
    let taker = Taker { seen: Arc::clone(&seen), busy: AtomicBool::new(false), patience: LONG };
    let (turns, thread) = Turns::start("turns".into(), taker).expect("a thread");
    World { turns, seen, thread }
}

impl World {
    fn until(&self, what: &str, holds: impl Fn(&Seen) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while !holds(&self.seen.lock().expect("seen")) {
            assert!(Instant::now() < deadline, "never: {what}");
            thread::yield_now();
        }
    }

    /// A turn that lasts until something is sent, begun by another thread.
    fn hold(&self) -> (thread::JoinHandle<Result<(), Ended>>, Sender<()>) {
        let before = self.seen.lock().expect("seen").by.len();
        let (let_go, held) = channel();
        let turns = Arc::clone(&self.turns);
        let holder = thread::spawn(move || turns.bring(Event::Hold(held)));
        self.until("a turn is held", |seen| seen.by.len() > before);
        (holder, let_go)
    }

    fn end(self) -> Seen {
        // Ended already in some tests.
        let _ = self.turns.send(Event::Stop);
        self.thread.join().expect("no panic");
        std::mem::take(&mut *self.seen.lock().expect("seen"))
    }
}

#[test]
fn what_one_connection_brings_is_dealt_with_in_its_order() {
    const CONNECTIONS: usize = 4;
    const EACH: usize = 2000;
    let world = world();
    thread::scope(|scope| {
        for from in 0..CONNECTIONS {
            let turns = &world.turns;
            scope.spawn(move || {
                for n in 0..EACH {
                    let event = Event::Numbered(from, n);
                    if (n / 3) % 2 == 0 { turns.bring(event) } else { turns.send(event) }.expect("taken");
                }
            });
        }
    });
    let own = world.thread.thread().id();
    let seen = world.end();
    for from in 0..CONNECTIONS {
        let of: Vec<usize> = seen.events.iter().filter(|(f, _)| *f == from).map(|(_, n)| *n).collect();
        assert!(of.iter().copied().eq(0..EACH), "connection {from}");
    }
    assert!(seen.by.contains(&own) && seen.by.iter().any(|by| *by != own), "both ways were taken");
}

#[test]
fn whoever_brings_an_event_deals_with_it_unless_others_wait() {
    let world = world();
    world.turns.bring(Event::Numbered(0, 0)).expect("taken");
    let (holder, let_go) = world.hold();
    world.turns.send(Event::Numbered(1, 0)).expect("taken");
    // Behind one that waits; it may not overtake it, and nobody waits for the turn.
    world.turns.bring(Event::Numbered(0, 1)).expect("left for the thread");
    assert_eq!(world.seen.lock().expect("seen").events, [(0, 0)]);
    let_go.send(()).expect("it is waited for");
    holder.join().expect("no panic").expect("taken");
    world.until("both", |seen| seen.events.len() == 3);
    let (me, own) = (thread::current().id(), world.thread.thread().id());
    let seen = world.end();
    assert_eq!(seen.events, [(0, 0), (1, 0), (0, 1)]);
    assert!(seen.by[0] == me && seen.by[2] == own && seen.by[3] == own, "{:?}", seen.by);
}

#[test]
fn a_turn_that_becomes_due_sooner_is_taken_although_another_thread_said_so() {
    let world = world();
    let deadline = Instant::now() + Duration::from_secs(60);
    // It sleeps for as long as it was told at first.
    while world.turns.waiting().sleeps_until.is_none() {
        assert!(Instant::now() < deadline, "the thread never sleeps");
        thread::yield_now();
    }
    world.turns.bring(Event::Patience(Duration::from_millis(1))).expect("taken");
    world.until("turns without an event", |seen| seen.idle > 1);
    assert!(!world.end().by.is_empty());
}

#[test]
fn behind_the_end_nothing_is_taken_and_nobody_waits_for_room() {
    let world = world();
    let (holder, let_go) = world.hold();
    for n in 0..MAILBOX {
        world.turns.send(Event::Numbered(0, n)).expect("there is room");
    }
    let blocked = thread::spawn({
        let turns = Arc::clone(&world.turns);
        move || turns.send(Event::Stop).and_then(|()| turns.send(Event::Numbered(1, 0)))
    });
    while world.turns.waiting().blocked == 0 {
        thread::yield_now();
    }
    let_go.send(()).expect("it is waited for");
    holder.join().expect("no panic").expect("taken");
    let second = blocked.join().expect("no panic");
    let turns = Arc::clone(&world.turns);
    let seen = world.end();
    assert_eq!(seen.events.len(), MAILBOX, "what waited in front of the end was dealt with");
    assert_eq!(turns.send(Event::Numbered(1, 1)), Err(Ended));
    assert_eq!(turns.bring(Event::Numbered(1, 2)), Err(Ended));
    // Left in front of the end, or refused behind it; never dealt with.
    assert!(second == Ok(()) || second == Err(Ended));
}

#[test]
fn a_panic_of_whoever_has_the_turn_ends_it_for_all() {
    for here in [true, false] {
        let world = world();
        let turns = Arc::clone(&world.turns);
        let panicked = thread::spawn(move || if here { turns.bring(Event::Panic) } else { turns.send(Event::Panic) });
        assert_eq!(panicked.join().is_err(), here);
        // The thread learns of it when the next one comes.
        let deadline = Instant::now() + Duration::from_secs(60);
        while world.turns.send(Event::Numbered(0, 0)).is_ok() {
            assert!(Instant::now() < deadline, "a group without a turn goes on taking events");
        }
        assert_eq!(world.thread.join().is_err(), !here);
        assert_eq!(world.seen.lock().expect("seen").events, []);
    }
}
