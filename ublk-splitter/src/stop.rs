//! Taking volumes down: everything, one group, or leaving devices that are in use to a successor.
//!
//! Owns draining, what a clean stop stores, and what it says of what was left. Deliberately starts nothing.

use crate::catalog::CleanStop;
use crate::group::Group;
use crate::lock::lock;
use crate::outbox::Mode;
use crate::policy::Policy;
use crate::ring_io::{Blocking, block_on};
use crate::serve::{Running, Serving, Splitter};
use control::error::ControlError;
use control::events::{EventKind, News};
use control::request::EventsAsk;
use std::sync::MutexGuard;
use std::time::Duration;

/// How long a stop waits for the journal.
const STOP_PATIENCE: Duration = Duration::from_secs(60);

/// How a stop went.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Stopped {
    /// What was left for the next start to deal with, a line each; empty: nothing.
    pub left: Vec<String>,
}

impl Splitter {
    /// Takes everything down. Without `force`, refused while a device is in use; nothing has changed then.
    pub fn stop(&self, force: bool) -> Result<Stopped, ControlError> {
        let changing = self.changing();
        self.stop_all(force, &changing)
    }

    fn stop_all(&self, force: bool, _changing: &MutexGuard<'_, ()>) -> Result<Stopped, ControlError> {
        if !force {
            for serving in lock(&self.table).volumes.values().filter(|s| s.device.is_some()) {
                if let Some(uses) = Self::device_uses(serving.row.dev_id)? {
                    return Err(ControlError::refused(format!(
                        "cannot take volume {} down: {uses}; nothing was changed",
                        serving.row.name
                    ))
                    .hint("unmount and close it first, then `undisk down`"));
                }
            }
        }
        let mut stopped = Stopped::default();
        let mut table = std::mem::take(&mut *lock(&self.table));
        for running in table.groups.values() {
            // A device stops once its requests have ended: from here on none waits for the journal.
            running.group.stream.set_policy(Policy::default());
        }
        for serving in table.volumes.values_mut() {
            if let Some(device) = serving.device.take() {
                match device.stop() {
                    // Stored at once: a kill from here on leaves no request that could be missed.
                    Ok(()) => {
                        let news = News::new(EventKind::DeviceDown, "taken down on request");
                        self.events.tell(news.volume(&serving.row.name));
                        serving.row.at_rest = true;
                        if let Err(error) = self.catalog.put_volume(&serving.row) {
                            stopped.left.push(format!("volume {}: {error}", serving.row.name));
                        }
                    }
                    Err(error) => stopped.left.push(format!("device of volume {}: {error}", serving.row.name)),
                }
                let _ = std::fs::remove_file(self.paths.device_env(serving.row.dev_id));
            }
        }
        for running in std::mem::take(&mut table.groups).into_values() {
            let mut members: Vec<_> =
                table.volumes.values_mut().filter(|s| s.row.group == running.group.id.to_string()).collect();
            self.stop_group(running, &mut members, &mut stopped);
        }
        Ok(stopped)
    }

    /// Drains a group and stores how it stopped. Its devices are down already.
    pub(crate) fn stop_group(&self, running: Running, members: &mut [&mut Serving], stopped: &mut Stopped) {
        let group = &running.group;
        let clean = Self::drain(group, stopped);
        let mut fingerprints = Vec::new();
        for serving in members.iter() {
            let Some(volume) = &serving.volume else {
                continue;
            };
            let taken = block_on(volume.backing.flush(&Blocking)).and_then(|()| volume.backing.fingerprint());
            match taken {
                Ok(fingerprint) => fingerprints.push((serving.row.name.clone(), fingerprint)),
                Err(error) => {
                    stopped.left.push(format!("backing of volume {}: flushing it failed: {error}", serving.row.name));
                }
            }
        }
        let all_down = members.iter().all(|s| s.volume.is_some());
        let clean = clean.filter(|_| fingerprints.len() == members.len() && all_down);
        let (mode, reason) = group.stream.mode();
        let marking = match mode {
            Mode::Marking => Some(reason),
            Mode::Resyncing => Some("it was stopped in the middle of a resynchronisation".to_owned()),
            Mode::Waiting | Mode::Active => None,
        };
        let keeps_outbox = clean.is_none() && marking.is_none();
        if clean.is_some() {
            group.send(group.link_count(), &record::conversation::ToAppliance::Close {});
        }
        group.quit();
        for thread in running.threads {
            // A panic there has ended the process already.
            let _ = thread.join();
        }
        let stored =
            self.catalog.change_group(group.id, |row| (row.clean, row.marking) = (clean, marking)).and_then(|()| {
                for serving in members.iter_mut() {
                    let found = fingerprints.iter().find(|(name, _)| *name == serving.row.name);
                    if serving.volume.is_some() {
                        serving.row.fingerprint = found.map(|(_, f)| f.clone());
                    }
                    self.catalog.put_volume(&serving.row)?;
                }
                Ok(())
            });
        match stored {
            Ok(()) if !keeps_outbox => {
                // The catalog says it all now: an outbox that stayed would be taken for that of a killed splitter.
                let _ = std::fs::remove_file(group.stream.outbox_path());
            }
            Ok(()) => {}
            Err(error) => stopped.left.push(format!("group {}: {error}", group.name)),
        }
    }

    fn drain(group: &Group, stopped: &mut Stopped) -> Option<CleanStop> {
        let marks = group.stream.marks();
        let (mode, _) = group.stream.mode();
        match mode {
            Mode::Waiting => *lock(&group.clean),
            Mode::Resyncing | Mode::Marking => None,
            Mode::Active => {
                let session = group.stream.session()?;
                if group.is_linked() && group.stream.wait_durable(marks.laid, STOP_PATIENCE) {
                    return Some(CleanStop { session: session.get(), next: marks.laid.get() });
                }
                stopped.left.push(format!(
                    "group {}: the appliance has not taken the last {} records; they wait in the outbox until the next `undisk up`, and are lost if this machine restarts before",
                    group.name,
                    marks.laid.get() - group.stream.marks().durable.get()
                ));
                None
            }
        }
    }

    /// The process ends: what was told is written down first.
    pub fn farewell(&self) {
        self.events.tell(News::new(EventKind::Stopped, "the splitter was asked to end, and did"));
        self.events.read(EventsAsk { after: None, newest: 0 });
    }

    /// A shutdown that nobody asked the hosts about: devices in use are left to a successor.
    pub fn terminate(&self) -> Stopped {
        // First of all: a start that is under way may be taking over devices that are in use.
        let changing = self.changing();
        let in_use = {
            let table = lock(&self.table);
            table
                .volumes
                .values()
                .filter(|s| s.device.is_some())
                .any(|s| Self::device_uses(s.row.dev_id).map_or(true, |uses| uses.is_some()))
        };
        if !in_use {
            return self.stop_all(true, &changing).unwrap_or_default();
        }
        let mut table = std::mem::take(&mut *lock(&self.table));
        for serving in table.volumes.values_mut() {
            if let Some(device) = serving.device.take()
                && let Err(error) = device.abandon()
            {
                tracing::error!(volume = serving.row.name, %error, "cannot leave the device to a successor");
            }
        }
        for running in table.groups.into_values() {
            running.group.quit();
        }
        Stopped { left: vec!["devices are in use: they wait for the next splitter".into()] }
    }
}
