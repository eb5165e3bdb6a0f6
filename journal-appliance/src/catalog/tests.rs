//! Goal: the catalog gives back what was put in, also to the next process.

use super::*;

fn group(name: &str) -> GroupEntry {
    GroupEntry {
        id: GroupId::from_bytes([7; 16]),
        name: name.to_owned(),
        journal_id: JournalId::from_bytes([8; 16]),
        journal: "/j".into(),
        folder: "/g".into(),
        implicit: true,
        members: vec![MemberEntry {
            volume: VolumeId::from_bytes([9; 16]),
            incarnation: Incarnation::new(3),
            name: "v".to_owned(),
            splitter: "main".to_owned(),
            replica: "/r".into(),
            replica_made: true,
            made_group: false,
        }],
    }
}

#[test]
fn what_was_put_in_is_there_for_the_next_process() {
    let folder = tempfile::tempdir().expect("folder");
    let device = DeviceEntry { pid: 4, group: "g".to_owned() };
    {
        let catalog = Catalog::open(&folder.path().join("appliance")).expect("open");
        catalog.put_group(&group("old")).expect("put");
        catalog.put_group(&group("new")).expect("replace");
        catalog.put_device(128, &device).expect("put");
        catalog.put_device(129, &device).expect("put");
        catalog.remove_device(128).expect("remove");
    }
    let catalog = Catalog::open(&folder.path().join("appliance")).expect("open again");
    assert_eq!(catalog.groups().expect("groups"), vec![group("new")]);
    assert_eq!(catalog.devices().expect("devices"), vec![(129, device)]);
    catalog.remove_group(group("new").id).expect("remove");
    assert_eq!(catalog.groups().expect("groups"), vec![]);
}
