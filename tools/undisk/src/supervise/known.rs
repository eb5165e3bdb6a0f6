//! What the supervisor knows of its daemons, for `undisk up` to read: one JSON file, replaced in one step.

use control::client::Daemon;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::Path;

#[cfg(test)]
mod tests;

/// Both daemons.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Known {
    supervisor: u32,
    appliance: One,
    splitter: One,
}

/// One daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct One {
    /// Its process, if it runs.
    pub pid: Option<u32>,
    /// How often it was started or adopted.
    pub starts: u32,
    /// Short lives in a row.
    pub deaths: u32,
    /// How it last ended.
    pub ended: Option<String>,
}

impl Known {
    /// Nothing runs yet.
    pub fn new() -> Self {
        Self { supervisor: std::process::id(), appliance: One::default(), splitter: One::default() }
    }

    /// A daemon runs.
    pub fn started(&mut self, daemon: Daemon, pid: u32) {
        let one = self.one(daemon);
        one.pid = Some(pid);
        one.starts = one.starts.saturating_add(1);
    }

    /// A daemon ended, or could not be started.
    pub fn ended(&mut self, daemon: Daemon, how: String, deaths: u32) {
        let one = self.one(daemon);
        *one = One { pid: None, starts: one.starts, deaths, ended: Some(how) };
    }

    /// Both, with their names.
    pub fn daemons(&self) -> [(&'static str, &One); 2] {
        [("appliance", &self.appliance), ("splitter", &self.splitter)]
    }

    /// Writes it down.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let fresh = path.with_extension("json.new");
        std::fs::write(&fresh, serde_json::to_vec(self)?)?;
        std::fs::rename(&fresh, path)
    }

    /// Reads it; `None` when there is none, or none of ours.
    pub fn read(path: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    fn one(&mut self, daemon: Daemon) -> &mut One {
        match daemon {
            Daemon::Appliance => &mut self.appliance,
            Daemon::Splitter => &mut self.splitter,
        }
    }
}
