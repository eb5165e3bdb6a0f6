//! What happened, as one number: two runs of a seed must have the same.
//!
//! Owns the hash of everything that is noted, and, when asked, the lines themselves.

use crate::time;
use std::cell::{Cell, RefCell};
use std::fmt::Debug;
use std::rc::Rc;

/// The trace of a world. Clones are the same one.
#[derive(Clone, Debug, Default)]
pub struct Trace(Rc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    hash: Cell<u64>,
    notes: Cell<u64>,
    lines: RefCell<Option<Vec<String>>>,
}

impl Trace {
    /// An empty one; with `keep`, lines are kept.
    pub fn new(keep: bool) -> Self {
        let trace = Self::default();
        *trace.0.lines.borrow_mut() = keep.then(Vec::new);
        trace
    }

    fn mix(&self, number: u64) {
        let mixed = (self.0.hash.get() ^ number).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(23);
        self.0.hash.set(mixed ^ mixed >> 31);
    }

    /// Something happened.
    pub fn note(&self, what: &str, numbers: &[u64]) {
        self.0.notes.set(self.0.notes.get() + 1);
        self.mix(time::now());
        what.bytes().for_each(|byte| self.mix(u64::from(byte)));
        for number in numbers {
            self.mix(*number);
        }
        self.line(|| format!("{what} {numbers:?}"));
    }

    /// A frame went by. Where the outbox lies is not part of the trace: it is another folder each time.
    pub fn frame(&self, what: &str, link: u64, frame: &impl Debug) {
        let text = format!("{frame:?}");
        let text = text.split(", outbox: ").next().unwrap_or(&text);
        self.note(what, &[link]);
        text.bytes().for_each(|byte| self.mix(u64::from(byte)));
        self.line(|| format!("    {}", text.chars().take(200).collect::<String>()));
    }

    /// A line that is no part of the hash.
    pub fn line(&self, text: impl FnOnce() -> String) {
        if let Some(lines) = self.0.lines.borrow_mut().as_mut() {
            let now = time::now();
            lines.push(format!("{:>4}.{:06} {}", now / time::S, now % time::S / time::US, text()));
        }
    }

    /// The hash so far.
    pub fn hash(&self) -> u64 {
        self.0.hash.get() ^ self.0.notes.get()
    }

    /// The newest lines.
    pub fn tail(&self, count: usize) -> Vec<String> {
        let lines = self.0.lines.borrow();
        let lines = lines.as_deref().unwrap_or_default();
        lines[lines.len().saturating_sub(count)..].to_vec()
    }
}
