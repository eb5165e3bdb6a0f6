//! One consistency group at work: whoever has its turn, and nobody else, changes its journal.
//!
//! Owns what a turn does and the state that its parts share. Frames from the splitter and calls from operators take turns
//! (`turns`: on the group's thread, or on that of a link whose chunk nothing waits in front of); appends gather whatever has
//! come meanwhile. Reading a journal (images, timelines, status) needs no turn: a journal may be read from any thread.
//! [`Group`] itself knows neither thread nor socket nor the system's clocks: [`GroupHandle`] gives it turns, links send for
//! it, and its `clock` tells the time, so that a simulation drives it as it is.
//!
//! `sides` knows the splitters, `stream` carries out what `intake::session` decides for each, `barriers`, `bookmarks` and
//! `rollbacks` what their namesakes in the crate decide, `members` changes who belongs to the group, `retention` gives up
//! what is too old, `verify` reads for a splitter that compares, `scrub` reads the journal again for nobody in particular.

mod barriers;
pub mod bookmarks;
pub mod clock;
mod healing;
mod members;
pub mod retention;
pub mod rollbacks;
mod scrub;
mod sides;
mod stream;
mod turns;
mod verify;

use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use control::answer::kept::ScrubStatus;
use control::error::{ControlError, Kind};
use control::events::{EventKind, Events, News};
use journal::{Journal, JournalError, PointError};
use record::conversation::{ToAppliance, ToSplitter};
use record::ids::{Incarnation, SplitterId};
use record::position::{Label, Position};

use crate::events::GapWatch;
use crate::intake::link::LinkEvent;
use crate::intake::session::{Action, Input, Millis};

pub use members::MemberPlan;
pub use retention::pins::ImagePin;

use clock::{Clock, SystemClock};
use scrub::Scrub;
use turns::{Ended, TakesTurns, Turns};

/// Events handled before what is there to be appended is appended: a stream of something else must not hold it up.
const EVENTS_PER_TURN: usize = 16;
/// Most bytes of a chunk's payload that whoever reads it deals with: a host may wait for it alone.
const SMALL_BYTES: u32 = 64 << 10;
/// How often waiting bookmarks and a rollback being prepared are looked at.
const LOOK_EVERY_MS: Millis = 100;
/// How often a group to which nothing happens takes a turn.
const IDLE_TURN_MS: Millis = 1000;
/// How long an operator's request waits for its turn.
const CALL_PATIENCE: Duration = Duration::from_secs(120);

/// Something to be done in turn with appends.
pub type Call = Box<dyn FnOnce(&mut Group) + Send>;

/// What waits for its turn.
pub enum Event {
    /// A connection brings something.
    Link(LinkEvent),
    /// An operator asks for something.
    Call(Call),
    /// The group ends.
    Stop,
}

/// What others may know of the group without waiting for its thread.
#[derive(Debug, Default)]
struct Shared {
    linked: AtomicBool,
    /// Why the journal takes nothing at present.
    trouble: Mutex<Option<String>>,
    /// Why a replica takes nothing at present.
    replica_trouble: Mutex<Option<String>>,
    /// What is kept, and how that will be.
    kept: Mutex<retention::Kept>,
    /// Positions that open images show; one that several show is there as often.
    images: Mutex<Vec<Position>>,
}

/// A replica that could not be attached when the journal was opened.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LostReplica {
    /// Whose.
    pub volume: Incarnation,
    /// Which file, why, and what to do: one line.
    pub reason: String,
}

/// The group as the rest of the appliance holds it.
#[derive(Debug)]
pub struct GroupHandle {
    name: String,
    journal: Arc<Journal>,
    turns: Arc<Turns<Group>>,
    shared: Arc<Shared>,
    lost: Vec<LostReplica>,
    thread: Mutex<Option<JoinHandle<()>>>,
    scrub: Mutex<Option<Scrub>>,
}

impl std::fmt::Debug for Event {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Link(_) => "link event",
            Self::Call(_) => "call",
            Self::Stop => "stop",
        })
    }
}

