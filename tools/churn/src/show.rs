//! `churn show`: a history for a person who looks for the reason of a refusal.

use crate::args::Show;
use crate::history::{History, NEVER};
use crate::log;
use crate::say;
use anyhow::Result;
use std::collections::BTreeMap;

/// Prints what was asked for.
pub fn show(args: &Show) -> Result<()> {
    let (header, entries) = log::read(&args.log)?;
    let history = History::new(header, &entries)?;
    if !args.operations && args.sector.is_none() {
        let mut kinds: BTreeMap<&str, u64> = BTreeMap::new();
        for operation in &history.operations {
            *kinds.entry(operation.kind.name()).or_default() += 1;
        }
        let open = history.operations.iter().filter(|operation| operation.completed == NEVER).count();
        say(&format_args!(
            "run {:016x}, seed {}, sectors {}+{}: {} entries; {kinds:?}; {open} that did not come back well",
            header.run, header.seed, header.first, header.sectors, history.end
        ));
        return Ok(());
    }
    for (number, operation) in history.operations.iter().enumerate() {
        let covers = |sector| (operation.sector..operation.sector + operation.sectors).contains(&sector);
        if args.sector.is_some_and(|sector| !covers(sector)) {
            continue;
        }
        let end = match (operation.failed, operation.completed) {
            (true, _) => "failed".to_owned(),
            (false, NEVER) => "open".to_owned(),
            (false, completed) => completed.to_string(),
        };
        say(&format_args!(
            "{number}\t{}\t{}+{}\tlane {}\t{} to {end}{}\t@{}",
            operation.kind.name(),
            operation.sector,
            operation.sectors,
            operation.lane,
            operation.submitted,
            if operation.atomic { "" } else { "\tby pieces" },
            operation.submitted_ns
        ));
    }
    Ok(())
}
