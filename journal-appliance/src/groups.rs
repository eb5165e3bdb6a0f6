//! All groups of the appliance: found at start, made, joined, left, removed.
//!
//! Owns the catalog's groups and the order in which catalog, files and journal change, so that a crash in between
//! leaves either nothing or something that the next start repairs: the catalog names a file before it is made, and a
//! journal's JOIN and LEAVE are the truth about members. One group that cannot be opened is a trouble of its own;
//! the others are served.

mod attach;
mod keeping;
mod status;

pub use keeping::in_time_to_come;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use control::answer::Outcome;
use control::error::ControlError;
use control::events::{EventKind, Events, News};
use control::name::{Name, Named};
use control::paths::Paths;
use journal::place::{FOLDERS, SUPERBLOCK, is_own};
use journal::{Create, Journal, JournalError, Member, Opened, RecoveryReport};
use record::ids::{GroupId, JournalId};

use crate::catalog::{Catalog, CatalogError, GroupEntry, MemberEntry};
use crate::events::damaged;
use crate::group::retention::Keep;
use crate::group::{GroupHandle, LostReplica, journal_error, now_label};
use crate::intake::link::{LinkEvent, Route};
use crate::policy::Policy;

/// How long a dead process's writes to a journal may take to end.
const DRAIN_PATIENCE: Duration = Duration::from_secs(60);
const DRAIN_POLL: Duration = Duration::from_millis(50);

/// A group: its files, and its thread if the journal could be opened.
#[derive(Debug)]
pub struct Held {
    entry: Mutex<GroupEntry>,
    open: Result<GroupHandle, String>,
}

/// The groups.
#[derive(Debug)]
pub struct Groups {
    paths: Paths,
    catalog: Arc<Catalog>,
    events: Events,
    table: RwLock<BTreeMap<GroupId, Arc<Held>>>,
    /// Held while membership of groups, or of the table, changes.
    change: Mutex<()>,
}

impl Held {
    /// What the catalog says of it.
    pub fn entry(&self) -> GroupEntry {
        self.entry.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The group at work, or why it is not.
    pub fn open(&self) -> Result<&GroupHandle, ControlError> {
        self.open.as_ref().map_err(|reason| {
            ControlError::failed(format!("group {} cannot be used: {reason}", self.entry().name))
                .hint("undisk journal verify; see the appliance's log")
        })
    }
}

impl Groups {
    /// Opens every group of the catalog.
    pub fn open(paths: &Paths, catalog: &Arc<Catalog>, events: &Events) -> Result<Self, ControlError> {
        let mut table = BTreeMap::new();
        for mut entry in catalog.groups().map_err(|e| catalog_error(&e))? {
            if never_made(&entry) {
                tracing::warn!(group = entry.name, "the group was never completely made; it is forgotten");
                forget_files(&entry);
                catalog.remove_group(entry.id).map_err(|e| catalog_error(&e))?;
                continue;
            }
            let open = open_group(&mut entry, catalog, events);
            if let Err(reason) = &open {
                let text = format!("the group cannot be used: {reason}");
                events.tell(News::new(EventKind::Alarm, text).group(&entry.name));
                tracing::error!(group = entry.name, reason, "failed to open the group");
            }
            table.insert(entry.id, Arc::new(Held { entry: Mutex::new(entry), open }));
        }
        Ok(Self {
            paths: paths.clone(),
            catalog: Arc::clone(catalog),
            events: events.clone(),
            table: RwLock::new(table),
            change: Mutex::new(()),
        })
    }

    /// All groups, by name.
    pub fn all(&self) -> Vec<Arc<Held>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = table.values().map(|held| (held.entry().name, Arc::clone(held))).collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all.into_iter().map(|(_, held)| held).collect()
    }

    /// The group of this name.
    pub fn named(&self, name: &str) -> Result<Arc<Held>, ControlError> {
        self.find(name)
            .ok_or_else(|| ControlError::not_found(format!("there is no group '{name}'")).hint("undisk group list"))
    }

    fn find(&self, name: &str) -> Option<Arc<Held>> {
        let table = self.table.read().unwrap_or_else(PoisonError::into_inner);
        table.values().find(|held| held.entry().name == name).cloned()
    }

