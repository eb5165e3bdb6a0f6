//! Answering on a control socket.
//!
//! Owns the daemon's half of the conversation: who may ask (root and the daemon's own user), how long a request may
//! be, how many may be in hand at once, and that what was begun is finished although the asker has gone. Deliberately
//! knows no request: it serves whatever type the daemon's handler takes.

use crate::answer::{Answer, Progress};
use crate::error::{ControlError, Kind};
use crate::socket::{SocketFile, bind};
use crate::wire::{Line, REQUEST_BYTES_MAX};
use serde::de::DeserializeOwned;
use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

#[cfg(test)]
mod tests;

/// Requests in hand at once; further ones are turned away with a clear word.
pub const CONNECTIONS_MAX: usize = 64;
/// How long a connection may take to say what it wants, and to take a line of the answer.
const TALK_PATIENCE: Duration = Duration::from_secs(10);
/// How long, after the shutdown was asked for, answers may still take.
const FAREWELL: Duration = Duration::from_secs(10);
/// Shortest time between two lines of progress.
const PROGRESS_PACE: Duration = Duration::from_millis(100);

/// Where a handler tells how far it is. Cheap; only the newest report is kept.
#[derive(Clone, Debug)]
pub struct ProgressSink(watch::Sender<Option<Progress>>);

impl ProgressSink {
    /// A sink that nobody reads.
    pub fn unread() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Tells how far it is. Never blocks, never fails: the asker may be gone.
    pub fn report(&self, progress: Progress) {
        self.0.send_replace(Some(progress));
    }
}

/// A control socket that is listened on; its file goes away with it.
#[derive(Debug)]
pub struct ControlListener {
    listener: UnixListener,
    _file: SocketFile,
}

impl ControlListener {
    /// Binds a control socket as [`bind`] does. Call it inside a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, ControlError> {
        let (listener, file) = bind(path)?.into_parts();
        let listener = UnixListener::from_std(listener)
            .map_err(|e| ControlError::failed(format!("cannot listen on {}: {e}", path.display())))?;
        Ok(Self { listener, _file: file })
    }
}

/// Serves until `shutdown` completes, then lets the answers of requests in hand go out (10 s at most: a handler that
/// asked for the shutdown returns its answer at once). Each request runs as a task of its own, to its end, whether
/// or not the asker waits for it.
pub async fn serve<R, H, F>(listener: ControlListener, handler: H, shutdown: impl Future<Output = ()>)
where
    R: DeserializeOwned + Send + 'static,
    H: Fn(R, ProgressSink) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Answer, ControlError>> + Send + 'static,
{
    let handler = Arc::new(handler);
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut conversations = JoinSet::new();
    let mut shutdown = pin!(shutdown);
    loop {
        let accepted = tokio::select! {
            () = &mut shutdown => break,
            accepted = listener.listener.accept() => accepted,
            Some(_) = conversations.join_next() => continue,
        };
        let Ok((stream, _)) = accepted else {
            // Out of file descriptors, most likely: give those in hand the time to end.
            tokio::time::sleep(PROGRESS_PACE).await;
            continue;
        };
        if !permitted(&stream) {
            refuse(&stream, ControlError::failed("only root may ask").hint("run it as root"));
            continue;
        }
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            refuse(&stream, ControlError::failed(format!("too busy: {CONNECTIONS_MAX} requests are in hand already")));
            continue;
        };
        let handler = Arc::clone(&handler);
        conversations.spawn(async move {
            // A broken conversation concerns its asker only, and the asker sees it.
            let _ = converse(stream, handler).await;
            drop(slot);
        });
    }
    let farewell = async { while conversations.join_next().await.is_some() {} };
    let _ = tokio::time::timeout(FAREWELL, farewell).await;
    // Requests still running belong to their own tasks; only their askers are left behind.
    conversations.detach_all();
}

/// Root, or the user as which this daemon runs (tests).
fn permitted(stream: &UnixStream) -> bool {
    stream.peer_cred().is_ok_and(|who| who.uid() == 0 || who.uid() == nix::unistd::geteuid().as_raw())
}

/// Says why not, if that is possible without waiting.
fn refuse(stream: &UnixStream, error: ControlError) {
    if let Ok(text) = line_bytes(&Line::Error(error)) {
        // A socket that was just accepted has room for a line; if not, the asker sees the connection end.
        let _ = stream.try_write(&text);
    }
}

async fn converse<R, H, F>(mut stream: UnixStream, handler: Arc<H>) -> io::Result<()>
where
    R: DeserializeOwned + Send + 'static,
    H: Fn(R, ProgressSink) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Answer, ControlError>> + Send + 'static,
{
    let (read, mut write) = stream.split();
    let request = match tokio::time::timeout(TALK_PATIENCE, read_request(read)).await {
        Ok(Ok(Some(text))) => serde_json::from_slice(&text).map_err(|e| {
            ControlError::usage(format!("cannot understand the request: {e}"))
                .hint("daemon and command line may be of different releases: undisk down, then undisk up")
        }),
        // Connected and closed: somebody only looked whether we listen.
        Ok(Ok(None)) => return Ok(()),
        Ok(Err(e)) if e.kind() == io::ErrorKind::InvalidData => Err(ControlError::usage(e.to_string())),
        Ok(Err(e)) => return Err(e),
        Err(_) => Err(ControlError::new(Kind::TimedOut, "no request came")),
    };
    let request: R = match request {
        Ok(request) => request,
        Err(error) => return say(&mut write, &Line::Error(error)).await,
    };
    let (sender, mut progress) = watch::channel(None);
    // A task of its own: it must end although this conversation may break off.
    let mut working = tokio::spawn(handler(request, ProgressSink(sender)));
    let mut heard = true;
    let mut watching = true;
    loop {
        let news = async {
            // The pace comes first: reports during it fold into one line.
            tokio::time::sleep(PROGRESS_PACE).await;
            progress.changed().await
        };
        tokio::select! {
            done = &mut working => {
                let line = match done {
                    Ok(Ok(answer)) => Line::Answer(Box::new(answer)),
                    Ok(Err(error)) => Line::Error(error),
                    Err(e) => Line::Error(ControlError::failed(format!("the daemon failed at it: {e}")).hint("see its log")),
                };
                return if heard { say(&mut write, &line).await } else { Ok(()) };
            }
            changed = news, if watching => {
                watching = changed.is_ok();
                let report = progress.borrow_and_update().clone();
                if let (true, Some(report)) = (heard, report) {
                    heard = say(&mut write, &Line::Progress(report)).await.is_ok();
                }
            }
        }
    }
}

/// One line of at most [`REQUEST_BYTES_MAX`] bytes; `None` when nothing came at all.
async fn read_request(read: impl tokio::io::AsyncRead + Unpin) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let bound = u64::try_from(REQUEST_BYTES_MAX).unwrap_or(u64::MAX);
    let got = BufReader::new(read.take(bound + 1)).read_until(b'\n', &mut text).await?;
    match text.last() {
        None => Ok(None),
        Some(b'\n') => Ok(Some(text)),
        Some(_) if got > REQUEST_BYTES_MAX => Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("the request is longer than {REQUEST_BYTES_MAX} bytes"),
        )),
        Some(_) => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

async fn say(write: &mut (impl tokio::io::AsyncWrite + Unpin), line: &Line) -> io::Result<()> {
    let text = line_bytes(line)?;
    tokio::time::timeout(TALK_PATIENCE, write.write_all(&text))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

fn line_bytes(line: &Line) -> io::Result<Vec<u8>> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    Ok(text)
}
