//! The superblock: what a journal is, and where its tail was when it was last written.
//!
//! ```text
//! slot 0 (4 KiB) | slot 1 (4 KiB)        the newer generation with a valid checksum counts
//!   0 magic u32  4 version u16  8 generation u64  16 journal 16  32 group 16  48 compat u64  56 incompat u64
//!  64 segment_bytes u64  72 created u64  80 last_segment u32  84 clean u8  88 mark 304  392 name_len u8  393 name
//! 520 horizon u64  528 horizon_label u64  536 distributed u64  544 target u64  552 first_position u64  560 first_segment u32
//! 564 replica u32 (0 lower, 1 at, 2 between)  568 from u64  576 to u64
//! 4092 crc32c, salted with the journal's id
//! ```
//!
//! A write goes to the slot of the older generation and is durable before it counts: torn by a crash, the other
//! slot still stands. Owns both slots; `docs/formats/segment.md` is the byte-exact page.

use crate::aligned::Aligned;
use crate::device::{Access, Disk, DiskFile};
use crate::error::JournalError;
use crate::mark::{MARK_BYTES, TailMark, id_at, u32_at, u64_at};
use crate::place::{SUPERBLOCK, SegmentNumber, UNFINISHED};
use crate::timeline::At;
use record::checksum::Salt;
use record::geometry::BLOCK_BYTES;
use record::ids::{GroupId, JournalId};
use record::member::NAME_BYTES_MAX;
use record::position::{Label, Position};
use std::io::{self, ErrorKind, IoSlice};
use std::sync::Arc;

const MAGIC: u32 = u32::from_le_bytes(*b"UDSB");
/// Version of the journal's files: superblock, segment header and footer, restore map. 1: the first.
pub(crate) const VERSION: u16 = 1;
/// Feature: what is older than `distributed` is in the replicas, and may be gone from the journal.
const INCOMPAT_RETAINED: u64 = 1;
/// Feature: grid points, and segments of which only what some point needs is left.
const INCOMPAT_THINNED: u64 = 2;
/// Feature: replicas are further than `distributed`, and what they held there is in the UNDO stream.
const INCOMPAT_UNDO: u64 = 4;
/// Features without which a journal cannot be read that this release knows.
const INCOMPAT_KNOWN: u64 = INCOMPAT_RETAINED | INCOMPAT_THINNED | INCOMPAT_UNDO;
const RETAINED_AT: usize = 520;
const REPLICA_AT: usize = 564;
const MARK_AT: usize = 88;
const NAME_AT: usize = MARK_AT + MARK_BYTES;
const CRC_AT: usize = BLOCK_BYTES - 4;
const SLOTS: u64 = 2;
const SLOT_COUNT: usize = 2;

/// What a slot says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Superblock {
    /// Rises with every write.
    pub generation: u64,
    pub journal: JournalId,
    pub group: GroupId,
    pub group_name: String,
    /// Bytes of a new segment.
    pub segment_bytes: u64,
    /// When the journal was made.
    pub created: Label,
    /// The newest segment; 0 before the first.
    pub last_segment: SegmentNumber,
    /// Whether nothing was appended behind the mark.
    pub clean: bool,
    /// Everything in front of it is durable.
    pub mark: TailMark,
    /// What is kept of the past.
    pub retained: Retained,
    /// Whether there may be grid points, or segments of which only a part is left.
    pub thinned: bool,
    /// Where the replicas are.
    pub replica: Replica,
}

/// Where the replicas are. Whatever they are in front of `distributed` by is in the UNDO stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Replica {
    /// They hold what `distributed` says, and nothing else.
    #[default]
    Lower,
    /// They are the volumes as they were at this position.
    At(Position),
    /// They are on their way. `from` is the origin where they may be anywhere, `to` is where they go back to `Lower`.
    Between { from: Position, to: Position },
}

impl Replica {
    fn encode(self, out: &mut [u8]) {
        let (state, from, to) = match self {
            // As it always was.
            Self::Lower => return,
            Self::At(at) => (1u32, at, at),
            Self::Between { from, to } => (2, from, to),
        };
        out[0..4].copy_from_slice(&state.to_le_bytes());
        out[4..12].copy_from_slice(&from.get().to_le_bytes());
        out[12..20].copy_from_slice(&to.get().to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        let (from, to) = (Position::new(u64_at(bytes, 4)), Position::new(u64_at(bytes, 12)));
        match u32_at(bytes, 0) {
            0 => Self::Lower,
            1 => Self::At(to),
            _ => Self::Between { from, to },
        }
    }
}

/// What is kept of the past: each forgotten step by step, durable before the next (ENGINE 24).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Retained {
    /// Positions before it are no points any more, but for bookmarks.
    pub horizon: At,
    /// What the replicas hold: of every version that a point has and that is not behind this position, the newest.
    pub distributed: Position,
    /// They are being brought to this one; `distributed` when they are not.
    pub target: Position,
    /// The first record that is still in the journal.
    pub first_position: Position,
    /// The segment that begins with it.
    pub first_segment: SegmentNumber,
}

