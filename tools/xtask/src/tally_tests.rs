use super::*;

#[test]
fn every_test_program_of_cargo_adds_its_summary() {
    let mut tally = Tally::default();
    for line in [
        "running 3 tests",
        "test a ... ok",
        "test result: ok. 25 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.32s",
        "test result: FAILED. 24 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.31s",
        "error: test failed, to rerun pass `-p xtask`",
    ] {
        tally.read_cargo(line);
    }
    assert_eq!(tally.to_string(), "49 passed, 2 failed");
    assert_eq!(tally.failures().len(), 1);
}

#[test]
fn a_suites_cases_are_the_lines_that_begin_with_ok_or_not_ok() {
    let mut tally = Tally::default();
    let lines = ["ok mounts\n", "not ok trims: sector 8 is not zero\n", "okay then", "ok ", " ok indented", "# talk"];
    let kinds: Vec<Line> = lines.iter().map(|line| tally.read_suite("s", line)).collect();
    assert_eq!(kinds, [Line::Case, Line::Case, Line::Talk, Line::Talk, Line::Talk, Line::Talk]);
    assert_eq!(tally.to_string(), "1 passed, 1 failed");
    assert_eq!(tally.failures(), ["s: trims: sector 8 is not zero"]);
}

#[test]
fn tallies_add_up_and_an_empty_one_is_known() {
    let mut all = Tally::default();
    assert!(all.is_empty() && all.is_clean());
    let mut part = Tally::default();
    part.pass();
    part.fail("x");
    all.add(part.clone());
    all.add(part);
    assert_eq!(all.to_string(), "2 passed, 2 failed");
    assert!(!all.is_empty() && !all.is_clean());
}
