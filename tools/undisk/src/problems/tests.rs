//! What is a problem, and what is none.

use super::*;
use control::answer::{IoCounts, Lag, PolicyStatus, SplitterGroup, VolumeStatus};

fn splitter(state: VolumeState, linked: bool) -> SplitterStatus {
    let volume = VolumeStatus {
        name: "web".into(),
        id: String::new(),
        group: "web".into(),
        device: "/dev/ublkb900".into(),
        backing: "/srv/web.img".into(),
        bytes: 1 << 20,
        block_bytes: 512,
        queues: 1,
        state,
        sync: None,
        punches: true,
        warnings: Vec::new(),
        counts: IoCounts::default(),
    };
    let group = SplitterGroup {
        name: "web".into(),
        id: String::new(),
        mode: GroupMode::Active,
        reason: None,
        linked,
        session: 1,
        laid: 1,
        durable: 1,
        outbox_used: 0,
        outbox_bytes: 1 << 20,
        lag: Lag::default(),
        policy: PolicyStatus {
            mode: "async".into(),
            sync_loss: None,
            lag_bytes: 1 << 20,
            lag_seconds: 30,
            reclaim_zeros: false,
            outbox_bytes: 1 << 20,
        },
        dirty_bytes: 0,
        resynced_bytes: 0,
        delaying: false,
        stalled: false,
        full: false,
        degraded: false,
    };
    SplitterStatus {
        pid: 1,
        version: String::new(),
        id: String::new(),
        name: "main".to_owned(),
        volumes: vec![volume],
        groups: vec![group],
    }
}

#[test]
fn a_volume_that_is_served_and_linked_is_no_problem() {
    assert_eq!(of_splitter(&splitter(VolumeState::Live, true), true), [""; 0]);
}

#[test]
fn a_group_without_a_link_is_a_problem_while_the_appliance_answers() {
    let unlinked = splitter(VolumeState::Live, false);
    let found = of_splitter(&unlinked, true);
    assert!(matches!(&found[..], [line] if line.starts_with("group web: the splitter has no link")), "{found:?}");
    assert_eq!(of_splitter(&unlinked, false), [""; 0], "that it does not answer is told already");
}

#[test]
fn a_paused_group_is_a_problem_that_names_its_end() {
    let mut paused = splitter(VolumeState::Live, true);
    paused.groups[0].mode = GroupMode::Paused;
    let found = of_splitter(&paused, true);
    assert!(matches!(&found[..], [line] if line.contains("undisk group resume web")), "{found:?}");
}

#[test]
fn hosts_that_wait_for_a_rollback_are_a_problem() {
    let found = of_splitter(&splitter(VolumeState::Restoring, true), true);
    assert!(matches!(&found[..], [line] if line.contains("volume web") && line.contains("rollback")), "{found:?}");
}
