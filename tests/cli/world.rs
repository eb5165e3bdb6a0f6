//! Canned daemons: one well, one in trouble. Every kind of answer occurs in them, with every optional field filled
//! somewhere and missing somewhere.

use control::answer::kept::{GridStatus, ReplicaStatus, RetentionPolicy, ScrubStatus};
use control::answer::{
    Answer, ApplianceStatus, Event, Events, Finding, FindingExtent, Gap, GroupMode, GroupStatus, Health, Image,
    IoCounts, JournalStatus, Lag, Mark, MemberStatus, Outcome, PolicyStatus, Progress, RollbackPlan, RolledBack,
    SectorRun, SplitterGroup, SplitterStatus, Timeline, UnreadableRun, Verified, VolumePlan, VolumeState, VolumeStatus,
    VolumeVerified, Window,
};
use control::error::ControlError;
use control::point::PointSpec;
use control::request::{ApplianceRequest, SplitterRequest};
use kept::{FORECAST, SCRUB, morning, replica, retention};
use std::collections::BTreeMap;

mod kept;

/// 2026-11-22T10:00:00Z.
const TEN: u64 = 1_795_341_600_000_000_000;
const SECOND: u64 = 1_000_000_000;
const MIB: u64 = 1 << 20;

fn id(n: u8) -> String {
    format!("00000000-0000-4000-8000-0000000000{n:02x}")
}

fn counts(pairs: &[(&str, u64)]) -> BTreeMap<String, u64> {
    pairs.iter().map(|(kind, count)| ((*kind).to_owned(), *count)).collect()
}

fn web() -> VolumeStatus {
    VolumeStatus {
        name: "web".into(),
        id: id(1),
        group: "web".into(),
        device: "/dev/ublkb900".into(),
        backing: "/srv/web.img".into(),
        bytes: 1024 * MIB,
        block_bytes: 512,
        queues: 1,
        state: VolumeState::Live,
        sync: None,
        punches: true,
        warnings: Vec::new(),
        counts: IoCounts {
            reads: 10,
            read_bytes: 40_960,
            writes: 400,
            written_bytes: 5 * MIB,
            punches: 20,
            punched_bytes: 64 * MIB,
            zeroes: 1,
            zeroed_bytes: 4096,
            flushes: 100,
            errors: 0,
        },
    }
}

fn db() -> VolumeStatus {
    VolumeStatus {
        name: "db".into(),
        id: id(2),
        device: "/dev/ublkb901".into(),
        backing: "/dev/vg/db".into(),
        bytes: 3 * 1024 * MIB / 2,
        block_bytes: 4096,
        queues: 4,
        sync: Some(Progress { what: "initial synchronisation".into(), done: 300 * MIB, total: 1200 * MIB }),
        punches: false,
        counts: IoCounts::default(),
        ..web()
    }
}

fn side() -> SplitterGroup {
    SplitterGroup {
        name: "web".into(),
        id: id(3),
        mode: GroupMode::Active,
        reason: None,
        linked: true,
        session: 2,
        laid: 533,
        durable: 532,
        outbox_used: 4096,
        outbox_bytes: 64 * MIB,
        lag: Lag { writes: 1, bytes: 4096, ms: 7 },
        policy: PolicyStatus {
            mode: "async".into(),
            sync_loss: None,
            lag_bytes: 32 * MIB,
            lag_seconds: 30,
            reclaim_zeros: false,
            outbox_bytes: 64 * MIB,
        },
        dirty_bytes: 0,
        resynced_bytes: 0,
        delaying: false,
        stalled: false,
        full: false,
        degraded: false,
    }
}

fn splitter() -> SplitterStatus {
    SplitterStatus {
        pid: 4711,
        version: "0.1.0".into(),
        id: id(9),
        name: "main".into(),
        volumes: vec![web(), db()],
        groups: vec![side()],
    }
}

const GRID: GridStatus = GridStatus { points: 30, oldest: 7, oldest_ns: TEN - 30 * 86_400 * SECOND };
const WINDOW: Window = Window { oldest: 22, oldest_ns: TEN, newest: 532, newest_ns: TEN + 300 * SECOND };

