//! Goal: `group set` with keys of both daemons changes both, or neither. The daemons here count what was really set.

use crate::fake::Place;
use crate::world;
use control::answer::Answer;
use control::error::ControlError;
use control::request::{ApplianceRequest, SplitterRequest};
use std::sync::atomic::{AtomicU32, Ordering};

static SET: AtomicU32 = AtomicU32::new(0);

fn splitter(request: SplitterRequest) -> Result<Answer, ControlError> {
    if matches!(request, SplitterRequest::GroupSet { dry_run: false, .. }) {
        SET.fetch_add(1, Ordering::SeqCst);
    }
    world::well_splitter(request)
}

fn appliance(request: ApplianceRequest) -> Result<Answer, ControlError> {
    if matches!(request, ApplianceRequest::GroupSet { dry_run: false, .. }) {
        SET.fetch_add(1, Ordering::SeqCst);
    }
    world::well_appliance(request)
}

#[test]
fn keys_of_both_daemons_are_set_by_both_or_by_neither() {
    let place = Place::new().splitter(splitter).appliance(appliance);
    let set = |settings: &[&str]| {
        SET.store(0, Ordering::SeqCst);
        let output = place.run(&[&["group", "set", "web"], settings].concat());
        (output.status.code(), SET.load(Ordering::SeqCst))
    };
    assert_eq!(set(&["mode=sync", "sync-loss=stall", "window=7d"]), (Some(0), 2));
    assert_eq!(set(&["mode=sync", "journal-full=block"]), (Some(2), 0), "the appliance refuses");
    assert_eq!(set(&["mode=fast", "window=7d"]), (Some(2), 0), "the splitter refuses");
    assert_eq!(set(&["mode=sync", "window=7d", "punch-split=1MiB"]), (Some(2), 0), "nobody knows it");
    assert_eq!(set(&["window=7d"]), (Some(0), 1));

    // The appliance alone is asked for what is its own.
    let alone = Place::new().appliance(world::well_appliance);
    assert_eq!(alone.run(&["group", "set", "web", "window=7d"]).status.code(), Some(0));
    assert_eq!(alone.run(&["group", "set", "web", "mode=sync", "window=7d"]).status.code(), Some(6));
}
