//! Whether there is nothing but zeros: payloads that need no room, and reserved bytes.

/// Bytes that are looked at together. A processor compares them at once, and data differs from zeros at once most often.
const STEP: usize = 64;

/// Whether there is nothing but zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    let none = |bytes: &[u8]| bytes.iter().fold(0, |all, byte| all | byte) == 0;
    let (steps, rest) = bytes.as_chunks::<STEP>();
    steps.iter().all(|step| none(step)) && none(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_anywhere_is_seen() {
        for len in [0, 1, 63, 64, 65, 200, 4096] {
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
