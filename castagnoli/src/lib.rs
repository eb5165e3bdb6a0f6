//! CRC-32C (Castagnoli, RFC 3720) of what undisk checks most: blocks of 4 KiB, and the few bytes that they are salted with.
//!
//! Owns which way is taken for which length on which processor, and nothing of what is checked. crc-fast does all that is
//! not one of the two: it is the fastest in the caches where there is AVX-512, but elsewhere it spends 1,900 to 2,100
//! instructions on a block (a quarter of them on joining its streams, anew for each call), and 230 on a seed. With the
//! processor's own instruction, three streams at once and the factors that join them known beforehand, a block takes 570.
//! Three streams, since the instruction takes a word a cycle and answers after three.

#![deny(unsafe_code)]

#[cfg(test)]
mod tests;

/// CRC-32C of some bytes.
pub fn crc32c(bytes: &[u8]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = x86::crc32c(bytes) {
        return crc;
    }
    by_library(bytes)
}

/// CRC-32C of some bytes, mixed with that of a seed: with where they belong, say.
pub fn crc32c_seeded<const N: usize>(bytes: &[u8], seed: &[u8; N]) -> u32 {
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = x86::crc32c_seeded(bytes, seed) {
        return crc;
    }
    crc32c(bytes) ^ crc32c(seed)
}

/// CRC-32C of some bytes, one part of them behind the other, and of so many zeros behind all of them, which need not lie
/// anywhere.
pub fn crc32c_of(parts: &[&[u8]], zeros: usize) -> u32 {
    const ZEROS: [u8; 4096] = [0; 4096];
    #[cfg(target_arch = "x86_64")]
    if let Some(crc) = x86::crc32c_of(parts, zeros) {
        return crc;
    }
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    for part in parts {
        digest.update(part);
    }
    let mut left = zeros;
    while left > 0 {
        let step = left.min(ZEROS.len());
        digest.update(&ZEROS[..step]);
        left -= step;
    }
    #[expect(clippy::cast_possible_truncation, reason = "a CRC-32 has 32 bits")]
    let crc = digest.finalize() as u32;
    crc
}

