//! Every message comes back from its frame; cut, flipped, contradictory or invented bytes are refused.

use super::frame::{FRAME_BYTES_MAX, FRAME_HEAD_BYTES, FrameError, Message, frame_head};
use super::*;
use proptest::prelude::*;

fn volume() -> impl Strategy<Value = Incarnation> {
    any::<u32>().prop_map(Incarnation::new)
}

fn session() -> impl Strategy<Value = Session> {
    any::<u64>().prop_map(Session::new)
}

fn seq() -> impl Strategy<Value = StreamSeq> {
    any::<u64>().prop_map(StreamSeq::new)
}

fn text() -> impl Strategy<Value = String> {
    "\\PC{0,30}"
}

fn extent() -> impl Strategy<Value = Extent> {
    (0..1u64 << 54, 1..1u64 << 54).prop_filter_map("not an extent", |(start, count)| Extent::new(start, count))
}

/// An extent of content that fits a frame.
fn small() -> impl Strategy<Value = Extent> {
    (0..1u64 << 54, 1..9u64).prop_filter_map("not an extent", |(start, count)| Extent::new(start, count))
}

fn content(extent: Extent, seed: u8) -> Bytes {
    Bytes(vec![seed; usize::try_from(extent.bytes()).unwrap()])
}

fn extents() -> impl Strategy<Value = Vec<VolumeExtent>> {
    prop::collection::vec((volume(), extent()).prop_map(|(volume, extent)| VolumeExtent { volume, extent }), 0..9)
}

fn members() -> impl Strategy<Value = Vec<Member>> {
    let member = (any::<[u8; 16]>(), volume(), any::<bool>());
    prop::collection::vec(
        member.prop_map(|(id, volume, joined)| Member { id: VolumeId::from_bytes(id), volume, joined }),
        0..5,
    )
}

fn continuation() -> impl Strategy<Value = Continuation> {
    prop_oneof![
        (session(), seq(), seq()).prop_map(|(session, laid, released)| Continuation::Same { session, laid, released }),
        (session(), seq()).prop_map(|(session, next)| Continuation::CleanAfter { session, next }),
        text().prop_map(|reason| Continuation::Lost { reason }),
    ]
}

fn area(blocks: std::ops::RangeInclusive<u32>) -> impl Strategy<Value = (u64, u32)> {
    (0..1u64 << 40, blocks).prop_map(|(at, len)| (at * 4096, len * 4096))
}

fn to_appliance() -> impl Strategy<Value = ToAppliance> {
    use ToAppliance as T;
    prop_oneof![
        (
            any::<([u8; 16], [u8; 16])>(),
            any::<u64>(),
            continuation(),
            (text(), text()),
            prop::option::of((session(), seq()))
        )
            .prop_map(|((group, splitter), life, continuation, (name, outbox), relied)| {
                let (group, splitter) = (GroupId::from_bytes(group), SplitterId::from_bytes(splitter));
                let life = SplitterIncarnation::new(life);
                let relied = relied.map(|(session, next)| Relied { session, next });
                T::Open { version: VERSION, group, splitter, name, life, continuation, outbox, relied }
            }),
        (session(), seq(), area(1..=16), area(0..=1024)).prop_map(
            |(session, first, (header_at, header_len), (payload_at, payload_len))| T::Chunk {
                session,
                first,
                header_at,
                header_len,
                payload_at,
                payload_len
            }
        ),
        volume().prop_map(|volume| T::SyncBegin { volume }),
        (volume(), small(), any::<u8>()).prop_map(|(volume, extent, seed)| T::SyncData {
            volume,
            extent,
            content: content(extent, seed)
        }),
        (volume(), extent()).prop_map(|(volume, extent)| T::SyncZero { volume, extent }),
        volume().prop_map(|volume| T::SyncEnd { volume }),
        (any::<u64>(), text()).prop_map(|(ticket, reason)| T::BookmarkRefused { ticket, reason }),
        any::<u64>().prop_map(|id| T::RollbackReady { id }),
        (any::<u64>(), text()).prop_map(|(id, reason)| T::RollbackRefused { id, reason }),
        (volume(), small()).prop_map(|(volume, extent)| T::RestoreRead { volume, extent }),
        (any::<u64>(), extents()).prop_map(|(id, extents)| T::RestoreDone { id, extents }),
        (session(), text()).prop_map(|(session, reason)| T::Lost { session, reason }),
        Just(T::Close {}),
        Just(T::Alive {}),
        (session(), volume(), small(), seq()).prop_map(|(session, volume, extent, at)| T::VerifyRead {
            session,
            volume,
            extent,
            at
        }),
        (any::<u64>(), any::<u64>())
            .prop_map(|(barrier, label)| T::Quiesced { barrier, label: Label::from_nanos(label) }),
        (any::<u64>(), text()).prop_map(|(barrier, reason)| T::BarrierRefused { barrier, reason }),
    ]
}

