//! One world: two processes, their disks, their links, their hosts, and what befalls them.
//!
//! Owns the course of a run: a beginning, a time in which fate strikes, a calm in which everything must come right, and
//! the judgement. What fate may do is chosen by the seed, within what the product has to survive: see [`Fate`].

use crate::appliance::{Appliance, End};
use crate::checker::{Claim, Needs, claim_of_image, judge};
use crate::content::{Cell, bytes, cells};
use crate::dice::Dice;
use crate::disks::{Disks, Kind, Weather};
use crate::executor::{Executor, Owner, Step};
use crate::history::{History, Tick};
use crate::hosts::{Device, Habits, Hosts};
use crate::links::{Links, Roads};
use crate::rot::Rotten;
use crate::splitter::{Remains, Splitter};
use crate::time::{self, MS, S};
use crate::trace::Trace;
use journal::{Image, Journal};
use record::geometry::Extent;
use record::ids::{GroupId, Incarnation, JournalId, SplitterId};
use record::position::Position;
use std::cell::{Cell as Slot, RefCell};
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::rc::Rc;
use std::sync::atomic::Ordering;
use ublk_splitter::outbox::Mode;
use ublk_splitter::policy::{Policy, SplitMode, SyncLoss};
use ublk_splitter::regions::REGION_SECTORS;

/// The group of every world.
pub const GROUP: GroupId = GroupId::from_bytes(*b"simulated group.");
/// The splitter of every world.
pub const SPLITTER: SplitterId = SplitterId::from_bytes(*b"simulated split.");
/// Its journal.
pub const JOURNAL: JournalId = JournalId::from_bytes(*b"simulated journl");

/// Sectors of a volume: 2 MiB.
const SECTORS: u64 = 4096;
/// How long fate strikes at most.
const STRIKING: u64 = 20 * S;
/// The same in a world in which everything takes its time.
const STRIKING_LONG: u64 = 150 * S;
/// How long everything may take to come right once fate rests.
const PATIENCE: u64 = 120 * S;
/// How long a host may take to bring a killed process's requests again when it is very busy: less than the product waits.
const REDELIVERY_LATE: u64 = 28 * S;
/// Steps of the executor in a run, at most: a run that needs more makes no progress.
const STEPS_MAX: u64 = 4_000_000;

/// What may happen in a world.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// Processes are killed and links are cut; the outbox survives, so there must be no gap.
    Kills,
    /// As kills; and the outbox overflows: the appliance is stopped for long, or its disk is full.
    Overflow,
    /// As kills; and the power of the host is cut.
    Power,
    /// As kills; and backings fail.
    Errors,
    /// As kills; and the journal's disk rots, within what the outbox or an honest refusal makes good.
    Rot,
    /// Everything at once, but rot.
    All,
}

impl Fate {
    const fn overflows(self) -> bool {
        matches!(self, Self::Overflow | Self::All)
    }

    const fn cuts_power(self) -> bool {
        matches!(self, Self::Power | Self::All)
    }

    const fn fails(self) -> bool {
        matches!(self, Self::Errors | Self::All)
    }
}

/// A world that passed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// The hash of everything that happened.
    pub trace: u64,
    /// Requests that changed something.
    pub requests: u64,
    /// Times that something befell it.
    pub strikes: u64,
    /// Images that were judged.
    pub images: u64,
    /// Most bytes that one resynchronisation read.
    pub resynced: u64,
    /// Gaps in the timeline at the end.
    pub gaps: u64,
    /// Polls of tasks.
    pub polls: u64,
}

/// A world that did not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failed {
    /// What was wrong.
    pub why: String,
    /// The hash up to there.
    pub trace: u64,
    /// The last of what happened, when lines were asked for.
    pub lines: Vec<String>,
}

/// A kill that waits for a request.
#[derive(Clone, Copy, Default)]
enum Ambush {
    #[default]
    None,
    /// It waits.
    Laid,
    /// A request is there; the kill comes now.
    At(u64),
}