impl GroupHandle {
    /// Starts the thread of a group whose journal is open, its replicas attached but for those that are `lost`.
    pub fn start(
        name: &str,
        journal: Journal,
        lost: Vec<LostReplica>,
        keep: retention::Keep,
        events: &Events,
    ) -> Result<Self, ControlError> {
        let journal = Arc::new(journal);
        let mut group = Group::new(name, &journal, Arc::new(SystemClock::default()));
        group.events = events.clone();
        let every = keep.policy.scrub();
        group.keep(keep);
        group.heal_from_now_on();
        // Before the first chunk: a journal that is full already takes none.
        group.look_at_retention();
        let shared = Arc::clone(&group.shared);
        let no_thread = |e| ControlError::failed(format!("cannot start a thread for group {name}: {e}"));
        let scrub = Scrub::start(name, &journal, every, events).map_err(no_thread)?;
        let (turns, thread) = Turns::start(format!("group {name}"), group).map_err(no_thread)?;
        let (thread, scrub) = (Mutex::new(Some(thread)), Mutex::new(Some(scrub)));
        Ok(Self { name: name.to_owned(), journal, turns, shared, lost, thread, scrub })
    }

    /// The journal, to be read.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Whether a splitter has a session.
    pub fn is_linked(&self) -> bool {
        self.shared.linked.load(Ordering::Relaxed) && !self.has_ended()
    }

    /// Whether the thread is gone, so that nothing is taken any more.
    fn has_ended(&self) -> bool {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// From now on all of the journal is read again so often.
    pub fn set_scrub(&self, every: Option<Duration>) {
        if let Some(scrub) = &*self.scrub.lock().unwrap_or_else(PoisonError::into_inner) {
            scrub.set(every);
        }
    }

    /// How far reading the journal again has come.
    pub fn scrubbed(&self) -> ScrubStatus {
        let scrub = self.scrub.lock().unwrap_or_else(PoisonError::into_inner);
        scrub.as_ref().map_or_else(ScrubStatus::default, Scrub::status)
    }

    /// Replicas that could not be attached.
    pub fn lost_replicas(&self) -> &[LostReplica] {
        &self.lost
    }

    /// Why the journal, or a replica, takes nothing at present.
    pub fn trouble(&self) -> Option<String> {
        if self.has_ended() {
            return Some("the group's thread has ended; see the appliance's log; undisk down, undisk up".to_owned());
        }
        let read = |held: &Mutex<Option<String>>| held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        read(&self.shared.trouble).or_else(|| read(&self.shared.replica_trouble))
    }

    /// Brings an event from a link; blocks while the mailbox is full. `last`: nothing that has come behind it is known, and
    /// a small chunk may be dealt with before this returns. With more behind it the group's thread appends them together, and
    /// answers for all of them at once; large ones do not come alone for long.
    pub fn deliver(&self, event: LinkEvent, last: bool) -> Result<(), (bool, String)> {
        let small = match &event {
            LinkEvent::Frame { frame: ToAppliance::Chunk { payload_len, .. }, .. } => *payload_len <= SMALL_BYTES,
            LinkEvent::Frame { .. } | LinkEvent::Open { .. } | LinkEvent::Gone { .. } => false,
        };
        let event = Event::Link(event);
        let brought = if last && small { self.turns.bring(event) } else { self.turns.send(event) };
        brought.map_err(|Ended| (true, format!("group {} is being closed", self.name)))
    }

    /// Runs something on the group's thread, in turn with appends.
    pub fn call<T: Send + 'static>(&self, f: impl FnOnce(&mut Group) -> T + Send + 'static) -> Result<T, ControlError> {
        let (answer, outcome) = sync_channel(1);
        let call: Call = Box::new(move |group| {
            // Nobody waits any more: what was done stays done.
            let _ = answer.send(f(group));
        });
        let closing = || ControlError::failed(format!("group {} is being closed", self.name));
        self.turns.send(Event::Call(call)).map_err(|Ended| closing())?;
        outcome.recv_timeout(CALL_PATIENCE).map_err(|e| match e {
            RecvTimeoutError::Disconnected => closing(),
            RecvTimeoutError::Timeout => ControlError::new(
                Kind::TimedOut,
                format!(
                    "the journal of group {} has not taken anything for {} seconds",
                    self.name,
                    CALL_PATIENCE.as_secs()
                ),
            )
            .hint("undisk status; see the appliance's log"),
        })
    }

