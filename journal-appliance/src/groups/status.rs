//! What groups and journals tell of themselves.
//!
//! Owns the translation from the journal's reports to the operator's answers, and what a group's health is called.

use std::collections::BTreeMap;

use control::answer::kept::{Forecast, GridStatus, ReplicaStatus, ScrubStatus};
use control::answer::{
    Bookmark, Finding, FindingExtent, Gap, GroupStatus, Health, JournalStatus, Mark, MemberStatus, Progress, Timeline,
    Verified, Window,
};
use control::error::ControlError;
use control::server::ProgressSink;
use journal::{At, HeldBack, Journal, MarkKind, Member, OpCounts, Status, TimelineView};

use super::{Groups, Held};
use crate::group::{GroupHandle, journal_error};

/// Newest grid points that are listed in a timeline.
const GRID_MARKS_MAX: usize = 256;

#[cfg(test)]
#[path = "status_tests.rs"]
mod tests;

/// What health depends on.
#[derive(Clone, Debug, Default)]
struct Signs {
    trouble: Option<String>,
    poisoned: Option<String>,
    lost_replica: Option<String>,
    damage: u64,
    needs_resync: bool,
    linked: bool,
    synchronising: bool,
}

impl Groups {
    /// One group, or all.
    pub fn status(&self, name: Option<&str>) -> Result<Vec<GroupStatus>, ControlError> {
        match name {
            Some(name) => Ok(vec![self.named(name)?.status()]),
            None => Ok(self.all().iter().map(|held| held.status()).collect()),
        }
    }

    /// What one journal holds, or all.
    pub fn journals(&self, name: Option<&str>) -> Result<Vec<JournalStatus>, ControlError> {
        match name {
            Some(name) => Ok(vec![self.named(name)?.journal_status()]),
            None => Ok(self.all().iter().map(|held| held.journal_status()).collect()),
        }
    }
}

impl Held {
    /// The group as an operator sees it.
    pub fn status(&self) -> GroupStatus {
        let entry = self.entry();
        let mut status = GroupStatus {
            name: entry.name.clone(),
            id: entry.id.to_string(),
            journal: entry.journal.clone(),
            volumes: Vec::new(),
            linked: false,
            health: Health::Unlinked,
            head: 0,
            head_ns: 0,
            window: None,
            journal_bytes: 0,
            gaps: 0,
            gap: None,
            barriers_only: false,
            retention: entry.retention.answer(),
            grid: None,
            forecast: None,
        };
        let open = match &self.open {
            Ok(open) => open,
            Err(reason) => {
                status.health = Health::Trouble { reason: reason.clone() };
                return status;
            }
        };
        let (state, timeline) = (open.journal().status(), open.journal().timeline());
        let members = open.journal().members();
        status.volumes = members
            .iter()
            .filter(|m| m.left.is_none())
            .map(|m| MemberStatus {
                splitter: entry
                    .members
                    .iter()
                    .find(|e| e.incarnation == m.incarnation && !e.splitter.is_empty())
                    .map_or_else(|| m.splitter.to_string(), |e| e.splitter.clone()),
                splitter_id: m.splitter.to_string(),
                name: m.name.clone(),
                id: m.volume.to_string(),
                incarnation: m.incarnation.get(),
                bytes: m.size.bytes(),
                joined: m.joined.is_some(),
                replica: entry.members.iter().find(|e| e.incarnation == m.incarnation).map_or_else(
                    || crate::replica::usual_path(&entry.folder, m.incarnation.get()),
                    |e| e.replica.clone(),
                ),
            })
            .collect();
        status.linked = open.is_linked();
        let synchronising = status.volumes.iter().any(|v| !v.joined);
        status.health = health(&entry.name, &signs(open, &members, &state, synchronising));
        status.head = timeline.head.position.get();
        status.head_ns = timeline.head.label.nanos();
        status.window = timeline.window.map(window);
        status.journal_bytes = state.disk_bytes;
        status.gaps = timeline.gaps.len() as u64;
        status.gap = timeline.gaps.last().map(gap);
        status.barriers_only = timeline.barriers_only;
        status.grid = grid(&timeline.grid);
        status.forecast = open.kept().forecast.map(forecast);
        status
    }

