//! The ublk devices of this machine, whoever serves them.
//!
//! Owns what is asked of and done to a device by its number, from any process: list, state, delete. Deliberately
//! knows nothing of queues; a device's own process goes through here for its end, too.

use std::fs;
use std::io;
use std::thread;
use std::time::{Duration, Instant};

use libublk::sys;

use crate::error::DeviceError;
use crate::kernel::{Control, Features, Limit, RECOVERY};
use crate::spec::DeviceId;

/// How long a deletion waits for the number to be free again.
const DELETE_BUDGET: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// A ublk device of this machine, whoever serves it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelDevice {
    /// Which one.
    pub id: DeviceId,
    /// What it is doing.
    pub state: State,
    /// The process that serves it, or served it last.
    pub pid: i32,
    /// It outlives its process, and what was in flight is delivered again.
    pub recoverable: bool,
}

/// What a kernel device is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// Not started, or stopped: there is no `/dev/ublkbN`.
    Dead,
    /// Served.
    Live,
    /// Its process is gone; hosts wait for a successor.
    Quiesced,
    /// Its process is gone; hosts get errors until a successor comes.
    FailIo,
    /// A state that this release does not know.
    Unknown(u16),
}

impl State {
    pub(crate) fn from_kernel(state: u16) -> Self {
        match u32::from(state) {
            sys::UBLK_S_DEV_DEAD => Self::Dead,
            sys::UBLK_S_DEV_LIVE => Self::Live,
            sys::UBLK_S_DEV_QUIESCED => Self::Quiesced,
            sys::UBLK_S_DEV_FAIL_IO => Self::FailIo,
            _ => Self::Unknown(state),
        }
    }
}

/// What the running kernel's ublk driver can do; [`DeviceError::NoUblk`] says what to type if there is none.
pub fn features() -> Result<Features, DeviceError> {
    Control::open()?
        .features()
        .map_err(|source| DeviceError::Process { doing: "ask the ublk driver for its features", source })
}

/// Every ublk device of this machine, ours and others', by number.
pub fn list() -> Result<Vec<KernelDevice>, DeviceError> {
    let mut control = Control::open()?;
    let mut devices = Vec::new();
    for id in ids() {
        match control.info(id) {
            Ok(info) => devices.push(KernelDevice {
                id,
                state: State::from_kernel(info.state),
                pid: info.ublksrv_pid,
                recoverable: info.flags & RECOVERY == RECOVERY,
            }),
            // Gone since the names were read.
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {}
            Err(source) => return Err(DeviceError::Control { device: id, doing: "ask the driver about it", source }),
        }
    }
    Ok(devices)
}

/// The lowest number from `from` on that no ublk device of this machine has now. It can be taken before it is used;
/// [`start`] then says `IdTaken`.
pub fn free_id(from: DeviceId) -> DeviceId {
    let taken = ids();
    let mut id = from;
    while taken.contains(&id) {
        id = DeviceId(id.0 + 1);
    }
    id
}

/// Removes a device that nobody serves any more, or that someone still does: whoever has it open gets errors, and
/// requests that wait for a successor fail. Answers once its number is free.
pub fn delete(id: DeviceId) -> Result<(), DeviceError> {
    let mut control = Control::open()?;
    stop(&mut control, id, Limit::Within(DELETE_BUDGET))?;
    remove(&mut control, id)
}

fn ids() -> Vec<DeviceId> {
    // No such folder: no ublk, or no device yet.
    let Ok(entries) = fs::read_dir("/sys/class/ublk-char") else { return Vec::new() };
    let mut ids: Vec<_> = entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_prefix("ublkc")?.parse().ok().map(DeviceId))
        .collect();
    ids.sort_unstable();
    ids
}

/// STOP.
pub(crate) fn stop(control: &mut Control, device: DeviceId, limit: Limit) -> Result<(), DeviceError> {
    let doing = "stop it";
    control.stop(device, limit).map_err(|source| match (source.raw_os_error(), limit) {
        (Some(libc::ENODEV), _) => DeviceError::NoSuchDevice { device },
        (None, Limit::Within(limit)) if source.kind() == io::ErrorKind::TimedOut => {
            DeviceError::NoAnswer { device, doing, waited_seconds: limit.as_secs() }
        }
        _ => DeviceError::Control { device, doing, source },
    })
}

/// DEL, and until the number is free. Gone already is fine.
pub(crate) fn remove(control: &mut Control, id: DeviceId) -> Result<(), DeviceError> {
    let doing = "delete it";
    match control.delete(id) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(libc::ENODEV) => return Ok(()),
        Err(source) => return Err(DeviceError::Control { device: id, doing, source }),
    }
    let begun = Instant::now();
    loop {
        match control.info(id) {
            Err(error) if error.raw_os_error() == Some(libc::ENODEV) => {
                if !id.char_sysfs().exists() {
                    return Ok(());
                }
            }
            Err(source) => return Err(DeviceError::Control { device: id, doing, source }),
            Ok(_) => {}
        }
        if begun.elapsed() >= DELETE_BUDGET {
            let waited_seconds = begun.elapsed().as_secs();
            return Err(DeviceError::NoAnswer { device: id, doing, waited_seconds });
        }
        thread::sleep(POLL);
    }
}
