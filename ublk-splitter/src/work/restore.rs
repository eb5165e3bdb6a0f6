//! Rollback's side on the production volumes: holding hosts, and bringing back what a committed rollback owes.
//!
//! Owns the order of what becomes durable before what is said. Deliberately decides nothing about a rollback: the
//! appliance does.

use super::{Hands, Stopped, volume_of, wait, wait_at_most};
use crate::backing::AlignedBuffer;
use crate::group::Group;
use crate::outbox::Mode;
use crate::stream::{Entry, Hold};
use crate::volume::Volume;
use record::conversation::{Content, Piece, ToAppliance, VolumeExtent};
use record::geometry::Extent;
use record::member::BookmarkNote;
use record::op::Op;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a drain or a quiesce before a rollback may take.
const PREPARE_LIMIT: Duration = Duration::from_secs(60);
/// Restored content between two flushes, at most, in bytes.
const RESTORE_BATCH_BYTES: u64 = 64 << 20;

/// Lets hosts wait, lays the bookmark, drains and flushes, and tells the appliance. Without a bookmark hosts wait already,
/// behind a barrier that is one. What is true from the answer on is
/// stored first: a splitter that is killed now comes back with its hosts held, until the appliance says how it ended.
pub(super) async fn prepare(
    group: &Group,
    hands: &impl Hands,
    id: u64,
    bookmark: Option<BookmarkNote>,
) -> Result<(), Stopped> {
    let link = group.link_count();
    let refuse = |reason: String| {
        group.release_hold();
        group.send(link, &ToAppliance::RollbackRefused { id, reason });
        Ok(())
    };
    if group.stream.mode().0 != Mode::Active {
        return refuse("writes are not being recorded; resynchronise the group first".into());
    }
    if group.volumes().iter().any(|v| !v.sync.joined.load(Ordering::Acquire)) {
        return refuse("a volume is being synchronised for the first time; wait for it".into());
    }
    group.stream.set_hold(Some(Hold::Preparing));
    if !wait_at_most(group, hands, PREPARE_LIMIT, || group.stream.is_idle()).await {
        return refuse("requests in flight did not end within a minute".into());
    }
    for volume in group.volumes() {
        if let Err(error) = volume.backing.flush(hands).await {
            return refuse(format!("flushing the backing of volume {} failed: {error}", volume.name));
        }
    }
    if let Some(note) = bookmark
        && group.stream.lay(Entry::of_group(Op::Bookmark), &note.encode()).is_none()
    {
        return refuse("the outbox is full".into());
    }
    let next = group.stream.marks().laid;
    group.stream.hurry();
    let durable = || group.stream.marks().durable >= next || group.stream.mode().0 == Mode::Marking;
    if !wait_at_most(group, hands, PREPARE_LIMIT, durable).await || group.stream.marks().durable < next {
        return refuse("the journal did not catch up within a minute".into());
    }
    if let Err(error) = group.store_rollback(Some(id)) {
        return refuse(format!("the splitter cannot store that a rollback is under way: {error}"));
    }
    group.stream.set_hold(Some(Hold::Restoring));
    if !group.send(link, &ToAppliance::RollbackReady { id }) {
        // The appliance commits only after this very message: it cannot have.
        tracing::warn!(group = group.name, "the link was cut while a rollback was being prepared; hosts go on");
        if let Err(error) = group.store_rollback(None) {
            tracing::error!(group = group.name, %error, "cannot store that no rollback is under way");
        }
        group.release_hold();
    }
    Ok(())
}

/// Brings the extents that a committed rollback owes into the backings: unjournaled, durable, then told (ENGINE 19).
pub(super) async fn restore(
    group: &Group,
    hands: &impl Hands,
    id: u64,
    extents: &[VolumeExtent],
) -> Result<(), Stopped> {
    let link = group.link_count();
    let broken = || (group.link_count() != link).then_some("the link was cut; the next one brings what is still owed");
    if group.rollback() != Some(id) {
        return Err(Stopped::Pointless("that rollback is over"));
    }
    if extents.is_empty() {
        // Only the appliance's word that nothing is owed lets hosts go on: a successor of it that still owed something
        // would restore over what they write from now on.
        group.store_rollback(None).map_err(io::Error::other)?;
        group.release_hold();
        tracing::info!(group = group.name, id, "the rollback is in the volumes; hosts go on");
        return Ok(());
    }
    let started = group.stream.now();
    let (mut batch, mut batch_bytes, mut restored) = (Vec::new(), 0, 0);
    for owed in extents {
        let volume = volume_of(group, owed.volume)?;
        let limit = record::conversation::RESTORE_BYTES_MAX / 512;
        // A hole of any length travels as one piece, so the appliance is asked for more than one frame could hold as
        // data; it answers with what fits.
        let mut at = owed.extent.start().index();
        while let Some(rest) = Extent::between(at, owed.extent.end()) {
            let ask = rest.pieces(limit).next().unwrap_or(rest);
            group.ask_content(link, owed.volume, ask);
            let mut answer = None;
            wait(
                group,
                hands,
                || {
                    answer = group.take_content(owed.volume, ask);
                    answer.is_some()
                },
                broken,
            )
            .await?;
            let pieces = match answer {
                Some(Ok(pieces)) => pieces,
                Some(Err(trouble)) => {
                    return Err(Stopped::Backing(io::Error::other(format!(
                        "the appliance cannot give {} of volume {}: {trouble}",
                        ask, volume.name
                    ))));
                }
                None => return Err(Stopped::Pointless("no answer")),
            };
            for piece in &pieces {
                apply(&volume, hands, piece).await?;
            }
            // The answer covers what was asked, or a front part of it.
            let done = pieces.last().and_then(|p| Extent::between(at, p.extent.end().min(ask.end())));
            let Some(done) = done else {
                return Err(Stopped::Backing(io::Error::other("the appliance answered with nothing")));
            };
            batch.push(VolumeExtent { volume: owed.volume, extent: done });
            batch_bytes += done.bytes();
            restored += done.bytes();
            at = done.end();
            if batch_bytes >= RESTORE_BATCH_BYTES || batch.len() >= 4096 {
                settle(group, hands, link, id, &mut batch).await?;
                batch_bytes = 0;
            }
        }
    }
    settle(group, hands, link, id, &mut batch).await?;
    let ms = u64::try_from(group.stream.now().since(started).as_millis()).unwrap_or(u64::MAX);
    tracing::info!(group = group.name, id, bytes = restored, ms, "what the rollback owed is in the volumes");
    Ok(())
}

async fn apply(volume: &Volume, hands: &impl Hands, piece: &Piece) -> io::Result<()> {
    match &piece.content {
        Content::Data { bytes } => {
            let mut buffer = AlignedBuffer::new(bytes.0.len());
            buffer.bytes_mut().copy_from_slice(&bytes.0);
            volume.backing.write(hands, piece.extent, buffer.bytes(), false).await
        }
        Content::Zero {} => volume.backing.zero(hands, piece.extent).await,
        Content::Hole {} => volume.backing.punch(hands, piece.extent).await,
    }
}

/// Flushes what was restored, then tells the appliance that it is owed no more.
async fn settle(
    group: &Group,
    hands: &impl Hands,
    link: u64,
    id: u64,
    batch: &mut Vec<VolumeExtent>,
) -> Result<(), Stopped> {
    if batch.is_empty() {
        return Ok(());
    }
    for volume in group.volumes() {
        volume.backing.flush(hands).await?;
    }
    group.send(link, &ToAppliance::RestoreDone { id, extents: std::mem::take(batch) });
    Ok(())
}
