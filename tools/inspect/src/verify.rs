//! `inspect verify`: every byte read, what is damaged named.

use crate::Ending;
use crate::args::Verify;
use crate::out::{Out, Progress, journal_error, line};
use control::error::ControlError;
use journal::{Finding, FindingKind, Severity, VerifyReport};
use serde_json::{Value, json};

pub fn run(args: &Verify, out: Out<'_>) -> Result<Ending, ControlError> {
    let mut progress = Progress::new("verify");
    let report = journal::verify(&args.journal.directory, &mut |done, all| progress.tell(done, all))
        .map_err(|error| journal_error(&error))?;
    if args.json {
        line(out, as_json(&report))?;
    } else {
        print(&report, out)?;
    }
    Ok(if report.is_damaged() { Ending::Found } else { Ending::Well })
}

fn print(report: &VerifyReport, out: Out<'_>) -> Result<(), ControlError> {
    line(out, format_args!("journal {} of group '{}'", report.journal, report.group_name))?;
    line(
        out,
        format_args!(
            "read {} segments, {} chunks, {} records, {} bytes of payload; newest position seq:{}",
            report.segments, report.chunks, report.records, report.payload_bytes, report.head
        ),
    )?;
    for finding in &report.findings {
        print_finding(finding, out)?;
    }
    let damaged = report.findings.iter().filter(|f| f.severity == Severity::Damage).count();
    match damaged {
        0 => line(out, "nothing is damaged"),
        1 => line(out, "1 place is damaged"),
        n => line(out, format_args!("{n} places are damaged")),
    }
}

fn print_finding(finding: &Finding, out: Out<'_>) -> Result<(), ControlError> {
    let severity = severity(finding.severity);
    let bytes = if finding.bytes == 0 { String::new() } else { format!(", {} bytes", finding.bytes) };
    line(out, format_args!("{severity}: {} offset {}{bytes}: {}", finding.file, finding.offset, finding.message))?;
    if let Some((first, last)) = finding.positions {
        line(out, format_args!("  positions seq:{first} to seq:{last}"))?;
    }
    for (name, incarnation, extent) in &finding.extents {
        let name = if name.is_empty() { format!("number {incarnation}") } else { format!("'{name}'") };
        line(out, format_args!("  volume {name} {extent}"))?;
    }
    if !finding.extents_known {
        line(out, "  which sectors is not known: images refuse all that were not written again since")?;
    }
    Ok(())
}

const fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Note => "note",
        Severity::Damage => "damage",
    }
}

const fn kind(kind: FindingKind) -> &'static str {
    match kind {
        FindingKind::Superblock => "superblock",
        FindingKind::SegmentMissing => "segment-missing",
        FindingKind::SegmentTruncated => "segment-truncated",
        FindingKind::SegmentHeader => "segment-header",
        FindingKind::ChunkHeader => "chunk-header",
        FindingKind::Payload => "payload",
        FindingKind::Footer => "footer",
        FindingKind::RestoreMap => "restore-map",
        FindingKind::Undo => "undo",
        FindingKind::Checkpoint => "checkpoint",
        FindingKind::Tail => "tail",
        FindingKind::Foreign => "foreign",
    }
}

fn as_json(report: &VerifyReport) -> Value {
    let findings = report.findings.iter().map(|finding| {
        let extents = finding.extents.iter().map(|(name, incarnation, extent)| {
            json!({
                "volume": name,
                "incarnation": incarnation.get(),
                "sector": extent.start().index(),
                "sectors": extent.count().get(),
            })
        });
        json!({
            "severity": severity(finding.severity),
            "kind": kind(finding.kind),
            "file": finding.file,
            "offset": finding.offset,
            "bytes": finding.bytes,
            "positions": finding.positions.map(|(first, last)| [first.get(), last.get()]),
            "extents": extents.collect::<Vec<_>>(),
            "extents_known": finding.extents_known,
            "message": finding.message,
        })
    });
    json!({
        "journal": report.journal.to_string(),
        "group": report.group_name,
        "segments": report.segments,
        "chunks": report.chunks,
        "records": report.records,
        "payload_bytes": report.payload_bytes,
        "head": report.head.get(),
        "damaged": report.is_damaged(),
        "findings": findings.collect::<Vec<_>>(),
    })
}