struct World {
    dice: Dice,
    trace: Trace,
    executor: Executor,
    disks: Disks,
    links: Links,
    history: Rc<RefCell<History>>,
    appliance: Appliance,
    splitter: Splitter,
    hosts: Hosts,
    fate: Fate,
    /// Everything takes its time.
    long: bool,
    /// No host is answered before the journal has what it wrote.
    stalls: bool,
    strikes: Rc<Slot<u64>>,
    images: Rc<Slot<u64>>,
    /// When the power will be cut.
    doom: Rc<Slot<Option<u64>>>,
    /// The splitter is killed in the middle of the next request.
    ambush: Rc<Slot<Ambush>>,
    /// Most bytes that one resynchronisation read.
    resynced: Rc<Slot<u64>>,
    /// Fate rests.
    calm: Rc<Slot<bool>>,
    wrong: Rc<RefCell<Option<String>>>,
}

/// Runs the world of a seed in an empty folder, which has to be on a file system in memory to be quick. With `keep`,
/// the lines of the trace are kept for a failure.
pub fn run(seed: u64, folder: &Path, keep: bool) -> Result<Passed, Failed> {
    time::begin();
    let trace = Trace::new(keep);
    let fail = |why: String| Failed { why, trace: trace.hash(), lines: trace.tail(4000) };
    let world = World::new(seed, folder, &trace).map_err(&fail)?;
    let result = world.live();
    let passed = Passed {
        trace: trace.hash(),
        requests: world.history.borrow().ops.len() as u64,
        strikes: world.strikes.get(),
        images: world.images.get(),
        resynced: world.resynced.get(),
        gaps: world.appliance.journal().map_or(0, |journal| journal.timeline().gaps.len() as u64),
        polls: world.executor.polls(),
    };
    world.bury();
    result.map(|()| passed).map_err(fail)
}

impl World {
    fn new(seed: u64, folder: &Path, trace: &Trace) -> Result<Self, String> {
        let dice = Dice::new(seed);
        let fate = match dice.below(100) {
            0..30 => Fate::Kills,
            30..46 => Fate::Overflow,
            46..66 => Fate::Power,
            66..76 => Fate::Errors,
            76..86 => Fate::Rot,
            _ => Fate::All,
        };
        let long = dice.one_in(4);
        let policy = some_policy(&dice);
        let executor = Executor::new(&dice);
        let disks = Disks::new(&executor, &dice);
        let links = Links::new(&executor, &dice, trace);
        let volumes = if dice.one_in(3) { 2 } else { 1 };
        let slots = if fate.overflows() { usize::try_from(dice.between(2, 4)).unwrap_or(2) } else { 8 };
        let remains = Remains::new(folder, slots, dice.one_in(3), policy)?;
        let mut base = Vec::new();
        for volume in 1..=volumes {
            let path = remains.backing(volume);
            make_backing(&path, volume, &dice).map_err(|e| format!("make a backing: {e}"))?;
            disks.adopt(&path, Kind::Backing).map_err(|e| format!("adopt a backing: {e}"))?;
            base.push(look(&path, volume)?);
        }
        let history = Rc::new(RefCell::new(History::new(base)));
        let sectors = vec![SECTORS; volumes as usize];
        let appliance = Appliance::new(&executor, &dice, trace, &links, &history, &sectors)
            .map_err(|e| format!("make the journal: {e}"))?;
        let devices = (1..=volumes).map(|n| Device::new(n, SECTORS)).collect();
        let splitter = Splitter::new(&executor, &dice, trace, &links, &disks, &history, remains, devices);
        let habits = Habits {
            hosts: dice.between(1, 5),
            requests: dice.between(16, 80),
            // In a long world regions become cold, and clean.
            think: if long { dice.between(2_000, 20_000) * MS } else { dice.between(1, 100) * MS },
            spots: (0..dice.between(1, 5)).map(|_| dice.below(SECTORS)).collect(),
            spot_sectors: dice.between(1, 32),
            longest: dice.between(1, 24),
        };
        let hosts = Hosts::new(&executor, &dice, trace, &history, habits, u64::from(volumes));
        trace.note("a world of", &[seed, fate as u64, u64::from(volumes)]);
        trace.line(|| format!("{fate:?}, long: {long}, {policy:?}, {volumes} volumes, {slots} slots"));
        Ok(Self {
            dice,
            trace: trace.clone(),
            executor,
            disks,
            links,
            history,
            appliance,
            splitter,
            hosts,
            fate,
            long,
            // What has rotted is in the outbox still, and not in the journal for a while.
            stalls: policy.mode == SplitMode::Sync && policy.loss() == SyncLoss::Stall && fate != Fate::Rot,
            strikes: Rc::default(),
            images: Rc::default(),
            doom: Rc::default(),
            ambush: Rc::default(),
            resynced: Rc::default(),
            calm: Rc::default(),
            wrong: Rc::default(),
        })
    }