fn by_library(bytes: &[u8]) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "a CRC-32 has 32 bits")]
    let crc = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32;
    crc
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::sync::LazyLock;

    use std::arch::x86_64::{
        __m128i, _mm_clmulepi64_si128, _mm_crc32_u8, _mm_crc32_u32, _mm_crc32_u64, _mm_cvtsi64_si128,
        _mm_cvtsi128_si64, _mm_xor_si128,
    };

    const BLOCK: usize = 4096;
    /// Words of each of a block's streams; what is left of it are two words.
    const STREAM: usize = 170;
    /// Words of a stream that are taken in one turn of the loop.
    const TURN: usize = 34;
    /// Words of each stream of a piece of what is no whole block, and bytes of all three.
    const SHORT_STREAM: usize = 34;
    const PIECE: usize = 3 * SHORT_STREAM * 8;
    /// The longest that goes word by word: a word takes three cycles, and starting anything else takes about as long as this.
    const SHORT: usize = 128;

    /// What this processor does best.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Way {
        /// All of it is the library's.
        Library,
        /// What is short goes word by word, the rest is the library's.
        Words,
        /// What is longer goes in three streams.
        Streams,
    }

    /// Asked once: to ask for each of three features costs as much as a seed's checksum.
    static WAY: LazyLock<Way> = LazyLock::new(|| {
        let streams = is_x86_feature_detected!("pclmulqdq")
            && !(is_x86_feature_detected!("vpclmulqdq") && is_x86_feature_detected!("avx512vl"));
        match (is_x86_feature_detected!("sse4.2"), streams) {
            (false, _) => Way::Library,
            (true, false) => Way::Words,
            (true, true) => Way::Streams,
        }
    });

    /// As the crate's; `None`: the library does it as well or better.
    pub fn crc32c_seeded<const N: usize>(bytes: &[u8], seed: &[u8; N]) -> Option<u32> {
        if *WAY != Way::Streams && (*WAY == Way::Library || bytes.len() > SHORT) {
            return None;
        }
        #[expect(unsafe_code, reason = "instructions that not every processor has")]
        // SAFETY: this processor has SSE 4.2, and PCLMULQDQ where there is more than a few words.
        Some(unsafe { if bytes.len() > SHORT { seeded_more(bytes, seed) } else { seeded_words(bytes, seed) } })
    }

    // Both are inverted: mixed, that is gone.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub fn seeded_more<const N: usize>(bytes: &[u8], seed: &[u8; N]) -> u32 {
        more(u32::MAX, bytes) ^ half(words_more(u64::from(u32::MAX), seed))
    }

    #[target_feature(enable = "sse4.2")]
    pub fn seeded_words<const N: usize>(bytes: &[u8], seed: &[u8; N]) -> u32 {
        half(words_more(u64::from(u32::MAX), bytes) ^ words_more(u64::from(u32::MAX), seed))
    }

    /// As the crate's; `None`: the library does it as well or better.
    pub fn crc32c(bytes: &[u8]) -> Option<u32> {
        if *WAY == Way::Library {
            return None;
        }
        if bytes.len() <= SHORT {
            #[expect(unsafe_code, reason = "instructions that not every processor has")]
            // SAFETY: this processor has SSE 4.2.
            return Some(unsafe { words(bytes) });
        }
        crc32c_of(&[bytes], 0)
    }

    /// As the crate's; `None` likewise.
    pub fn crc32c_of(parts: &[&[u8]], zeros: usize) -> Option<u32> {
        if *WAY != Way::Streams {
            return None;
        }
        #[expect(unsafe_code, reason = "instructions that not every processor has")]
        // SAFETY: this processor has SSE 4.2 and PCLMULQDQ.
        Some(!unsafe { zeros_more(parts.iter().fold(u32::MAX, |crc, part| more(crc, part)), zeros) })
    }

    /// Powers that are known beforehand: of one word of zeros, two, four, up to a block.
    const POWERS: usize = 10;
    /// x to the power of the bits of 8, 16, 32 ... 4096 zero bytes, 33 less, as below.
    const OF_ZEROS: [u32; POWERS] = {
        let (mut powers, mut i) = ([0; POWERS], 0);
        while i < POWERS {
            powers[i] = power_of_x((64 << i) - 33);
            i += 1;
        }
        powers
    };

    /// What a checksum is, not yet inverted, with zeros behind: it times x to the power of their bits, modulo the polynomial.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub fn zeros_more(crc: u32, zeros: usize) -> u32 {
        if zeros == 0 {
            return crc;
        }
        let mut crc = words_more(u64::from(crc), &[0; 8][..zeros % 8]);
        let mut words = zeros / 8;
        // More than all of them count.
        while words >> POWERS > 0 {
            crc = times(crc, OF_ZEROS[POWERS - 1]);
            words -= 1 << (POWERS - 1);
        }
        for (i, power) in OF_ZEROS.iter().enumerate() {
            if words >> i & 1 == 1 {
                crc = times(crc, *power);
            }
        }
        half(crc)
    }

    /// A checksum times x to a power that is given 33 less, modulo the polynomial.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn times(crc: u64, power: u32) -> u64 {
        _mm_crc32_u64(0, _mm_cvtsi128_si64(product(crc, power)).cast_unsigned())
    }

    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn product(crc: u64, power: u32) -> __m128i {
        let crc = _mm_cvtsi64_si128(crc.cast_signed());
        _mm_clmulepi64_si128::<0>(crc, _mm_cvtsi64_si128(u64::from(power).cast_signed()))
    }

    /// What a checksum is, not yet inverted, with these bytes behind those that it is of.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    pub fn more(crc: u32, bytes: &[u8]) -> u32 {
        let (blocks, rest) = bytes.as_chunks::<BLOCK>();
        let mut crc = u64::from(crc);
        for block in blocks {
            crc = three_streams::<STREAM, TURN>(crc, block);
        }
        let (pieces, rest) = rest.as_chunks::<PIECE>();
        for piece in pieces {
            crc = three_streams::<SHORT_STREAM, TURN>(crc, piece);
        }
        half(words_more(crc, rest))
    }

    #[target_feature(enable = "sse4.2")]
    pub fn words(bytes: &[u8]) -> u32 {
        !half(words_more(u64::from(u32::MAX), bytes))
    }

    #[inline]
    #[target_feature(enable = "sse4.2")]
    fn words_more(crc: u64, bytes: &[u8]) -> u64 {
        let (words, rest) = bytes.as_chunks::<8>();
        let mut crc = crc;
        for word in words {
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
        }
        let mut crc = half(crc);
        let (fours, rest) = rest.as_chunks::<4>();
        for four in fours {
            crc = _mm_crc32_u32(crc, u32::from_le_bytes(*four));
        }
        for byte in rest {
            crc = _mm_crc32_u8(crc, *byte);
        }
        u64::from(crc)
    }

    /// The streams' checksums are those of what they would be if they went on with zeros to the third one's end, and those
    /// are multiples of them: by x to the power of the bits between, modulo the polynomial.
    /// `STREAM`: words of each, a multiple of `TURN`; what is behind them goes word by word.
    #[target_feature(enable = "sse4.2,pclmulqdq")]
    fn three_streams<const STREAM: usize, const TURN: usize>(crc: u64, bytes: &[u8]) -> u64 {
        let (to_the_second, to_the_first) = const { (power_of_x(STREAM * 64 - 33), power_of_x(2 * STREAM * 64 - 33)) };
        const { assert!(STREAM.is_multiple_of(TURN)) };
        let (words, _) = bytes.as_chunks::<8>();
        let (first, others) = words.split_at(STREAM);
        let (second, others) = others.split_at(STREAM);
        let (third, rest) = others.split_at(STREAM);
        let (first, second, third) =
            (first.as_chunks::<TURN>().0, second.as_chunks::<TURN>().0, third.as_chunks::<TURN>().0);
        let (mut one, mut two, mut three) = (crc, 0, 0);
        for ((a, b), c) in first.iter().zip(second).zip(third) {
            for ((a, b), c) in a.iter().zip(b).zip(c) {
                one = _mm_crc32_u64(one, u64::from_le_bytes(*a));
                two = _mm_crc32_u64(two, u64::from_le_bytes(*b));
                three = _mm_crc32_u64(three, u64::from_le_bytes(*c));
            }
        }
        // The product has 64 bits, and the instruction takes it modulo the polynomial, times x^32: with the 1 that a product
        // of reflected numbers is off, that is the 33 above.
        let product = _mm_xor_si128(product(one, to_the_first), product(two, to_the_second));
        let mut crc = three ^ _mm_crc32_u64(0, _mm_cvtsi128_si64(product).cast_unsigned());
        for word in rest {
            crc = _mm_crc32_u64(crc, u64::from_le_bytes(*word));
        }
        crc
    }

    /// The instruction's result: its upper half is zero.
    fn half(crc: u64) -> u32 {
        #[expect(clippy::cast_possible_truncation, reason = "a CRC-32 has 32 bits")]
        let crc = crc as u32;
        crc
    }

    /// x to that power modulo Castagnoli's polynomial, lowest power in the highest bit.
    const fn power_of_x(power: usize) -> u32 {
        const POLYNOMIAL: u32 = 0x82F6_3B78;
        let (mut value, mut done) = (1 << 31, 0);
        while done < power {
            value = if value & 1 == 1 { value >> 1 ^ POLYNOMIAL } else { value >> 1 };
            done += 1;
        }
        value
    }
}
