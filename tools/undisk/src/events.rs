//! `undisk events`: what happened, of both daemons, by time.
//!
//! Owns the merge and what is printed of an event. A daemon that does not answer is told of on stderr; the other one's
//! events are shown all the same.

use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use crate::table::{Cell, Column, ListArgs};
use clap::Args;
use control::answer::{Answer, Event};
use control::client::Daemon;
use control::error::{ControlError, Kind};
use control::request::{ApplianceRequest, EventsAsk, SplitterRequest};
use std::time::Duration;

#[cfg(test)]
mod tests;

/// Time between two questions of `--follow`.
const PACE: Duration = Duration::from_millis(500);
/// How long one of them may take: a daemon that is away must not hold up the other's events.
const LOOK: Duration = Duration::from_secs(2);
/// Events between two questions, at most.
const BURST: u32 = 4096;

/// Show what happened.
#[derive(Debug, Args)]
pub struct Show {
    /// How many of the newest events
    #[arg(short = 'n', long = "newest", value_name = "N", default_value_t = 50)]
    newest: u32,
    /// Go on with what happens from now on, until interrupted
    #[arg(short, long)]
    follow: bool,
    #[command(flatten)]
    list: ListArgs,
}

const COLUMNS: &[Column<Event>] = &[
    Column { name: "time", about: "when", usual: true, cell: |e| Cell::Time(e.time_ns) },
    Column { name: "kind", about: "what kind of thing", usual: true, cell: |e| Cell::Text(e.kind.clone()) },
    Column {
        name: "group",
        about: "consistency group",
        usual: true,
        cell: |e| Cell::Text(e.group.clone().unwrap_or_default()),
    },
    Column { name: "volume", about: "volume", usual: true, cell: |e| Cell::Text(e.volume.clone().unwrap_or_default()) },
    Column { name: "text", about: "what happened", usual: true, cell: |e| Cell::Text(e.text.clone()) },
    Column { name: "daemon", about: "which daemon saw it", usual: false, cell: |e| Cell::Text(e.daemon.clone()) },
    Column { name: "number", about: "number among that daemon's", usual: false, cell: |e| Cell::Count(e.number) },
    Column {
        name: "bytes",
        about: "how many bytes it was about",
        usual: false,
        cell: |e| e.bytes.map_or(Cell::Text(String::new()), Cell::Bytes),
    },
];

/// One daemon's events, and how far they were read.
#[derive(Clone, Copy, Debug)]
struct Source {
    daemon: Daemon,
    after: Option<u64>,
    /// It did not answer last time.
    silent: bool,
}

impl Source {
    const fn new(daemon: Daemon) -> Self {
        Self { daemon, after: None, silent: false }
    }

    fn read(&mut self, session: &Session, newest: u32, patience: Duration) -> Result<(Vec<Event>, u64), ControlError> {
        let ask = EventsAsk { after: self.after, newest };
        let answer = match self.daemon {
            Daemon::Splitter => session.ask_splitter(&SplitterRequest::Events(ask), patience),
            Daemon::Appliance => session.ask_appliance(&ApplianceRequest::Events(ask), patience),
        }?;
        let Answer::Events(told) = answer else { return Err(unexpected(self.daemon)) };
        self.after = told.events.last().map(|event| event.number).or(self.after);
        Ok((told.events, told.dropped))
    }
}

impl Show {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if let Some(help) = self.list.help(COLUMNS)? {
            return Ok(help);
        }
        let mut sources = [Source::new(Daemon::Splitter), Source::new(Daemon::Appliance)];
        let (mut events, mut dropped, mut silent) = (Vec::new(), 0, Vec::new());
        for source in &mut sources {
            match source.read(session, self.newest, QUICK) {
                Ok((more, missing)) => {
                    events.push(more);
                    dropped += missing;
                }
                Err(error) => {
                    source.silent = true;
                    silent.push(error);
                }
            }
        }
        if silent.len() == sources.len() && !self.follow {
            return Err(silent.remove(0));
        }
        let events = newest(merge(events), self.newest);
        let mut report = Report::new()
            .field("events", &events)
            .field("dropped", &dropped)
            .results(self.list.lines(COLUMNS, &events)?);
        if dropped > 0 {
            report = report.complaint(Kind::Degraded, format!("{dropped} events could not be written down"));
        }
        for error in silent {
            report = report.complaint(error.kind, error.message);
        }
        if !self.follow {
            return Ok(report);
        }
        report.print(session.json, session.quiet);
        self.follow(session, &mut sources)
    }

    /// Prints what comes, for ever; a daemon that goes away is waited for.
    fn follow(&self, session: &Session, sources: &mut [Source]) -> Result<Report, ControlError> {
        let list = ListArgs { no_header: true, columns: self.list.columns.clone() };
        loop {
            std::thread::sleep(PACE);
            let mut events = Vec::new();
            for source in &mut *sources {
                // From its first event on, if it could not be asked before.
                match source.read(session, BURST, LOOK) {
                    Ok((more, _)) => {
                        source.silent = false;
                        events.push(more);
                    }
                    Err(error) if !source.silent => {
                        source.silent = true;
                        eprintln!("undisk: {error}");
                    }
                    Err(_) => {}
                }
            }
            let events = merge(events);
            if events.is_empty() {
                continue;
            }
            let lines = if self.list.no_header { list.lines(COLUMNS, &events)? } else { self.readable(&events)? };
            let printed = Report::new().field("events", &events).field("dropped", &0u64).results(lines);
            if !printed.flows(session.json, session.quiet) {
                return Ok(Report::new());
            }
        }
    }

    /// As the list has them, without its header.
    fn readable(&self, events: &[Event]) -> Result<Vec<String>, ControlError> {
        Ok(self.list.lines(COLUMNS, events)?.split_off(1))
    }
}

/// All of them by time; of one daemon in its own order, whatever its clock did.
fn merge(lists: Vec<Vec<Event>>) -> Vec<Event> {
    lists.into_iter().fold(Vec::new(), |all, list| {
        let mut merged = Vec::with_capacity(all.len() + list.len());
        let mut others = all.into_iter().peekable();
        for event in list {
            while let Some(other) = others.next_if(|other| other.time_ns <= event.time_ns) {
                merged.push(other);
            }
            merged.push(event);
        }
        merged.extend(others);
        merged
    })
}

/// The newest of them.
fn newest(mut events: Vec<Event>, count: u32) -> Vec<Event> {
    let surplus = events.len().saturating_sub(count as usize);
    events.split_off(surplus)
}
