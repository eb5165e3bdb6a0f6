//! Making a volume, and unmaking it.
//!
//! Owns the steps and their undoing: whatever fails or is killed on the way, nothing half made is left. A row marked
//! `pending` stands in the catalog before the first step and loses its mark with the last.

use crate::backing::{Backing, BackingError};
use crate::begin::Left;
use crate::catalog::{CatalogError, GroupRow, Pending, VolumeRow};
use crate::dirty_map::Missing;
use crate::lock::lock;
use crate::policy::OUTBOX_BYTES;
use crate::serve::{Serving, Splitter};
use crate::status::volume_status;
use crate::stop::Stopped;
use control::answer::{Answer, Attached, Outcome, VolumePlan};
use control::client::{Client, Daemon};
use control::error::{ControlError, Kind};
use control::name::{Name, Named};
use control::request::{ApplianceRequest, AttachVolume, VolumeCreate};
use record::ids::GroupId;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use ublk_device::spec::DeviceId;

/// How long the appliance may take to answer.
const APPLIANCE_PATIENCE: Duration = Duration::from_secs(30);
/// How long the link of a new group may take.
const LINK_PATIENCE: Duration = Duration::from_secs(20);
/// Most hardware queues of a volume.
const QUEUES_MAX: u16 = 16;

impl From<BackingError> for ControlError {
    fn from(error: BackingError) -> Self {
        let kind = match &error {
            BackingError::Missing(_) => Kind::NotFound,
            BackingError::InUse(..) | BackingError::OwnDevice(_) => Kind::Refused,
            BackingError::WrongNature(_) | BackingError::TooSmall(..) | BackingError::OddSize(..) => Kind::Usage,
            BackingError::NoDirectIo(_) | BackingError::Io(..) => Kind::Failed,
        };
        let missing = matches!(error, BackingError::Missing(_));
        let error = Self::new(kind, error.to_string());
        if missing { error.hint("give an existing file or block device, or --create --size SIZE") } else { error }
    }
}

pub(crate) fn catalog_error(error: &CatalogError) -> ControlError {
    ControlError::failed(error.to_string())
}

impl Splitter {
    fn ask_appliance(&self, request: &ApplianceRequest) -> Result<Answer, ControlError> {
        Client::new(Daemon::Appliance, &self.appliance).ask(request, APPLIANCE_PATIENCE, |_| ())
    }

    fn attach(&self, request: AttachVolume) -> Result<Attached, ControlError> {
        match self.ask_appliance(&ApplianceRequest::AttachVolume(request))? {
            Answer::Attached(attached) => Ok(attached),
            other => Err(ControlError::failed(format!("the appliance gave an unexpected answer: {other:?}"))),
        }
    }

