//! `undisk group status`: both sides of a group.

use super::list::{health, reason};
use super::set::{policy, retention};
use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use crate::table::labelled;
use clap::Args;
use control::answer::kept::{Forecast, GridStatus};
use control::answer::{Answer, GroupMode, GroupStatus, Lag, SplitterGroup, Window};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;
use control::size::Size;
use control::time::{local, span};

/// Show one group.
#[derive(Debug, Args)]
pub struct Status {
    /// The group's name
    name: String,
}

impl Status {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let group = find(session, &self.name)?;
        // The appliance may stand on another host than the splitter: what it knows is told all the same.
        let splitter = session.splitter_status(QUICK).ok();
        let side = splitter.and_then(|splitter| splitter.groups.into_iter().find(|side| side.name == group.name));
        Ok(Report::new()
            .field("group", &group)
            .field("splitter", &side)
            .results(labelled(&told(&group, side.as_ref()))))
    }
}

/// The group of this name, as the appliance sees it.
pub fn find(session: &Session, name: &str) -> Result<GroupStatus, ControlError> {
    let name = Name::parse(Named::Group, name)?;
    let request = ApplianceRequest::GroupStatus { name: Some(name.as_str().into()) };
    let Answer::Groups { groups } = session.ask_appliance(&request, QUICK)? else {
        return Err(unexpected(Daemon::Appliance));
    };
    groups.into_iter().find(|group| group.name == name.as_str()).ok_or_else(|| no_group(name.as_str()))
}

/// There is none of this name.
pub fn no_group(name: &str) -> ControlError {
    ControlError::not_found(format!("there is no group {name:?}")).hint("undisk group list")
}

/// A window in words.
pub fn window(window: Option<Window>) -> String {
    window.map_or_else(
        || "nothing can be opened yet".to_owned(),
        |w| format!("seq:{} ({}) to seq:{} ({})", w.oldest, local(w.oldest_ns), w.newest, local(w.newest_ns)),
    )
}

/// What there is that is older than a window, in words.
pub fn grid(grid: &GridStatus) -> String {
    format!("{} points older than the window, the oldest seq:{} ({})", grid.points, grid.oldest, local(grid.oldest_ns))
}

/// How far the journal is behind, in words.
pub fn lag(lag: &Lag) -> String {
    format!("{} writes, {}, {}.{:03} s", lag.writes, Size(lag.bytes), lag.ms / 1000, lag.ms % 1000)
}

/// The state in a word.
pub fn mode(mode: GroupMode) -> &'static str {
    match mode {
        GroupMode::Active => "active",
        GroupMode::Resyncing => "resyncing",
        GroupMode::Marking => "marking",
        GroupMode::Paused => "paused",
    }
}

/// Which moments are points, in words.
pub fn points(barriers_only: bool) -> &'static str {
    if barriers_only { "barriers only: several splitters serve the group" } else { "every write" }
}

/// What cannot be opened, in words.
fn gaps(group: &GroupStatus) -> String {
    let Some(newest) = &group.gap else { return "none".to_owned() };
    let until = newest.end.map_or_else(|| "still open".to_owned(), |end| format!("up to seq:{end}"));
    let newest = format!("from seq:{} ({}), {until}: {}", newest.begin, local(newest.begin_ns), newest.reason);
    match group.gaps {
        0 | 1 => newest,
        several => format!("{several}, the newest {newest}"),
    }
}

/// How a window will be, in words.
pub fn forecast(forecast: &Forecast) -> String {
    let rate = Size(forecast.bytes_per_second);
    let window = span(forecast.window_seconds);
    let full = match forecast.full_in_seconds {
        None => "it fits".to_owned(),
        Some(0) => "the room is used up".to_owned(),
        Some(seconds) => format!("the room is used up in about {}", span(seconds)),
    };
    format!("at the present rate of {rate}/s the window is {window}; {full}")
}

fn told(group: &GroupStatus, side: Option<&SplitterGroup>) -> Vec<(&'static str, String)> {
    let health = match reason(&group.health) {
        None => health(&group.health).to_owned(),
        Some(reason) => format!("{}: {reason}", health(&group.health)),
    };
    let mut told = vec![
        ("group", group.name.clone()),
        ("health", health),
        ("window", window(group.window)),
        ("points", points(group.barriers_only).to_owned()),
        ("gaps", gaps(group)),
        ("head", format!("seq:{}", group.head)),
        ("keeps", retention(&group.retention)),
        ("journal", format!("{} in {}", Size(group.journal_bytes), group.journal.display())),
        ("linked", if group.linked { "yes" } else { "no" }.into()),
    ];
    if let Some(grid) = &group.grid {
        told.insert(3, ("grid", self::grid(grid)));
    }
    if let Some(forecast) = &group.forecast {
        told.push(("forecast", self::forecast(forecast)));
    }
    for volume in &group.volumes {
        let joined = if volume.joined { "joined" } else { "synchronising" };
        let replica = volume.replica.display();
        let of = if group.barriers_only { format!(", splitter {}", volume.splitter) } else { String::new() };
        told.push(("volume", format!("{}, {}, {joined}{of}, replica {replica}", volume.name, Size(volume.bytes))));
    }
    match side {
        None => told.push(("splitter", "does not answer, or does not know the group".into())),
        Some(side) => {
            let mode = match side.mode {
                GroupMode::Active => "recording every write".to_owned(),
                GroupMode::Resyncing => "resynchronising, recording every write".to_owned(),
                GroupMode::Paused => "paused, not recording".to_owned(),
                GroupMode::Marking => {
                    format!("not recording: {}", side.reason.as_deref().unwrap_or("records were lost"))
                }
            };
            told.push(("splitter", mode));
            if side.dirty_bytes > 0 {
                told.push(("dirty", format!("{} to be read again", Size(side.dirty_bytes))));
            }
            told.push(("lag", lag(&side.lag)));
            told.push(("policy", policy(&side.policy)));
            let mut outbox = format!("{} of {}", Size(side.outbox_used), Size(side.outbox_bytes));
            if side.policy.outbox_bytes != side.outbox_bytes {
                let next = Size(side.policy.outbox_bytes).to_string();
                outbox.extend([", ", &next, " from the next start on"]);
            }
            told.push(("outbox", outbox));
        }
    }
    told.push(("id", group.id.clone()));
    told
}