    /// The journal as an operator sees it.
    pub fn journal_status(&self) -> JournalStatus {
        let entry = self.entry();
        let mut status = JournalStatus {
            group: entry.name.clone(),
            path: entry.journal.clone(),
            id: entry.journal_id.to_string(),
            epoch: 0,
            head: 0,
            durable: 0,
            segments: 0,
            disk_bytes: 0,
            used_bytes: 0,
            payload_bytes: 0,
            counts: BTreeMap::new(),
            damage: Vec::new(),
            trouble: None,
            window: None,
            points: 0,
            distributed: 0,
            held_back_by: None,
            reclaimable_bytes: 0,
            retention: entry.retention.answer(),
            grid: None,
            forecast: None,
            scrub: ScrubStatus::default(),
            replica: ReplicaStatus::default(),
        };
        let open = match &self.open {
            Ok(open) => open,
            Err(reason) => {
                status.trouble = Some(reason.clone());
                return status;
            }
        };
        let state = open.journal().status();
        status.epoch = state.epoch.get();
        status.head = state.head.position.get();
        status.durable = state.head.position.get();
        status.segments = state.segments;
        status.disk_bytes = state.disk_bytes;
        status.used_bytes = state.used_bytes;
        status.payload_bytes = state.payload_bytes;
        status.counts = counts(&state.counts);
        status.damage = damage(open.journal(), &state);
        status.trouble = open.trouble().or(state.poisoned);
        let (timeline, kept) = (open.journal().timeline(), open.kept());
        status.window = timeline.window.map(window);
        status.points = points(&timeline);
        status.distributed = open.journal().space().distributed.get();
        status.held_back_by = kept.held_back_by.as_ref().map(held_back_by);
        status.reclaimable_bytes = kept.leaving;
        status.grid = grid(&timeline.grid);
        status.forecast = kept.forecast.map(forecast);
        status.scrub = open.scrubbed();
        let at = open.journal().replica_at();
        status.replica = ReplicaStatus {
            position: at.map(|at| at.position.get()),
            position_ns: at.map_or(0, |at| at.label.nanos()),
            undo_bytes: open.journal().undo_bytes(),
            undo_discard_bytes: kept.discarded,
            held_back_by: kept.behind,
        };
        status
    }

    /// The timeline.
    pub fn timeline(&self) -> Result<Timeline, ControlError> {
        let view = self.open()?.journal().timeline();
        let newest = &view.grid[view.grid.len().saturating_sub(GRID_MARKS_MAX)..];
        let marks = newest.iter().map(grid_mark).chain(view.marks.iter().map(mark));
        Ok(Timeline {
            group: self.entry().name,
            window: view.window.map(window),
            barriers_only: view.barriers_only,
            grid: grid(&view.grid),
            gaps: view.gaps.iter().map(gap).collect(),
            marks: marks.collect(),
            bookmarks: view.bookmarks.iter().map(|bookmark| self.told(bookmark)).collect(),
            counts: counts(&view.counts),
        })
    }

    /// All bookmarks, oldest first.
    pub fn bookmarks(&self) -> Result<Vec<Bookmark>, ControlError> {
        Ok(self.open()?.journal().timeline().bookmarks.iter().map(|bookmark| self.told(bookmark)).collect())
    }

