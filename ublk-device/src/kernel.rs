//! The control side of the ublk driver: features, lists, states, and the commands that make and end a device.
//!
//! Owns a small ring for these commands, each under a deadline. libublk has them too, but bound to the thread that
//! first used them, with messages on stderr, with "busy" reported as success, and with an add that *deletes* the
//! device of someone else when its number is taken. Deliberately opens no block device.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::offset_of;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use libublk::{UblkError, sys};

use crate::error::DeviceError;
use crate::ring::is_transient;
use crate::spec::DeviceId;

const CONTROL: &str = "/dev/ublk-control";
/// Commands that only look. They wait for the device's lock, which a start holds during its partition scan.
pub(crate) const LOOK: Limit = Limit::Within(Duration::from_secs(30));
/// Commands that wait for requests say so this often.
const PATIENCE: Duration = Duration::from_secs(10);
// The layout that `Command::bytes` writes.
const _: () = assert!(
    size_of::<sys::ublksrv_ctrl_cmd>() == 32
        && offset_of!(sys::ublksrv_ctrl_cmd, len) == 6
        && offset_of!(sys::ublksrv_ctrl_cmd, addr) == 8
        && offset_of!(sys::ublksrv_ctrl_cmd, data) == 16
);

/// What the driver of the running kernel can do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features(u64);

impl Features {
    /// The driver's bits, `UBLK_F_*`.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether a device can outlive its process, with what was in flight delivered again.
    pub const fn recovery(self) -> bool {
        self.0 & RECOVERY == RECOVERY
    }
}

impl fmt::Display for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// The flags of a recoverable device.
pub(crate) const RECOVERY: u64 = (sys::UBLK_F_USER_RECOVERY | sys::UBLK_F_USER_RECOVERY_REISSUE) as u64;

/// An open control device.
pub(crate) struct Control {
    file: File,
    ring: IoUring<squeue::Entry128, cqueue::Entry>,
    token: u64,
}

impl Control {
    pub(crate) fn open() -> Result<Self, DeviceError> {
        let file =
            OpenOptions::new().read(true).write(true).open(CONTROL).map_err(|source| match source.raw_os_error() {
                Some(libc::ENOENT | libc::ENXIO | libc::ENODEV) => DeviceError::NoUblk,
                Some(_) | None => DeviceError::NotPermitted { source },
            })?;
        let ring = Self::ring()
            .map_err(|source| DeviceError::Process { doing: "make a ring for control commands", source })?;
        Ok(Self { file, ring, token: 0 })
    }

    fn ring() -> io::Result<IoUring<squeue::Entry128, cqueue::Entry>> {
        IoUring::builder().build(4)
    }

    pub(crate) fn features(&mut self) -> io::Result<Features> {
        // Old drivers have no such command; then nothing is offered.
        match self.fetch::<u64>(None, sys::UBLK_U_CMD_GET_FEATURES) {
            Ok(bits) => Ok(Features(bits)),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(Features(0)),
            Err(error) => Err(error),
        }
    }

    pub(crate) fn info(&mut self, id: DeviceId) -> io::Result<sys::ublksrv_ctrl_dev_info> {
        self.fetch(Some(id), sys::UBLK_U_CMD_GET_DEV_INFO)
    }

    pub(crate) fn params(&mut self, id: DeviceId) -> io::Result<sys::ublk_params> {
        let params = sys::ublk_params { len: length_of::<sys::ublk_params>().into(), ..Default::default() };
        self.exchange(Some(id), sys::UBLK_U_CMD_GET_PARAMS, params)
    }

    /// Makes a device; answers what the driver granted of what was asked. `EEXIST` if the number is taken.
    pub(crate) fn add(&mut self, asked: sys::ublksrv_ctrl_dev_info) -> io::Result<sys::ublksrv_ctrl_dev_info> {
        self.exchange(Some(DeviceId(asked.dev_id)), sys::UBLK_U_CMD_ADD_DEV, asked)
    }

    pub(crate) fn set_params(&mut self, id: DeviceId, mut params: sys::ublk_params) -> io::Result<()> {
        params.len = length_of::<sys::ublk_params>().into();
        self.exchange(Some(id), sys::UBLK_U_CMD_SET_PARAMS, params).map(drop)
    }

    /// Makes `/dev/ublkbN`: waits until every tag of every queue waits for requests, and for the partition scan.
    pub(crate) fn start(&mut self, id: DeviceId) -> io::Result<()> {
        self.command(id, sys::UBLK_U_CMD_START_DEV, own_pid(), Limit::None("starting it"))
    }

    /// Ends the device's block side: waits for requests in flight, fails the others.
    pub(crate) fn stop(&mut self, id: DeviceId, limit: Limit) -> io::Result<()> {
        self.command(id, sys::UBLK_U_CMD_STOP_DEV, 0, limit)
    }

    /// Gives the device's number back, as soon as nobody holds it open any more; does not wait for that.
    pub(crate) fn delete(&mut self, id: DeviceId) -> io::Result<()> {
        self.command(id, sys::UBLK_U_CMD_DEL_DEV_ASYNC, 0, LOOK)
    }

    pub(crate) fn start_recovery(&mut self, id: DeviceId) -> io::Result<()> {
        self.command(id, sys::UBLK_U_CMD_START_USER_RECOVERY, 0, LOOK)
    }

    /// Lets the hosts' requests go on: waits until every tag of every queue waits for requests.
    pub(crate) fn end_recovery(&mut self, id: DeviceId) -> io::Result<()> {
        self.command(id, sys::UBLK_U_CMD_END_USER_RECOVERY, own_pid(), Limit::None("taking it over"))
    }

