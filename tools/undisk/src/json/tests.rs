//! How answers are rewritten.

use super::*;
use serde_json::json;

#[test]
fn times_become_rfc_3339_and_missing_ones_null() {
    let before = json!({"head_ns": 1_795_341_600_000_000_001_u64, "time_ns": 0, "list": [{"end_ns": null}]});
    let after = json!({"head_time": "2026-11-22T10:00:00.000000001Z", "time": null, "list": [{"end_time": null}]});
    assert_eq!(value(&before), after);
}

#[test]
fn states_become_words_with_a_reason_beside_them() {
    let before = json!({"a": {"state": {"state": "down", "reason": "gone"}}, "b": {"state": {"state": "live"}}});
    let after = json!({"a": {"state": "down", "state_reason": "gone"}, "b": {"state": "live", "state_reason": null}});
    assert_eq!(value(&before), after);
}

#[test]
fn everything_else_stays_as_it_is() {
    let same = json!({"n": 18_446_744_073_709_551_615_u64, "bookmark": {"name": "x"}, "flags": [true, null, "ns"]});
    assert_eq!(value(&same), same);
}
