//! Past moments as block devices.
//!
//! Owns which images are open, their devices, and what of them is left behind by a process that died: devices are
//! written down before they are made, so that the next start deletes exactly those. An image is read from the
//! journal, block by block, checked; nothing is copied to open one. Images die with this process: their devices are
//! not recoverable, on purpose.

pub mod overlay;
mod scratch;
mod service;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use control::answer::Image as Answer;
use control::device_use::{describe, uses_of};
use control::error::ControlError;
use control::paths::Paths;
use control::point::PointSpec;
use journal::Member;
use ublk_device::{Device, DeviceError, DeviceId, DeviceSpec};

use crate::catalog::{Catalog, DeviceEntry};
use crate::group::{ImagePin, point_error, resolve};
use crate::groups::Held;

pub use service::{ImageService, ImageTarget};

/// Image devices have numbers from here on, so that volumes keep the low ones.
const FIRST_ID: u32 = 128;
/// Image devices at once.
const IMAGES_MAX: usize = 64;
/// Most bytes in a throw-away overlay.
const OVERLAY_BYTES: u64 = 1 << 30;

/// What is to be opened.
#[derive(Clone, Debug)]
pub struct OpenImage {
    /// Which moment.
    pub point: PointSpec,
    /// Writable, over a throw-away overlay.
    pub rw: bool,
    /// Only this volume.
    pub volume: Option<String>,
    /// Also a moment that is no barrier.
    pub any_point: bool,
}

/// The open images.
#[derive(Debug)]
pub struct Images {
    paths: Paths,
    catalog: Arc<Catalog>,
    open: Mutex<BTreeMap<u32, Shown>>,
    /// Held while a device is made or removed, so that numbers are found once.
    change: Mutex<()>,
    next: AtomicU64,
}

/// One image device.
#[derive(Debug)]
struct Shown {
    device: Device,
    service: Arc<ImageService>,
    answer: Answer,
    /// What it shows is not given up.
    _pin: ImagePin,
}

impl Images {
    /// No image is open. What a dead process left in the kernel is deleted.
    pub fn new(paths: &Paths, catalog: &Arc<Catalog>) -> Self {
        let images = Self {
            paths: paths.clone(),
            catalog: Arc::clone(catalog),
            open: Mutex::default(),
            change: Mutex::default(),
            next: AtomicU64::new(1),
        };
        images.delete_leftovers();
        images
    }

    fn shown(&self) -> MutexGuard<'_, BTreeMap<u32, Shown>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Only those that the catalog names, and only while nobody alive serves them.
    fn delete_leftovers(&self) {
        let left = match self.catalog.devices() {
            Ok(left) => left,
            Err(error) => {
                tracing::error!(%error, "failed to look for image devices that a dead process left behind");
                return;
            }
        };
        if left.is_empty() {
            return;
        }
        let there = match ublk_device::list() {
            Ok(there) => there,
            Err(error) => {
                tracing::warn!(%error, "failed to look for image devices that a dead process left behind");
                return;
            }
        };
        for (id, entry) in left {
            let Some(device) = there.iter().find(|d| d.id == DeviceId(id)) else {
                self.forget(id);
                continue;
            };
            let ours = u32::try_from(device.pid).is_ok_and(|pid| pid == entry.pid) || !lives(device.pid);
            if !ours {
                tracing::warn!(device = %device.id, pid = device.pid, "an image device's number is someone else's now");
                self.forget(id);
                continue;
            }
            tracing::info!(device = %device.id, group = entry.group, "deletes an image device of a dead process");
            match ublk_device::delete(device.id) {
                Ok(()) | Err(DeviceError::NoSuchDevice { .. }) => self.forget(id),
                Err(error) => tracing::error!(device = %device.id, %error, "failed to delete it"),
            }
        }
    }

