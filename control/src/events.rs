//! What happened, one line each, in a bounded file of a daemon's state folder (`docs/formats/events.md`).
//!
//! Owns the kinds of event, the line, the file with its one predecessor, and the thread that writes. Deliberately never
//! waited for: whoever tells puts a line into a bounded queue and goes on. Where the queue or the disk is full the event
//! is dropped and counted; a state disk in trouble holds up nobody.

use crate::answer::{Event, Events as Told};
use crate::request::EventsAsk;
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// The file in the state folder.
pub const FILE: &str = "events.log";
/// The one before it.
pub const OLD_FILE: &str = "events.log.1";
/// Longest a file gets, in bytes: the line that would go beyond begins a new one.
pub const FILE_BYTES_MAX: u64 = 1 << 20;
/// Longest text of an event, in bytes; what is longer is cut.
pub const TEXT_BYTES_MAX: usize = 600;
/// Events that may wait to be written; further ones are dropped.
const QUEUE: usize = 1024;
/// How long a reader waits for what was told before.
const READ_PATIENCE: Duration = Duration::from_secs(2);

macro_rules! kinds {
    ($($(#[$meta:meta])* $kind:ident = $word:literal,)*) => {
        /// The kinds of event.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum EventKind { $($(#[$meta])* $kind,)* }

        impl EventKind {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$kind,)*];

            /// The word in the file.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }
        }
    };
}

kinds! {
    /// The daemon began.
    Started = "started",
    /// It ended on request.
    Stopped = "stopped",
    /// The appliance granted a session, or the same one went on.
    SessionGranted = "session-granted",
    /// There is no link to the splitter any more.
    LinkEnded = "link-ended",
    /// Writes are no longer recorded; the text says why.
    MarkingBegun = "marking-begun",
    /// A resynchronisation began.
    ResyncBegun = "resync-begun",
    /// It is complete; `bytes` were read.
    ResyncEnded = "resync-ended",
    /// Points are refused from here on.
    GapBegun = "gap-begun",
    /// Points are offered again.
    GapClosed = "gap-closed",
    /// An administrator paused a group.
    Paused = "paused",
    /// An administrator resumed it.
    Resumed = "resumed",
    /// How a group is protected was changed.
    PolicyChanged = "policy-changed",
    /// In `bounded-lag`: hosts are delayed, since the journal lags too far.
    HostDelayed = "host-delayed",
    /// In `sync`: hosts wait for the appliance (`sync-loss=stall`).
    HostStalled = "host-stalled",
    /// In `sync`: hosts are answered without the journal (`sync-loss=degrade`).
    SyncDegraded = "sync-degraded",
    /// A rollback is being prepared.
    RollbackBegun = "rollback-begun",
    /// It is committed.
    RollbackCommitted = "rollback-committed",
    /// One was committed that goes back to before an earlier rollback.
    RollbackUndone = "rollback-undone",
    /// The volumes hold what was rolled back to.
    RollbackEnded = "rollback-ended",
    /// Nothing was changed.
    RollbackFailed = "rollback-failed",
    /// A bookmark is durable.
    Bookmark = "bookmark",
    /// The room for a journal ends before its window does; points will go early, or it will stop.
    JournalFills = "journal-fills",
    /// Points go before the window's end: there is no room.
    WindowShrunk = "window-shrunk",
    /// Grid points go: there is no room, or they are not to be kept any more.
    GridShrunk = "grid-shrunk",
    /// The window is as long as it should be again, or there is room for it.
    WindowWhole = "window-whole",
    /// A journal takes nothing more; the text says why.
    JournalStopped = "journal-stopped",
    /// It takes what it is given again.
    JournalGoesOn = "journal-goes-on",
    /// An administrator gave up the oldest points of a journal.
    JournalTrimmed = "journal-trimmed",
    /// Something that a person must look at.
    Alarm = "alarm",
    /// What an alarm was about is over.
    AlarmOver = "alarm-over",
    /// A volume's device is being served.
    DeviceUp = "device-up",
    /// It is not any more, or cannot be.
    DeviceDown = "device-down",
    /// A volume was compared with its newest image.
    Verified = "verified",
    /// Data that the journal's disk had lost was put back.
    Healed = "healed",
    /// Events could not be written.
    Dropped = "dropped",
}

