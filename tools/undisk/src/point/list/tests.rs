//! The timeline: many flushes in a row share a line, many grid points too, and nothing else ever does.

use super::*;

fn line(position: u64, kind: &str) -> Moment {
    Moment { position, time_ns: position, kind: kind.into(), text: String::new() }
}

fn positions(moments: &[Moment]) -> Vec<u64> {
    moments.iter().map(|moment| moment.position).collect()
}

#[test]
fn many_flushes_in_a_row_share_one_line_that_counts_them() {
    let kinds = ["flush", "flush", "flush", "flush", "flush", "bookmark", "flush", "flush", "flush", "gap", "flush"];
    let moments: Vec<_> = (1..).zip(kinds).map(|(position, kind)| line(position, kind)).collect();
    let lines = folded(&moments);
    assert_eq!(positions(&lines), [1, 6, 7, 8, 9, 10, 11], "five share a line, three do not");
    assert!(lines[0].text.starts_with("5 in a row, the last is seq:5 at "), "{}", lines[0].text);
}

#[test]
fn grid_points_share_a_line_too_but_not_with_flushes() {
    let kinds = ["grid", "grid", "grid", "grid", "flush", "flush", "flush", "grid"];
    let moments: Vec<_> = (1..).zip(kinds).map(|(position, kind)| line(position, kind)).collect();
    let lines = folded(&moments);
    assert_eq!(positions(&lines), [1, 5, 6, 7, 8]);
    assert!(lines[0].text.starts_with("4 in a row, the last is seq:4 at "), "{}", lines[0].text);
}

#[test]
fn what_is_no_flush_never_shares_a_line() {
    let moments: Vec<_> = (1..9).map(|position| line(position, "bookmark")).collect();
    assert_eq!(folded(&moments), moments);
    assert_eq!(folded(&[]), []);
}