    /// The device is gone.
    fn forget(&self, id: u32) {
        let env = self.paths.device_env(id);
        match std::fs::remove_file(&env) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => tracing::warn!(path = %env.display(), error = %e, "failed to delete"),
        }
        if let Err(error) = self.catalog.remove_device(id) {
            tracing::warn!(id, %error, "failed to forget an image device; the next start tries again");
        }
    }

    /// Opens a moment of a group: a device for each of the volumes that it had then.
    pub fn open(&self, group: &Held, ask: &OpenImage) -> Result<Vec<Answer>, ControlError> {
        let began = Instant::now();
        let name = group.entry().name;
        let asked = format!("{name}@{}", ask.point);
        let doing = format!("open image {asked}");
        let journal = group.open()?.journal();
        let position = resolve(journal, &doing, &ask.point.clone().into(), ask.any_point)?;
        let image = journal.image(position).map_err(|e| point_error(&doing, &e))?;
        let wanted = |member: &&Member| ask.volume.as_ref().is_none_or(|volume| *volume == member.name);
        let members: Vec<_> = image.members().iter().filter(wanted).cloned().collect();
        if members.is_empty() {
            let all: Vec<_> = image.members().iter().map(|m| m.name.as_str()).collect();
            return Err(ControlError::not_found(match &ask.volume {
                Some(volume) => format!("cannot {doing}: it has no volume '{volume}' then, only: {}", all.join(", ")),
                None => format!("cannot {doing}: the group had no volume then"),
            }));
        }
        let _changing = self.changing();
        self.reap();
        if self.shown().len() + members.len() > IMAGES_MAX {
            return Err(ControlError::refused(format!("cannot {doing}: at most {IMAGES_MAX} image devices at once"))
                .hint("undisk image list; undisk image close DEVICE"));
        }
        let mut answers: Vec<Answer> = Vec::new();
        for member in &members {
            let service = self
                .service(&image, member, ask.rw)
                .and_then(|service| self.show(group, member, service, &asked, began));
            match service {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    // All or nothing.
                    for answer in &answers {
                        if let Err(e) = self.stop(&answer.device) {
                            tracing::error!(device = %answer.device.display(), error = %e, "failed to close");
                        }
                    }
                    let hint = error.hint.clone();
                    let mut error = ControlError::new(error.kind, format!("cannot {doing}: {}", error.message));
                    error.hint = hint;
                    return Err(error);
                }
            }
        }
        Ok(answers)
    }

    fn service(&self, image: &journal::Image, member: &Member, rw: bool) -> Result<ImageService, ControlError> {
        let overlay =
            if rw { Some(scratch::overlay(self.paths.state(), OVERLAY_BYTES, self.promised())?) } else { None };
        Ok(ImageService::new(image.clone(), member.incarnation, &member.name, overlay))
    }

    /// Bytes that the overlays of open images may still take.
    fn promised(&self) -> u64 {
        let left = |shown: &Shown| shown.service.overlay_bytes().map_or(0, |(used, max)| max.saturating_sub(used));
        self.shown().values().map(left).sum()
    }

    fn show(
        &self,
        of: &Held,
        member: &Member,
        service: ImageService,
        asked: &str,
        began: Instant,
    ) -> Result<Answer, ControlError> {
        let service = Arc::new(service);
        let at = service.at();
        let (pin, name) = (of.open()?.pin_image(at.position), of.entry().name);
        let group = name.as_str();
        let rw = service.is_writable();
        let mut from = DeviceId(FIRST_ID);
        let device = loop {
            let id = ublk_device::free_id(from);
            let entry = DeviceEntry { pid: std::process::id(), group: group.to_owned() };
            self.catalog.put_device(id.0, &entry).map_err(|e| ControlError::failed(e.to_string()))?;
            let mut spec = DeviceSpec::image(id, &format!("{group}/{}", member.name), member.size, !rw);
            spec.block = member.block;
            let started = self.tell_udev(id, group, member, at.position).and_then(|()| {
                ublk_device::start(&spec, Arc::new(ImageTarget(Arc::clone(&service)))).map_err(|e| device_error(&e))
            });
            match started {
                Ok(device) => break device,
                Err(error) => {
                    self.forget(id.0);
                    // Someone else was quicker with this number.
                    if ublk_device::free_id(id) != id && id.0 < FIRST_ID + 4096 {
                        from = DeviceId(id.0 + 1);
                        continue;
                    }
                    return Err(error);
                }
            }
        };
        let answer = Answer {
            id: format!("i{}", self.next.fetch_add(1, Ordering::Relaxed)),
            group: group.to_owned(),
            volume: member.name.clone(),
            position: at.position.get(),
            time_ns: at.label.nanos(),
            asked: asked.to_owned(),
            device: device.path(),
            rw,
            overlay_used: 0,
            overlay_max: service.overlay_bytes().map_or(0, |(_, max)| max),
            open_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        tracing::info!(
            group, volume = member.name, position = %at.position, rw, device = %answer.device.display(),
            open_ms = answer.open_ms, "an image is open"
        );
        self.shown().insert(device.id().0, Shown { device, service, answer: answer.clone(), _pin: pin });
        Ok(answer)
    }

    /// Before the device appears: the rules look here, and publish no link by uuid for an image.
    fn tell_udev(
        &self,
        id: DeviceId,
        group: &str,
        member: &Member,
        position: record::position::Position,
    ) -> Result<(), ControlError> {
        let path = self.paths.device_env(id.0);
        let text = format!(
            "UNDISK_KIND=image\nUNDISK_GROUP={group}\nUNDISK_VOLUME={}\nUNDISK_UUID={}\nUNDISK_POSITION={position}\n",
            member.name, member.volume
        );
        let write = || {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            std::fs::write(&path, text)
        };
        write().map_err(|e| ControlError::failed(format!("cannot write {}: {e}", path.display())))
    }

    /// All open images.
    pub fn list(&self) -> Vec<Answer> {
        self.reap();
        let answers = |shown: &Shown| {
            let mut answer = shown.answer.clone();
            (answer.overlay_used, answer.overlay_max) = shown.service.overlay_bytes().unwrap_or((0, 0));
            answer
        };
        self.shown().values().map(answers).collect()
    }

    /// Forgets devices that someone stopped behind our back.
    fn reap(&self) {
        let gone: Vec<_> = self.shown().iter().filter(|(_, s)| !s.device.alive()).map(|(id, _)| *id).collect();
        for id in gone {
            self.shown().remove(&id);
            self.forget(id);
            tracing::warn!(device = %DeviceId(id), "an image device was stopped by someone else");
        }
    }

    /// Closes those that `which` names (a device, an id, `GROUP@POINT`; `None`: all); how many.
    pub fn close(&self, which: Option<&str>, force: bool) -> Result<usize, ControlError> {
        let _changing = self.changing();
        let chosen: Vec<PathBuf> = self
            .list()
            .into_iter()
            .filter(|image| {
                which.is_none_or(|which| image.device == Path::new(which) || image.id == which || image.asked == which)
            })
            .map(|image| image.device)
            .collect();
        if chosen.is_empty() {
            return match which {
                Some(which) => {
                    Err(ControlError::not_found(format!("no image '{which}' is open")).hint("undisk image list"))
                }
                None => Ok(0),
            };
        }
        if !force {
            for device in &chosen {
                not_in_use(device, "close the image")?;
            }
        }
        for device in &chosen {
            self.stop(device)?;
        }
        Ok(chosen.len())
    }

    /// Refused while a device is in use.
    pub fn all_idle(&self) -> Result<(), ControlError> {
        self.list()
            .iter()
            .try_for_each(|image| not_in_use(&image.device, "stop the appliance, its images would vanish"))
    }

    /// How many images of a group are open.
    pub fn of_group(&self, group: &str) -> usize {
        self.list().iter().filter(|image| image.group == group).count()
    }

    fn stop(&self, device: &Path) -> Result<(), ControlError> {
        let id = self.shown().iter().find(|(_, shown)| shown.answer.device == device).map(|(id, _)| *id);
        let Some(shown) = id.and_then(|id| self.shown().remove(&id)) else { return Ok(()) };
        let id = shown.device.id();
        match shown.device.stop() {
            Ok(()) | Err(DeviceError::Ended { .. } | DeviceError::NoSuchDevice { .. }) => {
                self.forget(id.0);
                tracing::info!(device = %id, "an image is closed");
                Ok(())
            }
            Err(error) => Err(ControlError::failed(format!("cannot close the image: {error}"))),
        }
    }
}

fn not_in_use(device: &Path, doing: &str) -> Result<(), ControlError> {
    let uses = uses_of(device)
        .map_err(|e| ControlError::failed(format!("cannot {doing}: cannot look who uses {}: {e}", device.display())))?;
    if uses.is_empty() {
        return Ok(());
    }
    Err(ControlError::refused(format!("cannot {doing}: {} is in use: {}", device.display(), describe(&uses)))
        .hint("unmount it or end those that hold it, or give --force"))
}

fn device_error(error: &DeviceError) -> ControlError {
    ControlError::failed(error.to_string())
}

fn lives(pid: i32) -> bool {
    pid > 0 && Path::new(&format!("/proc/{pid}")).exists()
}
