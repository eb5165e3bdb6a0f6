use super::Lately;

#[test]
fn the_one_that_was_asked_for_longest_ago_makes_room() {
    let mut kept: Lately<u32, &str, 2> = Lately::default();
    for (name, value) in [(1, "one"), (2, "two")] {
        assert_eq!(kept.find(name), None);
        kept.keep(name, value);
    }
    assert_eq!(kept.find(1), Some("one"));
    assert_eq!(kept.find(3), None);
    kept.keep(3, "three");
    assert_eq!((kept.find(1), kept.find(2), kept.find(3)), (Some("one"), None, Some("three")));
    kept.drop_one(1);
    assert_eq!(kept.find(1), None);
}

#[test]
fn what_is_heavy_makes_room_for_itself_and_what_is_too_heavy_is_not_kept() {
    let mut kept: Lately<u32, &str, 10> = Lately::default();
    kept.keep_weighing(1, "one", 4);
    kept.keep_weighing(2, "two", 4);
    kept.keep_weighing(3, "three", 3);
    assert_eq!((kept.find(1), kept.find(2), kept.find(3)), (None, Some("two"), Some("three")));
    // Kept once more it weighs once.
    kept.keep_weighing(2, "second", 5);
    assert_eq!((kept.find(3), kept.find(2)), (Some("three"), Some("second")));
    kept.keep_weighing(4, "four", 11);
    assert_eq!((kept.find(2), kept.find(3), kept.find(4)), (Some("second"), Some("three"), None));
    kept.keep_weighing(5, "five", 10);
    assert_eq!((kept.find(2), kept.find(3), kept.find(5)), (None, None, Some("five")));
}
