//! A checkpoint is read as it was first written, and nothing that is damaged is taken for one.

use super::*;
use crate::index::RunIndex;
use crate::state::{State, Stretch};
use crate::superblock::Superblock;
use std::fs;
use std::path::Path;

fn kept(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/state-v1");
    fs::read(folder.join(name)).expect("a file of the fixture")
}

fn frozen() -> (Superblock, Vec<u8>) {
    let superblock = Superblock::decode(&kept("superblock")[4096..]).expect("the second slot");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/formats/state-v1/state");
    let file = fs::read_dir(folder).expect("the fixture").next().expect("a checkpoint").expect("an entry").path();
    (superblock, fs::read(file).expect("a checkpoint"))
}

#[test]
fn the_first_format_is_read_and_written_again_as_it_was() {
    let (superblock, bytes) = frozen();
    let retained = superblock.retained;
    assert!(retained.first_segment > SegmentNumber::FIRST && retained.distributed > Position::ORIGIN, "{retained:?}");
    let checkpoint = Checkpoint::decode(&bytes, superblock.journal).expect("a checkpoint");
    assert_eq!(checkpoint.encode(superblock.journal), bytes);
    let piece = Stretch::restore(&mut In::of(&checkpoint.piece)).expect("a piece");
    let input = &mut In::of(&checkpoint.state);
    // Everything of the piece, so that it can be compared.
    let (first, from) = (SegmentNumber::FIRST, checkpoint.from);
    let state = State::restore(input, vec![piece], first, from, RunIndex::default()).expect("a state");
    assert_eq!(state.members.all().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["v1", "v2", "v3"]);
    assert_eq!(state.timeline.head().position.next(), checkpoint.mark.next_position);
    assert_eq!(state.timeline.rollbacks().len(), 1);
    let mut again = Out::default();
    state.save(&mut again);
    assert_eq!(again.finish(), checkpoint.state);
}

#[test]
fn nothing_that_is_damaged_cut_or_of_another_journal_is_a_checkpoint() {
    let (superblock, bytes) = frozen();
    for at in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        assert_eq!(Checkpoint::decode(&damaged, superblock.journal), None, "byte {at}");
        assert_eq!(Checkpoint::decode(&bytes[..at], superblock.journal), None, "{at} bytes");
    }
    assert_eq!(Checkpoint::decode(&bytes, JournalId::from_bytes([7; 16])), None);
}

#[test]
fn hostile_bytes_are_no_state() {
    let (superblock, bytes) = frozen();
    let checkpoint = Checkpoint::decode(&bytes, superblock.journal).expect("a checkpoint");
    let restore = |state: &[u8]| {
        State::restore(&mut In::of(state), Vec::new(), SegmentNumber::FIRST, Position::FIRST, RunIndex::default())
    };
    for at in 0..checkpoint.state.len() {
        assert!(restore(&checkpoint.state[..at]).is_none(), "{at} bytes");
        let mut hostile = checkpoint.state.clone();
        hostile[at] = 0xff;
        // It may be another state; it must not be a panic, nor take memory that the bytes do not account for.
        let _ = restore(&hostile);
        let _ = Stretch::restore(&mut In::of(&checkpoint.piece[..at.min(checkpoint.piece.len())]));
    }
}