    fn detach(&self, group_id: &str, volume_id: &str, undo: bool) -> Result<(), ControlError> {
        let request =
            ApplianceRequest::DetachVolume { group_id: group_id.to_owned(), volume_id: volume_id.to_owned(), undo };
        match self.ask_appliance(&request) {
            Ok(_) => Ok(()),
            Err(error) if error.kind == Kind::NotFound => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The id of the group that has a volume of this id, if one has: a creation that broke off may not know it.
    fn group_of(&self, volume_id: &str) -> Result<Option<String>, ControlError> {
        let Answer::Appliance(status) = self.ask_appliance(&ApplianceRequest::Status)? else {
            return Err(ControlError::failed("the appliance gave an unexpected answer"));
        };
        let group = status.groups.into_iter().find(|group| group.volumes.iter().any(|v| v.id == volume_id));
        Ok(group.map(|group| group.id))
    }

    /// Detaches the volume of a row, which may have broken off before it knew its group.
    fn detach_row(&self, row: &VolumeRow, undo: bool) -> Result<(), ControlError> {
        let group = if row.group.is_empty() { self.group_of(&row.id)? } else { Some(row.group.clone()) };
        group.map_or(Ok(()), |group| self.detach(&group, &row.id, undo))
    }

    /// Undoes what a splitter that was killed had begun to make, and finishes what it had begun to remove. What cannot
    /// be done now stays marked; `false` then.
    pub(crate) fn undo_half_made(&self) -> Result<bool, CatalogError> {
        let mut all = true;
        for row in self.catalog.volumes()? {
            let Some(pending) = row.pending else { continue };
            if let Err(error) = self.detach_row(&row, !pending.removing) {
                tracing::warn!(volume = row.name, %error, "cannot finish with a half-made or half-removed volume yet");
                all = false;
                continue;
            }
            delete_device(row.dev_id);
            let elsewhere = self.catalog.volumes()?.iter().any(|v| v.id != row.id && v.backing == row.backing);
            if pending.created && !elsewhere {
                // It was ours and never served.
                let _ = std::fs::remove_file(&row.backing);
            }
            self.catalog.remove_volume(&row.name)?;
            let others = self.catalog.volumes()?.iter().any(|v| v.group == row.group);
            if let (false, false, Some(id)) = (pending.removing, others, GroupId::parse(&row.group))
                && self.catalog.groups()?.iter().any(|g| g.id == row.group && g.clean.is_none())
            {
                self.catalog.remove_group(id)?;
            }
            tracing::info!(volume = row.name, "finished with a half-made or half-removed volume");
        }
        Ok(all)
    }

    /// Before a name is used again: nothing half made may stand under it.
    fn clear_name(&self, name: &str) -> Result<(), ControlError> {
        let half_made = || {
            let rows = self.catalog.volumes().map_err(|e| catalog_error(&e))?;
            Ok::<_, ControlError>(rows.iter().any(|row| row.name == name && row.pending.is_some()))
        };
        if half_made()? {
            self.undo_half_made().map_err(|e| catalog_error(&e))?;
            if half_made()? {
                return Err(ControlError::new(
                    Kind::Unreachable,
                    format!("an earlier attempt to make or remove volume {name} broke off, and the appliance does not answer to clear it away"),
                )
                .hint("undisk status, then try again"));
            }
        }
        Ok(())
    }

    /// Makes a volume and serves it.
    pub fn create_volume(self: &Arc<Self>, ask: &VolumeCreate) -> Result<Answer, ControlError> {
        let name = Name::parse(Named::Volume, &ask.name)?;
        let group = Name::parse(Named::Group, ask.group.as_deref().unwrap_or(&ask.name))?;
        let queues = ask.queues.unwrap_or(1);
        if queues == 0 || queues > QUEUES_MAX {
            return Err(ControlError::usage(format!("{queues} queues: a volume has 1 to {QUEUES_MAX}")));
        }
        let _changing = self.changing();
        if let Some(answer) = self.already(name.as_str(), ask)? {
            return Ok(answer);
        }
        self.clear_name(name.as_str())?;
        let dev_id = self.choose_device(ask.dev_id)?;
        let created = Self::make_backing(ask)?;
        let made = self.create_over(ask, name.as_str(), group.as_str(), queues, dev_id, created);
        if created && (made.is_err() || ask.dry_run) {
            // It was made a moment ago, by us, and nobody has written to it.
            let _ = std::fs::remove_file(&ask.backing);
        }
        made
    }

    fn already(&self, name: &str, ask: &VolumeCreate) -> Result<Option<Answer>, ControlError> {
        let table = lock(&self.table);
        if let Some(serving) = table.volumes.get(name) {
            let same = serving.row.backing == ask.backing && serving.down.is_none() && !ask.dry_run;
            if !same {
                return Err(ControlError::refused(format!(
                    "volume {name} exists already, on backing {}",
                    serving.row.backing.display()
                ))
                .hint("choose another name, or remove it: undisk volume remove NAME"));
            }
            let volume = volume_status(&table, serving);
            return Ok(Some(Answer::Volume { outcome: Outcome::AlreadySo, volume }));
        }
        if let Some(serving) = table.volumes.values().find(|s| s.row.backing == ask.backing) {
            return Err(ControlError::refused(format!(
                "backing {} is in use: it is that of volume {}",
                ask.backing.display(),
                serving.row.name
            )));
        }
        Ok(None)
    }

    fn choose_device(&self, wanted: Option<u32>) -> Result<u32, ControlError> {
        let ours: Vec<u32> = lock(&self.table).volumes.values().map(|s| s.row.dev_id).collect();
        let kernel = ublk_device::inventory::list()
            .map_err(|e| ControlError::failed(e.to_string()))?
            .into_iter()
            .map(|d| d.id.0)
            .collect::<Vec<_>>();
        let taken = |id: u32| ours.contains(&id) || kernel.contains(&id);
        match wanted {
            Some(id) if taken(id) => {
                Err(ControlError::refused(format!("{} exists already", DeviceId(id).path().display()))
                    .hint("leave --dev-id out to get a free one"))
            }
            Some(id) => Ok(id),
            None => (0..=u32::from(u16::MAX))
                .find(|id| !taken(*id))
                .ok_or_else(|| ControlError::failed("no device number is free")),
        }
    }

    /// Makes the backing file if that is asked for; answers whether it did.
    fn make_backing(ask: &VolumeCreate) -> Result<bool, ControlError> {
        if !ask.backing.is_absolute() {
            return Err(ControlError::usage(format!("backing {} is not an absolute path", ask.backing.display())));
        }
        let Some(bytes) = ask.create_bytes else {
            return Ok(false);
        };
        if !bytes.is_multiple_of(4096) || bytes < Backing::BYTES_MIN {
            return Err(ControlError::usage(format!(
                "a backing file of {bytes} bytes cannot be made: at least {} and a whole number of 4096",
                Backing::BYTES_MIN
            )));
        }
        let failed = |e: std::io::Error| {
            ControlError::failed(format!("cannot make the backing file {}: {e}", ask.backing.display()))
        };
        let file = match std::fs::OpenOptions::new().write(true).create_new(true).open(&ask.backing) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(ControlError::refused(format!(
                    "cannot make the backing file {}: it exists already",
                    ask.backing.display()
                ))
                .hint("leave --create out to use it as it is"));
            }
            Err(error) => return Err(failed(error)),
        };
        let made = file.set_len(bytes).and_then(|()| file.sync_all()).and_then(|()| sync_folder(&ask.backing));
        made.map_err(|e| {
            let _ = std::fs::remove_file(&ask.backing);
            failed(e)
        })?;
        Ok(true)
    }

