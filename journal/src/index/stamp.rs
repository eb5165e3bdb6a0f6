//! A version in six bytes: kind and position.
//!
//! Owns the packing. 46 bits of position are a million records a second for two years; what is beyond is not packed, and
//! whoever keeps stamps has to do without.

use super::{Content, Home};
use record::position::Position;

/// Bits of a position.
const POSITION_BITS: u32 = 46;
const POSITION_MASK: u64 = (1 << POSITION_BITS) - 1;
/// Bytes of a stamp where many are kept.
pub(crate) const STAMP_BYTES: usize = 6;

/// Which version some sectors have, as a head map keeps it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp(u64);

/// What a stamp says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Said {
    /// This version.
    Version(Position, Home),
    /// The block's sectors have several versions, kept elsewhere.
    Mixed,
    /// Nobody has looked.
    Unknown,
}

impl Stamp {
    /// What the volume joined with.
    pub(crate) const BASE: Self = Self(0);
    /// See [`Said::Mixed`].
    pub(crate) const MIXED: Self = Self(3 << POSITION_BITS);
    /// See [`Said::Unknown`].
    pub(crate) const UNKNOWN: Self = Self(3 << POSITION_BITS | POSITION_MASK);

    /// A record's version; `None` for a position that has no room.
    pub(crate) fn of(position: Position, content: Content) -> Option<Self> {
        let kind = match content {
            Content::Data => 0,
            Content::Zero => 1,
            Content::Hole => 2,
        };
        let fits = position > Position::ORIGIN && position.get() <= POSITION_MASK;
        fits.then_some(Self(kind << POSITION_BITS | position.get()))
    }

    /// What it says.
    pub(crate) fn said(self) -> Said {
        let position = Position::new(self.0 & POSITION_MASK);
        match self.0 >> POSITION_BITS {
            0 if self == Self::BASE => Said::Version(Position::ORIGIN, Home::Base),
            0 => Said::Version(position, Home::Record(Content::Data)),
            1 => Said::Version(position, Home::Record(Content::Zero)),
            2 => Said::Version(position, Home::Record(Content::Hole)),
            _ if self == Self::MIXED => Said::Mixed,
            _ => Said::Unknown,
        }
    }

    /// The stamp in `STAMP_BYTES`.
    pub(crate) fn to_bytes(self) -> [u8; STAMP_BYTES] {
        let mut out = [0; STAMP_BYTES];
        out.copy_from_slice(&self.0.to_le_bytes()[..STAMP_BYTES]);
        out
    }

    /// The reverse of `to_bytes`.
    pub(crate) fn from_bytes(bytes: [u8; STAMP_BYTES]) -> Self {
        let mut out = [0; 8];
        out[..STAMP_BYTES].copy_from_slice(&bytes);
        Self(u64::from_le_bytes(out))
    }
}
