//! Reading again what the journal lacks: after records were lost, and after a write of the backing failed.
//!
//! Reads of a backing hold the range lock, and a record of what was read gets its number while the lock is held
//! (PROTOCOL R19), so nothing that is read can overwrite a newer write.

use super::{Hands, Stopped, clean, volume_of, wait};
use crate::backing::{AlignedBuffer, PIECE_BYTES};
use crate::bell::Rings;
use crate::group::Group;
use crate::outbox::Mode;
use crate::regions::REGION_SECTORS;
use crate::stream::{Entry, Hold};
use crate::volume::Volume;
use control::events::{EventKind, News};
use control::size::Size;
use record::fault::{Bug, bug};
use record::geometry::Extent;
use record::ids::Incarnation;
use record::op::{Op, OpFlags};
use record::position::Session;
use record::zeros::is_zero;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Regions that are read between two looks at what has become clean, at most: 16 MiB.
const RUN_REGIONS: u64 = 64;
/// How long after the devices are up the kernel may take to bring requests again. It brings them at once.
const REDELIVERY: Duration = Duration::from_secs(30);

/// What was read could not be recorded: whatever ended the session reads it again.
const NOT_LAID: &str = "records were lost meanwhile, or another session began";

/// Reads every dirty region and records what is there, between RESYNC_BEGIN (laid already) and RESYNC_END.
pub(super) async fn resynchronise(group: &Group, hands: &impl Hands) -> Result<(), Stopped> {
    // Tied to its session: what is read for one proves nothing in another.
    let Some(session) = group.stream.session() else { return Err(Stopped::Pointless("there is no session")) };
    wait_for_redelivery(group, hands).await?;
    let lost = || {
        let goes_on = group.stream.mode().0 == Mode::Resyncing && group.stream.session() == Some(session);
        (!goes_on).then_some("records were lost again, or another session began")
    };
    for volume in group.volumes() {
        let regions = || volume.map.regions();
        volume.sync.done.store(0, Ordering::Relaxed);
        volume.sync.total.store(regions().unread(session).unwrap_or(0) * REGION_SECTORS * 512, Ordering::Relaxed);
        let mut next = regions().next_unread(session, 0, RUN_REGIONS);
        while let Some(run) = next {
            if group.stream.hold().is_some() {
                // What is read now would be laid behind a rollback and undo a part of it.
                return Err(Stopped::Held);
            }
            let in_volume = Extent::between(run.start().index(), run.end().min(volume.backing.size().get()));
            if let Some(extent) = in_volume {
                record_extent(group, hands, &volume, extent, session, lost).await?;
                group.resynced.fetch_add(extent.bytes(), Ordering::Relaxed);
                volume.sync.done.fetch_add(extent.bytes(), Ordering::Relaxed);
            }
            regions().resynced(session, run);
            // What has been read becomes clean on the way: an interruption does not lose it.
            clean::tidy(group, hands).await;
            next = regions()
                .next_unread(session, run.end() / REGION_SECTORS, RUN_REGIONS)
                .filter(|_| !bug(Bug::ResyncEndsEarly));
        }
    }
    if let Some(absent) = group.absent() {
        // What it lacks cannot be read, and the end of a resynchronisation speaks for all volumes.
        group.stream.mark(&format!("volume {absent} is not served, so the resynchronisation could not read it"));
        return Err(Stopped::Pointless("a volume is not served"));
    }
    // A volume whose list is of another session, or not empty, has something that nobody read for this one.
    let whole = group.volumes().iter().all(|volume| volume.map.regions().unread(session) == Some(0));
    if !whole || !group.stream.end_resync(session) {
        return Err(Stopped::Pointless("records were lost again, or another session began"));
    }
    group.looked_at();
    let bytes = group.resynced.load(Ordering::Relaxed);
    tracing::info!(group = group.name, bytes, "the resynchronisation is complete; every write is a point again");
    let text = format!("the resynchronisation is complete: {} were read", Size(bytes));
    group.stream.events().tell(News::new(EventKind::ResyncEnded, text).group(&group.name).bytes(bytes));
    Ok(())
}

/// Makes every region of every volume dirty, durably; the next session reads them all.
pub(super) async fn everything(group: &Group, hands: &impl Hands) -> Result<(), Stopped> {
    for volume in group.volumes() {
        volume.map.forget(hands).await?;
    }
    group.forgetting.store(false, Ordering::Release);
    // Asked for by an operator it begins whatever else; else like any other, when it may.
    if group.full_wanted.load(Ordering::Acquire) {
        group.resync_wanted.store(true, Ordering::Release);
    }
    group.stream.bell.ring(Rings { other: true, ..Rings::default() });
    Ok(())
}

/// Records an extent: what is a hole as one, the rest as what it holds.
async fn record_extent(
    group: &Group,
    hands: &impl Hands,
    volume: &Volume,
    extent: Extent,
    session: Session,
    lost: impl Fn() -> Option<&'static str> + Copy,
) -> Result<(), Stopped> {
    let mut at = extent.start().index();
    while at < extent.end() {
        let data = volume.backing.data_between(at, extent.end())?;
        let hole_end = data.map_or(extent.end(), |d| d.start().index());
        if let Some(hole) = Extent::between(at, hole_end) {
            record_hole(group, hands, volume, hole, session, lost).await?;
        }
        for piece in data.into_iter().flat_map(|d| d.pieces((PIECE_BYTES / 512) as u64)) {
            record_content(group, hands, volume, piece, session, lost).await?;
        }
        at = data.map_or(extent.end(), Extent::end);
    }
    Ok(())
}