/// Pieces that cover an extent, in order.
fn pieces() -> impl Strategy<Value = (Extent, Vec<Piece>)> {
    (0..1u64 << 50, prop::collection::vec((1..5u64, 0..3u8), 1..8)).prop_map(|(start, runs)| {
        let mut at = start;
        let mut pieces = Vec::new();
        for (count, kind) in runs {
            let extent = Extent::new(at, count).unwrap();
            let content = match kind {
                0 => Content::Data { bytes: content(extent, 7) },
                1 => Content::Zero {},
                _ => Content::Hole {},
            };
            pieces.push(Piece { extent, content });
            at = extent.end();
        }
        (Extent::between(start, at).unwrap(), pieces)
    })
}

fn to_splitter() -> impl Strategy<Value = ToSplitter> {
    use ToSplitter as T;
    let state = (any::<bool>(), any::<u64>(), members(), extents(), any::<Option<u64>>());
    prop_oneof![
        (any::<[u8; 16]>(), session(), seq(), state).prop_map(
            |(journal, session, expected, (consistent, label, members, indeterminate, restoring))| {
                let (journal, label) = (JournalId::from_bytes(journal), Label::from_nanos(label));
                T::Granted { journal, session, expected, consistent, label, members, indeterminate, restoring }
            }
        ),
        (any::<bool>(), text()).prop_map(|(retry, reason)| T::Refused { retry, reason }),
        (session(), seq(), seq(), seq()).prop_map(|(session, received, durable, committed)| T::Ack {
            session,
            received,
            durable,
            committed
        }),
        (session(), seq()).prop_map(|(session, expected)| T::Nak { session, expected }),
        (volume(), any::<u64>()).prop_map(|(volume, bytes)| T::SyncAck { volume, bytes }),
        volume().prop_map(|volume| T::Joined { volume }),
        Just(T::Forget {}),
        (any::<u64>(), text()).prop_map(|(ticket, name)| T::LayBookmark { ticket, name }),
        (any::<u64>(), any::<u64>(), text(), any::<Option<u64>>())
            .prop_map(|(id, ticket, name, barrier)| T::RollbackPrepare { id, ticket, name, barrier }),
        (any::<u64>(), any::<u32>()).prop_map(|(barrier, hold_ms)| T::Quiesce { barrier, hold_ms }),
        (any::<[u64; 3]>(), prop::collection::btree_set(any::<u64>(), 2..=STREAMS_MAX), text()).prop_map(
            |([barrier, ticket, label], sessions, name)| T::PlaceBarrier {
                barrier,
                ticket,
                sessions: sessions.into_iter().map(Session::new).collect(),
                name,
                label: Label::from_nanos(label)
            }
        ),
        any::<u64>().prop_map(|barrier| T::Release { barrier }),
        any::<u64>().prop_map(|id| T::RollbackAbort { id }),
        (any::<u64>(), extents(), any::<bool>()).prop_map(|(id, extents, last)| T::Restore { id, extents, last }),
        (volume(), pieces()).prop_map(|(volume, (extent, pieces))| T::RestoreData {
            volume,
            extent,
            pieces,
            trouble: String::new()
        }),
        (volume(), extent(), text().prop_filter("no trouble", |t| !t.is_empty()))
            .prop_map(|(volume, extent, trouble)| T::RestoreData { volume, extent, pieces: Vec::new(), trouble }),
        members().prop_map(|members| T::Members { members }),
        Just(T::Alive {}),
        (
            volume(),
            extent(),
            seq(),
            prop_oneof![
                any::<[u8; 32]>().prop_map(|bytes| (Some(Digest::from_bytes(bytes)), String::new())),
                text().prop_filter("no trouble", |t| !t.is_empty()).prop_map(|trouble| (None, trouble)),
            ]
        )
            .prop_map(|(volume, extent, at, (digest, trouble))| T::VerifyHash {
                volume,
                extent,
                at,
                digest,
                trouble
            }),
    ]
}

/// The body of a frame, taken through its head as a reader of a socket does.
fn opened(frame: &[u8]) -> (&[u8], u32) {
    let (head, body) = frame.split_first_chunk::<FRAME_HEAD_BYTES>().unwrap();
    let (len, crc) = frame_head(*head).unwrap();
    assert_eq!(len, body.len());
    (body, crc)
}

