//! The outbox: what is laid comes out sealed, in order and whole, whoever is killed in between.

use super::*;
use record::chunk::Body;
use record::geometry::Extent;
use record::op::Op;

const SESSION: Session = Session::new(3);

fn owner() -> Owner {
    Owner {
        boot: BootId::from_bytes([1; 16]),
        group: GroupId::from_bytes([2; 16]),
        journal: JournalId::from_bytes([3; 16]),
    }
}

fn write(label: u64, sector: u64, bytes: usize) -> Descriptor {
    let extent = Extent::from_bytes(sector * 512, bytes as u64).unwrap();
    Descriptor::bare(Op::Write, Incarnation::new(1), Some(extent), Label::from_nanos(label))
}

fn open(dir: &tempfile::TempDir, slots: usize) -> (Outbox, Option<Adopted>) {
    Outbox::open(&dir.path().join("box"), owner(), slots, Mode::Waiting).unwrap()
}

fn lay(outbox: &Outbox, label: u64, bytes: usize) -> StreamSeq {
    let place = outbox.reserve(bytes).expect("there is room");
    let seq = place.seq;
    let fill = u8::try_from(seq.get() % 251).unwrap();
    outbox.publish(place, SESSION, write(label, seq.get() * 8, bytes), &vec![fill; bytes]);
    seq
}

fn drain(outbox: &Outbox) -> Vec<Body> {
    outbox.close_open();
    let mut from = outbox.released();
    let mut bodies = Vec::new();
    while let Some(chunk) = outbox.sealed_from(from) {
        let (header, payload) = outbox.bytes_of(&chunk);
        let body = Body::decode(&header, owner().journal).expect("a sealed chunk decodes");
        assert_eq!(payload.len(), body.header.payload_len as usize);
        for record in &body.records {
            let (at, len) = (record.descriptor.payload_offset as usize, record.descriptor.payload_bytes as usize);
            assert_eq!(body.damaged_blocks(record, &payload[at..at + len]), vec![], "payload checks");
            let fill = u8::try_from(record.seq.get() % 251).unwrap();
            assert!(payload[at..at + len].iter().all(|b| *b == fill), "the payload is that of record {}", record.seq);
        }
        assert_eq!((body.header.first_seq, body.next_seq()), (chunk.first, chunk.next));
        from = chunk.next;
        bodies.push(body);
    }
    bodies
}

#[test]
fn a_chunk_has_nothing_of_a_longer_one_that_was_sealed_before() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, _) = open(&dir, 8);
    outbox.begin(SESSION, Mode::Active);
    for (records, size) in [(90, 4096), (1, 512), (30, 512), (3, 8192), (1, 4096)] {
        let laid: Vec<_> = (0..records).map(|n| lay(&outbox, 1 + n, size)).collect();
        // `Body::decode` refuses whatever is not zeros behind the table.
        let bodies = drain(&outbox);
        assert_eq!(bodies.iter().map(|body| body.records.len()).sum::<usize>(), laid.len());
        outbox.release(outbox.laid(), Label::from_nanos(100));
    }
}

#[test]
fn records_come_out_dense_and_whole_whatever_their_size() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, adopted) = open(&dir, 8);
    assert!(adopted.is_none());
    outbox.begin(SESSION, Mode::Active);
    let sizes = [512, 4096, 1536, 65536, 524_288, 524_288, 1024, 4096, 4096];
    for (i, size) in sizes.iter().enumerate() {
        assert_eq!(lay(&outbox, i as u64 + 1, *size).get(), i as u64 + 1);
    }
    let bodies = drain(&outbox);
    let records: Vec<_> = bodies.iter().flat_map(|b| &b.records).collect();
    assert_eq!(records.len(), sizes.len());
    assert!(bodies.len() >= 2, "two requests of 512 KiB and more do not fit one slot");
    for (record, size) in records.iter().zip(sizes) {
        assert_eq!(record.descriptor.payload_bytes as usize, size);
        assert!(size % 4096 != 0 || record.descriptor.payload_offset % 4096 == 0);
    }
}

#[test]
fn a_full_outbox_refuses_and_changes_nothing_and_goes_on_after_a_release() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, _) = open(&dir, 2);
    outbox.begin(SESSION, Mode::Active);
    let mut laid = 0;
    while let Some(place) = outbox.reserve(524_288) {
        outbox.publish(place, SESSION, write(laid + 1, laid, 524_288), &vec![0; 524_288]);
        laid += 1;
    }
    assert_eq!(laid, 4);
    assert_eq!(outbox.laid().get(), 5);
    let first = outbox.sealed_from(StreamSeq::FIRST).unwrap();
    assert!(!outbox.release(StreamSeq::new(2), Label::default()), "half a chunk is not released");
    assert!(outbox.release(first.next, Label::from_nanos(2)));
    assert_eq!(lay(&outbox, 9, 512).get(), 5);
}

