//! Showing what the backing holds, for a journal that has lost it.
//!
//! Owns the read and the answer. No lock is taken: whether it is what was lost is told by its checksum, and what a host is just
//! writing is not.

use super::{Hands, Stopped, volume_of};
use crate::backing::AlignedBuffer;
use crate::group::Group;
use record::conversation::{Bytes, ToAppliance};
use record::geometry::Extent;
use record::ids::Incarnation;
use std::io;

/// Reads and answers; once only, whatever comes of it: the appliance asks again.
pub(super) async fn show(
    group: &Group,
    hands: &impl Hands,
    volume: Incarnation,
    extent: Extent,
) -> Result<(), Stopped> {
    let link = group.link_count();
    let served = volume_of(group, volume)?;
    if !extent.fits(served.backing.size()) {
        return Err(Stopped::Pointless("the extent is past the end of the volume"));
    }
    let bytes = usize::try_from(extent.bytes()).map_err(io::Error::other)?;
    let mut buffer = AlignedBuffer::new(bytes);
    let read = served.backing.read(hands, extent, &mut buffer.bytes_mut()[..bytes]).await;
    let (content, trouble) = match read {
        Ok(()) => (buffer.bytes()[..bytes].to_vec(), String::new()),
        Err(error) => (Vec::new(), error.to_string()),
    };
    // A link that broke is noticed by whoever asked.
    group.send(link, &ToAppliance::HealData { volume, extent, content: Bytes(content), trouble });
    Ok(())
}
