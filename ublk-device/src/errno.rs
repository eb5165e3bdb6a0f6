//! Why a request failed, in the only words that the kernel understands.
//!
//! Owns the range check: an answer to a host is always a positive errno of Linux, never zero and never a number that
//! the driver would take for something else.

use std::fmt;
use std::io;

/// A positive errno (1 to 4095), as a host will see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Errno(i32);

impl Errno {
    /// Input/output error.
    pub const EIO: Self = Self(libc::EIO);
    /// The backing has no room.
    pub const ENOSPC: Self = Self(libc::ENOSPC);
    /// The request makes no sense for this device.
    pub const EINVAL: Self = Self(libc::EINVAL);
    /// This kind of request is not served.
    pub const EOPNOTSUPP: Self = Self(libc::EOPNOTSUPP);
    /// The device is read-only.
    pub const EROFS: Self = Self(libc::EROFS);
    /// No memory.
    pub const ENOMEM: Self = Self(libc::ENOMEM);
    /// The data is there but damaged.
    pub const EBADMSG: Self = Self(libc::EBADMSG);
    /// It took too long.
    pub const ETIMEDOUT: Self = Self(libc::ETIMEDOUT);
    /// The device went away.
    pub const ENODEV: Self = Self(libc::ENODEV);

    /// An errno by its number, positive or negated; anything that is no errno becomes `EIO`.
    pub const fn from_raw(raw: i32) -> Self {
        match raw {
            1..=4095 => Self(raw),
            -4095..=-1 => Self(-raw),
            i32::MIN..=-4096 | 0 | 4096..=i32::MAX => Self::EIO,
        }
    }

    /// The positive number.
    pub const fn raw(self) -> i32 {
        self.0
    }
}

impl From<io::Error> for Errno {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl From<&io::Error> for Errno {
    /// The error's own number; an error made in user space has none and becomes `EIO`.
    fn from(error: &io::Error) -> Self {
        Self::from_raw(error.raw_os_error().unwrap_or(0))
    }
}

impl From<Errno> for io::Error {
    fn from(errno: Errno) -> Self {
        Self::from_raw_os_error(errno.0)
    }
}

impl fmt::Debug for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", nix::errno::Errno::from_raw(self.0))
    }
}

impl fmt::Display for Errno {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        io::Error::from_raw_os_error(self.0).fmt(f)
    }
}

impl std::error::Error for Errno {}
