//! `undisk group set`

use crate::report::Report;
use crate::session::{QUICK, Session, unexpected};
use clap::Args;
use control::answer::{Answer, PolicyStatus};
use control::client::Daemon;
use control::error::ControlError;
use control::name::{Name, Named};
use control::point::Nanos;
use control::request::SplitterRequest;
use control::size::Size;

/// Change how a group is protected.
#[derive(Debug, Args)]
pub struct Set {
    /// The group's name
    name: String,
    /// mode=async|bounded-lag|sync, sync-loss=degrade|stall, lag-bytes=SIZE, lag-seconds=SPAN, outbox=SIZE
    #[arg(required = true, value_name = "KEY=VALUE")]
    settings: Vec<String>,
}

impl Set {
    /// Does it.
    pub fn run(self, session: &Session) -> Result<Report, ControlError> {
        let name = Name::parse(Named::Group, &self.name)?;
        if let Some(odd) = self.settings.iter().find(|setting| !setting.contains('=')) {
            return Err(ControlError::usage(format!("{odd:?} is not KEY=VALUE")).hint("as in mode=async outbox=128MiB"));
        }
        let request = SplitterRequest::GroupSet { group: name.into(), settings: self.settings };
        let Answer::GroupSet { outcome, message, policy } = session.ask_splitter(&request, QUICK)? else {
            return Err(unexpected(Daemon::Splitter));
        };
        Ok(Report::done(outcome, message).field("policy", &policy))
    }
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
