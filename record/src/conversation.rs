//! What splitter and appliance say to each other.
//!
//! A message is a `u8` tag, then its fields in the order written here, little-endian; strings and lists carry a `u32`
//! count in front. It travels in a frame (`frame`). The first message of a connection is `ToAppliance::Open`, whose first
//! field is the version of the conversation; a peer of another version is refused with both versions named. Chunks do
//! not travel in frames: a local appliance maps the outbox and is told where they lie.
//!
//! Owns the messages, and which of their fields fit each other. Deliberately knows no frame and no socket.

pub mod frame;
#[macro_use]
mod wire;

use crate::chunk::{HEADER_BYTES_MAX, PAYLOAD_BYTES_MAX};
use crate::digest::Digest;
use crate::geometry::{BLOCK_BYTES, Extent};
use crate::ids::{GroupId, Incarnation, JournalId, SplitterId, VolumeId};
use crate::member::NAME_BYTES_MAX;
use crate::position::{Label, Session, SplitterIncarnation, StreamSeq};
use crate::streams::STREAMS_MAX;
use wire::Wire;

/// Version of the conversation. 1: the first; 2: OPEN says what the dirty maps rely on; VERIFY_READ and VERIFY_HASH;
/// 3: OPEN says which splitter speaks; barriers; 4: FULL; HEAL_READ and HEAL_DATA.
pub const VERSION: u16 = 4;
/// Most bytes of content in one `SyncData` or `RestoreData`.
pub const CONTENT_BYTES_MAX: usize = 1024 * 1024;
/// Most bytes that are asked for at once of what a rollback owes: where there are no data they are quickly told.
pub const RESTORE_BYTES_MAX: u64 = 4 << 30;
/// Most extents in one `Restore` frame.
pub const RESTORE_EXTENTS_MAX: usize = 16 * 1024;

/// Content of a volume, in bytes.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl std::fmt::Debug for Bytes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

wire_enum! {
    /// What a splitter knows of its stream when it opens a link.
    pub enum Continuation {
        /// Its outbox is intact: the same session goes on.
        Same = 1 {
            /// The session.
            session: Session,
            /// The number behind the last record laid.
            laid: StreamSeq,
            /// Everything below this one has been released from the outbox.
            released: StreamSeq,
        }
        /// The stop before was clean: everything up to `next` of `session` was durable, and the backings were not
        /// touched since.
        CleanAfter = 2 {
            /// The session that ended.
            session: Session,
            /// The number behind its last record.
            next: StreamSeq,
        }
        /// Records may have been lost, or this is the first session.
        Lost = 3 {
            /// Why, for the timeline.
            reason: String,
        }
    }
}