    /// Ends the thread and with it the link, and closes the journal cleanly. Whoever still reads it may go on.
    pub fn close(&self) -> Result<(), ControlError> {
        *self.scrub.lock().unwrap_or_else(PoisonError::into_inner) = None;
        // The thread may be gone already.
        let _ = self.turns.send(Event::Stop);
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!(group = self.name, "the group's thread ended by a panic");
        }
        self.journal.close().map_err(|e| ControlError::failed(format!("close the journal of group {}: {e}", self.name)))
    }
}

impl Drop for GroupHandle {
    fn drop(&mut self) {
        // Closed already, most often.
        let _ = self.turns.send(Event::Stop);
    }
}

/// A group, wherever it gets its turns.
#[derive(Debug)]
pub struct Group {
    name: String,
    journal: Arc<Journal>,
    shared: Arc<Shared>,
    events: Events,
    gap: GapWatch,
    sides: sides::Sides,
    /// The splitters whose volumes are in the group, by id.
    participants: Vec<SplitterId>,
    barriers: barriers::Barriers,
    /// When a replica could not be written.
    replica_failed: Option<Millis>,
    bookmarks: Vec<bookmarks::Pending>,
    verifying: verify::Verifying,
    retaining: retention::Retaining,
    healing: healing::Healing,
    rollback: Option<rollbacks::Running>,
    /// The newest id that a rollback of this process had.
    rollback_tried: u64,
    clock: Arc<dyn Clock>,
    /// When the last event of a turn began, or what followed from it had been done.
    present: Millis,
    looked: Millis,
}

impl Group {
    /// A group whose journal is open and has its replicas; nobody is connected. A rollback that a former process left
    /// owed is taken up.
    pub fn new(name: &str, journal: &Arc<Journal>, clock: Arc<dyn Clock>) -> Self {
        let looked = clock.elapsed_ms();
        let mut group = Self {
            name: name.to_owned(),
            journal: Arc::clone(journal),
            shared: Arc::default(),
            events: Events::silent(),
            gap: GapWatch::over(journal),
            sides: sides::Sides::default(),
            participants: Vec::new(),
            barriers: barriers::Barriers::default(),
            replica_failed: None,
            bookmarks: Vec::new(),
            verifying: verify::Verifying::default(),
            retaining: retention::Retaining::default(),
            healing: healing::Healing::default(),
            rollback: None,
            rollback_tried: 0,
            clock,
            present: looked,
            looked,
        };
        group.resume_rollback();
        group.members_changed();
        group
    }

    /// One turn: handles what `next` brings, up to a limit, appends what has come, and does what is due. `Break` once
    /// the group has ended.
    pub fn turn(&mut self, mut next: impl FnMut() -> Option<Event>) -> ControlFlow<()> {
        let mut handled = 0;
        while handled < EVENTS_PER_TURN && (handled == 0 || !self.sides.batch_is_full()) {
            let Some(event) = next() else { break };
            self.present = self.now();
            match event {
                Event::Link(event) => self.link_event(event),
                Event::Call(call) => call(self),
                Event::Stop => {
                    self.farewell();
                    return ControlFlow::Break(());
                }
            }
            handled += 1;
        }
        self.append_now();
        let mut now = self.now();
        self.present = now;
        if self.sides.due().is_some_and(|due| due <= now) {
            for splitter in self.sides.ids() {
                self.feed(splitter, Input::Tick);
            }
            now = self.now();
        }
        if now.saturating_sub(self.looked) >= LOOK_EVERY_MS {
            self.looked = now;
            self.look_at_bookmarks();
            self.look_at_barrier();
            self.look_at_rollback();
            self.look_at_verifying();
            self.look_at_retention();
            self.look_at_healing();
            self.gap.look(&self.name, &self.journal, &self.events);
            now = self.now();
        }
        self.present = now;
        ControlFlow::Continue(())
    }