    fn live(&self) -> Result<(), String> {
        self.appliance.start();
        self.splitter.start();
        self.hosts.begin(self.splitter.devices());
        let until = time::now() + if self.long { STRIKING_LONG } else { STRIKING };
        let mut next = time::now() + self.pause();
        let mut steps = 0;
        // Fate strikes while hosts work.
        while time::now() < until && !self.hosts.are_done() {
            self.step(&mut steps)?;
            if time::now() >= next {
                self.strike()?;
                // What doom is about takes its time: mostly nothing else comes between.
                let waits = self.doom.get().filter(|_| !self.dice.one_in(4));
                next = waits.unwrap_or_else(|| time::now() + self.pause());
            }
            if self.doom.get().is_some_and(|at| time::now() >= at) {
                self.doom.set(None);
                self.cut_power()?;
            }
            self.spring();
        }
        self.hosts.hurry();
        self.trace.note("calm", &[]);
        self.calm.set(true);
        #[cfg(feature = "faults")]
        record::fault::cut_off_after(None);
        self.disks.set_weather(Weather::default());
        self.links.set_roads(Roads::default());
        self.splitter.set_redelivery(None);
        self.appliance.disk().set_capacity(None);
        self.appliance.stop_until(0);
        let until = time::now() + PATIENCE;
        let mut next = time::now();
        loop {
            self.step(&mut steps)?;
            if time::now() < next {
                continue;
            }
            next = time::now() + 20 * MS;
            self.restart();
            self.look_at_resync()?;
            match self.unsettled() {
                None => break,
                Some(why) if time::now() >= until => {
                    return Err(format!("{} s after the last trouble, {why}", PATIENCE / S));
                }
                Some(_) => {}
            }
        }
        self.judge_end()
    }

    fn step(&self, steps: &mut u64) -> Result<(), String> {
        *steps += 1;
        if *steps > STEPS_MAX {
            return Err(format!("no end after {STEPS_MAX} steps: something runs in a circle"));
        }
        match self.executor.step() {
            Step::Ran => {}
            Step::Killed(Owner::Splitter) => {
                self.end_splitter();
            }
            Step::Killed(owner) => return Err(format!("{owner:?} was cut off")),
            Step::Idle => return Err("nothing happens any more".to_owned()),
        }
        if self.appliance.is_cut_off() {
            self.trace.note("appliance cut off", &[]);
            self.appliance.end(End::Kill);
            self.start_later();
        }
        let wrong = self.wrong.borrow().clone();
        let wrongs = [wrong, self.appliance.wrong(), self.splitter.wrong(), self.hosts.wrong()];
        wrongs.into_iter().flatten().next().map_or(Ok(()), Err)
    }

    fn pause(&self) -> u64 {
        match self.dice.below(4) {
            2.. if self.long => self.dice.between(500, 15_000) * MS,
            0 => self.dice.between(1, 10) * MS,
            1 => self.dice.between(100, 600) * MS,
            _ => self.dice.between(5, 100) * MS,
        }
    }

    /// Whoever does not run is started, after a moment.
    fn start_later(&self) {
        let (executor, dice) = (self.executor.clone(), self.dice.clone());
        let (appliance, splitter) = (self.appliance.clone(), self.splitter.clone());
        self.executor.spawn(Owner::World, async move {
            executor.sleep(dice.between(1, 300) * MS).await;
            appliance.start();
            splitter.start();
        });
    }

    /// In a calm, whoever does not run is started at once.
    fn restart(&self) {
        self.appliance.start();
        self.splitter.start();
    }

    // ---- what befalls it

