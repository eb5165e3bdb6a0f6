//! The decision alone: chains of headers with everything that a disk can do to them.

use super::*;
use crate::place::SegmentNumber;
use kit::Rng;
use record::ids::{JournalId, SplitterId};
use record::position::StreamSeq;
use record::streams::StreamAt;

fn streams(session: u64, next: u64) -> Streams {
    let splitter = SplitterId::from_bytes([1; 16]);
    Streams::one(StreamAt { splitter, session: Session::new(session), next: StreamSeq::new(next) })
}

fn place(n: u64) -> Place {
    Place { segment: SegmentNumber::FIRST, offset: n * 12_288 }
}

/// A chunk of one record of the given epoch behind `mark`, and the tail behind it.
fn chunk(mark: &TailMark, epoch: u64, committed: u64) -> (Seen, TailMark) {
    let header = ChunkHeader {
        journal: JournalId::from_bytes([1; 16]),
        epoch: JournalEpoch::new(epoch),
        number: mark.next_chunk,
        first_position: mark.next_position,
        next_position: mark.next_position.next(),
        committed: ChunkNumber::new(committed),
        previous: mark.previous,
        body_header_len: 4096,
        payload_len: 4096,
        body_digest: u32::try_from(mark.next_chunk.get() * 31 + epoch).expect("small"),
        streams: streams(1, mark.next_chunk.get() + 1),
        label: Label::from_nanos(mark.next_chunk.get()),
        offset: place(mark.next_chunk.get()).offset,
        segment: 1,
    };
    let (_, crc) = header.encode();
    let seen = Seen {
        witness: Witness::Segment,
        place: place(header.number.get()),
        header,
        crc,
        body_ok: true,
        payload_ok: true,
    };
    let behind = TailMark {
        epoch: header.epoch,
        next_chunk: header.number.next(),
        next_position: header.next_position,
        previous: crc,
        streams: header.streams,
        label: header.label,
    };
    (seen, behind)
}

/// A chain of `count` chunks, each naming all but the last `lag` in front of it as committed.
fn chain(count: u64, lag: u64) -> (Vec<Seen>, Vec<TailMark>) {
    let mut marks = vec![TailMark::START];
    let mut seen = Vec::new();
    for n in 1..=count {
        let (next, behind) = chunk(&marks[marks.len() - 1], 1, (n - 1).saturating_sub(lag));
        seen.push(next);
        marks.push(behind);
    }
    (seen, marks)
}

fn kept(decision: &Decision, seen: &[Seen]) -> Vec<u64> {
    let numbers = decision.verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Keep { seen: i } => Some(seen[*i].header.number.get()),
        Verdict::Descriptions { .. } | Verdict::Lost { .. } => None,
    });
    numbers.collect()
}

#[test]
fn a_whole_chain_is_kept_and_goes_on_behind_its_last_chunk() {
    let (seen, marks) = chain(5, 0);
    let decision = decide(&TailMark::START, &seen, &[]);
    assert_eq!(kept(&decision, &seen), [1, 2, 3, 4, 5]);
    assert_eq!((decision.tail, decision.committed.get()), (marks[5], 4));
    assert_eq!(decision.append_at, Some(place(6)));
    let empty = decide(&TailMark::START, &[], &[]);
    assert!(empty.verdicts.is_empty() && empty.append_at.is_none());
    assert_eq!(empty.tail, TailMark::START);
}

#[test]
fn the_first_invalid_chunk_behind_the_mark_is_a_cut_whatever_follows() {
    let (mut seen, marks) = chain(6, 3);
    seen[3].payload_ok = false;
    let decision = decide(&TailMark::START, &seen, &[]);
    assert_eq!(decision.committed.get(), 2);
    assert_eq!(kept(&decision, &seen), [1, 2, 3]);
    assert_eq!((decision.tail, decision.append_at), (marks[3], Some(place(4))));
    assert_eq!(decision.dropped, 3, "valid ones behind it are dropped too");
    // A footer is no place from which a chunk behind the mark is kept.
    let mut only_footer = chain(6, 3).0;
    only_footer[4].witness = Witness::Footer;
    assert_eq!(kept(&decide(&TailMark::START, &only_footer, &[]), &only_footer), [1, 2, 3, 4]);
}

