//! What an operator changes of a running group: its policy, whether it is protected, what is read again.
//!
//! Owns storing it before it counts, and the event that tells of it. Deliberately enforces nothing: `stream` looks at
//! the policy, `link` and `work` at what is wanted.

use crate::begin::PAUSED;
use crate::bell::Rings;
use crate::catalog::CatalogError;
use crate::group::Group;
use crate::outbox::Mode;
use crate::policy::Settings;
use crate::work::Job;
use control::events::EventKind;
use std::sync::atomic::Ordering;

impl Group {
    /// How it is set to be protected, as stored.
    pub fn settings(&self) -> Result<Settings, CatalogError> {
        self.row().map(|row| row.settings())
    }

    /// Stores settings, and lets the policy count at once; the outbox's size counts from the next start on.
    pub fn set(&self, settings: &Settings) -> Result<(), CatalogError> {
        self.change_row(|row| (row.policy, row.outbox_bytes) = (settings.policy, settings.outbox_bytes))?;
        self.stream.set_policy(settings.policy);
        let outbox = control::size::Size(settings.outbox_bytes);
        self.stream.tell(EventKind::PolicyChanged, format!("{}, outbox {outbox}", settings.policy));
        Ok(())
    }

    /// Records nothing from now on, only what is touched; `false` when it is so already.
    pub fn pause(&self) -> Result<bool, CatalogError> {
        if self.paused.load(Ordering::Acquire) {
            return Ok(false);
        }
        // Stored first: a successor must not take up recording by itself.
        self.change_row(|row| row.paused = true)?;
        self.paused.store(true, Ordering::Release);
        self.stream.tell(EventKind::Paused, "an administrator paused it: hosts go on, their writes are not recorded");
        self.stream.mark(PAUSED);
        Ok(true)
    }

    /// Takes up recording again: what was touched is resynchronised; `false` when it was not paused.
    pub fn resume(&self) -> Result<bool, CatalogError> {
        if !self.paused.load(Ordering::Acquire) {
            return Ok(false);
        }
        self.change_row(|row| row.paused = false)?;
        self.paused.store(false, Ordering::Release);
        self.stream.tell(EventKind::Resumed, "an administrator resumed it");
        self.ring();
        Ok(true)
    }

    /// Reads again what the journal may lack, or everything, in a session of its own.
    pub fn resync(&self, full: bool) {
        if full {
            self.full_wanted.store(true, Ordering::Release);
            self.jobs.push_first(Job::Everything);
        } else {
            self.resync_wanted.store(true, Ordering::Release);
        }
        self.ring();
    }

    /// Whether a resynchronisation runs or was asked for.
    pub fn is_resyncing(&self) -> bool {
        self.stream.mode().0 == Mode::Resyncing || self.resync_is_wanted()
    }

    /// Whether one was asked for and has not begun.
    pub fn resync_is_wanted(&self) -> bool {
        self.resync_wanted.load(Ordering::Acquire) || self.full_wanted.load(Ordering::Acquire)
    }

    fn ring(&self) {
        self.stream.bell.ring(Rings { other: true, ..Rings::default() });
    }
}

#[cfg(test)]
mod tests;
