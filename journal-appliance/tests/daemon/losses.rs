//! Goal: what an administrator's disk lost - a replica cut short, segments gone, a journal that is not mounted - is told
//! as trouble and costs nothing more than it is.

use super::*;
use std::fs;
use std::os::unix::fs::FileExt;

impl World {
    fn trouble(&self) -> String {
        match self.health() {
            Health::Trouble { reason } => reason,
            other => panic!("no trouble: {other:?}"),
        }
    }

    fn replica(&self) -> PathBuf {
        self.paths.state().join("groups/g/replica-1.img")
    }

    fn remove_group(&self) -> Result<Answer, ControlError> {
        self.ask(&ApplianceRequest::GroupRemove { name: "g".to_owned() })
    }
}

#[test]
fn a_replica_that_was_cut_short_or_is_gone_is_a_trouble_until_it_is_back() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 0, vec![5; 4096])]);
    let replica = at.world.replica();
    let aside = at.world.folder.path().join("aside");
    at.world.stop();
    fs::copy(&replica, &aside).expect("copy");
    fs::OpenOptions::new().write(true).open(&replica).expect("replica").set_len(4096).expect("cut");
    at.world.start();
    at.reconnect();
    let reason = at.world.trouble();
    assert!(reason.contains(replica.to_str().expect("path")) && reason.contains("cut short"), "{reason}");
    assert!(reason.contains("volume v") && reason.contains("undisk up"), "{reason}");
    assert_eq!(fs::metadata(&replica).expect("meta").len(), 4096, "it stays as it is");
    at.append(&[write(at.volume, 8, vec![6; 512])]);

    at.world.stop();
    fs::remove_file(&replica).expect("remove");
    at.world.start();
    assert!(at.world.trouble().contains(replica.to_str().expect("path")));

    at.world.stop();
    fs::copy(&aside, &replica).expect("put back");
    at.world.start();
    at.reconnect();
    assert_eq!(at.world.health(), Health::Protected);
    let content = at.content(None);
    assert!(content[..4096].iter().all(|b| *b == 5) && content[4096..4608].iter().all(|b| *b == 6));
    assert!(content[4608..].iter().all(|b| *b == 1));
}

#[test]
fn a_journal_whose_segments_are_gone_costs_no_replica() {
    let mut at = Joined::new();
    let (replica, segments) = (at.world.replica(), at.world.journal().join("segments"));
    let aside = at.world.folder.path().join("segments");
    at.world.stop();
    fs::rename(&segments, &aside).expect("aside");
    fs::create_dir(&segments).expect("an empty folder");
    for _ in 0..2 {
        at.world.start();
        let health = at.world.health();
        assert!(matches!(health, Health::NeedsResync { .. } | Health::Trouble { .. }), "{health:?}");
        at.world.stop();
        let mut first = [0; 512];
        fs::File::open(&replica).expect("it is still there").read_exact_at(&mut first, 0).expect("read");
        assert_eq!(first, [1; 512]);
    }
    at.world.start();
    let mut again = attach("w", "ff112233445566778899aabbccddeeff");
    again.replica = Some(at.world.folder.path().join("other"));
    let error = at.world.ask(&ApplianceRequest::AttachVolume(again)).expect_err("its number is taken");
    assert_eq!(error.kind, Kind::Refused, "{error}");
}

#[test]
fn a_group_whose_journal_cannot_be_read_is_not_removed_while_it_may_have_volumes() {
    let mut at = Joined::new();
    let (journal, replica) = (at.world.journal(), at.world.replica());
    let aside = at.world.folder.path().join("journal");
    at.world.stop();
    fs::rename(&journal, &aside).expect("unmounted");
    fs::create_dir(&journal).expect("an empty mount point");
    at.world.start();
    at.world.trouble();
    let error = at.world.remove_group().expect_err("refused");
    assert_eq!(error.kind, Kind::Refused, "{error}");
    assert!(error.message.contains("volumes v") && error.hint.is_some_and(|h| h.contains("mounted")));
    assert!(replica.exists());

    at.world.stop();
    fs::remove_dir(&journal).expect("still empty");
    fs::rename(&aside, &journal).expect("mounted");
    at.world.start();
    at.reconnect();
    assert_eq!(at.world.health(), Health::Protected);
    assert!(at.content(None).iter().all(|b| *b == 1));
}

#[test]
fn a_group_whose_journal_lies_elsewhere_is_not_forgotten_while_that_is_not_mounted() {
    let mut world = World::new();
    let journal = world.folder.path().join("disk");
    let create = ApplianceRequest::GroupCreate { name: "g".to_owned(), journal: Some(journal.clone()) };
    assert!(matches!(world.ask(&create), Ok(Answer::Group { outcome: Outcome::Created, .. })));
    let aside = world.folder.path().join("aside");
    world.stop();
    fs::rename(&journal, &aside).expect("unmounted");
    fs::create_dir(&journal).expect("an empty mount point");
    world.start();
    world.trouble();
    assert!(journal.exists(), "the mount point stays");
    world.stop();
    fs::remove_dir(&journal).expect("still empty");
    fs::rename(&aside, &journal).expect("mounted");
    world.start();
    assert_eq!(world.health(), Health::Unlinked);
    assert!(world.remove_group().is_ok());
}
