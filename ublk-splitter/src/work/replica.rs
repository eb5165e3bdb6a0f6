//! Initial synchronisation: the whole content of a volume goes into its replica while hosts write.
//!
//! Owns what is read, in which order, and how far ahead of the appliance. What hosts write meanwhile has records, and
//! records win over the replica in every image. Deliberately lays no record itself.

use super::resync::wait_for_redelivery;
use super::{Hands, Stopped, volume_of, wait};
use crate::backing::{AlignedBuffer, Nature, PIECE_BYTES};
use crate::group::Group;
use crate::outbox::Mode;
use crate::volume::Volume;
use record::conversation::ToAppliance;
use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::Incarnation;
use record::zeros::is_zero;
use std::io;
use std::sync::atomic::Ordering;

/// Content on its way to the replica and not yet acknowledged, at most, in bytes.
const SYNC_AHEAD_BYTES: u64 = 4 << 20;

/// Sends the content of a volume into the replica while hosts write: what they write has records, and records win over
/// the replica in every image.
pub(super) async fn synchronise(group: &Group, hands: &impl Hands, incarnation: Incarnation) -> Result<(), Stopped> {
    let volume = volume_of(group, incarnation)?;
    if volume.sync.joined.load(Ordering::Acquire) {
        return Ok(());
    }
    wait_for_redelivery(group, hands).await?;
    let link = group.link_count();
    let broken = || (group.link_count() != link).then_some("the link was cut; it starts again");
    let total = volume.backing.data_bytes()?;
    volume.sync.done.store(0, Ordering::Relaxed);
    volume.sync.total.store(total, Ordering::Relaxed);
    group.reset_sync_acks(incarnation);
    group.send(link, &ToAppliance::SyncBegin { volume: incarnation });
    let keeps_zeros = volume.backing.nature() == Nature::File && !group.stream.reclaims_zeros();
    let mut buffer = AlignedBuffer::new(PIECE_BYTES);
    let (mut at, mut sent) = (0, 0);
    while let Some(extent) = volume.backing.data_from(at)? {
        for piece in extent.pieces((PIECE_BYTES / 512) as u64) {
            let bytes = read_locked(&volume, hands, piece, &mut buffer).await?;
            // The replica is a hole since SyncBegin, so zeros need not travel; but where a file has space for them the replica
            // gets space, too, unless zeros are to be reclaimed. What a device has space for nobody knows.
            let zeros = is_zero(bytes);
            if !zeros || keeps_zeros {
                let message = if zeros {
                    ToAppliance::SyncZero { volume: incarnation, extent: piece }
                } else {
                    let content = record::conversation::Bytes(bytes.to_vec());
                    ToAppliance::SyncData { volume: incarnation, extent: piece, content }
                };
                group.send(link, &message);
                sent += piece.bytes();
                wait(group, hands, || group.sync_acked(incarnation) + SYNC_AHEAD_BYTES >= sent, broken).await?;
            }
            volume.sync.done.fetch_add(piece.bytes(), Ordering::Relaxed);
        }
        at = extent.end();
    }
    // What was read may hold the effect of any record laid so far: all of them must lie in front of JOINED, or the first
    // points would show a later write without an earlier one. What was written without a record must not be in at all.
    let recorded = || match group.stream.mode().0 {
        Mode::Active | Mode::Resyncing => broken(),
        Mode::Waiting | Mode::Marking => Some("writes are not being recorded; it starts again when they are"),
    };
    let laid = group.stream.marks().laid;
    wait(group, hands, || group.stream.marks().durable >= laid || bug(Bug::JoinTooEarly), recorded).await?;
    if let Some(why) = recorded() {
        return Err(Stopped::Pointless(why));
    }
    group.send(link, &ToAppliance::SyncEnd { volume: incarnation });
    wait(group, hands, || volume.sync.joined.load(Ordering::Acquire), broken).await?;
    tracing::info!(group = group.name, volume = volume.name, bytes = sent, "initial synchronisation is complete");
    Ok(())
}

async fn read_locked<'a>(
    volume: &Volume,
    hands: &impl Hands,
    extent: Extent,
    buffer: &'a mut AlignedBuffer,
) -> Result<&'a [u8], Stopped> {
    let bytes = usize::try_from(extent.bytes()).map_err(io::Error::other)?;
    let mut taken = volume.stream.take_reading(volume.incarnation, extent);
    taken.turn().await;
    let read = volume.backing.read(hands, extent, &mut buffer.bytes_mut()[..bytes]).await;
    volume.stream.finish(taken);
    read?;
    Ok(&buffer.bytes()[..bytes])
}
