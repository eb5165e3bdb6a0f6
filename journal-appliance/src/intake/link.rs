//! The sockets on which splitters speak: one connection for each group of each splitter.
//!
//! Owns accepting, reading frames and the limits: how many connections, how long a silence; what waits to be sent is
//! `sending`'s. Deliberately decides nothing about a frame: the first one names the group, and from then on every
//! frame is that group's, in order. A full mailbox makes the reader wait, and so does a chunk that it deals with itself,
//! and with it the splitter's sends; that is the back-pressure.

mod sending;

use std::io::{self, BufReader, Read};
use std::os::fd::AsFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use control::error::ControlError;
use control::socket::SocketFile;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use record::conversation::frame::{FRAME_HEAD_BYTES, Message, frame_head};
use record::conversation::{Continuation, Relied, ToAppliance, ToSplitter, VERSION};
use record::ids::{GroupId, SplitterId};
use record::position::SplitterIncarnation;

/// Connections at once; a splitter has one for each group.
const LINKS_MAX: usize = 256;
/// A peer that says nothing for so long is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// How long connections may take to end when the appliance does.
const FAREWELL: Duration = Duration::from_secs(2);

/// One connection, never numbered like another of this process.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct LinkId(pub u64);

/// What a splitter's first frame says, its version aside.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opening {
    /// The group.
    pub group: GroupId,
    /// The splitter.
    pub splitter: SplitterId,
    /// What people call it.
    pub name: String,
    /// Its life.
    pub life: SplitterIncarnation,
    /// What it knows of its stream.
    pub continuation: Continuation,
    /// Where its outbox is.
    pub outbox: String,
    /// What its dirty maps rely on.
    pub relied: Option<Relied>,
}

/// Something that a connection brings, for the group that it belongs to.
#[derive(Debug)]
pub enum LinkEvent {
    /// A splitter wants to speak for the group.
    Open {
        /// Its connection.
        link: Link,
        /// What it says of itself.
        opening: Opening,
    },
    /// A frame behind the first.
    Frame {
        /// On which connection.
        link: LinkId,
        /// What it says.
        frame: ToAppliance,
    },
    /// The connection is no more.
    Gone {
        /// Which.
        link: LinkId,
        /// Why.
        why: String,
    },
}

/// Finds groups for connections.
pub trait Route: Send + Sync + 'static {
    /// Brings an event to its group; blocks while the group is busy. `last`: nothing has been read of the connection behind
    /// it, so that whoever brings it has time. `Err` when the group does not take it, with what to tell the splitter: whether
    /// it may try again, and why not.
    fn deliver(&self, group: GroupId, event: LinkEvent, last: bool) -> Result<(), (bool, String)>;
}

/// The sending side of a connection, as the group that it belongs to uses it. None of it waits for the other end.
pub trait Peer: Send + Sync + std::fmt::Debug {
    /// Sends a frame.
    fn send(&self, message: &ToSplitter);
    /// Ends the connection once everything sent before has gone out.
    fn close(&self);
    /// Ends the connection now.
    fn cut(&self);
}

/// A connection with its number. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Link {
    id: LinkId,
    peer: Arc<dyn Peer>,
}

impl Link {
    /// The connection of this number, whose sending side is `peer`.
    pub fn new(id: LinkId, peer: Arc<dyn Peer>) -> Self {
        Self { id, peer }
    }

    /// Which connection.
    pub fn id(&self) -> LinkId {
        self.id
    }

    /// Sends a frame, without waiting. A peer that does not take what it is sent loses the connection.
    pub fn send(&self, message: &ToSplitter) {
        self.peer.send(message);
    }

    /// Ends the connection once everything sent before has gone out.
    pub fn close(&self) {
        self.peer.close();
    }

    /// Ends the connection now.
    pub fn cut(&self) {
        self.peer.cut();
    }
}

/// The listening socket with its threads.
#[derive(Debug)]
pub struct Links {
    stop: Arc<AtomicBool>,
    /// Connections that have a thread.
    open: Arc<AtomicUsize>,
    acceptor: Option<JoinHandle<()>>,
}

