//! `undisk journal trim`: the oldest points go now.
//!
//! Owns what is refused and what is said of it. The room comes free a little later, as for everything that is given up.

use control::answer::kept::Trim;
use control::error::ControlError;
use control::request::TrimTo;
use control::size::Size;
use control::time::local;
use journal::retention::{self, not_before, total};
use record::position::{Label, Position};
use std::sync::PoisonError;

use super::super::{Group, journal_error, resolve};
use super::thinning::{Present, count_gone};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Order {
    /// Which points.
    pub to: TrimTo,
    /// Only say.
    pub dry_run: bool,
    /// Bookmarks that nobody may remove, and until when.
    pub holds: Vec<(String, u64)>,
}

impl Group {
    /// Gives points up, or says what that would be.
    pub fn trim(&mut self, order: &Order) -> Result<Trim, ControlError> {
        let doing = format!("trim the journal of group {}", self.name);
        if self.rollback.is_some() {
            return Err(ControlError::refused(format!(
                "cannot {doing}: a rollback is under way; it finishes by itself"
            )));
        }
        let (space, timeline) = (self.journal.space(), self.journal.timeline());
        let (grid, horizon) = (self.journal.grid(), space.horizon.position);
        let points = self.grid_points(&grid, horizon);
        let mut stay = None;
        let plan = match &order.to {
            TrimTo::Before { point } => {
                let to = resolve(&self.journal, &doing, &point.clone().into(), true)?;
                self.nothing_held_before(&doing, to, &order.holds)?;
                retention::trim_before(&space, &self.floors(to.max(horizon)), &points, to)
            }
            TrimTo::Size { bytes } => retention::trim_to_size(&space, &self.floors(horizon), &points, *bytes),
            TrimTo::Window => {
                let cutoff = self.cutoff(&timeline);
                let mut to = self.aged(cutoff);
                if !self.thins_nothing(&grid) {
                    let now = self.believed();
                    let present = Present { grid: &grid, oldest: super::oldest(&space, &timeline), now, cutoff };
                    let step = self.passing(&present, Position::ORIGIN, true);
                    to = step.to.position;
                    stay = Some(step.stays);
                }
                let points = stay.as_ref().map_or(points, |stay| self.grid_points(stay, to.max(horizon)));
                retention::trim_to_window(&space, &self.floors(to.max(horizon)), &points, to)
            }
        };
        let stay = stay.unwrap_or_else(|| not_before(&grid, plan.before).to_vec());
        let oldest = super::oldest(&space, &timeline);
        let at = space.segments.iter().map(|segment| segment.last).find(|last| last.position == plan.to);
        let to_ns = match at {
            Some(last) => last.label.nanos(),
            None if plan.to <= oldest.position => oldest.label.nanos(),
            // It is told only, so one that cannot be told is no reason to refuse.
            None => self.journal.image(plan.to).map_or(0, |image| image.at().label.nanos()),
        };
        // With grid points left, bookmarks among them are no surprise.
        let first = if plan.before == Position::ORIGIN { plan.to } else { plan.before };
        let bookmarks = timeline.bookmarks.iter().filter(|bookmark| bookmark.at.position < first);
        let trim = Trim {
            group: self.name.clone(),
            oldest: oldest.position.get(),
            oldest_ns: oldest.label.nanos(),
            to: plan.to.max(oldest.position).get(),
            to_ns,
            positions: plan.to.get().saturating_sub(oldest.position.get()),
            grid_points: count_gone(&grid, &stay, horizon),
            before: plan.before.get(),
            bytes: total(&space),
            bytes_after: plan.bytes,
            pinned_bytes: plan.pinned,
            bookmarks: bookmarks.map(|bookmark| bookmark.name.clone()).collect(),
            reached: match &order.to {
                TrimTo::Size { bytes } => plan.bytes <= *bytes,
                TrimTo::Before { .. } | TrimTo::Window => true,
            },
        };
        if !order.dry_run && (trim.positions > 0 || trim.grid_points > 0) {
            let failed = |e| journal_error(&doing, &e);
            self.keep_points(&grid, &stay).map_err(failed)?;
            if trim.positions > 0 {
                self.journal.forget(plan.to).map_err(failed)?;
            }
            let freed = trim.bytes.saturating_sub(trim.bytes_after);
            tracing::info!(group = self.name, oldest = %first, "points were given up on request");
            let points = match trim.grid_points {
                0 => String::new(),
                points => format!(", grid points among them: {points}"),
            };
            self.tell_trimmed(
                format!("points before seq:{first} were given up{points}; {} come free", Size(freed)),
                freed,
            );
            // At once, not within a second.
            self.retaining.looked = None;
            self.look_at_retention();
        }
        Ok(trim)
    }

    /// The time by which ages are told.
    fn believed(&self) -> Label {
        self.retaining.keeping.as_ref().map_or(Label::default(), |(retention, _)| retention.now())
    }

    fn nothing_held_before(&self, doing: &str, to: Position, holds: &[(String, u64)]) -> Result<(), ControlError> {
        for bookmark in self.journal.timeline().bookmarks.iter().filter(|bookmark| bookmark.at.position < to) {
            if let Some((name, until)) = holds.iter().find(|(name, _)| *name == bookmark.name) {
                return Err(ControlError::refused(format!(
                    "cannot {doing}: bookmark {name} at seq:{} is held until {}; nothing was changed",
                    bookmark.at.position,
                    local(*until)
                ))
                .hint(format!("undisk journal trim {} --before '#{name}'", self.name)));
            }
        }
        let images = self.shared.images.lock().unwrap_or_else(PoisonError::into_inner);
        match images.iter().filter(|position| **position < to).min() {
            None => Ok(()),
            Some(open) => Err(ControlError::refused(format!(
                "cannot {doing}: an image of seq:{open} is open, which is older; nothing was changed"
            ))
            .hint("undisk image list; undisk image close DEVICE")),
        }
    }
}
