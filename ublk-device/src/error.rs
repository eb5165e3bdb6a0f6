//! What can go wrong with a device, as letters to a tired administrator.

use std::io;

use crate::spec::DeviceId;

/// Why a device could not be made, taken over, stopped or asked about.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The kernel has no ublk, or its module is not loaded.
    #[error(
        "this kernel serves no ublk devices: /dev/ublk-control is missing; nothing was changed; \
         load the driver with `modprobe ublk_drv` (Linux 6.0 or newer, CONFIG_BLK_DEV_UBLK)"
    )]
    NoUblk,
    /// No right to open the control device.
    #[error("ublk devices need root: open /dev/ublk-control: {source}; nothing was changed; try again as root")]
    NotPermitted {
        /// What the kernel said.
        source: io::Error,
    },
    /// The driver lacks something without which a device cannot be served safely.
    #[error(
        "the ublk driver of this kernel lacks {missing} (it offers {offered:#x}); nothing was changed; \
         a kernel of 6.12 or newer has it"
    )]
    Lacking {
        /// What is not there.
        missing: String,
        /// The driver's feature bits.
        offered: u64,
    },
    /// The spec makes no device.
    #[error("{device} cannot be made for `{name}`: {wrong}; nothing was changed")]
    InvalidSpec {
        /// The device.
        device: DeviceId,
        /// Whose it was to be.
        name: String,
        /// What is wrong with it.
        wrong: String,
    },
    /// Someone has it already.
    #[error(
        "{device} exists already; nothing was changed; choose another number, \
         or remove it first if nobody needs it any more"
    )]
    IdTaken {
        /// The device.
        device: DeviceId,
    },
    /// Nobody has it.
    #[error("{device} does not exist; nothing was changed")]
    NoSuchDevice {
        /// The device.
        device: DeviceId,
    },
    /// A living process serves it, or a dead one has not let go of it.
    #[error(
        "{device} is still held by process {pid} after {waited_seconds} seconds; nothing was changed; \
         end that process (a copy of it, such as a child, counts too) and try again"
    )]
    StillServed {
        /// The device.
        device: DeviceId,
        /// Who serves it, as far as the kernel knows.
        pid: i32,
        /// How long we waited for it.
        waited_seconds: u64,
    },
    /// A device that was not made to outlive its process.
    #[error(
        "{device} cannot be taken over: it was not made recoverable, or its process stopped it; nothing was changed; \
         delete it and start it anew"
    )]
    NotRecoverable {
        /// The device.
        device: DeviceId,
    },
    /// The kernel's device is not the one that we are asked to serve.
    #[error(
        "{device} is not the device of `{name}`: the kernel has {kernel}, expected was {expected}; \
         nothing was changed; the host's requests keep waiting"
    )]
    SpecMismatch {
        /// The device.
        device: DeviceId,
        /// Whose it should be.
        name: String,
        /// What the kernel says of it.
        kernel: String,
        /// What it should say.
        expected: String,
    },
    /// One queue could not be made ready.
    #[error("{device}: queue {queue} of `{name}` could not be made ready: {source}; the device was not started")]
    QueueSetup {
        /// The device.
        device: DeviceId,
        /// Whose it is.
        name: String,
        /// Which queue.
        queue: u16,
        /// Why.
        source: io::Error,
    },
    /// A command to the driver failed.
    #[error("{device}: {doing}: {source}")]
    Control {
        /// The device.
        device: DeviceId,
        /// What was being done, in the present tense.
        doing: &'static str,
        /// What the driver said.
        source: io::Error,
    },
    /// A command to the driver did not come back.
    #[error(
        "{device}: {doing}: the driver has not answered for {waited_seconds} seconds; \
         a request in flight that is never answered holds it up; see `dmesg`"
    )]
    NoAnswer {
        /// The device.
        device: DeviceId,
        /// What was being done, in the present tense.
        doing: &'static str,
        /// How long.
        waited_seconds: u64,
    },
    /// The thread that owned the device is gone.
    #[error("{device} has ended already")]
    Ended {
        /// The device.
        device: DeviceId,
    },
    /// Our own surroundings: threads, rings, files.
    #[error("{doing}: {source}")]
    Process {
        /// What was being done, in the present tense.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
}
