//! Taking over from a dead predecessor.
//!
//! Owns what of an outbox's file can be believed, and how what the predecessor left half done becomes whole: a number whose
//! record was never completed becomes a NOOP, so that the stream has no hole. Changes nothing once the outbox is in use.

use super::layout::{self, PAGE};
use super::table::Table;
use super::{Adopted, CLOSED, FREE, Mode, OPEN, Outbox, Owner, SEALED, publish_at, static_part};
use crate::lock::lock;
use record::checksum::{Salt, crc32c};
use record::chunk::{DESCRIPTOR_BYTES, Descriptor};
use record::fault::{Bug, bug};
use record::ids::Incarnation;
use record::op::Op;
use record::position::{Label, Session};
use std::fs::File;
use std::io;
use std::sync::atomic::Ordering;

impl Outbox {
    pub(super) fn slots_in(file: &File, len: usize, owner: Owner) -> io::Result<Option<usize>> {
        use std::os::unix::fs::FileExt as _;
        if len < PAGE {
            return Ok(None);
        }
        let mut head = [0u8; layout::STATIC_BYTES];
        let mut crc = [0u8; 4];
        file.read_exact_at(&mut head, 0)?;
        file.read_exact_at(&mut crc, layout::STATIC_CRC_AT as u64)?;
        let slots = u32::from_le_bytes([head[56], head[57], head[58], head[59]]) as usize;
        let ours = crc32c(&head) == u32::from_le_bytes(crc)
            && layout::SLOTS.contains(&slots)
            && head == static_part(owner, slots)
            && len == layout::file_bytes(slots);
        Ok(ours.then_some(slots))
    }

    /// Fills what a killed predecessor left incomplete with NOOPs and tells what is there. `None` when the words make
    /// no sense: then nothing in the file can be believed.
    pub(super) fn adopt(&self) -> Option<Adopted> {
        let mode = Mode::from_word(self.arena.load(layout::MODE_AT))?;
        let session = Session::new(self.arena.load(layout::SESSION_AT));
        let mut label = Label::from_nanos(self.arena.load(layout::LABEL_AT));
        let mut noops = 0;
        let mut failed = Vec::new();
        for slot in 0..self.slots {
            match self.state(slot) {
                FREE => {}
                OPEN | CLOSED | SEALED => {
                    let reserved = self.reserved(slot);
                    if !reserved.is_sane() {
                        return None;
                    }
                    for index in 0..reserved.records {
                        if self.arena.load_half(publish_at(slot, index)) == 0 {
                            noops += 1;
                            if bug(Bug::ForgetNoop) {
                                self.arena.store_half(publish_at(slot, index), 1);
                            } else {
                                self.fill_noop(slot, index, session, label);
                            }
                        }
                        let mut descriptor = [0u8; DESCRIPTOR_BYTES];
                        descriptor.copy_from_slice(&self.arena.read(self.descriptor_at(slot, index), DESCRIPTOR_BYTES));
                        let mut nanos = [0u8; 8];
                        nanos.copy_from_slice(&descriptor[24..32]);
                        label = label.max(Label::from_nanos(u64::from_le_bytes(nanos)));
                        if let Some((Op::Indeterminate, volume, extent)) = Descriptor::peek(&descriptor) {
                            failed.push((volume, extent));
                        }
                    }
                    if reserved.records == 0 || self.first(slot).plus(reserved.records as u64) <= self.released() {
                        // Killed between opening it and reserving the first place, or between releasing and freeing.
                        self.set_state(slot, FREE);
                    } else if self.state(slot) == OPEN {
                        self.set_state(slot, CLOSED);
                    }
                }
                _ => return None,
            }
        }
        // The slots must carry one dense run of numbers up from what was released.
        let mut expected = self.released();
        let mut used: Vec<usize> = (0..self.slots).filter(|slot| self.state(*slot) != FREE).collect();
        used.sort_by_key(|slot| self.first(*slot));
        for slot in &used {
            if self.first(*slot) != expected {
                return None;
            }
            expected = expected.plus(self.reserved(*slot).records as u64);
        }
        *lock(&self.used) = used.into();
        self.next.store(expected.get(), Ordering::Relaxed);
        Some(Adopted {
            mode,
            session: (session.get() != 0).then_some(session),
            laid: expected,
            label,
            noops,
            reason: self.reason(),
            failed,
            in_flight: Table::adopt(&self.arena, layout::table_at(self.slots)).1,
        })
    }

    fn fill_noop(&self, slot: usize, index: usize, session: Session, label: Label) {
        let noop = Descriptor::bare(Op::Noop, Incarnation::NONE, None, label);
        let place = u32::try_from(index).unwrap_or(u32::MAX);
        let bytes = noop.encode(Salt::of(self.owner.journal), session, self.first(slot), place);
        self.arena.write(self.descriptor_at(slot, index), &bytes);
        self.arena.store_half(publish_at(slot, index), 1);
    }
}
