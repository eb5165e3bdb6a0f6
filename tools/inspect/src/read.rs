//! `inspect read`: sectors as they were, raw; and what all readers do with sectors that are refused.

use crate::args::Read;
use crate::out::{Out, failed};
use crate::{Ending, open};
use control::error::ControlError;
use control::point::PointSpec;
use journal::{Image, Member, ReadFailure};
use record::geometry::{Extent, SECTOR_BYTES};

/// Sectors read at once: 1 MiB.
pub const STRIDE: u64 = (1 << 20) / SECTOR_BYTES;

pub fn run(args: &Read, out: Out<'_>) -> Result<Ending, ControlError> {
    let reader = open::reader(&args.journal)?;
    open::attach(&reader, &args.replicas, std::slice::from_ref(&args.volume))?;
    let point = match (args.seq, &args.point) {
        (Some(position), _) => PointSpec::Seq { position },
        (None, Some(point)) => point.clone(),
        (None, None) => return Err(ControlError::usage("at which position? give --seq or --point")),
    };
    let image = open::image(&reader, &point)?;
    let member = open::volume(&reader, &image, &args.volume)?;
    let mut ending = Ending::Well;
    for piece in open::extent(&args.sectors, member)?.pieces(STRIDE) {
        let (bytes, failure) = sectors(&image, member, piece);
        if let Some(failure) = failure {
            complain(member, &failure);
            ending = Ending::Refused;
        }
        out.write_all(&bytes).map_err(|error| failed(&error))?;
    }
    Ok(ending)
}

/// The bytes of a few sectors; those that are refused are zeros, and named.
pub fn sectors(image: &Image, member: &Member, extent: Extent) -> (Vec<u8>, Option<ReadFailure>) {
    let mut bytes = vec![0; usize::try_from(extent.bytes()).unwrap_or(0)];
    let failure = image.read(member.incarnation, extent, &mut bytes).err();
    (bytes, failure)
}

/// Names the sectors that were refused.
pub fn complain(member: &Member, failure: &ReadFailure) {
    for extent in &failure.damaged {
        eprintln!("inspect: volume '{}' {extent} refused: {}", member.name, failure.cause);
    }
}