/// What is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    kind: EventKind,
    group: Option<String>,
    volume: Option<String>,
    bytes: Option<u64>,
    text: String,
}

impl News {
    /// Something of this kind, in a sentence.
    pub fn new(kind: EventKind, text: impl Into<String>) -> Self {
        Self { kind, group: None, volume: None, bytes: None, text: text.into() }
    }

    /// Of this group.
    #[must_use]
    pub fn group(mut self, name: &str) -> Self {
        self.group = Some(name.to_owned());
        self
    }

    /// Of this volume.
    #[must_use]
    pub fn volume(mut self, name: &str) -> Self {
        self.volume = Some(name.to_owned());
        self
    }

    /// So many bytes.
    #[must_use]
    pub fn bytes(mut self, bytes: u64) -> Self {
        self.bytes = Some(bytes);
        self
    }
}

/// A line of the file; the answer's event with its time in words.
#[derive(Serialize, Deserialize)]
struct Line {
    number: u64,
    time: String,
    daemon: String,
    kind: String,
    group: Option<String>,
    volume: Option<String>,
    bytes: Option<u64>,
    text: String,
}

/// The line of an event, with its end.
fn line(event: &Event) -> String {
    let line = Line {
        number: event.number,
        time: crate::time::rfc3339(event.time_ns),
        daemon: event.daemon.clone(),
        kind: event.kind.clone(),
        group: event.group.clone(),
        volume: event.volume.clone(),
        bytes: event.bytes,
        text: event.text.clone(),
    };
    // Strings and numbers only: there is nothing that could fail.
    let mut text = serde_json::to_string(&line).unwrap_or_default();
    text.push('\n');
    text
}

fn read_line(text: &str) -> Option<Event> {
    let line: Line = serde_json::from_str(text).ok()?;
    Some(Event {
        number: line.number,
        time_ns: crate::time::read_rfc3339(&line.time)?,
        daemon: line.daemon,
        kind: line.kind,
        group: line.group,
        volume: line.volume,
        bytes: line.bytes,
        text: line.text,
    })
}

/// Every event that is kept in this folder, oldest first. A line that cannot be read (torn by a power cut, say) is
/// passed over.
pub fn kept(folder: &Path) -> Vec<Event> {
    let text = |name| String::from_utf8_lossy(&std::fs::read(folder.join(name)).unwrap_or_default()).into_owned();
    [text(OLD_FILE), text(FILE)].iter().flat_map(|text| text.lines()).filter_map(read_line).collect()
}

enum Order {
    Write(News, u64),
    /// Everything that was told before is written when this is answered.
    Settle(SyncSender<()>),
}

#[derive(Debug)]
struct Writing {
    folder: PathBuf,
    orders: SyncSender<Order>,
    dropped: Arc<AtomicU64>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Write(..) => "write",
            Self::Settle(_) => "settle",
        })
    }
}

/// Where a daemon tells what happened. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Events(Option<Arc<Writing>>);

impl Events {
    /// Nobody listens.
    pub const fn silent() -> Self {
        Self(None)
    }

    /// Written into this folder from now on, in this daemon's name, numbered on from what is there. Never fails: what
    /// cannot be written is dropped and counted.
    pub fn open(folder: &Path, daemon: &str) -> Self {
        let (orders, inbox) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer {
            folder: folder.to_owned(),
            daemon: daemon.to_owned(),
            file: None,
            next: kept(folder).last().map_or(1, |event| event.number + 1),
            missed: 0,
            dropped: Arc::clone(&dropped),
        };
        // Without its thread the queue is gone, and everything is dropped: counted, as on a full disk.
        let _ = std::thread::Builder::new().name("events".to_owned()).spawn(move || writer.run(&inbox));
        Self(Some(Arc::new(Writing { folder: folder.to_owned(), orders, dropped })))
    }

