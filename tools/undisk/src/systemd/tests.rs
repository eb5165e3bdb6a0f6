//! Whose cgroup it is.

use super::*;

#[test]
fn units_are_told_from_shells_and_containers() {
    assert!(is_unit("0::/system.slice/undisk-splitter.service\n"));
    assert!(is_unit("1:name=systemd:/system.slice/undisk-appliance.service\n0::/\n"));
    assert!(!is_unit("0::/user.slice/user-0.slice/session-1.scope\n"));
    assert!(!is_unit("0::/system.slice/undisk-splitter.service.d\n"));
    assert!(!is_unit(""));
}
