//! Connections between splitter and appliance: in order, late, cut at any frame.
//!
//! Owns what is under way on each connection and when it arrives. Frames of one connection stay in order; two
//! connections know nothing of each other, so what an older one still carries may arrive behind a newer one's first
//! frames. A cut loses everything behind some frame; an end that is not told of it (half-open) learns by silence.

use crate::dice::Dice;
use crate::executor::{Executor, Owner, Signal, either};
use crate::time::{self, MS, S, US};
use crate::trace::Trace;
use journal_appliance::group::Event;
use journal_appliance::intake::link::{Link, LinkEvent, LinkId, Opening, Peer};
use kit::SimDisk;
use record::conversation::frame::{FRAME_HEAD_BYTES, Message, frame_head};
use record::conversation::{ToAppliance, ToSplitter};
use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::io;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};
use ublk_splitter::group::Wire;

/// A peer that says nothing for so long is taken for dead, by either side.
const SILENCE: u64 = 10 * S;
/// The appliance says something at least so often.
const ALIVE_EVERY: u64 = S;

/// One direction of a connection.
#[derive(Debug, Default)]
struct Way {
    frames: VecDeque<Vec<u8>>,
    /// Nothing more is put in.
    closed: bool,
    /// Nothing more comes out.
    broken: bool,
}

/// A connection, as both ends and the world see it. Ends live in product types that want to be sent between threads.
#[derive(Debug)]
struct Pipe {
    to_appliance: Way,
    to_splitter: Way,
    /// When the appliance said something last.
    said: u64,
    changes: u64,
    waiting: Vec<Waker>,
}

impl Pipe {
    fn changed(&mut self) {
        self.changes += 1;
        self.waiting.drain(..).for_each(Waker::wake);
    }
}

/// One connection.
#[derive(Clone, Debug)]
struct Conn(Arc<Mutex<Pipe>>);

impl Conn {
    fn lock(&self) -> MutexGuard<'_, Pipe> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a change after this call.
    fn change(&self) -> impl Future<Output = ()> + use<> {
        let (conn, seen) = (self.clone(), self.lock().changes);
        std::future::poll_fn(move |context| {
            let mut pipe = conn.lock();
            if pipe.changes != seen {
                return Poll::Ready(());
            }
            pipe.waiting.push(context.waker().clone());
            Poll::Pending
        })
    }
}

/// What has arrived at the splitter's end.
#[derive(Debug, Default)]
pub struct Inbox {
    frames: VecDeque<ToSplitter>,
    ended: Option<String>,
    heard: u64,
}

/// The splitter's end of a connection.
#[derive(Clone, Debug)]
pub struct SplitterEnd {
    conn: Conn,
    inbox: Rc<RefCell<Inbox>>,
    /// Rung when something arrives.
    pub arrived: Signal,
}

impl SplitterEnd {
    /// The end that the group sends on.
    pub fn wire(&self) -> Box<dyn Wire> {
        Box::new(SplitterWire(self.conn.clone()))
    }

    /// What has arrived, and why nothing more will.
    pub fn take(&self) -> (VecDeque<ToSplitter>, Option<String>) {
        let mut inbox = self.inbox.borrow_mut();
        let silent = (time::now() >= inbox.heard + SILENCE).then(|| "the appliance was silent".to_owned());
        (std::mem::take(&mut inbox.frames), inbox.ended.clone().or(silent))
    }

    /// This end is closed: what was sent before may still arrive.
    fn close(&self) {
        let mut pipe = self.conn.lock();
        pipe.to_appliance.closed = true;
        pipe.to_splitter.broken = true;
        pipe.changed();
    }
}

/// Who holds the splitter's end of a connection: it is closed when nobody does, as the kernel does for the dead.
#[derive(Debug)]
pub struct Held(pub SplitterEnd);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.close();
    }
}

#[derive(Debug)]
struct SplitterWire(Conn);

impl Wire for SplitterWire {
    fn send(&mut self, frame: &[u8]) -> io::Result<()> {
        let mut pipe = self.0.lock();
        if pipe.to_appliance.closed {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        pipe.to_appliance.frames.push_back(frame.to_vec());
        pipe.changed();
        Ok(())
    }

    fn cut(&self) {
        let mut pipe = self.0.lock();
        pipe.to_appliance.closed = true;
        pipe.changed();
    }
}

/// What the appliance has promised: by session, the numbers behind the last record that it called durable, and behind
/// the last that it called committed.
pub type Promises = Arc<Mutex<BTreeMap<u64, (u64, u64)>>>;

#[derive(Debug)]
struct ApplianceEnd {
    conn: Conn,
    /// Whether the process still runs: what a dead one says in the middle of its last turn is never sent.
    alive: Arc<AtomicBool>,
    disk: SimDisk,
    promises: Promises,
}

impl Peer for ApplianceEnd {
    fn send(&self, message: &ToSplitter) {
        let mut pipe = self.conn.lock();
        if !self.alive.load(Ordering::Relaxed) || self.disk.is_stopped() || pipe.to_splitter.closed {
            return;
        }
        if let ToSplitter::Ack { session, received: _, durable, committed } = message {
            let mut promises = self.promises.lock().unwrap_or_else(PoisonError::into_inner);
            let most = promises.entry(session.get()).or_default();
            *most = (most.0.max(durable.get()), most.1.max(committed.get()));
        }
        pipe.said = time::now();
        pipe.to_splitter.frames.push_back(message.encode());
        pipe.changed();
    }

