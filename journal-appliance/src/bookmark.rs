//! A bookmark that an administrator asked for, from the question to the durable record.
//!
//! A pure state machine: no journal, socket or clock. Owns when the splitter may be told to lay it (some volume has
//! joined, none is being synchronised, no gap is open, a splitter is linked) and when to give up. The bookmark is
//! true only once its record is durable; nothing is guessed.

use control::answer::Bookmark;
use control::error::{ControlError, Kind};

use crate::intake::session::Millis;

#[cfg(test)]
mod tests;

/// How long a splitter may take to come back before an asker is told that there is none.
const LINK_PATIENCE_MS: Millis = 5_000;
/// How long from telling the splitter to the durable record.
const LAY_PATIENCE_MS: Millis = 60_000;

/// The group, as far as bookmarks care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct View {
    /// A splitter is linked and has a session.
    pub linked: bool,
    /// Points are refused until a resynchronisation.
    pub needs_resync: bool,
    /// Volumes that have joined.
    pub joined: usize,
    /// Volumes whose initial synchronisation is not complete.
    pub synchronising: usize,
}

/// What happened to it.
#[derive(Debug, PartialEq, Eq)]
pub enum News {
    /// Nothing in particular.
    None,
    /// The splitter cannot lay it.
    Refused(String),
    /// Its record is durable.
    Durable(Bookmark),
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Step {
    /// Wait; ask again soon.
    Wait,
    /// Tell the splitter to lay it.
    Lay,
    /// Answer.
    Done(Result<Bookmark, ControlError>),
}

#[derive(Debug)]
enum Stage {
    Waiting { unlinked_since: Option<Millis> },
    Laid { until: Millis, unlinked_since: Option<Millis> },
}

/// One question.
#[derive(Debug)]
pub struct BookmarkAsk {
    group: String,
    name: String,
    ticket: u64,
    stage: Stage,
}

impl BookmarkAsk {
    /// A bookmark of this name, to be laid under this ticket (not 0).
    pub fn new(group: &str, name: &str, ticket: u64) -> Self {
        Self { group: group.to_owned(), name: name.to_owned(), ticket, stage: Stage::Waiting { unlinked_since: None } }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its ticket.
    pub fn ticket(&self) -> u64 {
        self.ticket
    }

    /// Whether the splitter was told.
    pub fn is_laid(&self) -> bool {
        matches!(self.stage, Stage::Laid { .. })
    }

    /// What follows.
    pub fn step(&mut self, now: Millis, view: View, news: News) -> Step {
        match news {
            News::Durable(bookmark) => return Step::Done(Ok(bookmark)),
            News::Refused(reason) => {
                return self.fail(Kind::Failed, &format!("the splitter could not lay it: {reason}"), None);
            }
            News::None => {}
        }
        if view.needs_resync {
            let hint = format!("undisk group resync {}", self.group);
            return self.fail(
                Kind::Refused,
                "writes were lost, and no point can be offered until a resynchronisation",
                Some(hint),
            );
        }
        match &mut self.stage {
            Stage::Laid { until, unlinked_since } => {
                // What was told over a link that then ended may have been laid or not: the splitter tells by its
                // chunks when it comes back.
                let hint = format!("it may still appear: undisk bookmark list {}", self.group);
                if gone_too_long(unlinked_since, now, view.linked) {
                    let why = "the splitter went away after it was told, and did not come back";
                    return self.fail(Kind::Failed, why, Some(hint));
                }
                if *until <= now {
                    let why = "its record did not become durable within 60 seconds";
                    return self.fail(Kind::TimedOut, why, Some(hint));
                }
                Step::Wait
            }
            Stage::Waiting { unlinked_since } => {
                if gone_too_long(unlinked_since, now, view.linked) {
                    let hint = "undisk status (is the splitter running?)".to_owned();
                    let why = "no splitter is linked, so the present moment is not known here";
                    return self.fail(Kind::Failed, why, Some(hint));
                }
                if !view.linked || view.synchronising > 0 {
                    return Step::Wait;
                }
                if view.joined == 0 {
                    return self.fail(Kind::Refused, "the group has no volume", None);
                }
                self.stage = Stage::Laid { until: now + LAY_PATIENCE_MS, unlinked_since: None };
                Step::Lay
            }
        }
    }

    fn fail(&self, kind: Kind, why: &str, hint: Option<String>) -> Step {
        let mut error =
            ControlError::new(kind, format!("cannot add bookmark '{}' to group {}: {why}", self.name, self.group));
        error.hint = hint;
        Step::Done(Err(error))
    }
}

/// Whether no splitter was linked for longer than an asker is kept waiting; keeps since when.
fn gone_too_long(since: &mut Option<Millis>, now: Millis, linked: bool) -> bool {
    if linked {
        *since = None;
        return false;
    }
    now >= *since.get_or_insert(now) + LINK_PATIENCE_MS
}
