//! Times as printed.

use super::*;

const AT: u64 = 1_795_341_600_123_456_789;

#[test]
fn the_exact_spelling_always_has_nine_digits() {
    assert_eq!(rfc3339(AT), "2026-11-22T10:00:00.123456789Z");
    assert_eq!(rfc3339(1_795_341_600_000_000_000), "2026-11-22T10:00:00.000000000Z");
    assert_eq!(rfc3339(0), "1970-01-01T00:00:00.000000000Z");
    assert!(rfc3339(u64::MAX).starts_with("2554-"));
}

#[test]
fn the_spelling_for_people_says_its_offset() {
    let zone = TimeZone::get("Europe/Berlin").unwrap();
    assert_eq!(in_zone(AT, zone), "2026-11-22 11:00:00.123 +01:00");
}

#[test]
fn a_span_is_no_more_exact_than_it_is_long() {
    let told = [(0, "0 s"), (299, "299 s"), (300, "5 min"), (2700, "45 min"), (7199, "120 min")];
    let longer = [(7200, "2 h"), (111_600, "31 h"), (172_800, "48 h"), (345_600, "4 d"), (604_800, "7 d")];
    for (seconds, words) in told.into_iter().chain(longer) {
        assert_eq!(span(seconds), words);
    }
}

#[test]
fn the_local_zone_is_what_the_database_says_of_it() {
    let (ours, theirs) = (local_zone(), TimeZone::system());
    for month in 0..24 {
        let at = instant(AT + month * 30 * 86_400 * 1_000_000_000);
        assert_eq!(ours.to_offset(at), theirs.to_offset(at));
    }
}
