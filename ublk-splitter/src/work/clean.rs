//! Clearing: regions that the journal cannot lack any more become clean (PROTOCOL R13, R14).
//!
//! Owns the rounds. In a round a region is cleared when nobody touched it since the round began, everything laid before
//! is committed in the journal, and a flush of the backing that was submitted after has succeeded. A round takes its
//! time, so that a region that is written again and again stays marked and costs nothing; and without anything to clear
//! the backing is not flushed at all.

use super::Hands;
use crate::clock::Now;
use crate::dirty_map::Relied;
use crate::group::Group;
use crate::outbox::Mode;
use crate::regions::Round;
use crate::stream::Hold;
use crate::volume::Volume;
use record::fault::{Bug, bug};
use record::ids::Incarnation;
use record::position::{Session, StreamSeq};
use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// How long a region has to be left alone.
const COLD: Duration = Duration::from_secs(10);
/// The same while a resynchronisation runs: what it has read must not be read again if it is interrupted.
const COLD_RESYNCING: Duration = Duration::from_secs(1);

/// A round of one volume.
#[derive(Clone, Copy, Debug)]
struct Begun {
    round: Round,
    session: Session,
    /// Whatever touched a region that can be cleared was laid below this.
    laid: StreamSeq,
    at: Now,
}

/// The rounds of a group's volumes.
#[derive(Debug, Default)]
pub struct Rounds(BTreeMap<Incarnation, Begun>);

/// Does what is due of every volume's round.
pub(super) async fn tidy(group: &Group, hands: &impl Hands) {
    for volume in group.volumes() {
        tidy_volume(group, hands, &volume).await;
        if let Err(error) = volume.map.trust_again(hands).await {
            tracing::debug!(volume = volume.name, %error, "the dirty map still cannot be written");
        }
    }
}

async fn tidy_volume(group: &Group, hands: &impl Hands, volume: &Volume) {
    let rounds = || group.rounds.lock().unwrap_or_else(PoisonError::into_inner);
    let cold = match group.stream.mode().0 {
        Mode::Active => COLD,
        Mode::Resyncing => COLD_RESYNCING,
        Mode::Waiting | Mode::Marking => {
            rounds().0.remove(&volume.incarnation);
            return;
        }
    };
    let Some(session) = group.stream.session() else { return };
    let may = volume.sync.joined.load(Ordering::Acquire)
        && !group.stream.has_inherited()
        && group.stream.hold() != Some(Hold::Restoring);
    let begun = rounds().0.get(&volume.incarnation).copied().filter(|begun| may && begun.session == session);
    let Some(begun) = begun else {
        rounds().0.remove(&volume.incarnation);
        if may && volume.map.regions().dirty() > 0 {
            begin(group, volume, session);
        }
        return;
    };
    let marks = group.stream.marks();
    if group.stream.now().since(begun.at) < cold || (marks.released < begun.laid && !bug(Bug::ClearBeforeCommitted)) {
        return;
    }
    let worth_it = volume.map.regions().round_is_worth_it(begun.round);
    if worth_it && let Err(error) = clear(group, hands, volume, begun).await {
        tracing::warn!(volume = volume.name, %error, "regions stay marked as dirty for now");
    }
    rounds().0.remove(&volume.incarnation);
}

fn begin(group: &Group, volume: &Volume, session: Session) {
    let round = volume.map.regions().begin_round();
    // After the round began: what touched a region before has a lower number, and what comes later counts as touching.
    let laid = group.stream.marks().laid;
    let begun = Begun { round, session, laid, at: group.stream.now() };
    group.rounds.lock().unwrap_or_else(PoisonError::into_inner).0.insert(volume.incarnation, begun);
}

async fn clear(group: &Group, hands: &impl Hands, volume: &Volume, begun: Begun) -> std::io::Result<()> {
    if !bug(Bug::ClearWithoutFlush) {
        volume.backing.flush(hands).await?;
    }
    let relied = Relied { session: begun.session, next: begun.laid };
    volume.map.rely(hands, relied).await?;
    // Records may have been lost while the flush ran: then nothing is known of what they were about.
    let goes_on = matches!(group.stream.mode().0, Mode::Active | Mode::Resyncing)
        && group.stream.session() == Some(begun.session);
    if goes_on {
        let cleared = volume.map.end_round(begun.round);
        tracing::debug!(volume = volume.name, cleared, "regions are clean");
        volume.map.write_lazily(hands).await?;
    }
    Ok(())
}
