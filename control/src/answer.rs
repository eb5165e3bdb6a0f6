//! The answers. Fields are integers in base units (bytes, sectors of 512 bytes, nanoseconds since 1970 UTC); the
//! command line turns them into text. `docs/formats/json.md` documents what `--json` prints of them.

pub mod kept;

use kept::{Forecast, GridStatus, ReplicaStatus, RetentionPolicy, ScrubStatus, Trim};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// Whether anything had to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is new.
    Created,
    /// It was so already; nothing was done.
    AlreadySo,
    /// Something that was there is different now.
    Changed,
}

/// What a daemon answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Answer {
    /// Done; `message` is one line for a person.
    Done { outcome: Outcome, message: String },
    /// The splitter's state.
    Splitter(SplitterStatus),
    /// The appliance's state.
    Appliance(ApplianceStatus),
    /// One volume.
    Volume { outcome: Outcome, volume: VolumeStatus },
    /// What a volume would take.
    VolumePlan(VolumePlan),
    /// One group.
    Group { outcome: Outcome, group: GroupStatus },
    /// Several groups.
    Groups { groups: Vec<GroupStatus> },
    /// A volume's membership.
    Attached(Attached),
    /// One bookmark.
    Bookmark { outcome: Outcome, bookmark: Bookmark },
    /// Several bookmarks, oldest first.
    Bookmarks { bookmarks: Vec<Bookmark> },
    /// A timeline.
    Points(Timeline),
    /// Image devices.
    Images { images: Vec<Image> },
    /// What a rollback would do.
    RollbackPlan(RollbackPlan),
    /// What a rollback did.
    RolledBack(RolledBack),
    /// What journals hold.
    Journals { journals: Vec<JournalStatus> },
    /// What a verification of a journal found.
    Verified(Verified),
    /// What a comparison of a volume with its newest image found.
    VolumeVerified(VolumeVerified),
    /// How a group is protected now; `message` is one line for a person.
    GroupSet { outcome: Outcome, message: String, policy: PolicyStatus },
    /// What the appliance keeps of a group now; `message` is one line for a person.
    RetentionSet { outcome: Outcome, message: String, retention: RetentionPolicy },
    /// What was given up of a journal, or would be.
    JournalTrim { outcome: Outcome, trim: Trim },
    /// What happened.
    Events(Events),
}

/// The state of a host's splitter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SplitterStatus {
    /// Process id.
    pub pid: u32,
    /// Release.
    pub version: String,
    /// Its id, for ever.
    pub id: String,
    /// Its name; `main` is the host's own.
    pub name: String,
    /// Its volumes, by name.
    pub volumes: Vec<VolumeStatus>,
    /// Its side of each group.
    pub groups: Vec<SplitterGroup>,
}

/// A volume as its splitter sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeStatus {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// Group.
    pub group: String,
    /// The block device.
    pub device: PathBuf,
    /// File or device with the content.
    pub backing: PathBuf,
    /// Size in bytes.
    pub bytes: u64,
    /// Logical block size in bytes.
    pub block_bytes: u32,
    /// Hardware queues.
    pub queues: u16,
    /// Whether the device is being served, and what is the matter if it is not.
    pub state: VolumeState,
    /// Initial synchronisation: bytes done and in all; `None` once joined.
    pub sync: Option<Progress>,
    /// Whether the backing frees space on a punch, or gets zeros written instead.
    pub punches: bool,
    /// What an administrator should know (the backing was written behind our back, ...); empty: nothing.
    pub warnings: Vec<String>,
    /// Requests served since start.
    pub counts: IoCounts,
}

/// How a volume is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum VolumeState {
    /// Its splitter has only just been started: it will be served, or be down with a reason.
    Starting,
    /// Served.
    Live,
    /// Host requests wait while a rollback is brought into the backing.
    Restoring,
    /// Not served.
    Down { reason: String },
}

/// Requests that a volume served.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IoCounts {
    pub reads: u64,
    pub read_bytes: u64,
    pub writes: u64,
    pub written_bytes: u64,
    pub punches: u64,
    pub punched_bytes: u64,
    pub zeroes: u64,
    pub zeroed_bytes: u64,
    pub flushes: u64,
    pub errors: u64,
}

