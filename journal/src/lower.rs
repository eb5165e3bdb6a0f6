//! What volumes held at the position that the replicas stand for in an image: the replica, or what was captured of it.
//!
//! Owns the reading of it. A replica may be further than that (`journal/following`); what it held before is in the UNDO
//! stream then, and whatever is not there it still holds.

use crate::reader::Core;
use crate::undo::Captured;
use record::geometry::{Extent, SECTOR_BYTES};
use record::ids::Incarnation;
use std::io;

impl Core {
    /// Reads an extent, whose length in bytes the buffer has.
    pub(crate) fn read_base(&self, volume: Incarnation, extent: Extent, buffer: &mut [u8]) -> Result<(), String> {
        let base = self.base(volume).ok_or("none is attached")?;
        let look = |kinds: &crate::undo::Kinds| {
            for (run, kind) in kinds {
                let from = usize::try_from((run.start().index() - extent.start().index()) * SECTOR_BYTES);
                let (from, len) =
                    (from.map_err(io::Error::other)?, usize::try_from(run.bytes()).map_err(io::Error::other)?);
                let part = &mut buffer[from..from + len];
                match kind {
                    None => base.read(*run, part)?,
                    Some(Captured::Data) => self.undo.read(volume, *run, part)?,
                    Some(Captured::Zero | Captured::Hole) => part.fill(0),
                }
            }
            Ok(())
        };
        self.undo.steadily(volume, extent, look).map_err(|error| error.to_string())
    }

    /// What an extent is: runs in address order that cover it. Where nobody knows of holes, it is data.
    pub(crate) fn lower_kinds(&self, volume: Incarnation, extent: Extent) -> Result<Vec<(Extent, Captured)>, String> {
        let base = self.base(volume).ok_or("none is attached")?;
        let look = |kinds: &crate::undo::Kinds| {
            let mut out = Vec::new();
            for (run, kind) in kinds {
                if let Some(kind) = kind {
                    out.push((*run, *kind));
                    continue;
                }
                let mut at = run.start().index();
                for hole in base.holes(*run) {
                    out.extend(Extent::between(at, hole.start().index()).map(|data| (data, Captured::Data)));
                    out.push((hole, Captured::Hole));
                    at = hole.end();
                }
                out.extend(Extent::between(at, run.end()).map(|data| (data, Captured::Data)));
            }
            Ok(out)
        };
        self.undo.steadily(volume, extent, look).map_err(|error| error.to_string())
    }
}
