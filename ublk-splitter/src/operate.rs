//! What an operator may ask the splitter, answered on its control socket.
//!
//! Owns the mapping from request to method; the work is in `serve` and `create`, on threads that may block.

use crate::catalog::CatalogError;
use crate::compare;
use crate::group::Group;
use crate::lock::lock;
use crate::serve::Splitter;
use crate::status::policy_status;
use control::answer::{Answer, Outcome};
use control::error::ControlError;
use control::request::SplitterRequest;
use control::server::ProgressSink;
use control::size::Size;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What the process does after an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// It goes on.
    GoOn,
    /// It ends.
    Exit,
}

/// Answers one request; may block.
pub fn answer(
    splitter: &Arc<Splitter>,
    request: SplitterRequest,
    progress: &ProgressSink,
) -> (Result<Answer, ControlError>, After) {
    let answer = match request {
        SplitterRequest::Status => Ok(Answer::Splitter(splitter.status())),
        SplitterRequest::VolumeCreate(ask) => splitter.create_volume(&ask),
        SplitterRequest::VolumeRemove { name, force } => splitter.remove_volume(&name, force),
        SplitterRequest::GroupResync { group, full } => resync(splitter, &group, full),
        SplitterRequest::GroupSet { group, settings, dry_run } => set(splitter, &group, &settings, dry_run),
        SplitterRequest::GroupPause { group } => pause(splitter, &group),
        SplitterRequest::GroupResume { group } => resume(splitter, &group),
        SplitterRequest::VolumeVerify { name, repair } => compare::compare(splitter, &name, repair, progress),
        SplitterRequest::Events(ask) => Ok(Answer::Events(splitter.events.read(ask))),
        SplitterRequest::Stop { force } => return stop(splitter, force),
    };
    (answer, After::GoOn)
}

fn stop(splitter: &Splitter, force: bool) -> (Result<Answer, ControlError>, After) {
    match splitter.stop(force) {
        Ok(stopped) if stopped.left.is_empty() => {
            let message = "the splitter is down; everything it served is in the journal".to_owned();
            (Ok(Answer::Done { outcome: Outcome::Changed, message }), After::Exit)
        }
        Ok(stopped) => {
            let message = format!("the splitter is down, but: {}", stopped.left.join("; "));
            (Err(ControlError::new(control::error::Kind::Degraded, message)), After::Exit)
        }
        Err(error) => (Err(error), After::GoOn),
    }
}

fn done(outcome: Outcome, message: impl Into<String>) -> Answer {
    Answer::Done { outcome, message: message.into() }
}

/// The group of this name on this host.
fn find(splitter: &Splitter, name: &str) -> Result<Arc<Group>, ControlError> {
    let group = lock(&splitter.table).groups.values().find(|r| r.group.name == name).map(|r| Arc::clone(&r.group));
    group.ok_or_else(|| {
        ControlError::not_found(format!("there is no group {name} with volumes on this host")).hint("undisk group list")
    })
}

fn not_stored(doing: &str, error: &CatalogError) -> ControlError {
    ControlError::failed(format!("cannot {doing}: {error}; nothing was changed"))
}

fn set(splitter: &Splitter, name: &str, settings: &[String], dry_run: bool) -> Result<Answer, ControlError> {
    let group = find(splitter, name)?;
    let doing = format!("set group {name}");
    let before = group.settings().map_err(|e| not_stored(&doing, &e))?;
    let after = before.with(settings)?;
    let (_, serving) = group.stream.outbox_usage();
    let outbox = if after.outbox_bytes == serving {
        String::new()
    } else {
        format!("; the outbox has {} from the next undisk down, undisk up on", Size(after.outbox_bytes))
    };
    let message = format!("group {name}: {}{outbox}", after.policy);
    let policy = policy_status(&after);
    if after == before {
        return Ok(Answer::GroupSet { outcome: Outcome::AlreadySo, message, policy });
    }
    if !dry_run {
        group.set(&after).map_err(|e| not_stored(&doing, &e))?;
    }
    Ok(Answer::GroupSet { outcome: Outcome::Changed, message, policy })
}

fn pause(splitter: &Splitter, name: &str) -> Result<Answer, ControlError> {
    let group = find(splitter, name)?;
    if group.rollback().is_some() {
        return Err(ControlError::refused(format!("cannot pause group {name}: a rollback is under way"))
            .hint("wait for it: undisk status"));
    }
    let changed = group.pause().map_err(|e| not_stored(&format!("pause group {name}"), &e))?;
    Ok(if changed {
        let then = format!("hosts go on, and what they write is not recorded until undisk group resume {name}");
        done(Outcome::Changed, format!("group {name} is paused: {then}"))
    } else {
        done(Outcome::AlreadySo, format!("group {name} is paused already"))
    })
}

fn resume(splitter: &Splitter, name: &str) -> Result<Answer, ControlError> {
    let group = find(splitter, name)?;
    let changed = group.resume().map_err(|e| not_stored(&format!("resume group {name}"), &e))?;
    Ok(if changed {
        let then = "what was written meanwhile is being read, points are refused until that is complete";
        done(Outcome::Changed, format!("group {name} is resumed: {then}"))
    } else {
        done(Outcome::AlreadySo, format!("group {name} is not paused"))
    })
}

fn resync(splitter: &Splitter, name: &str, full: bool) -> Result<Answer, ControlError> {
    let group = find(splitter, name)?;
    let no = |why: &str| ControlError::refused(format!("cannot resynchronise group {name}: {why}"));
    if group.is_resyncing() && !full {
        return Ok(done(Outcome::AlreadySo, format!("group {name} is being resynchronised already")));
    }
    if group.paused.load(Ordering::Acquire) {
        return Err(no("it is paused").hint(format!("undisk group resume {name}")));
    }
    if !group.is_linked() {
        return Err(ControlError::failed(format!(
            "cannot resynchronise group {name}: there is no link to the appliance; hosts go on, their writes are not recorded"
        ))
        .hint("undisk up"));
    }
    if group.rollback().is_some() {
        return Err(no("a rollback is under way").hint("wait for it: undisk status"));
    }
    if let Some(absent) = group.absent() {
        return Err(no(&format!("its volume {absent} is not served, so it cannot be read")).hint(
            "undisk volume status tells why; mend it and start again (undisk down, undisk up), or remove the volume",
        ));
    }
    group.resync(full);
    let what = if full {
        format!("all of group {name} is being read again")
    } else {
        format!("group {name} is being resynchronised")
    };
    Ok(done(Outcome::Changed, format!("{what}; points are refused until it is complete")))
}
