//! What nobody asks about: is there room left?
//!
//! Owns the watch over the file systems of the journals: a warning and an event while there is still time to act. Idle commits
//! belong to each group's own thread. Deliberately changes nothing; what goes when there is no room is `group/retention`'s,
//! and what happens when a disk is really full is decided where it is noticed, at the append.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use control::events::{EventKind, Events, News};
use control::size::Size;
use nix::sys::statvfs::{Statvfs, fstatvfs, statvfs};

/// The room of a file system, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Space {
    /// All of it.
    pub total: u64,
    /// What we may still use.
    pub free: u64,
}

/// The room of the file system that a path lies on.
pub fn space(path: &Path) -> io::Result<Space> {
    Ok(told(&statvfs(path)?))
}

/// The room of the file system that an open file lies on.
pub fn space_of(file: &File) -> io::Result<Space> {
    Ok(told(&fstatvfs(file)?))
}

fn told(found: &Statvfs) -> Space {
    let unit = found.fragment_size();
    Space { total: found.blocks() * unit, free: found.blocks_available() * unit }
}

/// How much room there is, in words.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Enough.
    Fine,
    /// Less than a tenth, and less than 2 GiB.
    Low,
    /// Less than two segments.
    Nearly,
}

impl Space {
    /// In words.
    pub fn level(self) -> Level {
        if self.free < 2 * journal::Create::SEGMENT_BYTES && self.free < self.total / 10 {
            Level::Nearly
        } else if self.free < 2 << 30 && self.free < self.total / 10 {
            Level::Low
        } else {
            Level::Fine
        }
    }
}

/// Remembers what was said of each file system, so that it is said once.
#[derive(Debug, Default)]
pub struct Watch {
    said: BTreeMap<PathBuf, Level>,
}

impl Watch {
    /// The level to tell of, if it is another than last time.
    pub fn note(&mut self, path: &Path, level: Level) -> Option<Level> {
        let before = self.said.insert(path.to_owned(), level).unwrap_or(Level::Fine);
        (before != level).then_some(level)
    }

    /// Looks at these folders and tells what changed.
    pub fn look(&mut self, folders: impl IntoIterator<Item = PathBuf>, events: &Events) {
        for folder in folders {
            let Ok(space) = space(&folder) else { continue };
            let free_mib = space.free >> 20;
            let told = self.note(&folder, space.level());
            if let Some(level) = told {
                events.tell(room(&folder, level, space.free));
            }
            match told {
                Some(Level::Nearly) => tracing::error!(
                    folder = %folder.display(), free_mib,
                    "the journal's file system is nearly full; when it is, hosts go on, and the window shrinks or nothing more is \
                     journaled, as journal-full says: free some space"
                ),
                Some(Level::Low) => {
                    tracing::warn!(folder = %folder.display(), free_mib, "the journal's file system has little room left");
                }
                Some(Level::Fine) => {
                    tracing::info!(folder = %folder.display(), free_mib, "the journal's file system has room again");
                }
                None => {}
            }
        }
    }
}

fn room(folder: &Path, level: Level, free: u64) -> News {
    let (kind, how) = match level {
        Level::Nearly => (EventKind::Alarm, "is nearly full"),
        Level::Low => (EventKind::Alarm, "has little room left"),
        Level::Fine => (EventKind::AlarmOver, "has room again"),
    };
    let text = format!("the file system of the journal in {} {how}: {}", folder.display(), Size(free));
    News::new(kind, text).bytes(free)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_room_is_told_of_once_and_so_is_room_again() {
        let mut watch = Watch::default();
        let there = Path::new("/j");
        let gib = 1 << 30;
        let level = |total, free| Space { total, free }.level();
        assert_eq!(level(100 * gib, gib), Level::Low);
        assert_eq!(level(100 * gib, gib / 16), Level::Nearly);
        assert_eq!(level(gib / 2, gib / 4), Level::Fine, "a small disk with half of it free");
        assert_eq!(watch.note(there, Level::Fine), None);
        assert_eq!(watch.note(there, Level::Low), Some(Level::Low));
        assert_eq!(watch.note(there, Level::Low), None);
        assert_eq!(watch.note(there, Level::Fine), Some(Level::Fine));
    }

    #[test]
    fn the_root_has_room_to_speak_of() {
        let space = space(Path::new("/")).expect("statvfs");
        assert!(space.total >= space.free && space.total > 0);
    }
}
