//! Goal: a replica never lands on anything that somebody may need.

use super::*;

const SIZE: SectorCount = match SectorCount::new(2048) {
    Some(size) => size,
    None => SectorCount::ZERO,
};

#[test]
fn a_new_replica_is_sparse_and_ours_to_delete() {
    let folder = tempfile::tempdir().expect("folder");
    let path = usual_path(folder.path(), 3);
    assert!(path.ends_with("replica-3.img"));
    let found = look(&path, SIZE, &[]).expect("look");
    assert_eq!(found, Found::Nothing);
    assert!(make(&path, SIZE, found).expect("make"));
    let meta = std::fs::metadata(&path).expect("made");
    assert_eq!((meta.len(), meta.blocks()), (1 << 20, 0));
}

#[test]
fn an_empty_file_is_taken_but_not_deleted_later() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("r");
    for length in [0, 4096, 4 << 20] {
        File::create(&path).and_then(|file| file.set_len(length)).expect("file");
        let found = look(&path, SIZE, &[]).expect("look");
        assert_eq!(found, Found::EmptyFile);
        assert!(!make(&path, SIZE, found).expect("make"));
        assert_eq!(std::fs::metadata(&path).expect("there").len(), 1 << 20);
    }
}

#[test]
fn files_with_content_folders_and_other_replicas_are_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("r");
    std::fs::write(&path, b"precious").expect("file");
    let error = look(&path, SIZE, &[]).expect_err("content");
    assert_eq!(error.kind.exit_status(), 5, "{error}");
    assert_eq!(std::fs::read(&path).expect("read"), b"precious");
    assert_eq!(look(folder.path(), SIZE, &[]).expect_err("folder").kind.exit_status(), 5);
    let taken = folder.path().join("taken");
    File::create(&taken).expect("file");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&taken, &link).expect("link");
    assert_eq!(look(&link, SIZE, &[taken]).expect_err("in use").kind.exit_status(), 5);
    assert_eq!(look(&folder.path().join("no/r"), SIZE, &[]).expect_err("no folder").kind.exit_status(), 4);
    assert_eq!(look(Path::new("r"), SIZE, &[]).expect_err("relative").kind.exit_status(), 2);
}