    fn by_id(&self, id: GroupId) -> Option<Arc<Held>> {
        self.table.read().unwrap_or_else(PoisonError::into_inner).get(&id).cloned()
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.change.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a group, or finds it made.
    pub fn create(&self, name: &str, journal: Option<&Path>) -> Result<(Outcome, Arc<Held>), ControlError> {
        let name = Name::parse(Named::Group, name)?;
        let _changing = self.changing();
        if let Some(held) = self.find(name.as_str()) {
            let there = held.entry().journal;
            return match journal {
                Some(wanted) if wanted != there => Err(ControlError::refused(format!(
                    "there is a group '{name}' already, with its journal in {}",
                    there.display()
                ))),
                Some(_) | None => Ok((Outcome::AlreadySo, held)),
            };
        }
        let held = self.make(&name, journal, false)?;
        Ok((Outcome::Created, held))
    }

    /// Where a group's files would go, all checked; nothing is made.
    fn plan(&self, name: &Name, journal: Option<&Path>, implicit: bool) -> Result<GroupEntry, ControlError> {
        let folder = self.paths.state().join("groups").join(name.as_str());
        let journal = match journal {
            Some(path) if !path.is_absolute() => {
                return Err(ControlError::usage(format!(
                    "the journal's folder must be an absolute path, not {}",
                    path.display()
                )));
            }
            Some(path) => path.to_owned(),
            None => folder.join("journal"),
        };
        for (what, path) in [("journal", &journal), ("files", &folder)] {
            let failed = |e| ControlError::failed(format!("cannot look at {}: {e}", path.display()));
            match std::fs::read_dir(path).map(|mut entries| entries.next().is_some()) {
                Ok(true) => {
                    return Err(ControlError::refused(format!(
                        "{} is not empty, so the {what} of group {name} cannot go there; nothing was changed",
                        path.display()
                    ))
                    .hint("choose another folder, or empty it if nobody needs what is there"));
                }
                Ok(false) => {}
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(e)),
            }
        }
        Ok(GroupEntry {
            id: GroupId::from_bytes(random_id()),
            name: name.to_string(),
            journal_id: JournalId::from_bytes(random_id()),
            journal,
            folder,
            implicit,
            members: Vec::new(),
            retention: Policy::default(),
            holds: Vec::new(),
        })
    }

    fn make(&self, name: &Name, journal: Option<&Path>, implicit: bool) -> Result<Arc<Held>, ControlError> {
        let mut entry = self.plan(name, journal, implicit)?;
        let doing = format!("make group {name}");
        // The catalog first: what is found half made at the next start has a name by which it can be removed.
        self.catalog.put_group(&entry).map_err(|e| catalog_error(&e))?;
        let made = make_files(&entry).and_then(|()| {
            open_group(&mut entry, &self.catalog, &self.events)
                .map_err(|reason| ControlError::failed(format!("cannot {doing}: {reason}")))
        });
        match made {
            Ok(open) => {
                let held = Arc::new(Held { entry: Mutex::new(entry.clone()), open: Ok(open) });
                self.table.write().unwrap_or_else(PoisonError::into_inner).insert(entry.id, Arc::clone(&held));
                tracing::info!(group = entry.name, journal = %entry.journal.display(), "a group was made");
                Ok(held)
            }
            Err(error) => {
                forget_files(&entry);
                if let Err(e) = self.catalog.remove_group(entry.id) {
                    tracing::error!(group = entry.name, error = %e, "failed to forget a group that could not be made");
                }
                Err(error)
            }
        }
    }

    /// Removes a group without volumes, its journal and all history.
    pub fn remove(&self, name: &str) -> Result<(), ControlError> {
        let _changing = self.changing();
        let held = self.named(name)?;
        held.nothing_held(&format!("remove group {name}"))?;
        match &held.open {
            Ok(open) => {
                let members = open.journal().members();
                let current: Vec<_> = members.iter().filter(|m| m.left.is_none()).map(|m| m.name.as_str()).collect();
                if !current.is_empty() {
                    return Err(ControlError::refused(format!(
                        "group {name} still has volumes: {}",
                        current.join(", ")
                    ))
                    .hint(format!("undisk volume remove {}", current[0])));
                }
            }
            Err(reason) => may_be_removed_unread(&held.entry(), reason)?,
        }
        self.unmake(&held)
    }

    /// Ends a group and deletes what was made for it.
    fn unmake(&self, held: &Held) -> Result<(), ControlError> {
        let entry = held.entry();
        self.table.write().unwrap_or_else(PoisonError::into_inner).remove(&entry.id);
        close(held);
        forget_files(&entry);
        self.catalog.remove_group(entry.id).map_err(|e| catalog_error(&e))?;
        tracing::info!(group = entry.name, "a group was removed");
        Ok(())
    }

    /// Ends the waiting of operators' requests: the appliance ends.
    pub fn give_up(&self) {
        for held in self.all() {
            if let Ok(open) = &held.open
                && let Err(error) = open.call(crate::group::Group::give_up)
            {
                tracing::warn!(%error, "requests of a group are still waiting");
            }
        }
    }

    /// Closes every journal.
    pub fn close(&self) {
        let _changing = self.changing();
        let table = std::mem::take(&mut *self.table.write().unwrap_or_else(PoisonError::into_inner));
        for held in table.into_values() {
            close(&held);
        }
    }

