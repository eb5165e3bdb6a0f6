use super::*;

#[test]
fn the_checkout_is_tidy() {
    let place = Place::find().unwrap();
    assert_eq!(offences(&place).unwrap(), Vec::<String>::new());
}

#[test]
fn a_room_too_long_is_named_and_a_test_may_be_long() {
    let text = format!("//! Long.\n{}", "\n".repeat(LONGEST));
    assert_eq!(file_offences("journal/src/long.rs", &text).len(), 1);
    assert!(file_offences("journal/src/long_tests.rs", &text).is_empty());
    assert!(file_offences("journal/src/long/tests.rs", &text).is_empty());
}

#[test]
fn a_room_says_what_it_is_for() {
    assert_eq!(file_offences("a/src/lib.rs", "use std::fs;\n").len(), 1);
    assert!(file_offences("a/src/lib.rs", "//! Files.\nuse std::fs;\n").is_empty());
    assert!(file_offences("a/src/lib_tests.rs", "use super::*;\n").is_empty());
}

#[test]
fn a_forbidden_word_is_found_with_its_line() {
    let text = format!("# Page\n\nsee {}{}\n", "/work", "/main/README.md");
    let offences = file_offences("docs/a.md", &text);
    assert_eq!(offences.len(), 1);
    assert!(offences[0].starts_with("docs/a.md:3: "), "{offences:?}");
}