    fn close(&self) {
        let mut pipe = self.conn.lock();
        pipe.to_splitter.closed = true;
        pipe.changed();
    }

    fn cut(&self) {
        let mut pipe = self.conn.lock();
        pipe.to_splitter.closed = true;
        pipe.to_appliance.broken = true;
        pipe.changed();
    }
}

/// What waits for the appliance's turn. Clones are the same mailbox.
#[derive(Clone, Default)]
pub struct Mailbox {
    events: Rc<RefCell<VecDeque<Event>>>,
    /// Rung when something comes.
    pub arrived: Signal,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} events", self.events.borrow().len())
    }
}

impl Mailbox {
    /// Something comes.
    pub fn push(&self, event: Event) {
        self.events.borrow_mut().push_back(event);
        self.arrived.ring();
    }

    /// The next one.
    pub fn pop(&self) -> Option<Event> {
        self.events.borrow_mut().pop_front()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.events.borrow().is_empty()
    }
}

/// The appliance's process, as far as connections see it.
#[derive(Clone, Debug)]
pub struct Listener {
    /// What waits for it.
    pub mailbox: Mailbox,
    /// Whether it lives.
    pub alive: Arc<AtomicBool>,
    /// Its journal's disk: when that has ended, so has the process.
    pub disk: SimDisk,
    /// What it has promised.
    pub promises: Promises,
    /// It does nothing before then: somebody stopped it.
    pub stopped_until: Rc<Cell<u64>>,
}

/// How connections fare at present.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Roads {
    /// How many times slower than usual.
    pub slowness: u64,
}

/// All connections. Clones are the same ones.
#[derive(Clone)]
pub struct Links {
    executor: Executor,
    dice: Dice,
    trace: Trace,
    listener: Rc<RefCell<Option<Listener>>>,
    open: Rc<RefCell<Vec<Conn>>>,
    next: Rc<RefCell<u64>>,
    roads: Rc<RefCell<Roads>>,
}

impl std::fmt::Debug for Links {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} connections", self.open.borrow().len())
    }
}

impl Links {
    /// No connection, and nobody listens.
    pub fn new(executor: &Executor, dice: &Dice, trace: &Trace) -> Self {
        Self {
            executor: executor.clone(),
            dice: dice.clone(),
            trace: trace.clone(),
            listener: Rc::default(),
            open: Rc::default(),
            next: Rc::default(),
            roads: Rc::default(),
        }
    }

    /// Who listens from now on. Connections to whoever listened before have ended.
    pub fn listen(&self, listener: Option<Listener>) {
        *self.listener.borrow_mut() = listener;
        for conn in self.open.take() {
            let mut pipe = conn.lock();
            pipe.to_splitter.closed = true;
            pipe.to_appliance.broken = true;
            // What a dead process had sent may still be on its way, or not.
            let keep = self.dice.index(pipe.to_splitter.frames.len() + 1);
            pipe.to_splitter.frames.truncate(keep);
            pipe.changed();
        }
    }

    /// How connections fare from now on.
    pub fn set_roads(&self, roads: Roads) {
        *self.roads.borrow_mut() = roads;
    }

    /// Cuts the newest connection at some frame; ends that are not told learn it by silence.
    pub fn cut(&self, half_open: bool) {
        let Some(conn) = self.open.borrow_mut().pop() else { return };
        let mut pipe = conn.lock();
        let (there, back) = (self.dice.index(4), self.dice.index(4));
        pipe.to_appliance.frames.truncate(there);
        pipe.to_splitter.frames.truncate(back);
        let told = |way: &mut Way, told: bool| {
            if told {
                way.closed = true;
            } else {
                way.broken = true;
            }
        };
        let splitter_told = !half_open || self.dice.one_in(2);
        told(&mut pipe.to_splitter, splitter_told);
        let appliance_told = !half_open || !splitter_told;
        told(&mut pipe.to_appliance, appliance_told);
        pipe.changed();
    }

    /// A splitter connects; nobody may listen.
    pub fn connect(&self) -> io::Result<SplitterEnd> {
        let Some(listener) = self.listener.borrow().clone() else {
            return Err(io::ErrorKind::ConnectionRefused.into());
        };
        *self.next.borrow_mut() += 1;
        let id = LinkId(*self.next.borrow());
        let pipe = Pipe {
            to_appliance: Way::default(),
            to_splitter: Way::default(),
            said: time::now(),
            changes: 0,
            waiting: Vec::new(),
        };
        let conn = Conn(Arc::new(Mutex::new(pipe)));
        let inbox = Rc::new(RefCell::new(Inbox { heard: time::now(), ..Inbox::default() }));
        let end = SplitterEnd { conn: conn.clone(), inbox, arrived: Signal::default() };
        self.open.borrow_mut().push(conn.clone());
        self.trace.note("connect", &[id.0]);
        self.executor.spawn(Owner::World, self.clone().carry_there(id, conn.clone(), listener));
        self.executor.spawn(Owner::World, self.clone().carry_back(id, conn, end.clone()));
        Ok(end)
    }