    fn create_over(
        self: &Arc<Self>,
        ask: &VolumeCreate,
        name: &str,
        group: &str,
        queues: u16,
        dev_id: u32,
        created: bool,
    ) -> Result<Answer, ControlError> {
        let backing = Backing::open(&ask.backing, None)?;
        let id = record::ids::VolumeId::from_bytes(*uuid::Uuid::new_v4().as_bytes());
        let attach = AttachVolume {
            group: group.to_owned(),
            create_group: true,
            volume_id: id.to_string(),
            name: name.to_owned(),
            sectors: backing.size().get(),
            block_bytes: backing.block().bytes(),
            splitter_id: self.me.id.to_string(),
            splitter: self.me.name.clone(),
            replica: ask.replica.clone(),
            dry_run: ask.dry_run,
        };
        let mut row = VolumeRow {
            id: id.to_string(),
            name: name.to_owned(),
            group: String::new(),
            incarnation: 0,
            backing: ask.backing.clone(),
            sectors: backing.size().get(),
            block_bytes: backing.block().bytes(),
            dev_id,
            queues,
            fingerprint: None,
            at_rest: false,
            pending: Some(Pending { created, removing: false }),
        };
        if ask.dry_run {
            let attached = self.attach(attach)?;
            let replica_bytes = backing.data_bytes().map_err(|e| ControlError::failed(e.to_string()))?;
            return Ok(Answer::VolumePlan(VolumePlan {
                name: name.to_owned(),
                group: group.to_owned(),
                bytes: backing.size().bytes(),
                block_bytes: backing.block().bytes(),
                replica_bytes,
                replica_bytes_max: backing.size().bytes(),
                journal_bytes: attached.journal_bytes,
                replica: attached.replica,
                journal: attached.journal,
            }));
        }
        self.catalog.put_volume(&row).map_err(|e| catalog_error(&e))?;
        let done = self.join(attach, &mut row, backing, group);
        match done {
            Ok(answer) => Ok(answer),
            Err(error) => {
                self.unmake(&row);
                Err(error)
            }
        }
    }

