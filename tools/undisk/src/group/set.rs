//! `undisk group set`
//!
//! Owns which daemon hears of which key, and that both have agreed before either changes anything.

use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use clap::Args;
use control::answer::kept::RetentionPolicy;
use control::answer::{Answer, Outcome, PolicyStatus};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::point::Nanos;
use control::request::{ApplianceRequest, SplitterRequest};
use control::settings::{nothing, owner};
use control::size::Size;
use control::time::span;

/// Change how a group is protected, and what is kept of it.
#[derive(Debug, Args)]
pub struct Set {
    /// The group's name
    name: String,
    /// mode=async|bounded-lag|sync, sync-loss=degrade|stall, lag-bytes=SIZE, lag-seconds=SPAN, outbox=SIZE, reclaim-zeros=on|off, window=SPAN,
    /// keep=minute:SPAN,hour:SPAN,day:SPAN|none, journal-limit=SIZE|none, journal-full=shrink|stop|block, scrub=SPAN|none,
    /// distribution=lazy|eager, undo-limit=SIZE|none, undo-full=slow|shrink, punch-split=SIZE
    #[arg(required = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

/// What a daemon says of its share.
struct Said<T> {
    outcome: Outcome,
    message: String,
    policy: T,
}

impl Set {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let group = Name::parse(Named::Group, &self.name)?.to_string();
        let (mut hosts, mut history) = (Vec::new(), Vec::new());
        for setting in self.settings {
            match owner(&setting)? {
                Daemon::Splitter => hosts.push(setting),
                Daemon::Appliance => history.push(setting),
            }
        }
        let splitter = |dry_run| splitter(session, &group, &hosts, dry_run);
        let appliance = |dry_run| appliance(session, &group, &history, dry_run);
        match (hosts.is_empty(), history.is_empty()) {
            (true, true) => Err(nothing()),
            (false, true) => splitter(false).map(|said| report(Some(&said), None)),
            (true, false) => appliance(false).map(|said| report(None, Some(&said))),
            (false, false) => {
                splitter(true)?;
                appliance(true)?;
                let retention = appliance(false)?;
                let policy = splitter(false).map_err(|error| {
                    let done = history.join(" ");
                    ControlError { message: format!("{done} was set, the rest was not: {}", error.message), ..error }
                })?;
                Ok(report(Some(&policy), Some(&retention)))
            }
        }
    }
}

fn splitter(
    session: &Session,
    group: &str,
    settings: &[String],
    dry_run: bool,
) -> Result<Said<PolicyStatus>, ControlError> {
    let request = SplitterRequest::GroupSet { group: group.into(), settings: settings.to_vec(), dry_run };
    let Answer::GroupSet { outcome, message, policy } = session.ask_splitter(&request, QUICK)? else {
        return Err(unexpected(Daemon::Splitter));
    };
    Ok(Said { outcome, message, policy })
}

fn appliance(
    session: &Session,
    group: &str,
    settings: &[String],
    dry_run: bool,
) -> Result<Said<RetentionPolicy>, ControlError> {
    let request = ApplianceRequest::GroupSet { group: group.into(), settings: settings.to_vec(), dry_run };
    let Answer::RetentionSet { outcome, message, retention } = session.ask_appliance(&request, QUICK)? else {
        return Err(unexpected(Daemon::Appliance));
    };
    Ok(Said { outcome, message, policy: retention })
}

fn report(policy: Option<&Said<PolicyStatus>>, retention: Option<&Said<RetentionPolicy>>) -> Report {
    let outcomes = [policy.map(|said| said.outcome), retention.map(|said| said.outcome)];
    let same = outcomes.iter().flatten().all(|outcome| *outcome == Outcome::AlreadySo);
    let outcome = if same { Outcome::AlreadySo } else { Outcome::Changed };
    let messages = [policy.map(|said| said.message.as_str()), retention.map(|said| said.message.as_str())];
    let messages: Vec<_> = messages.into_iter().flatten().map(ToOwned::to_owned).collect();
    Report::new()
        .field("outcome", &outcome)
        .field("message", &messages.join("; "))
        .field("policy", &policy.map(|said| &said.policy))
        .field("retention", &retention.map(|said| &said.policy))
        .lines(messages)
}

/// A policy in words: what its mode looks at.
pub fn policy(policy: &PolicyStatus) -> String {
    match policy.mode.as_str() {
        "bounded-lag" => {
            let span = Nanos(policy.lag_seconds.saturating_mul(1_000_000_000));
            format!("{}, at most {} or {span} behind", policy.mode, Size(policy.lag_bytes))
        }
        "sync" => {
            let loss = policy.sync_loss.as_deref().unwrap_or("not chosen");
            format!("{}, {loss} when the appliance is lost", policy.mode)
        }
        mode => mode.to_owned(),
    }
}

/// What is kept, in words.
pub fn retention(retention: &RetentionPolicy) -> String {
    let window = span(retention.window_seconds);
    let limit = retention.journal_limit.map_or_else(String::new, |bytes| format!(" in at most {}", Size(bytes)));
    let full = match retention.journal_full.as_str() {
        "shrink" => "less when there is no room",
        "stop" => "the journal stops when there is no room",
        "block" => "hosts wait when there is no room",
        other => other,
    };
    let older: Vec<_> =
        retention.keep.iter().map(|level| format!("{} for {}", level.span, span(level.seconds))).collect();
    let older = if older.is_empty() { String::new() } else { format!(", the newest of each {}", older.join(", ")) };
    let scrub = retention.scrub_seconds.map_or_else(String::new, |every| format!("; read again every {}", span(every)));
    let eager = if retention.distribution == "eager" { "; replicas at the newest point" } else { "" };
    format!("every write of {window}{older}{limit}; {full}{scrub}{eager}")
}