    fn fetch<T: Default + Copy>(&mut self, id: Option<DeviceId>, op: u32) -> io::Result<T> {
        self.exchange(id, op, T::default())
    }

    /// A command that comes with a value, which the driver may fill or change.
    fn exchange<T: Copy>(&mut self, id: Option<DeviceId>, op: u32, value: T) -> io::Result<T> {
        let value = Box::into_raw(Box::new(value));
        let command = Command { id, op, address: value.expose_provenance() as u64, length: length_of::<T>(), data: 0 };
        match self.run(&command, LOOK) {
            Ok(()) => {
                // SAFETY: it came from `Box::into_raw` above, and the command is over.
                let value = unsafe { Box::from_raw(value) };
                Ok(*value)
            }
            Err(Failure::Refused(error)) => {
                // SAFETY: it came from `Box::into_raw` above, and the command is over.
                drop(unsafe { Box::from_raw(value) });
                Err(error)
            }
            // The driver may still write into it: a few bytes are given up.
            Err(Failure::InDoubt(error)) => Err(error),
        }
    }

    /// A command without a value.
    fn command(&mut self, id: DeviceId, op: u32, data: u64, limit: Limit) -> io::Result<()> {
        match self.run(&Command { id: Some(id), op, address: 0, length: 0, data }, limit) {
            Ok(()) => Ok(()),
            Err(Failure::Refused(error) | Failure::InDoubt(error)) => Err(error),
        }
    }

    /// One command, waited for until it is done or its time has passed (`TimedOut`, in doubt).
    fn run(&mut self, command: &Command, limit: Limit) -> Result<(), Failure> {
        self.token += 1;
        let entry = opcode::UringCmd80::new(Fd(self.file.as_raw_fd()), command.op)
            .cmd(command.bytes())
            .build()
            .user_data(self.token);
        // SAFETY: what the command's address names is given up by `exchange` unless the command is over.
        let pushed = unsafe { self.ring.submission().push(&entry) };
        pushed.map_err(|_| Failure::Refused(io::ErrorKind::WouldBlock.into()))?;
        let mut begun = Instant::now();
        loop {
            if let Some(done) = self.ring.completion().next() {
                if done.user_data() != self.token {
                    continue;
                }
                let answer = done.result();
                return if answer < 0 { Err(Failure::Refused(io::Error::from_raw_os_error(-answer))) } else { Ok(()) };
            }
            let left = limit.patience().saturating_sub(begun.elapsed());
            let error = match (left.is_zero(), limit) {
                (true, Limit::Within(_)) => io::ErrorKind::TimedOut.into(),
                (true, Limit::None(doing)) => {
                    let device = command.id.map(tracing::field::display);
                    tracing::warn!(device, "the ublk driver takes long: {doing}; is a request never answered?");
                    begun = Instant::now();
                    continue;
                }
                (false, _) => {
                    let timespec = Timespec::from(left);
                    match self.ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec)) {
                        Ok(_) => continue,
                        Err(error) if is_transient(&error) => continue,
                        Err(error) => error,
                    }
                }
            };
            // What comes of this command must not be taken for the answer to a later one.
            if let Ok(ring) = Self::ring() {
                self.ring = ring;
            }
            return Err(Failure::InDoubt(error));
        }
    }
}

/// How long a command may take.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Limit {
    /// This long; then it is given up.
    Within(Duration),
    /// However long it takes, with a warning in the log now and then; what is being done.
    None(&'static str),
}

impl Limit {
    fn patience(self) -> Duration {
        match self {
            Self::Within(limit) => limit,
            Self::None(_) => PATIENCE,
        }
    }
}

/// `struct ublksrv_ctrl_cmd`.
struct Command {
    id: Option<DeviceId>,
    op: u32,
    address: u64,
    length: u16,
    data: u64,
}

impl Command {
    fn bytes(&self) -> [u8; 80] {
        let mut bytes = [0; 80];
        bytes[0..4].copy_from_slice(&self.id.map_or(u32::MAX, |id| id.0).to_ne_bytes());
        // The queue: none.
        bytes[4..6].copy_from_slice(&u16::MAX.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.length.to_ne_bytes());
        bytes[8..16].copy_from_slice(&self.address.to_ne_bytes());
        bytes[16..24].copy_from_slice(&self.data.to_ne_bytes());
        bytes
    }
}

fn length_of<T>() -> u16 {
    const { assert!(size_of::<T>() <= u16::MAX as usize) };
    #[expect(clippy::cast_possible_truncation, reason = "asserted above")]
    let length = size_of::<T>() as u16;
    length
}

fn own_pid() -> u64 {
    u64::from(std::process::id())
}

/// Why a command did not succeed.
enum Failure {
    /// The driver said no; the command is over.
    Refused(io::Error),
    /// Nothing is known of it; it may still be running.
    InDoubt(io::Error),
}

/// libublk's error as the errno that it carries.
pub(crate) fn io_error(error: UblkError) -> io::Error {
    match error {
        UblkError::UringIOError(raw) | UblkError::OtherError(raw) => io::Error::from_raw_os_error(raw.abs()),
        UblkError::IOError(error) => error,
        UblkError::InvalidVal => io::Error::from_raw_os_error(libc::EINVAL),
        UblkError::UringTimeout => io::ErrorKind::TimedOut.into(),
        UblkError::QueueIsDown => io::Error::from_raw_os_error(libc::ENODEV),
        UblkError::UringIoQueued => io::Error::from_raw_os_error(libc::EINPROGRESS),
        UblkError::JsonError(error) => io::Error::other(error),
    }
}
