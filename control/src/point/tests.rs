//! Points, both ways.

use super::*;
use crate::error::Kind;
use proptest::prelude::*;

const MINUTE: u64 = 60 * NANOS_PER_SECOND;
/// 2026-11-22T10:00:00Z.
const TEN: u64 = 1_795_341_600 * NANOS_PER_SECOND;

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn parse(text: &str) -> Result<PointSpec, ControlError> {
    PointSpec::parse_in(text, &berlin())
}

#[test]
fn every_documented_spelling_is_understood() {
    let time = |nanos| PointSpec::Time { nanos };
    let ago = |nanos| PointSpec::Ago { nanos };
    for (text, point) in [
        ("latest", PointSpec::Latest),
        ("oldest", PointSpec::Oldest),
        ("#fresh", PointSpec::Bookmark { name: "fresh".into() }),
        ("#latest", PointSpec::Bookmark { name: "latest".into() }),
        ("seq:0", PointSpec::Seq { position: 0 }),
        ("seq:123456", PointSpec::Seq { position: 123_456 }),
        ("-5m", ago(5 * MINUTE)),
        ("-5min", ago(5 * MINUTE)),
        ("-1h30m", ago(90 * MINUTE)),
        ("-1h 30min", ago(90 * MINUTE)),
        ("-2d", ago(2 * 24 * 60 * MINUTE)),
        ("-1w", ago(7 * 24 * 60 * MINUTE)),
        ("-250ms", ago(250_000_000)),
        ("-1.5s", ago(1_500_000_000)),
        ("@1795341600", time(TEN)),
        ("@1795341600.5", time(TEN + 500_000_000)),
        ("@1795341600.123456789", time(TEN + 123_456_789)),
        ("2026-11-22T10:00Z", time(TEN)),
        ("2026-11-22T10:00:00Z", time(TEN)),
        ("2026-11-22 10:00:00.25Z", time(TEN + 250_000_000)),
        ("2026-11-22T10:00:00.123456789Z", time(TEN + 123_456_789)),
        ("2026-11-22T11:00+01:00", time(TEN)),
        ("2026-11-22T05:00:00-05:00", time(TEN)),
        ("2026-11-22T11:00", time(TEN)),
        ("2026-11-22T11:00:30", time(TEN + MINUTE / 2)),
        ("2026-07-01T12:00", time(1_782_900_000 * NANOS_PER_SECOND)),
        ("1970-01-01T00:00Z", time(0)),
    ] {
        assert_eq!(parse(text).unwrap(), point, "{text}");
    }
}

#[test]
fn what_is_no_point_is_refused_with_its_reason() {
    for (text, why) in [
        ("", "empty"),
        ("now", "not a point"),
        ("Latest", "not a point"),
        ("#", "empty"),
        ("#1x", "starts with '1'"),
        ("seq:", "whole number"),
        ("seq:-1", "whole number"),
        ("seq:+1", "whole number"),
        ("seq:99999999999999999999", "whole number"),
        ("-", "empty"),
        ("-5", "no unit"),
        ("-m", "not a number"),
        ("-5M", "months"),
        ("-1mo", "months"),
        ("-1month", "months"),
        ("-1y", "no fixed length"),
        ("-5parsecs", "not a unit"),
        ("-1.2.3s", "not a number"),
        ("-0.0000000001s", "not a number"),
        ("-1000y", "no fixed length"),
        ("-99999999d", "not a number"),
        (
            "-600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w600w",
            "584 years",
        ),
        ("+5m", "not a point"),
        ("@", "seconds since 1970"),
        ("@-1", "seconds since 1970"),
        ("@1.", "one to nine digits"),
        ("@1.1234567890", "one to nine digits"),
        ("@99999999999999", "2554"),
        ("2026-11-22", "time of day"),
        ("2026-11-22T10", "HH:MM"),
        ("2026-13-22T10:00", "no such date"),
        ("2026-02-30T10:00", "no such date"),
        ("2026-11-22T25:00", "no such date"),
        ("2026-11-22T10:00:00.Z", "one to nine digits"),
        ("2026-11-22T10:00:00.1234567891Z", "one to nine digits"),
        ("2026-11-22T10:00+1", "offset"),
        ("2026-11-22T10:00+0100", "offset"),
        ("2026-11-22T10:00+99:00", "no such offset"),
        ("2026-11-22T10:00[America/New_York]", "offset from UTC"),
        ("2026-11-22T10:00-05:00[America/New_York]", "offset from UTC"),
        ("2026-11-22T10:00[u-ca=hebrew]", "offset from UTC"),
        ("1969-12-31T23:00Z", "1970"),
        ("2600-01-01T00:00Z", "2554"),
        ("2026-03-29T02:30", "put forward"),
        ("2026-10-25T02:30", "put back"),
    ] {
        let error = parse(text).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{text:?}");
        assert!(error.message.contains(why), "{text:?}: {error}");
    }
}

