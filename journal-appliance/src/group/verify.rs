//! Digests of past content, for a splitter that compares its volume with the image.
//!
//! Owns the questions that wait until what they are about is durable, and the thread that reads and answers: the group's
//! own thread must not be kept from appending by somebody's comparison. Decides nothing: the splitter compares.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use journal::Journal;
use record::conversation::ToSplitter;
use record::digest::Digest;
use record::geometry::Extent;
use record::ids::Incarnation;
use record::position::{Session, StreamSeq};

use super::Group;
use crate::intake::link::{Link, LinkId};

/// Questions that may wait; a splitter asks far fewer at once.
const WAITING_MAX: usize = 64;

/// What the image holds right behind the records below `at`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Question {
    pub(super) session: Session,
    pub(super) volume: Incarnation,
    pub(super) extent: Extent,
    pub(super) at: StreamSeq,
}

/// Questions that wait, and the thread that answers.
#[derive(Debug, Default)]
pub(super) struct Verifying {
    waiting: Vec<Question>,
    /// Made with the first question.
    reader: Option<SyncSender<(Link, Question)>>,
}

impl Verifying {
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The link is another one: nobody waits for these any more.
    pub(super) fn forget(&mut self) {
        self.waiting.clear();
    }
}

impl Group {
    /// The splitter asks.
    pub(super) fn verify_read(&mut self, link: LinkId, question: Question) {
        if self.intake.link() != Some(link) {
            return;
        }
        if self.intake.session() != Some(question.session) {
            return self.send(&refusal(&question, "the session is over"));
        }
        if self.verifying.waiting.len() >= WAITING_MAX {
            return self.send(&refusal(&question, "too many questions at once"));
        }
        self.verifying.waiting.push(question);
        self.look_at_verifying();
    }

    /// Hands on what has become durable.
    pub(super) fn look_at_verifying(&mut self) {
        if self.verifying.is_idle() {
            return;
        }
        let (session, link) = (self.intake.session(), self.intake.link());
        let Some(link) = link.and_then(|id| self.links.get(&id)).cloned() else {
            return self.verifying.forget();
        };
        let durable = self.journal.watermarks().map(|marks| (marks.session, marks.durable));
        let mut waiting = Vec::new();
        for question in std::mem::take(&mut self.verifying.waiting) {
            if session != Some(question.session) {
                link.send(&refusal(&question, "the session is over"));
            } else if durable.is_some_and(|(of, below)| of == question.session && below >= question.at) {
                match self.hand_over(link.clone(), question) {
                    Ok(true) => {}
                    Ok(false) => waiting.push(question),
                    Err(why) => link.send(&refusal(&question, &why)),
                }
            } else {
                waiting.push(question);
            }
        }
        self.verifying.waiting = waiting;
    }

    /// Gives it to the reading thread; `false` when that has enough to do.
    fn hand_over(&mut self, link: Link, question: Question) -> Result<bool, String> {
        if self.verifying.reader.is_none() {
            let (reader, questions) = sync_channel(WAITING_MAX);
            let journal = Arc::clone(&self.journal);
            thread::Builder::new()
                .name(format!("verify {}", self.name))
                .spawn(move || answer(&journal, &questions))
                .map_err(|e| format!("the appliance cannot start a thread for it: {e}"))?;
            self.verifying.reader = Some(reader);
        }
        match self.verifying.reader.as_ref().map(|reader| reader.try_send((link, question))) {
            Some(Ok(())) => Ok(true),
            Some(Err(TrySendError::Full(_))) => Ok(false),
            Some(Err(TrySendError::Disconnected(_))) | None => {
                self.verifying.reader = None;
                Err("the appliance's reading thread has ended; see its log".to_owned())
            }
        }
    }
}

/// Until the group is gone.
fn answer(journal: &Journal, questions: &Receiver<(Link, Question)>) {
    while let Ok((link, question)) = questions.recv() {
        let answer = match digest(journal, &question) {
            Ok(digest) => ToSplitter::VerifyHash {
                volume: question.volume,
                extent: question.extent,
                at: question.at,
                digest: Some(digest),
                trouble: String::new(),
            },
            Err(trouble) => refusal(&question, &trouble),
        };
        link.send(&answer);
    }
}

fn digest(journal: &Journal, question: &Question) -> Result<Digest, String> {
    let image = journal.image_behind(question.session, question.at).map_err(|e| e.to_string())?;
    let image = image.ok_or("another session has begun")?;
    let bytes = usize::try_from(question.extent.bytes()).map_err(|e| e.to_string())?;
    let mut content = vec![0; bytes];
    image.read(question.volume, question.extent, &mut content).map_err(|e| e.to_string())?;
    Ok(Digest::of(&content))
}

fn refusal(question: &Question, why: &str) -> ToSplitter {
    ToSplitter::VerifyHash {
        volume: question.volume,
        extent: question.extent,
        at: question.at,
        digest: None,
        trouble: why.to_owned(),
    }
}
