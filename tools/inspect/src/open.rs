//! Opening a journal: the reader, its volumes by name, their replicas.

use crate::args::{Journal, Replicas, Sectors};
use crate::out;
use control::error::{ControlError, Kind};
use control::point::PointSpec;
use journal::{Image, Member, Reader};
use record::geometry::Extent;
use record::point::Point;
use record::position::Position;
use std::path::Path;

/// Opens a journal for reading.
pub fn reader(journal: &Journal) -> Result<Reader, ControlError> {
    let (reader, report) = Reader::open(&journal.directory).map_err(|error| out::journal_error(&error))?;
    for alarm in &report.alarms {
        eprintln!("inspect: {alarm}");
    }
    Ok(reader)
}

/// Attaches the replicas that were named. `volumes` are those that will be read.
pub fn attach(reader: &Reader, replicas: &Replicas, volumes: &[String]) -> Result<(), ControlError> {
    for spelled in &replicas.replica {
        let (volume, path) = match spelled.split_once('=').filter(|(name, _)| volumes.iter().any(|v| v == name)) {
            Some((name, path)) => (name, path),
            None => match volumes {
                [only] => (only.as_str(), spelled.as_str()),
                [] | [..] => {
                    return Err(ControlError::usage(format!("--replica {spelled}: of which volume?"))
                        .hint("write --replica VOLUME=PATH with a volume that is read"));
                }
            },
        };
        // A volume that left and joined again has one replica for each membership; the file is of the newest.
        let members = reader.members();
        let member =
            members.iter().rev().find(|member| member.name == volume).ok_or_else(|| no_volume(reader, volume))?;
        reader.attach_base(member.incarnation, Path::new(path)).map_err(|error| out::journal_error(&error))?;
    }
    Ok(())
}

/// The image at a point.
pub fn image(reader: &Reader, point: &PointSpec) -> Result<Image, ControlError> {
    let point = Point::from(point.clone());
    // One volume is read, and each volume has one splitter and so one order: any position will do.
    let position = reader.resolve(&point, true).map_err(|error| out::point_error(&error))?;
    image_at(reader, position)
}

/// The image at a position.
pub fn image_at(reader: &Reader, position: Position) -> Result<Image, ControlError> {
    reader.image(position).map_err(|error| out::point_error(&error))
}

/// A volume of an image, by name.
pub fn volume<'a>(reader: &Reader, image: &'a Image, name: &str) -> Result<&'a Member, ControlError> {
    image.members().iter().find(|member| member.name == name).ok_or_else(|| {
        if reader.members().iter().any(|member| member.name == name) {
            ControlError::new(
                Kind::NotFound,
                format!("volume '{name}' was not in group '{}' at {}", reader.group_name(), image.at()),
            )
        } else {
            no_volume(reader, name)
        }
    })
}

/// Nobody of that name was ever in the group.
pub fn no_volume(reader: &Reader, name: &str) -> ControlError {
    let mut names: Vec<String> = reader.members().into_iter().map(|member| member.name).collect();
    names.dedup();
    let error = ControlError::not_found(format!("group '{}' never had a volume '{name}'", reader.group_name()));
    if names.is_empty() { error } else { error.hint(format!("its volumes: {}", names.join(", "))) }
}

/// The sectors that were asked for, if the volume has them.
pub fn extent(sectors: &Sectors, member: &Member) -> Result<Extent, ControlError> {
    let extent = Extent::new(sectors.sector, sectors.sectors)
        .ok_or_else(|| ControlError::usage("no sectors, or sectors past the last that there can be"))?;
    if extent.fits(member.size) {
        Ok(extent)
    } else {
        Err(ControlError::usage(format!("{extent}: volume '{}' has {} sectors", member.name, member.size)))
    }
}
