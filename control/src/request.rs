//! The questions. One request a connection; the answer may be preceded by progress.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What the splitter of a host can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum SplitterRequest {
    /// How it is: answers `Answer::Splitter`.
    Status,
    /// Serve a new volume: answers `Answer::Volume`.
    VolumeCreate(VolumeCreate),
    /// Stop serving a volume and forget it; backing, journal and history stay: answers `Answer::Done`.
    VolumeRemove {
        /// Its name.
        name: String,
        /// Even while the device is open or mounted.
        force: bool,
    },
    /// Read again what the journal lacks of the group and make its history whole: answers `Answer::Done` when it has
    /// begun.
    GroupResync {
        /// The group's name.
        group: String,
        /// Read everything, not only what is known to be missing.
        full: bool,
    },
    /// Change how the group is protected: answers `Answer::GroupSet`. All of it, or nothing.
    GroupSet {
        /// The group's name.
        group: String,
        /// `KEY=VALUE`, as typed.
        settings: Vec<String>,
        /// Only check; change nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// Record no writes of the group until it is resumed, only what they touched: answers `Answer::Done`.
    GroupPause {
        /// The group's name.
        group: String,
    },
    /// Record the group's writes again; what was touched meanwhile is resynchronised: answers `Answer::Done`.
    GroupResume {
        /// The group's name.
        group: String,
    },
    /// Compare a volume with its newest image while hosts write: answers `Answer::VolumeVerified`, after progress.
    VolumeVerify {
        /// Its name.
        name: String,
        /// Record the volume's content again where it differs.
        repair: bool,
    },
    /// What happened: answers `Answer::Events`.
    Events(EventsAsk),
    /// Drain, record fingerprints, take the devices down and exit: answers `Answer::Done` before the exit.
    Stop {
        /// Even while a device is open or mounted.
        force: bool,
    },
}

/// A volume to be served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeCreate {
    /// Its name.
    pub name: String,
    /// File or block device that holds the content; absolute.
    pub backing: PathBuf,
    /// Make the backing file, of this many bytes (a whole number of 4096). `None`: it exists already.
    pub create_bytes: Option<u64>,
    /// Its group; without one it gets a group of its own, with its name.
    pub group: Option<String>,
    /// Where the appliance keeps the replica (file or block device); `None`: among the group's files.
    pub replica: Option<PathBuf>,
    /// The N of `/dev/ublkbN`; `None`: the lowest free one.
    pub dev_id: Option<u32>,
    /// Hardware queues; 1 unless told.
    pub queues: Option<u16>,
    /// Check everything, do nothing, and tell what it would take: answers `Answer::VolumePlan`.
    pub dry_run: bool,
}

/// Which events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EventsAsk {
    /// Only those with a higher number than this one; `None`: from the oldest that is kept.
    pub after: Option<u64>,
    /// The newest of them, so many at most.
    pub newest: u32,
}

