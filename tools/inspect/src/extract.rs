//! `inspect extract`: a volume as it was, in a sparse file.

use crate::args::Extract;
use crate::out::{Out, Progress, line};
use crate::read::{STRIDE, complain, sectors};
use crate::{Ending, open};
use control::error::ControlError;
use journal::{Image, Member, PieceKind};
use record::geometry::{BLOCK_BYTES, Extent};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

/// Sectors whose pieces are looked up at once: 64 MiB.
const WINDOW: u64 = 64 * STRIDE;

pub fn run(args: &Extract, out: Out<'_>) -> Result<Ending, ControlError> {
    let reader = open::reader(&args.journal)?;
    open::attach(&reader, &args.replicas, std::slice::from_ref(&args.volume))?;
    let image = open::image(&reader, &args.point)?;
    let member = open::volume(&reader, &image, &args.volume)?;
    let path = args.output.display();
    let file = match File::options().write(true).create_new(true).open(&args.output) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            return Err(ControlError::failed(format!("{path} exists already; nothing was changed"))
                .hint("name a file that does not exist"));
        }
        Err(error) => return Err(ControlError::failed(format!("make {path}: {error}"))),
    };
    match copy(&image, member, &file) {
        Ok(Copied { written, refused: 0 }) => {
            line(out, format_args!("{path}: volume '{}' at {}, {written} bytes of data", member.name, image.at()))?;
            Ok(Ending::Well)
        }
        Ok(Copied { written, refused }) => {
            line(
                out,
                format_args!(
                    "{path}: volume '{}' at {}, {written} bytes of data; {refused} sectors are refused and read zero \
                     in it",
                    member.name,
                    image.at()
                ),
            )?;
            Ok(Ending::Refused)
        }
        Err(error) => {
            // Half an image is worse than none.
            let left = if std::fs::remove_file(&args.output).is_ok() { "it was removed" } else { "it is incomplete" };
            Err(ControlError::failed(format!("write {path}: {error}; {left}")))
        }
    }
}

struct Copied {
    /// Bytes that are not holes.
    written: u64,
    /// Sectors.
    refused: u64,
}

fn copy(image: &Image, member: &Member, file: &File) -> io::Result<Copied> {
    file.set_len(member.size.bytes())?;
    let mut copied = Copied { written: 0, refused: 0 };
    let mut progress = Progress::new("extract");
    for window in Extent::whole(member.size).into_iter().flat_map(|all| all.pieces(WINDOW)) {
        progress.tell(window.start().index(), member.size.get());
        let pieces = match image.pieces(member.incarnation, window) {
            Ok(pieces) => pieces,
            Err(failure) => return Err(io::Error::other(failure.to_string())),
        };
        for piece in pieces {
            match piece.kind {
                PieceKind::Zero | PieceKind::Hole => {}
                PieceKind::Data | PieceKind::Joined | PieceKind::Refused => {
                    for extent in piece.extent.pieces(STRIDE) {
                        copy_extent(image, member, file, extent, &mut copied)?;
                    }
                }
            }
        }
    }
    file.sync_all()?;
    Ok(copied)
}

fn copy_extent(image: &Image, member: &Member, file: &File, extent: Extent, copied: &mut Copied) -> io::Result<()> {
    let (bytes, failure) = sectors(image, member, extent);
    if let Some(failure) = failure {
        complain(member, &failure);
        copied.refused += failure.damaged.iter().map(|e| e.count().get()).sum::<u64>();
    }
    for (block, at) in bytes.chunks(BLOCK_BYTES).zip((extent.start().byte_offset()..).step_by(BLOCK_BYTES)) {
        if block.iter().any(|b| *b != 0) {
            file.write_all_at(block, at)?;
            copied.written += block.len() as u64;
        }
    }
    Ok(())
}
