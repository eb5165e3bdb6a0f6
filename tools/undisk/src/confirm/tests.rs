//! What counts as a yes.

use super::*;
use control::error::Kind;

fn typed(text: &str) -> (Result<(), ControlError>, String) {
    let mut shown = Vec::new();
    let done = ask("roll group web back", "web", &mut text.as_bytes(), &mut shown);
    (done, String::from_utf8(shown).unwrap())
}

#[test]
fn only_the_name_is_a_yes() {
    assert!(typed("web\n").0.is_ok());
    for other in ["", "\n", "y\n", "yes\n", "Web\n", "web2\n"] {
        let (done, shown) = typed(other);
        assert_eq!(done.unwrap_err().kind, Kind::Refused, "{other:?}");
        assert_eq!(shown, "to roll group web back, type the name web: ");
    }
}
