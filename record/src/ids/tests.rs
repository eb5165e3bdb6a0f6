//! Ids are read back as they are shown, and nothing else is an id.

use super::*;
use proptest::prelude::*;

proptest! {
    #[test]
    fn an_id_is_read_back_as_it_is_shown(bytes in any::<[u8; 16]>()) {
        let id = JournalId::from_bytes(bytes);
        let shown = id.to_string();
        prop_assert_eq!(shown.len(), 36);
        prop_assert_eq!(JournalId::parse(&shown), Some(id));
        prop_assert_eq!(JournalId::parse(&shown.to_uppercase()), Some(id));
        prop_assert_eq!(JournalId::parse(&shown.replace('-', "")), Some(id));
        prop_assert_eq!(id.to_bytes(), bytes);
    }

    #[test]
    fn an_id_cut_short_or_made_longer_is_none(bytes in any::<[u8; 16]>(), cut in 0..36usize) {
        let shown = VolumeId::from_bytes(bytes).to_string();
        prop_assert_eq!(VolumeId::parse(&shown[..cut]), None);
        prop_assert_eq!(VolumeId::parse(&format!("{shown}0")), None);
        prop_assert_eq!(VolumeId::parse(&format!("{shown} ")), None);
    }

    #[test]
    fn whatever_is_typed_is_an_id_or_none(text in "\\PC{0,40}") {
        if let Some(id) = GroupId::parse(&text) {
            prop_assert_eq!(GroupId::parse(&id.to_string()), Some(id));
        }
    }
}

#[test]
fn an_id_is_shown_as_a_uuid() {
    let id = GroupId::parse("00112233445566778899aabbccddeeff").unwrap();
    assert_eq!(id.to_string(), "00112233-4455-6677-8899-aabbccddeeff");
    assert_eq!(format!("{id:?}"), id.to_string());
}
