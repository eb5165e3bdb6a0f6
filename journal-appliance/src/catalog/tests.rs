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
        retention: Policy { window_seconds: 60, ..Policy::default() },
        holds: vec![HoldEntry { bookmark: "audit".to_owned(), until_ns: 5 }],
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

#[test]
fn an_entry_of_a_time_when_everything_was_kept_is_read_with_the_usual_policy_and_no_holds() {
    let id = "01010101-0101-0101-0101-010101010101";
    let old = format!(
        r#"{{"id":"{id}","name":"old","journal_id":"{id}","journal":"/j","folder":"/g","implicit":false,"members":[]}}"#
    );
    let entry: GroupEntry = serde_json::from_str(&old).expect("read");
    assert_eq!((entry.retention, entry.holds), (Policy::default(), Vec::new()));
}
