//! The configuration file.
//!
//! This release has no settings in it; owns that what is written there is never silently ignored.

use control::error::ControlError;
use std::path::Path;

#[cfg(test)]
mod tests;

/// Reads the configuration. Fails when it cannot be read, is not TOML, or sets what this release does not know.
pub fn check(path: &Path) -> Result<(), ControlError> {
    let failed = |why: String| ControlError::failed(format!("cannot use the configuration {}: {why}", path.display()));
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed(e.to_string())),
    };
    let table: toml::Table = toml::from_str(&text).map_err(|e| failed(in_one_line(&text, &e)))?;
    match table.keys().next() {
        None => Ok(()),
        Some(key) => Err(failed(format!("there is no setting {key:?}"))
            .hint("this release has no settings; groups and volumes are set up by undisk itself")),
    }
}

/// Where, and what; the library draws a picture of it.
fn in_one_line(text: &str, error: &toml::de::Error) -> String {
    let what = error.message().lines().collect::<Vec<_>>().join(" ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {what}", before.matches('\n').count() + 1),
        None => what,
    }
}