    fn strike(&self) -> Result<(), String> {
        self.strikes.set(self.strikes.get() + 1);
        let choice = self.dice.below(100);
        match choice {
            0..14 => self.kill_splitter(),
            14..24 => self.kill_appliance(),
            24..30 => {
                self.kill_splitter();
                self.kill_appliance();
            }
            30..44 => {
                let half_open = self.dice.one_in(4);
                self.trace.note("cut", &[u64::from(half_open)]);
                self.links.cut(half_open);
            }
            44..52 => {
                let most = if self.fate.overflows() || self.long { 25_000 } else { 400 };
                let ms = self.dice.between(1, most);
                self.trace.note("appliance stopped", &[ms]);
                self.appliance.stop_until(time::now() + ms * MS);
                if self.fate.cuts_power() && ms > 12_000 && self.dice.one_in(2) {
                    // Regions may be cold by then, and the journal lacks what was written there.
                    self.doom.set(Some(time::now() + self.dice.between(11_000, ms) * MS));
                }
            }
            52..58 => {
                let slowness = self.dice.between(1, 30);
                self.trace.note("slow", &[slowness]);
                self.links.set_roads(Roads { slowness: self.dice.between(1, 30) });
                let weather = self.disks.weather();
                self.disks.set_weather(Weather { slowness, ..weather });
            }
            58..64 => {
                let day = 86_400 * i64::try_from(S).unwrap_or(0);
                let by = if self.dice.one_in(2) { day } else { -day };
                self.trace.note("clock", &[u64::from(by > 0)]);
                time::step_wall(by);
            }
            64..72 if self.fate.cuts_power() => self.cut_power()?,
            72..80 if self.fate.fails() => {
                let weather = Weather {
                    write_errors: *self.dice.pick(&[0, 0, 5, 30]),
                    // A map that cannot be written and a power cut are two faults at once.
                    map_errors: if self.fate.cuts_power() { 0 } else { *self.dice.pick(&[0, 0, 10]) },
                    sync_errors: *self.dice.pick(&[0, 0, 20]),
                    read_errors: *self.dice.pick(&[0, 0, 20]),
                    slowness: 1,
                };
                self.trace.note("errors", &[weather.write_errors, weather.sync_errors, weather.read_errors]);
                self.disks.set_weather(weather);
                if weather.write_errors > 0 {
                    // What a failed write leaves has to be read again, by a successor if need be.
                    self.ambush.set(Ambush::Laid);
                }
            }
            80..88 if self.fate.overflows() => {
                let full = self.dice.one_in(2);
                self.trace.note("journal's disk", &[u64::from(full)]);
                self.appliance.disk().set_capacity(full.then_some(0));
            }
            _ => self.look_at_images()?,
        }
        Ok(())
    }

    fn kill_splitter(&self) {
        if self.long && self.dice.one_in(2) {
            // Hosts of a long world seldom have a request under way.
            self.ambush.set(Ambush::Laid);
            return;
        }
        // Between two polls; or, where the product can be told so, at one of its next stores to the outbox.
        #[cfg(feature = "faults")]
        if self.dice.one_in(2) {
            let stores = self.dice.between(1, 40);
            self.trace.note("splitter ends soon", &[stores]);
            record::fault::cut_off_after(Some(stores));
            return;
        }
        self.end_splitter();
    }

    /// Kills the splitter within a request, if that is planned.
    fn spring(&self) {
        match self.ambush.get() {
            Ambush::None => {}
            Ambush::Laid => {
                if self.splitter.is_running() && !self.hosts_are_idle() {
                    self.ambush.set(Ambush::At(time::now() + self.dice.below(MS)));
                }
            }
            Ambush::At(at) => {
                if time::now() >= at {
                    self.ambush.set(Ambush::None);
                    self.end_splitter();
                }
            }
        }
    }

    /// The splitter is killed, and started again soon.
    fn end_splitter(&self) {
        self.splitter.kill();
        let left = self.splitter.devices().iter().any(|device| device.in_flight() > 0);
        let late = left && self.long && self.fate.cuts_power() && !self.calm.get() && self.dice.one_in(2);
        self.splitter.set_redelivery(late.then_some(REDELIVERY_LATE));
        if late {
            // A machine that hangs, and then dies: regions may be cold by then in which the process left writes half done.
            let doom = time::now() + self.dice.between(12 * S, REDELIVERY_LATE);
            self.trace.note("requests come again late", &[doom]);
            self.doom.set(Some(doom));
            self.hosts.rest_until(doom);
        }
        self.start_later();
    }

