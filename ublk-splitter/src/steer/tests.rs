//! What an operator changes counts at once, and is there after the process.

use super::*;
use crate::catalog::{Catalog, GroupRow};
use crate::group::Identity;
use crate::outbox::{Outbox, Owner};
use crate::policy::{Policy, SplitMode, SyncLoss};
use crate::stream::Stream;
use control::events::Events;
use control::request::EventsAsk;
use record::ids::{BootId, GroupId, JournalId, SplitterId};
use record::position::{Label, Session, SplitterIncarnation};
use std::sync::Arc;

const GROUP: GroupId = GroupId::from_bytes([2; 16]);
const JOURNAL: JournalId = JournalId::from_bytes([3; 16]);

fn group(dir: &tempfile::TempDir) -> (Group, Arc<Catalog>) {
    let catalog = Arc::new(Catalog::open(dir.path()).unwrap());
    let row = GroupRow {
        id: GROUP.to_string(),
        name: "g".into(),
        journal: JOURNAL.to_string(),
        outbox_bytes: 64 << 20,
        clean: None,
        rollback: None,
        marking: None,
        policy: Policy::default(),
        look_first: false,
        paused: false,
    };
    catalog.put_group(&row).unwrap();
    let owner = Owner { boot: BootId::from_bytes([1; 16]), group: GROUP, journal: JOURNAL };
    let (outbox, _) = Outbox::open(&dir.path().join("box"), owner, 4, Mode::Waiting).unwrap();
    let stream = Stream::new("g", outbox, None, Mode::Waiting, None, crate::clock::of_host);
    stream.begin(Session::new(1), Mode::Active, Label::default());
    stream.set_events(Events::open(dir.path(), "splitter"));
    let me =
        Identity { id: SplitterId::from_bytes([9; 16]), name: "main".to_owned(), life: SplitterIncarnation::new(1) };
    (Group::new("g", GROUP, JOURNAL, me, stream, None, None, Arc::clone(&catalog)), catalog)
}

fn kinds(group: &Group) -> Vec<String> {
    let told = group.stream.events().read(EventsAsk { after: None, newest: 100 });
    assert!(told.events.iter().all(|event| event.group.as_deref() == Some("g")));
    told.events.into_iter().map(|event| event.kind).collect()
}

#[test]
fn settings_are_stored_and_told() {
    let dir = tempfile::tempdir().unwrap();
    let (group, catalog) = group(&dir);
    let words = ["mode=sync", "sync-loss=stall", "outbox=128MiB"].map(str::to_owned);
    let settings = group.settings().unwrap().with(&words).unwrap();
    group.set(&settings).unwrap();
    let row = catalog.group(GROUP).unwrap();
    assert_eq!((row.policy.mode, row.policy.loss()), (SplitMode::Sync, SyncLoss::Stall));
    assert_eq!((row.outbox_bytes, group.settings().unwrap()), (128 << 20, settings));
    assert_eq!(kinds(&group), ["policy-changed"]);
}

#[test]
fn a_pause_is_stored_ends_recording_and_lasts_until_it_is_resumed() {
    let dir = tempfile::tempdir().unwrap();
    let (group, catalog) = group(&dir);
    assert!(!group.resume().unwrap(), "not paused");
    assert!(group.pause().unwrap());
    assert!(!group.pause().unwrap(), "paused already");
    assert!(catalog.group(GROUP).unwrap().paused);
    assert_eq!(group.stream.mode(), (Mode::Marking, PAUSED.to_owned()));
    assert!(!group.may_resync());
    assert!(group.resume().unwrap());
    assert!(!catalog.group(GROUP).unwrap().paused);
    assert!(group.may_resync(), "what was touched is read by itself");
    assert_eq!(kinds(&group), ["paused", "marking-begun", "resumed"]);
}

#[test]
fn what_is_to_be_read_again_is_wanted_until_it_begins() {
    let dir = tempfile::tempdir().unwrap();
    let (group, _) = group(&dir);
    assert!(!group.is_resyncing());
    group.resync(true);
    assert!(group.is_resyncing() && !group.resync_wanted.load(Ordering::Acquire), "everything is marked first");
    assert_eq!(group.jobs.try_next(), Some(Job::Everything));
    group.begin_resync();
    assert!(!group.resync_is_wanted());
    group.resync(false);
    assert!(group.resync_is_wanted() && group.is_resyncing());
}
