//! Points and images of a journal.
//!
//! Owns what can be asked of a journal without changing it. One that belongs to a running `Journal` sees every
//! record as soon as it is durable; one opened on a directory sees what was there when it was opened.

use crate::base::{BaseDevice, FileBase};
use crate::bodies::Bodies;
use crate::device::{Disk, RealDisk};
use crate::error::{JournalError, PointError};
use crate::files::Files;
use crate::image::Image;
use crate::lock::{read, write};
use crate::members::Member;
use crate::open;
use crate::recovery::Damage;
use crate::state::State;
use crate::status::RecoveryReport;
use crate::superblock::{self, Superblock};
use crate::timeline::{Bookmark, TimelineView};
use crate::undo::Undo;
use record::ids::{GroupId, Incarnation, JournalId};
use record::point::Point;
use record::position::{Label, Position};
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

/// A journal to read. Clones are the same journal.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(crate) core: Arc<Core>,
}

/// What readers, images and the writer share.
#[derive(Debug)]
pub(crate) struct Core {
    pub id: JournalId,
    pub group: GroupId,
    pub group_name: String,
    pub files: Files,
    pub bodies: Bodies,
    pub state: RwLock<State>,
    pub bases: RwLock<HashMap<Incarnation, Arc<dyn BaseDevice>>>,
    /// Whether bases are opened for writing.
    pub writer: bool,
    /// What replicas held before something newer was brought to them.
    pub undo: Undo,
    /// The positions that open images show, with how many.
    pub images: Mutex<BTreeMap<Position, u64>>,
}

impl Core {
    pub(crate) fn new(disk: Arc<dyn Disk>, superblock: &Superblock, state: State, writer: bool) -> Self {
        Self {
            id: superblock.journal,
            group: superblock.group,
            group_name: superblock.group_name.clone(),
            undo: Undo::new(superblock.journal, disk.clone(), writer),
            files: Files::new(disk),
            bodies: Bodies::new(superblock.journal),
            state: RwLock::new(state),
            bases: RwLock::default(),
            writer,
            images: Mutex::default(),
        }
    }

    /// The journal's directory, for messages.
    pub(crate) fn describe(&self) -> String {
        self.files.disk().describe()
    }

    /// A volume's replica.
    pub(crate) fn base(&self, volume: Incarnation) -> Option<Arc<dyn BaseDevice>> {
        read(&self.bases).get(&volume).cloned()
    }

    /// Whether what was just read of a replica is what the image at this position shows. Whoever only reads does not
    /// notice when the one writer brings the replicas past it.
    pub(crate) fn still_holds(&self, position: Position) -> Result<(), String> {
        if self.writer {
            return Ok(());
        }
        let slots = superblock::load(self.files.disk().as_ref()).map_err(|error| error.to_string())?;
        if slots.current.retained.target > position {
            return Err("the replicas have been brought past this point meanwhile".into());
        }
        Ok(())
    }

    pub(crate) fn attach(&self, volume: Incarnation, base: Arc<dyn BaseDevice>) -> Result<(), JournalError> {
        let size = {
            let state = read(&self.state);
            let member = state.members.get(volume).ok_or_else(|| self.no_member(volume))?;
            member.size.bytes()
        };
        let bytes = base.bytes().map_err(|source| self.io("look at a replica", source))?;
        if bytes < size {
            return Err(JournalError::Refused(format!(
                "the replica of volume {volume} has {bytes} bytes, the volume has {size}; nothing was changed"
            )));
        }
        write(&self.bases).insert(volume, base);
        Ok(())
    }

    pub(crate) fn no_member(&self, volume: Incarnation) -> JournalError {
        JournalError::Refused(format!("group '{}' has no member number {volume}", self.group_name))
    }

    pub(crate) fn io(&self, doing: &str, source: std::io::Error) -> JournalError {
        JournalError::Io { journal: self.describe(), doing: doing.into(), source }
    }
}

impl Reader {
    /// Opens the journal in a directory for reading, whether a daemon has it open or not. Nothing is written: an
    /// unfinished tail is left out, not cut.
    pub fn open(directory: &Path) -> Result<(Self, RecoveryReport), JournalError> {
        Self::open_on(Arc::new(RealDisk::new(directory)))
    }

