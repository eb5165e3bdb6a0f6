//! Events are kept in order, in bounds, and whatever the disk does.

use super::*;
use std::collections::BTreeSet;

const ALL: EventsAsk = EventsAsk { after: None, newest: u32::MAX };

fn paused(group: &str) -> News {
    News::new(EventKind::Paused, format!("group {group} is paused")).group(group)
}

#[test]
fn what_is_told_is_read_and_numbered_on_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::open(dir.path(), "splitter");
    events.tell(paused("a"));
    events.tell(News::new(EventKind::Verified, "all the same").group("a").volume("v").bytes(4096));
    let told = events.read(ALL).events;
    assert_eq!(told.iter().map(|e| (e.number, e.kind.as_str())).collect::<Vec<_>>(), [(1, "paused"), (2, "verified")]);
    assert_eq!(
        (told[1].volume.as_deref(), told[1].bytes, told[1].daemon.as_str()),
        (Some("v"), Some(4096), "splitter")
    );
    drop(events);
    let events = Events::open(dir.path(), "splitter");
    events.tell(paused("b"));
    let told = events.read(EventsAsk { after: Some(2), newest: 10 });
    assert_eq!((told.events.len(), told.events[0].number, told.dropped), (1, 3, 0));
    assert_eq!(events.read(EventsAsk { after: None, newest: 2 }).events[0].number, 2, "the newest two");
}

#[test]
fn two_files_of_a_mebibyte_at_most() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::open(dir.path(), "appliance");
    let long = "a sentence that goes on. ".repeat(100);
    while std::fs::metadata(dir.path().join(OLD_FILE)).is_err() {
        for _ in 0..200 {
            events.tell(News::new(EventKind::Alarm, long.clone()));
        }
        assert_eq!(events.read(EventsAsk { after: None, newest: 0 }).dropped, 0);
    }
    for _ in 0..20 {
        events.tell(paused("g"));
    }
    let kept = events.read(ALL).events;
    let bytes = |name| std::fs::metadata(dir.path().join(name)).map_or(0, |m| m.len());
    assert!(bytes(FILE) <= FILE_BYTES_MAX && bytes(OLD_FILE) <= FILE_BYTES_MAX && bytes(OLD_FILE) > FILE_BYTES_MAX / 2);
    assert!(kept.windows(2).all(|pair| pair[0].number + 1 == pair[1].number), "dense over both files");
    assert!(kept.iter().all(|event| event.text.len() <= TEXT_BYTES_MAX));
}

#[test]
fn a_torn_line_is_passed_over_and_the_next_is_whole() {
    let dir = tempfile::tempdir().unwrap();
    let events = Events::open(dir.path(), "splitter");
    events.tell(paused("a"));
    assert_eq!(events.read(ALL).events.len(), 1);
    drop(events);
    let mut file = OpenOptions::new().append(true).open(dir.path().join(FILE)).unwrap();
    file.write_all(b"{\"number\":2,\"time\":\"2026-11").unwrap();
    let events = Events::open(dir.path(), "splitter");
    events.tell(paused("b"));
    let told = events.read(ALL).events;
    assert_eq!(told.iter().map(|e| e.number).collect::<Vec<_>>(), [1, 2]);
}

#[test]
fn a_disk_that_takes_nothing_costs_events_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    // A folder stands where the file should: nothing can be written, whoever asks.
    let blocked = dir.path().join(FILE);
    std::fs::create_dir(&blocked).unwrap();
    let events = Events::open(dir.path(), "splitter");
    for _ in 0..3 {
        events.tell(paused("a"));
    }
    let told = events.read(ALL);
    assert_eq!((told.events.len(), told.dropped), (0, 3));
    std::fs::remove_dir(&blocked).unwrap();
    events.tell(paused("b"));
    let told = events.read(ALL);
    assert_eq!(told.events.iter().map(|e| e.kind.as_str()).collect::<Vec<_>>(), ["dropped", "paused"]);
    assert!(told.events[0].text.starts_with("3 events"), "{}", told.events[0].text);
}

#[test]
fn nobody_listening_is_fine() {
    let events = Events::silent();
    events.tell(paused("a"));
    assert_eq!(events.read(ALL), Told::default());
}

#[test]
fn the_page_and_the_program_agree() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/formats/events.md");
    let page = std::fs::read_to_string(page).unwrap();
    let section = |name: &str| {
        let after = page.split(&format!("\n## {name}\n")).nth(1).unwrap_or_else(|| panic!("no section {name}"));
        after.split("\n## ").next().unwrap().to_owned()
    };
    let rows = |section: &str| -> BTreeSet<String> {
        section.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned)).collect()
    };
    let kinds: BTreeSet<String> = EventKind::ALL.iter().map(|kind| kind.word().to_owned()).collect();
    assert_eq!(rows(&section("Kinds")), kinds);
    let event = Event {
        number: 12,
        time_ns: 1_795_341_600_123_456_789,
        daemon: "splitter".into(),
        kind: "marking-begun".into(),
        group: Some("web".into()),
        volume: None,
        bytes: None,
        text: "the outbox of 64 MiB was full".into(),
    };
    let example = page.lines().find(|line| line.starts_with('{')).expect("an example");
    assert_eq!(format!("{example}\n"), line(&event));
    assert_eq!(read_line(example), Some(event));
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_str(example).unwrap();
    assert_eq!(rows(&section("Line")), fields.keys().cloned().collect());
}