    fn latency(&self) -> u64 {
        let slowness = self.roads.borrow().slowness.max(1);
        let usual = if self.dice.one_in(24) { self.dice.between(1, 5) * MS } else { self.dice.between(10, 200) * US };
        usual * slowness
    }

    /// From splitter to appliance: what the thread of a connection does there.
    async fn carry_there(self, id: LinkId, conn: Conn, listener: Listener) {
        let mut heard = time::now();
        let (mut opened, mut late) = (false, self.dice.one_in(4));
        let why = loop {
            let stopped = listener.stopped_until.get();
            if time::now() < stopped {
                self.executor.sleep(stopped - time::now()).await;
                heard = time::now();
                continue;
            }
            if late && conn.lock().to_appliance.closed {
                // The thread that reads a connection may be late, and a newer connection's be quicker.
                late = false;
                self.executor.sleep(self.dice.between(1, 1500) * MS).await;
            }
            let (frame, closed) = {
                let mut pipe = conn.lock();
                let way = &mut pipe.to_appliance;
                let frame = if way.broken { None } else { way.frames.pop_front() };
                (frame, way.closed)
            };
            if !listener.alive.load(Ordering::Relaxed) {
                return;
            }
            let Some(frame) = frame else {
                if closed {
                    break "the splitter closed the connection".to_owned();
                }
                if time::now() >= heard + SILENCE {
                    break "the splitter has said nothing for 10 seconds".to_owned();
                }
                Self::alive(&conn);
                let change = conn.change();
                either(self.executor.sleep(ALIVE_EVERY), change).await;
                continue;
            };
            self.executor.sleep(self.latency()).await;
            heard = time::now();
            let Some(message) = decode::<ToAppliance>(&frame) else { break "a frame cannot be read".to_owned() };
            self.trace.frame("there", id.0, &message);
            match message {
                ToAppliance::Open { version: _, group: _, splitter, name, life, continuation, outbox, relied }
                    if !opened =>
                {
                    opened = true;
                    let (alive, promises) = (Arc::clone(&listener.alive), Arc::clone(&listener.promises));
                    let link = Link::new(
                        id,
                        Arc::new(ApplianceEnd { conn: conn.clone(), alive, disk: listener.disk.clone(), promises }),
                    );
                    let opening =
                        Opening { group: crate::world::GROUP, splitter, name, life, continuation, outbox, relied };
                    listener.mailbox.push(Event::Link(LinkEvent::Open { link, opening }));
                }
                ToAppliance::Alive {} => {}
                frame => listener.mailbox.push(Event::Link(LinkEvent::Frame { link: id, frame })),
            }
        };
        conn.lock().to_splitter.closed = true;
        self.trace.note("gone", &[id.0]);
        if opened {
            listener.mailbox.push(Event::Link(LinkEvent::Gone { link: id, why }));
        }
    }

    /// What a connection's sending thread says when it has nothing to say.
    fn alive(conn: &Conn) {
        let mut pipe = conn.lock();
        if time::now() >= pipe.said + ALIVE_EVERY && !pipe.to_splitter.closed {
            pipe.said = time::now();
            pipe.to_splitter.frames.push_back(ToSplitter::Alive {}.encode());
            pipe.changed();
        }
    }

    /// From appliance to splitter.
    async fn carry_back(self, id: LinkId, conn: Conn, end: SplitterEnd) {
        loop {
            let (frame, closed, broken) = {
                let mut pipe = conn.lock();
                let way = &mut pipe.to_splitter;
                let frame = if way.broken { None } else { way.frames.pop_front() };
                (frame, way.closed, way.broken)
            };
            let Some(frame) = frame else {
                if closed {
                    break;
                }
                if broken && conn.lock().to_appliance.closed {
                    return;
                }
                let change = conn.change();
                either(self.executor.sleep(S), change).await;
                continue;
            };
            self.executor.sleep(self.latency()).await;
            let message = decode::<ToSplitter>(&frame);
            let mut inbox = end.inbox.borrow_mut();
            inbox.heard = time::now();
            if let Some(message) = message {
                self.trace.frame("back", id.0, &message);
                inbox.frames.push_back(message);
            }
            drop(inbox);
            end.arrived.ring();
        }
        end.inbox.borrow_mut().ended = Some("the appliance closed the link".to_owned());
        end.arrived.ring();
    }
}

fn decode<M: Message>(frame: &[u8]) -> Option<M> {
    let (head, body) = frame.split_first_chunk::<FRAME_HEAD_BYTES>()?;
    let (_, crc) = frame_head(*head).ok()?;
    M::decode(body, crc).ok()
}
