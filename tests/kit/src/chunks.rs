//! A splitter's chunks without a splitter.
//!
//! Lays records of one session into chunk bodies, exactly as an outbox would, and numbers and labels them.

use record::build::{BodyBuilder, BodyBytes};
use record::chunk::Descriptor;
use record::geometry::Extent;
use record::ids::{Incarnation, JournalId};
use record::member::BookmarkNote;
use record::op::{Op, OpFlags};
use record::position::{Label, Session, StreamSeq};

/// One session's stream.
#[derive(Clone, Debug)]
pub struct Laying {
    journal: JournalId,
    session: Session,
    next: StreamSeq,
    label: Label,
    open: Vec<(Descriptor, Vec<u8>)>,
}

impl Laying {
    /// A stream that goes on at `next`, with labels behind `label`.
    pub fn new(journal: JournalId, session: Session, next: StreamSeq, label: Label) -> Self {
        Self { journal, session, next, label, open: Vec::new() }
    }

    /// The number of the next record.
    pub fn next(&self) -> StreamSeq {
        self.next.plus(self.open.len() as u64)
    }

    /// The newest label.
    pub fn label(&self) -> Label {
        self.label
    }

    /// Lets so many nanoseconds pass.
    pub fn pass(&mut self, nanos: u64) {
        self.label = Label::from_nanos(self.label.nanos() + nanos);
    }

    /// How many records are laid and not sealed.
    pub fn open_records(&self) -> usize {
        self.open.len()
    }

    fn lay(&mut self, op: Op, flags: OpFlags, volume: Incarnation, extent: Option<Extent>, payload: Vec<u8>) {
        self.pass(1_000);
        let descriptor = Descriptor { flags, ..Descriptor::bare(op, volume, extent, self.label) };
        self.open.push((descriptor, payload));
    }

    /// Lays a WRITE.
    pub fn write(&mut self, volume: Incarnation, extent: Extent, data: Vec<u8>) {
        self.lay(Op::Write, OpFlags::NONE, volume, Some(extent), data);
    }

    /// Lays a WRITE that a resync read back.
    pub fn reread(&mut self, volume: Incarnation, extent: Extent, data: Vec<u8>) {
        self.lay(Op::Write, OpFlags::RESYNC, volume, Some(extent), data);
    }

    /// Lays a record with an extent and no payload.
    pub fn change(&mut self, op: Op, volume: Incarnation, extent: Extent) {
        self.lay(op, OpFlags::NONE, volume, Some(extent), Vec::new());
    }

    /// Lays a record with neither extent nor payload.
    pub fn mark(&mut self, op: Op) {
        self.lay(op, OpFlags::NONE, Incarnation::NONE, None, Vec::new());
    }

    /// Lays a BOOKMARK.
    pub fn bookmark(&mut self, name: &str) {
        let note = BookmarkNote { ticket: 0, name: name.to_string() };
        self.lay(Op::Bookmark, OpFlags::NONE, Incarnation::NONE, None, note.encode());
    }

    /// Lays a record with a note.
    pub fn note(&mut self, op: Op, note: Vec<u8>) {
        self.lay(op, OpFlags::NONE, Incarnation::NONE, None, note);
    }

    /// Seals what is laid into one chunk; `None` when nothing is.
    pub fn seal(&mut self) -> Option<BodyBytes> {
        if self.open.is_empty() {
            return None;
        }
        let mut builder = BodyBuilder::new(self.journal, self.session, self.next);
        for (descriptor, payload) in &self.open {
            assert!(builder.push(*descriptor, payload), "the test lays more than a chunk takes");
        }
        self.next = self.next();
        self.open.clear();
        Some(builder.finish())
    }
}