impl Links {
    /// Serves splitters on this socket until dropped.
    pub fn serve(listener: UnixListener, file: SocketFile, route: Arc<dyn Route>) -> Result<Self, ControlError> {
        let stop = Arc::new(AtomicBool::new(false));
        let open = Arc::new(AtomicUsize::new(0));
        let acceptor = thread::Builder::new()
            .name("link-accept".to_owned())
            .spawn({
                let (stop, open) = (Arc::clone(&stop), Arc::clone(&open));
                move || {
                    accept(&listener, &route, &stop, &open);
                    drop(file);
                }
            })
            .map_err(|e| ControlError::failed(format!("cannot start a thread for splitters' connections: {e}")))?;
        Ok(Self { stop, open, acceptor: Some(acceptor) })
    }

    /// Accepts nobody any more.
    pub fn stop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(acceptor) = self.acceptor.take() {
            // It looks at the flag several times a second.
            let _ = acceptor.join();
        }
    }

    /// Waits a little for connections that are coming to their end; their groups have ended them.
    pub fn wait(&self) {
        let patience = Instant::now() + FAREWELL;
        while self.open.load(Ordering::Acquire) > 0 && Instant::now() < patience {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        self.stop();
    }
}

fn accept(listener: &UnixListener, route: &Arc<dyn Route>, stop: &AtomicBool, open: &Arc<AtomicUsize>) {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    while !stop.load(Ordering::Relaxed) {
        let mut fds = [PollFd::new(listener.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::from(200u8)) {
            Ok(n) if n > 0 => {}
            Ok(_) | Err(nix::errno::Errno::EINTR) => continue,
            Err(e) => {
                tracing::error!(error = %e, "failed to wait for splitters' connections");
                return;
            }
        }
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => continue,
            Err(e) => {
                tracing::warn!(error = %e, "failed to accept a splitter's connection");
                // Out of file descriptors, most likely: the next turn of the loop is no better right away.
                thread::sleep(Duration::from_millis(200));
                continue;
            }
        };
        if open.load(Ordering::Relaxed) >= LINKS_MAX {
            tracing::warn!(most = LINKS_MAX, "refused a connection: too many are open");
            continue;
        }
        let id = LinkId(NEXT.fetch_add(1, Ordering::Relaxed));
        open.fetch_add(1, Ordering::Relaxed);
        let (route, count) = (Arc::clone(route), Arc::clone(open));
        let spawned = thread::Builder::new().name(format!("link-{}", id.0)).spawn(move || {
            converse(id, stream, route.as_ref());
            drop(route);
            count.fetch_sub(1, Ordering::Release);
        });
        if let Err(e) = spawned {
            open.fetch_sub(1, Ordering::Relaxed);
            tracing::error!(error = %e, "failed to start a thread for a splitter's connection");
        }
    }
}

/// One connection, from its first frame to its end.
fn converse(id: LinkId, stream: UnixStream, route: &dyn Route) {
    if let Err(e) = ublk_device::io_flusher() {
        tracing::debug!(error = %e, "the thread of a link is not marked as an I/O flusher");
    }
    let opened = prepare(&stream).and_then(|()| {
        let link = Link::new(id, sending::start(id, &stream)?);
        Ok((stream, link))
    });
    let (stream, link) = match opened {
        Ok(both) => both,
        Err(e) => {
            tracing::warn!(link = id.0, error = %e, "failed to set up a splitter's connection");
            return;
        }
    };
    // Head and body of a frame come in one system call, and so do frames that waited.
    let mut reader = Reader { stream: BufReader::new(&stream), body: Vec::new() };
    let opening = match reader.opening() {
        Ok(opening) => opening,
        Err(Fault::Refuse(reason)) => {
            tracing::warn!(link = id.0, reason, "refused a connection");
            link.send(&ToSplitter::Refused { retry: false, reason });
            link.close();
            return;
        }
        Err(Fault::End(why)) => {
            tracing::debug!(link = id.0, why, "a connection ended before it said anything");
            link.close();
            return;
        }
    };
    let group = opening.group;
    if let Err((retry, reason)) = route.deliver(group, LinkEvent::Open { link: link.clone(), opening }, false) {
        tracing::warn!(link = id.0, %group, reason, "refused a connection");
        link.send(&ToSplitter::Refused { retry, reason });
        link.close();
        return;
    }
    let why = loop {
        match reader.frame() {
            Ok(ToAppliance::Alive {}) => {}
            Ok(frame) => {
                if let Err((_, reason)) = route.deliver(group, LinkEvent::Frame { link: id, frame }, reader.is_empty())
                {
                    break reason;
                }
            }
            Err(Fault::End(why) | Fault::Refuse(why)) => break why,
        }
    };
    // Nothing more can come; what is still to be sent may go.
    link.close();
    let _ = route.deliver(group, LinkEvent::Gone { link: id, why }, false);
}

