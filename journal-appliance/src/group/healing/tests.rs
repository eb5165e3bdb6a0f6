//! Goal: what is damaged is asked for once, of replicas first and then of the splitter that serves the volume; what comes back
//! heals, and is told.

use std::path::Path;

use control::events::kept;
use control::request::EventsAsk;

use super::*;

/// The journal of the scrub's tests, and how it is made to rot.
use super::super::scrub::made::{journal, rot, until};

#[test]
fn what_has_rotted_is_asked_for_once_and_put_back() {
    let folder = tempfile::tempdir().expect("folder");
    let journal = journal(folder.path());
    let events = Events::open(folder.path(), "appliance");
    rot(folder.path());
    journal.scrub(record::position::Position::ORIGIN, u64::MAX);
    assert_eq!(journal.status().damage_count, 1);
    let [(volume, extent)] = journal.ailing()[..] else { panic!("one place") };
    let healer = start("g", &journal, &events).expect("start");
    let (orders, wanted) = (healer.orders.clone().expect("open"), Arc::clone(&healer.wanted));
    let asked = || wanted.lock().unwrap_or_else(PoisonError::into_inner).len();
    orders.send(Order::Look).expect("look");
    until("it is asked for", || asked() == 1);
    wanted.lock().unwrap_or_else(PoisonError::into_inner).clear();
    // Not again so soon, and not by what is something else.
    orders.send(Order::Look).expect("look");
    orders.send(Order::Content(volume, extent, vec![0xcd; 4096])).expect("content");
    orders.send(Order::Look).expect("look");
    orders.send(Order::Content(volume, extent, vec![0xab; 4096])).expect("content");
    until("it is healed", || journal.status().damage_count == 0);
    assert_eq!(asked(), 0);
    let told = || {
        events.read(EventsAsk { after: None, newest: 0 });
        kept(Path::new(folder.path())).into_iter().filter(|event| event.kind == "healed").count()
    };
    until("it is told", || told() == 1);
    // It ends when nobody tells it anything any more.
    drop(orders);
    drop(healer);
    assert_eq!(Arc::strong_count(&journal), 1);
}