    /// Reads all of the journal; also of one that cannot be opened.
    pub fn verify(&self, sink: &ProgressSink) -> Result<Verified, ControlError> {
        let entry = self.entry();
        let mut progress = |done, total| sink.report(Progress { what: "verifying".to_owned(), done, total });
        let report = journal::verify(&entry.journal, &mut progress)
            .map_err(|e| journal_error(&format!("verify the journal of group {}", entry.name), &e))?;
        let findings = report.findings.iter().filter(|f| f.severity == journal::Severity::Damage);
        Ok(Verified {
            group: entry.name,
            chunks: report.chunks,
            records: report.records,
            bytes: report.payload_bytes,
            findings: findings
                .map(|f| Finding {
                    segment: f.file.clone(),
                    offset: f.offset,
                    bytes: f.bytes,
                    first_position: f.positions.map_or(0, |p| p.0.get()),
                    last_position: f.positions.map_or(0, |p| p.1.get()),
                    extents: f
                        .extents
                        .iter()
                        .map(|(volume, incarnation, extent)| FindingExtent {
                            volume: if volume.is_empty() {
                                format!("incarnation {incarnation}")
                            } else {
                                volume.clone()
                            },
                            sector: extent.start().index(),
                            sectors: extent.count().get(),
                        })
                        .collect(),
                    what: f.message.clone(),
                })
                .collect(),
        })
    }
}

fn signs(open: &GroupHandle, members: &[Member], state: &Status, synchronising: bool) -> Signs {
    // The replica of one that left before it had joined is nobody's loss.
    let shown = |volume| members.iter().any(|m| m.incarnation == volume && (m.joined.is_some() || m.left.is_none()));
    Signs {
        trouble: open.trouble(),
        poisoned: state.poisoned.clone(),
        lost_replica: open.lost_replicas().iter().find(|lost| shown(lost.volume)).map(|lost| lost.reason.clone()),
        damage: state.damage_count,
        needs_resync: state.needs_resync,
        linked: open.is_linked(),
        synchronising,
    }
}

/// What matters most comes first.
fn health(group: &str, signs: &Signs) -> Health {
    if let Some(reason) = signs.trouble.clone().or_else(|| signs.poisoned.clone()) {
        Health::Trouble { reason }
    } else if signs.needs_resync {
        let reason = format!(
            "writes were lost; points behind the loss are refused until what changed has been read again; when that does \
             not begin by itself: undisk group resync {group}"
        );
        Health::NeedsResync { reason }
    } else if let Some(reason) = signs.lost_replica.clone() {
        Health::Trouble { reason }
    } else if signs.damage > 0 {
        let reason = format!(
            "{} damaged places; images that need them are refused there, everything else is right: \
             undisk journal verify {group}",
            signs.damage
        );
        Health::Trouble { reason }
    } else if !signs.linked {
        Health::Unlinked
    } else if signs.synchronising {
        Health::Synchronising
    } else {
        Health::Protected
    }
}

fn gap(gap: &journal::Gap) -> Gap {
    Gap {
        begin: gap.begin.position.get(),
        begin_ns: gap.begin.label.nanos(),
        end: gap.end.map(|end| end.position.get()),
        end_ns: gap.end.map(|end| end.label.nanos()),
        reason: gap.cause.to_string(),
    }
}

fn window(window: journal::Window) -> Window {
    Window {
        oldest: window.oldest.position.get(),
        oldest_ns: window.oldest.label.nanos(),
        newest: window.newest.position.get(),
        newest_ns: window.newest.label.nanos(),
    }
}

fn grid(points: &[At]) -> Option<GridStatus> {
    let oldest = points.first()?;
    let (at, at_ns) = (oldest.position.get(), oldest.label.nanos());
    Some(GridStatus { points: points.len() as u64, oldest: at, oldest_ns: at_ns })
}

fn grid_mark(at: &At) -> Mark {
    let (position, time_ns) = (at.position.get(), at.label.nanos());
    Mark { position, time_ns, kind: "grid".to_owned(), text: String::new() }
}

fn forecast(forecast: journal::retention::Forecast) -> Forecast {
    let seconds = |nanos: u64| nanos / 1_000_000_000;
    Forecast {
        bytes_per_second: forecast.bytes_per_second,
        window_seconds: seconds(forecast.window_ns),
        full_in_seconds: forecast.full_in_ns.map(seconds),
    }
}