/// What the appliance can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum ApplianceRequest {
    /// How it is: answers `Answer::Appliance`.
    Status,
    /// Make a consistency group: answers `Answer::Group`.
    GroupCreate {
        /// Its name.
        name: String,
        /// Folder for its journal; `None`: among the appliance's state.
        journal: Option<PathBuf>,
    },
    /// Delete a group without volumes, its journal and all history with it: answers `Answer::Done`.
    GroupRemove {
        /// Its name.
        name: String,
    },
    /// All groups, or one: answers `Answer::Groups`.
    GroupStatus {
        /// The name of one; `None` for all.
        name: Option<String>,
    },
    /// Change what the appliance keeps of the group: answers `Answer::RetentionSet`. All of it, or nothing.
    GroupSet {
        /// The group's name.
        group: String,
        /// `KEY=VALUE`, as typed.
        settings: Vec<String>,
        /// Only check; change nothing.
        dry_run: bool,
    },
    /// A splitter brings a volume: answers `Answer::Attached`. Repeating it is harmless.
    AttachVolume(AttachVolume),
    /// A splitter takes a volume away (LEAVE); history stays: answers `Answer::Done`.
    DetachVolume {
        /// The group's id.
        group_id: String,
        /// The volume's id.
        volume_id: String,
        /// The attaching failed half-way: leave no trace, remove the group as well if this attach made it.
        undo: bool,
    },
    /// Name the present moment: answers `Answer::Bookmark`. Waits for initial synchronisation.
    BookmarkAdd {
        /// The group's name.
        group: String,
        /// The bookmark's name.
        name: String,
        /// Let nobody remove it before this time.
        #[serde(default)]
        hold_until_ns: Option<u64>,
    },
    /// Let nobody remove a bookmark before this time: answers `Answer::Bookmark`.
    BookmarkHold {
        /// The group's name.
        group: String,
        /// The bookmark's name.
        name: String,
        /// Until when; not before an earlier hold's end.
        until_ns: u64,
    },
    /// All bookmarks of a group: answers `Answer::Bookmarks`.
    BookmarkList {
        /// The group's name.
        group: String,
    },
    /// Forget a bookmark; refused while it is held: answers `Answer::Done`.
    BookmarkRemove {
        /// The group's name.
        group: String,
        /// The bookmark's name.
        name: String,
    },
    /// The timeline of a group: answers `Answer::Points`.
    PointList {
        /// The group's name.
        group: String,
    },
    /// Open a past moment as devices: answers `Answer::Images`.
    ImageOpen {
        /// The group's name.
        group: String,
        /// Which moment.
        point: crate::point::PointSpec,
        /// Writable, over a throw-away overlay.
        rw: bool,
        /// Only this volume.
        volume: Option<String>,
        /// Also a moment that is no barrier, of a group that several splitters serve.
        any_point: bool,
    },
    /// All open images: answers `Answer::Images`.
    ImageList,
    /// Close images: answers `Answer::Done`.
    ImageClose {
        /// A device path, an image's id, or `GROUP@POINT` as given at opening; `None`: all.
        which: Option<String>,
        /// Even while the device is open or mounted.
        force: bool,
    },
    /// What a rollback would do: answers `Answer::RollbackPlan`.
    RollbackPlan {
        /// The group's name.
        group: String,
        /// Which moment.
        point: crate::point::PointSpec,
        /// Also a moment that is no barrier, of a group that several splitters serve.
        any_point: bool,
    },
    /// Roll the production volumes back: answers `Answer::RolledBack`.
    Rollback {
        /// The group's name.
        group: String,
        /// Which moment.
        point: crate::point::PointSpec,
        /// Even while a device is open or mounted.
        force: bool,
        /// Also a moment that is no barrier, of a group that several splitters serve.
        any_point: bool,
    },
    /// What a journal holds: answers `Answer::Journals`.
    JournalStatus {
        /// One group; `None` for all.
        group: Option<String>,
    },
    /// Check every checksum of a journal: answers `Answer::Verified`.
    JournalVerify {
        /// The group's name.
        group: String,
    },
    /// Give up the oldest points of a group: answers `Answer::JournalTrim`.
    JournalTrim {
        /// The group's name.
        group: String,
        /// Which.
        to: TrimTo,
        /// Only say what would be given up.
        dry_run: bool,
    },
    /// What happened: answers `Answer::Events`.
    Events(EventsAsk),
    /// Close journals cleanly and exit: answers `Answer::Done` before the exit.
    Stop {
        /// Even while image devices are open or mounted.
        force: bool,
    },
}

/// Which points are given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "to", rename_all = "kebab-case")]
pub enum TrimTo {
    /// All before this one.
    Before {
        /// It stays.
        point: crate::point::PointSpec,
    },
    /// As many of the oldest as it takes until the journal has no more bytes than these.
    Size {
        /// Bytes.
        bytes: u64,
    },
    /// Those that the policy would give up as well: they are older than the window.
    Window,
}

/// A volume that a splitter brings to the appliance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttachVolume {
    /// The group's name; made when there is none and `create_group`.
    pub group: String,
    /// Whether to make the group.
    pub create_group: bool,
    /// The volume's id (32 hexadecimal digits).
    pub volume_id: String,
    /// The volume's name.
    pub name: String,
    /// Its size in sectors of 512 bytes.
    pub sectors: u64,
    /// Its logical block size in bytes.
    pub block_bytes: u32,
    /// The id of the splitter that serves it (32 hexadecimal digits).
    pub splitter_id: String,
    /// What people call that splitter.
    pub splitter: String,
    /// Where the replica goes; `None`: among the group's files.
    pub replica: Option<PathBuf>,
    /// Only check; change nothing.
    pub dry_run: bool,
}
