//! What is known of labels without reading, compared with a list of all of them.

use super::*;

fn at(n: u64) -> Position {
    Position::new(n)
}

fn label(n: u64) -> Label {
    Label::from_nanos(n)
}

/// Chunks of ten records, of which the last five have the same label.
fn many(records: u64) -> (Labels, Vec<Label>) {
    let (mut labels, mut all) = (Labels::default(), Vec::new());
    for n in 0..records {
        if n % 10 == 0 {
            labels.begin_chunk();
        }
        let now = label(1000 + n / 10 * 100 + (n % 10).min(5));
        labels.push(now);
        all.push(now);
    }
    (labels, all)
}

#[test]
fn a_label_is_exact_or_the_one_in_front_of_its_chunk() {
    let (labels, all) = many(RECENT_MAX as u64 + 1000);
    for n in 1..=all.len() as u64 {
        let index = usize::try_from(n - 1).unwrap();
        let told = labels.at(at(n)).label;
        match labels.to_be_read(at(n)) {
            None => assert_eq!(told, all[index], "seq:{n}"),
            Some(start) => {
                assert_eq!(start.position.get(), (n - 1) / 10 * 10 + 1, "the chunk of seq:{n}");
                assert_eq!(told, start.label);
                assert_eq!(told, index.checked_sub(index % 10 + 1).map_or(label(0), |before| all[before]));
            }
        }
    }
    assert!(labels.to_be_read(at(900)).is_some() && labels.to_be_read(at(all.len() as u64)).is_none());
}

#[test]
fn a_time_leads_to_the_chunk_in_which_the_last_record_not_after_it_is() {
    let (labels, all) = many(RECENT_MAX as u64 + 1000);
    for time in (0..1000 + all.len() as u64 * 10 + 200).step_by(7).map(label) {
        let last = all.partition_point(|l| *l <= time) as u64;
        match labels.chunk_at(time) {
            Err(position) => assert_eq!(position, at(last)),
            // Nothing of the chunk may be that old: then the last one of the chunk before it is.
            Ok(start) => assert!((start.position.get() - 1..start.position.get() + 10).contains(&last), "{time:?}"),
        }
    }
}

#[test]
fn what_means_something_is_exact_for_ever() {
    let (mut labels, mut all) = (Labels::default(), Vec::new());
    for n in 0..3 * RECENT_MAX as u64 {
        if n % 100 == 0 {
            labels.begin_chunk();
        }
        labels.push(label(n));
        all.push(label(n));
        if n == 57 {
            labels.note(at(51));
        }
    }
    assert_eq!((labels.at(at(51)).label, labels.to_be_read(at(51))), (label(50), None));
    labels.forget_notes(at(1000), |position| position == at(51));
    assert_eq!(labels.at(at(51)).label, label(50));
    labels.forget_chunks(at(5000));
    assert_eq!(labels.at(at(5050)).label, label(4999), "the chunk that seq:5000 is in, and those behind it, stay");
    assert_eq!(labels.at(at(51)).label, label(50));
    labels.forget_notes(at(1000), |_| false);
    assert_eq!(labels.at(at(51)).label, Label::default(), "forgotten");
}

#[test]
fn lost_records_have_the_label_in_front_of_them() {
    let (mut labels, all) = many(30);
    labels.lost(at(50_000));
    labels.begin_chunk();
    labels.push(label(9_999));
    let last = *all.last().unwrap();
    assert_eq!(labels.head(), At { position: at(50_001), label: label(9_999) });
    for n in [31, 4000, 40_000, 50_000] {
        assert_eq!(labels.at(at(n)).label, last, "seq:{n}");
    }
    assert_eq!(labels.chunk_at(label(9_998)).map(|start| start.position), Ok(at(50_001)));
    assert_eq!(labels.chunk_at(label(9_999)), Err(at(50_001)));
}
