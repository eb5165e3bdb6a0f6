//! The daemons' answers as `--json` prints them: times as RFC 3339, states as plain words.
//!
//! The answers carry times as `..._ns` integers and states as tagged objects, which suits programs of ours. Owns how
//! both are rewritten; `docs/formats/json.md` documents the outcome, and a test holds the two together.

use serde::Serialize;
use serde_json::{Map, Value};

#[cfg(test)]
mod tests;

/// The value, rewritten: `head_ns` becomes `head_time` (null when 0: there is none yet) and `time_ns` becomes `time`;
/// `"state": {"state": "down", "reason": ...}` becomes `"state": "down", "state_reason": ...` (null without one).
pub fn value<T: Serialize>(value: &T) -> Value {
    // Our own types have string keys and no failing serializers.
    rewrite(serde_json::to_value(value).unwrap_or(Value::Null))
}

fn rewrite(value: Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.into_iter().map(rewrite).collect()),
        Value::Object(fields) => Value::Object(fields.into_iter().flat_map(|(key, value)| field(key, value)).collect()),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

fn field(key: String, value: Value) -> Vec<(String, Value)> {
    if let Some(base) = key.strip_suffix("_ns") {
        let name = if base == "time" { base.to_owned() } else { format!("{base}_time") };
        return vec![(name, time(&value))];
    }
    if let Value::Object(mut inner) = value {
        return match inner.remove(&key) {
            Some(Value::String(word)) => tagged(key, word, inner),
            Some(other) => {
                inner.insert(key.clone(), other);
                vec![(key, rewrite(Value::Object(inner)))]
            }
            None => vec![(key, rewrite(Value::Object(inner)))],
        };
    }
    vec![(key, rewrite(value))]
}

fn tagged(key: String, word: String, mut inner: Map<String, Value>) -> Vec<(String, Value)> {
    let reason = inner.remove("reason").unwrap_or(Value::Null);
    let reason_key = format!("{key}_reason");
    vec![(key, Value::String(word)), (reason_key, reason)]
}

fn time(value: &Value) -> Value {
    match value.as_u64() {
        None | Some(0) => Value::Null,
        Some(nanos) => Value::String(control::time::rfc3339(nanos)),
    }
}