    /// How many milliseconds may pass between the last turn and the next if nothing comes.
    pub fn patience_ms(&self) -> Millis {
        let quiet = self.bookmarks.is_empty()
            && self.rollback.is_none()
            && self.verifying.is_idle()
            && self.barriers.are_idle();
        let idle = if quiet { IDLE_TURN_MS } else { LOOK_EVERY_MS };
        match self.sides.due() {
            Some(due) => idle.min(due.saturating_sub(self.present)),
            None => idle,
        }
    }

    fn farewell(&mut self) {
        // What came is either durable or still in the outbox; nothing is hurried.
        for link in self.sides.links() {
            link.close();
        }
        self.shared.linked.store(false, Ordering::Relaxed);
    }

    /// Waits for nothing on behalf of operators any more: the appliance ends. What was begun goes on.
    pub fn give_up(&mut self) {
        self.bookmarks.clear();
        if let Some(running) = &mut self.rollback {
            running.answer = None;
        }
    }

    fn now(&self) -> Millis {
        self.clock.elapsed_ms()
    }

    /// The present, as a label.
    fn label(&self) -> Label {
        Label::from_nanos(self.clock.wall_ns())
    }

    /// Tells a splitter's intake, and does what follows.
    fn feed(&mut self, splitter: SplitterId, input: Input) {
        self.feed_and_answer(splitter, input, None);
    }

    /// The same; the splitter hears of it in front of all else that follows, and when others can know it.
    fn feed_and_answer(&mut self, splitter: SplitterId, input: Input, answer: Option<&ToSplitter>) {
        let Some(side) = self.sides.get_mut(splitter) else { return };
        let actions = side.intake.step(self.present, input);
        if let Some(answer) = answer {
            self.shared.linked.store(self.is_linked(), Ordering::Relaxed);
            self.send(splitter, answer);
        }
        self.perform(splitter, actions);
        self.shared.linked.store(self.is_linked(), Ordering::Relaxed);
    }

    fn perform(&mut self, splitter: SplitterId, actions: Vec<Action>) {
        for action in actions {
            self.act(splitter, action);
        }
    }

    /// Appends what has come of every splitter.
    fn append_now(&mut self) {
        for splitter in self.sides.ids() {
            if let Some(append) = self.sides.get(splitter).and_then(|side| side.intake.append_now()) {
                self.perform(splitter, vec![append]);
            }
        }
    }

    /// Whether every splitter whose volumes are in the group has a session and is connected; while there is none, any.
    fn is_linked(&self) -> bool {
        if self.participants.is_empty() {
            return self.sides.iter().any(|(_, side)| side.intake.linked());
        }
        self.participants.iter().all(|splitter| self.sides.is_linked(*splitter))
    }

    /// The splitters that are connected with a session, with their names.
    pub fn splitters(&self) -> Vec<(SplitterId, String)> {
        let linked = self.sides.iter().filter(|(_, side)| side.intake.linked());
        linked.map(|(splitter, side)| (splitter, side.name.clone())).collect()
    }

    fn tell(&self, kind: EventKind, text: impl Into<String>) {
        self.events.tell(News::new(kind, text).group(&self.name));
    }

    fn set_trouble(&self, trouble: Option<String>) {
        // A record of the journal's own that was taken makes no room for others.
        if trouble.is_none() && self.retaining.closed().is_some() {
            return;
        }
        let kinds = (EventKind::JournalStopped, EventKind::JournalGoesOn);
        note(self, "journal", kinds, &self.shared.trouble, trouble);
    }

    fn set_replica_trouble(&self, trouble: Option<String>) {
        let kinds = (EventKind::Alarm, EventKind::AlarmOver);
        note(self, "replica", kinds, &self.shared.replica_trouble, trouble);
    }
}

