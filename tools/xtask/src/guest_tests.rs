use super::*;

#[test]
fn only_our_own_variables_are_handed_over() {
    for name in ["SEED", "UNDISK_ROUNDS", "CARGO_TARGET_DIR", "RUST_LOG"] {
        assert!(is_handed_over(name), "{name}");
    }
    for name in ["PATH", "HOME", "SEEDS", "LD_PRELOAD", "UNDISK_A B", "BASH_FUNC_x%%"] {
        assert!(!is_handed_over(name), "{name}");
    }
}

#[test]
fn folders_inside_a_carried_folder_are_not_carried_again() {
    let base = std::env::temp_dir().join(format!("xtask-carry-{}", std::process::id()));
    let inner = base.join("a/b");
    fs::create_dir_all(&inner).unwrap();
    let beside = base.join("ab");
    fs::create_dir_all(&beside).unwrap();
    let kept = outermost(vec![inner, base.join("a"), beside.clone(), base.join("a"), base.join("none"), "/usr".into()]);
    if base.starts_with("/tmp") {
        assert_eq!(kept, [base.join("a"), beside]);
    }
    fs::remove_dir_all(base).unwrap();
}

#[test]
fn a_run_hands_on_the_status_of_the_command_or_says_what_happened_instead() {
    assert_eq!(Ending::Exited(7).exit_status(), 7);
    assert_eq!(Ending::Exited(0).exit_status(), 0);
    assert_eq!(Ending::Deadline.exit_status(), 124);
    assert_eq!(Ending::Died.exit_status(), 125);
}

#[test]
fn trouble_of_the_kernel_is_noticed_in_its_log() {
    let log = "[ 1.0] EXT4-fs (vda): mounted\n[ 2.0] WARNING: CPU: 0 PID: 1 at x\n[ 3.0] INFO: task a blocked for more than 120 seconds.\n";
    assert_eq!(complaints(log).len(), 2);
}

#[test]
fn disks_are_named_as_the_kernel_names_them() {
    assert_eq!([disk_name(0), disk_name(1), disk_name(25)], ["vda", "vdb", "vdz"]);
}
