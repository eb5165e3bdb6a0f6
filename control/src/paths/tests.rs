//! The places of an installation.

use super::*;
use std::collections::HashMap;

fn places(given: &[(&str, &str)]) -> Paths {
    let given: HashMap<String, OsString> = given.iter().map(|(k, v)| ((*k).to_owned(), (*v).into())).collect();
    Paths::from_lookup(|name| given.get(name).cloned())
}

#[test]
fn without_variables_the_usual_places_are_used() {
    let paths = places(&[]);
    assert_eq!(paths.state(), Path::new("/var/lib/undisk"));
    assert_eq!(paths.splitter_socket(None), Path::new("/run/undisk/splitter.sock"));
    assert_eq!(paths.splitter_socket(Some("b")), Path::new("/run/undisk/splitter-b.sock"));
    assert_eq!(paths.appliance_socket(), Path::new("/run/undisk/appliance.sock"));
    assert_eq!(paths.link_socket(), Path::new("/run/undisk/link.sock"));
    assert_eq!(paths.device_env(7), Path::new("/run/undisk/dev/ublkb7.env"));
    assert_eq!(paths.config(), Path::new("/etc/undisk/undisk.toml"));
    assert_eq!(paths.ublk_control(), Path::new("/dev/ublk-control"));
}

#[test]
fn variables_move_the_places_and_an_empty_one_does_not() {
    let paths = places(&[("UNDISK_STATE", "/s"), ("UNDISK_RUN", ""), ("UNDISK_CONFIG", "/c.toml")]);
    assert_eq!(paths.state(), Path::new("/s"));
    assert_eq!(paths.run(), Path::new("/run/undisk"));
    assert_eq!(paths.config(), Path::new("/c.toml"));
}

#[test]
fn a_relative_place_becomes_absolute() {
    assert!(places(&[("UNDISK_RUN", "here")]).run().is_absolute());
}

#[test]
fn folders_are_made_for_their_owner_alone_and_narrowed_when_wider() {
    let temp = tempfile::tempdir().unwrap();
    let paths = Paths::new(temp.path().join("state"), temp.path().join("run"), temp.path().join("c"));
    std::fs::create_dir(temp.path().join("run")).unwrap();
    std::fs::set_permissions(temp.path().join("run"), Permissions::from_mode(0o755)).unwrap();
    paths.prepare().unwrap();
    paths.prepare().unwrap();
    for dir in [paths.state(), paths.run(), &paths.run().join("dev"), &paths.run().join("log")] {
        assert_eq!(std::fs::metadata(dir).unwrap().permissions().mode() & 0o777, 0o700, "{}", dir.display());
    }
}

#[test]
fn a_file_in_the_way_of_a_folder_is_named() {
    let temp = tempfile::tempdir().unwrap();
    let there = temp.path().join("x");
    std::fs::write(&there, "").unwrap();
    let error = make_private_dir(&there).unwrap_err();
    assert!(error.message.contains(there.to_str().unwrap()), "{error}");
}