    /// The replicas of all groups.
    fn replicas(&self) -> Vec<PathBuf> {
        self.all().iter().flat_map(|held| held.entry().members).map(|member| member.replica).collect()
    }
}

impl Route for Groups {
    fn deliver(&self, group: GroupId, event: LinkEvent, last: bool) -> Result<(), (bool, String)> {
        let held = self.by_id(group).ok_or_else(|| (false, format!("this appliance has no group {group}")))?;
        match &held.open {
            Ok(open) => open.deliver(event, last),
            Err(reason) => Err((true, format!("group {} cannot be used: {reason}", held.entry().name))),
        }
    }
}

/// Whether a group got no further than the catalog. A journal that lies elsewhere may only not be mounted yet.
fn never_made(entry: &GroupEntry) -> bool {
    entry.members.is_empty() && entry.journal.starts_with(&entry.folder) && !entry.journal.join(SUPERBLOCK).exists()
}

/// Who is in a group, only its journal knows: one that cannot be read may belong to volumes that are being served.
fn may_be_removed_unread(entry: &GroupEntry, reason: &str) -> Result<(), ControlError> {
    if entry.members.is_empty() {
        return Ok(());
    }
    let volumes: Vec<_> = entry.members.iter().map(|member| member.name.as_str()).collect();
    Err(ControlError::refused(format!(
        "group {} cannot be removed: it had the volumes {}, and whether they left cannot be told: {reason}; nothing was \
         changed",
        entry.name,
        volumes.join(", ")
    ))
    .hint(format!("see that {} is there and mounted, then undisk down, undisk up", entry.journal.display())))
}

fn make_files(entry: &GroupEntry) -> Result<(), ControlError> {
    control::paths::make_private_dir(&entry.folder)?;
    if let Some(parent) = entry.journal.parent() {
        std::fs::create_dir_all(parent)
            .map_err(|e| ControlError::failed(format!("cannot make the folder {}: {e}", parent.display())))?;
    }
    let create = Create {
        journal: entry.journal_id,
        group: entry.id,
        group_name: entry.name.clone(),
        now: now_label(),
        segment_bytes: segment_bytes(&entry.journal),
    };
    Journal::create(&entry.journal, &create)
        .map_err(|e| journal_error(&format!("make the journal of group {}", entry.name), &e))
}

/// Bytes of a segment: the usual ones, but no more than a 64th of a small file system.
fn segment_bytes(journal: &Path) -> u64 {
    let there = journal.ancestors().find(|a| a.exists()).unwrap_or(Path::new("/"));
    let total = crate::housekeeping::space(there).map_or(u64::MAX, |space| space.total);
    let mut bytes = Create::SEGMENT_BYTES;
    while bytes > Create::SEGMENT_BYTES_MIN && bytes > total / 64 {
        bytes /= 2;
    }
    bytes
}

/// Opens a journal. Nobody else can be the appliance here, so one that is in use is held by what a dead one left in
/// flight: that is waited for (PROTOCOL R2).
fn open_journal(entry: &GroupEntry) -> Result<Opened, String> {
    let patience = Instant::now() + DRAIN_PATIENCE;
    loop {
        match Journal::open(&entry.journal) {
            Ok(opened) => return Ok(opened),
            Err(JournalError::InUse { .. }) if Instant::now() < patience => {
                tracing::debug!(group = entry.name, "waits for a dead process's writes to the journal to end");
                std::thread::sleep(DRAIN_POLL);
            }
            Err(error) => return Err(error.to_string()),
        }
    }
}

/// Opens a journal, repairs the catalog's members, attaches the replicas, starts the thread.
fn open_group(entry: &mut GroupEntry, catalog: &Catalog, events: &Events) -> Result<GroupHandle, String> {
    let opened = open_journal(entry)?;
    let (journal, report) = (opened.journal, opened.report);
    for alarm in &report.alarms {
        tracing::error!(group = entry.name, alarm, "the journal lost something that it had promised to keep");
        let text = format!("the journal lost something that it had promised to keep: {alarm}");
        events.tell(News::new(EventKind::Alarm, text).group(&entry.name));
    }
    for damage in &report.damage {
        tracing::warn!(group = entry.name, place = %damage.place, "the journal is damaged; images that need it are refused there");
        events.tell(damaged(damage).group(&entry.name));
    }
    tracing::info!(
        group = entry.name, clean = report.clean, epoch = %report.epoch, recovered = %report.recovered,
        cut = report.cut.map(|place| place.to_string()), "opened the journal"
    );
    if journal.reader().id() != entry.journal_id {
        return Err(format!(
            "{} holds the journal {}, not {} of this group; nothing was changed",
            entry.journal.display(),
            journal.reader().id(),
            entry.journal_id
        ));
    }
    drop_stale(entry, catalog, &journal.members(), &report)?;
    let lost = attach_replicas(entry, &journal);
    for replica in &lost {
        events.tell(News::new(EventKind::Alarm, replica.reason.clone()).group(&entry.name));
    }
    let keep = Keep { policy: entry.retention, folder: entry.journal.clone() };
    GroupHandle::start(&entry.name, journal, lost, keep, events).map_err(|e| e.to_string())
}

