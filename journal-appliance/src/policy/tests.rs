//! Every key, every unit, and what is refused.

use super::*;
use control::error::Kind;

const MIB: u64 = 1 << 20;

fn set(policy: Policy, assignments: &[&str]) -> Result<Policy, ControlError> {
    policy.with(&assignments.iter().map(ToString::to_string).collect::<Vec<_>>(), MIB)
}

fn refused(assignments: &[&str]) -> String {
    let error = set(Policy::default(), assignments).unwrap_err();
    assert_eq!(error.kind, Kind::Usage, "{error}");
    assert!(!error.message.contains('\n'), "one line: {error}");
    error.message
}

#[test]
fn every_setting_is_read_with_its_units() {
    let changed = set(
        Policy::default(),
        &[
            "window=7d",
            "keep=hour:30d,day:365d",
            "journal-limit=500GiB",
            "journal-full=stop",
            "scrub=30d",
            "distribution=eager",
            "undo-limit=50GiB",
            "undo-full=shrink",
            "punch-split=1MiB",
        ],
    )
    .unwrap();
    let expected = Policy {
        window_seconds: 604_800,
        keep: Grid::new([None, Some(30 * 86_400), Some(365 * 86_400)]).unwrap(),
        journal_limit: Some(500 << 30),
        journal_full: JournalFull::Stop,
        scrub_seconds: Some(30 * 86_400),
        distribution: Distribution::Eager,
        undo_limit: Some(50 << 30),
        undo_full: UndoFull::Shrink,
        punch_split: MIB,
    };
    assert_eq!(changed, expected);
    assert_eq!(set(changed, &["journal-limit=none"]).unwrap().journal_limit, None);
    assert_eq!(set(changed, &["scrub=none"]).unwrap().scrub(), None);
    assert_eq!(set(changed, &["undo-limit=none"]).unwrap().undo_limit, None);
    assert_eq!(set(changed, &["distribution=lazy"]).unwrap().distribution, Distribution::Lazy);
    assert_eq!(set(changed, &["keep=none"]).unwrap().keep, Grid::NONE);
    assert_eq!(set(changed, &["window=90"]).unwrap().window_seconds, 90);
    assert_eq!(set(changed, &["journal-full=block"]).unwrap().journal_full, JournalFull::Block);
    assert_eq!(set(changed, &["journal-full=shrink"]).unwrap().journal_full, JournalFull::Shrink);
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line_that_names_it() {
    assert!(refused(&[]).contains("nothing to set"));
    assert!(refused(&["punch-merge=1MiB"]).contains("there is no setting \"punch-merge\""));
    assert!(refused(&["punch-split=1KiB"]).contains("from 64.0 KiB to 64.0 MiB"));
    assert!(refused(&["window=0s"]).contains("from 1s to 3650d"));
    assert!(refused(&["window=forever"]).starts_with("window: "));
    assert!(refused(&["journal-limit=1MiB"]).contains("from 4.0 MiB"));
    assert!(refused(&["journal-limit=lots"]).starts_with("journal-limit: "));
    assert!(refused(&["journal-full=wait"]).contains("journal-full is shrink, stop or block"));
    assert!(refused(&["scrub=59s"]).contains("from 1m to 3650d, or none"));
    assert!(refused(&["distribution=keen"]).contains("distribution is lazy or eager"));
    assert!(refused(&["undo-limit=1MiB"]).contains("from 16.0 MiB"));
    assert!(refused(&["undo-full=stop"]).contains("undo-full is slow or shrink"));
    assert!(refused(&["scrub=often"]).starts_with("scrub: "));
    assert!(set(Policy::default(), &["window=1h", "journal-full=pray"]).is_err(), "all or nothing");
}

#[test]
fn a_limit_has_room_for_the_segments_that_stay() {
    let asked = ["journal-limit=128MiB".to_owned()];
    assert!(Policy::default().with(&asked, 32 * MIB).is_ok());
    assert!(Policy::default().with(&["journal-limit=3MiB".to_owned()], MIB / 2).is_err());
    let error = Policy::default().with(&asked, 64 * MIB).unwrap_err();
    assert!(error.message.contains("from 256.0 MiB"), "{error}");
}

#[test]
fn it_is_told_as_it_is_set() {
    assert_eq!(
        Policy::default().to_string(),
        "window=48h keep=none journal-limit=none journal-full=shrink scrub=7d distribution=lazy undo-limit=none \
         undo-full=slow punch-split=4.0 MiB"
    );
    let stored = serde_json::to_string(&Policy::default()).unwrap();
    assert_eq!(
        stored,
        r#"{"window_seconds":172800,"keep":"none","journal_limit":null,"journal_full":"shrink","scrub_seconds":604800,"distribution":"lazy","undo_limit":null,"undo_full":"slow","punch_split":4194304}"#
    );
    assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
}

#[test]
fn a_grid_is_levels_with_their_ages_in_their_order() {
    let kept = |text: &str| set(Policy::default(), &[&format!("keep={text}")]).map(|policy| policy.keep);
    let day = |days: u32| Some(days * 86_400);
    assert_eq!(kept("minute:7d,hour:30d,day:365d").unwrap(), Grid::new([day(7), day(30), day(365)]).unwrap());
    assert_eq!(kept("minute:90,day:1d").unwrap(), Grid::new([Some(90), None, day(1)]).unwrap());
    assert_eq!(kept("hour:3d").unwrap(), Grid::new([None, day(3), None]).unwrap());
    let refused = |text: &str| refused(&[&format!("keep={text}")]);
    assert_eq!(refused("24h"), "keep=24h: \"24h\" is not LEVEL:AGE, as in hour:30d");
    assert_eq!(refused("week:1d"), "keep=week:1d: there is no level \"week\", only minute, hour and day");
    let order = "each level may be given once: minute first, then hour, then day";
    assert_eq!(refused("day:9d,hour:3d"), format!("keep=day:9d,hour:3d: {order}"));
    assert_eq!(refused("day:3d,day:9d"), format!("keep=day:3d,day:9d: {order}"));
    assert_eq!(refused("hour:9d,day:9d"), "keep=hour:9d,day:9d: day has to be kept longer than hour");
    assert_eq!(refused("minute:46d"), "keep=minute:46d: that could be 66241 points, and 65536 may be kept");
    assert!(refused("day:0s").starts_with("keep=day:0s: day=0s: it may be from 1s to 3650d"));
    assert!(refused("day:3651d").contains("from 1s to 3650d"));
    assert!(refused("day:soon").starts_with("keep=day:soon: day: "));
    assert!(refused("hour:1h,").contains("is not LEVEL:AGE") && refused("").contains("is not LEVEL:AGE"));
}

#[test]
fn a_grid_is_stored_as_it_is_set_and_nonsense_is_no_policy() {
    let policy = set(Policy::default(), &["keep=minute:7d,hour:30d"]).unwrap();
    let stored = serde_json::to_string(&policy).unwrap();
    assert!(stored.contains(r#""keep":"minute:7d,hour:30d""#), "{stored}");
    assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy);
    assert!(serde_json::from_str::<Policy>(r#"{"keep":"hour"}"#).is_err());
}
