//! Nothing in the configuration is silently ignored.

use super::*;

fn checked(text: &str) -> Result<(), ControlError> {
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("undisk.toml");
    std::fs::write(&path, text).unwrap();
    check(&path)
}

#[test]
fn no_file_an_empty_one_and_comments_are_fine() {
    check(Path::new("/nonexistent/undisk.toml")).unwrap();
    checked("").unwrap();
    checked("# nothing yet\n").unwrap();
}

#[test]
fn what_is_not_toml_is_named_by_its_line() {
    let error = checked("# a\nthis is [not toml").unwrap_err();
    assert!(error.message.contains("undisk.toml: line 2: "), "{error}");
    assert!(!error.message.contains('\n'), "{error}");
}

#[test]
fn an_unknown_setting_is_named() {
    let error = checked("window = \"48h\"\n").unwrap_err();
    assert!(error.message.contains("\"window\""), "{error}");
}
