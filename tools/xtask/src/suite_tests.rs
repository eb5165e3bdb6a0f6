use super::*;

#[test]
fn a_header_names_what_a_suite_needs() {
    let needs =
        Needs::of_script("#!/bin/bash\n# vm: disks=2x2G,512M mem=3072 cpus=1 timeout=90 boots=3 udev\necho\n").unwrap();
    let expected = Needs {
        disks: vec![2 << 30, 2 << 30, 512 << 20],
        memory_mib: 3072,
        cpus: 1,
        timeout: 90,
        timeout_full: None,
        boots: 3,
        power: Vec::new(),
        cuts: None,
        udev: true,
        icount: false,
        soak: false,
    };
    assert_eq!(needs, expected);
}

#[test]
fn what_a_header_leaves_out_has_a_default_and_what_it_misspells_is_an_error() {
    assert_eq!(Needs::parse("").unwrap(), Needs::default());
    for wrong in
        ["disk=2G", "mem=lots", "boots=0", "disks=axb", "disks=2x", "udev=1", "timeout", "cuts=2", "cuts=1,2 boots=2"]
    {
        assert!(Needs::parse(wrong).is_err(), "{wrong}");
    }
    assert!(Needs::of_script("echo no header\n").is_err());
}

#[test]
fn a_soak_has_ten_times_the_gates_time_or_what_the_header_says() {
    let needs = Needs::parse("timeout=60").unwrap();
    assert_eq!(needs.deadline(Rounds::Quick), Duration::from_secs(60));
    assert_eq!(needs.deadline(Rounds::Full), Duration::from_secs(600));
    let needs = Needs::parse("timeout=60 timeout-full=90").unwrap();
    assert_eq!(needs.deadline(Rounds::Number(5)), Duration::from_secs(90));
}

#[test]
fn a_suite_with_power_cuts_boots_once_more_than_it_is_cut() {
    let needs = Needs::parse("power=3x1G cuts=2,20").unwrap();
    assert_eq!(needs.power, [1 << 30; 3]);
    assert_eq!([Rounds::Quick, Rounds::Full, Rounds::Number(7)].map(|rounds| needs.boots(rounds)), [3, 21, 8]);
    assert_eq!(Needs::parse("boots=2").unwrap().boots(Rounds::Number(7)), 2);
}

#[test]
fn verdicts_are_counted_however_the_output_is_cut_into_pieces() {
    let mut tally = Tally::default();
    let mut cases = Cases { suite: "s", tally: &mut tally, line: Vec::new(), show: Show::Cases };
    for piece in ["o", "k one\nnot ok t", "wo: broken\ntalk\n", "ok three"] {
        cases.take(Stream::Out, piece.as_bytes());
    }
    cases.take(Stream::Err, b"ok not counted\n");
    cases.flush();
    assert_eq!(tally.to_string(), "2 passed, 1 failed");
}

fn outcome(ending: Ending, complaints: &[&str]) -> Outcome {
    let complaints = complaints.iter().map(|line| (*line).to_owned()).collect();
    Outcome { ending, boot: None, complaints, kernel_tail: String::new() }
}

#[test]
fn a_suite_that_ends_badly_has_failed_even_when_all_its_cases_passed() {
    for ending in [Ending::Exited(1), Ending::Exited(137), Ending::Deadline, Ending::Died] {
        let mut tally = Tally::default();
        tally.pass();
        judge("s", &outcome(ending, &[]), Duration::from_secs(5), &mut tally);
        assert_eq!(tally.to_string(), "1 passed, 1 failed", "{ending:?}");
    }
    let mut tally = Tally::default();
    tally.fail("case");
    judge("s", &outcome(Ending::Exited(1), &[]), Duration::from_secs(5), &mut tally);
    assert_eq!(tally.to_string(), "0 passed, 1 failed", "a failed case explains the exit status");
}

#[test]
fn a_bug_of_the_guests_kernel_fails_the_suite_and_a_warning_does_not() {
    let mut tally = Tally::default();
    judge(
        "s",
        &outcome(Ending::Exited(0), &["WARNING: CPU: 0", "BUG: kernel NULL pointer"]),
        Duration::from_secs(5),
        &mut tally,
    );
    assert_eq!(tally.to_string(), "0 passed, 1 failed");
}
