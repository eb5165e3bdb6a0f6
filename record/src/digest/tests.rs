//! The function is BLAKE3 and stays it.

use super::*;

#[test]
fn it_is_the_published_function() {
    // BLAKE3 test vectors: the empty input, and one block of the counting pattern.
    let hex = |digest: Digest| digest.to_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(hex(Digest::of(b"")), "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262");
    assert_ne!(Digest::of(&[0; 512]), Digest::of(&[0; 1024]), "length counts");
    assert_eq!(Digest::from_bytes(Digest::of(b"x").to_bytes()), Digest::of(b"x"));
}
