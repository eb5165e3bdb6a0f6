//! Making a journal, and opening one.
//!
//! Owns the order of the steps: what must be durable before the next begins, and before anybody is answered.

use super::{Journal, Restore, bare};
use crate::checkpoints::{self, Checkpoints};
use crate::device::{Disk, RealDisk};
use crate::error::JournalError;
use crate::lock::{lock, read};
use crate::mark::TailMark;
use crate::notes::RecoveryNote;
use crate::open;
use crate::place::{RESTORE, SEGMENTS, SUPERBLOCK, SegmentNumber};
use crate::reader::{Core, Reader};
use crate::restore;
use crate::rollback;
use crate::state::State;
use crate::status::RecoveryReport;
use crate::superblock::{Replica, Retained, Superblock, SuperblockFile};
use crate::tail::{Beginning, Tail};
use record::fault::{Bug, bug};
use record::geometry::BLOCK_BYTES;
use record::ids::{GroupId, Incarnation, JournalId};
use record::member::{NAME_BYTES_MAX, SessionNote};
use record::op::Op;
use record::position::{Label, Position};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex};

/// A journal that is to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Create {
    /// Its id, random, never used before.
    pub journal: JournalId,
    /// The group.
    pub group: GroupId,
    /// The group's name, at most 127 bytes.
    pub group_name: String,
    /// When.
    pub now: Label,
    /// Bytes of a segment: a multiple of 4096, at least 1 MiB.
    pub segment_bytes: u64,
}

impl Create {
    /// Bytes of a segment unless told otherwise.
    pub const SEGMENT_BYTES: u64 = 64 << 20;
    /// Fewest bytes of a segment.
    pub const SEGMENT_BYTES_MIN: u64 = 1 << 20;
    /// Most bytes of a segment: its chunks are found by a 32-bit number of 4 KiB blocks.
    pub const SEGMENT_BYTES_MAX: u64 = 1 << 36;
}

/// An opened journal, and what opening it found.
#[derive(Debug)]
pub struct Opened {
    /// The journal.
    pub journal: Journal,
    /// What was found.
    pub report: RecoveryReport,
}

impl Journal {
    /// Makes a journal in a directory, which is made too if need be. Refused where one is already.
    pub fn create(directory: &Path, create: &Create) -> Result<(), JournalError> {
        let disk = RealDisk::new(directory);
        std::fs::create_dir_all(directory).map_err(|source| JournalError::Io {
            journal: disk.describe(),
            doing: "make the directory".into(),
            source,
        })?;
        Self::create_on(&disk, create)
    }

    /// The same on any disk.
    pub fn create_on(disk: &dyn Disk, create: &Create) -> Result<(), JournalError> {
        let segment_bytes = create.segment_bytes;
        if !(Create::SEGMENT_BYTES_MIN..=Create::SEGMENT_BYTES_MAX).contains(&segment_bytes)
            || !segment_bytes.is_multiple_of(BLOCK_BYTES as u64)
        {
            return Err(JournalError::Refused(format!(
                "segments of {segment_bytes} bytes: a multiple of 4096 from {} to {} is needed",
                Create::SEGMENT_BYTES_MIN,
                Create::SEGMENT_BYTES_MAX
            )));
        }
        if create.group_name.is_empty() || create.group_name.len() > NAME_BYTES_MAX {
            return Err(JournalError::Refused(format!("the group's name must have 1 to {NAME_BYTES_MAX} bytes")));
        }
        let _guard = take(disk)?;
        let io = |doing: &str, source| JournalError::Io { journal: disk.describe(), doing: doing.into(), source };
        let names = disk.list("").map_err(|source| io("list the directory", source))?;
        if names.iter().any(|name| name == SUPERBLOCK) {
            return Err(JournalError::AlreadyExists { journal: disk.describe() });
        }
        for folder in [SEGMENTS, RESTORE] {
            let there = match disk.list(folder) {
                Ok(names) => !names.is_empty(),
                Err(error) if error.kind() == ErrorKind::NotFound => false,
                Err(source) => return Err(io("list the directory", source)),
            };
            if there {
                return Err(JournalError::Refused(format!(
                    "{} has files in {folder} but no superblock: remains of a journal; nothing was changed, move them \
                     away or choose another directory",
                    disk.describe()
                )));
            }
            disk.make_folder(folder).map_err(|source| io("make a folder", source))?;
        }
        let first = Superblock {
            generation: 0,
            journal: create.journal,
            group: create.group,
            group_name: create.group_name.clone(),
            segment_bytes,
            created: create.now,
            last_segment: SegmentNumber::new(0),
            clean: true,
            mark: TailMark { label: create.now, ..TailMark::START },
            retained: Retained::ALL,
            thinned: false,
            replica: Replica::Lower,
        };
        SuperblockFile::create(disk, first).map_err(|source| io("write the superblock", source))
    }

    /// Opens the journal in a directory: takes it for this process, recovers (PROTOCOL R26), begins an epoch.
    pub fn open(directory: &Path) -> Result<Opened, JournalError> {
        let disk = RealDisk::new(directory);
        // A directory that is not there holds no journal; the lock would say something less helpful.
        if !directory.join(SUPERBLOCK).exists() {
            return Err(JournalError::NotAJournal { journal: disk.describe() });
        }
        Self::open_on(Arc::new(disk))
    }

