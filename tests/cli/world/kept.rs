//! What the canned appliance says of what it keeps: policy, bookmarks and their holds, trimming.

use super::{MIB, SECOND, TEN, done, known};
use control::answer::kept::{Forecast, GridLevel, ReplicaStatus, RetentionPolicy, ScrubStatus, Trim};
use control::answer::{Answer, Bookmark, Outcome};
use control::error::ControlError;
use control::point::PointSpec;
use control::request::{ApplianceRequest, TrimTo};

pub const FORECAST: Forecast =
    Forecast { bytes_per_second: 4 * MIB, window_seconds: 31 * 3600, full_in_seconds: Some(45 * 60) };

pub fn retention() -> RetentionPolicy {
    let keep = vec![GridLevel { span: "day".into(), seconds: 30 * 86_400 }];
    RetentionPolicy {
        window_seconds: 48 * 3600,
        keep,
        journal_limit: None,
        journal_full: "shrink".into(),
        scrub_seconds: Some(7 * 86_400),
        distribution: "lazy".into(),
        undo_limit: None,
        undo_full: "slow".into(),
        punch_split: 4 * MIB,
    }
}

pub fn replica() -> ReplicaStatus {
    ReplicaStatus {
        position: Some(480),
        position_ns: 1_795_341_540_000_000_000,
        undo_bytes: 3 * MIB,
        undo_discard_bytes: MIB,
        held_back_by: Some("data: No space left on device".into()),
    }
}

pub const SCRUB: ScrubStatus = ScrubStatus {
    under_way: true,
    began_ns: TEN + SECOND,
    done_bytes: 12 * MIB,
    total_bytes: 48 * MIB,
    ended_ns: Some(TEN),
    found: 1,
};

pub fn morning() -> Bookmark {
    Bookmark {
        name: "morning".into(),
        position: 90,
        time_ns: TEN + 40 * SECOND,
        hold_until_ns: Some(TEN + 86_400 * SECOND),
    }
}

fn trim(to: &TrimTo) -> Trim {
    let small = matches!(to, TrimTo::Size { bytes } if *bytes < 10 * MIB);
    let nothing = *to == TrimTo::Window;
    Trim {
        group: "web".into(),
        oldest: 22,
        oldest_ns: TEN,
        to: if nothing { 22 } else { 217 },
        to_ns: if nothing { TEN } else { TEN + 123_456_789 },
        positions: if nothing { 0 } else { 195 },
        grid_points: if nothing { 0 } else { 30 },
        before: if nothing { 0 } else { 217 },
        bytes: 30 * MIB,
        bytes_after: if nothing { 30 * MIB } else { 20 * MIB },
        pinned_bytes: if small { MIB } else { 0 },
        bookmarks: if small { vec!["morning".into()] } else { Vec::new() },
        reached: !small,
    }
}

/// What the real one says, of the settings that the transcripts try.
fn set_retention(settings: &[String]) -> Result<Answer, ControlError> {
    let mut retention = retention();
    for setting in settings {
        match setting.as_str() {
            "keep=none" => retention.keep.clear(),
            "keep=week:52d" => {
                let why = "keep=week:52d: there is no level \"week\", only minute, hour and day";
                return Err(ControlError::usage(why));
            }
            "window=7d" => retention.window_seconds = 7 * 86_400,
            "journal-full=stop" => retention.journal_full = "stop".into(),
            odd => return Err(ControlError::usage(format!("{odd}: journal-full is shrink or stop"))),
        }
    }
    let keep = if retention.keep.is_empty() { "none" } else { "day:30d" };
    let message = format!(
        "group web: window=7d keep={keep} journal-limit=none journal-full=stop scrub=7d distribution=lazy undo-limit=none undo-full=slow punch-split=4.0 MiB"
    );
    Ok(Answer::RetentionSet { outcome: Outcome::Changed, message, retention })
}

/// The answer to a request about that.
pub fn answer(request: ApplianceRequest) -> Result<Answer, ControlError> {
    match request {
        ApplianceRequest::GroupSet { group, settings, dry_run: _ } => {
            known(&group)?;
            set_retention(&settings)
        }
        ApplianceRequest::BookmarkAdd { group, name, hold_until_ns } => {
            known(&group)?;
            if name == "morning" {
                return Err(ControlError::refused("group web has a bookmark \"morning\" already, at seq:90")
                    .hint("undisk bookmark remove web morning"));
            }
            let bookmark = Bookmark { name, position: 533, time_ns: TEN + 301 * SECOND, hold_until_ns };
            Ok(Answer::Bookmark { outcome: Outcome::Created, bookmark })
        }
        ApplianceRequest::BookmarkHold { group, name, until_ns } => {
            known(&group)?;
            if name != "morning" {
                return Err(ControlError::not_found(format!("group {group} has no bookmark {name:?}")));
            }
            if until_ns < TEN + 86_400 * SECOND {
                return Err(ControlError::refused("it is held longer already, and a hold is never made shorter"));
            }
            let bookmark = Bookmark { hold_until_ns: Some(until_ns), ..morning() };
            Ok(Answer::Bookmark { outcome: Outcome::Changed, bookmark })
        }
        ApplianceRequest::BookmarkList { group } => {
            known(&group)?;
            Ok(Answer::Bookmarks { bookmarks: vec![morning()] })
        }
        ApplianceRequest::BookmarkRemove { group, name } => {
            known(&group)?;
            if name == "audit" {
                return Err(ControlError::refused(
                    "bookmark audit of group web is held until 2026-12-22 10:00:00.000 +00:00: nobody can remove it before",
                ));
            }
            if name == "morning" {
                return Ok(done(Outcome::Changed, "bookmark morning of group web is gone; its moment is not"));
            }
            Err(ControlError::not_found(format!("group {group} has no bookmark {name:?}")))
        }
        ApplianceRequest::JournalTrim { group, to, dry_run: _ } => {
            known(&group)?;
            if matches!(to, TrimTo::Before { point: PointSpec::Latest }) {
                return Err(ControlError::refused(
                    "cannot trim the journal of group web: bookmark audit at seq:300 is held until 2026-12-22 10:00:00.000 \
                     +00:00; nothing was changed",
                )
                .hint("undisk journal trim web --before '#audit'"));
            }
            let outcome = if to == TrimTo::Window { Outcome::AlreadySo } else { Outcome::Changed };
            Ok(Answer::JournalTrim { outcome, trim: trim(&to) })
        }
        other => Err(ControlError::failed(format!("{other:?} is not about what is kept"))),
    }
}
