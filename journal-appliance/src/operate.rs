//! The appliance as a whole: started, asked, stopped.
//!
//! Owns what runs in the process (control socket, links, groups, images) and the order in which it comes up and goes
//! down; and which part answers which request. Requests run on blocking threads: journals and devices are not for the
//! runtime's few workers.

use std::future::Future;
use std::path::PathBuf;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control::answer::{Answer, ApplianceStatus, Outcome, Progress};
use control::client::{Client, Daemon};
use control::device_use::{describe, uses_of};
use control::error::{ControlError, Kind};
use control::events::{EventKind, Events, News};
use control::name::{Name, Named};
use control::paths::Paths;
use control::pid_file::{self, PidFile};
use control::point::PointSpec;
use control::request::{ApplianceRequest, EventsAsk, SplitterRequest};
use control::server::{ControlListener, ProgressSink, serve};
use tokio::sync::watch;

use crate::catalog::Catalog;
use crate::group::rollbacks::{Order, rollback_plan};
use crate::group::{journal_error, point_error, resolve};
use crate::groups::{Groups, Held, in_time_to_come};
use crate::housekeeping::Watch;
use crate::intake::link::Links;
use crate::present::{Images, OpenImage};

/// How often the room on disk is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// How long the splitter may take to say which devices it serves.
const SPLITTER_PATIENCE: Duration = Duration::from_secs(10);

/// A running appliance.
#[derive(Debug)]
pub struct Appliance {
    paths: Paths,
    groups: Arc<Groups>,
    images: Arc<Images>,
    events: Events,
    links: Mutex<Option<Links>>,
    stop: watch::Sender<bool>,
    _pid: PidFile,
}

impl Appliance {
    /// Takes the place of this host's appliance, opens all journals, and listens for splitters.
    pub fn start(paths: &Paths) -> Result<Arc<Self>, ControlError> {
        paths.prepare()?;
        let pid = pid_file::take(&paths.appliance_pid())
            .map_err(|e| ControlError::failed(format!("the appliance cannot start: {e}")).hint("undisk status"))?;
        let catalog = Catalog::open(&paths.appliance_state()).map_err(|e| ControlError::failed(e.to_string()))?;
        let catalog = Arc::new(catalog);
        let events = Events::open(&paths.appliance_state(), "appliance");
        events.tell(News::new(EventKind::Started, format!("release {} started", env!("CARGO_PKG_VERSION"))));
        // Before any image can be opened under a number that a dead process still holds.
        let images = Arc::new(Images::new(paths, &catalog));
        let groups = Arc::new(Groups::open(paths, &catalog, &events)?);
        // Only now: a splitter that links finds its group.
        let (listener, file) = control::socket::bind(&paths.link_socket())?.into_parts();
        let route: Arc<Groups> = Arc::clone(&groups);
        let links = Links::serve(listener, file, route)?;
        tracing::info!(version = env!("CARGO_PKG_VERSION"), "the appliance is up");
        Ok(Arc::new(Self {
            paths: paths.clone(),
            groups,
            images,
            events,
            links: Mutex::new(Some(links)),
            stop: watch::Sender::new(false),
            _pid: pid,
        }))
    }

    /// Answers operators until one of them stops it, or `ended` comes to its end (a signal); then closes everything.
    /// To be called in a tokio runtime.
    pub async fn run(self: &Arc<Self>, ended: impl Future<Output = ()>) -> Result<(), ControlError> {
        let listener = ControlListener::bind(&self.paths.appliance_socket())?;
        let watching = tokio::spawn(Arc::clone(self).watch_space());
        let mut stopping = self.stop.subscribe();
        let shutdown = async {
            tokio::select! {
                () = ended => {}
                // The sender is ours, it cannot be gone.
                _ = stopping.wait_for(|stop| *stop) => {}
            }
            // Those who wait for a splitter would be waited for in turn.
            let groups = Arc::clone(&self.groups);
            let _ = tokio::task::spawn_blocking(move || groups.give_up()).await;
        };
        let appliance = Arc::clone(self);
        let handler = move |request: ApplianceRequest, progress: ProgressSink| {
            let appliance = Arc::clone(&appliance);
            async move {
                let answer = tokio::task::spawn_blocking(move || appliance.answer(request, &progress)).await;
                answer.unwrap_or_else(|e| {
                    Err(ControlError::failed(format!("the appliance failed at it: {e}")).hint("see its log"))
                })
            }
        };
        serve(listener, handler, shutdown).await;
        watching.abort();
        let appliance = Arc::clone(self);
        tokio::task::spawn_blocking(move || appliance.close())
            .await
            .map_err(|e| ControlError::failed(format!("closing was not completed: {e}")))
    }

