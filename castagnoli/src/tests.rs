use super::*;
use proptest::prelude::*;

/// Bit by bit, as the definition says.
fn by_definition(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
        }
    }
    !crc
}

#[test]
fn the_examples_of_rfc_3720_have_their_checksums() {
    assert_eq!(crc32c(&[0; 32]), 0x8A91_36AA);
    assert_eq!(crc32c(&[0xFF; 32]), 0x62A8_AB43);
    assert_eq!(crc32c(&(0..32).collect::<Vec<u8>>()), 0x46DD_794E);
    assert_eq!(crc32c(&(0..32).rev().collect::<Vec<u8>>()), 0x113F_DB5C);
}

proptest! {
    #[test]
    fn every_way_agrees_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..5000)) {
        prop_assert_eq!(crc32c(&bytes), by_definition(&bytes));
    }

    /// Wherever in memory it lies, and by whatever way this processor does not take by itself, too.
    #[test]
    fn a_block_has_the_checksum_that_the_definition_gives_it(bytes in proptest::collection::vec(any::<u8>(), 4096 + 7), at in 0_usize..8) {
        let block: &[u8; 4096] = bytes[at..at + 4096].try_into().expect("a block");
        let wanted = by_definition(block);
        prop_assert_eq!(crc32c(block), wanted);
        prop_assert_eq!(by_library(block), wanted);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            // SAFETY: this one has them.
            let (streams, words) = unsafe { (!x86::more(u32::MAX, block), x86::words(block)) };
            prop_assert_eq!((streams, words), (wanted, wanted));
        }
    }

    #[test]
    fn a_seed_is_mixed_in(bytes in proptest::collection::vec(any::<u8>(), 0..5000), seed in any::<[u8; 20]>()) {
        let wanted = by_definition(&bytes) ^ by_definition(&seed);
        prop_assert_eq!(crc32c_seeded(&bytes, &seed), wanted);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            // SAFETY: this one has them.
            let (streams, words) = unsafe { (x86::seeded_more(&bytes, &seed), x86::seeded_words(&bytes, &seed)) };
            prop_assert_eq!((streams, words), (wanted, wanted));
        }
    }

    #[test]
    fn zeros_behind_count_as_if_they_were_there(bytes in proptest::collection::vec(any::<u8>(), 0..300), zeros in 0_usize..20_000) {
        let whole = [bytes.as_slice(), &vec![0; zeros]].concat();
        let wanted = by_definition(&whole);
        prop_assert_eq!(crc32c_of(&[&bytes], zeros), wanted);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            // SAFETY: this one has them.
            let crc = unsafe { x86::zeros_more(x86::more(u32::MAX, &bytes), zeros) };
            prop_assert_eq!(!crc, wanted);
        }
    }

    #[test]
    fn parts_have_the_checksum_of_the_whole(parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..9000), 0..4)) {
        let wanted = by_definition(&parts.concat());
        let parts: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        prop_assert_eq!(crc32c_of(&parts, 0), wanted);
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("sse4.2") && is_x86_feature_detected!("pclmulqdq") {
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            // SAFETY: this one has them.
            let crc = parts.iter().fold(u32::MAX, |crc, part| unsafe { x86::more(crc, part) });
            prop_assert_eq!(!crc, wanted);
        }
    }
}
