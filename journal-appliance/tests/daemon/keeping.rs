//! Goal: what is kept is set, shown and stored; a held bookmark outlives every command, a restart included, until its
//! date.

use super::*;
use control::request::TrimTo;
use control::time::now;

const DAY: u64 = 86_400 * 1_000_000_000;

impl World {
    fn set(&self, settings: &[&str], dry_run: bool) -> Result<Answer, ControlError> {
        let settings = settings.iter().map(ToString::to_string).collect();
        self.ask(&ApplianceRequest::GroupSet { group: "g".to_owned(), settings, dry_run })
    }

    fn keeps(&self) -> (u64, Vec<(String, u64)>, Option<u64>, String) {
        match self.ask(&ApplianceRequest::JournalStatus { group: Some("g".to_owned()) }) {
            Ok(Answer::Journals { journals }) => {
                let kept = journals[0].retention.clone();
                let levels = kept.keep.into_iter().map(|level| (level.span, level.seconds));
                (kept.window_seconds, levels.collect(), kept.journal_limit, kept.journal_full)
            }
            other => panic!("no status: {other:?}"),
        }
    }

    fn hold(&self, name: &str, until_ns: u64) -> Result<Outcome, ControlError> {
        let request = ApplianceRequest::BookmarkHold { group: "g".to_owned(), name: name.to_owned(), until_ns };
        match self.ask(&request)? {
            Answer::Bookmark { outcome, bookmark } => {
                assert_eq!(bookmark.hold_until_ns, Some(until_ns));
                Ok(outcome)
            }
            other => panic!("{other:?}"),
        }
    }

    fn bookmarks(&self) -> Vec<control::answer::Bookmark> {
        match self.ask(&ApplianceRequest::BookmarkList { group: "g".to_owned() }) {
            Ok(Answer::Bookmarks { bookmarks }) => bookmarks,
            other => panic!("{other:?}"),
        }
    }

    fn remove(&self, name: &str) -> Result<Answer, ControlError> {
        self.ask(&ApplianceRequest::BookmarkRemove { group: "g".to_owned(), name: name.to_owned() })
    }

    fn trim(&self, to: TrimTo, dry_run: bool) -> Result<(Outcome, control::answer::kept::Trim), ControlError> {
        match self.ask(&ApplianceRequest::JournalTrim { group: "g".to_owned(), to, dry_run })? {
            Answer::JournalTrim { outcome, trim } => Ok((outcome, trim)),
            other => panic!("{other:?}"),
        }
    }
}

fn refused(outcome: Result<impl std::fmt::Debug, ControlError>) -> String {
    let error = outcome.expect_err("refused");
    assert_eq!(error.kind, Kind::Refused, "{error}");
    error.message
}

#[test]
fn what_is_kept_is_set_as_a_whole_shown_and_kept_over_a_restart() {
    let mut at = Joined::new();
    assert_eq!(at.world.keeps(), (172_800, vec![], None, "shrink".to_owned()));
    let wanted = ["window=7d", "keep=hour:30d", "journal-limit=1GiB", "journal-full=stop", "scrub=none"];
    for (settings, dry_run) in [(&wanted[..], true), (&["window=1h", "journal-full=pray"][..], false)] {
        assert_eq!(at.world.set(settings, dry_run).is_ok(), dry_run);
        assert_eq!(at.world.keeps(), (172_800, vec![], None, "shrink".to_owned()), "nothing was changed");
    }
    for expected in [Outcome::Changed, Outcome::AlreadySo] {
        match at.world.set(&wanted, false) {
            Ok(Answer::RetentionSet { outcome, message, .. }) => {
                assert_eq!(outcome, expected);
                assert_eq!(
                    message,
                    "group g: window=7d keep=hour:30d journal-limit=1.0 GiB journal-full=stop scrub=none \
                     distribution=lazy undo-limit=none undo-full=slow punch-split=4.0 MiB"
                );
            }
            other => panic!("not set: {other:?}"),
        }
    }
    at.world.stop();
    at.world.start();
    assert_eq!(at.world.keeps(), (604_800, vec![("hour".to_owned(), 30 * 86_400)], Some(1 << 30), "stop".to_owned()));
}

