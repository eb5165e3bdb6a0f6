//! What was stored is there after the process, and lives rise.

use super::*;

fn row(name: &str) -> VolumeRow {
    VolumeRow {
        id: "01".repeat(16),
        name: name.into(),
        group: "02".repeat(16),
        incarnation: 1,
        backing: "/srv/disk.img".into(),
        sectors: 2048,
        block_bytes: 512,
        dev_id: 0,
        queues: 1,
        fingerprint: Some(Fingerprint::Device { bytes: 5, samples: 7 }),
        at_rest: false,
        pending: None,
    }
}

#[test]
fn rows_outlive_the_process_and_can_be_changed_and_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let group = GroupId::from_bytes([2; 16]);
    {
        let catalog = Catalog::open(dir.path()).unwrap();
        catalog.put_volume(&row("a")).unwrap();
        catalog.put_volume(&row("b")).unwrap();
        let of_file = Fingerprint::File { inode: 9, bytes: 1 << 40, mtime_ns: 1_795_341_600_123_456_789, ctime_ns: -1 };
        catalog.put_volume(&VolumeRow { fingerprint: Some(of_file), ..row("c") }).unwrap();
        let group = GroupRow {
            look_first: true,
            id: group.to_string(),
            name: "g".into(),
            journal: "03".repeat(16),
            outbox_bytes: 64 << 20,
            clean: None,
            rollback: None,
            marking: None,
            policy: Policy { mode: crate::policy::SplitMode::BoundedLag, ..Policy::default() },
            paused: true,
        };
        catalog.put_group(&group).unwrap();
        catalog.remove_volume("b").unwrap();
    }
    let catalog = Catalog::open(dir.path()).unwrap();
    let rows = catalog.volumes().expect("what was written can be read");
    assert_eq!((rows.len(), &rows[0]), (2, &row("a")));
    assert!(matches!(rows[1].fingerprint, Some(Fingerprint::File { mtime_ns: 1_795_341_600_123_456_789, .. })));
    catalog.change_group(group, |g| g.clean = Some(CleanStop { session: 3, next: 9 })).unwrap();
    assert_eq!(catalog.groups().unwrap()[0].clean, Some(CleanStop { session: 3, next: 9 }));
    assert_eq!(catalog.groups().unwrap()[0].policy.mode, crate::policy::SplitMode::BoundedLag);
    assert!(catalog.groups().unwrap()[0].paused, "a pause outlives the process");
    assert!(catalog.change_group(GroupId::from_bytes([9; 16]), |_| ()).is_err());
}

#[test]
fn a_row_of_0_1_0_is_read_and_has_the_usual_policy() {
    let dir = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(dir.path()).unwrap();
    let old = r#"{"id":"02020202-0202-0202-0202-020202020202","name":"g","journal":"03030303-0303-0303-0303-030303030303",
        "outbox_bytes":67108864,"clean":{"session":3,"next":9},"rollback":null,"marking":null}"#;
    let older = r#"{"id":"04","name":"h","journal":"05","outbox_bytes":67108864,"clean":null,"rollback":7}"#;
    for (key, row) in [("02", old), ("04", older)] {
        let row: serde_json::Value = serde_json::from_str(row).unwrap();
        catalog.put(GROUPS, key, &row).unwrap();
    }
    let rows = catalog.groups().unwrap();
    assert_eq!(rows[0].settings(), Settings { policy: Policy::default(), outbox_bytes: 64 << 20 });
    assert_eq!((rows[0].paused, rows[0].clean), (false, Some(CleanStop { session: 3, next: 9 })));
    assert_eq!((rows[1].policy, rows[1].rollback), (Policy::default(), Some(7)));
}

#[test]
fn every_life_has_a_higher_number_than_the_one_before() {
    let dir = tempfile::tempdir().unwrap();
    let lives: Vec<u64> = (0..3).map(|_| Catalog::open(dir.path()).unwrap().next_life().unwrap()).collect();
    assert_eq!(lives, vec![1, 2, 3]);
}