    fn join(
        self: &Arc<Self>,
        attach: AttachVolume,
        row: &mut VolumeRow,
        backing: Backing,
        group_name: &str,
    ) -> Result<Answer, ControlError> {
        let attached = self.attach(attach)?;
        row.group.clone_from(&attached.group_id);
        row.incarnation = attached.incarnation;
        self.catalog.put_volume(row).map_err(|e| catalog_error(&e))?;
        let id = GroupId::parse(&attached.group_id)
            .ok_or_else(|| ControlError::failed("the appliance's group id is not a UUID"))?;
        let running = lock(&self.table).groups.get(&id).map(|r| Arc::clone(&r.group));
        let (group, fresh) = match running {
            Some(group) => (group, false),
            None => (self.new_group(id, &attached, group_name)?, true),
        };
        let volume = self.make_volume(row, backing, &group, Missing::Clean).map_err(ControlError::failed)?;
        group.add_volume(Arc::clone(&volume));
        if fresh {
            group.set_devices_up();
            self.run_group(&group)
                .map_err(|e| ControlError::failed(format!("cannot start the group's threads: {e}")))?;
        } else {
            group.jobs.push(crate::work::Job::Synchronise(volume.incarnation));
        }
        if !group.wait_granted(LINK_PATIENCE) {
            return Err(ControlError::new(
                Kind::Unreachable,
                format!("the appliance did not open the link of group {group_name}; nothing was changed"),
            )
            .hint("see the appliance's log, then try again"));
        }
        let mut serving = Serving {
            row: VolumeRow { pending: None, ..row.clone() },
            volume: Some(volume),
            device: None,
            down: None,
            warnings: Vec::new(),
        };
        self.start_device(&group.name, &mut serving);
        if let Some(why) = serving.down {
            return Err(ControlError::failed(format!("cannot start the device of volume {}: {why}", row.name)));
        }
        if let Err(error) = self.catalog.put_volume(&serving.row) {
            if let Some(device) = serving.device.take() {
                let _ = device.stop();
            }
            return Err(catalog_error(&error));
        }
        let mut table = lock(&self.table);
        let status = volume_status(&table, &serving);
        table.volumes.insert(row.name.clone(), serving);
        Ok(Answer::Volume { outcome: Outcome::Created, volume: status })
    }

    fn new_group(
        &self,
        id: GroupId,
        attached: &Attached,
        name: &str,
    ) -> Result<Arc<crate::group::Group>, ControlError> {
        let rows = self.catalog.groups().map_err(|e| catalog_error(&e))?;
        let row = rows.into_iter().find(|row| row.id == attached.group_id).unwrap_or_else(|| GroupRow {
            id: attached.group_id.clone(),
            name: name.to_owned(),
            journal: attached.journal_id.clone(),
            outbox_bytes: OUTBOX_BYTES,
            clean: None,
            rollback: None,
            marking: None,
            policy: crate::policy::Policy::default(),
            look_first: false,
            paused: false,
        });
        self.catalog.put_group(&row).map_err(|e| catalog_error(&e))?;
        let group = self.open_group(&row, Left::default()).map_err(|e| {
            ControlError::failed(format!("cannot make the outbox {}: {e}", self.outbox_path(id).display()))
        })?;
        self.catalog.change_group(id, |row| (row.clean, row.marking) = (None, None)).map_err(|e| catalog_error(&e))?;
        Ok(group)
    }

