//! Room for throw-away overlays: a file without a name on the appliance's own file system.
//!
//! Owns how large an overlay may become: never so large that it, and all that are open, leave the journal no room. The
//! files are sparse, so what others write meanwhile counts too: an overlay looks again while it grows.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use control::error::ControlError;

use super::overlay::{Overlay, Room};
use crate::housekeeping::{Space, space, space_of};

/// Fewest bytes that make a writable image worth opening.
const LEAST_BYTES: u64 = 1 << 20;
/// What an overlay leaves to others: this much, or a twentieth of a small file system.
const RESERVE_BYTES: u64 = 256 << 20;

/// The file system of scratch files has room for more as long as the reserve is left.
#[derive(Clone, Copy, Debug)]
struct AboveReserve;

impl Room for AboveReserve {
    fn is_left(&self, scratch: &File) -> bool {
        // One that cannot be asked says so when it is full.
        !space_of(scratch).is_ok_and(|space| space.free < reserve(space))
    }
}

/// An empty overlay of at most `wanted` bytes, beside others that may still take `promised`.
pub(super) fn overlay(state: &Path, wanted: u64, promised: u64) -> Result<Overlay, ControlError> {
    let folder = state.join("overlays");
    let failed = |e: &std::io::Error| ControlError::failed(format!("make a scratch file in {}: {e}", folder.display()));
    control::paths::make_private_dir(&folder)?;
    let bytes = allowed(space(&folder).map_err(|e| failed(&e))?, wanted, promised);
    if bytes < LEAST_BYTES {
        return Err(ControlError::refused(format!(
            "there is no room for what would be written to it: the file system of {} is nearly full, or promised to other \
             writable images ({} MiB)",
            folder.display(),
            promised >> 20
        ))
        .hint("free some space, close other writable images, or open it without --rw"));
    }
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE | libc::O_CLOEXEC)
        .open(&folder)
        .map_err(|e| failed(&e))?;
    Ok(Overlay::new(file, bytes, Box::new(AboveReserve)))
}

fn reserve(space: Space) -> u64 {
    RESERVE_BYTES.min(space.total / 20)
}

fn allowed(space: Space, wanted: u64, promised: u64) -> u64 {
    wanted.min(space.free.saturating_sub(reserve(space)).saturating_sub(promised))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overlay_leaves_room_for_the_journal() {
        let space = |total_mb: u64, free_mb: u64| Space { total: total_mb << 20, free: free_mb << 20 };
        assert_eq!(allowed(space(100_000, 90_000), 1 << 30, 0), 1 << 30);
        assert_eq!(allowed(space(100_000, 300), 1 << 30, 0), 44 << 20);
        assert_eq!(allowed(space(1000, 100), 1 << 30, 0), 50 << 20);
        assert_eq!(allowed(space(100_000, 10), 1 << 30, 0), 0);
    }

    #[test]
    fn what_open_overlays_may_still_take_is_not_given_twice() {
        let space = Space { total: 100_000 << 20, free: 1280 << 20 };
        assert_eq!(allowed(space, 1 << 30, 1000 << 20), 24 << 20);
        assert_eq!(allowed(space, 1 << 30, 4 << 30), 0);
        let folder = tempfile::tempdir().expect("folder");
        let error = overlay(folder.path(), 1 << 30, u64::MAX).expect_err("all of it is promised");
        assert_eq!(error.kind, control::error::Kind::Refused, "{error}");
        assert!(overlay(folder.path(), 1 << 20, 0).is_ok());
    }
}
