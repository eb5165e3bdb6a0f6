//! Wrong usage in one line.

use super::*;

fn usage(words: &[&str]) -> UsageError {
    let arguments: Vec<OsString> = std::iter::once("undisk").chain(words.iter().copied()).map(OsString::from).collect();
    crate::grammar::parse(&arguments).unwrap_err()
}

#[test]
fn the_command_is_named_as_far_as_it_was_understood() {
    assert_eq!(usage(&["-J", "volume", "create", "--bad"]).understood, "undisk volume create");
    assert_eq!(usage(&["volume", "list", "create"]).understood, "undisk volume list");
    assert_eq!(usage(&["nosuch", "volume"]).understood, "undisk");
}

#[test]
fn whatever_is_wrong_stays_one_line() {
    for words in [["volume", "create"].as_slice(), &["a\nb"], &["volume", "create", "x", "--queues", "\n"], &[]] {
        let line = usage(words).line();
        assert!(!line.contains('\n') && !line.is_empty(), "{words:?}: {line}");
    }
}

#[test]
fn the_grammar_holds_together() {
    crate::grammar::command().debug_assert();
}