wire_enum! {
    /// From the splitter to the appliance.
    pub enum ToAppliance {
        /// The first frame.
        Open = 1 {
            /// The version of the conversation.
            version: u16,
            /// The group.
            group: GroupId,
            /// The splitter.
            splitter: SplitterId,
            /// What people call it.
            name: String,
            /// Its life; lower ones of the same splitter than seen before are refused.
            life: SplitterIncarnation,
            /// What it knows of its stream.
            continuation: Continuation,
            /// The outbox file that chunks are read from.
            outbox: String,
            /// What its dirty maps rely on being in the journal; `None`: nothing.
            relied: Option<Relied>,
        }
        /// A sealed chunk lies in the outbox.
        Chunk = 2 {
            /// The session.
            session: Session,
            /// The number of its first record.
            first: StreamSeq,
            /// Where its header area starts in the outbox file, in bytes: a multiple of 4096.
            header_at: u64,
            /// Bytes of the header area.
            header_len: u32,
            /// Where its payload area starts, in bytes: a multiple of 4096.
            payload_at: u64,
            /// Bytes of the payload area.
            payload_len: u32,
        }
        /// Initial synchronisation of a volume starts (again): the replica is all zeros from here.
        SyncBegin = 3 {
            /// The volume.
            volume: Incarnation,
        }
        /// Content for the replica; at most `CONTENT_BYTES_MAX`.
        SyncData = 4 {
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
            /// What.
            content: Bytes,
        }
        /// Zeros for the replica.
        SyncZero = 5 {
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
        }
        /// All of it was sent; answered by `Joined` once the replica is durable.
        SyncEnd = 6 {
            /// The volume.
            volume: Incarnation,
        }
        /// A bookmark that was asked for cannot be laid.
        BookmarkRefused = 7 {
            /// The request.
            ticket: u64,
            /// Why.
            reason: String,
        }
        /// Host requests wait, everything laid before is durable, the backings are flushed.
        RollbackReady = 8 {
            /// The rollback.
            id: u64,
        }
        /// The rollback cannot be prepared; nothing was changed.
        RollbackRefused = 9 {
            /// The rollback.
            id: u64,
            /// Why.
            reason: String,
        }
        /// Asks for the live content of an extent that a rollback owes; at most `RESTORE_BYTES_MAX`.
        RestoreRead = 10 {
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
        }
        /// These extents are in the backing, durably.
        RestoreDone = 11 {
            /// The rollback.
            id: u64,
            /// Where.
            extents: Vec<VolumeExtent>,
        }
        /// Records were lost: the session is over.
        Lost = 12 {
            /// The session.
            session: Session,
            /// Why.
            reason: String,
        }
        /// A clean stop: everything laid is durable, nothing follows.
        Close = 13 {}
        /// Nothing to say; shows that the splitter lives.
        Alive = 14 {}
        /// Asks what the image holds right behind the records of this session below `at`, once they are durable; at
        /// most `CONTENT_BYTES_MAX`.
        VerifyRead = 15 {
            /// The session.
            session: Session,
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
            /// The number behind the last record that the image has.
            at: StreamSeq,
        }
        /// No new request gets a number, until the barrier is released.
        Quiesced = 17 {
            /// The barrier.
            barrier: u64,
            /// The newest label of the stream.
            label: Label,
        }
        /// The barrier cannot be placed here, or was not held without interruption.
        BarrierRefused = 18 {
            /// The barrier.
            barrier: u64,
            /// Why.
            reason: String,
        }
        /// The answer to `HealRead`: what the backing holds there at this moment, or the reason why it cannot be read.
        HealData = 19 {
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
            /// What; empty when it cannot be read.
            content: Bytes,
            /// Why it cannot be read; empty when it can.
            trouble: String,
        }
    }
}

wire_struct! {
    /// A place in a session's stream: everything before it.
    pub struct Relied {
        /// The session.
        pub session: Session,
        /// The number behind the last record.
        pub next: StreamSeq,
    }
}

wire_struct! {
    /// An extent of one volume.
    pub struct VolumeExtent {
        /// The volume.
        pub volume: Incarnation,
        /// Where.
        pub extent: Extent,
    }
}

wire_struct! {
    /// A volume of the group, as the journal knows it.
    pub struct Member {
        /// The volume.
        pub id: VolumeId,
        /// Its number in records.
        pub volume: Incarnation,
        /// Whether its initial synchronisation is complete.
        pub joined: bool,
    }
}

wire_enum! {
    /// What an extent holds.
    pub enum Content {
        /// Data.
        Data = 1 {
            /// The bytes.
            bytes: Bytes,
        }
        /// Zeros, allocated.
        Zero = 2 {}
        /// Nothing: a hole.
        Hole = 3 {}
    }
}

wire_struct! {
    /// A run of sectors and what it holds.
    pub struct Piece {
        /// Where.
        pub extent: Extent,
        /// What.
        pub content: Content,
    }
}