    /// Takes back what `join` did.
    fn unmake(&self, row: &VolumeRow) {
        if let Some(id) = GroupId::parse(&row.group) {
            let mut table = lock(&self.table);
            let incarnation = record::ids::Incarnation::new(row.incarnation);
            let last = table.groups.get(&id).is_some_and(|r| !r.group.remove_volume(incarnation));
            let running = last.then(|| table.groups.remove(&id)).flatten();
            drop(table);
            if let Some(running) = running {
                self.stop_group(running, &mut [], &mut Stopped::default());
            }
        }
        if let Err(error) = self.detach_row(row, true) {
            tracing::warn!(volume = row.name, %error, "cannot undo the volume's attaching yet; the next start tries again");
            return;
        }
        self.forget_map(row);
        if let Err(error) = self.catalog.remove_volume(&row.name) {
            tracing::error!(volume = row.name, %error, "cannot forget a half-made volume yet; the next start tries again");
        }
    }

    /// Stops serving a volume and forgets it. Its backing keeps its content, its group its history.
    pub fn remove_volume(&self, name: &str, force: bool) -> Result<Answer, ControlError> {
        let _changing = self.changing();
        let (dev_id, group_id) = {
            let table = lock(&self.table);
            let serving = table.volumes.get(name).ok_or_else(|| no_volume(name))?;
            (serving.row.dev_id, serving.row.group.clone())
        };
        if !force && let Some(uses) = Self::device_uses(dev_id)? {
            return Err(ControlError::refused(format!("cannot remove volume {name}: {uses}; nothing was changed"))
                .hint("unmount and close it first"));
        }
        let id = GroupId::parse(&group_id);
        let group = id.and_then(|id| lock(&self.table).groups.get(&id).map(|r| Arc::clone(&r.group)));
        if group.as_ref().is_some_and(|group| group.rollback().is_some() || group.stream.hold().is_some()) {
            return Err(ControlError::refused(format!(
                "cannot remove volume {name}: a rollback of its group is under way; nothing was changed"
            ))
            .hint("wait for it: undisk status"));
        }
        // Asked before anything is taken down: without the appliance the volume cannot leave its group.
        self.ask_appliance(&ApplianceRequest::Status)?;
        self.stop_device(name, dev_id)?;
        let outcome = self.leave(name, &group_id, group.as_ref(), force);
        match outcome {
            Ok((serving, left)) => Self::removed(name, &serving, &left),
            Err(error) => {
                // It is served again: whoever asked finds everything as it was.
                let volume = lock(&self.table).volumes.get(name).and_then(|serving| serving.volume.clone());
                if let (Some(volume), Some(group)) = (volume, group) {
                    group.add_volume(Arc::clone(&volume));
                    self.serve_device(&group.name, &volume);
                }
                Err(error)
            }
        }
    }

    /// Takes the device of a volume away: ours, or what a killed predecessor left and nobody could take over.
    fn stop_device(&self, name: &str, dev_id: u32) -> Result<(), ControlError> {
        let device = lock(&self.table).volumes.get_mut(name).and_then(|serving| serving.device.take());
        match device {
            Some(device) => device.stop().map_err(|e| ControlError::failed(e.to_string()))?,
            None => delete_device(dev_id),
        }
        let _ = std::fs::remove_file(self.paths.device_env(dev_id));
        Ok(())
    }

