//! One of everything that `record` writes, always the same: what the frozen files and the fuzz corpus were made of.

use record::build::{BodyBuilder, BodyBytes};
use record::chunk::{Body, Descriptor};
use record::conversation::{
    Bytes, Content, Continuation, Member, Piece, Relied, ToAppliance, ToSplitter, VERSION, VolumeExtent,
};
use record::digest::Digest;
use record::geometry::{Extent, LogicalBlock, SectorCount};
use record::header::ChunkHeader;
use record::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use record::member::{BarrierNote, BookmarkNote, JoinNote, RollbackNote, SessionNote};
use record::op::{Op, OpFlags};
use record::position::{ChunkNumber, JournalEpoch, Label, Position, Session, SplitterIncarnation, StreamSeq};
use record::streams::{StreamAt, Streams};

pub const JOURNAL: JournalId = JournalId::from_bytes(*b"journal of tests");
const GROUP: GroupId = GroupId::from_bytes(*b"the group itself");
const VOLUME: VolumeId = VolumeId::from_bytes(*b"a volume, number");
const SPLITTER: SplitterId = SplitterId::from_bytes(*b"the splitter, a.");
const OTHER: SplitterId = SplitterId::from_bytes(*b"another splitter");
const FIRST: Incarnation = Incarnation::new(1);
const SECOND: Incarnation = Incarnation::new(2);
const SESSION: Session = Session::new(5);

pub fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).expect("an extent of a sample")
}

/// `len` bytes of which no two blocks are alike.
pub fn data(len: usize, seed: u8) -> Vec<u8> {
    (0..len).map(usize::to_le_bytes).map(|[low, high, ..]| low.wrapping_mul(31).wrapping_add(high) ^ seed).collect()
}

pub fn notes() -> Vec<(&'static str, Op, Vec<u8>)> {
    let join = JoinNote {
        volume: VOLUME,
        incarnation: SECOND,
        size: SectorCount::new(2_097_152).expect("1 GiB"),
        block: LogicalBlock::SECTOR,
        splitter: SPLITTER,
        name: "database".into(),
    };
    let session = SessionNote { session: SESSION, splitter: SPLITTER, life: SplitterIncarnation::new(9), clean: false };
    let barrier =
        BarrierNote { id: 6, ticket: 79, sessions: vec![Session::new(4), SESSION], name: "both-hosts".into() };
    vec![
        ("join", Op::Join, join.encode()),
        ("bookmark", Op::Bookmark, BookmarkNote { ticket: 77, name: "before-the-upgrade".into() }.encode()),
        ("rollback", Op::Rollback, RollbackNote { target: Position::new(40), id: 3 }.encode()),
        ("session", Op::SessionGranted, session.encode()),
        ("barrier", Op::Barrier, barrier.encode()),
    ]
}

/// The records of the chunk: every operation of version 1, every flag, every way a payload can lie.
pub fn records() -> Vec<(Descriptor, Vec<u8>)> {
    let label = |n: u64| Label::from_nanos(1_795_341_600_000_000_000 + n);
    let bare = |n: u64, op, volume, extent| Descriptor::bare(op, volume, extent, label(n));
    let write = |n, volume, start, count: usize, seed| {
        (bare(n, Op::Write, volume, Some(extent(start, count as u64))), data(count * 512, seed))
    };
    let mut records = vec![
        write(0, FIRST, 63, 1, 1),
        write(1, FIRST, 64, 16, 2),
        write(2, SECOND, 64, 16, 2),
        write(3, SECOND, 1000, 11, 3),
        (bare(4, Op::Punch, FIRST, Some(extent(0, 1 << 31))), vec![]),
        (bare(5, Op::Zero, FIRST, Some(extent(7, 3))), vec![]),
        (bare(6, Op::Flush, Incarnation::NONE, None), vec![]),
        (bare(7, Op::Noop, Incarnation::NONE, None), vec![]),
        (bare(8, Op::Indeterminate, FIRST, Some(extent(64, 16))), vec![]),
        (bare(9, Op::ResyncBegin, Incarnation::NONE, None), vec![]),
        (bare(10, Op::ResyncEnd, Incarnation::NONE, None), vec![]),
        (bare(11, Op::Joined, SECOND, None), vec![]),
        (bare(12, Op::Leave, SECOND, None), vec![]),
        (bare(13, Op::Recovery, Incarnation::NONE, None), vec![]),
        (bare(14, Op::Commit, Incarnation::NONE, None), vec![]),
        (bare(15, Op::BookmarkRemoved, Incarnation::NONE, None), BookmarkNote { ticket: 0, name: "x".into() }.encode()),
        (bare(16, Op::SessionLost, Incarnation::NONE, None), notes()[3].2.clone()),
    ];
    records
        .extend(notes().into_iter().zip(17..).map(|((_, op, note), n)| (bare(n, op, Incarnation::NONE, None), note)));
    records[0].0.flags = OpFlags::FUA;
    records[3].0.flags = OpFlags::RESYNC;
    records[5].0.flags = OpFlags::NOUNMAP;
    records[1].0.wall_minus_label_ms = -1500;
    records
}