/// How far something long is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// What is being done.
    pub what: String,
    /// Done so far, in bytes.
    pub done: u64,
    /// In all, in bytes; 0 when unknown.
    pub total: u64,
}

/// A group as its splitter sees it.
#[expect(clippy::struct_excessive_bools, reason = "each answers a question of its own")]
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SplitterGroup {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// Whether writes are being recorded.
    pub mode: GroupMode,
    /// Why not, if not.
    pub reason: Option<String>,
    /// Whether the link to the appliance stands.
    pub linked: bool,
    /// The session, 0 for none.
    pub session: u64,
    /// Stream number behind the last record laid.
    pub laid: u64,
    /// Stream number behind the last record that the appliance made durable.
    pub durable: u64,
    /// Bytes of the outbox in use, and its size.
    pub outbox_used: u64,
    pub outbox_bytes: u64,
    /// How far the journal is behind the hosts.
    pub lag: Lag,
    /// How it is protected.
    pub policy: PolicyStatus,
    /// Bytes of the volumes that the journal may lack and that a resynchronisation would read; 0 in a whole history.
    pub dirty_bytes: u64,
    /// Bytes that the newest resynchronisation has read, so far.
    pub resynced_bytes: u64,
    /// Hosts are being delayed, since the journal lags too far (`bounded-lag`).
    pub delaying: bool,
    /// Hosts of a `sync` group wait until the appliance is back (`sync-loss=stall`).
    pub stalled: bool,
    /// Hosts wait because the journal is full (`journal-full=block`).
    pub full: bool,
    /// A `sync` group answers hosts without the journal (`sync-loss=degrade`).
    pub degraded: bool,
}

/// How far a journal is behind the hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lag {
    /// Records laid that are not durable.
    pub writes: u64,
    /// Bytes of host data in them.
    pub bytes: u64,
    /// Age of the oldest of them, in milliseconds.
    pub ms: u64,
}

/// How a group is protected, as it was set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyStatus {
    /// `async`, `bounded-lag` or `sync`.
    pub mode: String,
    /// `degrade` or `stall`; `None`: never chosen.
    pub sync_loss: Option<String>,
    /// Bytes that the journal may lag in `bounded-lag`.
    pub lag_bytes: u64,
    /// Seconds that it may.
    pub lag_seconds: u64,
    /// Bytes of the outbox from the next start on.
    pub outbox_bytes: u64,
    /// Zeros that hosts write are recorded as punches.
    pub reclaim_zeros: bool,
}

/// Whether a group's writes are being recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GroupMode {
    /// Every write gets a record.
    Active,
    /// A resynchronisation runs; every write gets a record.
    Resyncing,
    /// Records were lost: writes are not recorded until a resynchronisation begins.
    Marking,
    /// An administrator paused it: writes are not recorded until it is resumed.
    Paused,
}

/// The state of the appliance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApplianceStatus {
    /// Process id.
    pub pid: u32,
    /// Release.
    pub version: String,
    /// Its groups, by name.
    pub groups: Vec<GroupStatus>,
    /// Open images.
    pub images: Vec<Image>,
}

/// A group as the appliance sees it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupStatus {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// Where its journal is.
    pub journal: PathBuf,
    /// Its volumes.
    pub volumes: Vec<MemberStatus>,
    /// Whether a splitter is linked.
    pub linked: bool,
    /// Whether every write since the newest point is in the journal; if not, why, and what to do.
    pub health: Health,
    /// The newest position, and its time.
    pub head: u64,
    pub head_ns: u64,
    /// The window: oldest and newest position that can be opened; `None` when there is none yet.
    pub window: Option<Window>,
    /// Bytes of the journal on disk.
    pub journal_bytes: u64,
    /// How many stretches of positions cannot be opened.
    pub gaps: u64,
    /// The newest of them.
    pub gap: Option<Gap>,
    /// Whether several splitters serve it: only barriers are points across their volumes.
    pub barriers_only: bool,
    /// What is kept.
    pub retention: RetentionPolicy,
    /// What is older than the window all the same; `None`: nothing.
    pub grid: Option<GridStatus>,
    /// How it will be; `None` while there is too little to tell.
    pub forecast: Option<Forecast>,
}