wire_enum! {
    /// From the appliance to the splitter.
    pub enum ToSplitter {
        /// The answer to `Open`: go on.
        Granted = 1 {
            /// The journal.
            journal: JournalId,
            /// The session to lay records in.
            session: Session,
            /// The number that the journal expects next.
            expected: StreamSeq,
            /// Whether the history has no gap up to here: if not, records are refused until a resync.
            consistent: bool,
            /// The newest label in the journal.
            label: Label,
            /// The group's volumes.
            members: Vec<Member>,
            /// Extents whose content is unknown until they are read again.
            indeterminate: Vec<VolumeExtent>,
            /// A rollback that is committed and not yet in the backing: its extents follow in `Restore` frames.
            restoring: Option<u64>,
        }
        /// The answer to `Open`, or to anything later: no.
        Refused = 2 {
            /// Whether trying again later may help.
            retry: bool,
            /// Why.
            reason: String,
        }
        /// How far the journal is; each the number behind the last record.
        Ack = 3 {
            /// The session.
            session: Session,
            /// Taken in.
            received: StreamSeq,
            /// Durable.
            durable: StreamSeq,
            /// Durable, and known to be so on disk: the outbox may let go.
            committed: StreamSeq,
        }
        /// A chunk was not the next one: send from here.
        Nak = 4 {
            /// The session.
            session: Session,
            /// The number expected.
            expected: StreamSeq,
        }
        /// So many bytes of synchronisation are in the replica.
        SyncAck = 5 {
            /// The volume.
            volume: Incarnation,
            /// Bytes since `SyncBegin`.
            bytes: u64,
        }
        /// The volume has joined.
        Joined = 6 {
            /// The volume.
            volume: Incarnation,
        }
        /// Lay a bookmark record.
        LayBookmark = 7 {
            /// The request.
            ticket: u64,
            /// The name.
            name: String,
        }
        /// Quiesce for a rollback: let host requests wait, lay this bookmark, drain, flush, answer `RollbackReady`.
        RollbackPrepare = 8 {
            /// The rollback.
            id: u64,
            /// The bookmark's request.
            ticket: u64,
            /// The bookmark's name.
            name: String,
            /// The barrier that holds the hosts already, and is the bookmark; without one it is to be laid.
            barrier: Option<u64>,
        }
        /// The rollback will not happen: go on.
        RollbackAbort = 9 {
            /// The rollback.
            id: u64,
        }
        /// The rollback is committed; these extents of the backing are owed. `last` ends the list.
        Restore = 10 {
            /// The rollback.
            id: u64,
            /// Where.
            extents: Vec<VolumeExtent>,
            /// Whether no more follow.
            last: bool,
        }
        /// The answer to `RestoreRead`: pieces in order that cover the extent, which begins where it was asked and may end before:
        /// there are at most `CONTENT_BYTES_MAX` of data in it. Or the reason why it cannot be read.
        RestoreData = 11 {
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
            /// What; empty when it cannot be read.
            pieces: Vec<Piece>,
            /// Why it cannot be read; empty when it can.
            trouble: String,
        }
        /// A volume joined the group, or left it.
        Members = 12 {
            /// The group's volumes now.
            members: Vec<Member>,
        }
        /// Nothing to say; shows that the appliance lives.
        Alive = 13 {}
        /// The answer to `VerifyRead`: the digest of the content, or the reason why it cannot be read.
        VerifyHash = 14 {
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
            /// The number behind the last record that the image has.
            at: StreamSeq,
            /// Of the content; `None` when it cannot be read.
            digest: Option<Digest>,
            /// Why it cannot be read; empty when it can.
            trouble: String,
        }
        /// Give no new request a number, for so long at most, and say when that is so.
        Quiesce = 16 {
            /// The barrier.
            barrier: u64,
            /// How long hosts may be held from now on, in milliseconds; then they go on, and the barrier has failed.
            hold_ms: u32,
        }
        /// Every splitter holds: lay this splitter's part.
        PlaceBarrier = 17 {
            /// The barrier.
            barrier: u64,
            /// The request that it answers; 0 for none.
            ticket: u64,
            /// The sessions that take part.
            sessions: Vec<Session>,
            /// The bookmark that the point gets; empty for none.
            name: String,
            /// The newest label of all streams: the part's is above it.
            label: Label,
        }
        /// The barrier is in the journal, or has failed: go on.
        Release = 18 {
            /// The barrier.
            barrier: u64,
        }
        /// The journal is full: whether hosts are to wait until it is not (`journal-full=block`).
        Full = 19 {
            /// They are, or not any more.
            holds: bool,
        }
        /// Asks what the backing holds there at this moment; at most `CONTENT_BYTES_MAX`. It may be what the journal has lost:
        /// checksums tell.
        HealRead = 20 {
            /// The volume.
            volume: Incarnation,
            /// Where.
            extent: Extent,
        }
        /// Instead of a grant: the journal does not hold what the dirty maps rely on. Every region has to be made dirty,
        /// durably, before the splitter opens again (PROTOCOL R14).
        Forget = 15 {}
    }
}