/// The chunk's body.
pub fn body() -> BodyBytes {
    let mut builder = BodyBuilder::new(JOURNAL, SESSION, StreamSeq::new(100));
    for (descriptor, payload) in records() {
        assert!(builder.push(descriptor, &payload), "the sample fits a chunk");
    }
    builder.finish()
}

/// The journal header in front of the chunk.
pub fn header() -> ChunkHeader {
    let laid = body();
    let body = Body::decode(&laid.header, JOURNAL).expect("the sample's body is right");
    ChunkHeader {
        journal: JOURNAL,
        epoch: JournalEpoch::new(3),
        number: ChunkNumber::new(12),
        first_position: Position::new(41),
        next_position: Position::new(41 + u64::from(body.header.records)),
        committed: ChunkNumber::new(10),
        previous: 0x0bad_cafe,
        body_header_len: body.header.header_len,
        payload_len: body.header.payload_len,
        body_digest: body.digest,
        streams: streams(body.next_seq()),
        label: Label::from_nanos(1_795_341_600_000_000_020),
        offset: 1 << 20,
        segment: 2,
    }
}

fn streams(next: StreamSeq) -> Streams {
    let mut streams = Streams::one(StreamAt { splitter: SPLITTER, session: SESSION, next });
    streams.set(StreamAt { splitter: OTHER, session: Session::new(4), next: StreamSeq::new(7) });
    streams
}

/// Every message of a splitter, every variant of its fields.
pub fn to_appliance() -> Vec<ToAppliance> {
    use ToAppliance as T;
    let open = |continuation| T::Open {
        version: VERSION,
        group: GROUP,
        splitter: SPLITTER,
        name: "east".into(),
        life: SplitterIncarnation::new(9),
        continuation,
        outbox: "/run/undisk/outbox".into(),
        relied: Some(Relied { session: SESSION, next: StreamSeq::new(100) }),
    };
    vec![
        open(Continuation::Same { session: SESSION, laid: StreamSeq::new(121), released: StreamSeq::new(100) }),
        open(Continuation::CleanAfter { session: SESSION, next: StreamSeq::new(121) }),
        open(Continuation::Lost { reason: "the outbox is of another boot".into() }),
        T::Chunk {
            session: SESSION,
            first: StreamSeq::new(100),
            header_at: 1 << 20,
            header_len: 4096,
            payload_at: 2 << 20,
            payload_len: 32768,
        },
        T::SyncBegin { volume: SECOND },
        T::SyncData { volume: SECOND, extent: extent(8, 1), content: Bytes(data(512, 4)) },
        T::SyncZero { volume: SECOND, extent: extent(9, 1 << 30) },
        T::SyncEnd { volume: SECOND },
        T::BookmarkRefused { ticket: 77, reason: "the group is paused".into() },
        T::RollbackReady { id: 3 },
        T::RollbackRefused { id: 3, reason: "a volume is mounted".into() },
        T::RestoreRead { volume: FIRST, extent: extent(64, 16) },
        T::RestoreDone {
            id: 3,
            extents: vec![
                VolumeExtent { volume: FIRST, extent: extent(64, 16) },
                VolumeExtent { volume: SECOND, extent: extent(7, 3) },
            ],
        },
        T::Lost { session: SESSION, reason: "the outbox was full".into() },
        T::Close {},
        T::Alive {},
        T::VerifyRead { session: SESSION, volume: FIRST, extent: extent(64, 16), at: StreamSeq::new(121) },
        T::Quiesced { barrier: 6, label: Label::from_nanos(1_795_341_600_000_000_020) },
        T::BarrierRefused { barrier: 6, reason: "a resynchronisation is running".into() },
        T::HealData { volume: FIRST, extent: extent(64, 1), content: Bytes(data(512, 4)), trouble: String::new() },
        T::HealData {
            volume: FIRST,
            extent: extent(64, 16),
            content: Bytes(vec![]),
            trouble: "it cannot be read".into(),
        },
    ]
}

