//! `undisk rollback`: the plan, the question, the deed.

use crate::confirm::{confirm, somebody_to_ask};
use crate::in_use;
use crate::report::Report;
use crate::session::{LONG, Session, unexpected};
use clap::Args;
use control::answer::{Answer, RollbackPlan, RolledBack};
use control::client::Daemon;
use control::device_use::describe;
use control::error::ControlError;
use control::point::{GroupPoint, Nanos, PointSpec};
use control::request::ApplianceRequest;
use control::size::Size;
use control::time::local;
use std::path::Path;

/// Roll the volumes of a group back to a moment. It can be undone.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Args)]
pub struct Rollback {
    /// The moment: G@#BOOKMARK, G@-5m, G@2026-11-22T10:00, G@seq:N, G@@EPOCH
    #[arg(value_name = "GROUP@POINT")]
    point: String,
    /// Only say what would be given up
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(long)]
    yes: bool,
    /// Also to a moment that is no barrier, of a group that several splitters serve: what their volumes then hold together
    /// is of no one moment
    #[arg(long)]
    any_point: bool,
    /// Even while a device of the group is open or mounted
    #[arg(long)]
    force: bool,
}

impl Rollback {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let asked: GroupPoint = self.point.parse()?;
        let group = asked.group.to_string();
        let request =
            ApplianceRequest::RollbackPlan { group: group.clone(), point: asked.point, any_point: self.any_point };
        let Answer::RollbackPlan(plan) = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        let devices = || plan.devices.iter().map(Path::new);
        if self.dry_run {
            let uses = in_use::uses(devices())?;
            let mut report = Report::new().field("plan", &plan).results(told(&plan));
            if !uses.is_empty() {
                report = report.line(format!("it would be refused now: {}", describe(&uses)));
            }
            return Ok(report);
        }
        if !self.force {
            in_use::refuse(&format!("roll group {group} back"), devices())?;
        }
        if !(session.json || session.quiet) || (!self.yes && somebody_to_ask()) {
            for line in told(&plan) {
                session.say(&line);
            }
        }
        confirm(&format!("roll group {group} back"), &group, self.yes)?;
        // The very position that the plan speaks of: `-5m` and `latest` move while a person reads.
        let point = PointSpec::Seq { position: plan.target };
        let request = ApplianceRequest::Rollback { group, point, force: self.force, any_point: self.any_point };
        let Answer::RolledBack(done) = session.ask_appliance(&request, LONG)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        Ok(rolled_back(&done))
    }
}

/// What is given up, in lines.
fn told(plan: &RollbackPlan) -> Vec<String> {
    let span = Nanos(plan.head_ns.saturating_sub(plan.target_ns) / 1_000_000 * 1_000_000);
    let mut lines = vec![
        format!("group {} goes back to seq:{}, {}", plan.group, plan.target, local(plan.target_ns)),
        format!(
            "given up: {span} of history: {} writes of {}, {} punches (kept under a bookmark, so this can be undone)",
            plan.writes_given_up,
            Size(plan.bytes_given_up),
            plan.punches_given_up
        ),
        format!("changed: at most {} in {} extents", Size(plan.changed_bytes), plan.changed_extents),
    ];
    if !plan.bookmarks_given_up.is_empty() {
        lines.push(format!("bookmarks behind that point: {}", plan.bookmarks_given_up.join(", ")));
    }
    lines.extend(left_alone(plan));
    let devices: Vec<_> = plan.devices.iter().map(|device| device.display().to_string()).collect();
    lines.push(format!("devices: {}", devices.join(" ")));
    lines
}

/// A volume that was removed and made again is another one, and did not exist then.
fn left_alone(plan: &RollbackPlan) -> Option<String> {
    let names = plan.untouched.join(", ");
    (!names.is_empty()).then(|| format!("left as they are, because the group did not have them yet: {names}"))
}

fn rolled_back(done: &RolledBack) -> Report {
    let undo = format!("{}@#{}", done.plan.group, done.undo_bookmark);
    Report::new()
        .field("rollback", done)
        .field("undo", &undo)
        .line(format!(
            "group {} is as it was at seq:{}, {}: {} restored, {} punched (record seq:{})",
            done.plan.group,
            done.plan.target,
            local(done.plan.target_ns),
            Size(done.restored_bytes),
            Size(done.punched_bytes),
            done.position
        ))
        .lines(left_alone(&done.plan))
        .line(format!("to undo it: undisk rollback '{undo}'"))
}