    /// From a volume without a device to one that nobody knows; answers with what could not be done properly. An error
    /// means that the volume is still there.
    fn leave(
        &self,
        name: &str,
        group_id: &str,
        group: Option<&Arc<crate::group::Group>>,
        force: bool,
    ) -> Result<(Serving, Vec<String>), ControlError> {
        let Some((mut row, volume)) =
            lock(&self.table).volumes.get(name).map(|serving| (serving.row.clone(), serving.volume.clone()))
        else {
            return Err(no_volume(name));
        };
        let mut left = Vec::new();
        if let (Some(group), Some(volume)) = (group, &volume) {
            // What it laid must not come after its LEAVE.
            let laid = group.stream.marks().laid;
            let deadline = Instant::now() + APPLIANCE_PATIENCE;
            while !group.stream.wait_durable(laid, APPLIANCE_PATIENCE) && group.is_linked() && Instant::now() < deadline
            {
                // Not recording: what was laid before is on its way all the same.
                std::thread::sleep(Duration::from_millis(20));
            }
            if group.stream.marks().durable < laid {
                let why = format!(
                    "the journal has not taken the last {} records of group {}",
                    laid.get() - group.stream.marks().durable.get(),
                    group.name
                );
                if !force {
                    return Err(ControlError::failed(format!(
                        "cannot remove volume {name}: {why}; nothing was changed"
                    ))
                    .hint("undisk status tells why; --force gives them up"));
                }
                // They cannot come any more: whoever looks at the history must see where it ends.
                group.stream.mark(&format!("volume {name} was removed before the journal had its last records"));
                left.push(why);
            }
            group.remove_volume(volume.incarnation);
        }
        row.pending = Some(Pending { created: false, removing: true });
        self.catalog.put_volume(&row).map_err(|e| catalog_error(&e))?;
        if let Err(error) = self.detach(group_id, &row.id, false) {
            row.pending = None;
            self.catalog.put_volume(&row).map_err(|e| catalog_error(&e))?;
            return Err(error);
        }
        let Some(mut serving) = lock(&self.table).volumes.remove(name) else {
            return Err(no_volume(name));
        };
        serving.row.pending = row.pending;
        if let Some(group) = group {
            group.forget_absent(name);
            if group.volumes().is_empty()
                && let Some(running) = lock(&self.table).groups.remove(&group.id)
            {
                let mut stopped = Stopped::default();
                self.stop_group(running, &mut [&mut serving], &mut stopped);
                left.append(&mut stopped.left);
            }
        }
        self.catalog.remove_volume(name).map_err(|e| catalog_error(&e))?;
        self.forget_map(&serving.row);
        Ok((serving, left))
    }

    /// The dirty map of a volume that is no more: one that stays is only space.
    fn forget_map(&self, row: &VolumeRow) {
        let path = self.map_path(row);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot remove the dirty map of a volume that is gone");
            }
        }
    }

    fn removed(name: &str, serving: &Serving, left: &[String]) -> Result<Answer, ControlError> {
        let backing = serving.row.backing.display();
        if !left.is_empty() {
            let message =
                format!("volume {name} is no longer served, {backing} holds its content, but: {}", left.join("; "));
            return Err(ControlError::new(Kind::Degraded, message));
        }
        let message =
            format!("volume {name} is no longer served; {backing} holds its content, its group keeps its history");
        Ok(Answer::Done { outcome: Outcome::Changed, message })
    }
}

/// Deletes a kernel device that no living process serves. One that somebody serves is left alone.
fn delete_device(dev_id: u32) {
    let devices = ublk_device::inventory::list().unwrap_or_default();
    let Some(device) = devices.into_iter().find(|device| device.id == DeviceId(dev_id)) else { return };
    let lives = u32::try_from(device.pid).is_ok_and(|pid| pid != 0 && Path::new(&format!("/proc/{pid}")).exists());
    if !lives && let Err(error) = ublk_device::inventory::delete(device.id) {
        tracing::warn!(device = %device.id, %error, "cannot delete a device that nobody serves");
    }
}

pub(crate) fn no_volume(name: &str) -> ControlError {
    ControlError::not_found(format!("there is no volume {name}")).hint("undisk volume list")
}

fn sync_folder(path: &Path) -> std::io::Result<()> {
    match path.parent() {
        Some(folder) => std::fs::File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