#[test]
fn rot_at_a_former_cut_does_not_bring_back_what_lay_behind_it() {
    // Four chunks were under way, the first of them never came: the others lie whole behind the hole.
    let (mut seen, marks) = chain(7, 4);
    let stale: Vec<Seen> = seen.drain(3..).skip(1).collect();
    // RECOVERY and shorter chunks of the next epoch, all in front of them.
    let mut mark = marks[3];
    for n in 4..=8 {
        let (mut next, behind) = chunk(&mark, 2, n - 1);
        next.place.offset = place(4).offset + (n - 4) * 512;
        seen.push(next);
        mark = behind;
    }
    seen.extend(stale);
    let whole = decide(&TailMark::START, &seen, &[]);
    assert_eq!(kept(&whole, &seen), [1, 2, 3, 4, 5, 6, 7, 8]);
    // Then one bad spot of the medium takes RECOVERY and the chunk behind it.
    seen.drain(3..5);
    let decision = decide(&TailMark::START, &seen, &[]);
    assert_eq!(kept(&decision, &seen), [1, 2, 3, 6, 7, 8]);
    let epochs = decision.verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Keep { seen: i } => Some(seen[*i].header.epoch.get()),
        Verdict::Descriptions { .. } | Verdict::Lost { .. } => None,
    });
    assert_eq!(epochs.collect::<Vec<_>>(), [1, 1, 1, 2, 2, 2]);
    assert_eq!(decision.tail, mark);
}

#[test]
fn an_invalid_chunk_up_to_the_mark_is_damage_and_what_follows_is_kept() {
    let (whole, marks) = chain(6, 0);
    // The header is gone: positions are known from its neighbours.
    let mut seen = whole.clone();
    seen.remove(2);
    let decision = decide(&TailMark::START, &seen, &[]);
    assert_eq!(kept(&decision, &seen), [1, 2, 4, 5, 6]);
    let three = (Position::new(3), Position::new(3));
    let lost = Verdict::Lost {
        chunks: (ChunkNumber::new(3), ChunkNumber::new(3)),
        positions: Some(three),
        after: Some(place(3)),
        before: Some(place(4)),
        stream_known: true,
    };
    assert_eq!(decision.verdicts[2], lost);
    assert_eq!(decision.tail, marks[6]);
    // The footer has it.
    let mut seen = whole.clone();
    seen[2].witness = Witness::Footer;
    assert_eq!(kept(&decide(&TailMark::START, &seen, &[]), &seen), [1, 2, 3, 4, 5, 6]);
    // The header is there, the descriptions are not.
    let mut seen = whole.clone();
    seen[2].body_ok = false;
    assert_eq!(decide(&TailMark::START, &seen, &[]).verdicts[2], Verdict::Descriptions { seen: 2 });
    // Both copies are there: the segment's is taken.
    let mut seen = whole.clone();
    seen.push(Seen { witness: Witness::Footer, ..whole[2] });
    assert_eq!(decide(&TailMark::START, &seen, &[]).verdicts[2], Verdict::Keep { seen: 2 });
}

#[test]
fn the_last_chunks_are_lost_and_a_mark_knows_where_the_tail_was() {
    let (whole, marks) = chain(6, 0);
    let seen = &whole[..3];
    let decision = decide(&TailMark::START, seen, &[marks[6]]);
    assert_eq!(decision.committed.get(), 6);
    assert_eq!(kept(&decision, seen), [1, 2, 3]);
    assert_eq!((decision.tail, decision.append_at), (marks[6], None));
    assert!(decision.stream_known);
    // Only a header behind them tells that they were there; it is not valid itself.
    let mut seen = whole[..3].to_vec();
    seen.push(Seen { payload_ok: false, ..whole[5] });
    let decision = decide(&TailMark::START, &seen, &[]);
    assert_eq!((decision.committed.get(), decision.tail.next_chunk.get()), (5, 6));
    assert_eq!(decision.tail.next_position, Position::new(6), "no position is given out twice");
    assert!(!decision.stream_known);
    assert_eq!(decision.append_at, None);
}

