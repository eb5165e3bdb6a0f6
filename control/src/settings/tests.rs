//! Every key has one owner, and a wrong one is told in one line with all that there are.

use super::*;
use crate::error::Kind;

#[test]
fn every_key_has_one_owner() {
    for key in KEYS {
        assert_eq!(KEYS.iter().filter(|other| other.name == key.name).count(), 1, "{}", key.name);
        assert_eq!(owner(&format!("{} = x", key.name)).unwrap(), key.owner);
    }
    assert_eq!(owner("window=48h").unwrap(), Daemon::Appliance);
    assert_eq!(owner("outbox=64MiB").unwrap(), Daemon::Splitter);
}

#[test]
fn an_unknown_key_is_told_in_one_line_with_all_there_are() {
    let error = owner("punch-merge=24h").unwrap_err();
    assert_eq!((error.kind, error.message.as_str()), (Kind::Usage, "there is no setting \"punch-merge\""));
    let hint = error.hint.unwrap();
    assert!(!hint.contains('\n') && KEYS.iter().all(|key| hint.contains(key.name)), "{hint}");
    assert_eq!(owner("window").unwrap_err().message, "\"window\" is not KEY=VALUE");
}
