//! `undisk point list`: the timeline.

use crate::group::status::{grid, lag, mode, points, window};
use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use crate::table::{Cell, Column, ListArgs, labelled};
use clap::Args;
use control::answer::{Answer, Timeline};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::request::ApplianceRequest;

/// Show the timeline of a group.
#[derive(Debug, Args)]
pub struct List {
    /// The group's name
    #[arg(required_unless_present = "columns")]
    group: Option<String>,
    /// Every flush and every grid point on a line of its own; without it and without -H, many in a row share one
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    shape: ListArgs,
}

/// So many flushes, or grid points, in a row each have a line of their own; more share one.
const IN_A_ROW_SHOWN: usize = 3;

/// One line of the timeline.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Moment {
    position: u64,
    time_ns: u64,
    kind: String,
    text: String,
}

const COLUMNS: &[Column<Moment>] = &[
    Column { name: "seq", about: "position", usual: true, cell: |m| Cell::Count(m.position) },
    Column { name: "time", about: "when", usual: true, cell: |m| Cell::Time(m.time_ns) },
    Column {
        name: "kind",
        about: "flush, bookmark, grid, gap, rollback, ...",
        usual: true,
        cell: |m| Cell::Text(m.kind.clone()),
    },
    Column { name: "text", about: "what", usual: true, cell: |m| Cell::Text(m.text.clone()) },
];

impl List {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        if let Some(help) = self.shape.help(COLUMNS)? {
            return Ok(help);
        }
        let group = Name::parse(Named::Group, &self.group.unwrap_or_default())?;
        let request = ApplianceRequest::PointList { group: group.into() };
        let Answer::Points(timeline) = session.ask_appliance(&request, QUICK)? else {
            return Err(unexpected(Daemon::Appliance));
        };
        // The appliance may stand on another host than the splitter: what it knows is told all the same.
        let splitter = session.splitter_status(QUICK).ok();
        let side = splitter.and_then(|splitter| splitter.groups.into_iter().find(|side| side.name == timeline.group));
        let mut moments = moments(&timeline);
        if !self.all && !self.shape.no_header {
            moments = folded(&moments);
        }
        let rows = self.shape.lines(COLUMNS, &moments)?;
        let mut report = Report::new().field("timeline", &timeline).field("splitter", &side);
        if !self.shape.no_header {
            let records: Vec<_> = timeline.counts.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
            let mut about = vec![
                ("group", timeline.group.clone()),
                ("window", window(timeline.window)),
                ("points", points(timeline.barriers_only).to_owned()),
                ("records", records.join(", ")),
            ];
            if let Some(points) = &timeline.grid {
                let listed = timeline.marks.iter().filter(|mark| mark.kind == "grid").count();
                let all = if points.points > listed as u64 {
                    format!("; the newest {listed} are listed; all can be opened")
                } else {
                    String::new()
                };
                about.push(("grid", grid(points) + &all));
            }
            if let Some(side) = &side {
                about.push(("state", mode(side.mode).to_owned()));
                about.push(("lag", lag(&side.lag)));
            }
            let listed = timeline.marks.iter().filter(|mark| mark.kind == "flush").count();
            let flushes = timeline.counts.get("flush").copied().unwrap_or_default();
            if flushes > listed as u64 {
                about.push(("flushes", format!("the newest {listed} are listed; all can be opened")));
            }
            report = report.results(labelled(&about));
        }
        Ok(report.results(rows))
    }
}

/// Marks, bookmarks and gaps in the order of their positions. Bookmarks are told from their own list, which is never
/// cut short as that of the marks may be.
fn moments(timeline: &Timeline) -> Vec<Moment> {
    let moment = |position, time_ns, kind: &str, text: String| Moment { position, time_ns, kind: kind.into(), text };
    let mut all = Vec::new();
    for mark in timeline.marks.iter().filter(|mark| mark.kind != "bookmark") {
        all.push(moment(mark.position, mark.time_ns, &mark.kind, mark.text.clone()));
    }
    for bookmark in &timeline.bookmarks {
        all.push(moment(bookmark.position, bookmark.time_ns, "bookmark", format!("#{}", bookmark.name)));
    }
    for gap in &timeline.gaps {
        let end = gap.end.map_or_else(|| "still open".to_owned(), |end| format!("to seq:{end}"));
        all.push(moment(gap.begin, gap.begin_ns, "gap", format!("cannot be opened, {end}: {}", gap.reason)));
    }
    all.sort();
    all
}

/// The same with one line for many flushes in a row, and for many grid points: a busy host flushes several times a second,
/// a grid has a point a minute, and the rest of the timeline would drown.
fn folded(moments: &[Moment]) -> Vec<Moment> {
    let many = |moment: &Moment| moment.kind == "flush" || moment.kind == "grid";
    let mut lines = Vec::new();
    for run in moments.chunk_by(|a, b| many(a) && a.kind == b.kind) {
        match run {
            [first, .., last] if run.len() > IN_A_ROW_SHOWN => {
                let text = format!(
                    "{} in a row, the last is seq:{} at {} (--all shows each)",
                    run.len(),
                    last.position,
                    control::time::local(last.time_ns)
                );
                lines.push(Moment { text, ..first.clone() });
            }
            _ => lines.extend_from_slice(run),
        }
    }
    lines
}

#[cfg(test)]
mod tests;