/// Whether a group is protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "health", rename_all = "kebab-case")]
pub enum Health {
    /// Every write is recorded.
    Protected,
    /// A volume is being synchronised for the first time.
    Synchronising,
    /// No splitter is linked; nothing is known to be lost.
    Unlinked,
    /// Points are being refused until a resynchronisation is complete.
    NeedsResync { reason: String },
    /// The journal does not take more (disk full, failed write), or is damaged.
    Trouble { reason: String },
}

/// A volume as the appliance sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberStatus {
    /// Name.
    pub name: String,
    /// Id.
    pub id: String,
    /// Incarnation number in the group.
    pub incarnation: u32,
    /// Size in bytes.
    pub bytes: u64,
    /// The splitter that serves it: its name, or its id where it has none.
    pub splitter: String,
    /// Its id.
    pub splitter_id: String,
    /// Whether its initial synchronisation is complete.
    pub joined: bool,
    /// Where its replica is.
    pub replica: PathBuf,
}

/// The positions that can be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub oldest: u64,
    pub oldest_ns: u64,
    pub newest: u64,
    pub newest_ns: u64,
}

/// What a new volume would take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumePlan {
    pub name: String,
    pub group: String,
    pub bytes: u64,
    pub block_bytes: u32,
    /// Bytes that the replica takes at first (allocated content), and at most.
    pub replica_bytes: u64,
    pub replica_bytes_max: u64,
    /// Bytes that the journal takes at first.
    pub journal_bytes: u64,
    pub replica: PathBuf,
    pub journal: PathBuf,
}

/// A volume's membership of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attached {
    pub outcome: Outcome,
    pub group_id: String,
    pub journal_id: String,
    pub incarnation: u32,
    /// Whether this made the group.
    pub group_created: bool,
    pub replica: PathBuf,
    pub journal: PathBuf,
    /// Bytes that the journal takes at first.
    pub journal_bytes: u64,
}

/// A bookmark.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    pub name: String,
    pub position: u64,
    pub time_ns: u64,
    /// Nobody may remove it before this time; `None`: anybody may at any time.
    #[serde(default)]
    pub hold_until_ns: Option<u64>,
}

/// A stretch of positions that cannot be opened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    pub begin: u64,
    pub begin_ns: u64,
    /// `None`: still open.
    pub end: Option<u64>,
    pub end_ns: Option<u64>,
    pub reason: String,
}

/// Something worth a line in a timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub position: u64,
    pub time_ns: u64,
    /// `flush`, `bookmark`, `grid`, `rollback`, `joined`, `left`, `recovery`, `first-punch-after-pause`, ...
    pub kind: String,
    pub text: String,
}

/// A group's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timeline {
    pub group: String,
    pub window: Option<Window>,
    /// Whether several splitters serve the group: only barriers are points across their volumes.
    pub barriers_only: bool,
    /// Grid points, all of them; the newest are among the marks.
    pub grid: Option<GridStatus>,
    pub gaps: Vec<Gap>,
    /// Oldest first; flushes and grid points are bounded to the newest ones.
    pub marks: Vec<Mark>,
    pub bookmarks: Vec<Bookmark>,
    /// Records of each kind.
    pub counts: std::collections::BTreeMap<String, u64>,
}

/// An image device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Image {
    pub id: String,
    pub group: String,
    pub volume: String,
    pub position: u64,
    pub time_ns: u64,
    /// The point as it was asked for.
    pub asked: String,
    pub device: PathBuf,
    pub rw: bool,
    /// Bytes in the throw-away overlay, and its bound.
    pub overlay_used: u64,
    pub overlay_max: u64,
    /// Milliseconds that opening took.
    pub open_ms: u64,
}

