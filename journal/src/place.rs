//! Where in a journal: segments, and chunks in them; the names of a journal's files.
//!
//! Owns file names, so that a finding and the code that wrote the file agree on them.

use std::fmt;

/// The name of the file with both superblock slots.
pub const SUPERBLOCK: &str = "superblock";
/// The folder of segments.
pub const SEGMENTS: &str = "segments";
/// The folder of restore maps.
pub const RESTORE: &str = "restore";
/// The folder of runs, the index.
pub const RUNS: &str = "runs";
/// The name of the file that says what the replicas lack.
pub const BASE_LOST: &str = "base-lost";
/// The name of the file with the grid points.
pub const GRID: &str = "grid";
/// The folder of what replicas held before something newer was brought to them.
pub const UNDO: &str = "undo";
/// The folder of checkpoints of the state.
pub const STATE: &str = "state";
/// What is appended to a file's name until it is complete and durable.
pub const UNFINISHED: &str = ".new";

/// The folders that a journal has in its directory.
pub const FOLDERS: [&str; 5] = [SEGMENTS, RESTORE, RUNS, STATE, UNDO];

/// Whether a file in a journal's directory, beside its folders, is the journal's.
pub fn is_own(name: &str) -> bool {
    [SUPERBLOCK, BASE_LOST, GRID].contains(&name) || name.ends_with(UNFINISHED)
}

/// The number of a segment, from 1. Never used again: a segment made later has a larger one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SegmentNumber(u32);

impl SegmentNumber {
    /// The first segment of a journal.
    pub const FIRST: Self = Self(1);

    /// The segment of this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next segment. 2^32 segments of 64 MiB are 256 PiB.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }

    /// The name of its file in the journal's directory.
    pub fn file(self) -> String {
        format!("{SEGMENTS}/{:08}.seg", self.0)
    }

    /// The name of its file until that is complete and durable.
    pub fn unfinished_file(self) -> String {
        format!("{}{UNFINISHED}", self.file())
    }

    /// The segment whose file has this name inside the segments' folder.
    pub fn of_file(name: &str) -> Option<Self> {
        let digits = name.strip_suffix(".seg")?;
        let number = digits.parse().ok().filter(|n| *n > 0)?;
        (digits.len() == 8 && digits.bytes().all(|b| b.is_ascii_digit())).then_some(Self(number))
    }
}

impl fmt::Display for SegmentNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08}.seg", self.0)
    }
}

/// Where a chunk starts: the segment, and the byte offset of the chunk's journal header in its file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Place {
    /// The segment.
    pub segment: SegmentNumber,
    /// Bytes from the start of the file, a multiple of 4096.
    pub offset: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} offset {}", self.segment, self.offset)
    }
}