fn member(name: &str, number: u8, bytes: u64, joined: bool) -> MemberStatus {
    MemberStatus {
        name: name.into(),
        id: id(number),
        incarnation: number.into(),
        bytes,
        joined,
        splitter: "main".into(),
        splitter_id: id(9),
        replica: format!("/var/lib/undisk/appliance/web/{name}.replica").into(),
    }
}

fn group() -> GroupStatus {
    GroupStatus {
        name: "web".into(),
        id: id(3),
        journal: "/var/lib/undisk/appliance/web/journal".into(),
        volumes: vec![member("web", 1, 1024 * MIB, true), member("db", 2, 1536 * MIB, false)],
        linked: true,
        health: Health::Synchronising,
        head: 532,
        head_ns: TEN + 300 * SECOND,
        window: Some(WINDOW),
        journal_bytes: 30 * MIB,
        gaps: 1,
        gap: Some(gap()),
        barriers_only: false,
        retention: retention(),
        grid: Some(GRID),
        forecast: Some(FORECAST),
    }
}

fn fresh_group(name: &str) -> GroupStatus {
    GroupStatus {
        name: name.into(),
        id: id(4),
        journal: format!("/var/lib/undisk/appliance/{name}/journal").into(),
        volumes: Vec::new(),
        linked: false,
        health: Health::Unlinked,
        head: 0,
        head_ns: 0,
        window: None,
        journal_bytes: 8 * MIB,
        gaps: 0,
        gap: None,
        barriers_only: false,
        retention: RetentionPolicy {
            window_seconds: 7 * 86_400,
            keep: Vec::new(),
            journal_limit: Some(500 * 1024 * MIB),
            journal_full: "stop".into(),
            scrub_seconds: None,
            distribution: "eager".into(),
            undo_limit: Some(50 * 1024 * MIB),
            undo_full: "slow".into(),
            punch_split: 4 * MIB,
        },
        grid: None,
        forecast: None,
    }
}

fn image(volume: &str, device: u32, rw: bool) -> Image {
    Image {
        id: format!("image-{device}"),
        group: "web".into(),
        volume: volume.into(),
        position: 217,
        time_ns: TEN + 123_456_789,
        asked: "web@-5m".into(),
        device: format!("/dev/ublkb{device}").into(),
        rw,
        overlay_used: if rw { 8192 } else { 0 },
        overlay_max: if rw { 1024 * MIB } else { 0 },
        open_ms: 12,
    }
}

fn appliance() -> ApplianceStatus {
    ApplianceStatus {
        pid: 4712,
        version: "0.1.0".into(),
        groups: vec![group(), fresh_group("empty")],
        images: vec![image("web", 928, true)],
    }
}

fn plan() -> RollbackPlan {
    RollbackPlan {
        group: "web".into(),
        target: 217,
        target_ns: TEN + 123_456_789,
        head: 532,
        head_ns: TEN + 300 * SECOND,
        changed_bytes: 3 * MIB,
        changed_extents: 41,
        writes_given_up: 252,
        bytes_given_up: 4 * MIB,
        punches_given_up: 12,
        bookmarks_given_up: vec!["noon".into()],
        untouched: vec!["mail".into()],
        devices: vec!["/dev/ublkb900".into(), "/dev/ublkb901".into()],
    }
}

fn journal() -> JournalStatus {
    JournalStatus {
        group: "web".into(),
        path: "/var/lib/undisk/appliance/web/journal".into(),
        id: id(5),
        epoch: 2,
        head: 532,
        durable: 532,
        segments: 1,
        disk_bytes: 30 * MIB,
        used_bytes: 6 * MIB,
        payload_bytes: 5 * MIB,
        counts: counts(&[("flush", 100), ("punch", 20), ("write", 400)]),
        damage: Vec::new(),
        trouble: None,
        window: Some(WINDOW),
        points: 490,
        distributed: 0,
        held_back_by: None,
        reclaimable_bytes: 0,
        retention: retention(),
        grid: Some(GRID),
        forecast: None,
        scrub: ScrubStatus::default(),
        replica: ReplicaStatus::default(),
    }
}

