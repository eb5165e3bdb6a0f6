//! Folders that live as long as one run of xtask: its sockets, logs and disks.
//!
//! Each is locked by its owner. What a killed xtask left behind is found unlocked by the next one, and removed.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result};

use crate::place::Place;

/// A folder that goes away with this value.
#[derive(Debug)]
pub struct Scratch {
    folder: PathBuf,
    // Held for the lock alone.
    _lock: File,
}

static MADE: AtomicU32 = AtomicU32::new(0);

/// Marks a folder as owned; locked while its owner lives.
const LOCK: &str = "lock";

impl Scratch {
    /// Makes an empty folder of this `kind` (`run`, `disks`) in the VM's cache.
    pub fn create(place: &Place, kind: &str) -> Result<Self> {
        Self::create_in(&place.vm_cache()?.join(kind))
    }

    fn create_in(shelf: &Path) -> Result<Self> {
        fs::create_dir_all(shelf).with_context(|| format!("create {}", shelf.display()))?;
        // While it is held, nobody takes a folder that is being made for one that was left behind.
        let making = File::create(shelf.join(LOCK)).with_context(|| format!("create a lock in {}", shelf.display()))?;
        making.lock().with_context(|| format!("lock {}", shelf.display()))?;
        sweep(shelf)?;
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = shelf.join(format!("{}-{number}", std::process::id()));
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
        let lock = File::create(folder.join(LOCK)).with_context(|| format!("create a lock in {}", folder.display()))?;
        lock.lock().with_context(|| format!("lock {}", folder.display()))?;
        Ok(Self { folder, _lock: lock })
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// A path in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What cannot be removed now is removed by the next run's sweep.
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Removes the folders whose owner is gone.
fn sweep(shelf: &Path) -> Result<()> {
    for entry in fs::read_dir(shelf).with_context(|| format!("read {}", shelf.display()))? {
        let folder = entry.with_context(|| format!("read {}", shelf.display()))?.path();
        let Ok(lock) = File::open(folder.join(LOCK)) else {
            continue;
        };
        if lock.try_lock().is_ok() {
            let _ = fs::remove_dir_all(&folder);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_dead_owner_left_is_swept_away_and_what_lives_stays() {
        let shelf = std::env::temp_dir().join(format!("xtask-scratch-{}", std::process::id()));
        let left = shelf.join("left-behind");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join(LOCK), "").unwrap();
        let first = Scratch::create_in(&shelf).unwrap();
        assert!(!left.exists());
        let second = Scratch::create_in(&shelf).unwrap();
        assert!(first.folder().exists() && second.folder().exists());
        let path = first.folder().to_path_buf();
        drop(first);
        assert!(!path.exists());
        drop(second);
        fs::remove_dir_all(shelf).unwrap();
    }
}