/// Whether every prefix of a frame's body, and the body with one byte more, is refused even with a right checksum.
fn refuses_other_lengths<M: Message>(body: &[u8]) -> bool {
    let longer = [body, &[0]].concat();
    (0..body.len())
        .step_by(1 + body.len() / 64)
        .map(|cut| &body[..cut])
        .chain([longer.as_slice()])
        .all(|bytes| M::decode(bytes, crate::checksum::crc32c(bytes)).is_err_and(|why| why != FrameError::Checksum))
}

proptest! {
    #[test]
    fn what_a_splitter_says_comes_back(message in to_appliance(), flip in any::<prop::sample::Index>()) {
        let frame = message.encode();
        let (body, crc) = opened(&frame);
        prop_assert_eq!(ToAppliance::decode(body, crc), Ok(message));
        prop_assert!(refuses_other_lengths::<ToAppliance>(body));
        let mut flipped = body.to_vec();
        let bit = flip.index(body.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(ToAppliance::decode(&flipped, crc), Err(FrameError::Checksum));
    }

    #[test]
    fn what_an_appliance_says_comes_back(message in to_splitter(), flip in any::<prop::sample::Index>()) {
        let frame = message.encode();
        let (body, crc) = opened(&frame);
        prop_assert_eq!(ToSplitter::decode(body, crc), Ok(message));
        prop_assert!(refuses_other_lengths::<ToSplitter>(body));
        let mut flipped = body.to_vec();
        let bit = flip.index(body.len() * 8);
        flipped[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(ToSplitter::decode(&flipped, crc), Err(FrameError::Checksum));
    }

    #[test]
    fn invented_bytes_never_panic_and_what_is_accepted_has_one_spelling(
        body in prop::collection::vec(prop_oneof![0..20u8, any::<u8>()], 0..200),
    ) {
        let crc = crate::checksum::crc32c(&body);
        if let Ok(message) = ToAppliance::decode(&body, crc) {
            prop_assert_eq!(&message.encode()[FRAME_HEAD_BYTES..], &body);
        }
        if let Ok(message) = ToSplitter::decode(&body, crc) {
            prop_assert_eq!(&message.encode()[FRAME_HEAD_BYTES..], &body);
        }
    }
}

#[test]
fn a_frame_longer_than_any_is_refused_by_its_head() {
    let longest = u32::try_from(FRAME_BYTES_MAX).unwrap();
    let head = |len: u32| [len.to_le_bytes(), [1, 2, 3, 4]].concat().try_into().unwrap();
    assert_eq!(frame_head(head(longest)), Ok((FRAME_BYTES_MAX, 0x0403_0201)));
    assert_eq!(frame_head(head(longest + 1)), Err(FrameError::TooLong(longest + 1)));
    assert_eq!(frame_head([0xff; 8]), Err(FrameError::TooLong(u32::MAX)));
}

#[test]
fn the_largest_messages_fit_a_frame() {
    let extent = Extent::new(0, CONTENT_BYTES_MAX as u64 / 512).unwrap();
    let volume = Incarnation::new(1);
    let most = ToAppliance::SyncData { volume, extent, content: Bytes(vec![1; CONTENT_BYTES_MAX]) };
    assert!(most.encode().len() <= FRAME_BYTES_MAX);
    // The worst to restore: every other sector is a hole.
    let pieces = (0..extent.count().get())
        .map(|s| {
            let content = if s % 2 == 0 { Content::Data { bytes: Bytes(vec![1; 512]) } } else { Content::Hole {} };
            Piece { extent: Extent::new(s, 1).unwrap(), content }
        })
        .collect();
    let worst = ToSplitter::RestoreData { volume, extent, pieces, trouble: String::new() };
    assert!(worst.encode().len() <= FRAME_BYTES_MAX);
    let owed = vec![VolumeExtent { volume, extent }; RESTORE_EXTENTS_MAX];
    assert!(ToSplitter::Restore { id: 1, extents: owed, last: true }.encode().len() <= FRAME_BYTES_MAX);
}

/// The frame's body of a message that its own `encode` would not let out.
fn smuggled(message: &impl Wire) -> (Vec<u8>, u32) {
    let mut body = Vec::new();
    message.put(&mut body);
    let crc = crate::checksum::crc32c(&body);
    (body, crc)
}

#[test]
fn messages_whose_fields_contradict_each_other_are_refused() {
    let volume = Incarnation::new(1);
    let extent = Extent::new(8, 2).unwrap();
    let chunk = |header_at, header_len, payload_at, payload_len| {
        let (session, first) = (Session::FIRST, StreamSeq::FIRST);
        ToAppliance::Chunk { session, first, header_at, header_len, payload_at, payload_len }
    };
    let long = Extent::new(0, CONTENT_BYTES_MAX as u64 / 512 + 1).unwrap();
    let contradictions = [
        ToAppliance::SyncData { volume, extent, content: Bytes(vec![0; 512]) },
        ToAppliance::SyncData { volume, extent: long, content: content(long, 0) },
        ToAppliance::RestoreRead { volume, extent: Extent::new(0, RESTORE_BYTES_MAX / 512 + 1).unwrap() },
        ToAppliance::VerifyRead { session: Session::FIRST, volume, extent: long, at: StreamSeq::FIRST },
        chunk(4096, 0, 8192, 0),
        chunk(512, 4096, 8192, 4096),
        chunk(4096, 4095, 8192, 4096),
        chunk(4096, 68 * 1024, 1 << 20, 4096),
        chunk(4096, 4096, 8191, 4096),
        chunk(4096, 4096, 8192, 4096 * 1025),
        chunk(u64::MAX - 4095, 4096, 8192, 4096),
        chunk(4096, 4096, u64::MAX - 4095, 8192),
    ];
    for message in contradictions {
        let (body, crc) = smuggled(&message);
        assert_eq!(ToAppliance::decode(&body, crc), Err(FrameError::Malformed), "{message:?}");
    }
    let data = |start, count, bytes: usize| Piece {
        extent: Extent::new(start, count).unwrap(),
        content: Content::Data { bytes: Bytes(vec![0; bytes]) },
    };
    let answer = |pieces, trouble: &str| ToSplitter::RestoreData { volume, extent, pieces, trouble: trouble.into() };
    let contradictions = [
        answer(vec![], ""),
        answer(vec![data(8, 1, 512)], ""),
        answer(vec![data(8, 3, 1536)], ""),
        answer(vec![data(9, 1, 512), data(8, 1, 512)], ""),
        answer(vec![data(8, 2, 512)], ""),
        answer(vec![data(9, 1, 512), data(9, 1, 512)], ""),
        answer(vec![data(8, 2, 1024)], "but unreadable"),
        ToSplitter::LayBookmark { ticket: 1, name: "n".repeat(NAME_BYTES_MAX + 1) },
        ToSplitter::RollbackPrepare { id: 1, ticket: 1, barrier: None, name: "n".repeat(NAME_BYTES_MAX + 1) },
        ToSplitter::Restore {
            id: 1,
            extents: vec![VolumeExtent { volume, extent }; RESTORE_EXTENTS_MAX + 1],
            last: true,
        },
    ];
    for message in contradictions {
        let (body, crc) = smuggled(&message);
        assert_eq!(ToSplitter::decode(&body, crc), Err(FrameError::Malformed), "{message:?}");
    }
}

#[test]
fn a_truth_that_is_neither_is_refused() {
    let (mut body, _) = smuggled(&ToSplitter::Refused { retry: true, reason: String::new() });
    assert_eq!(body[1], 1);
    body[1] = 2;
    assert_eq!(ToSplitter::decode(&body, crate::checksum::crc32c(&body)), Err(FrameError::Malformed));
}

#[test]
fn an_open_of_another_version_is_refused_with_its_number() {
    // A later release's OPEN has a field that this one does not know.
    let mut body = vec![1];
    body.extend_from_slice(&7u16.to_le_bytes());
    body.extend_from_slice(&[9; 60]);
    assert_eq!(ToAppliance::decode(&body, crate::checksum::crc32c(&body)), Err(FrameError::OtherVersion(7)));
    // One that reads like ours is handed over, for an answer that names both versions.
    let open = |version| ToAppliance::Open {
        version,
        group: GroupId::from_bytes([1; 16]),
        splitter: SplitterId::from_bytes([2; 16]),
        name: "east".into(),
        life: SplitterIncarnation::FIRST,
        continuation: Continuation::Lost { reason: "first".into() },
        outbox: "/run/undisk/outbox".into(),
        relied: None,
    };
    let frame = open(VERSION + 1).encode();
    let (body, crc) = opened(&frame);
    assert_eq!(ToAppliance::decode(body, crc), Ok(open(VERSION + 1)));
    // Our own version cut short is simply malformed.
    let frame = open(VERSION).encode();
    let (body, _) = opened(&frame);
    let cut = &body[..20];
    assert_eq!(ToAppliance::decode(cut, crate::checksum::crc32c(cut)), Err(FrameError::Malformed));
}
