//! `inspect dump`: the records, one a line.

use crate::args::Dump;
use crate::out::{Out, Progress, line, time};
use crate::walk::{Chunk, Found, walk};
use crate::{Ending, open};
use control::error::ControlError;
use journal::place::{Place, SegmentNumber};
use record::chunk::Record;
use record::ids::Incarnation;
use record::member::{BarrierNote, BookmarkNote, JoinNote, RollbackNote, SessionNote};
use record::op::{Op, OpFlags};
use record::position::Position;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

pub fn run(args: &Dump, out: Out<'_>) -> Result<Ending, ControlError> {
    let reader = open::reader(&args.journal)?;
    let directory = &args.journal.directory;
    let found = walk(directory, reader.id())
        .map_err(|error| ControlError::failed(format!("read the segments of {}: {error}", directory.display())))?;
    let names = reader.members().into_iter().map(|member| (member.incarnation, member.name)).collect();
    // What stands behind the head is an unfinished write: it is in no image, and here it is no record.
    let head = reader.timeline().head.position;
    let wanted = Position::new(args.from)..=Position::new(args.to).min(head);
    let mut dump = Dumper { names, json: args.json, segments: Segments { directory: directory.clone(), open: None } };
    let mut progress = Progress::new("dump");
    let mut ending = Ending::Well;
    for found in found {
        match found {
            Found::Chunk(chunk) => {
                progress.tell(chunk.header.first_position.get(), head.get());
                let positions = (chunk.header.first_position.get()..).map(Position::new);
                for (record, position) in chunk.body.records.iter().zip(positions) {
                    if wanted.contains(&position) {
                        dump.record(&chunk, record, position, out)?;
                    }
                }
            }
            Found::Lost { place, positions: (first, last) } => {
                if first <= *wanted.end() && last >= *wanted.start() {
                    ending = Ending::Found;
                    dump.lost(place, first, last, out)?;
                }
            }
        }
    }
    Ok(ending)
}

struct Dumper {
    names: BTreeMap<Incarnation, String>,
    json: bool,
    segments: Segments,
}

impl Dumper {
    fn record(&mut self, chunk: &Chunk, record: &Record, position: Position, out: Out<'_>) -> Result<(), ControlError> {
        let note = self.segments.note(chunk, record);
        if self.json {
            line(out, self.as_json(chunk, record, position, note))
        } else {
            line(out, self.as_text(chunk, record, position, &note))
        }
    }

    fn lost(&self, place: Place, first: Position, last: Position, out: Out<'_>) -> Result<(), ControlError> {
        if self.json {
            let segment = place.segment.file();
            line(out, json!({ "lost": [first.get(), last.get()], "file": segment, "offset": place.offset }))
        } else {
            line(out, format_args!("seq:{first} to seq:{last} lost: no readable chunk at {place}"))
        }
    }

    fn volume(&self, volume: Incarnation) -> String {
        match self.names.get(&volume) {
            Some(name) => format!("{name}({volume})"),
            None => format!("({volume})"),
        }
    }

    fn as_text(&self, chunk: &Chunk, record: &Record, position: Position, note: &Map<String, Value>) -> String {
        let descriptor = &record.descriptor;
        let mut parts = vec![format!("seq:{position}"), time(descriptor.label), descriptor.op.to_string()];
        if descriptor.volume != Incarnation::NONE {
            parts.push(self.volume(descriptor.volume));
        }
        parts.extend(descriptor.extent.map(|extent| extent.to_string()));
        parts.extend(flags(descriptor.flags).into_iter().map(str::to_owned));
        parts.extend(note.iter().map(|(key, value)| format!("{key}={value}")));
        parts.push(format!("session {} record {}", chunk.body.header.session, record.seq));
        parts.push(format!("chunk {} in {}", chunk.header.number, chunk.place));
        parts.join(" ")
    }