#[test]
fn a_held_bookmark_is_not_removed_before_its_date_by_any_command() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 0, vec![5; 512])]);
    let made = at.add_bookmark("audit");
    at.append(&[write(at.volume, 0, vec![6; 512])]);
    let until = now() + 30 * DAY;
    assert_eq!(at.world.hold("audit", until).expect("held"), Outcome::Changed);
    assert_eq!(at.world.hold("audit", until).expect("held"), Outcome::AlreadySo);
    assert!(refused(at.world.hold("audit", until - DAY)).contains("never made shorter"));
    assert_eq!(at.world.hold("nosuch", until).expect_err("none").kind, Kind::NotFound);
    assert_eq!(at.world.hold("audit", now() - DAY).expect_err("over").kind, Kind::Usage);
    let until = until + DAY;
    assert_eq!(at.world.hold("audit", until).expect("longer"), Outcome::Changed);

    at.world.stop();
    at.world.start();
    let date = control::time::local(until);
    assert!(refused(at.world.remove("audit")).contains(&date));
    let point = latest();
    assert!(refused(at.world.trim(TrimTo::Before { point }, false)).contains(&date));
    let group = ApplianceRequest::GroupRemove { name: "g".to_owned() };
    assert!(refused(at.world.ask(&group)).contains(&date));
    let held = control::answer::Bookmark { hold_until_ns: Some(until), ..made };
    assert_eq!(at.world.bookmarks(), [held]);
}

#[test]
fn a_bookmark_may_be_held_from_its_birth_and_removed_when_its_date_has_come() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 0, vec![5; 512])]);
    let until = now() + 1_500_000_000;
    let made = at.add_held_bookmark("audit", Some(until));
    assert_eq!(made.hold_until_ns, Some(until));
    refused(at.world.remove("audit"));
    std::thread::sleep(Duration::from_millis(1600));
    assert!(at.world.remove("audit").is_ok());
    // What is over does not come over the next one of the name.
    let again = at.add_bookmark("audit");
    assert_eq!(at.world.bookmarks(), [again]);
    assert!(at.world.remove("audit").is_ok());
}

#[test]
fn trimming_says_first_what_it_would_do_and_an_ordinary_bookmark_stays() {
    let mut at = Joined::new();
    at.append(&[write(at.volume, 0, vec![5; 512])]);
    at.add_bookmark("morning");
    at.append(&[write(at.volume, 0, vec![6; 512]), bare(Op::Flush)]);
    let (outcome, plan) = at.world.trim(TrimTo::Before { point: latest() }, true).expect("plan");
    assert_eq!((outcome, plan.bookmarks.as_slice()), (Outcome::Changed, &["morning".to_owned()][..]));
    assert_eq!(plan.positions, plan.to - plan.oldest);
    assert!(plan.positions > 0 && plan.to_ns >= plan.oldest_ns, "{plan:?}");
    assert!(!at.world.has_event("journal-trimmed"), "only said");
    let (outcome, done) =
        at.world.trim(TrimTo::Before { point: PointSpec::Seq { position: plan.to } }, false).expect("done");
    assert_eq!((outcome, done.to), (Outcome::Changed, plan.to));
    assert!(at.world.has_event("journal-trimmed"));
    let (outcome, plan) = at.world.trim(TrimTo::Window, false).expect("window");
    assert_eq!((outcome, plan.positions), (Outcome::AlreadySo, 0), "nothing is two days old");
    let (_, small) = at.world.trim(TrimTo::Size { bytes: 1 }, true).expect("size");
    assert!(!small.reached, "the newest segments stay: {small:?}");
    assert!(at.world.remove("morning").is_ok());
}