#[test]
fn a_time_that_was_twice_can_be_told_by_its_offset() {
    let summer = parse("2026-10-25T02:30+02:00").unwrap();
    let winter = parse("2026-10-25T02:30+01:00").unwrap();
    let (PointSpec::Time { nanos: summer }, PointSpec::Time { nanos: winter }) = (summer, winter) else {
        panic!("both are times");
    };
    assert_eq!(winter - summer, 60 * MINUTE);
}

#[test]
fn a_group_and_a_point_are_split_at_the_first_at_sign() {
    for (text, group, canonical) in [
        ("web@latest", "web", "web@latest"),
        ("web@-5m", "web", "web@-5m"),
        ("web@#fresh", "web", "web@#fresh"),
        ("web@@1795341600", "web", "web@2026-11-22T10:00:00.000000000Z"),
    ] {
        let both = GroupPoint::parse_in(text, &berlin()).unwrap();
        assert_eq!(both.group.as_str(), group);
        assert_eq!(both.to_string(), canonical);
    }
    let error = GroupPoint::parse_in("web", &berlin()).unwrap_err();
    assert!(error.message.contains("web@latest"), "{error}");
    assert_eq!(GroupPoint::parse_in("@latest", &berlin()).unwrap_err().message, "the group name is empty");
}

fn any_point() -> impl Strategy<Value = PointSpec> {
    prop_oneof![
        Just(PointSpec::Latest),
        Just(PointSpec::Oldest),
        "[a-zA-Z][a-zA-Z0-9_.-]{0,62}".prop_map(|name| PointSpec::Bookmark { name }),
        any::<u64>().prop_map(|position| PointSpec::Seq { position }),
        any::<u64>().prop_map(|nanos| PointSpec::Time { nanos }),
        any::<u64>().prop_map(|nanos| PointSpec::Ago { nanos }),
    ]
}

proptest! {
    #[test]
    fn the_canonical_spelling_reads_back_as_the_same_point(point in any_point()) {
        prop_assert_eq!(parse(&point.to_string()).unwrap(), point);
    }

    #[test]
    fn a_point_survives_the_way_to_the_journal_and_back(point in any_point()) {
        prop_assert_eq!(PointSpec::from(Point::from(point.clone())), point);
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in ".{0,40}") {
        let _ = parse(&text);
        let _ = GroupPoint::parse_in(&text, &berlin());
    }

    #[test]
    fn nearly_a_time_does_not_make_the_parser_panic(text in "[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9:.Zz+-]{0,20}é?") {
        let _ = parse(&text);
    }
}

#[test]
fn a_time_to_come_is_a_span_from_now_a_date_or_an_epoch() {
    let now = 1_795_341_600 * NANOS_PER_SECOND;
    let until = |text| parse_until_in(text, &TimeZone::UTC, now);
    let day = 86_400 * NANOS_PER_SECOND;
    assert_eq!(until("30d").unwrap(), now + 30 * day);
    assert_eq!(until("2026-11-23T10:00").unwrap(), now + day);
    assert_eq!(until("2026-11-23T12:00+02:00").unwrap(), now + day);
    assert_eq!(until("@1795428000").unwrap(), now + day);
    for (text, why) in [("soon", "is neither"), ("2026-11-23", "needs a time of day"), ("@x", "epoch time")] {
        let error = until(text).unwrap_err();
        assert!(error.message.contains(" is not a time: ") && error.message.contains(why), "{error}");
    }
    assert!(until("2026-11-22T10:00").unwrap_err().message.contains("is over already"));
}