    fn as_json(&self, chunk: &Chunk, record: &Record, position: Position, note: Map<String, Value>) -> Value {
        let descriptor = &record.descriptor;
        let mut value = json!({
            "position": position.get(),
            "time": time(descriptor.label),
            "wall_minus_label_ms": descriptor.wall_minus_label_ms,
            "op": descriptor.op.to_string(),
            "flags": flags(descriptor.flags),
            "session": chunk.body.header.session.get(),
            "record": record.seq.get(),
            "chunk": chunk.header.number.get(),
            "epoch": chunk.header.epoch.get(),
            "file": chunk.place.segment.file(),
            "offset": chunk.place.offset,
        });
        if descriptor.volume != Incarnation::NONE {
            value["incarnation"] = json!(descriptor.volume.get());
            value["volume"] = json!(self.names.get(&descriptor.volume));
        }
        if let Some(extent) = descriptor.extent {
            value["sector"] = json!(extent.start().index());
            value["sectors"] = json!(extent.count().get());
        }
        if descriptor.payload_bytes > 0 {
            value["payload_at"] = json!(chunk.payload_at() + u64::from(descriptor.payload_offset));
            value["payload_bytes"] = json!(descriptor.payload_bytes);
        }
        if !note.is_empty() {
            value["note"] = Value::Object(note);
        }
        value
    }
}

fn flags(flags: OpFlags) -> Vec<&'static str> {
    [(OpFlags::FUA, "FUA"), (OpFlags::NOUNMAP, "NOUNMAP"), (OpFlags::RESYNC, "RESYNC")]
        .into_iter()
        .filter_map(|(flag, name)| flags.has(flag).then_some(name))
        .collect()
}

/// Segments to read notes from; the one read last stays open.
struct Segments {
    directory: PathBuf,
    open: Option<(SegmentNumber, File)>,
}

impl Segments {
    /// The fields of a record's note; empty when it has none or the note is damaged, which is said.
    fn note(&mut self, chunk: &Chunk, record: &Record) -> Map<String, Value> {
        let descriptor = &record.descriptor;
        if descriptor.op == Op::Write || descriptor.payload_bytes == 0 {
            return Map::new();
        }
        let mut bytes = vec![0; descriptor.payload_bytes as usize];
        let at = chunk.payload_at() + u64::from(descriptor.payload_offset);
        let read = self.segment(chunk.place.segment).is_some_and(|file| file.read_exact_at(&mut bytes, at).is_ok());
        let note = if read && chunk.body.damaged_blocks(record, &bytes).is_empty() {
            fields(descriptor.op, &bytes)
        } else {
            None
        };
        note.unwrap_or_else(|| Map::from_iter([("unreadable".to_owned(), json!(true))]))
    }

    fn segment(&mut self, number: SegmentNumber) -> Option<&File> {
        if self.open.as_ref().is_none_or(|(open, _)| *open != number) {
            self.open = Some((number, File::open(Path::new(&self.directory).join(number.file())).ok()?));
        }
        self.open.as_ref().map(|(_, file)| file)
    }
}

/// The fields of a note.
fn fields(op: Op, bytes: &[u8]) -> Option<Map<String, Value>> {
    let fields: Vec<(&str, Value)> = match op {
        Op::Bookmark | Op::BookmarkRemoved => {
            let note = BookmarkNote::decode(bytes)?;
            vec![("bookmark", json!(note.name)), ("ticket", json!(note.ticket))]
        }
        Op::Join => {
            let note = JoinNote::decode(bytes)?;
            vec![
                ("name", json!(note.name)),
                ("id", json!(note.volume.to_string())),
                ("size_sectors", json!(note.size.get())),
                ("block_bytes", json!(note.block.bytes())),
                ("splitter", json!(note.splitter.to_string())),
            ]
        }
        Op::Rollback => {
            let note = RollbackNote::decode(bytes)?;
            vec![("target", json!(note.target.get())), ("id", json!(note.id))]
        }
        Op::SessionGranted | Op::SessionLost => {
            let note = SessionNote::decode(bytes)?;
            vec![
                ("granted", json!(note.session.get())),
                ("splitter", json!(note.splitter.to_string())),
                ("life", json!(note.life.get())),
                ("clean", json!(note.clean)),
            ]
        }
        Op::Barrier => {
            let note = BarrierNote::decode(bytes)?;
            let sessions: Vec<u64> = note.sessions.iter().map(|session| session.get()).collect();
            vec![
                ("barrier", json!(note.id)),
                ("ticket", json!(note.ticket)),
                ("sessions", json!(sessions)),
                ("bookmark", json!(note.name)),
            ]
        }
        // RECOVERY's note is the journal's own affair: how it was found, which `points` tells.
        Op::Recovery => Vec::new(),
        Op::Write
        | Op::Punch
        | Op::Zero
        | Op::Flush
        | Op::Noop
        | Op::Indeterminate
        | Op::ResyncBegin
        | Op::ResyncEnd
        | Op::Joined
        | Op::Leave
        | Op::Commit => return None,
    };
    Some(fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}
