use std::thread;

use super::*;

#[test]
fn guests_that_boot_side_by_side_unpack_the_same_module_in_peace() {
    let folder = std::env::temp_dir().join(format!("xtask-modules-{}", std::process::id()));
    fs::create_dir_all(&folder).unwrap();
    let (path, bytes) = (folder.join("some.ko"), vec![7; 1 << 16]);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..200 {
                    keep(&path, &bytes).unwrap();
                    assert_eq!(fs::read(&path).unwrap(), bytes);
                }
            });
        }
    });
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "something was left beside it");
    fs::remove_dir_all(folder).unwrap();
}
