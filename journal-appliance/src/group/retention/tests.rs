//! Goal: what the planner decides is done and told, once. A real journal in a folder of its own.

use std::path::Path;
use std::sync::Arc;

use control::answer::Event;
use control::events::{Events, kept};
use control::request::EventsAsk;
use journal::{Create, Journal};
use record::ids::{GroupId, JournalId};

use super::*;
use crate::group::ImagePin;
use crate::group::clock::SystemClock;

fn group(folder: &Path, policy: Policy) -> Group {
    let create = Create {
        journal: JournalId::from_bytes([1; 16]),
        group: GroupId::from_bytes([2; 16]),
        group_name: "g".to_owned(),
        now: crate::group::now_label(),
        segment_bytes: Create::SEGMENT_BYTES_MIN,
    };
    let place = folder.join("journal");
    Journal::create(&place, &create).expect("create");
    let journal = Arc::new(Journal::open(&place).expect("open").journal);
    let mut group = Group::new("g", &journal, Arc::new(SystemClock::default()));
    group.events = Events::open(folder, "appliance");
    group.keep(Keep { policy, folder: place });
    group
}

fn look(group: &mut Group) {
    group.retaining.looked = None;
    group.look_at_retention();
}

fn told(group: &Group, folder: &Path) -> Vec<(String, String)> {
    group.events.read(EventsAsk { after: None, newest: 0 });
    kept(folder).into_iter().map(|Event { kind, text, .. }| (kind, text)).collect()
}

#[test]
fn a_journal_beyond_its_limit_takes_nothing_more_and_that_is_told_once() {
    let folder = tempfile::tempdir().expect("folder");
    let full =
        Policy { journal_limit: Some(4096), journal_full: crate::policy::JournalFull::Stop, ..Policy::default() };
    let mut group = group(folder.path(), full);
    assert_eq!(group.retaining.closed(), None, "nobody has looked yet");
    look(&mut group);
    look(&mut group);
    assert!(group.retaining.closed().is_some_and(|why| why.contains("journal-limit is 4.0 KiB")));
    group.commit_own();
    let trouble = || group.shared.trouble.lock().expect("lock").clone();
    assert!(trouble().is_some(), "a record of the journal's own makes no room");
    group.keep(Keep { policy: Policy::default(), folder: folder.path().to_owned() });
    look(&mut group);
    assert_eq!(group.retaining.closed(), None);
    let told = told(&group, folder.path());
    let kinds: Vec<_> = told.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["journal-stopped", "journal-goes-on"], "{told:?}");
    assert!(told[0].1.contains("hosts go on"), "{told:?}");
}

#[test]
fn a_full_journal_that_blocks_says_that_hosts_wait() {
    let folder = tempfile::tempdir().expect("folder");
    let full =
        Policy { journal_limit: Some(4096), journal_full: crate::policy::JournalFull::Block, ..Policy::default() };
    let mut group = group(folder.path(), full);
    look(&mut group);
    assert!(group.retaining.closed().is_some_and(|why| why.contains("hosts wait")));
    assert!(group.retaining.blocks());
    group.keep(Keep { policy: Policy { journal_limit: None, ..full }, folder: folder.path().to_owned() });
    look(&mut group);
    assert_eq!(group.retaining.closed(), None);
}

#[test]
fn what_open_images_show_is_a_pin_while_they_are_open() {
    let folder = tempfile::tempdir().expect("folder");
    let group = group(folder.path(), Policy::default());
    let pin = |position| ImagePin::of(&group.shared, Position::new(position));
    let (one, other) = (pin(7), pin(7));
    drop(one);
    assert_eq!(group.pins(), [Position::new(7)], "two images of one position");
    drop(other);
    assert_eq!(group.pins(), []);
}

#[test]
fn a_window_that_will_shrink_is_announced_with_when_and_to_what() {
    let folder = tempfile::tempdir().expect("folder");
    let mut group = group(folder.path(), Policy::default());
    let tell = |group: &mut Group, policy: Policy, news| group.tell_retention(&Retention::new(policy.limits()), news);
    let fills = |in_ns| News::Fills { in_ns, window_ns: Some(31 * 3600 * SECOND) };
    tell(&mut group, Policy::default(), fills(Some(45 * 60 * SECOND)));
    tell(&mut group, Policy::default(), fills(None));
    let stop = Policy { journal_full: crate::policy::JournalFull::Stop, ..Policy::default() };
    tell(&mut group, stop, fills(Some(45 * 60 * SECOND)));
    tell(&mut group, Policy::default(), News::Shrinks { window_ns: 31 * 3600 * SECOND });
    tell(&mut group, Policy::default(), News::Whole);
    let expected = [
        ("journal-fills", "in about 45 min at the present rate; the window will shrink from 48 h to about 31 h"),
        ("journal-fills", "the room for the journal is used up; the window will shrink from 48 h to about 31 h"),
        ("journal-fills", "in about 45 min at the present rate; the journal will stop, as journal-full=stop says"),
        ("window-shrunk", "of 48 h, 31 h are left"),
        ("window-whole", "there is room for the window of 48 h"),
    ];
    let told = told(&group, folder.path());
    assert_eq!(told.len(), expected.len(), "{told:?}");
    for ((kind, text), (of, end)) in told.iter().zip(expected) {
        assert!(kind == of && text.ends_with(end), "{kind}: {text}");
    }
}
