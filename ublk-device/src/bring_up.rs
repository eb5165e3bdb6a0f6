//! From a spec to a device that is served: added, or taken over from a dead process.
//!
//! Owns the order of the steps and what is undone when one fails: a device that could not be started is gone again, one
//! that could not be taken over is as it was. Deliberately writes nothing to disk, and never opens the block device: a
//! process that does can wait for itself.
//!
//! libublk has the queues and the character device. Its own control object is asked for nothing but to open that
//! device: as the maker of a device it would delete it whenever it is dropped, and keep JSON files in a folder that
//! anybody may write to.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use libublk::ctrl::UblkCtrl;
use libublk::io::UblkDev;
use libublk::sys;
use record::geometry::SectorCount;

use crate::begun_recovery;
use crate::error::DeviceError;
use crate::inventory::{State, remove};
use crate::kernel::{Control, LOOK, RECOVERY, io_error};
use crate::process::block_signals;
use crate::service::Service;
use crate::spec::DeviceSpec;
use crate::threads::{Ended, Threads};
use crate::tuning;

/// How long a recovery waits for the dead process to be gone. With an idle tag in each queue the kernel knows of a
/// death within a second, without one within 30; and whoever holds `/dev/ublkcN` open (a zombie's I/O that still
/// drains) delays it further.
const RECOVERY_BUDGET: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(20);
/// What hosts had best write in: the journal's block.
const BLOCK_SHIFT: u8 = 12;
const BLOCK_BYTES: u32 = 1 << BLOCK_SHIFT;

/// Where a device comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Plan {
    Start,
    Recover,
}

/// What a running device is made of. Fields in the order in which they may go: `/dev/ublkcN` after its queues.
pub(crate) struct Parts {
    pub(crate) threads: Threads,
    /// Kept for its open `/dev/ublkcN`, on which the queues work.
    pub(crate) device: Arc<UblkDev>,
    pub(crate) control: Control,
}

/// Carries the plan out, on the thread that will own the device. `ended` is called by each queue that ends.
pub(crate) fn bring_up<S: Service>(
    plan: Plan,
    spec: &DeviceSpec,
    service: &Arc<S>,
    ended: &Ended,
) -> Result<Parts, DeviceError> {
    block_signals().map_err(|source| DeviceError::Process { doing: "block signals", source })?;
    let mut control = Control::open()?;
    if spec.recoverable {
        let features = control.features().map_err(|source| doing(spec, "ask the driver for its features", source))?;
        if !features.recovery() {
            let missing = "user recovery with reissue".to_owned();
            return Err(DeviceError::Lacking { missing, offered: features.bits() });
        }
    }
    let info = match plan {
        Plan::Start => add(spec, &mut control)?,
        Plan::Recover => take_over(spec, &mut control)?,
    };
    match set_going(plan, spec, &info, service, ended, &mut control) {
        Ok((threads, device)) => {
            tuning::tune(spec, info.queue_depth);
            Ok(Parts { threads, device, control })
        }
        Err(error) => {
            if plan == Plan::Start
                && let Err(left) = remove(&mut control, spec.id)
            {
                tracing::warn!(device = %spec.id, error = %left, "a device that was not started could not be removed");
            }
            Err(error)
        }
    }
}

fn doing(spec: &DeviceSpec, doing: &'static str, source: io::Error) -> DeviceError {
    DeviceError::Control { device: spec.id, doing, source }
}

fn control_flags(spec: &DeviceSpec) -> u64 {
    if spec.recoverable { RECOVERY } else { 0 }
}

/// ADD.
fn add(spec: &DeviceSpec, control: &mut Control) -> Result<sys::ublksrv_ctrl_dev_info, DeviceError> {
    let asked = sys::ublksrv_ctrl_dev_info {
        dev_id: spec.id.0,
        nr_hw_queues: spec.queues,
        queue_depth: spec.depth,
        max_io_buf_bytes: spec.max_io_bytes,
        flags: control_flags(spec),
        ublksrv_pid: i32::try_from(std::process::id()).unwrap_or(0),
        ..Default::default()
    };
    control.add(asked).map_err(|source| match source.raw_os_error() {
        Some(libc::EEXIST) => DeviceError::IdTaken { device: spec.id },
        Some(_) | None => doing(spec, "add it", source),
    })
}

/// START_USER_RECOVERY, once the dead process has let go.
fn take_over(spec: &DeviceSpec, control: &mut Control) -> Result<sys::ublksrv_ctrl_dev_info, DeviceError> {
    let device = spec.id;
    let begun = Instant::now();
    loop {
        let info = control.info(device).map_err(|source| match source.raw_os_error() {
            Some(libc::ENODEV) => DeviceError::NoSuchDevice { device },
            Some(_) | None => doing(spec, "ask the driver about it", source),
        })?;
        if info.flags & RECOVERY != RECOVERY {
            return Err(DeviceError::NotRecoverable { device });
        }
        match State::from_kernel(info.state) {
            State::Quiesced | State::FailIo => {
                check_same(spec, control, &info)?;
                let begun = begun_recovery::settle(device, info.nr_hw_queues, info.queue_depth)
                    .and_then(|()| control.start_recovery(device));
                match begun {
                    Ok(()) => return Ok(info),
                    // The dead process, or one that makes a recovery of its own, still holds it open.
                    Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
                    Err(source) => return Err(doing(spec, "begin its recovery", source)),
                }
            }
            State::Live => {}
            State::Dead | State::Unknown(_) => return Err(DeviceError::NotRecoverable { device }),
        }
        if begun.elapsed() >= RECOVERY_BUDGET {
            let waited_seconds = begun.elapsed().as_secs();
            return Err(DeviceError::StillServed { device, pid: info.ublksrv_pid, waited_seconds });
        }
        thread::sleep(POLL);
    }
}