#[test]
fn a_successor_finds_every_published_record_and_fills_the_others_with_noops() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (outbox, _) = open(&dir, 4);
        outbox.begin(SESSION, Mode::Active);
        lay(&outbox, 10, 4096);
        // Killed before publishing number 2; 3 was published by another thread.
        let _unpublished = outbox.reserve(8192).unwrap();
        lay(&outbox, 30, 4096);
    }
    let (outbox, adopted) = open(&dir, 4);
    let adopted = adopted.expect("same boot, group and journal");
    assert_eq!((adopted.mode, adopted.session), (Mode::Active, Some(SESSION)));
    assert_eq!((adopted.laid.get(), adopted.noops), (4, 1));
    assert_eq!(adopted.label.nanos(), 30);
    assert_eq!(lay(&outbox, 40, 512).get(), 4);
    let ops: Vec<_> = drain(&outbox).iter().flat_map(|b| b.records.clone()).map(|r| r.descriptor.op).collect();
    assert_eq!(ops, vec![Op::Write, Op::Noop, Op::Write, Op::Write]);
}

#[test]
fn a_killed_sealing_is_repeated_and_released_numbers_are_not_used_again() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (outbox, _) = open(&dir, 4);
        outbox.begin(SESSION, Mode::Active);
        for i in 0..5 {
            lay(&outbox, i + 1, 4096);
        }
        outbox.close_open();
        let chunk = outbox.sealed_from(StreamSeq::FIRST).unwrap();
        outbox.release(chunk.next, Label::from_nanos(77));
    }
    let (outbox, adopted) = open(&dir, 4);
    let adopted = adopted.unwrap();
    assert_eq!((adopted.laid.get(), adopted.label.nanos()), (6, 77));
    assert_eq!(lay(&outbox, 100, 4096).get(), 6);
    assert_eq!(drain(&outbox).len(), 1);
}

#[test]
fn an_outbox_of_another_boot_or_journal_or_with_a_flipped_byte_is_discarded() {
    for change in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        {
            let (outbox, _) = open(&dir, 2);
            outbox.begin(SESSION, Mode::Active);
            lay(&outbox, 1, 4096);
        }
        let mut other = owner();
        match change {
            0 => other.boot = BootId::from_bytes([9; 16]),
            1 => other.journal = JournalId::from_bytes([9; 16]),
            _ => {
                use std::os::unix::fs::FileExt as _;
                let file = OpenOptions::new().write(true).open(dir.path().join("box")).unwrap();
                file.write_all_at(&[0xff], 9).unwrap();
            }
        }
        let (outbox, adopted) = Outbox::open(&dir.path().join("box"), other, 2, Mode::Waiting).unwrap();
        assert!(adopted.is_none());
        assert_eq!(outbox.laid(), StreamSeq::FIRST);
    }
}

#[test]
fn the_mode_and_its_reason_outlive_the_process() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (outbox, _) = open(&dir, 2);
        outbox.begin(SESSION, Mode::Active);
        outbox.set_marking("the outbox was full");
    }
    let adopted = open(&dir, 2).1.unwrap();
    assert_eq!((adopted.mode, adopted.reason.as_str()), (Mode::Marking, "the outbox was full"));
}

#[test]
fn two_splitters_do_not_share_an_outbox() {
    let dir = tempfile::tempdir().unwrap();
    let (_outbox, _) = open(&dir, 2);
    assert!(Outbox::open(&dir.path().join("box"), owner(), 2, Mode::Waiting).is_err());
}

#[test]
fn a_successor_learns_which_extents_are_unknown_and_frees_a_slot_that_was_only_opened() {
    let dir = tempfile::tempdir().unwrap();
    let (outbox, _) = open(&dir, 3);
    outbox.begin(SESSION, Mode::Active);
    lay(&outbox, 1, 4096);
    let place = outbox.reserve(0).unwrap();
    let extent = Extent::new(40, 8).unwrap();
    let unknown = Descriptor::bare(Op::Indeterminate, Incarnation::new(7), Some(extent), Label::from_nanos(2));
    outbox.publish(place, SESSION, unknown, &[]);
    outbox.close_open();
    // Killed between opening a slot and reserving its first place.
    outbox.arena.store(layout::control_at(1) + layout::FIRST_AT, 3);
    outbox.set_state(1, OPEN);
    drop(outbox);
    let (outbox, adopted) = open(&dir, 3);
    let adopted = adopted.expect("it is adopted");
    assert_eq!((adopted.failed, adopted.laid), (vec![(Incarnation::new(7), extent)], StreamSeq::new(3)));
    assert_eq!(outbox.state(1), FREE);
    for label in 3..9 {
        lay(&outbox, label, 4096);
    }
    assert_eq!(drain(&outbox).iter().map(|body| body.records.len()).sum::<usize>(), 8);
}
