use super::*;

const PANIC: &str = "[    2.749062] Oops: int3: 0000 [#1] PREEMPT SMP NOPTI\n[    2.756161] Kernel panic - not syncing: Fatal exception in interrupt\n";

#[test]
fn a_panic_before_init_is_no_failure_until_the_third_boot() {
    let line = Some("the guest's kernel panicked while it booted; booting again");
    assert_eq!([1, 2, 3].map(|boot| again(b"", PANIC, boot)), [line, line, None]);
}

#[test]
fn a_guest_that_never_says_anything_is_booted_again() {
    let line = Some("the guest did not come up; booting again");
    assert_eq!(again(b"", "", 1), line);
    assert_eq!(again(b"", "[    0.024000] tsc: Unable to calibrate against PIT\n", 2), line);
}

#[test]
fn whatever_happens_once_init_has_begun_stands() {
    for console in [PANIC, "", "init: cannot mount the control share\n"] {
        for boot in 1..=3 {
            assert_eq!(again(b"\n", console, boot), None, "{console}");
        }
    }
}

#[test]
fn init_leaves_the_mark_before_it_does_anything_else() {
    let init = include_str!("../../../../tests/vm/guest/init.sh");
    let mut commands = init.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    assert_eq!(commands.next(), Some("set -u"));
    let mark = commands.next().unwrap();
    assert!(mark.contains(" of=/dev/port ") && mark.contains(&format!(" seek={PORT} ")), "{mark}");
}