    fn kill_appliance(&self) {
        if self.appliance.is_running() && self.fate != Fate::Rot && self.dice.one_in(2) {
            self.appliance.end_after(self.dice.between(1, 6));
            return;
        }
        self.trace.note("appliance killed", &[]);
        let ran = self.appliance.is_running();
        self.appliance.end(End::Kill);
        if ran && self.fate == Fate::Rot && self.dice.one_in(2) {
            self.appliance.spoil(if self.dice.one_in(2) { Rotten::Newest } else { Rotten::Content });
        }
        self.start_later();
    }

    /// The host dies, with both processes and what is in its memory.
    fn cut_power(&self) -> Result<(), String> {
        self.trace.note("power cut", &[]);
        self.splitter.kill();
        self.appliance.end(End::PowerCut);
        self.executor.kill(Owner::Hosts);
        self.history.borrow_mut().abandon();
        for device in self.splitter.devices() {
            device.power_cut();
        }
        self.disks.power_cut().map_err(|e| e.to_string())?;
        let remains = self.splitter.remains();
        remains.boot.set(remains.boot.get() + 1);
        time::boot();
        // Memory is gone; a file that a careless mount kept is of another boot.
        if !self.dice.one_in(3) {
            let _ = std::fs::remove_file(remains.outbox());
        }
        let volumes = self.volumes()?;
        {
            let history = self.history.borrow();
            let claim = Claim {
                what: "the volumes after a power cut",
                era: history.eras.len() - 1,
                until: Tick::MAX,
                needs: Needs::Flushed,
                closed: false,
            };
            judge(&history, claim, &volumes)?;
        }
        let mut history = self.history.borrow_mut();
        // Until the journal has been opened nobody knows what is the last of the era before.
        history.new_era(Position::new(u64::MAX), volumes.into_iter().map(|(_, cells)| cells).collect());
        drop(history);
        self.start_later();
        self.hosts.begin(self.splitter.devices());
        Ok(())
    }

    // ---- looking

    fn volumes(&self) -> Result<Vec<(u32, Vec<Cell>)>, String> {
        let remains = self.splitter.remains();
        let devices = self.splitter.devices().iter();
        devices.map(|d| Ok((d.volume(), look(&remains.backing(d.volume()), d.volume())?))).collect()
    }

    /// A resynchronisation reads what was dirty when it began, and nothing else.
    fn look_at_resync(&self) -> Result<(), String> {
        let Some(group) = self.splitter.group() else { return Ok(()) };
        let read = group.resynced.load(Ordering::Relaxed);
        let most = self.splitter.to_resync() * REGION_SECTORS * 512;
        self.resynced.set(self.resynced.get().max(read));
        if read > most {
            return Err(format!("a resynchronisation has read {read} bytes, and {most} were dirty when it began"));
        }
        Ok(())
    }

    /// Judges the newest image, and some at random.
    fn look_at_images(&self) -> Result<(), String> {
        self.look_at_resync()?;
        let Some(journal) = self.appliance.journal() else { return Ok(()) };
        let timeline = journal.timeline();
        let Some(window) = timeline.window else { return Ok(()) };
        self.judge_image(&journal, window.newest.position)?;
        if self.stalls && timeline.head == window.newest {
            self.judge_synced(&journal, timeline.head.position)?;
        }
        for _ in 0..2 {
            let (from, to) = (window.oldest.position.get(), window.newest.position.get());
            self.judge_image(&journal, Position::new(self.dice.between(from, to)))?;
        }
        Ok(())
    }

    /// An image is legal, or refused.
    fn judge_image(&self, journal: &Journal, position: Position) -> Result<(), String> {
        let Ok(image) = journal.image(position) else { return Ok(()) };
        self.images.set(self.images.get() + 1);
        let Some(shown) = self.shown(&image)? else { return Ok(()) };
        self.trace.note("image", &[position.get()]);
        let history = self.history.borrow();
        let what = format!("the image at seq:{position}");
        judge(&history, claim_of_image(&history, &what, position), &shown)
    }