impl Retained {
    /// Nothing was ever forgotten.
    pub(crate) const ALL: Self = Self {
        horizon: At::ORIGIN,
        distributed: Position::ORIGIN,
        target: Position::ORIGIN,
        first_position: Position::FIRST,
        first_segment: SegmentNumber::FIRST,
    };

    fn encode(&self, out: &mut [u8]) {
        // As it always was, where nothing was ever forgotten.
        if *self == Self::ALL {
            return;
        }
        out[0..8].copy_from_slice(&self.horizon.position.get().to_le_bytes());
        out[8..16].copy_from_slice(&self.horizon.label.nanos().to_le_bytes());
        out[16..24].copy_from_slice(&self.distributed.get().to_le_bytes());
        out[24..32].copy_from_slice(&self.target.get().to_le_bytes());
        out[32..40].copy_from_slice(&self.first_position.get().to_le_bytes());
        out[40..44].copy_from_slice(&self.first_segment.get().to_le_bytes());
    }

    fn decode(bytes: &[u8]) -> Self {
        let horizon = At { position: Position::new(u64_at(bytes, 0)), label: Label::from_nanos(u64_at(bytes, 8)) };
        Self {
            horizon,
            distributed: Position::new(u64_at(bytes, 16)),
            target: Position::new(u64_at(bytes, 24)),
            // Zeros in a journal of a time when nothing was ever forgotten.
            first_position: Position::new(u64_at(bytes, 32)).max(Position::FIRST),
            first_segment: SegmentNumber::new(u32_at(bytes, 40)).max(SegmentNumber::FIRST),
        }
    }
}

/// Why a slot does not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SlotError {
    /// Torn or rotten.
    Unreadable,
    /// Intact, and of a release that uses something unknown here.
    Unknown { version: u16, features: u64 },
}