    /// Tells. Never waits, never fails.
    pub fn tell(&self, news: News) {
        let Some(writing) = &self.0 else { return };
        if writing.orders.try_send(Order::Write(news, crate::time::now())).is_err() {
            writing.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What happened. Waits a little for what was told just before.
    pub fn read(&self, ask: EventsAsk) -> Told {
        let Some(writing) = &self.0 else { return Told::default() };
        let (settled, done) = sync_channel(1);
        if writing.orders.try_send(Order::Settle(settled)).is_ok() {
            // A disk that hangs: what is there is told all the same.
            let _ = done.recv_timeout(READ_PATIENCE);
        }
        let mut events = kept(&writing.folder);
        events.retain(|event| ask.after.is_none_or(|after| event.number > after));
        let surplus = events.len().saturating_sub(ask.newest as usize);
        Told { events: events.split_off(surplus), dropped: writing.dropped.load(Ordering::Relaxed) }
    }
}

/// The thread's side.
struct Writer {
    folder: PathBuf,
    daemon: String,
    /// The file and its length, once it could be opened.
    file: Option<(File, u64)>,
    next: u64,
    /// Dropped since the last line that was written.
    missed: u64,
    dropped: Arc<AtomicU64>,
}

impl Writer {
    fn run(mut self, inbox: &Receiver<Order>) {
        while let Ok(order) = inbox.recv() {
            match order {
                Order::Write(news, now) => self.write(news, now),
                // Whoever asked may have gone.
                Order::Settle(settled) => drop(settled.try_send(())),
            }
        }
    }

    fn write(&mut self, news: News, now: u64) {
        if self.missed > 0 {
            let text = format!("{} events before this one could not be written", self.missed);
            if self.append(News::new(EventKind::Dropped, text), now).is_ok() {
                self.missed = 0;
            }
        }
        if self.missed > 0 || self.append(news, now).is_err() {
            self.missed += 1;
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn append(&mut self, news: News, now: u64) -> io::Result<()> {
        let mut text = news.text.replace('\n', " ");
        if text.len() > TEXT_BYTES_MAX {
            let end = (0..=TEXT_BYTES_MAX).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            text.truncate(end);
        }
        let event = Event {
            number: self.next,
            time_ns: now,
            daemon: self.daemon.clone(),
            kind: news.kind.word().to_owned(),
            group: news.group,
            volume: news.volume,
            bytes: news.bytes,
            text,
        };
        let line = line(&event);
        let (file, len) = self.file_for(line.len() as u64)?;
        match file.write_all(line.as_bytes()) {
            Ok(()) => *len += line.len() as u64,
            Err(error) => {
                // Half a line must not spoil the next one. Cutting needs no room.
                if file.set_len(*len).is_err() {
                    self.file = None;
                }
                return Err(error);
            }
        }
        self.next += 1;
        Ok(())
    }

    /// The file, with room for so many bytes.
    fn file_for(&mut self, bytes: u64) -> io::Result<&mut (File, u64)> {
        let path = self.folder.join(FILE);
        if self.file.as_ref().is_some_and(|(_, len)| *len > 0 && *len + bytes > FILE_BYTES_MAX) {
            self.file = None;
            std::fs::rename(&path, self.folder.join(OLD_FILE))?;
        }
        if self.file.is_none() {
            let file = OpenOptions::new().create(true).append(true).mode(0o600).open(&path)?;
            let len = whole_lines(&path)?;
            file.set_len(len)?;
            self.file = Some((file, len));
            // One that was full already makes room at once.
            if len > 0 && len + bytes > FILE_BYTES_MAX {
                return self.file_for(bytes);
            }
        }
        self.file.as_mut().ok_or_else(|| io::Error::other("no file"))
    }
}

/// Bytes of the file up to the end of its last whole line.
fn whole_lines(path: &Path) -> io::Result<u64> {
    let bytes = std::fs::read(path)?;
    Ok(bytes.iter().rposition(|b| *b == b'\n').map_or(0, |at| at as u64 + 1))
}
