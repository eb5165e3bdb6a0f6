//! Asking a daemon: one request, progress, one answer; blocking.
//!
//! Owns the client's half of the conversation and its time limits. Deliberately needs no runtime: the command line
//! is plain threads, and a daemon that asks another calls this from a blocking task.

use crate::answer::{Answer, Progress};
use crate::error::{ControlError, Kind};
use crate::socket::{Miss, connect};
use crate::wire::{LINE_BYTES_MAX, Line};
use serde::Serialize;
use std::fmt;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[cfg(test)]
mod tests;

/// How long a daemon may take to accept a connection.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// Which daemon; words in messages only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Daemon {
    /// `ublk-splitter`.
    Splitter,
    /// `journal-appliance`.
    Appliance,
}

impl fmt::Display for Daemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Splitter => "splitter",
            Self::Appliance => "appliance",
        })
    }
}

/// One daemon's control socket.
#[derive(Clone, Debug)]
pub struct Client {
    daemon: Daemon,
    socket: PathBuf,
}

impl Client {
    /// The daemon behind this socket; nothing is connected yet.
    pub fn new(daemon: Daemon, socket: impl Into<PathBuf>) -> Self {
        Self { daemon, socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Which daemon it is.
    pub fn daemon(&self) -> Daemon {
        self.daemon
    }

    /// Asks, passes progress on, and returns the answer or the daemon's error.
    ///
    /// Errors of its own are `Unreachable` (not running, or gone before it answered), `TimedOut` (no answer within
    /// `patience`; whatever was asked goes on in the daemon) and `Failed` (not permitted, not understood).
    pub fn ask<R: Serialize>(
        &self,
        request: &R,
        patience: Duration,
        mut on_progress: impl FnMut(&Progress),
    ) -> Result<Answer, ControlError> {
        let deadline = Instant::now() + patience;
        let mut stream = connect(&self.socket, CONNECT_PATIENCE.min(patience)).map_err(|miss| self.missed(miss))?;
        self.send(&mut stream, request, patience)?;
        let mut lines = Lines::new(stream, deadline);
        loop {
            let line = lines.next().map_err(|e| self.broken(&e, patience))?;
            let line: Line = serde_json::from_slice(&line).map_err(|e| {
                ControlError::failed(format!("cannot understand what the {} answered: {e}", self.daemon))
                    .hint("daemon and command line may be of different releases: undisk down, then undisk up")
            })?;
            match line {
                Line::Progress(progress) => on_progress(&progress),
                Line::Answer(answer) => return Ok(*answer),
                Line::Error(error) => return Err(error),
            }
        }
    }

    fn send<R: Serialize>(&self, stream: &mut UnixStream, request: &R, patience: Duration) -> Result<(), ControlError> {
        let mut text = serde_json::to_vec(request)
            .map_err(|e| ControlError::failed(format!("cannot write down the request: {e}")))?;
        text.push(b'\n');
        // A daemon that refuses at once (too busy, wrong user) closes before it has read everything; its answer is
        // there to be read all the same.
        match stream
            .set_write_timeout(Some(patience.max(Duration::from_millis(1))))
            .and_then(|()| stream.write_all(&text))
        {
            Err(e) if e.kind() != io::ErrorKind::BrokenPipe => Err(self.broken(&e, patience)),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn missed(&self, miss: Miss) -> ControlError {
        let (daemon, socket) = (self.daemon, self.socket.display());
        match miss {
            Miss::Absent => {
                ControlError::new(Kind::Unreachable, format!("the {daemon} is not running (no socket {socket})"))
                    .hint("undisk up")
            }
            Miss::Stale => ControlError::new(
                Kind::Unreachable,
                format!("the {daemon} is not running, though it was: nobody listens on the stale socket {socket}"),
            )
            .hint("undisk up (it replaces the stale socket; volumes and history are kept)"),
            Miss::Busy => ControlError::new(
                Kind::TimedOut,
                format!("the {daemon} accepts no connection on {socket}: it is stopped, stuck or very busy"),
            )
            .hint("undisk status"),
            Miss::Other(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                ControlError::failed(format!("not permitted to ask the {daemon} on {socket}: only root is"))
                    .hint("run it as root, as in: sudo undisk ...")
            }
            Miss::Other(e) => {
                ControlError::new(Kind::Unreachable, format!("cannot connect to the {daemon} on {socket}: {e}"))
            }
        }
    }

    fn broken(&self, e: &io::Error, patience: Duration) -> ControlError {
        let daemon = self.daemon;
        match e.kind() {
            io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock => ControlError::new(
                Kind::TimedOut,
                format!(
                    "no answer from the {daemon} within {}; what was asked goes on there",
                    crate::point::Nanos(u64::try_from(patience.as_nanos()).unwrap_or(u64::MAX))
                ),
            )
            .hint("undisk status"),
            io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                ControlError::new(
                    Kind::Unreachable,
                    format!("the {daemon} went away before it answered; what was asked may be done or not"),
                )
                .hint("undisk status; repeating a command is harmless")
            }
            _ => ControlError::new(Kind::Unreachable, format!("lost the connection to the {daemon}: {e}")),
        }
    }
}

/// Lines of a stream under a deadline.
struct Lines {
    stream: UnixStream,
    deadline: Instant,
    buffer: Vec<u8>,
    /// Bytes of the buffer known to hold no line end.
    searched: usize,
}

impl Lines {
    fn new(stream: UnixStream, deadline: Instant) -> Self {
        Self { stream, deadline, buffer: Vec::new(), searched: 0 }
    }

    /// The next line, without its end.
    fn next(&mut self) -> io::Result<Vec<u8>> {
        let mut piece = [0u8; 16 * 1024];
        loop {
            if let Some(found) = self.buffer[self.searched..].iter().position(|b| *b == b'\n') {
                let end = self.searched + found;
                let rest = self.buffer.split_off(end + 1);
                let mut line = std::mem::replace(&mut self.buffer, rest);
                line.pop();
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("the answer is longer than anything that we ask for"));
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(left))?;
            match self.stream.read(&mut piece) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => self.buffer.extend_from_slice(&piece[..n]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}
