use super::Lately;

#[test]
fn the_one_that_nobody_asked_for_makes_room() {
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

#[test]
fn where_all_were_asked_for_the_one_that_has_been_there_for_longest_makes_room() {
    let mut kept: Lately<u32, u32, 3> = Lately::default();
    for name in 0..3 {
        kept.keep(name, name);
        assert_eq!(kept.find(name), Some(name));
    }
    kept.keep(3, 3);
    kept.keep(4, 4);
    assert_eq!((0..5).map(|name| kept.find(name)).collect::<Vec<_>>(), [None, None, Some(2), Some(3), Some(4)]);
}
