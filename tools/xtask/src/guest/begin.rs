//! Whether a guest that did not come up is booted again.
//!
//! Owns the decision. It rests on one mark: the byte that init writes to [`PORT`] before it mounts, loads or runs anything
//! else. QEMU has the byte in its file before init's next instruction, whatever becomes of the console. The guest's kernel
//! has no driver for its disks until init loads it, so a guest without the mark has written nothing.
//!
//! Why it is needed: with a thread for each CPU, TCG may show one CPU the breakpoint of a patch that another has completed;
//! the kernel does not know it any more and panics. Each boot makes such patches with all CPUs running. The one that was
//! seen to fail (`__sched_clock_stable`) is made because the TSC is found good. `tsc=reliable` does not prevent it;
//! `tsc=unstable` does, but gives the guest another clock, and other patches remain.

use std::time::Duration;

/// The I/O port where init leaves the mark; nobody else writes to it.
pub const PORT: u16 = 0xe9;
/// The file in the folder of the run that QEMU keeps the mark in.
pub const MARK: &str = "begun";
/// How long a guest may take to begin: 8 s where two others ran beside it, 14 s under an instruction clock.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// How often a guest is booted before its failure to come up stands.
const BOOTS: u32 = 3;

/// Whether a guest that ended without a status is booted again: the line to say then, or nothing when its end stands.
/// `mark` is what init wrote to [`PORT`] and `console` what the kernel said; this was its boot number `boot`, from 1.
pub fn again(mark: &[u8], console: &str, boot: u32) -> Option<&'static str> {
    if !mark.is_empty() || boot >= BOOTS {
        return None;
    }
    Some(if console.contains("Kernel panic - not syncing") {
        "the guest's kernel panicked while it booted; booting again"
    } else {
        "the guest did not come up; booting again"
    })
}

#[cfg(test)]
#[path = "begin_tests.rs"]
mod tests;