    /// What an image shows; `None` when the process that shows it ended meanwhile: whoever reads may be the one who writes
    /// a run of the index again, and so takes the last step of a disk that was to end.
    fn shown(&self, image: &Image) -> Result<Option<Shown>, String> {
        match show(image, self.appliance.is_rotten()) {
            Err(_) if self.appliance.is_cut_off() => Ok(None),
            shown => shown.map(Some),
        }
    }

    /// In a `sync` group that stalls, everything that was answered is in the newest image.
    fn judge_synced(&self, journal: &Journal, head: Position) -> Result<(), String> {
        let Ok(image) = journal.image(head) else { return Ok(()) };
        let Some(shown) = self.shown(&image)? else { return Ok(()) };
        let history = self.history.borrow();
        let era = history.eras.len() - 1;
        if shown.len() < self.splitter.devices().len() || history.era_of(head) != era {
            return Ok(());
        }
        let needs = Needs::Answered(Tick::MAX);
        let what = format!("the newest image, seq:{head}, of a group that answers when the journal has it");
        judge(&history, Claim { what: &what, era, until: Tick::MAX, needs, closed: true }, &shown)
    }

    /// Why not everything is right yet, if something is not.
    fn unsettled(&self) -> Option<String> {
        if !self.hosts_are_idle() {
            return Some("hosts are still waiting for answers".to_owned());
        }
        let (Some(group), Some(journal)) = (self.splitter.group(), self.appliance.journal()) else {
            return Some("a process does not run".to_owned());
        };
        let (mode, reason) = group.stream.mode();
        let marks = group.stream.marks();
        let status = journal.status();
        let timeline = journal.timeline();
        let unjoined = journal.members().iter().any(|m| m.joined.is_none());
        if mode != Mode::Active {
            return Some(format!("the splitter is {mode:?} ({reason}), linked: {}", group.is_linked()));
        }
        if marks.durable < marks.laid || marks.released < marks.laid {
            return Some(format!("the journal lags: {marks:?}"));
        }
        if unjoined || status.needs_resync {
            return Some(format!("unjoined: {unjoined}, needs a resynchronisation: {}", status.needs_resync));
        }
        if timeline.gaps.iter().any(|gap| gap.end.is_none()) || self.disks.busy() {
            return Some(format!("a gap is open: {:?}", timeline.gaps.last()));
        }
        None
    }

    fn hosts_are_idle(&self) -> bool {
        self.splitter.devices().iter().all(|device| device.in_flight() == 0)
    }

    fn judge_end(&self) -> Result<(), String> {
        self.appliance.end_no_more();
        let volumes = self.volumes()?;
        {
            let history = self.history.borrow();
            let claim = Claim {
                what: "the volumes at the end",
                era: history.eras.len() - 1,
                until: Tick::MAX,
                needs: Needs::Answered(Tick::MAX),
                closed: true,
            };
            judge(&history, claim, &volumes)?;
        }
        let journal = self.appliance.journal().ok_or("no appliance at the end")?;
        let timeline = journal.timeline();
        let window = timeline.window.ok_or("there is no point at the end")?;
        let image =
            journal.image(timeline.head.position).map_err(|e| format!("the head is no point at the end: {e}"))?;
        self.compare(&image)?;
        // What comes before the first point is no gap for anybody.
        let gap = timeline.gaps.iter().find(|gap| gap.end.is_none_or(|end| end.position > window.oldest.position));
        if let (Fate::Kills | Fate::Rot, Some(gap)) = (self.fate, gap) {
            return Err(format!("only processes died, and there is a gap: {gap}"));
        }
        self.judge_image(&journal, window.oldest.position)?;
        self.judge_image(&journal, window.newest.position)?;
        for _ in 0..8 {
            let (from, to) = (window.oldest.position.get(), window.newest.position.get());
            self.judge_image(&journal, Position::new(self.dice.between(from, to)))?;
        }
        Self::labels_rise(&journal)
    }

