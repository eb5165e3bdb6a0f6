//! The bytes of a checkpoint's parts: numbers little-endian, lists and texts with their length in front.
//!
//! Owns how a value is written and read again. Reading takes hostile bytes: it answers `None`, and a length that the
//! bytes cannot have reserves nothing.

use crate::timeline::At;
use record::geometry::Extent;
use record::ids::{Incarnation, SplitterId};
use record::position::{Label, Position};

/// Bytes in the making.
#[derive(Debug, Default)]
pub(crate) struct Out(Vec<u8>);

impl Out {
    /// What was put in.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub(crate) fn flag(&mut self, value: bool) {
        self.u8(u8::from(value));
    }

    pub(crate) fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn fixed(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.u64(bytes.len() as u64);
        self.fixed(bytes);
    }

    pub(crate) fn position(&mut self, position: Position) {
        self.u64(position.get());
    }

    pub(crate) fn label(&mut self, label: Label) {
        self.u64(label.nanos());
    }

    pub(crate) fn at(&mut self, at: At) {
        self.position(at.position);
        self.label(at.label);
    }

    pub(crate) fn extent(&mut self, (volume, extent): (Incarnation, Extent)) {
        self.u32(volume.get());
        self.u64(extent.start().index());
        self.u64(extent.count().get());
    }

    pub(crate) fn splitter(&mut self, splitter: SplitterId) {
        self.fixed(&splitter.to_bytes());
    }

    pub(crate) fn maybe<T>(&mut self, value: Option<T>, put: impl FnOnce(&mut Self, T)) {
        self.flag(value.is_some());
        if let Some(value) = value {
            put(self, value);
        }
    }

    pub(crate) fn list<T>(&mut self, values: impl ExactSizeIterator<Item = T>, mut put: impl FnMut(&mut Self, T)) {
        self.u64(values.len() as u64);
        values.for_each(|value| put(self, value));
    }
}

/// Bytes that are being read.
#[derive(Debug)]
pub(crate) struct In<'a>(&'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether all was read.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn fixed<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (first, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*first)
    }

    pub(crate) fn u8(&mut self) -> Option<u8> {
        self.fixed::<1>().map(|[byte]| byte)
    }

    pub(crate) fn flag(&mut self) -> Option<bool> {
        match self.u8()? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }

    pub(crate) fn u32(&mut self) -> Option<u32> {
        self.fixed().map(u32::from_le_bytes)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.fixed().map(u64::from_le_bytes)
    }

    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = usize::try_from(self.u64()?).ok()?;
        let (bytes, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(bytes)
    }

    pub(crate) fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    pub(crate) fn position(&mut self) -> Option<Position> {
        self.u64().map(Position::new)
    }

    pub(crate) fn label(&mut self) -> Option<Label> {
        self.u64().map(Label::from_nanos)
    }

    pub(crate) fn at(&mut self) -> Option<At> {
        Some(At { position: self.position()?, label: self.label()? })
    }

    pub(crate) fn extent(&mut self) -> Option<(Incarnation, Extent)> {
        let volume = Incarnation::new(self.u32()?);
        Some((volume, Extent::new(self.u64()?, self.u64()?)?))
    }

    pub(crate) fn splitter(&mut self) -> Option<SplitterId> {
        self.fixed().map(SplitterId::from_bytes)
    }

    /// Something that may not be there: outer `None` when the bytes are wrong.
    #[expect(clippy::option_option, reason = "the bytes may be wrong, and the value may not be there")]
    pub(crate) fn maybe<T>(&mut self, take: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if self.flag()? { take(self).map(Some) } else { Some(None) }
    }

    pub(crate) fn list<T, L: FromIterator<T>>(&mut self, mut take: impl FnMut(&mut Self) -> Option<T>) -> Option<L> {
        let count = self.u64()?;
        // Every value has a byte at least.
        if count > self.0.len() as u64 {
            return None;
        }
        (0..count).map(|_| take(self)).collect()
    }
}
