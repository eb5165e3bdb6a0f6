//! Having damaged data of the journal put back: whom to ask for it, and when.
//!
//! Owns the thread that reads and writes for it, so that no append waits, and the questions to splitters: what of a volume nobody has
//! written since stands in its backing still. Replicas are asked first. Whether an answer is the right one is not decided here:
//! `journal` takes only what has the record's checksum. What nobody had is asked for again an hour later.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use control::events::{EventKind, Events, News};
use journal::{DamageKind, Healed, Journal};
use record::conversation::{CONTENT_BYTES_MAX, ToSplitter};
use record::geometry::{Extent, SECTOR_BYTES};
use record::ids::Incarnation;

use super::Group;
use crate::intake::session::Millis;

/// How often it is looked whether something is damaged.
const LOOK_EVERY_MS: Millis = 5000;
/// How long what nobody had is not asked for again.
const AGAIN: Duration = Duration::from_secs(3600);
/// Questions that are asked at once, and that wait; what is more is asked for later.
const ASKED_AT_ONCE: usize = 8;
const WAITING_MAX: usize = 256;

/// What the thread is to do.
#[derive(Debug)]
enum Order {
    Look,
    Content(Incarnation, Extent, Vec<u8>),
}

/// Places that splitters are to be asked about.
type Wanted = Arc<Mutex<VecDeque<(Incarnation, Extent)>>>;

/// It, as the group's thread holds it.
#[derive(Debug, Default)]
pub(super) struct Healing {
    /// Not where time is simulated: a thread of its own has another one.
    is_on: bool,
    looked: Option<Millis>,
    thread: Option<Healer>,
}

/// The thread. Ends when it is dropped, after what is at hand.
#[derive(Debug)]
struct Healer {
    orders: Option<SyncSender<Order>>,
    wanted: Wanted,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Healer {
    fn drop(&mut self) {
        self.orders = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that puts damaged data back ended by a panic");
        }
    }
}

impl Healer {
    /// Tells it; with too much to do it is told again later.
    fn tell(&self, order: Order) {
        if let Some(orders) = &self.orders {
            let _ = orders.try_send(order);
        }
    }
}

impl Group {
    /// From now on what is damaged is put back.
    pub(super) fn heal_from_now_on(&mut self) {
        self.healing.is_on = true;
    }

    /// Sees to it that what is damaged is put back, if somebody has it.
    pub(super) fn look_at_healing(&mut self) {
        let now = self.now();
        if self.healing.looked.is_some_and(|looked| now.saturating_sub(looked) < LOOK_EVERY_MS) {
            return;
        }
        self.healing.looked = Some(now);
        if !self.healing.is_on
            || !self.journal.reader().damage().iter().any(|damage| damage.kind == DamageKind::Payload)
        {
            return;
        }
        if self.healing.thread.is_none() {
            match start(&self.name, &self.journal, &self.events) {
                Ok(started) => self.healing.thread = Some(started),
                Err(error) => {
                    return tracing::error!(group = self.name, %error, "no thread can be started to put damaged data back");
                }
            }
        }
        let Some(healer) = &self.healing.thread else { return };
        healer.tell(Order::Look);
        let asked: Vec<_> = {
            let mut wanted = healer.wanted.lock().unwrap_or_else(PoisonError::into_inner);
            let some = wanted.len().min(ASKED_AT_ONCE);
            wanted.drain(..some).collect()
        };
        let members = self.journal.members();
        for (volume, extent) in asked {
            let serves = members.iter().find(|member| member.incarnation == volume && member.left.is_none());
            if let Some(member) = serves {
                self.send(member.splitter, &ToSplitter::HealRead { volume, extent });
            }
        }
    }

    /// A splitter's answer.
    pub(super) fn heal_data(&mut self, volume: Incarnation, extent: Extent, content: Vec<u8>, trouble: &str) {
        if !trouble.is_empty() {
            return tracing::warn!(group = self.name, %volume, %extent, trouble, "the splitter cannot read what the journal has lost");
        }
        if let Some(healer) = &self.healing.thread {
            healer.tell(Order::Content(volume, extent, content));
        }
    }
}

fn start(group: &str, journal: &Arc<Journal>, events: &Events) -> std::io::Result<Healer> {
    let (orders, inbox) = sync_channel(ASKED_AT_ONCE);
    let wanted = Wanted::default();
    let (name, journal, events, ask) = (group.to_owned(), Arc::clone(journal), events.clone(), Arc::clone(&wanted));
    let thread = thread::Builder::new()
        .name(format!("heal {group}"))
        .spawn(move || heal(&name, &journal, &events, &inbox, &ask))?;
    Ok(Healer { orders: Some(orders), wanted, thread: Some(thread) })
}

/// Until the group is gone.
fn heal(group: &str, journal: &Journal, events: &Events, inbox: &Receiver<Order>, wanted: &Wanted) {
    let (mut tried, mut since) = (BTreeSet::new(), Instant::now());
    while let Ok(order) = inbox.recv() {
        if since.elapsed() >= AGAIN {
            (tried, since) = (BTreeSet::new(), Instant::now());
        }
        match order {
            Order::Look => {
                let new: Vec<_> = journal.ailing().into_iter().filter(|place| !tried.contains(&key(place))).collect();
                if new.is_empty() {
                    continue;
                }
                tell(group, events, journal.heal_from_replicas());
                let ill: BTreeSet<_> = journal.ailing().iter().map(key).collect();
                let mut wanted = wanted.lock().unwrap_or_else(PoisonError::into_inner);
                for place in new {
                    if wanted.len() >= WAITING_MAX {
                        break;
                    }
                    tried.insert(key(&place));
                    if ill.contains(&key(&place)) {
                        let pieces = place.1.pieces(CONTENT_BYTES_MAX as u64 / SECTOR_BYTES);
                        wanted.extend(pieces.map(|piece| (place.0, piece)));
                    }
                }
            }
            Order::Content(volume, extent, content) => tell(group, events, journal.heal(volume, extent, &content)),
        }
    }
}

fn key(place: &(Incarnation, Extent)) -> (Incarnation, u64, u64) {
    (place.0, place.1.start().index(), place.1.end())
}

fn tell(group: &str, events: &Events, healed: Result<Healed, journal::JournalError>) {
    match healed {
        Ok(healed) if healed.bytes > 0 => {
            let places: Vec<String> = healed.places.iter().map(|damage| damage.place.to_string()).collect();
            let whole = if places.is_empty() { String::new() } else { format!("; whole again: {}", places.join(", ")) };
            tracing::info!(group, bytes = healed.bytes, whole, "data that the journal's disk had lost was put back");
            let text = format!("data that the journal's disk had lost was put back{whole}");
            events.tell(News::new(EventKind::Healed, text).group(group).bytes(healed.bytes));
        }
        Ok(_) => {}
        Err(error) => tracing::error!(group, %error, "data that the journal's disk has lost cannot be put back"),
    }
}

#[cfg(test)]
mod tests;