/// The kernel's device is the one that the spec means; nothing of it can change at a recovery.
fn check_same(spec: &DeviceSpec, control: &mut Control, info: &sys::ublksrv_ctrl_dev_info) -> Result<(), DeviceError> {
    let params = control.params(spec.id).map_err(|source| doing(spec, "read its parameters", source))?;
    let describe = |sectors: u64, block_shift: u8, depth: u16, io_bytes: u32, attributes: u32| {
        let read_only = if attributes & sys::UBLK_ATTR_READ_ONLY == 0 { "read-write" } else { "read-only" };
        format!(
            "{sectors} sectors in blocks of {} bytes, {read_only}, depth {depth}, requests of up to {io_bytes} bytes",
            1u64 << block_shift
        )
    };
    let basic = params.basic;
    let kernel =
        describe(basic.dev_sectors, basic.logical_bs_shift, info.queue_depth, info.max_io_buf_bytes, basic.attrs);
    let expected =
        describe(spec.size.get(), spec.block.shift(), spec.depth, spec.max_io_bytes, params_of(spec).basic.attrs);
    if kernel == expected {
        Ok(())
    } else {
        Err(DeviceError::SpecMismatch { device: spec.id, name: spec.name.clone(), kernel, expected })
    }
}

/// Makes the queues ready, then START or `END_USER_RECOVERY`. On an error the queues are gone again.
fn set_going<S: Service>(
    plan: Plan,
    spec: &DeviceSpec,
    info: &sys::ublksrv_ctrl_dev_info,
    service: &Arc<S>,
    ended: &Ended,
    control: &mut Control,
) -> Result<(Threads, Arc<UblkDev>), DeviceError> {
    let wanted = control_flags(spec);
    if info.flags & RECOVERY != wanted {
        // Unknown bits are cleared without a word.
        let missing = format!("what the device asked for ({wanted:#x}, granted {:#x})", info.flags);
        return Err(DeviceError::Lacking { missing, offered: info.flags });
    }
    let device = open_device(spec).map_err(|source| doing(spec, "open its character device", source))?;
    let device = Arc::new(device);
    let threads = Threads::open(spec, info, &device, service, ended)?;
    if plan == Plan::Start
        && let Err(source) = control.set_params(spec.id, params_of(spec))
    {
        threads.dismiss();
        return Err(doing(spec, "set its size and limits", source));
    }
    threads.go();
    let (started, what) = match plan {
        Plan::Start => (control.start(spec.id), "start it"),
        Plan::Recover => (control.end_recovery(spec.id), "end its recovery"),
    };
    if let Err(source) = started {
        match plan {
            Plan::Start => {
                // Gives the queues' commands back.
                let _ = control.stop(spec.id, LOOK);
            }
            Plan::Recover => threads.abandon(),
        }
        threads.join();
        return Err(doing(spec, what, source));
    }
    Ok((threads, device))
}

/// Opens `/dev/ublkcN`, which may take udev a moment to make.
fn open_device(spec: &DeviceSpec) -> io::Result<UblkDev> {
    let id = i32::try_from(spec.id.0).map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?;
    let owner = UblkCtrl::new_simple(id).map_err(io_error)?;
    UblkDev::new("undisk".to_owned(), |_| Ok(()), &owner).map_err(io_error)
}

/// What the driver is told of the device.
fn params_of(spec: &DeviceSpec) -> sys::ublk_params {
    let sectors = |count: SectorCount| u32::try_from(count.get()).unwrap_or(u32::MAX);
    // FUA is honoured only together with a volatile cache, and without one no flush ever comes.
    let mut attrs = sys::UBLK_ATTR_VOLATILE_CACHE | sys::UBLK_ATTR_FUA;
    let mut types = sys::UBLK_PARAM_TYPE_BASIC;
    let mut discard = sys::ublk_param_discard::default();
    if spec.read_only {
        attrs |= sys::UBLK_ATTR_READ_ONLY;
    } else {
        types |= sys::UBLK_PARAM_TYPE_DISCARD;
        discard = sys::ublk_param_discard {
            // A hint to hosts: they may discard any logical block. It keeps the pieces of a discard too long for one
            // request on our blocks. The kernel would raise a smaller number to the physical block anyway.
            discard_granularity: BLOCK_BYTES,
            max_discard_sectors: sectors(spec.largest_discard),
            max_write_zeroes_sectors: sectors(spec.largest_write_zeroes),
            max_discard_segments: 1,
            ..Default::default()
        };
    }
    sys::ublk_params {
        types,
        basic: sys::ublk_param_basic {
            attrs,
            logical_bs_shift: spec.block.shift(),
            physical_bs_shift: BLOCK_SHIFT,
            io_opt_shift: BLOCK_SHIFT,
            io_min_shift: BLOCK_SHIFT,
            max_sectors: spec.max_io_bytes >> 9,
            dev_sectors: spec.size.get(),
            ..Default::default()
        },
        discard,
        ..Default::default()
    }
}
