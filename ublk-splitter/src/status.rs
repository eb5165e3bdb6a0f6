//! What an operator sees of volumes and groups.
//!
//! Reads the table and tells; changes nothing.

use crate::group::Group;
use crate::lock::lock;
use crate::outbox::Mode;
use crate::policy::{Policy, Settings};
use crate::serve::{Serving, Splitter, Table};
use crate::stream::Hold;
use control::answer::{
    GroupMode, Lag, PolicyStatus, Progress, SplitterGroup, SplitterStatus, VolumeState, VolumeStatus,
};
use std::sync::atomic::Ordering;
use ublk_device::spec::DeviceId;

impl Splitter {
    /// What an operator sees.
    pub fn status(&self) -> SplitterStatus {
        let table = lock(&self.table);
        SplitterStatus {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            id: self.me.id.to_string(),
            name: self.me.name.clone(),
            volumes: table.volumes.values().map(|s| volume_status(&table, s)).collect(),
            groups: table.groups.values().map(|r| group_status(&r.group)).collect(),
        }
    }
}

pub(crate) fn volume_status(table: &Table, serving: &Serving) -> VolumeStatus {
    let row = &serving.row;
    let group = table.groups.values().find(|r| r.group.id.to_string() == row.group).map(|r| &r.group);
    let ended = serving.device.as_ref().is_some_and(|d| !d.alive());
    let state = match (&serving.down, group.and_then(|g| g.stream.hold())) {
        (Some(reason), _) => VolumeState::Down { reason: reason.clone() },
        (None, _) if serving.device.is_none() => VolumeState::Starting,
        (None, _) if ended => VolumeState::Down { reason: "its device was removed from outside".into() },
        (None, Some(Hold::Restoring)) => VolumeState::Restoring,
        (None, Some(Hold::Preparing | Hold::Barrier { .. }) | None) => VolumeState::Live,
    };
    let volume = serving.volume.as_ref();
    let sync = volume.filter(|v| !v.sync.joined.load(Ordering::Acquire)).map(|v| Progress {
        what: "initial synchronisation".into(),
        done: v.sync.done.load(Ordering::Relaxed),
        total: v.sync.total.load(Ordering::Relaxed),
    });
    VolumeStatus {
        name: row.name.clone(),
        id: row.id.clone(),
        group: group.map_or_else(|| row.group.clone(), |g| g.name.clone()),
        device: DeviceId(row.dev_id).path(),
        backing: row.backing.clone(),
        bytes: row.sectors * 512,
        block_bytes: row.block_bytes,
        queues: serving.device.as_ref().map_or(row.queues, |d| u16::try_from(d.queues()).unwrap_or(row.queues)),
        state,
        sync,
        punches: volume.is_some_and(|v| v.backing.frees_space()),
        // A backing that was touched is a worry until everything has been read again.
        warnings: match group.map(|g| g.stream.mode().0) {
            Some(Mode::Active) => Vec::new(),
            Some(Mode::Waiting | Mode::Resyncing | Mode::Marking) | None => serving.warnings.clone(),
        },
        counts: volume.map(|v| v.counts.get()).unwrap_or_default(),
    }
}

fn group_status(group: &Group) -> SplitterGroup {
    let (mode, reason) = group.stream.mode();
    let marks = group.stream.marks();
    let (outbox_used, outbox_bytes) = group.stream.outbox_usage();
    let lag = group.stream.lag();
    let (delaying, degraded) = group.stream.strain();
    // A catalog that cannot be read is told of where it matters; here the usual settings stand in for it.
    let settings = group.settings().unwrap_or(Settings { policy: Policy::default(), outbox_bytes });
    SplitterGroup {
        name: group.name.clone(),
        id: group.id.to_string(),
        mode: match mode {
            Mode::Waiting | Mode::Active | Mode::Resyncing | Mode::Marking if group.paused.load(Ordering::Acquire) => {
                GroupMode::Paused
            }
            // Asked for is as good as begun: whoever waits for its end must not take the time before for it.
            Mode::Waiting | Mode::Active | Mode::Marking if group.resync_is_wanted() => GroupMode::Resyncing,
            Mode::Waiting | Mode::Active => GroupMode::Active,
            Mode::Resyncing => GroupMode::Resyncing,
            Mode::Marking => GroupMode::Marking,
        },
        reason: (!reason.is_empty()).then_some(reason),
        linked: group.is_linked(),
        session: group.stream.session().map_or(0, record::position::Session::get),
        laid: marks.laid.get(),
        durable: marks.durable.get(),
        outbox_used,
        outbox_bytes,
        lag: Lag { writes: lag.writes, bytes: lag.bytes, ms: u64::try_from(lag.age.as_millis()).unwrap_or(u64::MAX) },
        policy: policy_status(&settings),
        dirty_bytes: match mode {
            // Hot regions stay marked while every write is recorded: nothing is missing.
            Mode::Active => 0,
            Mode::Resyncing => group.unread_bytes(),
            Mode::Waiting | Mode::Marking => group.dirty_bytes(),
        },
        resynced_bytes: group.resynced.load(Ordering::Relaxed),
        delaying,
        stalled: group.stream.stalls(),
        full: group.stream.waits(),
        degraded,
    }
}

/// Settings, as they are told.
pub(crate) fn policy_status(settings: &Settings) -> PolicyStatus {
    let policy = &settings.policy;
    PolicyStatus {
        mode: policy.mode.to_string(),
        sync_loss: policy.sync_loss.map(|loss| loss.to_string()),
        lag_bytes: policy.lag_bytes,
        lag_seconds: policy.lag_seconds,
        reclaim_zeros: policy.reclaim_zeros,
        outbox_bytes: settings.outbox_bytes,
    }
}