fn held_back_by(by: &HeldBack) -> String {
    match by {
        HeldBack::Bookmark(name) => format!("bookmark {name}"),
        HeldBack::Grid(at) => format!("the grid point {at}"),
        HeldBack::Image(position) => format!("an open image of seq:{position}"),
        HeldBack::Rollback(target) => format!("what the rollback to seq:{target} left, until it is too old"),
        HeldBack::Joining(volume) => format!("the first synchronisation of volume {volume}"),
        HeldBack::Replica(why) => format!("a replica: {why}"),
    }
}

/// How many points the window has: every position outside gaps, or the barriers where only they are points.
fn points(timeline: &TimelineView) -> u64 {
    let Some(window) = timeline.window else { return 0 };
    let (oldest, newest) = (window.oldest.position, window.newest.position);
    if timeline.barriers_only {
        let barriers = timeline.marks.iter().filter(|mark| mark.kind == MarkKind::Barrier);
        return barriers.filter(|mark| (oldest..=newest).contains(&mark.at.position)).count() as u64;
    }
    let end = newest.get() + 1;
    let refused = timeline.gaps.iter().map(|gap| {
        let begin = gap.begin.position.max(oldest).get();
        gap.end.map_or(end, |until| until.position.get().min(end)).saturating_sub(begin)
    });
    (end - oldest.get()).saturating_sub(refused.sum())
}

fn mark(mark: &journal::Mark) -> Mark {
    let (kind, text) = match &mark.kind {
        MarkKind::Flush => ("flush", String::new()),
        MarkKind::PunchAfterPause => ("first-punch-after-pause", "the first discard after a pause".to_owned()),
        MarkKind::Barrier => ("barrier", "a point across all splitters of the group".to_owned()),
        MarkKind::Joined { volume } => ("joined", format!("volume {volume} joined")),
        MarkKind::Left { volume } => ("left", format!("volume {volume} left")),
        MarkKind::Rollback { target, id } => ("rollback", format!("rollback {id} to seq:{target}")),
        MarkKind::Recovery { clean: true } => ("recovery", "opened after a clean close".to_owned()),
        MarkKind::Recovery { clean: false } => ("recovery", "recovered after a crash".to_owned()),
    };
    Mark { position: mark.at.position.get(), time_ns: mark.at.label.nanos(), kind: kind.to_owned(), text }
}

/// Kinds as everything else that operators read is written: small, with hyphens.
fn counts(counts: &OpCounts) -> BTreeMap<String, u64> {
    counts.iter().map(|(op, n)| (op.to_string().to_lowercase().replace('_', "-"), n)).collect()
}

fn damage(journal: &Journal, state: &Status) -> Vec<Finding> {
    let members = journal.members();
    let name = |incarnation| {
        members
            .iter()
            .find(|m| m.incarnation == incarnation)
            .map_or_else(|| format!("incarnation {incarnation}"), |m| m.name.clone())
    };
    state
        .damage
        .iter()
        .map(|d| Finding {
            segment: d.place.segment.file(),
            offset: d.place.offset,
            bytes: d.bytes,
            first_position: d.positions.map_or(0, |p| p.0.get()),
            last_position: d.positions.map_or(0, |p| p.1.get()),
            extents: d
                .extents
                .iter()
                .map(|(volume, extent)| FindingExtent {
                    volume: name(*volume),
                    sector: extent.start().index(),
                    sectors: extent.count().get(),
                })
                .collect(),
            what: match d.kind {
                journal::DamageKind::SegmentMissing => "the segment's file is missing",
                journal::DamageKind::SegmentTruncated => "the segment's file is too short",
                journal::DamageKind::ChunkHeader => "a chunk's header is damaged",
                journal::DamageKind::Payload => "data does not match its checksum",
            }
            .to_owned(),
        })
        .collect()
}