    /// The same on any disk.
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<(Self, RecoveryReport), JournalError> {
        let mut found = open::find(&disk, false)?;
        // A daemon may append while we read: what looks damaged in the newest segment may only have been half there.
        for _ in 0..2 {
            let newest = found.scan.segments.last().map(|segment| segment.number);
            if !found.state.damage().0.iter().any(|damage| Some(damage.place.segment) == newest) {
                break;
            }
            found = open::find(&disk, false)?;
        }
        let report = found.report();
        let core = Core::new(disk, &found.slots.current, found.state, false);
        Ok((Self { core: Arc::new(core) }, report))
    }

    /// The journal's id.
    pub fn id(&self) -> JournalId {
        self.core.id
    }

    /// The group.
    pub fn group(&self) -> GroupId {
        self.core.group
    }

    /// The group's name.
    pub fn group_name(&self) -> &str {
        &self.core.group_name
    }

    /// Every membership there was, by incarnation; those that left included.
    pub fn members(&self) -> Vec<Member> {
        read(&self.core.state).members.all().cloned().collect()
    }

    /// The position of a point, if it can be offered. While several splitters serve the group, only barriers are points
    /// across their volumes; `any` waives that, and what an image then shows of different splitters is of no one moment.
    pub fn resolve(&self, point: &Point, any: bool) -> Result<Position, PointError> {
        let time = read(&self.core.state).timeline.time_of(point);
        let at = time.map_or(Position::ORIGIN, |time| self.core.position_at(time));
        let resolved = read(&self.core.state).timeline.resolve(point, at, any);
        resolved.map_err(|error| self.core.dated(error))
    }

    /// The last position whose label is not after this one; the origin when there is none.
    pub fn position_at(&self, label: Label) -> Position {
        self.core.position_at(label)
    }

    /// The timeline.
    pub fn timeline(&self) -> TimelineView {
        read(&self.core.state).timeline.view()
    }

    /// Bookmarks, oldest first.
    pub fn bookmarks(&self) -> Vec<Bookmark> {
        read(&self.core.state).timeline.bookmarks()
    }

    /// Whether a bookmark of that name exists.
    pub fn bookmark_exists(&self, name: &str) -> bool {
        read(&self.core.state).timeline.bookmark(name).is_some()
    }

    /// Whether anything changed since the newest point across the splitters; also when there is none.
    pub fn has_changed_since_barrier(&self) -> bool {
        let state = read(&self.core.state);
        state.timeline.last_barrier().is_none_or(|last| state.changed_behind(last))
    }

    /// The newest barrier of which every part is durable.
    pub fn whole_barrier(&self) -> Option<u64> {
        read(&self.core.state).timeline.whole_barrier()
    }

    /// What is known to be damaged; at most 1024 places.
    pub fn damage(&self) -> Vec<Damage> {
        read(&self.core.state).damage().0.to_vec()
    }

    /// The volumes at a position that can be offered.
    pub fn image(&self, position: Position) -> Result<Image, PointError> {
        // It is held before it is asked whether it can be: whoever forgets looks at what is held afterwards.
        let image = Image::at_position(&self.core, position);
        let offered = read(&self.core.state).offered(position);
        offered.map_err(|error| self.core.dated(error))?;
        Ok(image)
    }

    /// The live content, at the newest position, whether that is a point or not: what a restore reads.
    pub fn live_image(&self) -> Image {
        let head = read(&self.core.state).timeline.head().position;
        Image::at_position(&self.core, head)
    }

    /// Tells where a volume's replica is. It must be as long as the volume (a writer extends the file of one that has
    /// not joined yet); images that need a replica nobody attached refuse those sectors.
    pub fn attach_base(&self, volume: Incarnation, path: &Path) -> Result<(), JournalError> {
        let (size, joining) = {
            let state = read(&self.core.state);
            let member = state.members.get(volume).ok_or_else(|| self.core.no_member(volume))?;
            (member.size.bytes(), member.joined.is_none())
        };
        // Whatever a joined volume's replica lacks was content: zeros in its place would be shown, and restored.
        let base = if self.core.writer && joining {
            FileBase::open_joining(path, size)
        } else {
            FileBase::open(path, size, self.core.writer)
        };
        let base = base.map_err(|source| self.core.io(&format!("open the replica {}", path.display()), source))?;
        self.core.attach(volume, Arc::new(base))
    }

    /// The same with any device.
    pub fn attach_base_device(&self, volume: Incarnation, base: Arc<dyn BaseDevice>) -> Result<(), JournalError> {
        self.core.attach(volume, base)
    }
}
