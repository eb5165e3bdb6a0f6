//! What is kept of a group, and what nobody may remove: policy and holds.
//!
//! Owns both in the catalog, and what follows from them for other commands. A hold is durable before anybody is told
//! that there is one; it can be made longer, never shorter. The appliance's own clock says when it ends.

use std::sync::PoisonError;

use control::answer::kept::Trim;
use control::answer::{Answer, Bookmark, Outcome};
use control::error::ControlError;
use control::events::{EventKind, News};
use control::request::TrimTo;
use control::time::local;
use journal::retention::segment_bytes;

use super::{Groups, Held, catalog_error};
use crate::catalog::{GroupEntry, HoldEntry};
use crate::group::bookmarks::answer_bookmark;
use crate::group::retention::{Keep, Order};

impl Held {
    /// Until when nobody may remove this bookmark; `None`: anybody may.
    pub fn held_until(&self, bookmark: &str) -> Option<u64> {
        self.entry().holds.iter().find(|hold| hold.bookmark == bookmark).map(|hold| hold.until_ns)
    }

    /// Holds that have not ended.
    pub(super) fn holds(&self) -> Vec<(String, u64)> {
        let now = control::time::now();
        let entry = self.entry();
        let live = entry.holds.iter().filter(|hold| hold.until_ns > now);
        live.map(|hold| (hold.bookmark.clone(), hold.until_ns)).collect()
    }

    /// A bookmark as it is told, with its hold.
    pub(super) fn told(&self, bookmark: &journal::Bookmark) -> Bookmark {
        Bookmark { hold_until_ns: self.held_until(&bookmark.name), ..answer_bookmark(bookmark) }
    }

    /// Refused while something of the group is held.
    pub(super) fn nothing_held(&self, doing: &str) -> Result<(), ControlError> {
        let holds = self.holds();
        let Some((name, until)) = holds.iter().max_by_key(|(_, until)| *until) else { return Ok(()) };
        Err(ControlError::refused(format!(
            "cannot {doing}: bookmark {name} is held until {}; nothing was changed",
            local(*until)
        ))
        .hint(format!("undisk bookmark list {}", self.entry().name)))
    }
}

impl Groups {
    /// Changes what is kept of a group, all of it or nothing.
    pub fn set(&self, name: &str, settings: &[String], dry_run: bool) -> Result<Answer, ControlError> {
        let _changing = self.changing();
        let held = self.named(name)?;
        let open = held.open()?;
        let before = held.entry().retention;
        let after = before.with(settings, segment_bytes(&open.journal().space()))?;
        let message = format!("group {name}: {after}");
        let outcome = if after == before { Outcome::AlreadySo } else { Outcome::Changed };
        if !dry_run && after != before {
            self.change_entry(&held, |entry| entry.retention = after)?;
            let keep = Keep { policy: after, folder: held.entry().journal };
            open.call(move |group| group.keep(keep))?;
            open.set_scrub(after.scrub());
            self.events.tell(News::new(EventKind::PolicyChanged, after.to_string()).group(name));
            tracing::info!(group = name, policy = %after, "what is kept was changed");
        }
        Ok(Answer::RetentionSet { outcome, message, retention: after.answer() })
    }

    /// Lets nobody remove a bookmark before `until_ns`.
    pub fn hold(&self, group: &str, name: &str, until_ns: u64) -> Result<(Outcome, Bookmark), ControlError> {
        let doing = format!("hold bookmark {name} of group {group}");
        in_time_to_come(&doing, until_ns)?;
        let _changing = self.changing();
        let held = self.named(group)?;
        let bookmarks = held.open()?.journal().timeline().bookmarks;
        let bookmark = bookmarks.iter().find(|bookmark| bookmark.name == name);
        let bookmark = bookmark.ok_or_else(|| {
            ControlError::not_found(format!("group {group} has no bookmark '{name}'"))
                .hint(format!("undisk bookmark list {group}"))
        })?;
        let outcome = match held.held_until(name) {
            Some(before) if before == until_ns => Outcome::AlreadySo,
            Some(before) if before > until_ns => {
                return Err(ControlError::refused(format!(
                    "cannot {doing} until {} only: it is held until {} already, and a hold is never made shorter",
                    local(until_ns),
                    local(before)
                )));
            }
            Some(_) | None => Outcome::Changed,
        };
        if outcome == Outcome::Changed {
            self.change_entry(&held, |entry| {
                entry.holds.retain(|hold| hold.bookmark != name);
                entry.holds.push(HoldEntry { bookmark: name.to_owned(), until_ns });
            })?;
            tracing::info!(group, bookmark = name, until = %local(until_ns), "a bookmark is held");
        }
        Ok((outcome, held.told(bookmark)))
    }

    /// Forgets a bookmark that is not held; whether there was one.
    pub fn remove_bookmark(&self, group: &str, name: &str) -> Result<bool, ControlError> {
        let _changing = self.changing();
        let held = self.named(group)?;
        let open = held.open()?;
        if let Some((_, until)) = held.holds().iter().find(|(held, _)| held == name) {
            return Err(ControlError::refused(format!(
                "bookmark {name} of group {group} is held until {}: nobody can remove it before",
                local(*until)
            )));
        }
        let removed = {
            let name = name.to_owned();
            open.call(move |group| group.remove_bookmark(&name))??
        };
        // A hold that has ended must not come over the next bookmark of this name.
        if held.held_until(name).is_some() {
            self.change_entry(&held, |entry| entry.holds.retain(|hold| hold.bookmark != name))?;
        }
        Ok(removed)
    }

    /// Gives up the oldest points of a group, or says what that would be.
    pub fn trim(&self, name: &str, to: TrimTo, dry_run: bool) -> Result<(Outcome, Trim), ControlError> {
        let _changing = self.changing();
        let held = self.named(name)?;
        let order = Order { to, dry_run, holds: held.holds() };
        let trim = held.open()?.call(move |group| group.trim(&order))??;
        let outcome = if trim.positions > 0 { Outcome::Changed } else { Outcome::AlreadySo };
        Ok((outcome, trim))
    }

    pub(super) fn change_entry(&self, held: &Held, change: impl FnOnce(&mut GroupEntry)) -> Result<(), ControlError> {
        let mut entry = held.entry.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changed = entry.clone();
        change(&mut changed);
        self.catalog.put_group(&changed).map_err(|e| catalog_error(&e))?;
        *entry = changed;
        Ok(())
    }
}

/// What has ended already would hold nothing.
pub fn in_time_to_come(doing: &str, until_ns: u64) -> Result<(), ControlError> {
    if until_ns > control::time::now() {
        return Ok(());
    }
    Err(ControlError::usage(format!("cannot {doing} until {}: that is over", local(until_ns))))
}
