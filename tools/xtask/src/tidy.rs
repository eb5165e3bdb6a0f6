//! Rules about the sources that no compiler checks: rooms stay small, say what they are for, and name no machine.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::place::Place;

/// A room longer than this has a wall missing. Tests may be longer.
const LONGEST: usize = 700;

/// Things that a source file may not hold, and why. (Written in two pieces each, or this file would be the first offender.)
const FORBIDDEN: &[(&str, &str)] = &[
    (concat!("/work", "/main"), "names one machine's folder"),
    (concat!("/work", "/shared"), "names one machine's folder"),
    (concat!("/work", "/."), "names one machine's folder"),
    (concat!("/tmp", "/t-"), "names one machine's folder"),
    (concat!("/tmp", "/issues"), "names one machine's folder"),
    (concat!("allow(", "dead_code)"), "code that nobody calls is to be removed"),
    (concat!("todo", "!("), "is not done"),
    (concat!("unimplemented", "!("), "is not done"),
];

/// Endings of files that the rules about words apply to.
const TEXT: &[&str] = &["rs", "toml", "md", "sh", "py", "service", "rules", "json", "yml", "yaml", "txt", ""];

/// Every offence in the checkout, one line each.
pub fn offences(place: &Place) -> Result<Vec<String>> {
    let mut offences = Vec::new();
    walk(place.root(), place.root(), &mut offences)?;
    offences.sort();
    Ok(offences)
}

fn walk(root: &Path, folder: &Path, offences: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let path = entry.with_context(|| format!("read {}", folder.display()))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if path.is_symlink() || matches!(name, "target" | ".git" | ".cache" | "corpus" | "Cargo.lock") {
            continue;
        }
        if path.is_dir() {
            walk(root, &path, offences)?;
            continue;
        }
        let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !TEXT.contains(&extension) {
            continue;
        }
        // What is not UTF-8 is no text of ours.
        if let Ok(text) = fs::read_to_string(&path) {
            let shown = path.strip_prefix(root).unwrap_or(&path);
            offences.extend(file_offences(&shown.to_string_lossy(), &text));
        }
    }
    Ok(())
}

/// The offences of one file, given its path in the checkout and its text.
fn file_offences(path: &str, text: &str) -> Vec<String> {
    let mut offences = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (word, why) in FORBIDDEN {
            if line.contains(word) {
                offences.push(format!("{path}:{}: {word} {why}", number + 1));
            }
        }
    }
    if Path::new(path).extension().is_some_and(|extension| extension == "rs") && !is_test(path) {
        let lines = text.lines().count();
        if lines > LONGEST {
            offences.push(format!("{path}: {lines} lines; past {LONGEST} a room needs a wall"));
        }
        if !text.is_empty() && !text.starts_with("//!") && !text.starts_with("#!") {
            offences.push(format!("{path}: the first line (//!) does not say what the file is for"));
        }
    }
    offences
}

fn is_test(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "tests.rs"
        || name.ends_with("_tests.rs")
        || path.split('/').any(|folder| folder == "tests" || folder == "fuzz_targets")
}

#[cfg(test)]
#[path = "tidy_tests.rs"]
mod tests;