/// Every message of an appliance, every variant of its fields.
pub fn to_splitter() -> Vec<ToSplitter> {
    use ToSplitter as T;
    let members = vec![
        Member { id: VOLUME, volume: SECOND, joined: true },
        Member { id: VolumeId::from_bytes([7; 16]), volume: FIRST, joined: false },
    ];
    vec![
        T::Granted {
            journal: JOURNAL,
            session: SESSION,
            expected: StreamSeq::new(100),
            consistent: true,
            label: Label::from_nanos(1_795_341_600_000_000_000),
            members: members.clone(),
            indeterminate: vec![VolumeExtent { volume: FIRST, extent: extent(64, 16) }],
            restoring: Some(3),
        },
        T::Refused { retry: true, reason: "the group is being removed".into() },
        T::Ack {
            session: SESSION,
            received: StreamSeq::new(121),
            durable: StreamSeq::new(121),
            committed: StreamSeq::new(100),
        },
        T::Nak { session: SESSION, expected: StreamSeq::new(100) },
        T::SyncAck { volume: SECOND, bytes: 1 << 30 },
        T::Joined { volume: SECOND },
        T::LayBookmark { ticket: 77, name: "before-the-upgrade".into() },
        T::RollbackPrepare { id: 3, ticket: 78, name: "before-rollback-3".into(), barrier: None },
        T::RollbackPrepare { id: 4, ticket: 0, name: String::new(), barrier: Some(6) },
        T::RollbackAbort { id: 3 },
        T::Restore { id: 3, extents: vec![VolumeExtent { volume: FIRST, extent: extent(64, 16) }], last: true },
        T::RestoreData {
            volume: FIRST,
            extent: extent(64, 4),
            pieces: vec![
                Piece { extent: extent(64, 1), content: Content::Data { bytes: Bytes(data(512, 5)) } },
                Piece { extent: extent(65, 1), content: Content::Zero {} },
                Piece { extent: extent(66, 2), content: Content::Hole {} },
            ],
            trouble: String::new(),
        },
        T::RestoreData { volume: FIRST, extent: extent(64, 4), pieces: vec![], trouble: "damaged".into() },
        T::Members { members },
        T::Alive {},
        T::Forget {},
        T::VerifyHash {
            volume: FIRST,
            extent: extent(64, 16),
            at: StreamSeq::new(121),
            digest: Some(Digest::of(&data(16 * 512, 2))),
            trouble: String::new(),
        },
        T::VerifyHash {
            volume: FIRST,
            extent: extent(64, 16),
            at: StreamSeq::new(121),
            digest: None,
            trouble: "the volume has not joined".into(),
        },
        T::Quiesce { barrier: 6, hold_ms: 5000 },
        T::PlaceBarrier {
            barrier: 6,
            ticket: 79,
            sessions: vec![Session::new(4), SESSION],
            name: "both-hosts".into(),
            label: Label::from_nanos(1_795_341_600_000_000_020),
        },
        T::Release { barrier: 6 },
        T::Full { holds: true },
        T::HealRead { volume: FIRST, extent: extent(64, 16) },
    ]
}
