//! Whether there is nothing but zeros: payloads that need no room, and reserved bytes.

/// Bytes that are looked at first: data differs from zeros there most often.
const FIRST: usize = 64;
/// Behind them the system's way of comparing is the quickest, whatever the processor.
static ZEROS: [u8; 4096] = [0; 4096];

/// Whether there is nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (first, bytes) = bytes.split_at(bytes.len().min(FIRST));
    first.iter().fold(0, |all, byte| all | byte) == 0
        && bytes.chunks(ZEROS.len()).all(|bytes| *bytes == ZEROS[..bytes.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_seen() {
        for len in [0, 1, 63, 64, 65, 200, 319, 320, 321, 4096] {
            let mut bytes = vec![0; len];
            assert!(is_zero(&bytes), "{len} zeros");
            for at in 0..len {
                bytes[at] = 1 << (at % 8);
                assert!(!is_zero(&bytes), "byte {at} of {len}");
                bytes[at] = 0;
            }
        }
    }
}