fn prepare(stream: &UnixStream) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(SILENCE_MAX))?;
    stream.set_write_timeout(Some(SILENCE_MAX))
}

/// Why no frame came.
enum Fault {
    /// The peer must be told that it cannot be served.
    Refuse(String),
    /// The connection is over.
    End(String),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Body,
}

struct Reader<'a> {
    stream: BufReader<&'a UnixStream>,
    body: Vec<u8>,
}

impl Reader<'_> {
    /// The first frame. Its version is looked at before anything else is understood.
    fn opening(&mut self) -> Result<Opening, Fault> {
        let crc = self.body()?;
        if let [1, low, high, ..] = self.body[..] {
            let version = u16::from_le_bytes([low, high]);
            if version != VERSION {
                return Err(Fault::Refuse(format!(
                    "the splitter speaks version {version} of the conversation, this appliance version {VERSION}; \
                     install the same release of both"
                )));
            }
        }
        match self.decode(crc)? {
            ToAppliance::Open { version: _, group, splitter, name, life, continuation, outbox, relied } => {
                Ok(Opening { group, splitter, name, life, continuation, outbox, relied })
            }
            ToAppliance::Chunk { .. }
            | ToAppliance::SyncBegin { .. }
            | ToAppliance::SyncData { .. }
            | ToAppliance::SyncZero { .. }
            | ToAppliance::SyncEnd { .. }
            | ToAppliance::BookmarkRefused { .. }
            | ToAppliance::RollbackReady { .. }
            | ToAppliance::RollbackRefused { .. }
            | ToAppliance::RestoreRead { .. }
            | ToAppliance::RestoreDone { .. }
            | ToAppliance::Lost { .. }
            | ToAppliance::Close {}
            | ToAppliance::VerifyRead { .. }
            | ToAppliance::Quiesced { .. }
            | ToAppliance::BarrierRefused { .. }
            | ToAppliance::HealData { .. }
            | ToAppliance::Alive {} => Err(Fault::Refuse("the first frame of a connection must be OPEN".to_owned())),
        }
    }

    /// Whether all that was read has been given out.
    fn is_empty(&self) -> bool {
        self.stream.buffer().is_empty()
    }

    fn frame(&mut self) -> Result<ToAppliance, Fault> {
        let crc = self.body()?;
        self.decode(crc)
    }

    fn decode(&self, crc: u32) -> Result<ToAppliance, Fault> {
        ToAppliance::decode(&self.body, crc).map_err(|e| Fault::End(e.to_string()))
    }

    /// Reads the next frame's body; answers with the checksum that its head announced.
    fn body(&mut self) -> Result<u32, Fault> {
        let mut head = [0; FRAME_HEAD_BYTES];
        self.fill(Part::Head, &mut head)?;
        let (len, crc) = frame_head(head).map_err(|e| Fault::End(e.to_string()))?;
        self.body.resize(len, 0);
        let mut body = std::mem::take(&mut self.body);
        let filled = self.fill(Part::Body, &mut body);
        self.body = body;
        filled.map(|()| crc)
    }

    fn fill(&mut self, part: Part, buffer: &mut [u8]) -> Result<(), Fault> {
        self.stream.read_exact(buffer).map_err(|e| {
            Fault::End(match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    format!("the splitter has said nothing for {} seconds", SILENCE_MAX.as_secs())
                }
                io::ErrorKind::UnexpectedEof if part == Part::Head => "the splitter closed the connection".to_owned(),
                io::ErrorKind::UnexpectedEof => "the connection ended in the middle of a frame".to_owned(),
                _ => e.to_string(),
            })
        })
    }
}
