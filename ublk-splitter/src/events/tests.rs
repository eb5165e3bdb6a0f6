//! What goes on is told once a minute, and what is new at once.

use super::*;

fn at(seconds: u64) -> Now {
    Now { boot_ns: seconds * 1_000_000_000, wall_ns: 7 }
}

#[test]
fn each_kind_is_told_at_once_and_then_once_a_minute() {
    let mut watch = StrainWatch::default();
    let delayed = Strain { delayed: true, ..Strain::default() };
    let both = Strain { delayed: true, degraded: true, ..Strain::default() };
    assert_eq!(watch.look(Strain::default(), at(1)), []);
    assert_eq!(watch.look(delayed, at(2)), [Felt::Delayed]);
    assert_eq!(watch.look(Strain::default(), at(3)), []);
    assert_eq!(watch.look(delayed, at(4)), [], "it comes and goes");
    assert_eq!(watch.look(both, at(5)), [Felt::Degraded]);
    assert_eq!(watch.look(delayed, at(62)), [Felt::Delayed]);
    assert_eq!(watch.look(Strain { stalled: true, ..Strain::default() }, at(63)), [Felt::Stalled]);
}
