//! Which names are allowed.

use super::*;
use crate::error::Kind;

#[test]
fn names_that_are_allowed() {
    let longest = "a".repeat(63);
    for good in ["a", "Web", "db-1", "a.b_c-d", "x86", longest.as_str()] {
        assert_eq!(Name::parse(Named::Volume, good).unwrap().as_str(), good);
    }
}

#[test]
fn names_that_are_not_allowed_each_with_its_reason() {
    let too_long = "a".repeat(64);
    for (bad, why) in [
        ("", "empty"),
        ("1a", "starts with '1'"),
        ("-a", "starts with '-'"),
        (".", "starts with '.'"),
        ("_x", "starts with '_'"),
        ("a b", "' ' is not allowed"),
        ("a/b", "'/' is not allowed"),
        ("a@b", "'@' is not allowed"),
        ("#a", "'#' is not allowed"),
        ("größe", "'ö' is not allowed"),
        ("a\n", "'\\n' is not allowed"),
        (too_long.as_str(), "64 bytes, at most 63"),
    ] {
        let error = Name::parse(Named::Group, bad).unwrap_err();
        assert_eq!(error.kind, Kind::Usage, "{bad:?}");
        assert!(error.message.contains(why), "{bad:?}: {error}");
        assert!(error.message.contains("group"), "{bad:?}: {error}");
        assert!(!error.message.contains('\n'), "one line: {error}");
    }
}

#[test]
fn bookmarks_of_rollbacks_cannot_be_added_but_can_be_named() {
    let error = Name::parse_new_bookmark("before-rollback-x").unwrap_err();
    assert_eq!(error.kind, Kind::Usage);
    assert!(Name::parse_new_bookmark("before-rollout").is_ok());
    assert!(Name::parse(Named::Bookmark, "before-rollback-x").is_ok());
}

#[test]
fn the_bookmark_of_a_rollback_is_itself_a_name() {
    let name = Name::before_rollback(1_795_341_600_123_456_789);
    assert_eq!(name.as_str(), "before-rollback-20261122T100000.123Z");
    assert_eq!(Name::parse(Named::Bookmark, name.as_str()).unwrap(), name);
}