/// Records a range that was a hole a moment ago: under the lock it is looked at again, piece by piece, since a host may
/// have written into it.
async fn record_hole(
    group: &Group,
    hands: &impl Hands,
    volume: &Volume,
    hole: Extent,
    session: Session,
    lost: impl Fn() -> Option<&'static str> + Copy,
) -> Result<(), Stopped> {
    let mut taken = volume.stream.take_reading(volume.incarnation, hole);
    taken.turn().await;
    let still = volume.backing.data_between(hole.start().index(), hole.end());
    let is_hole = matches!(still, Ok(None));
    let laid = is_hole && {
        let entry = resync_entry(Op::Punch, volume.incarnation, hole);
        volume.stream.lay_in(session, entry, &[]).is_some()
    };
    volume.stream.finish(taken);
    still?;
    if is_hole && !laid {
        return Err(Stopped::Pointless(NOT_LAID));
    }
    if !is_hole {
        for piece in hole.pieces((PIECE_BYTES / 512) as u64) {
            record_content(group, hands, volume, piece, session, lost).await?;
        }
    }
    Ok(())
}

async fn record_content(
    group: &Group,
    hands: &impl Hands,
    volume: &Volume,
    extent: Extent,
    session: Session,
    lost: impl Fn() -> Option<&'static str> + Copy,
) -> Result<(), Stopped> {
    // What reads in the background leaves room for what hosts write.
    wait(group, hands, || !volume.stream.is_crowded(), lost).await?;
    if let Some(why) = lost() {
        return Err(Stopped::Pointless(why));
    }
    lay_content(volume, hands, session, extent).await
}

/// Reads an extent under the lock and lays what it holds, in this session or not at all, while the lock is held.
pub(super) async fn lay_content(
    volume: &Volume,
    hands: &impl Hands,
    session: Session,
    extent: Extent,
) -> Result<(), Stopped> {
    let bytes = usize::try_from(extent.bytes()).map_err(io::Error::other)?;
    let mut buffer = AlignedBuffer::new(bytes);
    let mut taken = volume.stream.take_reading(volume.incarnation, extent);
    taken.turn().await;
    let read = volume.backing.read(hands, extent, buffer.bytes_mut()).await;
    let laid = read.is_ok() && {
        let (op, payload): (_, &[u8]) =
            if is_zero(buffer.bytes()) { (Op::Zero, &[]) } else { (Op::Write, buffer.bytes()) };
        volume.stream.lay_in(session, resync_entry(op, volume.incarnation, extent), payload).is_some()
    };
    volume.stream.finish(taken);
    read?;
    if laid { Ok(()) } else { Err(Stopped::Pointless(NOT_LAID)) }
}

fn resync_entry(op: Op, volume: Incarnation, extent: Extent) -> Entry {
    Entry { op, flags: OpFlags::RESYNC, volume, extent: Some(extent) }
}

/// Reads back what a failed write left unknown, in the same session; the point behind it can be offered again.
pub(super) async fn reread(
    group: &Group,
    hands: &impl Hands,
    incarnation: Incarnation,
    extent: Extent,
) -> Result<(), Stopped> {
    let volume = volume_of(group, incarnation)?;
    wait_for_redelivery(group, hands).await?;
    let pointless = || match group.stream.mode().0 {
        Mode::Active | Mode::Resyncing => None,
        Mode::Waiting | Mode::Marking => Some("writes are not being recorded; a resynchronisation reads everything"),
    };
    for piece in extent.pieces((PIECE_BYTES / 512) as u64) {
        wait(group, hands, || !group.stream.is_crowded() || group.stream.hold().is_some(), pointless).await?;
        if group.stream.hold().is_some() {
            // What is read now would be laid behind the rollback and undo a part of it.
            return Err(Stopped::Held);
        }
        let Some(session) = group.stream.session() else { return Err(Stopped::Pointless("there is no session")) };
        lay_content(&volume, hands, session, piece).await?;
    }
    volume.map.regions().was_read(extent);
    Ok(())
}

/// Waits until the requests that a killed predecessor had in flight have come again: what they left half written must
/// not be read for the last word (PROTOCOL R3). A rollback's restore comes first: no device starts before its content may
/// be read.
pub(super) async fn wait_for_redelivery(group: &Group, hands: &impl Hands) -> Result<(), Stopped> {
    let ready = || {
        settle_inherited(group);
        (group.devices_are_up() && !group.stream.has_inherited()) || group.stream.hold() == Some(Hold::Restoring)
    };
    wait(group, hands, ready, || None).await
}

/// Gives up requests that have not come again although their devices have been up for long enough.
pub(super) fn settle_inherited(group: &Group) {
    if !group.devices_are_up_for(REDELIVERY) || !group.stream.has_inherited() {
        return;
    }
    give_up(group, None);
}

/// Gives up requests of a killed predecessor, of one volume or of all: what they left is read again.
pub fn give_up(group: &Group, volume: Option<Incarnation>) {
    for left in group.stream.give_up_inherited(volume) {
        tracing::warn!(group = group.name, volume = %left.volume, extent = %left.extent, "a request of the splitter before did not come again; its extent is read again");
        if let Some(volume) = group.volume(left.volume) {
            volume.map.regions().need_read(left.extent);
        }
        if !group.jobs.push_reread(left.volume, left.extent) {
            group.stream.mark("too many requests of the splitter before did not come again");
        }
    }
}
