//! `--json` and `docs/formats/json.md` say the same: every field that the program prints stands in the page with its
//! type, and every row of the page is printed somewhere.

use crate::fake::Place;
use crate::world;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Every verb, and the section of the page that it belongs to.
const COMMANDS: &[(&str, &[&str])] = &[
    ("down", &["down"]),
    ("status", &["status"]),
    ("volume create", &["volume", "create", "new", "--backing", "/srv/new.img"]),
    ("volume create --dry-run", &["volume", "create", "new", "--backing", "/srv/new.img", "--dry-run"]),
    ("volume list", &["volume", "list"]),
    ("volume status", &["volume", "status", "web"]),
    ("volume status", &["volume", "status", "db"]),
    ("volume remove", &["volume", "remove", "web"]),
    ("group create", &["group", "create", "new"]),
    ("group list", &["group", "list"]),
    ("group status", &["group", "status", "web"]),
    ("group status", &["group", "status", "empty"]),
    ("group remove", &["group", "remove", "empty", "--yes"]),
    ("group resync", &["group", "resync", "web"]),
    ("group set", &["group", "set", "web", "mode=sync", "sync-loss=stall"]),
    ("group set", &["group", "set", "web", "window=7d"]),
    ("group pause", &["group", "pause", "web"]),
    ("group resume", &["group", "resume", "web"]),
    ("volume verify", &["volume", "verify", "web"]),
    ("events", &["events"]),
    ("bookmark add", &["bookmark", "add", "web", "noon"]),
    ("bookmark add", &["bookmark", "add", "web", "noon", "--hold-until", "30d"]),
    ("bookmark hold", &["bookmark", "hold", "web", "morning", "--until", "30d"]),
    ("bookmark list", &["bookmark", "list", "web"]),
    ("bookmark remove", &["bookmark", "remove", "web", "morning"]),
    ("point list", &["point", "list", "web"]),
    ("image open", &["image", "open", "web@-5m"]),
    ("image list", &["image", "list"]),
    ("image close", &["image", "close", "--all"]),
    ("rollback", &["rollback", "web@-5m", "--yes"]),
    ("rollback --dry-run", &["rollback", "web@-5m", "--dry-run"]),
    ("journal status", &["journal", "status"]),
    ("journal trim", &["journal", "trim", "web", "--before", "seq:217", "--yes"]),
    ("journal trim --dry-run", &["journal", "trim", "web", "--to-size", "1MiB", "--dry-run"]),
    ("journal verify", &["journal", "verify", "web"]),
    ("error", &["volume", "status", "nosuch"]),
    ("error", &["bookmark", "remove", "web", "nosuch"]),
];

/// The page: section -> field -> type.
struct Page {
    sections: BTreeMap<String, BTreeMap<String, String>>,
    /// (section, field) pairs that something printed.
    seen: BTreeSet<(String, String)>,
    faults: Vec<String>,
}

impl Page {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/formats/json.md");
        let mut sections: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut section = String::new();
        for line in std::fs::read_to_string(path).unwrap().lines() {
            if let Some(name) = line.strip_prefix("## ") {
                name.clone_into(&mut section);
                assert!(sections.insert(section.clone(), BTreeMap::new()).is_none(), "two sections {section:?}");
            } else if let Some(row) = line.strip_prefix("| `") {
                let cells: Vec<&str> = row.split('|').map(str::trim).collect();
                let field = cells[0].trim_end_matches('`').to_owned();
                sections.get_mut(&section).unwrap().insert(field, cells[1].to_owned());
            }
        }
        Self { sections, seen: BTreeSet::new(), faults: Vec::new() }
    }

    /// Holds an object against a section.
    fn check_object(&mut self, section: &str, value: &Value, at: &str) {
        let Some(rows) = self.sections.get(section).cloned() else {
            self.faults.push(format!("{at}: the page has no section {section:?}"));
            return;
        };
        let Value::Object(fields) = value else {
            self.faults.push(format!("{at}: {value} is no {section}"));
            return;
        };
        for name in rows.keys().filter(|name| !fields.contains_key(*name)) {
            self.faults.push(format!("{at}: field {name:?} of the page is not there"));
        }
        for (name, value) in fields {
            self.seen.insert((section.to_owned(), name.clone()));
            match rows.get(name) {
                None => self.faults.push(format!("{at}.{name} is not in the page, section {section:?}")),
                Some(kind) => self.check(kind, value, &format!("{at}.{name}")),
            }
        }
    }

    fn check(&mut self, kind: &str, value: &Value, at: &str) {
        if let Some(kind) = kind.strip_suffix(" or null") {
            if !value.is_null() {
                self.check(kind, value, at);
            }
            return;
        }
        if let Some(kind) = kind.strip_prefix("array of ") {
            match value {
                Value::Array(items) => {
                    for item in items {
                        self.check(kind, item, &format!("{at}[]"));
                    }
                }
                _ => self.faults.push(format!("{at}: {value} is no array")),
            }
            return;
        }
        let fits = match kind {
            "integer" => value.is_u64(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "outcome" => matches!(value.as_str(), Some("created" | "already-so" | "changed")),
            "time" => value
                .as_str()
                .is_some_and(|text| text.len() == 30 && text.as_bytes()[19] == b'.' && text.ends_with('Z')),
            "map" => value.as_object().is_some_and(|map| map.values().all(Value::is_u64)),
            section => return self.check_object(section, value, at),
        };
        if !fits {
            self.faults.push(format!("{at}: {value} is no {kind}"));
        }
    }
}

#[test]
fn the_page_and_the_program_agree() {
    let mut page = Page::read();
    let well = Place::new().splitter(world::well_splitter).appliance(world::well_appliance);
    let ill = Place::new().splitter(world::ill_splitter).appliance(world::ill_appliance);
    for (section, words) in COMMANDS {
        for place in [&well, &ill] {
            let output = place.undisk().args(*words).arg("--json").output().unwrap();
            let text = String::from_utf8(output.stdout).unwrap();
            assert_eq!(text.lines().count(), 1, "{words:?}: {text}");
            assert!(text.starts_with("{\"undisk_version\":1,"), "{words:?}: {text}");
            let value: Value = serde_json::from_str(&text).unwrap();
            page.check_object(section, &value, section);
        }
    }
    let told =
        page.sections.iter().flat_map(|(section, rows)| rows.keys().map(move |row| (section.clone(), row.clone())));
    let told: Vec<_> = told.filter(|pair| !page.seen.contains(pair)).collect();
    for (section, field) in told {
        // `up` has daemons of its own: `lifecycle` looks at it.
        if section != "up" {
            page.faults.push(format!("nothing prints {field:?} of section {section:?}"));
        }
    }
    assert!(page.faults.is_empty(), "\n{}", page.faults.join("\n"));
}

/// Holds the output of `up --json` against the page.
pub fn check_up(text: &str) {
    let mut page = Page::read();
    page.check_object("up", &serde_json::from_str(text).unwrap(), "up");
    assert!(page.faults.is_empty(), "\n{}", page.faults.join("\n"));
}