/// Whether bytes of the outbox file can be one area of a chunk: on 4 KiB boundaries, and no longer than any is.
fn is_area(at: u64, len: u32, longest: usize) -> bool {
    at.is_multiple_of(BLOCK_BYTES as u64)
        && (len as usize).is_multiple_of(BLOCK_BYTES)
        && len as usize <= longest
        && at.checked_add(u64::from(len)).is_some()
}

impl ToAppliance {
    /// Whether the fields fit each other; asserted before a message is sent, checked when one arrives.
    fn is_sound(&self) -> bool {
        match self {
            Self::Chunk { header_at, header_len, payload_at, payload_len, session: _, first: _ } => {
                *header_len > 0
                    && is_area(*header_at, *header_len, HEADER_BYTES_MAX)
                    && is_area(*payload_at, *payload_len, PAYLOAD_BYTES_MAX)
            }
            Self::SyncData { extent, content, volume: _ } => {
                content.0.len() <= CONTENT_BYTES_MAX && extent.bytes() == content.0.len() as u64
            }
            Self::RestoreRead { extent, volume: _ } => extent.bytes() <= RESTORE_BYTES_MAX,
            Self::VerifyRead { extent, session: _, volume: _, at: _ } => extent.bytes() <= CONTENT_BYTES_MAX as u64,
            Self::HealData { extent, content, trouble, volume: _ } => {
                let bytes = content.0.len();
                bytes <= CONTENT_BYTES_MAX
                    && if trouble.is_empty() { extent.bytes() == bytes as u64 } else { bytes == 0 }
            }
            Self::Open { .. }
            | Self::SyncBegin { .. }
            | Self::SyncZero { .. }
            | Self::SyncEnd { .. }
            | Self::BookmarkRefused { .. }
            | Self::RollbackReady { .. }
            | Self::RollbackRefused { .. }
            | Self::RestoreDone { .. }
            | Self::Lost { .. }
            | Self::Quiesced { .. }
            | Self::BarrierRefused { .. }
            | Self::Close {}
            | Self::Alive {} => true,
        }
    }
}

impl ToSplitter {
    /// Whether the fields fit each other; asserted before a message is sent, checked when one arrives.
    fn is_sound(&self) -> bool {
        match self {
            Self::LayBookmark { name, ticket: _ } | Self::RollbackPrepare { name, id: _, ticket: _, barrier: _ } => {
                name.len() <= NAME_BYTES_MAX
            }
            Self::PlaceBarrier { sessions, name, barrier: _, ticket: _, label: _ } => {
                name.len() <= NAME_BYTES_MAX
                    && (2..=STREAMS_MAX).contains(&sessions.len())
                    && sessions.windows(2).all(|pair| pair[0] < pair[1])
            }
            Self::HealRead { extent, volume: _ } => extent.bytes() <= CONTENT_BYTES_MAX as u64,
            Self::Restore { extents, id: _, last: _ } => extents.len() <= RESTORE_EXTENTS_MAX,
            Self::RestoreData { extent, pieces, trouble, volume: _ } => {
                if trouble.is_empty() {
                    covers(*extent, pieces)
                } else {
                    pieces.is_empty()
                }
            }
            Self::VerifyHash { digest, trouble, volume: _, extent: _, at: _ } => digest.is_some() == trouble.is_empty(),
            Self::Granted { .. }
            | Self::Refused { .. }
            | Self::Ack { .. }
            | Self::Nak { .. }
            | Self::SyncAck { .. }
            | Self::Joined { .. }
            | Self::RollbackAbort { .. }
            | Self::Members { .. }
            | Self::Quiesce { .. }
            | Self::Release { .. }
            | Self::Full { .. }
            | Self::Forget {}
            | Self::Alive {} => true,
        }
    }
}

/// Whether the pieces are the whole extent, in order, each with as many bytes as it has sectors.
fn covers(extent: Extent, pieces: &[Piece]) -> bool {
    let mut at = extent.start().index();
    pieces.iter().all(|piece| {
        let follows = piece.extent.start().index() == at;
        at = piece.extent.end();
        follows
            && match &piece.content {
                Content::Data { bytes } => piece.extent.bytes() == bytes.0.len() as u64,
                Content::Zero {} | Content::Hole {} => true,
            }
    }) && at == extent.end()
}

#[cfg(test)]
mod tests;