fn finding() -> Finding {
    Finding {
        segment: "segment-00000001".into(),
        offset: 1_052_672,
        bytes: 4096,
        first_position: 300,
        last_position: 300,
        extents: vec![FindingExtent { volume: "web".into(), sector: 2048, sectors: 8 }],
        what: "a block's checksum does not match".into(),
    }
}

fn gap() -> Gap {
    Gap {
        begin: 100,
        begin_ns: TEN + 50 * SECOND,
        end: Some(120),
        end_ns: Some(TEN + 60 * SECOND),
        reason: "the appliance was away for too long".into(),
    }
}

fn open_gap() -> Gap {
    Gap { begin: 530, begin_ns: TEN + 299 * SECOND, end: None, end_ns: None, reason: "records were lost".into() }
}

fn timeline() -> Timeline {
    let old = |position, days: u64| Mark {
        position,
        time_ns: TEN - days * 86_400 * SECOND,
        kind: "grid".into(),
        text: String::new(),
    };
    let mark = |position, seconds, kind: &str, text: &str| Mark {
        position,
        time_ns: TEN + seconds * SECOND,
        kind: kind.into(),
        text: text.into(),
    };
    Timeline {
        group: "web".into(),
        window: Some(WINDOW),
        barriers_only: false,
        grid: Some(GRID),
        gaps: vec![gap(), open_gap()],
        marks: vec![
            old(17, 5),
            old(18, 4),
            old(19, 3),
            old(20, 2),
            mark(22, 0, "joined", "web"),
            mark(90, 40, "bookmark", "morning"),
            mark(217, 120, "flush", ""),
        ],
        bookmarks: vec![morning()],
        counts: counts(&[("flush", 100), ("punch", 20), ("write", 400)]),
    }
}

fn done(outcome: Outcome, message: &str) -> Answer {
    Answer::Done { outcome, message: message.into() }
}

fn no_group(name: &str) -> ControlError {
    ControlError::not_found(format!("there is no group {name:?}")).hint("undisk group list")
}

fn known(name: &str) -> Result<(), ControlError> {
    if matches!(name, "web" | "empty") { Ok(()) } else { Err(no_group(name)) }
}