impl TakesTurns for Group {
    type Event = Event;

    fn begins(&self) {
        if let Err(e) = ublk_device::io_flusher() {
            tracing::warn!(group = self.name, error = %e, "the journal's thread is not marked as an I/O flusher");
        }
    }

    fn turn(&mut self, next: &mut dyn FnMut() -> Option<Event>) -> ControlFlow<()> {
        Self::turn(self, next)
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.patience_ms())
    }
}

/// Keeps a trouble for the status, and tells when it comes and goes.
fn note(
    group: &Group,
    what: &str,
    (stops, goes_on): (EventKind, EventKind),
    held: &Mutex<Option<String>>,
    trouble: Option<String>,
) {
    let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
    if *held == trouble {
        return;
    }
    if let Some(reason) = &trouble {
        tracing::error!(group = group.name, what, reason, "nothing more is taken");
        group.tell(stops, format!("the {what} takes nothing more: {reason}"));
    } else {
        tracing::info!(group = group.name, what, "taken again");
        group.tell(goes_on, format!("the {what} takes what it is given again"));
    }
    *held = trouble;
}

/// The present, as a label.
pub fn now_label() -> Label {
    Label::from_nanos(control::time::now())
}

/// A journal's error, for an operator: what was being done stands in front.
pub fn journal_error(doing: &str, error: &JournalError) -> ControlError {
    match error {
        JournalError::Point(error) => point_error(doing, error),
        JournalError::Refused(_) | JournalError::StaleSplitter { .. } | JournalError::AlreadyExists { .. } => {
            ControlError::refused(format!("cannot {doing}: {error}"))
        }
        JournalError::NoSpace { .. } => ControlError::failed(format!("cannot {doing}: {error}"))
            .hint("free some space on the file system of the journal, then try again"),
        JournalError::Poisoned { .. } => ControlError::failed(format!("cannot {doing}: {error}"))
            .hint("check the disk, then undisk down and undisk up"),
        JournalError::InUse { .. }
        | JournalError::NotAJournal { .. }
        | JournalError::SuperblockLost { .. }
        | JournalError::StateLost { .. }
        | JournalError::UnknownFormat { .. }
        | JournalError::Io { .. } => ControlError::failed(format!("cannot {doing}: {error}")),
    }
}

/// The position that a point names, or a word for an operator on why there is none; a refusal names the window. `any`
/// waives that only barriers are points while several splitters serve the group.
pub fn resolve(
    journal: &Journal,
    doing: &str,
    point: &record::point::Point,
    any: bool,
) -> Result<Position, ControlError> {
    journal.resolve(point, any).map_err(|error| {
        let mut refusal = point_error(doing, &error);
        match (&error, journal.timeline().window) {
            (PointError::InsideGap { .. }, Some(window)) => {
                let window = format!("; the window reaches from {} to {}", window.oldest, window.newest);
                refusal.message.push_str(&window);
            }
            (PointError::InsideGap { .. }, None)
            | (
                PointError::NoVolume
                | PointError::UnknownBookmark { .. }
                | PointError::OutsideWindow { .. }
                | PointError::Thinned { .. }
                | PointError::BeyondHead { .. },
                _,
            ) => {}
            (PointError::NotABarrier { .. }, _) => {
                let hint = "choose a barrier (undisk point list), or give --any-point: what different splitters' volumes \
                            then show is of no one moment";
                refusal.hint = Some(hint.to_owned());
            }
        }
        refusal
    })
}

/// A point that cannot be offered, for an operator.
pub fn point_error(doing: &str, error: &PointError) -> ControlError {
    let kind = match error {
        PointError::NoVolume
        | PointError::UnknownBookmark { .. }
        | PointError::OutsideWindow { .. }
        | PointError::Thinned { .. }
        | PointError::BeyondHead { .. } => Kind::NotFound,
        PointError::InsideGap { .. } | PointError::NotABarrier { .. } => Kind::Refused,
    };
    ControlError::new(kind, format!("cannot {doing}: {error}"))
}
