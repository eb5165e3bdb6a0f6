//! Goal: the health that an administrator sees is the worst thing that is true.

use super::*;

fn well() -> Signs {
    Signs { linked: true, ..Signs::default() }
}

#[test]
fn the_worst_sign_gives_the_health_its_name() {
    assert_eq!(health("g", &well()), Health::Protected);
    assert_eq!(health("g", &Signs { synchronising: true, ..well() }), Health::Synchronising);
    assert_eq!(health("g", &Signs { synchronising: true, linked: false, ..well() }), Health::Unlinked);
    let lost = Signs { needs_resync: true, linked: false, ..well() };
    assert!(matches!(health("g", &lost), Health::NeedsResync { reason } if reason.contains("undisk group resync g")));
    let rotten = Signs { damage: 2, synchronising: true, ..well() };
    assert!(matches!(health("g", &rotten), Health::Trouble { reason } if reason.contains("2 damaged")));
    let gone = Signs { lost_replica: Some("the replica r".to_owned()), damage: 2, linked: false, ..well() };
    assert_eq!(health("g", &gone), Health::Trouble { reason: "the replica r".to_owned() });
    let full = Signs { trouble: Some("disk full".to_owned()), needs_resync: true, ..well() };
    assert_eq!(health("g", &full), Health::Trouble { reason: "disk full".to_owned() });
    let poisoned = Signs { poisoned: Some("EIO".to_owned()), ..well() };
    assert_eq!(health("g", &poisoned), Health::Trouble { reason: "EIO".to_owned() });
}
