//! Every key, every unit, and the combinations that are refused.

use super::*;
use control::error::Kind;

fn usual() -> Settings {
    Settings { policy: Policy::default(), outbox_bytes: OUTBOX_BYTES }
}

fn set(settings: Settings, assignments: &[&str]) -> Result<Settings, ControlError> {
    settings.with(&assignments.iter().map(ToString::to_string).collect::<Vec<_>>())
}

fn refused(assignments: &[&str]) -> String {
    let error = set(usual(), assignments).unwrap_err();
    assert_eq!(error.kind, Kind::Usage, "{error}");
    assert!(!error.message.contains('\n'), "one line: {error}");
    error.message
}

#[test]
fn zeros_are_reclaimed_where_it_is_said() {
    let defaults = Settings { policy: Policy::default(), outbox_bytes: 64 << 20 };
    let on = defaults.with(&["reclaim-zeros=on".to_owned()]).unwrap();
    assert!(on.policy.reclaim_zeros && on.policy.to_string().ends_with(" reclaim-zeros=on"));
    assert_eq!(on.with(&["reclaim-zeros=off".to_owned()]).unwrap(), defaults);
    assert!(defaults.with(&["reclaim-zeros=maybe".to_owned()]).is_err());
}

#[test]
fn every_setting_is_read_with_its_units() {
    let all = ["mode=bounded-lag", "sync-loss=stall", "lag-bytes=8MiB", "lag-seconds=2m", "outbox=128M"];
    let changed = set(usual(), &all).unwrap();
    let policy = Policy {
        mode: SplitMode::BoundedLag,
        sync_loss: Some(SyncLoss::Stall),
        lag_bytes: 8 << 20,
        lag_seconds: 120,
        ..Policy::default()
    };
    assert_eq!(changed, Settings { policy, outbox_bytes: 128 << 20 });
    for (text, seconds) in [("90", 90), ("90s", 90), ("1h", 3600), ("1d", 86_400)] {
        assert_eq!(set(usual(), &[&format!("lag-seconds={text}")]).unwrap().policy.lag_seconds, seconds);
    }
    for (text, bytes) in [("4096KiB", 4 << 20), ("2MiB", 2 << 20), ("1GiB", 1 << 30)] {
        assert_eq!(set(usual(), &[&format!("outbox={text}")]).unwrap().outbox_bytes, bytes);
    }
    assert_eq!(set(usual(), &["outbox=2097153"]).unwrap().outbox_bytes, 3 << 20, "whole slots");
}

#[test]
fn what_makes_no_sense_is_refused_in_one_line_that_names_it() {
    assert!(refused(&[]).contains("nothing to set"));
    assert!(refused(&["mode"]).contains("\"mode\" is not KEY=VALUE"));
    assert!(refused(&["colour=red"]).contains("there is no setting \"colour\""));
    assert!(refused(&["mode=fast"]).contains("mode is async, bounded-lag or sync"));
    assert!(refused(&["sync-loss=pray"]).contains("sync-loss is degrade or stall"));
    assert!(refused(&["lag-bytes=lots"]).starts_with("lag-bytes: "));
    assert!(refused(&["lag-bytes=4K"]).contains("from 1.0 MiB to"));
    assert!(refused(&["lag-seconds="]).starts_with("lag-seconds: "));
    assert!(refused(&["lag-seconds=0"]).contains("from 1s to 1d"));
    assert!(refused(&["lag-seconds=1500ms"]).contains("whole seconds"));
    assert!(refused(&["lag-seconds=2w"]).contains("from 1s to 1d"));
    assert!(refused(&["outbox=1M"]).contains("from 2.0 MiB to 16.0 GiB"));
}

#[test]
fn nothing_is_changed_when_one_of_several_is_wrong() {
    assert!(set(usual(), &["mode=bounded-lag", "outbox=nonsense"]).is_err());
}

#[test]
fn sync_wants_to_know_what_a_lost_appliance_leads_to() {
    assert!(refused(&["mode=sync"]).contains("needs sync-loss to be chosen"));
    let together = set(usual(), &["mode=sync", "sync-loss=degrade"]).unwrap();
    assert_eq!((together.policy.mode, together.policy.loss()), (SplitMode::Sync, SyncLoss::Degrade));
    let before = set(usual(), &["sync-loss=stall"]).unwrap();
    assert_eq!(set(before, &["mode=sync"]).unwrap().policy.loss(), SyncLoss::Stall);
}

#[test]
fn hosts_are_delayed_before_the_outbox_is_full() {
    assert!(refused(&["mode=bounded-lag", "lag-bytes=40MiB"]).contains("more than half of the outbox"));
    assert!(set(usual(), &["mode=bounded-lag", "lag-bytes=40MiB", "outbox=80MiB"]).is_ok());
    assert!(set(usual(), &["lag-bytes=40MiB"]).is_ok(), "of no importance in async");
}

#[test]
fn it_is_told_as_it_is_set() {
    let told = |assignments: &[&str]| set(usual(), assignments).unwrap().policy.to_string();
    assert_eq!(told(&["mode=async"]), "mode=async");
    assert_eq!(told(&["mode=sync", "sync-loss=stall"]), "mode=sync sync-loss=stall");
    assert_eq!(told(&["mode=bounded-lag", "lag-seconds=90"]), "mode=bounded-lag lag-bytes=32.0 MiB lag-seconds=1m30s");
}

#[test]
fn the_stored_form_is_kept_and_what_is_missing_is_as_usual() {
    let policy = Policy { mode: SplitMode::Sync, sync_loss: Some(SyncLoss::Degrade), ..Policy::default() };
    let stored = serde_json::to_string(&policy).unwrap();
    assert_eq!(
        stored,
        r#"{"mode":"sync","sync_loss":"degrade","lag_bytes":33554432,"lag_seconds":30,"reclaim_zeros":false}"#
    );
    assert_eq!(serde_json::from_str::<Policy>(&stored).unwrap(), policy);
    assert_eq!(serde_json::from_str::<Policy>("{}").unwrap(), Policy::default());
}
