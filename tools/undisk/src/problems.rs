//! What is not as it should be, in one list of lines: the judgement behind `status` and exit status 3.
//!
//! Pure: takes what the daemons say and returns lines. A first synchronisation is no problem, nor is a group whose
//! splitter is not on this host: nothing is known to be lost.

use control::answer::{ApplianceStatus, GroupMode, Health, SplitterStatus, VolumeState};

#[cfg(test)]
mod tests;

/// The problems of a splitter. That it has no link is one only while the appliance answers: else that is the problem.
pub fn of_splitter(status: &SplitterStatus, appliance_answers: bool) -> Vec<String> {
    let mut found = Vec::new();
    for volume in &status.volumes {
        match &volume.state {
            VolumeState::Live => {}
            VolumeState::Restoring => {
                found.push(format!("volume {}: what hosts ask waits: a rollback is being restored", volume.name));
            }
            VolumeState::Starting => {
                found.push(format!("volume {} is not served yet: the splitter is starting", volume.name));
            }
            VolumeState::Down { reason } => {
                found.push(format!("volume {} is not served: {reason}", volume.name));
            }
        }
        found.extend(volume.warnings.iter().map(|warning| format!("volume {}: {warning}", volume.name)));
    }
    for group in &status.groups {
        if appliance_answers && !group.linked {
            found.push(format!(
                "group {}: the splitter has no link to the appliance: nothing reaches the journal (see the logs of both)",
                group.name
            ));
        }
        if group.delaying {
            found.push(format!(
                "group {}: hosts are delayed: the journal is {} behind",
                group.name,
                crate::group::status::lag(&group.lag)
            ));
        }
        if group.stalled {
            found.push(format!(
                "group {}: its hosts wait until the appliance is back, as sync-loss=stall says (undisk group set {} sync-loss=degrade lets them go on)",
                group.name, group.name
            ));
        }
        if group.full {
            found.push(format!(
                "group {}: its hosts wait for room in the journal, as journal-full=block says (undisk journal trim {}, or undisk group set {} journal-full=shrink)",
                group.name, group.name, group.name
            ));
        }
        if group.degraded {
            found.push(format!(
                "group {}: its hosts are answered before the journal has what they write, as sync-loss=degrade says",
                group.name
            ));
        }
        match group.mode {
            GroupMode::Active | GroupMode::Resyncing => {}
            GroupMode::Paused => found.push(format!(
                "group {}: paused: writes are not recorded (undisk group resume {})",
                group.name, group.name
            )),
            GroupMode::Marking => found.push(format!(
                "group {}: writes are not recorded: {}; what they touch is read again once the appliance is linked (if not: undisk group resync {})",
                group.name,
                group.reason.as_deref().unwrap_or("records were lost"),
                group.name
            )),
        }
    }
    found
}

/// The problems of an appliance.
pub fn of_appliance(status: &ApplianceStatus) -> Vec<String> {
    let problem = |group: &control::answer::GroupStatus| match &group.health {
        Health::Protected | Health::Synchronising | Health::Unlinked => None,
        Health::NeedsResync { reason } => Some(format!("group {}: needs a resynchronisation: {reason}", group.name)),
        Health::Trouble { reason } => Some(format!("group {}: in trouble: {reason}", group.name)),
    };
    status.groups.iter().filter_map(problem).collect()
}