/// A splitter that is well.
pub fn well_splitter(request: SplitterRequest) -> Result<Answer, ControlError> {
    match request {
        SplitterRequest::Status => Ok(Answer::Splitter(splitter())),
        SplitterRequest::VolumeCreate(ask) if ask.name == "web" => {
            Err(ControlError::refused("there is a volume \"web\" already, with another backing: /srv/web.img")
                .hint("undisk volume status web"))
        }
        SplitterRequest::VolumeCreate(ask) if ask.backing.ends_with("missing.img") => {
            Err(ControlError::failed(format!("cannot open the backing {}: No such file", ask.backing.display()))
                .hint("make it with --create --size"))
        }
        SplitterRequest::VolumeCreate(ask) if ask.dry_run => Ok(Answer::VolumePlan(VolumePlan {
            group: ask.group.unwrap_or_else(|| ask.name.clone()),
            bytes: ask.create_bytes.unwrap_or(MIB),
            block_bytes: 512,
            replica_bytes: 0,
            replica_bytes_max: ask.create_bytes.unwrap_or(MIB),
            journal_bytes: 8 * MIB,
            replica: format!("/var/lib/undisk/appliance/{0}/{0}.replica", ask.name).into(),
            journal: format!("/var/lib/undisk/appliance/{}/journal", ask.name).into(),
            name: ask.name,
        })),
        SplitterRequest::VolumeCreate(ask) => Ok(Answer::Volume {
            outcome: Outcome::Created,
            volume: VolumeStatus {
                group: ask.group.unwrap_or_else(|| ask.name.clone()),
                name: ask.name,
                backing: ask.backing,
                bytes: ask.create_bytes.unwrap_or(MIB),
                queues: ask.queues.unwrap_or(1),
                device: format!("/dev/ublkb{}", ask.dev_id.unwrap_or(902)).into(),
                ..web()
            },
        }),
        SplitterRequest::VolumeRemove { name, .. } => {
            Ok(done(Outcome::Changed, &format!("volume {name} is served no more; its backing and its history stay")))
        }
        SplitterRequest::GroupResync { group, .. }
        | SplitterRequest::GroupSet { group, .. }
        | SplitterRequest::GroupPause { group }
        | SplitterRequest::GroupResume { group }
            if group != "web" =>
        {
            Err(no_group(&group))
        }
        SplitterRequest::GroupResync { full: true, .. } => {
            Ok(done(Outcome::Changed, "all of group web is being read again; points are refused until it is complete"))
        }
        SplitterRequest::GroupResync { .. } => {
            Ok(done(Outcome::Changed, "group web is being resynchronised; points are refused until it is complete"))
        }
        SplitterRequest::GroupSet { settings, .. } => set(&settings),
        SplitterRequest::GroupPause { .. } => {
            Ok(done(Outcome::Changed, "group web is paused: hosts go on, and what they write is not recorded"))
        }
        SplitterRequest::GroupResume { .. } => Ok(done(Outcome::AlreadySo, "group web is not paused")),
        SplitterRequest::VolumeVerify { name, .. } if name == "web" => Ok(Answer::VolumeVerified(verified())),
        SplitterRequest::VolumeVerify { name, .. } => Err(ControlError::refused(format!(
            "cannot verify volume {name}: it is being synchronised for the first time"
        ))
        .hint(format!("wait for it: undisk volume status {name}"))),
        SplitterRequest::Events(_) => Ok(Answer::Events(Events {
            events: vec![
                event("splitter", 1, 0, "session-granted", "session 2 of group web goes on"),
                Event {
                    bytes: Some(MIB),
                    ..event("splitter", 2, 9, "resync-ended", "group web is resynchronised: 1.0 MiB were read")
                },
            ],
            dropped: 0,
        })),
        SplitterRequest::Stop { .. } => Ok(done(Outcome::Changed, "the splitter stops")),
    }
}

/// What the real one says, of the one setting that the transcripts try.
fn set(settings: &[String]) -> Result<Answer, ControlError> {
    let mut policy = side().policy;
    for setting in settings {
        match setting.as_str() {
            "mode=sync" => policy.mode = "sync".into(),
            "sync-loss=stall" => policy.sync_loss = Some("stall".into()),
            "outbox=128MiB" => policy.outbox_bytes = 128 * MIB,
            odd => {
                return Err(ControlError::usage(format!("there is no setting {odd:?}")).hint("settings are mode, ..."));
            }
        }
    }
    Ok(Answer::GroupSet {
        outcome: Outcome::Changed,
        message: "group web: mode=sync sync-loss=stall; the outbox has 128.0 MiB from the next start on".into(),
        policy,
    })
}

fn verified() -> VolumeVerified {
    VolumeVerified {
        volume: "web".into(),
        group: "web".into(),
        bytes: 1024 * MIB,
        differing: Vec::new(),
        differing_bytes: 0,
        unreadable: Vec::new(),
        repaired: false,
    }
}

fn event(daemon: &str, number: u64, seconds: u64, kind: &str, text: &str) -> Event {
    Event {
        number,
        time_ns: TEN + seconds * SECOND,
        daemon: daemon.into(),
        kind: kind.into(),
        group: Some("web".into()),
        volume: None,
        bytes: None,
        text: text.into(),
    }
}

