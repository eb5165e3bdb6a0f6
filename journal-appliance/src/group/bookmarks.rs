//! Bookmarks that were asked for and are not durable yet.
//!
//! Owns who waits for which; `crate::bookmark` decides.

use std::sync::mpsc::SyncSender;

use control::answer::{Bookmark, Progress};
use control::error::ControlError;
use control::events::EventKind;
use control::server::ProgressSink;
use record::conversation::ToSplitter;

use super::Group;
use super::barriers::Purpose;
use crate::bookmark::{BookmarkAsk, News, Step, View};

/// Bookmarks that may be on their way at once.
const PENDING_MAX: usize = 64;

/// One that is on its way.
#[derive(Debug)]
pub(super) struct Pending {
    ask: BookmarkAsk,
    progress: ProgressSink,
    answer: SyncSender<Result<Bookmark, ControlError>>,
}

impl Group {
    /// Begins to add a bookmark; `answer` is sent to once, later.
    pub fn add_bookmark(
        &mut self,
        name: &str,
        ticket: u64,
        progress: ProgressSink,
        answer: SyncSender<Result<Bookmark, ControlError>>,
    ) -> Result<(), ControlError> {
        if self.journal.bookmark_exists(name) || self.bookmarks.iter().any(|p| p.ask.name() == name) {
            return Err(ControlError::refused(format!("group {} has a bookmark '{name}' already", self.name))
                .hint(format!("choose another name, or undisk bookmark remove {} {name}", self.name)));
        }
        if self.bookmarks.len() >= PENDING_MAX {
            return Err(ControlError::failed(format!(
                "{PENDING_MAX} bookmarks of group {} are on their way already; try again later",
                self.name
            )));
        }
        let ask = BookmarkAsk::new(&self.name, name, ticket);
        self.bookmarks.push(Pending { ask, progress, answer });
        self.look_at_bookmarks();
        Ok(())
    }

    /// One cannot be laid.
    pub(super) fn bookmark_refused(&mut self, ticket: u64, reason: &str) {
        self.step_bookmarks(
            |pending| {
                if pending.ask.ticket() == ticket { News::Refused(reason.to_owned()) } else { News::None }
            },
        );
    }

    /// Goes on with each as far as possible.
    pub(super) fn look_at_bookmarks(&mut self) {
        if self.bookmarks.is_empty() {
            return;
        }
        let laid = |p: &Pending| p.ask.is_laid() && self.journal.bookmark_exists(p.ask.name());
        let durable = if self.bookmarks.iter().any(laid) { self.journal.timeline().bookmarks } else { Vec::new() };
        self.step_bookmarks(|pending| {
            match durable.iter().find(|b| b.ticket == pending.ask.ticket() && b.name == pending.ask.name()) {
                Some(found) => News::Durable(answer_bookmark(found)),
                None => News::None,
            }
        });
    }

    fn step_bookmarks(&mut self, news: impl Fn(&Pending) -> News) {
        if self.bookmarks.is_empty() {
            return;
        }
        let view = self.view();
        let now = self.now();
        let (mut waiting, mut barriers) = (Vec::new(), Vec::new());
        for mut pending in std::mem::take(&mut self.bookmarks) {
            let news = news(&pending);
            match pending.ask.step(now, view, news) {
                Step::Wait => {
                    if let (true, false) = (view.synchronising > 0, pending.ask.is_laid()) {
                        pending.progress.report(self.sync_progress());
                    }
                    waiting.push(pending);
                }
                Step::Lay => {
                    let (ticket, name) = (pending.ask.ticket(), pending.ask.name().to_owned());
                    match self.participants[..] {
                        [only] => self.send(only, &ToSplitter::LayBookmark { ticket, name }),
                        // Records of several splitters have no order but at a barrier.
                        _ => barriers.push((ticket, name)),
                    }
                    waiting.push(pending);
                }
                Step::Done(outcome) => {
                    if let Ok(bookmark) = &outcome {
                        let text = format!("#{} is seq:{}", bookmark.name, bookmark.position);
                        self.tell(EventKind::Bookmark, text);
                    }
                    // The asker may be gone; the bookmark stays.
                    drop(pending.answer.try_send(outcome));
                }
            }
        }
        self.bookmarks = waiting;
        for (ticket, name) in barriers {
            self.want_barrier(Purpose::Bookmark { ticket, name });
        }
    }

    /// The group, as far as bookmarks and rollbacks care.
    pub(super) fn view(&self) -> View {
        let members = self.journal.members();
        let current = || members.iter().filter(|m| m.left.is_none());
        View {
            linked: self.is_linked(),
            needs_resync: self.journal.status().needs_resync,
            joined: current().filter(|m| m.joined.is_some()).count(),
            synchronising: current().filter(|m| m.joined.is_none()).count(),
        }
    }

    fn sync_progress(&self) -> Progress {
        let members = self.journal.members();
        let current = members.iter().filter(|m| m.left.is_none() && m.joined.is_none());
        Progress {
            what: "initial synchronisation".to_owned(),
            done: self.sides.iter().flat_map(|(_, side)| side.intake.synchronising()).map(|(_, bytes)| bytes).sum(),
            total: current.map(|m| m.size.bytes()).sum(),
        }
    }
}

/// A bookmark, for an operator.
pub fn answer_bookmark(bookmark: &journal::Bookmark) -> Bookmark {
    Bookmark {
        name: bookmark.name.clone(),
        position: bookmark.at.position.get(),
        time_ns: bookmark.at.label.nanos(),
        hold_until_ns: None,
    }
}
