//! `inspect trace`: the same sectors at every position.

use crate::args::Trace;
use crate::out::{Out, Progress, line, point_error};
use crate::read::sectors;
use crate::{Ending, open};
use control::error::ControlError;
use journal::{Image, PointError, Reader};
use record::checksum::crc32c;
use record::geometry::Extent;
use record::position::Position;
use serde_json::{Value, json};

/// Sectors that are followed at most: what is kept for each volume is compared at every position.
const SECTORS_MAX: u64 = 2048;

/// What the sectors of a volume hold at a position.
#[derive(Clone, PartialEq, Eq)]
enum Held {
    /// These bytes.
    Bytes(Vec<u8>),
    /// Refused, and why.
    Refused(String),
    /// The volume is not in the group.
    Absent,
}

pub fn run(args: &Trace, out: Out<'_>) -> Result<Ending, ControlError> {
    let reader = open::reader(&args.journal)?;
    open::attach(&reader, &args.replicas, &args.volume)?;
    if let Some(name) = args.volume.iter().find(|name| reader.members().iter().all(|member| member.name != **name)) {
        return Err(open::no_volume(&reader, name));
    }
    let extent = Extent::new(args.sectors.sector, args.sectors.sectors)
        .filter(|extent| extent.count().get() <= SECTORS_MAX)
        .ok_or_else(|| ControlError::usage(format!("1 to {SECTORS_MAX} sectors can be followed")))?;
    let window = reader.timeline().window.ok_or_else(|| point_error(&PointError::NoVolume))?;
    let from = args.from.unwrap_or(window.oldest.position.get());
    let to = args.to.unwrap_or(window.newest.position.get()).min(window.newest.position.get());
    let mut progress = Progress::new("trace");
    let mut before = None;
    let mut ending = Ending::Well;
    for position in from..=to {
        progress.tell(position - from, to - from);
        let held = match reader.image(Position::new(position)) {
            Ok(image) => Ok(args.volume.iter().map(|name| held(&reader, &image, name, extent)).collect::<Vec<_>>()),
            Err(error) => Err(error.to_string()),
        };
        if held.iter().flatten().any(|held| matches!(held, Held::Refused(_))) {
            ending = Ending::Refused;
        }
        if args.every || before.as_ref() != Some(&held) {
            if args.json {
                line(out, as_json(position, &held, &args.volume))?;
            } else {
                line(out, as_text(position, &held, &args.volume))?;
            }
            before = Some(held);
        }
    }
    Ok(ending)
}

fn held(reader: &Reader, image: &Image, name: &str, extent: Extent) -> Held {
    match open::volume(reader, image, name) {
        Ok(member) if extent.fits(member.size) => match sectors(image, member, extent) {
            (bytes, None) => Held::Bytes(bytes),
            (_, Some(failure)) => Held::Refused(failure.cause.to_string()),
        },
        Ok(member) => Held::Refused(format!("the volume has {} sectors", member.size)),
        Err(_) => Held::Absent,
    }
}

/// The first eight bytes as a number: what a counter in them says.
fn counter(bytes: &[u8]) -> u64 {
    bytes.first_chunk().map_or(0, |first| u64::from_le_bytes(*first))
}

fn as_text(position: u64, held: &Result<Vec<Held>, String>, volumes: &[String]) -> String {
    let shown = match held {
        Ok(held) => volumes.iter().zip(held).map(|(name, held)| match held {
            Held::Bytes(bytes) => format!("{name}={} crc32c:{:08x}", counter(bytes), crc32c(bytes)),
            Held::Refused(why) => format!("{name} refused: {why}"),
            Held::Absent => format!("{name} absent"),
        }),
        Err(why) => return format!("seq:{position}\tno point: {why}"),
    };
    format!("seq:{position}\t{}", shown.collect::<Vec<_>>().join("\t"))
}

fn as_json(position: u64, held: &Result<Vec<Held>, String>, volumes: &[String]) -> Value {
    match held {
        Ok(held) => {
            let volumes = volumes.iter().zip(held).map(|(name, held)| {
                let value = match held {
                    Held::Bytes(bytes) => json!({ "first": counter(bytes), "crc32c": crc32c(bytes) }),
                    Held::Refused(why) => json!({ "refused": why }),
                    Held::Absent => Value::Null,
                };
                (name.clone(), value)
            });
            json!({ "position": position, "volumes": volumes.collect::<serde_json::Map<_, _>>() })
        }
        Err(why) => json!({ "position": position, "no_point": why }),
    }
}