    async fn watch_space(self: Arc<Self>) {
        let mut watch = Watch::default();
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let folders: Vec<PathBuf> = self.groups.all().iter().map(|held| held.entry().journal).collect();
            watch.look(folders, &self.events);
        }
    }

    /// Links first, so that nothing more comes; then images, which read journals; then the journals.
    fn close(&self) {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(links) = &mut links {
            links.stop();
        }
        if let Err(error) = self.images.close(None, true) {
            tracing::error!(%error, "failed to close the images");
        }
        self.groups.close();
        if let Some(links) = links {
            links.wait();
        }
        tracing::info!("the appliance is down");
        self.events.tell(News::new(EventKind::Stopped, "the appliance was asked to end, and did"));
        // Waits until it is written: the process ends.
        self.events.read(EventsAsk { after: None, newest: 0 });
    }

    /// Answers one request; blocks.
    pub fn answer(&self, request: ApplianceRequest, progress: &ProgressSink) -> Result<Answer, ControlError> {
        match request {
            ApplianceRequest::Status => Ok(Answer::Appliance(ApplianceStatus {
                pid: std::process::id(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                groups: self.groups.status(None)?,
                images: self.images.list(),
            })),
            ApplianceRequest::GroupCreate { name, journal } => {
                let (outcome, held) = self.groups.create(&name, journal.as_deref())?;
                Ok(Answer::Group { outcome, group: held.status() })
            }
            ApplianceRequest::GroupRemove { name } => self.remove_group(&name),
            ApplianceRequest::GroupStatus { name } => {
                Ok(Answer::Groups { groups: self.groups.status(name.as_deref())? })
            }
            ApplianceRequest::GroupSet { group, settings, dry_run } => self.groups.set(&group, &settings, dry_run),
            ApplianceRequest::AttachVolume(ask) => self.groups.attach(&ask).map(Answer::Attached),
            ApplianceRequest::DetachVolume { group_id, volume_id, undo } => {
                let (outcome, message) = self.groups.detach(&group_id, &volume_id, undo)?;
                Ok(Answer::Done { outcome, message })
            }
            ApplianceRequest::BookmarkAdd { group, name, hold_until_ns } => {
                self.add_bookmark(&group, &name, hold_until_ns, progress)
            }
            ApplianceRequest::BookmarkHold { group, name, until_ns } => {
                let (outcome, bookmark) =
                    self.groups.hold(&group, Name::parse(Named::Bookmark, &name)?.as_str(), until_ns)?;
                Ok(Answer::Bookmark { outcome, bookmark })
            }
            ApplianceRequest::BookmarkList { group } => {
                Ok(Answer::Bookmarks { bookmarks: self.groups.named(&group)?.bookmarks()? })
            }
            ApplianceRequest::BookmarkRemove { group, name } => self.remove_bookmark(&group, &name),
            ApplianceRequest::PointList { group } => Ok(Answer::Points(self.groups.named(&group)?.timeline()?)),
            ApplianceRequest::ImageOpen { group, point, rw, volume, any_point } => {
                let held = self.groups.named(&group)?;
                let ask = OpenImage { point, rw, volume, any_point };
                Ok(Answer::Images { images: self.images.open(&held, &ask)? })
            }
            ApplianceRequest::ImageList => Ok(Answer::Images { images: self.images.list() }),
            ApplianceRequest::ImageClose { which, force } => {
                let closed = self.images.close(which.as_deref(), force)?;
                let outcome = if closed == 0 { Outcome::AlreadySo } else { Outcome::Changed };
                Ok(Answer::Done { outcome, message: format!("{closed} image devices closed") })
            }
            ApplianceRequest::RollbackPlan { group, point, any_point } => self.plan_rollback(&group, point, any_point),
            ApplianceRequest::Rollback { group, point, force, any_point } => {
                self.roll_back(&group, point, force, any_point, progress)
            }
            ApplianceRequest::JournalStatus { group } => {
                Ok(Answer::Journals { journals: self.groups.journals(group.as_deref())? })
            }
            ApplianceRequest::JournalVerify { group } => {
                self.groups.named(&group)?.verify(progress).map(Answer::Verified)
            }
            ApplianceRequest::JournalTrim { group, to, dry_run } => {
                let (outcome, trim) = self.groups.trim(&group, to, dry_run)?;
                Ok(Answer::JournalTrim { outcome, trim })
            }
            ApplianceRequest::Events(ask) => Ok(Answer::Events(self.events.read(ask))),
            ApplianceRequest::Stop { force } => {
                if !force {
                    self.images.all_idle()?;
                }
                self.stop.send_replace(true);
                Ok(Answer::Done { outcome: Outcome::Changed, message: "the appliance stops".to_owned() })
            }
        }
    }

    fn remove_group(&self, name: &str) -> Result<Answer, ControlError> {
        let images = self.images.of_group(name);
        if images > 0 {
            return Err(ControlError::refused(format!("group {name} has {images} open images"))
                .hint("undisk image close DEVICE"));
        }
        self.groups.remove(name)?;
        Ok(Answer::Done { outcome: Outcome::Changed, message: format!("group {name} and its history are gone") })
    }

    fn add_bookmark(
        &self,
        group: &str,
        name: &str,
        hold_until_ns: Option<u64>,
        progress: &ProgressSink,
    ) -> Result<Answer, ControlError> {
        let name = Name::parse_new_bookmark(name)?;
        if let Some(until) = hold_until_ns {
            in_time_to_come(&format!("hold bookmark {name} of group {group}"), until)?;
        }
        let shown = name.to_string();
        let held = self.groups.named(group)?;
        let open = held.open()?;
        let (answer, outcome) = sync_channel(1);
        let (sink, ticket) = (progress.clone(), random_ticket());
        open.call(move |group| group.add_bookmark(name.as_str(), ticket, sink, answer))??;
        // Its own deadlines end this, or the end of the group's thread.
        let mut bookmark = outcome.recv().map_err(|_| closing(group))??;
        if let Some(until) = hold_until_ns {
            // The bookmark first: a hold on a bookmark that is not there would come over the next one of its name.
            (_, bookmark) = self.groups.hold(group, &shown, until).map_err(|error| {
                let message = format!("bookmark {shown} is there, but not held: {}", error.message);
                ControlError::new(error.kind, message).hint(format!("undisk bookmark hold {group} {shown} --until ..."))
            })?;
        }
        Ok(Answer::Bookmark { outcome: Outcome::Created, bookmark })
    }

    fn remove_bookmark(&self, group: &str, name: &str) -> Result<Answer, ControlError> {
        Name::parse(Named::Bookmark, name)?;
        if self.groups.remove_bookmark(group, name)? {
            let message = format!("bookmark {name} of group {group} is removed; the history stays");
            Ok(Answer::Done { outcome: Outcome::Changed, message })
        } else {
            Err(ControlError::not_found(format!("group {group} has no bookmark '{name}'"))
                .hint(format!("undisk bookmark list {group}")))
        }
    }

    fn plan_rollback(&self, group: &str, point: PointSpec, any_point: bool) -> Result<Answer, ControlError> {
        let held = self.groups.named(group)?;
        let doing = format!("plan a rollback to {group}@{point}");
        let journal = held.open()?.journal();
        let target = resolve(journal, &doing, &point.into(), any_point)?;
        let changed = journal.changed_set(target).map_err(|e| point_error(&doing, &e))?;
        // Only told: without a splitter the plan is as true.
        let devices = self.devices(group).unwrap_or_default();
        Ok(Answer::RollbackPlan(rollback_plan(group, journal, &changed, devices)))
    }

    fn roll_back(
        &self,
        group: &str,
        point: PointSpec,
        force: bool,
        any_point: bool,
        progress: &ProgressSink,
    ) -> Result<Answer, ControlError> {
        let held = self.groups.named(group)?;
        let doing = format!("roll back to {group}@{point}");
        let target = resolve(held.open()?.journal(), &doing, &point.into(), any_point)?;
        let devices = match self.devices(group) {
            Ok(devices) => devices,
            // Whoever forces it need not have it checked who uses what.
            Err(_) if force => Vec::new(),
            Err(error) => {
                let message = format!("cannot {doing}: cannot tell who uses the volumes: {}", error.message);
                let mut named = ControlError::new(error.kind, message);
                named.hint = error.hint;
                return Err(named);
            }
        };
        if !force {
            Self::volumes_idle(&doing, &held, &devices)?;
        }
        let journal = held.open()?.journal();
        let changed = journal.changed_set(target).map_err(|e| point_error(&doing, &e))?;
        let what = "reading what will be brought back";
        journal
            .check_restorable(&changed, |done| {
                progress.report(Progress { what: what.to_owned(), done, total: changed.bytes });
            })
            .map_err(|e| journal_error(&doing, &e))?;
        let (answer, outcome) = sync_channel(1);
        let order = Order { target, ticket: random_ticket(), progress: progress.clone(), answer };
        held.open()?.call(move |group| group.roll_back(order))??;
        let mut done = outcome.recv().map_err(|_| closing(group))??;
        done.plan.devices = devices;
        Ok(Answer::RolledBack(done))
    }

    fn volumes_idle(doing: &str, held: &Held, devices: &[PathBuf]) -> Result<(), ControlError> {
        for device in devices {
            let uses = uses_of(device).map_err(|e| {
                ControlError::failed(format!("cannot {doing}: cannot look who uses {}: {e}", device.display()))
            })?;
            if !uses.is_empty() {
                return Err(ControlError::refused(format!(
                    "cannot {doing}: {} of group {} is in use: {}; nothing was changed",
                    device.display(),
                    held.entry().name,
                    describe(&uses)
                ))
                .hint(
                    "unmount it and end those that hold it, or give --force (a mounted file system will be corrupted)",
                ));
            }
        }
        Ok(())
    }

    /// The devices of a group's volumes, which only their splitters on this host know.
    fn devices(&self, group: &str) -> Result<Vec<PathBuf>, ControlError> {
        let mut devices = Vec::new();
        for name in self.paths.splitters() {
            let splitter = Client::new(Daemon::Splitter, self.paths.splitter_socket(name.as_deref()));
            let status = match splitter.ask(&SplitterRequest::Status, SPLITTER_PATIENCE, |_| ())? {
                Answer::Splitter(status) => status,
                other => {
                    return Err(ControlError::new(
                        Kind::Failed,
                        format!("the splitter answered something else: {other:?}"),
                    ));
                }
            };
            let own = status.volumes.into_iter().filter(|volume| volume.group == group);
            devices.extend(own.map(|volume| volume.device));
        }
        Ok(devices)
    }
}

fn closing(group: &str) -> ControlError {
    ControlError::failed(format!(
        "group {group} was closed meanwhile; whether it was done, tells: undisk point list {group}"
    ))
}

/// Ties a record to a request; never 0, which stands for none.
fn random_ticket() -> u64 {
    uuid::Uuid::new_v4().as_u64_pair().0 | 1
}
