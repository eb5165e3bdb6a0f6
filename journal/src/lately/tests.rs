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
