//! `inspect points`: what of the history can be opened, and what a person calls it.

use crate::args::Points;
use crate::out::{Out, at_json, line};
use crate::{Ending, open};
use control::error::ControlError;
use journal::{Mark, MarkKind, TimelineView};
use serde_json::{Value, json};

pub fn run(args: &Points, out: Out<'_>) -> Result<Ending, ControlError> {
    let reader = open::reader(&args.journal)?;
    let view = reader.timeline();
    if args.json {
        line(out, as_json(&view))?;
    } else {
        print(&view, out)?;
    }
    Ok(Ending::Well)
}

fn print(view: &TimelineView, out: Out<'_>) -> Result<(), ControlError> {
    match &view.window {
        Some(window) => {
            line(out, format_args!("oldest    {}", window.oldest))?;
            line(out, format_args!("newest    {}", window.newest))?;
        }
        None => line(out, "no point yet: no volume has completed its first synchronisation")?,
    }
    line(out, format_args!("head      {}", view.head))?;
    if view.barriers_only {
        line(out, "points    across its volumes only barriers: several splitters serve the group")?;
    }
    for gap in &view.gaps {
        line(out, format_args!("gap       {gap}"))?;
    }
    for bookmark in &view.bookmarks {
        line(out, format_args!("bookmark  {}  #{}", bookmark.at, bookmark.name))?;
    }
    for mark in &view.marks {
        line(out, format_args!("mark      {}  {}", mark.at, words(mark)))?;
    }
    let counts: Vec<String> = view.counts.iter().map(|(op, n)| format!("{op} {n}")).collect();
    line(out, format_args!("records   {}", counts.join(", ")))
}

fn words(mark: &Mark) -> String {
    match &mark.kind {
        MarkKind::Flush => "flush".into(),
        MarkKind::PunchAfterPause => "discards begin".into(),
        MarkKind::Barrier => "barrier: a point across all splitters".into(),
        MarkKind::Joined { volume } => format!("volume {volume} joined"),
        MarkKind::Left { volume } => format!("volume {volume} left"),
        MarkKind::Rollback { target, id } => format!("rollback {id} to seq:{target}"),
        MarkKind::Recovery { clean: true } => "opened after a clean close".into(),
        MarkKind::Recovery { clean: false } => "opened after a crash".into(),
    }
}

fn as_json(view: &TimelineView) -> Value {
    let gaps = view
        .gaps
        .iter()
        .map(|gap| json!({ "begin": at_json(gap.begin), "end": gap.end.map(at_json), "cause": gap.cause.to_string() }));
    let bookmarks = view.bookmarks.iter().map(|bookmark| json!({ "name": bookmark.name, "at": at_json(bookmark.at) }));
    let marks = view.marks.iter().map(|mark| {
        let mut value = json!({ "at": at_json(mark.at), "kind": kind(mark) });
        match &mark.kind {
            MarkKind::Flush | MarkKind::PunchAfterPause | MarkKind::Barrier => {}
            MarkKind::Joined { volume } | MarkKind::Left { volume } => value["volume"] = json!(volume),
            MarkKind::Rollback { target, id } => {
                value["target"] = json!(target.get());
                value["id"] = json!(id);
            }
            MarkKind::Recovery { clean } => value["clean"] = json!(clean),
        }
        value
    });
    json!({
        "window": view.window.map(|w| json!({ "oldest": at_json(w.oldest), "newest": at_json(w.newest) })),
        "head": at_json(view.head),
        "barriers_only": view.barriers_only,
        "gaps": gaps.collect::<Vec<_>>(),
        "bookmarks": bookmarks.collect::<Vec<_>>(),
        "marks": marks.collect::<Vec<_>>(),
        "records": view.counts.iter().map(|(op, n)| (op.to_string(), json!(n))).collect::<serde_json::Map<_, _>>(),
    })
}

fn kind(mark: &Mark) -> &'static str {
    match mark.kind {
        MarkKind::Flush => "flush",
        MarkKind::PunchAfterPause => "punch-after-pause",
        MarkKind::Barrier => "barrier",
        MarkKind::Joined { .. } => "joined",
        MarkKind::Left { .. } => "left",
        MarkKind::Rollback { .. } => "rollback",
        MarkKind::Recovery { .. } => "recovery",
    }
}