/// An appliance that is well.
pub fn well_appliance(request: ApplianceRequest) -> Result<Answer, ControlError> {
    match request {
        ApplianceRequest::Status => Ok(Answer::Appliance(appliance())),
        ApplianceRequest::GroupCreate { name, .. } if name == "web" => {
            Ok(Answer::Group { outcome: Outcome::AlreadySo, group: group() })
        }
        ApplianceRequest::GroupCreate { name, journal } => {
            let fresh = fresh_group(&name);
            let journal = journal.unwrap_or_else(|| fresh.journal.clone());
            Ok(Answer::Group { outcome: Outcome::Created, group: GroupStatus { journal, ..fresh } })
        }
        ApplianceRequest::GroupRemove { name } => {
            Ok(done(Outcome::Changed, &format!("group {name} and its history are gone")))
        }
        ApplianceRequest::GroupStatus { name: None } => Ok(Answer::Groups { groups: appliance().groups }),
        ApplianceRequest::GroupStatus { name: Some(name) } => {
            known(&name)?;
            let groups = appliance().groups.into_iter().filter(|group| group.name == name).collect();
            Ok(Answer::Groups { groups })
        }
        ApplianceRequest::GroupSet { .. }
        | ApplianceRequest::BookmarkAdd { .. }
        | ApplianceRequest::BookmarkHold { .. }
        | ApplianceRequest::BookmarkList { .. }
        | ApplianceRequest::BookmarkRemove { .. }
        | ApplianceRequest::JournalTrim { .. } => kept::answer(request),
        ApplianceRequest::AttachVolume(_) | ApplianceRequest::DetachVolume { .. } => {
            Err(ControlError::failed("only splitters ask this"))
        }
        ApplianceRequest::PointList { group } => {
            known(&group)?;
            Ok(Answer::Points(timeline()))
        }
        ApplianceRequest::ImageOpen { group, point, rw, volume, any_point: _ } => {
            known(&group)?;
            resolve(&point)?;
            let images = vec![image("db", 929, rw), image("web", 930, rw)];
            Ok(Answer::Images {
                images: images.into_iter().filter(|i| volume.as_ref().is_none_or(|v| *v == i.volume)).collect(),
            })
        }
        ApplianceRequest::ImageList => Ok(Answer::Images { images: appliance().images }),
        ApplianceRequest::ImageClose { which: Some(which), .. } if which == "/dev/ublkb77" => {
            Err(ControlError::not_found("no image is open at /dev/ublkb77").hint("undisk image list"))
        }
        ApplianceRequest::ImageClose { .. } => Ok(done(Outcome::Changed, "1 image is closed")),
        ApplianceRequest::RollbackPlan { group, point, any_point: _ } => {
            known(&group)?;
            resolve(&point)?;
            Ok(Answer::RollbackPlan(plan()))
        }
        ApplianceRequest::Rollback { point, .. } => {
            // The plan's very position, whatever was typed.
            assert_eq!(point, PointSpec::Seq { position: 217 });
            Ok(Answer::RolledBack(RolledBack {
                plan: plan(),
                position: 534,
                undo_bookmark: "before-rollback-20261122T100501.000Z".into(),
                restored_bytes: 2 * MIB,
                punched_bytes: MIB,
            }))
        }
        ApplianceRequest::JournalStatus { group } => {
            group.as_deref().map(known).transpose()?;
            Ok(Answer::Journals { journals: vec![journal()] })
        }
        ApplianceRequest::JournalVerify { group } => {
            known(&group)?;
            Ok(Answer::Verified(Verified { group, chunks: 40, records: 532, bytes: 6 * MIB, findings: Vec::new() }))
        }
        ApplianceRequest::Events(_) => Ok(Answer::Events(Events {
            events: vec![
                event("appliance", 7, 1, "gap-begun", "records were lost behind seq:99"),
                event("appliance", 8, 9, "gap-closed", "points are offered again from seq:120 on"),
            ],
            dropped: 0,
        })),
        ApplianceRequest::Stop { .. } => Ok(done(Outcome::Changed, "the appliance stops")),
    }
}

/// Some points are not there.
fn resolve(point: &PointSpec) -> Result<(), ControlError> {
    let window = "the window of group web is seq:1 (2026-11-22T10:00:00Z) to seq:532 (2026-11-22T10:05:00Z)";
    match point {
        PointSpec::Bookmark { name } if name != "morning" => {
            Err(ControlError::not_found(format!("group web has no bookmark {name:?}")).hint("undisk bookmark list web"))
        }
        PointSpec::Seq { position } if *position > 532 => {
            Err(ControlError::not_found(format!("seq:{position} cannot be opened: {window}")))
        }
        PointSpec::Time { nanos } if *nanos < TEN => {
            Err(ControlError::not_found(format!("{point} cannot be opened: {window}")))
        }
        PointSpec::Seq { position: 100..120 } => Err(ControlError::refused(format!(
            "{point} lies in a gap: records were lost from seq:100 to seq:119; {window}"
        ))),
        PointSpec::Latest
        | PointSpec::Oldest
        | PointSpec::Bookmark { .. }
        | PointSpec::Seq { .. }
        | PointSpec::Time { .. }
        | PointSpec::Ago { .. } => Ok(()),
    }
}

