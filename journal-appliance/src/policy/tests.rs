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
    let changed = set(Policy::default(), &["window=7d", "journal-limit=500GiB", "journal-full=stop"]).unwrap();
    let expected = Policy { window_seconds: 604_800, journal_limit: Some(500 << 30), journal_full: JournalFull::Stop };
    assert_eq!(changed, expected);
    assert_eq!(set(changed, &["journal-limit=none"]).unwrap().journal_limit, None);
    assert_eq!(set(changed, &["window=90"]).unwrap().window_seconds, 90);
    assert_eq!(set(changed, &["journal-full=shrink"]).unwrap().journal_full, JournalFull::Shrink);
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line_that_names_it() {
    assert!(refused(&[]).contains("nothing to set"));
    assert!(refused(&["keep=24h"]).contains("there is no setting \"keep\""));
    assert!(refused(&["window=0s"]).contains("from 1s to 3650d"));
    assert!(refused(&["window=forever"]).starts_with("window: "));
    assert!(refused(&["journal-limit=1MiB"]).contains("from 4.0 MiB"));
    assert!(refused(&["journal-limit=lots"]).starts_with("journal-limit: "));
    assert!(refused(&["journal-full=block"]).contains("journal-full is shrink or stop"));
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
    assert_eq!(Policy::default().to_string(), "window=48h journal-limit=none journal-full=shrink");
    let stored = serde_json::to_string(&Policy::default()).unwrap();
    assert_eq!(stored, r#"{"window_seconds":172800,"journal_limit":null,"journal_full":"shrink"}"#);
    assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
}