    /// The image is the volumes, byte for byte.
    fn compare(&self, image: &Image) -> Result<(), String> {
        for device in self.splitter.devices() {
            let path = self.splitter.remains().backing(device.volume());
            let volume = std::fs::read(path).map_err(|e| e.to_string())?;
            let (shown, refused) = read_image(image, Incarnation::new(device.volume()), self.appliance.is_rotten())?;
            let is_refused =
                |at: usize| refused.iter().any(|e| (e.start().index()..e.end()).contains(&(at as u64 / 512)));
            let differs = volume.iter().zip(&shown).enumerate().find(|(at, (a, b))| a != b && !is_refused(*at));
            if let Some((at, _)) = differs {
                let sector = at as u64 / 512;
                let show = |bytes: &[u8]| cells(device.volume(), sector, &bytes[at / 512 * 512..][..512]);
                return Err(format!(
                    "the head image differs from volume {} at sector {sector}: image {:?}, volume {:?}",
                    device.volume(),
                    show(&shown),
                    show(&volume)
                ));
            }
        }
        Ok(())
    }

    fn labels_rise(journal: &Journal) -> Result<(), String> {
        let timeline = journal.timeline();
        let labels = timeline.marks.iter().map(|mark| mark.at);
        let mut last = None;
        for at in labels {
            if last.is_some_and(|(position, label)| at.position >= position && at.label < label) {
                return Err(format!("labels go back at {at}"));
            }
            last = Some((at.position, at.label));
        }
        Ok(())
    }

    /// Everything ends, so that nothing that holds itself stays.
    fn bury(&self) {
        self.splitter.kill();
        if self.appliance.is_running() {
            self.appliance.end(End::Kill);
        }
        for owner in [Owner::Hosts, Owner::World, Owner::Disks] {
            self.executor.kill(owner);
        }
    }
}

/// Mostly the usual one.
fn some_policy(dice: &Dice) -> Policy {
    let usual = Policy::default();
    match dice.below(8) {
        0 => Policy { mode: SplitMode::Sync, sync_loss: Some(SyncLoss::Degrade), ..usual },
        1 => Policy { mode: SplitMode::Sync, sync_loss: Some(SyncLoss::Stall), ..usual },
        2 => Policy { mode: SplitMode::BoundedLag, lag_bytes: 1 << 20, lag_seconds: dice.between(1, 20), ..usual },
        _ => usual,
    }
}

/// A file with something in it, in places.
fn make_backing(path: &Path, volume: u32, dice: &Dice) -> std::io::Result<()> {
    let file = File::create_new(path)?;
    file.set_len(SECTORS * 512)?;
    for _ in 0..dice.below(4) {
        let count = dice.between(1, 300);
        let Some(extent) = Extent::new(dice.below(SECTORS - count), count) else { continue };
        file.write_all_at(&bytes(0, volume, extent), extent.start().byte_offset())?;
    }
    Ok(())
}

fn look(path: &Path, volume: u32) -> Result<Vec<Cell>, String> {
    let content = std::fs::read(path).map_err(|e| format!("read {}: {e}", path.display()))?;
    Ok(cells(volume, 0, &content))
}

/// A volume's bytes in an image, and where they are refused because the journal's copy has `rotten`.
fn read_image(image: &Image, volume: Incarnation, rotten: bool) -> Result<(Vec<u8>, Vec<Extent>), String> {
    let member = image.members().iter().find(|m| m.incarnation == volume);
    let Some(member) = member else { return Ok((Vec::new(), Vec::new())) };
    let extent = Extent::whole(member.size).ok_or("a volume without sectors")?;
    let mut content = vec![0; usize::try_from(extent.bytes()).map_err(|e| e.to_string())?];
    match image.read(volume, extent, &mut content) {
        Ok(()) => Ok((content, Vec::new())),
        Err(failure) if rotten => Ok((content, failure.damaged)),
        Err(failure) => Err(format!("an image that is offered cannot be read: {failure}")),
    }
}

/// What each volume of an image shows.
type Shown = Vec<(u32, Vec<Cell>)>;

fn show(image: &Image, rotten: bool) -> Result<Shown, String> {
    let show = |volume: Incarnation| {
        let (content, refused) = read_image(image, volume, rotten)?;
        let mut cells = cells(volume.get(), 0, &content);
        for at in refused.iter().flat_map(|extent| extent.start().index()..extent.end()) {
            if let Some(cell) = usize::try_from(at).ok().and_then(|at| cells.get_mut(at)) {
                *cell = Cell::Refused;
            }
        }
        Ok((volume.get(), cells))
    };
    image.members().iter().map(|m| show(m.incarnation)).collect()
}
