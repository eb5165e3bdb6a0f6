//! Comparing a volume with its newest image, as an operator asks for it.
//!
//! Owns the thread that compares, and the words: the answer, the progress, the event. How it is done is in
//! `work::verify`.

use crate::create::no_volume;
use crate::lock::lock;
use crate::ring_io::{Blocking, block_on};
use crate::serve::Splitter;
use crate::work::verify::{self, Found, VerifyError};
use control::answer::{Answer, Progress, SectorRun, UnreadableRun, VolumeVerified};
use control::error::ControlError;
use control::events::{EventKind, News};
use control::server::ProgressSink;
use control::size::Size;
use record::geometry::Extent;
use std::sync::Arc;

/// Compares on a thread of its own: it holds extents that hosts wait for, so it must not wait for their volumes when the
/// kernel is short of memory.
pub(crate) fn compare(
    splitter: &Arc<Splitter>,
    name: &str,
    repair: bool,
    progress: &ProgressSink,
) -> Result<Answer, ControlError> {
    let serving = lock(&splitter.table).volumes.get(name).map(|s| (s.volume.clone(), s.row.group.clone()));
    let (volume, group) = serving.ok_or_else(|| no_volume(name))?;
    let doing = format!("compare volume {name} with its newest image");
    let volume = volume.ok_or_else(|| {
        ControlError::refused(format!("cannot {doing}: it is not served")).hint(format!("undisk volume status {name}"))
    })?;
    let group =
        lock(&splitter.table).groups.values().find(|r| r.group.id.to_string() == group).map(|r| Arc::clone(&r.group));
    let group = group.ok_or_else(|| ControlError::failed(format!("cannot {doing}: its group is being stopped")))?;
    let (sink, total) = (progress.clone(), volume.backing.size().bytes());
    let comparing = std::thread::Builder::new().name(format!("verify {name}")).spawn({
        let (group, volume) = (Arc::clone(&group), Arc::clone(&volume));
        move || {
            if let Err(error) = ublk_device::process::io_flusher() {
                tracing::warn!(%error, "cannot mark a thread that reads a backing as I/O flusher");
            }
            let tell = |done| sink.report(Progress { what: "comparing".to_owned(), done, total });
            block_on(verify::verify(&group, &Blocking, &volume, repair, tell))
        }
    });
    let compared = comparing
        .map_err(|e| ControlError::failed(format!("cannot {doing}: cannot start a thread for it: {e}")))?
        .join()
        .map_err(|_| ControlError::failed(format!("cannot {doing}: the splitter failed at it; see its log")))?;
    let news = |text: String| News::new(EventKind::Verified, text).group(&group.name).volume(name);
    match compared {
        Ok(found) => {
            let verified = told(name, &group.name, &found);
            splitter.events.tell(news(sentence(&verified)).bytes(verified.differing_bytes));
            Ok(Answer::VolumeVerified(verified))
        }
        Err(VerifyError::Refused(why)) => Err(ControlError::refused(format!("cannot {doing}: {why}"))
            .hint("it needs a group whose every write is recorded: undisk group status tells")),
        Err(error @ (VerifyError::BrokeOff { .. } | VerifyError::TooMuch)) => {
            splitter.events.tell(news(format!("the comparison did not come to its end: {error}")));
            Err(ControlError::failed(format!("cannot {doing}: {error}"))
                .hint(format!("undisk group resync {} --full reads everything again", group.name)))
        }
    }
}

fn told(volume: &str, group: &str, found: &Found) -> VolumeVerified {
    let run = |extent: &Extent| SectorRun { sector: extent.start().index(), sectors: extent.count().get() };
    let unreadable = |(extent, reason): &(Extent, String)| UnreadableRun {
        sector: extent.start().index(),
        sectors: extent.count().get(),
        reason: reason.clone(),
    };
    VolumeVerified {
        volume: volume.to_owned(),
        group: group.to_owned(),
        bytes: found.bytes,
        differing: found.differing.iter().map(run).collect(),
        differing_bytes: found.differing.iter().map(|extent| extent.bytes()).sum(),
        unreadable: found.unreadable.iter().map(unreadable).collect(),
        repaired: found.repaired,
    }
}

fn sentence(verified: &VolumeVerified) -> String {
    let VolumeVerified { bytes, differing, differing_bytes, unreadable, repaired, .. } = verified;
    if differing.is_empty() && unreadable.is_empty() {
        return format!("volume and newest image are the same: {}", Size(*bytes));
    }
    let repaired = if *repaired { ", recorded again" } else { "" };
    format!(
        "volume and newest image differ in {} places, {}{repaired}; {} places of the image cannot be read",
        differing.len(),
        Size(*differing_bytes),
        unreadable.len()
    )
}
