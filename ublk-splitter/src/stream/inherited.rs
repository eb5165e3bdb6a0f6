//! Requests of a killed predecessor: the kernel brings them again, and until it has, what they left half written counts
//! for nothing (PROTOCOL R3, R4, R9).

use super::{Entry, Stream};
use crate::lock::lock;
use crate::outbox::table::{EntryAt, InFlight};
use record::ids::Incarnation;
use record::op::{Op, OpFlags};

#[cfg(test)]
mod tests;

impl Stream {
    /// Whether requests of a killed predecessor are still to come again: what they left half written must not be read
    /// for the last word, and no region becomes clean meanwhile (PROTOCOL R3, R13).
    pub fn has_inherited(&self) -> bool {
        !lock(&self.state).inherited.is_empty()
    }

    /// Gives up requests of a killed predecessor that will not come again, of one volume or of all: records of them may
    /// be on their way, so their extents are unknown until they have been read (PROTOCOL R4). Answers with the extents;
    /// INDETERMINATE is laid for each.
    pub fn give_up_inherited(&self, volume: Option<Incarnation>) -> Vec<InFlight> {
        let mut state = lock(&self.state);
        let (gone, kept) = std::mem::take(&mut state.inherited)
            .into_iter()
            .partition(|(_, left)| volume.is_none_or(|volume| volume == left.volume));
        state.inherited = kept;
        drop(state);
        let mut given_up = Vec::new();
        let gone: Vec<(EntryAt, InFlight)> = gone;
        for (at, left) in gone {
            let entry =
                Entry { op: Op::Indeterminate, flags: OpFlags::NONE, volume: left.volume, extent: Some(left.extent) };
            self.lay(entry, &[]);
            self.outbox.erase(&mut lock(&self.state).table, at);
            given_up.push(left);
        }
        given_up
    }
}
