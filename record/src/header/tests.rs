//! A journal header is read back as it was written; a flipped bit, another journal or nonsense is no header.

use super::*;
use crate::ids::SplitterId;
use crate::position::{Session, StreamSeq};
use crate::streams::StreamAt;
use proptest::prelude::*;

fn header() -> impl Strategy<Value = ChunkHeader> {
    let numbers = (any::<[u8; 16]>(), any::<u64>(), 1..=u64::MAX, any::<u64>(), any::<u64>());
    let body = (any::<u64>(), any::<u32>(), 1..=16u32, 0..=1024u32, any::<u32>());
    let place = (any::<u64>(), any::<u64>(), any::<u64>(), any::<u64>(), any::<u32>());
    (numbers, body, place).prop_map(
        |(
            (journal, epoch, number, a, b),
            (committed, previous, header, payload, digest),
            (session, next, label, offset, segment),
        )| {
            ChunkHeader {
                journal: JournalId::from_bytes(journal),
                epoch: JournalEpoch::new(epoch),
                number: ChunkNumber::new(number),
                first_position: Position::new(a.min(b)),
                next_position: Position::new(a.max(b)),
                committed: ChunkNumber::new(committed % number),
                previous,
                body_header_len: header * 4096,
                payload_len: payload * 4096,
                body_digest: digest,
                streams: streams(session, next),
                label: Label::from_nanos(label),
                offset,
                segment,
            }
        },
    )
}

fn streams(session: u64, next: u64) -> Streams {
    let splitter = |n| SplitterId::from_bytes([n; 16]);
    let (session, next) = (Session::new(session), StreamSeq::new(next));
    let mut streams = Streams::one(StreamAt { splitter: splitter(4), session, next });
    streams.set(StreamAt { splitter: splitter(3), session: Session::new(1), next: StreamSeq::FIRST });
    streams
}

fn sample() -> ChunkHeader {
    ChunkHeader {
        journal: JournalId::from_bytes(*b"journal of tests"),
        epoch: JournalEpoch::new(3),
        number: ChunkNumber::new(12),
        first_position: Position::new(40),
        next_position: Position::new(44),
        committed: ChunkNumber::new(11),
        previous: 0xdead_beef,
        body_header_len: 4096,
        payload_len: 8192,
        body_digest: 0x0bad_cafe,
        streams: streams(2, 31),
        label: Label::from_nanos(1_795_341_600_000_000_000),
        offset: 1 << 20,
        segment: 2,
    }
}

/// `bytes` with some of them changed and the checksum made right again: what only a broken writer makes.
fn forged(at: usize, with: &[u8]) -> [u8; HEADER_BYTES] {
    let (mut bytes, _) = sample().encode();
    bytes[at..at + with.len()].copy_from_slice(with);
    let mut journal = [0; 16];
    journal.copy_from_slice(&bytes[8..24]);
    let crc = Salt::of(JournalId::from_bytes(journal)).header(&bytes[..CRC_AT]);
    bytes[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
    bytes
}

proptest! {
    #[test]
    fn a_header_comes_back(header in header()) {
        let (bytes, crc) = header.encode();
        prop_assert_eq!(ChunkHeader::decode(&bytes, header.journal), Some((header, crc)));
        prop_assert_eq!(
            header.disk_bytes(),
            4096 + u64::from(header.body_header_len) + u64::from(header.payload_len)
        );
    }

    #[test]
    fn a_header_of_another_journal_is_none(header in header(), other in any::<[u8; 16]>()) {
        prop_assume!(other != header.journal.to_bytes());
        let other = JournalId::from_bytes(other);
        let (mut bytes, _) = header.encode();
        prop_assert_eq!(ChunkHeader::decode(&bytes, other), None);
        // Nor does it become one by carrying the other's name: the checksum has the journal's salt.
        bytes[8..24].copy_from_slice(&other.to_bytes());
        prop_assert_eq!(ChunkHeader::decode(&bytes, other), None);
    }
}

#[test]
fn a_journal_that_happens_to_have_the_same_salt_is_another_journal() {
    // The generator polynomial of CRC-32C, as bytes: added anywhere, it changes no checksum.
    let mut other = sample().journal.to_bytes();
    for (byte, with) in other.iter_mut().zip([0xf1, 0x76, 0xec, 0x05, 0x01]) {
        *byte ^= with;
    }
    let other = JournalId::from_bytes(other);
    assert_eq!(Salt::of(other), Salt::of(sample().journal));
    assert_eq!(ChunkHeader::decode(&sample().encode().0, other), None);
}

#[test]
fn every_flipped_bit_of_a_header_is_refused() {
    let header = sample();
    let (good, _) = header.encode();
    for bit in 0..good.len() * 8 {
        let mut bad = good;
        bad[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(ChunkHeader::decode(&bad, header.journal), None, "bit {bit}");
    }
}

#[test]
fn a_header_in_another_place_says_so() {
    let header = sample();
    assert!(header.stands_at(2, 1 << 20));
    assert!(!header.stands_at(3, 1 << 20));
    assert!(!header.stands_at(2, (1 << 20) + 4096));
}

#[test]
fn a_header_cut_short_is_none() {
    let header = sample();
    let (good, _) = header.encode();
    for cut in [0, 4, 115, CRC_AT, HEADER_BYTES - 1] {
        assert_eq!(ChunkHeader::decode(&good[..cut], header.journal), None, "{cut} bytes");
    }
}

#[test]
fn a_well_sealed_header_that_makes_no_sense_is_none() {
    let journal = sample().journal;
    assert!(ChunkHeader::decode(&forged(32, &12u64.to_le_bytes()), journal).is_some(), "forging changes nothing else");
    let nonsense: [(usize, &[u8], &str); 10] = [
        (4, &[2], "another version"),
        (6, &[1], "reserved bytes behind the version"),
        (48, &39u64.to_le_bytes(), "positions that run backwards"),
        (56, &12u64.to_le_bytes(), "committed by itself"),
        (68, &0u32.to_le_bytes(), "a body without a header area"),
        (68, &(68 * 1024u32).to_le_bytes(), "a header area longer than any"),
        (68, &4097u32.to_le_bytes(), "a header area of odd length"),
        (72, &(4096 * 1025u32).to_le_bytes(), "a payload area longer than any"),
        (FIELDS_END, &[1], "reserved bytes behind the fields"),
        (100, &[1], "reserved bytes before the streams"),
    ];
    for (at, with, why) in nonsense {
        assert_eq!(ChunkHeader::decode(&forged(at, with), journal), None, "{why}");
    }
}
