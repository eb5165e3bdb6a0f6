//! Unix sockets in the run-time folder: made for their owner alone, and replaced safely when stale.
//!
//! Owns binding and connecting; what travels belongs to [`crate::server`] and [`crate::client`]. The appliance's link
//! socket is made here as well.

use crate::error::ControlError;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_raw, socket};
use std::fs::Permissions;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// A bound socket; its file goes away with it, unless another has taken its place.
#[derive(Debug)]
pub struct Bound {
    listener: UnixListener,
    file: SocketFile,
}

/// The file of a bound socket.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl Bound {
    /// The listener (non-blocking) and the file that is to live as long.
    pub fn into_parts(self) -> (UnixListener, SocketFile) {
        (self.listener, self.file)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if std::fs::symlink_metadata(&self.path).is_ok_and(|found| (found.dev(), found.ino()) == self.inode) {
            // A file that stays behind is stale, which connecting and binding both know how to handle.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Binds a socket for its owner alone (0600). A stale one is replaced in one step; refused while somebody listens
/// there, or when the path is something else. Who may bind must be settled before (see [`crate::pid_file`]).
pub fn bind(path: &Path) -> Result<Bound, ControlError> {
    let failed = |doing: &str, e: &io::Error| ControlError::failed(format!("cannot {doing} {}: {e}", path.display()));
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(failed("look at", &e)),
        Ok(found) if !found.file_type().is_socket() => {
            return Err(ControlError::refused(format!("{} is in the way: it is not a socket", path.display())));
        }
        Ok(_) => match connect(path, Duration::from_secs(1)) {
            Err(Miss::Stale | Miss::Absent) => {}
            Ok(_) | Err(Miss::Busy) => {
                return Err(ControlError::refused(format!("somebody else listens on {} already", path.display())));
            }
            Err(Miss::Other(e)) => return Err(failed("try", &e)),
        },
    }
    // Bound under another name and moved over, so that there is never a moment without a socket file that another
    // starting process could mistake for its chance.
    let mut fresh = path.as_os_str().to_owned();
    fresh.push(format!(".{}", std::process::id()));
    let fresh = PathBuf::from(fresh);
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh).map_err(|e| failed("bind", &e))?;
    let placed = (|| {
        std::fs::set_permissions(&fresh, Permissions::from_mode(0o600))?;
        let found = std::fs::symlink_metadata(&fresh)?;
        std::fs::rename(&fresh, path)?;
        listener.set_nonblocking(true)?;
        Ok((found.dev(), found.ino()))
    })();
    match placed {
        Ok(inode) => Ok(Bound { listener, file: SocketFile { path: path.to_owned(), inode } }),
        Err(e) => {
            let _ = std::fs::remove_file(&fresh);
            Err(failed("place the socket", &e))
        }
    }
}

/// Why there is no connection.
#[derive(Debug)]
pub enum Miss {
    /// No socket there.
    Absent,
    /// A socket on which nobody listens: its process was killed.
    Stale,
    /// Somebody listens, but took no connection in time.
    Busy,
    /// Anything else.
    Other(io::Error),
}

/// Connects within this time.
pub fn connect(path: &Path, patience: Duration) -> Result<UnixStream, Miss> {
    let other = |e: Errno| Miss::Other(e.into());
    let address = UnixAddr::new(path).map_err(other)?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let deadline = Instant::now() + patience;
    loop {
        // A fresh socket for each try: what a failed connect leaves of one is not specified.
        let ours = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(other)?;
        match connect_raw(ours.as_raw_fd(), &address) {
            Ok(()) => {
                let stream = UnixStream::from(ours);
                stream.set_nonblocking(false).map_err(Miss::Other)?;
                return Ok(stream);
            }
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Err(Miss::Absent),
            Err(Errno::ECONNREFUSED) => return Err(Miss::Stale),
            // The backlog is full; connect has no other way of waiting for it.
            Err(Errno::EAGAIN | Errno::EINTR) if Instant::now() < deadline => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(Errno::EAGAIN | Errno::EINTR) => return Err(Miss::Busy),
            Err(e) => return Err(other(e)),
        }
    }
}
