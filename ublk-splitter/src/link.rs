//! The link to the appliance: one connection a group, kept up for as long as the group lives.
//!
//! Owns the socket and connecting again after a break. What is said is in `talk`, what is decided in `session`, who reads
//! what comes in `listening`. Deliberately never waited for by a host: what it cannot send stays in the outbox, and when that is full the
//! stream stops recording.

mod inbox;
mod listening;
pub mod session;
pub mod talk;

use crate::bell::Rings;
use crate::group::Group;
use crate::stream::direct::{Direct, Ear};
use inbox::Inbox;
use listening::Listening;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use talk::{Parting, Talk};

/// How long the appliance may be silent, and a send may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Between two attempts to connect.
const RETRY: Duration = Duration::from_millis(200);
/// Between two attempts after the appliance said that trying again will not help.
const RETRY_REFUSED: Duration = Duration::from_secs(5);

/// Keeps the link up until the group quits.
pub fn run(group: &Arc<Group>, socket: &Path) {
    let mut said = String::new();
    while !group.quits() {
        let pause = match connect(socket).and_then(|stream| converse(group, stream)) {
            Ok(Parting::Again) => Duration::ZERO,
            Ok(Parting::Refused) => RETRY_REFUSED,
            Err(error) => {
                let why = error.to_string();
                if why != said {
                    tracing::warn!(group = group.name, socket = %socket.display(), error = why, "no link to the appliance; hosts go on, trying again");
                    said = why;
                }
                RETRY
            }
        };
        if pause.is_zero() {
            said.clear();
        }
        group.look_for_link();
        group.look_at_strain();
        let until = Instant::now() + pause;
        while Instant::now() < until && !group.wait_quit(until.saturating_duration_since(Instant::now())) {}
    }
}

fn connect(socket: &Path) -> io::Result<UnixStream> {
    let stream = UnixStream::connect(socket)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(stream)
}

fn converse(group: &Arc<Group>, stream: UnixStream) -> io::Result<Parting> {
    let inbox = Arc::new(Inbox::default());
    let reading = stream.try_clone()?;
    let listening = Arc::new(listening(group, stream.try_clone()?, &inbox));
    let link = group.set_link(Some(Box::new(stream)));
    let thread = {
        let listening = Arc::clone(&listening);
        std::thread::Builder::new().name(format!("link {}", group.name)).spawn(move || listening.read())?
    };
    let parting = Talk::open(group, link).and_then(|talk| speak(talk, &inbox, group, &listening));
    // Whatever ended it: nobody sends on this connection any more, and whoever listens to it ends.
    group.set_link(None);
    listening.close();
    let _ = reading.shutdown(std::net::Shutdown::Both);
    let _ = thread.join();
    parting
}

/// Lets hosts that are held for a barrier go on when their time is up, even while this thread waits for a socket that
/// the appliance does not read. One thread a barrier, for as long as it holds.
fn watch_barrier(group: &Group, watched: &mut Option<u64>) {
    let Some((barrier, left)) = group.stream.barrier_left() else { return };
    if watched.replace(barrier) == Some(barrier) {
        return;
    }
    let stream = Arc::clone(&group.stream);
    let watch = std::thread::Builder::new().name("barrier".to_owned()).spawn(move || {
        std::thread::sleep(left);
        stream.expire_barrier();
    });
    if let Err(error) = watch {
        tracing::warn!(group = group.name, %error, "cannot watch over a barrier, so it is not placed here");
        group.stream.release_barrier(barrier);
    }
}

/// Listens to a link for a group, and for what its thread has to deal with.
fn listening(group: &Arc<Group>, socket: UnixStream, inbox: &Arc<Inbox>) -> Listening {
    let (listener, frames) = (Arc::clone(group), Arc::clone(inbox));
    let deliver = move |frame| {
        let stream = &listener.stream;
        if frames.push(frame, |session, durable, committed| stream.acknowledged(session, durable, committed)) {
            stream.bell.ring(Rings { other: true, ..Rings::default() });
        } else {
            stream.send_gathered();
        }
    };
    let (group, inbox) = (Arc::clone(group), Arc::clone(inbox));
    let ended = move |why| {
        inbox.end(why);
        group.stream.bell.ring(Rings { other: true, ..Rings::default() });
    };
    Listening::new(socket, deliver, ended)
}

fn speak(mut talk: Talk<'_>, inbox: &Inbox, group: &Group, listening: &Arc<Listening>) -> io::Result<Parting> {
    let mut watched = None;
    loop {
        let (direct, put_off) = group.stream.take_back();
        talk.took_back(direct.map(|direct| direct.sent), put_off);
        let came = inbox.take();
        if let Some(durable) = came.durable {
            talk.landed(durable);
        }
        for frame in came.frames {
            if let Some(parting) = talk.take(frame)? {
                return Ok(parting);
            }
            watch_barrier(group, &mut watched);
        }
        if let Some(why) = came.end {
            return Err(io::Error::other(why));
        }
        if let Some(parting) = talk.turn()? {
            return Ok(parting);
        }
        if talk.rests() {
            inbox.rest();
        }
        if let Some(sent) = talk.lends() {
            group.stream.lend(Direct { sent, road: group.road(), ear: Arc::clone(listening) as Arc<dyn Ear> });
        }
        let rings = group.stream.bell.wait(talk.patience(), talk.gathers());
        talk.rung(rings);
    }
}