/// What a rollback would do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RollbackPlan {
    pub group: String,
    pub target: u64,
    pub target_ns: u64,
    pub head: u64,
    pub head_ns: u64,
    /// Bytes of the volumes that differ or may differ.
    pub changed_bytes: u64,
    pub changed_extents: u64,
    /// Writes and bytes given up (they stay reachable through the automatic bookmark).
    pub writes_given_up: u64,
    pub bytes_given_up: u64,
    pub punches_given_up: u64,
    pub bookmarks_given_up: Vec<String>,
    /// Volumes of the group that it had not yet then: they are left as they are.
    pub untouched: Vec<String>,
    pub devices: Vec<PathBuf>,
}

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RolledBack {
    pub plan: RollbackPlan,
    /// The position of the ROLLBACK record.
    pub position: u64,
    /// The automatic bookmark that undoes it.
    pub undo_bookmark: String,
    pub restored_bytes: u64,
    pub punched_bytes: u64,
}

/// What a journal holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JournalStatus {
    pub group: String,
    pub path: PathBuf,
    pub id: String,
    pub epoch: u64,
    pub head: u64,
    pub durable: u64,
    pub segments: u64,
    /// Bytes on disk, of them payload.
    pub disk_bytes: u64,
    pub used_bytes: u64,
    pub payload_bytes: u64,
    pub counts: std::collections::BTreeMap<String, u64>,
    pub damage: Vec<Finding>,
    pub trouble: Option<String>,
    /// What can be opened.
    pub window: Option<Window>,
    /// How many points are in it; across several splitters, barriers.
    pub points: u64,
    /// Up to where the replicas have followed the oldest point.
    pub distributed: u64,
    /// What keeps them from following further.
    pub held_back_by: Option<String>,
    /// Bytes that come free when they have followed.
    pub reclaimable_bytes: u64,
    /// What is kept.
    pub retention: RetentionPolicy,
    /// What is older than the window all the same; `None`: nothing.
    pub grid: Option<GridStatus>,
    /// How it will be; `None` while there is too little to tell.
    pub forecast: Option<Forecast>,
    /// How far reading it again has come.
    pub scrub: ScrubStatus,
    /// Where the replicas are.
    pub replica: ReplicaStatus,
}

/// One damaged place of a journal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    pub segment: String,
    /// Byte offset in the segment.
    pub offset: u64,
    pub bytes: u64,
    pub first_position: u64,
    pub last_position: u64,
    /// Volume extents that need it: name, first sector, sectors. Empty when unknown (`what` says so).
    pub extents: Vec<FindingExtent>,
    pub what: String,
}

/// A volume extent that a damaged place concerns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingExtent {
    pub volume: String,
    pub sector: u64,
    pub sectors: u64,
}

/// What a verification found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub group: String,
    pub chunks: u64,
    pub records: u64,
    pub bytes: u64,
    pub findings: Vec<Finding>,
}

/// What a comparison of a volume with its newest image found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VolumeVerified {
    pub volume: String,
    pub group: String,
    /// Bytes compared.
    pub bytes: u64,
    /// Where volume and image differ, in address order.
    pub differing: Vec<SectorRun>,
    /// Bytes of them.
    pub differing_bytes: u64,
    /// Where the image could not be read, and why.
    pub unreadable: Vec<UnreadableRun>,
    /// Whether the volume's content was recorded again where they differ.
    pub repaired: bool,
}

/// A run of sectors of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectorRun {
    pub sector: u64,
    pub sectors: u64,
}

/// A run of sectors whose image could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnreadableRun {
    pub sector: u64,
    pub sectors: u64,
    pub reason: String,
}

/// What happened, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Events {
    pub events: Vec<Event>,
    /// Events since the daemon's start that could not be written down.
    pub dropped: u64,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Rises by one with each event of this daemon.
    pub number: u64,
    pub time_ns: u64,
    /// Which daemon saw it: `splitter` or `appliance`.
    pub daemon: String,
    /// One of `docs/formats/events.md`; a newer daemon may have more.
    pub kind: String,
    pub group: Option<String>,
    pub volume: Option<String>,
    /// How many bytes it was about.
    pub bytes: Option<u64>,
    /// A sentence.
    pub text: String,
}
