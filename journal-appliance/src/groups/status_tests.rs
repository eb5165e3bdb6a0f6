//! Goal: the health that an administrator sees is the worst thing that is true.

use super::*;
use journal::Gap;
use record::position::{Label, Position};

fn well() -> Signs {
    Signs { linked: true, ..Signs::default() }
}

#[test]
fn the_worst_sign_gives_the_health_its_name() {
    assert_eq!(health("g", &well()), Health::Protected);
    assert_eq!(health("g", &Signs { synchronising: true, ..well() }), Health::Synchronising);
    assert_eq!(health("g", &Signs { synchronising: true, linked: false, ..well() }), Health::Unlinked);
    let lost = Signs { needs_resync: true, linked: false, ..well() };
    assert!(matches!(health("g", &lost), Health::NeedsResync { reason } if reason.contains("undisk group resync g")));
    let rotten = Signs { damage: 2, synchronising: true, ..well() };
    assert!(matches!(health("g", &rotten), Health::Trouble { reason } if reason.contains("2 damaged")));
    let gone = Signs { lost_replica: Some("the replica r".to_owned()), damage: 2, linked: false, ..well() };
    assert_eq!(health("g", &gone), Health::Trouble { reason: "the replica r".to_owned() });
    let full = Signs { trouble: Some("disk full".to_owned()), needs_resync: true, ..well() };
    assert_eq!(health("g", &full), Health::Trouble { reason: "disk full".to_owned() });
    let poisoned = Signs { poisoned: Some("EIO".to_owned()), ..well() };
    assert_eq!(health("g", &poisoned), Health::Trouble { reason: "EIO".to_owned() });
}

#[test]
fn points_are_the_positions_of_the_window_that_no_gap_refuses_or_its_barriers() {
    use journal::{At, GapCause, Mark as Seen, Window as Between};
    let at = |position| At { position: Position::new(position), label: Label::default() };
    let gap = |begin, end: Option<u64>| Gap { begin: at(begin), end: end.map(at), cause: GapCause::RecordsLost };
    let barrier = |position| Seen { at: at(position), kind: MarkKind::Barrier };
    let mut view = TimelineView {
        window: None,
        head: at(100),
        barriers_only: false,
        grid: Vec::new(),
        gaps: vec![gap(1, Some(5)), gap(8, Some(12)), gap(20, Some(30)), gap(95, None)],
        bookmarks: Vec::new(),
        marks: vec![barrier(9), barrier(11), barrier(40), Seen { at: at(50), kind: MarkKind::Flush }],
        counts: OpCounts::default(),
    };
    assert_eq!(points(&view), 0);
    view.window = Some(Between { oldest: at(10), newest: at(94) });
    assert_eq!(points(&view), 85 - 2 - 10);
    view.barriers_only = true;
    assert_eq!(points(&view), 2);
}