impl Superblock {
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut out = [0u8; BLOCK_BYTES];
        out[0..4].copy_from_slice(&MAGIC.to_le_bytes());
        out[4..6].copy_from_slice(&VERSION.to_le_bytes());
        out[8..16].copy_from_slice(&self.generation.to_le_bytes());
        out[16..32].copy_from_slice(&self.journal.to_bytes());
        out[32..48].copy_from_slice(&self.group.to_bytes());
        out[64..72].copy_from_slice(&self.segment_bytes.to_le_bytes());
        out[72..80].copy_from_slice(&self.created.nanos().to_le_bytes());
        out[80..84].copy_from_slice(&self.last_segment.get().to_le_bytes());
        out[84] = u8::from(self.clean);
        out[MARK_AT..NAME_AT].copy_from_slice(&self.mark.encode());
        let name = &self.group_name.as_bytes()[..self.group_name.len().min(NAME_BYTES_MAX)];
        #[expect(clippy::cast_possible_truncation, reason = "at most 127")]
        let name_len = name.len() as u8;
        out[NAME_AT] = name_len;
        out[NAME_AT + 1..NAME_AT + 1 + name.len()].copy_from_slice(name);
        self.retained.encode(&mut out[RETAINED_AT..]);
        // Only once there is something that an older release would read wrongly.
        let retained = if self.retained.target > Position::ORIGIN { INCOMPAT_RETAINED } else { 0 };
        self.replica.encode(&mut out[REPLICA_AT..]);
        let undo = if self.replica == Replica::Lower { 0 } else { INCOMPAT_UNDO };
        let incompat = retained | undo | if self.thinned { INCOMPAT_THINNED } else { 0 };
        out[56..64].copy_from_slice(&incompat.to_le_bytes());
        let crc = Salt::of(self.journal).header(&out[..CRC_AT]);
        out[CRC_AT..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, SlotError> {
        let bytes = bytes.get(..BLOCK_BYTES).ok_or(SlotError::Unreadable)?;
        let journal = JournalId::from_bytes(id_at(bytes, 16));
        if u32_at(bytes, 0) != MAGIC || Salt::of(journal).header(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Err(SlotError::Unreadable);
        }
        let (version, features) = (u16::from_le_bytes([bytes[4], bytes[5]]), u64_at(bytes, 56));
        if version != VERSION || features & !INCOMPAT_KNOWN != 0 {
            return Err(SlotError::Unknown { version, features });
        }
        let name_len = usize::from(bytes[NAME_AT]);
        let name = bytes.get(NAME_AT + 1..NAME_AT + 1 + name_len).ok_or(SlotError::Unreadable)?;
        let mut mark = [0u8; MARK_BYTES];
        mark.copy_from_slice(&bytes[MARK_AT..NAME_AT]);
        let mark = TailMark::decode(&mark).ok_or(SlotError::Unreadable)?;
        Ok(Self {
            generation: u64_at(bytes, 8),
            journal,
            group: GroupId::from_bytes(id_at(bytes, 32)),
            group_name: String::from_utf8(name.to_vec()).map_err(|_| SlotError::Unreadable)?,
            segment_bytes: u64_at(bytes, 64),
            created: Label::from_nanos(u64_at(bytes, 72)),
            last_segment: SegmentNumber::new(u32_at(bytes, 80)),
            clean: bytes[84] == 1,
            mark,
            retained: Retained::decode(&bytes[RETAINED_AT..]),
            thinned: features & INCOMPAT_THINNED != 0,
            replica: Replica::decode(&bytes[REPLICA_AT..]),
        })
    }
}

/// Both slots as they lie on disk.
#[derive(Debug)]
pub(crate) struct Slots {
    /// The one that counts.
    pub current: Superblock,
    /// What each slot holds, for the verifier.
    pub readable: [bool; SLOT_COUNT],
}

/// Reads both slots and picks the newer.
pub(crate) fn load(disk: &dyn Disk) -> Result<Slots, JournalError> {
    let journal = || disk.describe();
    let file = match disk.open(SUPERBLOCK, Access::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(JournalError::NotAJournal { journal: journal() });
        }
        Err(source) => return Err(JournalError::Io { journal: journal(), doing: "open superblock".into(), source }),
    };
    let mut slots = [Err(SlotError::Unreadable), Err(SlotError::Unreadable)];
    let mut failure = None;
    for (at, slot) in (0..SLOTS).zip(&mut slots) {
        let mut block = Aligned::zeroed(BLOCK_BYTES);
        match file.read_at(&mut block, at * BLOCK_BYTES as u64) {
            Ok(n) => *slot = Superblock::decode(&block[..n]),
            Err(error) => failure = Some(error),
        }
    }
    let readable = [slots[0].is_ok(), slots[1].is_ok()];
    // A slot of a newer release beside one of ours: that release wrote last, and knows more than we do.
    for slot in &slots {
        if let Err(SlotError::Unknown { version, features }) = slot {
            return Err(JournalError::UnknownFormat {
                journal: journal(),
                version: *version,
                features: *features,
                known: VERSION,
                known_features: INCOMPAT_KNOWN,
            });
        }
    }
    let newest = slots.into_iter().filter_map(Result::ok).max_by_key(|slot| slot.generation);
    match (newest, failure) {
        (Some(current), _) => Ok(Slots { current, readable }),
        (None, Some(source)) => Err(JournalError::Io { journal: journal(), doing: "read superblock".into(), source }),
        (None, None) => Err(JournalError::SuperblockLost { journal: journal() }),
    }
}

/// The superblock of a journal that is open for writing.
#[derive(Debug)]
pub(crate) struct SuperblockFile {
    file: Arc<dyn DiskFile>,
    current: Superblock,
}

impl SuperblockFile {
    /// Makes the file. It has its name only when both slots are durable.
    pub(crate) fn create(disk: &dyn Disk, first: Superblock) -> io::Result<()> {
        let unfinished = format!("{SUPERBLOCK}{UNFINISHED}");
        let file = disk.create(&unfinished, SLOTS * BLOCK_BYTES as u64, Access::Durable)?;
        let mut made = Self { file, current: first };
        for _ in 0..SLOTS {
            made.store(|_| {})?;
        }
        made.file.sync()?;
        disk.rename(&unfinished, SUPERBLOCK)?;
        disk.sync_folder("")
    }

    /// Opens it for writing.
    pub(crate) fn open(disk: &dyn Disk, current: Superblock) -> io::Result<Self> {
        let file = disk.open(SUPERBLOCK, Access::Durable)?;
        // What a killed process wrote last is read, but may not be durable: the other slot is written next, and a power cut
        // could take both.
        file.sync()?;
        Ok(Self { file, current })
    }

    /// What it says.
    pub(crate) fn current(&self) -> &Superblock {
        &self.current
    }

    /// Writes the next generation, durably.
    pub(crate) fn store(&mut self, change: impl FnOnce(&mut Superblock)) -> io::Result<()> {
        let mut next = self.current.clone();
        change(&mut next);
        next.generation += 1;
        let block = Aligned::copy_of(&next.encode());
        self.file.write_at(&[IoSlice::new(&block)], (next.generation % SLOTS) * BLOCK_BYTES as u64)?;
        self.current = next;
        Ok(())
    }
}