#[test]
fn a_stale_chunk_of_an_earlier_life_is_not_taken_for_the_next() {
    let (first_life, marks) = chain(5, 5);
    // Cut behind 3; the second life wrote 4 and stopped. The stale 5 stands right behind it.
    let (four, behind) = chunk(&marks[3], 2, 3);
    let mut seen = first_life[..3].to_vec();
    seen.extend([four, first_life[4]]);
    let decision = decide(&TailMark::START, &seen, &[]);
    assert_eq!(kept(&decision, &seen), [1, 2, 3, 4]);
    assert_eq!(decision.tail, behind);
    // Its mark counts, and so does its epoch: the next life's is above every one there was.
    let mut seen = first_life[..3].to_vec();
    seen.push(Seen { header: ChunkHeader { epoch: JournalEpoch::new(9), ..first_life[4].header }, ..first_life[4] });
    assert_eq!(decide(&TailMark::START, &seen, &[]).tail.epoch.get(), 9);
    // Both a stale and a new chunk of one number behind damage: the new one is it.
    let (five, _) = chunk(&behind, 2, 4);
    let (six, _) = chunk(&chunk(&behind, 2, 4).1, 2, 5);
    let mut seen = first_life[..3].to_vec();
    seen.extend([first_life[4], five, six]);
    let decision = decide(&TailMark::START, &seen, &[]);
    assert_eq!(kept(&decision, &seen), [1, 2, 3, 5, 6]);
    assert!(decision.verdicts.contains(&Verdict::Keep { seen: 4 }), "{:?}", decision.verdicts);
}

#[test]
fn whatever_is_invalid_everything_up_to_the_mark_is_accounted_for_and_nothing_behind_a_cut_is_kept() {
    for seed in Rng::seeds(1, 400) {
        let mut rng = Rng::new(seed);
        let count = 2 + rng.below(12);
        let (whole, marks) = chain(count, rng.below(4));
        let mut seen = Vec::new();
        for chunk in &whole {
            match rng.below(8) {
                0 => {}
                1 => seen.push(Seen { body_ok: false, ..*chunk }),
                2 => seen.push(Seen { payload_ok: false, ..*chunk }),
                3 => seen.push(Seen { witness: Witness::Footer, ..*chunk }),
                4 => seen.extend([*chunk, Seen { witness: Witness::Footer, ..*chunk }]),
                _ => seen.push(*chunk),
            }
        }
        let known = [marks[rng.index(marks.len())]];
        let decision = decide(&TailMark::START, &seen, &known);
        let k = decision.committed.get();
        // Chunk by chunk, in order, without a hole, up to the tail.
        let mut next = 1;
        let mut position = 1;
        for verdict in &decision.verdicts {
            match verdict {
                Verdict::Keep { seen: i } | Verdict::Descriptions { seen: i } => {
                    let header = seen[*i].header;
                    assert_eq!(header.number.get(), next, "SEED={seed}");
                    if next > k {
                        let whole = seen[*i].body_ok && seen[*i].payload_ok && seen[*i].witness == Witness::Segment;
                        assert!(whole, "SEED={seed}: chunk {next} is behind the mark {k}");
                    }
                    next += 1;
                    position = header.next_position.get();
                }
                Verdict::Lost { chunks, positions, .. } => {
                    assert_eq!(chunks.0.get(), next, "SEED={seed}");
                    assert!(chunks.1.get() <= k, "SEED={seed}: only what was committed can be lost");
                    let there = |n| seen.iter().any(|s| s.header.number.get() == n);
                    assert!(
                        (next..=chunks.1.get()).all(|n| !there(n)),
                        "SEED={seed}: what is there is not lost: {decision:?}"
                    );
                    next = chunks.1.get() + 1;
                    position = positions.map_or(position, |(_, last)| last.get() + 1);
                }
            }
        }
        assert!(next > k, "SEED={seed}: everything up to the mark is accounted for");
        assert_eq!(
            (decision.tail.next_chunk.get(), decision.tail.next_position.get()),
            (next, position),
            "SEED={seed}"
        );
    }
}
