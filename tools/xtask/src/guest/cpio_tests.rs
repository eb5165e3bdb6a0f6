use super::*;

#[test]
fn headers_are_110_bytes_and_everything_is_aligned_to_four() {
    let mut archive = Archive::default();
    archive.folder("bin");
    archive.file("bin/a", 0o755, b"hello");
    archive.character_device("console", 5, 1);
    let bytes = archive.finish();
    assert_eq!(bytes.len() % 4, 0);
    assert!(bytes.starts_with(b"07070100000001000041ed"), "folder, mode 040755");
    // "bin": 110 + 4 bytes of name = 114, padded to 116.
    assert_eq!(&bytes[116..122], b"070701");
    assert_eq!(&bytes[116 + 54..116 + 62], b"00000005", "the file's size");
    // 116 + 110 + 6 = 232; content from there, padded to 240.
    assert_eq!(&bytes[232..237], b"hello");
    assert_eq!(&bytes[240..246], b"070701");
    assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
}
