//! A device of this process, from its first command to its last.
//!
//! Owns the thread that owns a device: one thread brings it up, waits, and ends it, and a [`Device`] talks to that
//! thread.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};

use crate::bring_up::{Parts, Plan, bring_up};
use crate::error::DeviceError;
use crate::inventory::{remove, stop};
use crate::kernel::Limit;
use crate::queue::AbortOnPanic;
use crate::service::Service;
use crate::spec::{DeviceId, DeviceSpec};
use crate::threads::Ended;
use crate::watch::{Ending, Watch};

/// A device that this process serves. Dropping it changes nothing: the device is served until the process ends.
#[derive(Debug)]
pub struct Device {
    id: DeviceId,
    queues: usize,
    orders: Sender<Event>,
    watch: Watch,
    owner: JoinHandle<()>,
}

/// Adds a device and starts it; answers once hosts can use it, its partition table read.
///
/// On any error nothing is left behind. The service is asked for its queues, and serves reads, before this returns.
pub fn start<S: Service>(spec: &DeviceSpec, service: Arc<S>) -> Result<Device, DeviceError> {
    spec.check()?;
    launch(Plan::Start, spec, service)
}

/// Takes over a device whose process has died, was killed, or abandoned it. Waits up to a minute for that process to
/// be gone. Hosts notice nothing but the delay; requests that were in flight come again, as new ones.
///
/// The caller must have made sure before that none of the dead process's own I/O can still land (the lock on the very
/// file description that it used): a process's death is no fence.
///
/// On an error the device is as it was: it waits for a successor.
pub fn recover<S: Service>(spec: &DeviceSpec, service: Arc<S>) -> Result<Device, DeviceError> {
    spec.check()?;
    launch(Plan::Recover, spec, service)
}

impl Device {
    /// Which one.
    pub fn id(&self) -> DeviceId {
        self.id
    }

    /// The block device, `/dev/ublkbN`.
    pub fn path(&self) -> PathBuf {
        self.id.path()
    }

    /// How many queues it has got.
    pub fn queues(&self) -> usize {
        self.queues
    }

    /// Whether it is still served.
    pub fn alive(&self) -> bool {
        self.watch.ending().is_none()
    }

    /// To learn of its end, which may come from outside.
    pub fn watch(&self) -> Watch {
        self.watch.clone()
    }

    /// Removes the device: waits for the requests in flight, fails what comes after them, and gives its number back.
    /// It does not ask whether someone has it open or mounted.
    pub fn stop(self) -> Result<(), DeviceError> {
        self.end(Event::Stop)
    }

    /// Leaves the device to a successor: finishes the requests in flight, answers nothing more and lets go. They will
    /// be delivered to the successor again. `NotRecoverable` for a device that would vanish by it; it goes on.
    pub fn abandon(self) -> Result<(), DeviceError> {
        self.end(Event::Abandon)
    }

    fn end(self, order: impl FnOnce(Sender<Result<(), DeviceError>>) -> Event) -> Result<(), DeviceError> {
        let (answer, outcome) = channel();
        let ended = || DeviceError::Ended { device: self.id };
        self.orders.send(order(answer)).map_err(|_| ended())?;
        let outcome = outcome.recv().map_err(|_| ended())?;
        if outcome.is_ok() {
            // It has nothing left to do but to return.
            let _ = self.owner.join();
        }
        outcome
    }
}

type Answer = Sender<Result<(), DeviceError>>;

enum Event {
    QueueEnded,
    Stop(Answer),
    Abandon(Answer),
}

fn launch<S: Service>(plan: Plan, spec: &DeviceSpec, service: Arc<S>) -> Result<Device, DeviceError> {
    let (orders, events) = channel();
    let (ready, outcome) = channel();
    let watch = Watch::new();
    let id = spec.id;
    let owner = {
        let (spec, watch, orders) = (spec.clone(), watch.clone(), orders.clone());
        let ended: Ended = Arc::new(move || {
            // Its receiver is the owner, which outlives the queues.
            let _ = orders.send(Event::QueueEnded);
        });
        thread::Builder::new()
            .name(format!("ublk{}-owner", id.0))
            .spawn(move || {
                let _guard = AbortOnPanic;
                match bring_up(plan, &spec, &service, &ended) {
                    Ok(parts) => {
                        let _ = ready.send(Ok(parts.threads.count()));
                        own(&spec, parts, &events, &watch);
                    }
                    Err(error) => {
                        let _ = ready.send(Err(error));
                    }
                }
            })
            .map_err(|source| DeviceError::Process { doing: "start a device's thread", source })?
    };
    match outcome.recv() {
        Ok(Ok(queues)) => Ok(Device { id, queues, orders, watch, owner }),
        Ok(Err(error)) => {
            // It sent that as its last act.
            let _ = owner.join();
            Err(error)
        }
        Err(_) => Err(DeviceError::Ended { device: id }),
    }
}

/// Waits for orders, or for the end.
fn own(spec: &DeviceSpec, mut parts: Parts, events: &Receiver<Event>, watch: &Watch) {
    let mut ended = 0;
    while let Ok(event) = events.recv() {
        match event {
            Event::QueueEnded => {
                ended += 1;
                if ended == parts.threads.count() {
                    // `/dev/ublkbN` is gone already.
                    let outcome = let_go(spec, parts, Ending::StoppedByOthers);
                    watch.set(Ending::StoppedByOthers);
                    if let Err(error) = outcome {
                        tracing::warn!(%error, "a device that others stopped could not be removed");
                    }
                    return;
                }
            }
            Event::Stop(answer) => {
                let outcome = match stop(&mut parts.control, spec.id, Limit::None("stopping it")) {
                    // Someone else may have been faster.
                    Ok(()) | Err(DeviceError::NoSuchDevice { .. }) => let_go(spec, parts, Ending::Stopped),
                    Err(error) => {
                        let _ = answer.send(Err(error));
                        continue;
                    }
                };
                watch.set(Ending::Stopped);
                let _ = answer.send(outcome);
                return;
            }
            Event::Abandon(answer) => {
                if !spec.recoverable {
                    let _ = answer.send(Err(DeviceError::NotRecoverable { device: spec.id }));
                    continue;
                }
                parts.threads.abandon();
                let outcome = let_go(spec, parts, Ending::Abandoned);
                watch.set(Ending::Abandoned);
                let _ = answer.send(outcome);
                return;
            }
        }
    }
}

/// Waits for the queues, closes the character device and, unless it is left to a successor, deletes it.
fn let_go(spec: &DeviceSpec, parts: Parts, ending: Ending) -> Result<(), DeviceError> {
    let Parts { threads, device, mut control } = parts;
    threads.join();
    drop(device);
    match ending {
        Ending::Stopped | Ending::StoppedByOthers => remove(&mut control, spec.id),
        Ending::Abandoned => Ok(()),
    }
}
