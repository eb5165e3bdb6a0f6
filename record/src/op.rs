//! What: the operations that a journal knows.
//!
//! Owns the list of operations, their numbers on disk and their flags. A number once given is never given again;
//! reserved ones are refused by this release's reader with their number, never skipped.

use std::fmt;

/// What a record does. The numbers stand on disk.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
#[repr(u8)]
pub enum Op {
    /// Data written by a host; the payload is the data.
    Write = 1,
    /// A range freed by a host (DISCARD, or `WRITE_ZEROES` that may deallocate): reads zero, is a hole.
    Punch = 2,
    /// A range zeroed by a host that stays allocated (`WRITE_ZEROES` with `NOUNMAP`).
    Zero = 3,
    /// A flush of the backing that succeeded: everything completed before it is durable there.
    Flush = 4,
    /// A named point; the payload is its name.
    Bookmark = 5,
    /// A number whose record a killed splitter never completed.
    Noop = 6,
    /// A write whose backing failed after its record went out: the extent is unknown until it is read again.
    Indeterminate = 7,
    /// From here to the session's `ResyncEnd` no position is a point.
    ResyncBegin = 8,
    /// The group is consistent again.
    ResyncEnd = 9,
    /// A volume joined (payload: its description); hidden until `Joined`.
    Join = 10,
    /// The initial synchronisation of a joined volume is complete and durable.
    Joined = 11,
    /// A volume left; its content stays until its last point goes.
    Leave = 12,
    /// The live line continues from an older position (payload: that position).
    Rollback = 13,
    /// A bookmark was removed (payload: its name).
    BookmarkRemoved = 14,
    /// The journal recovered here; everything behind the cut was dropped.
    Recovery = 15,
    /// Nothing but the committed mark moved.
    Commit = 16,
    /// A session was granted (payload: its number and the splitter's incarnation).
    SessionGranted = 17,
    /// A session ended before it was consistent, or lost records: points behind it are refused until a resync.
    SessionLost = 18,
    /// A splitter's part of a point across several splitters (payload: which barrier, and who takes part).
    Barrier = 34,
}

/// Numbers kept for operations of later releases: key-value 32, branch 33, delta set 35, peer epoch 36,
/// grow 37, shrink 38, UNDO 39, intent 40, piece done 41, move done 42.
pub const RESERVED: [u8; 10] = [32, 33, 35, 36, 37, 38, 39, 40, 41, 42];

impl Op {
    /// The operation of this number; `None` for one that this release does not know.
    pub const fn from_u8(number: u8) -> Option<Self> {
        Some(match number {
            1 => Self::Write,
            2 => Self::Punch,
            3 => Self::Zero,
            4 => Self::Flush,
            5 => Self::Bookmark,
            6 => Self::Noop,
            7 => Self::Indeterminate,
            8 => Self::ResyncBegin,
            9 => Self::ResyncEnd,
            10 => Self::Join,
            11 => Self::Joined,
            12 => Self::Leave,
            13 => Self::Rollback,
            14 => Self::BookmarkRemoved,
            15 => Self::Recovery,
            16 => Self::Commit,
            17 => Self::SessionGranted,
            18 => Self::SessionLost,
            34 => Self::Barrier,
            _ => return None,
        })
    }

    /// The number on disk.
    pub const fn to_u8(self) -> u8 {
        self as u8
    }

    /// Whether the record carries sectors of a volume (its extent is not empty).
    pub const fn has_extent(self) -> bool {
        match self {
            Self::Write | Self::Punch | Self::Zero | Self::Indeterminate => true,
            Self::Flush
            | Self::Bookmark
            | Self::Noop
            | Self::ResyncBegin
            | Self::ResyncEnd
            | Self::Join
            | Self::Joined
            | Self::Leave
            | Self::Rollback
            | Self::BookmarkRemoved
            | Self::Recovery
            | Self::Commit
            | Self::SessionGranted
            | Self::SessionLost
            | Self::Barrier => false,
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "WRITE",
            Self::Punch => "PUNCH",
            Self::Zero => "ZERO",
            Self::Flush => "FLUSH",
            Self::Bookmark => "BOOKMARK",
            Self::Noop => "NOOP",
            Self::Indeterminate => "INDETERMINATE",
            Self::ResyncBegin => "RESYNC_BEGIN",
            Self::ResyncEnd => "RESYNC_END",
            Self::Join => "JOIN",
            Self::Joined => "JOINED",
            Self::Leave => "LEAVE",
            Self::Rollback => "ROLLBACK",
            Self::BookmarkRemoved => "BOOKMARK_REMOVED",
            Self::Recovery => "RECOVERY",
            Self::Commit => "COMMIT",
            Self::SessionGranted => "SESSION_GRANTED",
            Self::SessionLost => "SESSION_LOST",
            Self::Barrier => "BARRIER",
        })
    }
}

/// How an operation was asked for. Unknown bits are refused by the reader.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Hash)]
pub struct OpFlags(u8);

impl OpFlags {
    /// None.
    pub const NONE: Self = Self(0);
    /// Durable on the backing when answered (force unit access).
    pub const FUA: Self = Self(1);
    /// Zeroing that must keep its allocation.
    pub const NOUNMAP: Self = Self(2);
    /// Read back from the backing by a resync, not written by a host.
    pub const RESYNC: Self = Self(4);

    /// The flags of these bits; `None` when a bit is unknown.
    pub const fn from_bits(bits: u8) -> Option<Self> {
        if bits & !7 == 0 { Some(Self(bits)) } else { None }
    }

    /// The bits, as they stand on disk.
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether every flag of `other` is set.
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}
