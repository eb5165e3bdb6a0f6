//! When: positions, sessions, epochs and time labels.
//!
//! Owns the orders of undisk. A position orders; a label only describes. Deliberately has no clock.

use std::fmt;

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident, $first:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        pub struct $name(u64);

        impl $name {
            /// The first one given out.
            pub const FIRST: Self = Self($first);

            /// The one of this number.
            pub const fn new(number: u64) -> Self {
                Self(number)
            }

            /// The number.
            pub const fn get(self) -> u64 {
                self.0
            }

            /// The next one. 2^64 of them are never used up: at a thousand million a second that takes 584 years.
            #[must_use]
            pub const fn next(self) -> Self {
                self.plus(1)
            }

            /// The one `n` further on.
            #[must_use]
            pub const fn plus(self, n: u64) -> Self {
                Self(self.0 + n)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

counter!(
    /// The place of a record in its group's journal: dense, from 1, for ever, never used again. `seq:N` at the
    /// command line. Position 0 is the joined content before any record.
    Position, 1
);
counter!(
    /// The place of a record in its splitter's session: dense from 1. Identity on the wire only.
    StreamSeq, 1
);
counter!(
    /// One splitter's uninterrupted stream for a group, granted and stored by the appliance. A newer one fences all
    /// older ones.
    Session, 1
);
counter!(
    /// One uninterrupted life of a journal's tail; grows at every recovery.
    JournalEpoch, 1
);
counter!(
    /// The dense number of a chunk in its journal.
    ChunkNumber, 1
);
counter!(
    /// One life of a splitter process for a group, stored and rising, so that a dead one's late OPEN is refused.
    SplitterIncarnation, 1
);

impl Position {
    /// Before any record: the content that the volumes joined with.
    pub const ORIGIN: Self = Self(0);

    /// The position before this one; `None` before the first.
    pub const fn previous(self) -> Option<Self> {
        match self.0.checked_sub(1) {
            Some(n) => Some(Self(n)),
            None => None,
        }
    }
}

/// A time label of the group's hybrid logical clock, in nanoseconds since 1970 UTC. Strictly rising along a
/// stream, whatever the host's clock does; never decides order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Label(u64);

impl Label {
    /// A label of so many nanoseconds since 1970 UTC.
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since 1970 UTC.
    pub const fn nanos(self) -> u64 {
        self.0
    }

    /// The label for a record taken when the clock says `now`, behind this one: `now`, or one nanosecond more than
    /// this label when the clock is not ahead of it (PROTOCOL R28).
    #[must_use]
    pub fn advance(self, now: Self) -> Self {
        // A label at the end of its range (the year 2554, or a host whose clock says so) stays there: two records
        // with one label are a blemish, a label that starts again at 0 would lose every later point in time.
        Self(now.0.max(self.0.saturating_add(1)))
    }
}

#[cfg(test)]
mod tests;