/// A splitter in trouble.
pub fn ill_splitter(request: SplitterRequest) -> Result<Answer, ControlError> {
    match request {
        SplitterRequest::Status => Ok(Answer::Splitter(SplitterStatus {
            volumes: vec![
                VolumeStatus { warnings: vec!["the backing was written to while it was not attached".into()], ..web() },
                VolumeStatus { state: VolumeState::Down { reason: "its backing /dev/vg/db is gone".into() }, ..db() },
                VolumeStatus { name: "mail".into(), state: VolumeState::Restoring, ..web() },
            ],
            groups: vec![SplitterGroup {
                mode: GroupMode::Marking,
                reason: Some("the outbox was full".into()),
                linked: false,
                dirty_bytes: 3 * MIB,
                resynced_bytes: MIB,
                delaying: true,
                stalled: true,
                degraded: true,
                policy: PolicyStatus {
                    mode: "bounded-lag".into(),
                    sync_loss: Some("degrade".into()),
                    outbox_bytes: 128 * MIB,
                    ..side().policy
                },
                ..side()
            }],
            ..splitter()
        })),
        SplitterRequest::VolumeVerify { name, repair } if name == "web" => Ok(Answer::VolumeVerified(VolumeVerified {
            differing: vec![SectorRun { sector: 2048, sectors: 8 }, SectorRun { sector: 4096, sectors: 1024 }],
            differing_bytes: 516 << 10,
            unreadable: vec![UnreadableRun { sector: 0, sectors: 8, reason: "data of seq:300 is damaged".into() }],
            repaired: repair,
            ..verified()
        })),
        SplitterRequest::Events(ask) => match well_splitter(SplitterRequest::Events(ask))? {
            Answer::Events(told) => Ok(Answer::Events(Events { dropped: 3, ..told })),
            other => Ok(other),
        },
        other => well_splitter(other),
    }
}

/// An appliance in trouble.
pub fn ill_appliance(request: ApplianceRequest) -> Result<Answer, ControlError> {
    let groups = || {
        vec![
            GroupStatus {
                health: Health::NeedsResync {
                    reason: "writes were lost; when that does not begin by itself: undisk group resync web".into(),
                },
                gaps: 2,
                gap: Some(open_gap()),
                ..group()
            },
            GroupStatus { health: Health::Trouble { reason: "the disk is full".into() }, ..fresh_group("empty") },
        ]
    };
    match request {
        ApplianceRequest::Status => Ok(Answer::Appliance(ApplianceStatus { groups: groups(), ..appliance() })),
        ApplianceRequest::GroupStatus { name } => {
            let wanted = |group: &GroupStatus| name.as_ref().is_none_or(|name| *name == group.name);
            Ok(Answer::Groups { groups: groups().into_iter().filter(wanted).collect() })
        }
        ApplianceRequest::JournalStatus { .. } => Ok(Answer::Journals {
            journals: vec![JournalStatus {
                damage: vec![finding()],
                trouble: Some("the disk is full".into()),
                held_back_by: Some("bookmark morning".into()),
                reclaimable_bytes: 2 * MIB,
                forecast: Some(FORECAST),
                scrub: SCRUB,
                replica: replica(),
                ..journal()
            }],
        }),
        ApplianceRequest::JournalVerify { group } => Ok(Answer::Verified(Verified {
            group,
            chunks: 40,
            records: 532,
            bytes: 6 * MIB,
            findings: vec![
                finding(),
                Finding { extents: Vec::new(), what: "a chunk's header is damaged".into(), ..finding() },
            ],
        })),
        other => well_appliance(other),
    }
}