    /// The same on any disk.
    pub fn open_on(disk: Arc<dyn Disk>) -> Result<Opened, JournalError> {
        let guard = take(disk.as_ref())?;
        let io = |doing: &str, source| JournalError::Io { journal: disk.describe(), doing: doing.into(), source };
        open::wait_for_writers(disk.as_ref())?;
        let mut found = open::find(&disk, true)?;
        open::remove_unfinished(disk.as_ref())?;
        if !bug(Bug::RecoveryUnsynced) {
            open::sync_kept(disk.as_ref(), &found.scan)?;
        }
        let mut report = found.report();
        let file = SuperblockFile::open(disk.as_ref(), found.slots.current.clone());
        let file = file.map_err(|source| io("open the superblock", source))?;
        let place = found.append_at();
        let stream_known = found.decision.stream_known;
        let mut tail = Tail::new(disk.clone(), file, &found.tail());
        tail.put_beginning(Beginning { clean: report.clean, stream_known });
        tail.mark_open().map_err(|source| io("write the superblock", source))?;
        // Both slots say durably what is the journal's before anything goes that is not (ENGINE 25): the one that was read may be
        // a killed process's, which a power cut takes back.
        open::remove_given_back(disk.as_ref(), &found.slots.current)?;
        checkpoints::remove_others(disk.as_ref(), &found.checkpoints)?;
        if let Some((place, bytes)) = place {
            let footer = found.footer_of(place.segment);
            tail.resume(place, bytes, footer).map_err(|source| io("open the newest segment", source))?;
        }
        found.state.tidy_index();
        let restore = Self::load_restore(disk.as_ref(), found.slots.current.journal, &found.state, &mut report)?;
        if !stream_known {
            found.state.sessions.end();
        }
        let checkpoints = Checkpoints::new(disk.clone(), found.slots.current.journal, found.checkpoints);
        let core = Core::new(disk, &found.slots.current, found.state, true);
        let journal = Self {
            reader: Reader { core: Arc::new(core) },
            tail: Mutex::new(tail),
            restore: Mutex::new(restore),
            checkpoints: Mutex::new(checkpoints),
            moving: Mutex::default(),
            following: Mutex::default(),
            folded: AtomicU64::new(0),
            given_up: AtomicBool::new(false),
            compaction: Mutex::default(),
            written: AtomicU64::new(0),
            guard: Mutex::new(Some(guard)),
        };
        journal.find_replicas()?;
        match journal.begin_epoch(&mut lock(&journal.tail)) {
            // No room for it now: what is there can be read; nothing is taken until it is there.
            Ok(()) | Err(JournalError::NoSpace { .. }) => {}
            Err(error) => return Err(error),
        }
        report.epoch = lock(&journal.tail).mark().epoch;
        Ok(Opened { journal, report })
    }

    /// Sees to it that the epoch has begun: RECOVERY, durable, in front of everything else that is appended.
    /// Everything in front of it is committed.
    pub(super) fn begin_epoch(&self, tail: &mut Tail) -> Result<(), JournalError> {
        let Some(beginning) = tail.take_beginning() else { return Ok(()) };
        let note = RecoveryNote { clean: beginning.clean }.encode();
        let mut records = vec![(bare(Op::Recovery, Incarnation::NONE), note)];
        if !beginning.stream_known {
            let state = read(&self.reader.core.state);
            for at in state.sessions.streams().iter() {
                let life = state.sessions.life(at.splitter);
                let lost = SessionNote { session: at.session, splitter: at.splitter, life, clean: false };
                records.push((bare(Op::SessionLost, Incarnation::NONE), lost.encode()));
            }
        }
        match self.append_own(tail, &records, None, Label::default()) {
            Ok(_) => {
                if beginning.stream_known {
                    tail.nothing_owed();
                }
                Ok(())
            }
            Err(error) => {
                tail.put_beginning(beginning);
                Err(error)
            }
        }
    }

    fn load_restore(
        disk: &dyn Disk,
        journal: JournalId,
        state: &State,
        report: &mut RecoveryReport,
    ) -> Result<Restore, JournalError> {
        let io = |doing: &str, source| JournalError::Io { journal: disk.describe(), doing: doing.into(), source };
        let maps = restore::load_all(disk, journal).map_err(|source| io("read restore maps", source))?;
        let mut restore = Restore::default();
        for (id, map) in maps {
            if id != state.last_rollback {
                if id > state.last_rollback {
                    report.discarded_restore_maps.push(id);
                }
                restore::remove(disk, id).map_err(|source| io("remove a restore map", source))?;
                continue;
            }
            let map = if let Some(map) = map {
                map
            } else {
                report.alarms.push(format!(
                    "journal {}: the restore map of rollback {id} is damaged; all that any rollback changed is \
                     restored again",
                    disk.describe()
                ));
                let target = state.timeline.rollbacks().last().map_or(Position::ORIGIN, |r| r.target);
                let map = restore::map_of(id, target, rollback::owed_at_most(state));
                restore::store(disk, journal, &map).map_err(|source| io("write a restore map", source))?;
                map
            };
            if map.extents.is_empty() {
                restore::remove(disk, id).map_err(|source| io("remove a restore map", source))?;
            } else {
                restore.pending = Some(map);
            }
        }
        Ok(restore)
    }
}

/// Takes the directory for this process.
fn take(disk: &dyn Disk) -> Result<Box<dyn Send + Sync>, JournalError> {
    disk.lock().map_err(|source| match source.kind() {
        ErrorKind::WouldBlock => JournalError::InUse { journal: disk.describe() },
        _ => JournalError::Io { journal: disk.describe(), doing: "lock the directory".into(), source },
    })
}
