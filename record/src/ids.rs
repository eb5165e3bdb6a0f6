//! Who: the names that never change and are never used again.
//!
//! Owns the identifiers that stand in records, on the wire and on disk. Deliberately does not make them: random
//! numbers come from the shells.

use std::fmt;

macro_rules! uuid_like {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The id of these sixteen bytes.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(bytes)
            }

            /// The sixteen bytes, as they stand on disk and on the wire.
            pub const fn to_bytes(self) -> [u8; 16] {
                self.0
            }

            /// The id of 32 hexadecimal digits, with or without the dashes of a UUID.
            pub fn parse(text: &str) -> Option<Self> {
                let mut bytes = [0u8; 16];
                let mut digits = text.chars().filter(|c| *c != '-');
                for byte in &mut bytes {
                    let (high, low) = (digits.next()?.to_digit(16)?, digits.next()?.to_digit(16)?);
                    *byte = u8::try_from(high * 16 + low).ok()?;
                }
                digits.next().is_none().then_some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                for (i, byte) in self.0.iter().enumerate() {
                    if matches!(i, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    };
}

uuid_like!(
    /// A consistency group, for ever: a group made again under the same name is another group.
    GroupId
);
uuid_like!(
    /// A volume, for ever.
    VolumeId
);
uuid_like!(
    /// One journal. Salts every checksum in it, so that host data that looks like a chunk is never taken for one.
    JournalId
);
uuid_like!(
    /// A splitter, for ever: the one whose state folder holds this id. Its stream is its own, beside those of other
    /// splitters that serve volumes of the same group.
    SplitterId
);
uuid_like!(
    /// One life of a host's memory (`/proc/sys/kernel/random/boot_id`): an outbox of another boot is not ours.
    BootId
);

/// One membership of a volume in a group, numbered by the group's journal from 1 and never used again: a volume
/// that leaves and joins again is another incarnation. 0 stands in records that concern no volume.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Incarnation(u32);

impl Incarnation {
    /// In records that concern no volume (flush, bookmark, noop).
    pub const NONE: Self = Self(0);

    /// The incarnation of this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests;
