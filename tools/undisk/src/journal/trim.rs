//! `undisk journal trim`: the plan, the question, the deed.

use crate::confirm::{confirm, somebody_to_ask};
use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use clap::Args;
use control::answer::kept::Trim as Plan;
use control::answer::{Answer, Outcome};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::name::{Name, Named};
use control::point::PointSpec;
use control::request::{ApplianceRequest, TrimTo};
use control::size::{self, Size};
use control::time::local;

/// Give up the oldest points of a group now. It cannot be undone.
#[derive(Debug, Args)]
pub struct Trim {
    /// The group's name
    group: String,
    /// Give up all points before this one; without it, those that are older than the window
    #[arg(long, value_name = "POINT", conflicts_with = "to_size", allow_hyphen_values = true)]
    before: Option<String>,
    /// Give up as many of the oldest as it takes until the journal has no more than this
    #[arg(long, value_name = "SIZE")]
    to_size: Option<String>,
    /// Only say what would be given up
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

impl Trim {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let group = Name::parse(Named::Group, &self.group)?.to_string();
        let to = match (&self.before, &self.to_size) {
            (Some(point), _) => TrimTo::Before { point: point.parse()? },
            (None, Some(bytes)) => TrimTo::Size { bytes: size::parse(bytes)? },
            (None, None) => TrimTo::Window,
        };
        let (_, plan) = ask(session, &group, to.clone(), true)?;
        if self.dry_run {
            return Ok(short(&plan, Report::new().field("plan", &plan).results(told(&plan))));
        }
        if gives_up_nothing(&plan) {
            return Ok(trimmed(Outcome::AlreadySo, &plan));
        }
        if !(session.json || session.quiet) || (!self.yes && somebody_to_ask()) {
            for line in told(&plan) {
                session.say(&line);
            }
        }
        confirm(&format!("give up points of group {group} for ever"), &group, self.yes)?;
        let to = match to {
            // The very position that the plan speaks of: `-5m` moves while a person reads.
            TrimTo::Before { .. } => TrimTo::Before { point: PointSpec::Seq { position: plan.before } },
            same @ (TrimTo::Size { .. } | TrimTo::Window) => same,
        };
        let (outcome, done) = ask(session, &group, to, false)?;
        Ok(trimmed(outcome, &done))
    }
}

fn ask(session: &Session, group: &str, to: TrimTo, dry_run: bool) -> Result<(Outcome, Plan), ControlError> {
    let request = ApplianceRequest::JournalTrim { group: group.into(), to, dry_run };
    let Answer::JournalTrim { outcome, trim } = session.ask_appliance(&request, QUICK)? else {
        return Err(unexpected(Daemon::Appliance));
    };
    Ok((outcome, trim))
}

/// What is given up, in lines.
fn told(plan: &Plan) -> Vec<String> {
    if gives_up_nothing(plan) {
        return vec![nothing(plan)];
    }
    let mut lines = Vec::new();
    if plan.grid_points > 0 {
        let which =
            if plan.before > 0 { format!("those before seq:{}", plan.before) } else { "too old ones".to_owned() };
        lines.push(format!(
            "group {} gives up {} grid points, {which}; this cannot be undone",
            plan.group, plan.grid_points
        ));
    }
    if plan.positions > 0 {
        lines.push(format!(
            "group {} gives up {} positions, from seq:{} ({}) up to seq:{} ({}), which stays; this cannot be undone",
            plan.group,
            plan.positions,
            plan.oldest,
            local(plan.oldest_ns),
            plan.to,
            local(plan.to_ns)
        ));
    }
    lines.push(format!("its journal then takes {} instead of {}", Size(plan.bytes_after), Size(plan.bytes)));
    if !plan.bookmarks.is_empty() {
        lines.push(format!("bookmarks that stay all the same: {}", plan.bookmarks.join(", ")));
    }
    if plan.pinned_bytes > 0 {
        lines.push(format!("{} more come free when bookmarks are removed and images closed", Size(plan.pinned_bytes)));
    }
    lines
}

fn gives_up_nothing(plan: &Plan) -> bool {
    plan.positions == 0 && plan.grid_points == 0
}

fn nothing(plan: &Plan) -> String {
    format!("group {} gives up nothing: its oldest point is seq:{}", plan.group, plan.oldest)
}

fn short(plan: &Plan, report: Report) -> Report {
    if plan.reached {
        return report;
    }
    report.complaint(
        Kind::Degraded,
        format!(
            "the journal of group {} does not get that small: bookmarks, open images and the newest two segments stay",
            plan.group
        ),
    )
}

fn trimmed(outcome: Outcome, done: &Plan) -> Report {
    let line = if gives_up_nothing(done) {
        nothing(done)
    } else if done.positions == 0 {
        format!(
            "group {} gave up {} grid points; {} come free in a while (undisk journal status {})",
            done.group,
            done.grid_points,
            Size(done.bytes.saturating_sub(done.bytes_after)),
            done.group
        )
    } else {
        format!(
            "the oldest point of group {} is seq:{}; {} come free in a while (undisk journal status {})",
            done.group,
            done.to,
            Size(done.bytes.saturating_sub(done.bytes_after)),
            done.group
        )
    };
    short(done, Report::new().field("outcome", &outcome).field("trim", done).line(line))
}
