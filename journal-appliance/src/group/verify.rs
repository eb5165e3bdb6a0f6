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
    waiting: Vec<(LinkId, Question)>,
    /// Made with the first question.
    reader: Option<SyncSender<(Link, Question)>>,
}

impl Verifying {
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }
}

impl Group {
    /// The splitter asks.
    pub(super) fn verify_read(&mut self, link: LinkId, question: Question) {
        let Some(asker) = self.sides.link(link).cloned() else { return };
        if self.session_of(link) != Some(question.session) {
            return asker.send(&refusal(&question, "the session is over"));
        }
        if self.verifying.waiting.len() >= WAITING_MAX {
            return asker.send(&refusal(&question, "too many questions at once"));
        }
        self.verifying.waiting.push((link, question));
        self.look_at_verifying();
    }

    /// The session of the splitter for which a connection speaks.
    fn session_of(&self, link: LinkId) -> Option<Session> {
        self.sides.speaking(link).and_then(|splitter| self.sides.get(splitter)?.intake.session())
    }

    /// A link has ended: nobody waits for what was asked on it.
    pub(super) fn forget_verifying(&mut self) {
        let waiting = std::mem::take(&mut self.verifying.waiting);
        self.verifying.waiting = waiting.into_iter().filter(|(link, _)| self.sides.speaking(*link).is_some()).collect();
    }

    /// Hands on what has become durable.
    pub(super) fn look_at_verifying(&mut self) {
        if self.verifying.is_idle() {
            return;
        }
        let mut waiting = Vec::new();
        for (id, question) in std::mem::take(&mut self.verifying.waiting) {
            let Some(link) = self.sides.link(id).cloned() else { continue };
            let durable = self.journal.watermarks(question.session).map(|marks| marks.durable);
            if self.session_of(id) != Some(question.session) {
                link.send(&refusal(&question, "the session is over"));
            } else if durable.is_some_and(|below| below >= question.at) {
                match self.hand_over(link.clone(), question) {
                    Ok(true) => {}
                    Ok(false) => waiting.push((id, question)),
                    Err(why) => link.send(&refusal(&question, &why)),
                }
            } else {
                waiting.push((id, question));
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