/// Forgets members that the catalog names and the journal does not: a crash came before their JOIN. A journal that
/// lost something may have lost a JOIN, so it is no witness against anybody.
fn drop_stale(
    entry: &mut GroupEntry,
    catalog: &Catalog,
    known: &[Member],
    report: &RecoveryReport,
) -> Result<(), String> {
    let intact = report.damage.is_empty() && report.alarms.is_empty();
    let unknown = |member: &MemberEntry| !known.iter().any(|m| m.incarnation == member.incarnation);
    let stale: Vec<_> = entry.members.iter().filter(|member| unknown(member)).cloned().collect();
    for member in stale {
        if !intact {
            tracing::error!(
                group = entry.name, volume = member.name, replica = %member.replica.display(),
                "what is left of the journal does not know the volume; its replica is kept"
            );
            continue;
        }
        tracing::warn!(group = entry.name, volume = member.name, "the volume never joined; its replica is removed");
        entry.members.retain(|m| m.incarnation != member.incarnation);
        if member.replica_made {
            remove_file(&member.replica);
        }
        catalog.put_group(entry).map_err(|e| e.to_string())?;
    }
    Ok(())
}

/// Attaches the replicas; those that cannot be used, with a line for the status.
fn attach_replicas(entry: &GroupEntry, journal: &Journal) -> Vec<LostReplica> {
    let mut lost = Vec::new();
    // One that left before it had joined was never shown, and its replica is gone.
    for member in journal.members().iter().filter(|m| m.joined.is_some() || m.left.is_none()) {
        let replica = entry.members.iter().find(|m| m.incarnation == member.incarnation).map(|m| m.replica.clone());
        let replica = replica.unwrap_or_else(|| crate::replica::usual_path(&entry.folder, member.incarnation.get()));
        let Err(error) = journal.attach_base(member.incarnation, &replica) else { continue };
        tracing::error!(
            group = entry.name, volume = member.name, replica = %replica.display(), %error,
            "the replica cannot be used; images refuse what was never written since it joined"
        );
        let cause = match error {
            JournalError::Io { source, .. } => source.to_string(),
            other => other.to_string(),
        };
        let reason = format!(
            "the replica {} of volume {} cannot be used ({cause}): images and rollbacks refuse what was never written \
             since the volume joined, everything else is right; put the file back as it was, then undisk down, undisk up",
            replica.display(),
            member.name
        );
        lost.push(LostReplica { volume: member.incarnation, reason });
    }
    lost
}

/// Ends a group's thread and closes its journal.
fn close(held: &Held) {
    let Ok(open) = &held.open else { return };
    let name = held.entry().name;
    match open.close() {
        Ok(()) => tracing::info!(group = name, "closed"),
        Err(error) => tracing::warn!(group = name, %error, "not closed cleanly; the next start recovers"),
    }
}

/// Deletes what was made for a group, and nothing else.
fn forget_files(entry: &GroupEntry) {
    for member in &entry.members {
        if member.replica_made {
            remove_file(&member.replica);
        }
    }
    for folder in FOLDERS {
        let path = entry.journal.join(folder);
        if path.exists()
            && let Err(e) = std::fs::remove_dir_all(&path)
        {
            tracing::warn!(path = %path.display(), error = %e, "failed to delete");
        }
    }
    if let Ok(files) = std::fs::read_dir(&entry.journal) {
        let ours = |name: &str| is_own(name) || name == "lock";
        for file in files.flatten().filter(|file| file.file_name().to_str().is_some_and(ours)) {
            remove_file(&file.path());
        }
    }
    for folder in [&entry.journal, &entry.folder] {
        // Not empty: something else is in there, which is not ours to delete.
        let _ = std::fs::remove_dir(folder);
    }
}

fn remove_file(path: &Path) {
    match std::fs::remove_file(path) {
        Ok(()) => {}
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => tracing::warn!(path = %path.display(), error = %e, "failed to delete"),
    }
}

fn catalog_error(error: &CatalogError) -> ControlError {
    ControlError::failed(error.to_string())
}

fn random_id() -> [u8; 16] {
    uuid::Uuid::new_v4().into_bytes()
}
